"""The class note, measured: each of its sentences on visus's own networks, and the page docs/class_note.md written from the figures.

    python benchmarks/class_note.py --work FOLDER [--fashion DATA] [--cifar DATA] [--epochs 5] [--output FILE.json] [--page FILE.md]

FOLDER keeps the trained runs, so that a second call only measures what is missing. Without --fashion and --cifar the images that come
with visus stand in. For a trial at small scale: --epochs 1 --tries 50.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import visus
from visus.design import Account, account, parse
from visus.design.mlp_equivalents import perceptron_twins
from visus.errors import DesignError, GeometryError
from visus.evaluation.shifts import measure_shifts
from visus.examine import activations, templates, unit_values
from visus.geometry import Window
from visus.networks.machine import describe
from visus.units import write_count, write_number_of, write_share
from visus.workbench.experiment.mlp import compare_with_mlps
from visus.workbench.experiment.task import compare_tasks
from visus.workbench.runs.shifts import some_samples

NETWORK = (
    "conv(32, 3, padding=1), norm, relu, maxpool(2), conv(64, 3, padding=1), norm, relu, maxpool(2), "
    "conv(128, 3, padding=1), norm, relu, globalpool, linear(classes)"
)
FLAT = NETWORK.replace("globalpool", "flatten")


@dataclass(frozen=True)
class Claim:
    """A sentence of the note, and what came out.

    Args:
        says: the sentence.
        verdict: one line.
        measured: paragraphs and tables in Markdown.
        figures: the numbers behind them.
        explained: link to the page that explains it; empty for none.
    """

    says: str
    verdict: str
    measured: list[str]
    figures: dict[str, Any] = field(default_factory=dict)
    explained: str = ""


@dataclass(frozen=True)
class Bench:
    """What the claims are measured with.

    Args:
        work: folder of the runs.
        fashion, cifar: datasets; None for the images that come with visus, or for none.
        epochs: of every training.
        tries: random sums that are checked.
    """

    work: Path
    fashion: Path | None
    cifar: Path | None
    epochs: int
    tries: int

    def run(self, name: str, data: Path | None, design: str) -> visus.Run:
        """The run of that name, trained where it is not there yet."""
        folder = self.work / name
        if not (folder / "scores.json").is_file():
            print(f"training {name}", file=sys.stderr, flush=True)
            folder = visus.train(data, design, visus.Recipe(epochs=self.epochs), output=self.work, name=name).folder
        return visus.load(folder)

    def kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Figures that took long, from an earlier call where there are any."""
        file = self.work / f"{name}.json"
        if not file.is_file():
            print(f"measuring {name}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(measure()))
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def verdict(is_so: bool, holds: str, fails: str) -> str:
    """The line that the figures decide."""
    return holds if is_so else fails


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def images_are_tensors(bench: Bench) -> Claim:
    """Shapes and values of a batch."""
    data = visus.open_data(bench.fashion)
    part = data.split("train")
    stored = part.rows(np.arange(64))
    scaled = data.preprocessing.scaled(part.rows(np.arange(min(5000, len(part)))))
    figures = {
        "shape": list(stored.shape), "dtype": str(stored.dtype), "lowest": int(stored.min()), "highest": int(stored.max()),
        "scaled_mean": float(scaled.mean()), "scaled_deviation": float(scaled.std()),
        "scaled_lowest": float(scaled.min()), "scaled_highest": float(scaled.max()),
    }  # fmt: skip
    shape = " x ".join(map(str, stored.shape))
    said = [
        f"A tensor is an array of numbers with several axes. 64 images of {data.name} are a tensor of {shape}: {stored.shape[0]} images, "
        f"{write_number_of(stored.shape[1], 'channel')}, {stored.shape[2]} rows and {stored.shape[3]} columns. Each value is a whole number from "
        f"{figures['lowest']} to {figures['highest']}, stored in one byte: its dtype is `{stored.dtype}`.",
        "Before they enter the network, the values are *normalized*: visus subtracts the mean of the training set, and divides by its standard deviation. "
        f"So the mean is near 0 and the standard deviation near 1; on 5,000 training images they are {figures['scaled_mean']:.3f} and "
        f"{figures['scaled_deviation']:.3f}, and the values reach from {figures['scaled_lowest']:.2f} to {figures['scaled_highest']:.2f}. Both numbers are "
        "stored with the weights, and `visus predict` normalizes new images in the same way.",
    ]
    return Claim(
        "An image is a tensor (batch, channels, height, width), scaled from 0-255.",
        "True: the values from 0 to 255 are scaled to a mean of 0 and a standard deviation of 1.",
        said,
        figures,
    )


DENSE = {
    "equal width": "as many outputs as the convolution has maps",
    "equal output": "as many outputs as the convolution has values",
    "equal parameters": "as few weights as possible: one output",
}
"""The dense layers beside a convolution, by the kind of twin."""


BATCH_SIZE = 64
"""Images of a training step whose memory is computed."""


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _costs(made: Account) -> list[str]:
    """Parameters, multiply-adds and memory of a training step."""
    return [f"{made.num_parameters:,}", write_count(made.macs), _mebibytes(made.bytes_training(BATCH_SIZE))]


def dense_layers_take_memory(bench: Bench) -> Claim:
    """One convolution beside dense layers, in parameters, multiply-adds and memory."""
    design, shape = parse("conv(64, 3, padding=1)"), (3, 224, 224)
    own = account(design, shape, 1000)
    twins = perceptron_twins(design, shape, 1000)
    rows = [["3 x 3 convolution to 64 maps", *_costs(own), "64 x 224 x 224"]]
    for twin in twins[1:]:
        made = account(twin.design, shape, 1000)
        width = made.rows[-1].output_shape
        outputs = " x ".join(f"{length:,}" for length in width)
        rows.append([f"dense, {DENSE[twin.kind]}", *_costs(made), outputs])
    dense, full = (account(twin.design, shape, 1000) for twin in twins[1:3])
    one_copy = 4 * BATCH_SIZE * int(np.prod(own.rows[-1].output_shape))
    figures = {
        name: [made.num_parameters, made.macs, made.bytes_training(BATCH_SIZE)]
        for name, made in (("convolution", own), ("dense", dense))
    }
    said = [
        "A perceptron consists of *dense* layers: each output has a weight of its own for each pixel. In a convolution, each output channel has one small kernel "
        "instead, which is used at every position. One convolution on an image of 3 x 224 x 224, and three dense layers to compare it with. The memory is that of "
        f"a training step with {BATCH_SIZE} images, as `visus summary` computes it:",
        table(["layer", "parameters", "multiply-adds", "memory of a training step", "outputs"], rows),
        f"Memory is not weights alone: a training step also holds *activations*, the outputs of the layers, and their gradients. One copy of the convolution's maps "
        f"for {BATCH_SIZE} images takes {_mebibytes(one_copy)}, and the step holds several. So it takes {_mebibytes(own.bytes_training(BATCH_SIZE))}, "
        f"{own.bytes_training(BATCH_SIZE) / dense.bytes_training(BATCH_SIZE):.0f} times the {_mebibytes(dense.bytes_training(BATCH_SIZE))} of the dense layer "
        "with 64 outputs, whose memory is mostly its weights, their gradients and the state of the optimizer.",
        f"With 64 outputs, the dense layer has {dense.num_parameters / own.num_parameters:,.0f} times the weights of the convolution. But the convolution needs "
        f"{own.macs / dense.macs:.1f} times the multiply-adds: it uses its few weights at each of 50,176 positions, and returns 64 whole maps instead of 64 "
        f"numbers. A dense layer that returned as many numbers as these maps hold would need {write_count(full.num_parameters)} weights.",
    ]
    return Claim(
        "A multilayer perceptron on images takes too much memory; a convolution needs little.",
        verdict(
            own.num_parameters < dense.num_parameters and own.bytes_training(BATCH_SIZE) > dense.bytes_training(BATCH_SIZE),
            "True for the weights; false for the activations. The arithmetic of a convolution is not little either: it uses each weight at every "
            "position.",
            "Partly true: see the figures below.",
        ),
        said,
        figures,
    )


def perceptrons_ignore_space(bench: Bench) -> Claim:
    """The network and its perceptron twins, on images as they are and with all pixels in one random order."""
    paragraphs, figures, falls = [], {}, []
    for name, data in (("fashion", bench.fashion), ("cifar", bench.cifar)):
        if name == "cifar" and data is None:
            continue
        run = bench.run(name, data, NETWORK)
        found = bench.kept(
            f"{name}-twins", lambda run=run: compare_with_mlps(run, with_shuffled=True, output=bench.work).to_json()
        )
        figures[name] = {"num_samples": found["num_samples"], "rows": []}
        by_kind: dict[str, dict[bool, Any]] = {}
        for each in found["runs"]:
            by_kind.setdefault(each["kind"], {})[each["is_shuffled"]] = each
        rows = []
        for kind, pair in by_kind.items():
            plain, shuffled = (pair[False]["scores"]["accuracy"], pair[True]["scores"]["accuracy"])
            falls.append((kind, shuffled - plain))
            figures[name]["rows"].append({
                "kind": kind, "num_parameters": pair[False]["num_parameters"], "macs": pair[False]["macs"], "accuracy": plain,
                "accuracy_shuffled": shuffled, "consistency": pair[False]["shifts"]["consistency"],
            })  # fmt: skip
            rows.append([
                "convolutional network" if kind == "network" else f"perceptron, {kind}", write_count(pair[False]["num_parameters"]),
                write_count(pair[False]["macs"]), write_share(plain), write_share(shuffled), f"{100 * (shuffled - plain):+.1f} points",
                write_share(pair[False]["shifts"]["consistency"]),
            ])  # fmt: skip
        head = ["network", "parameters", "multiply-adds", "accuracy", "pixels shuffled", "change", "two shifts agree"]
        reach = found["runs"][0]["shifts"]["reach_px"]
        paragraphs.append(
            f"{visus.open_data(data).name}, {write_number_of(found['num_samples'], 'held-out image')}, {write_number_of(bench.epochs, 'epoch')} each; the last "
            f"column: how often two circular shifts of an image, by up to {reach[0]} px, get the same label.\n\n{table(head, rows)}"
        )
        paragraphs += [f"> {pair['left']} and {pair['right']}: {_difference(pair)}" for pair in found["pairs"][:1]]
    return Claim(
        "A perceptron ignores the spatial structure of an image; a convolutional network depends on it.",
        verdict(
            all(fall < -0.03 for kind, fall in falls if kind == "network")
            and all(abs(fall) < 0.02 for kind, fall in falls if kind != "network"),
            "True: one fixed permutation of all pixels costs the convolutional network more than 3 points, and a perceptron less than 2.",
            "Partly true: see the changes below.",
        ),
        ["All images have the same permutation of pixels, in training and in evaluation.", *paragraphs],
        figures,
        "[Intervals and paired tests](concepts/intervals-and-tests.md)",
    )


def _difference(pair: dict[str, Any]) -> str:
    return (
        f"{write_share(pair['accuracy_left'])} and {write_share(pair['accuracy_right'])}, a paired difference of "
        f"{100 * pair['difference']:+.1f} points (95 % interval {100 * pair['difference_low']:+.1f} to {100 * pair['difference_high']:+.1f})."
    )


def convolutions_see_translations(bench: Bench) -> Claim:
    """Exact invariance where it holds by construction, and its loss by padding and by flattening."""
    torch.manual_seed(0)

    def stack(mode: str, head: nn.Module) -> nn.Module:
        padded = {"padding": 1, "padding_mode": mode}
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, **padded), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, **padded), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, **padded), nn.ReLU(), head, nn.LazyLinear(10),
        ).double().eval()  # fmt: skip

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    samples = torch.randn(16, 3, 32, 32, dtype=torch.float64)
    rows, figures = [], {}

    def measure(name: str, module: nn.Module, images: torch.Tensor) -> None:
        still = module(images)
        changes = [
            float(((module(images.roll((shift, shift), (2, 3))) - still).norm(dim=1) / still.norm(dim=1)).mean())
            for shift in (4, 1)
        ]
        figures[f"{name}, {images.shape[-1]} px"] = changes
        rows.append([name, f"{images.shape[-1]} px", f"{changes[0]:.1e}", f"{changes[1]:.1e}"])

    networks = (
        ("circular padding, global mean", stack("circular", Mean())),
        ("zero padding, global mean", stack("zeros", Mean())),
        ("circular padding, flatten", stack("circular", nn.Flatten())),
    )
    with torch.no_grad():
        for name, module in networks:
            measure(name, module, samples)
        measure(*networks[0], samples[..., :30, :30])
    exact, *others = figures.values()
    run = bench.run("fashion", bench.fashion, NETWORK)
    flat = bench.run("fashion-flat", bench.fashion, FLAT)
    trained = []
    for name, each in (("global pooling", run), ("flatten", flat)):
        samples_, _ = some_samples(each, each.open_data().split("test"), 1000)
        shifts = measure_shifts(each.module, samples_, (3, 3), "zeros", device=each.machine.device)
        figures[f"trained, {name}, zeros"] = shifts.to_json()
        trained.append(
            [
                f"trained, {name}",
                write_share(each.scores.accuracy),
                write_share(shifts.consistency),
                write_share(shifts.logit_change),
            ]
        )
    return Claim(
        "A convolutional network is translation invariant.",
        verdict(
            exact[0] < 1e-12 < 1e-3 < min(min(each) for each in others),
            "True up to rounding only for circular shifts by a multiple of its total stride, of images whose side is a multiple of it too, with circular "
            "padding and global pooling. Other sides, other shifts, zero padding and flattening each break it.",
            "The figures below do not confirm it.",
        ),
        [
            "New networks of three convolutions and two poolings (total stride 4 px) in float64; relative change of the ten outputs when random "
            "images are rolled:",
            table(["network", "side of the image", "shift by the stride, 4 px", "shift by 1 px"], rows),
            "The side of the image counts, since a pooling of 2 drops the last row and column of an odd map: 30 px become 15, and then 7.",
            "Trained networks, held-out images of Fashion-MNIST shifted by up to 3 px, padded with zeros:",
            table(["network", "accuracy", "two shifts agree", "logits change by"], trained),
        ],
        figures,
        "[Invariance](concepts/invariance.md)",
    )


def _drawn(values: torch.Tensor) -> list[str]:
    """Rows of characters, darker for larger values; each stands for two pixels, one above the other."""
    pairs = values.reshape(len(values) // 2, 2, -1).mean(1)
    places = (pairs / pairs.max() * 9.99).int().clamp(max=9)
    return ["".join(" .:-=+*#%@"[place] for place in row) for row in places]


def _edge_map() -> str:
    """Trousers that come with visus beside the map of a template for edges, as a block of text."""
    data = visus.open_data()
    part = data.split("test")
    place = np.flatnonzero(part.labels == data.classes.index("Trouser"))[:1]
    image = part.rows(place).float()
    edges = torch.relu(nn.functional.conv2d(image, torch.tensor([[-1.0, 0.0, 1.0]] * 3)[None, None], padding=1))
    rows = zip(_drawn(image[0, 0]), _drawn(edges[0, 0]), strict=True)
    lines = [f"{'image':<34}map", *(f"|{left}|    |{right}|" for left, right in rows)]
    return "\n".join(["```text", *lines, "```"])


def filters_are_templates(bench: Bench) -> Claim:
    """Each unit's strongest patch, fed alone, gives its value."""
    run = bench.run("fashion", bench.fashion, NETWORK)
    data = run.open_data()
    samples, _ = some_samples(run, data.split("test"), 1000)
    rows, figures = [], {}
    generator = torch.Generator().manual_seed(0)
    for layer in [path for path, part in run.module.named_modules() if isinstance(part, (nn.Conv2d, nn.ReLU, nn.MaxPool2d))]:
        worst, num_checked, size = 0.0, 0, 0
        for channel, best in enumerate(templates(run.module, samples, layer, top=1)[layer].channels):
            for each in best:
                if each.box is None or not each.value:
                    continue
                alone = torch.randn(1, *samples.shape[1:], generator=generator)
                place = (0, slice(None), *(slice(first, last + 1) for first, last in each.box))
                alone[place] = torch.tensor(np.asarray(each.patch))
                value = float(unit_values(run.module, alone, layer, channel, each.position)[0])
                worst = max(worst, abs(value - each.value) / abs(each.value))
                num_checked += 1
                size = max(size, *(last - first + 1 for first, last in each.box))
        rows.append([layer, str(num_checked), f"{size} px", f"{worst:.1e}"])
        figures[layer] = worst
    return Claim(
        "The filters are templates, and each gives a map of where its template was found.",
        verdict(
            max(figures.values()) < 1e-4,
            "True: the map is large where the template was found. Up to rounding, each value depends on the pixels in its window alone.",
            "Does not hold to rounding: see below.",
        ),
        [
            "A template for edges from dark to bright, `-1 0 1` in each of its three rows, on an image of trousers. On the right is its map (negative values "
            "set to zero): it is large along the left edge of each leg, where the template was found, and zero elsewhere. A trained filter works in the same "
            "way, with a template that the training found.",
            _edge_map(),
            "A position of a map is a *unit*. Does it respond only to what lies in its window? For each filter of the trained network, visus searches 1,000 held-out images for "
            "the patch to which the filter responds most. This patch is pasted into noise, and the value of the unit is computed again. The last column "
            "has the largest relative change of all filters: nothing but rounding.",
            table(["layer", "filters", "patch", "largest change"], rows),
        ],
        figures,
        "[Receptive field](concepts/receptive-field.md)",
    )


def the_formula_is_right(bench: Bench) -> Claim:
    """The size equation against PyTorch, for random numbers."""
    chosen, wrong, impossible = random.Random(0), 0, 0
    for _ in range(bench.tries):
        size, kernel = chosen.randint(1, 300), chosen.randint(1, 12)
        stride, padding, dilation = chosen.randint(1, 6), chosen.randint(0, 6), chosen.randint(1, 4)
        layer = nn.Conv1d(1, 1, kernel, stride, padding, dilation, device="meta")
        try:
            theirs: int | None = layer(torch.empty(1, 1, size, device="meta")).shape[-1]
        except RuntimeError:
            theirs = None
        try:
            ours: int | None = Window(kernel, stride, (padding, padding), dilation).output_size(size)
        except GeometryError:
            ours = None
        wrong += ours != theirs
        impossible += theirs is None
    figures = {"num_sums": bench.tries, "num_wrong": wrong, "num_impossible": impossible}
    said = (
        f"{bench.tries:,} random size equations against `torch.nn.Conv1d`: {wrong} differ; {impossible:,} are impossible, and refused by both. The "
        "division is rounded down, and a dilated kernel counts as D (K - 1) + 1. `visus solve` computes with both, and prints how many pixels of "
        "the image no window reads."
    )
    return Claim(
        "The output has (W - K + 2P)/S + 1 positions.",
        verdict(
            not wrong,
            "True, rounded down, with the span of the dilated kernel for K.",
            "Does not hold: see the equations that differ.",
        ),
        [said],
        figures,
        "[Receptive field](concepts/receptive-field.md)",
    )


def kernels_have_their_size(bench: Bench) -> Claim:
    """Counted weights against built ones, and one design in one, two and three dimensions."""
    rows, figures = [], {}
    text = "conv(32, 3, padding=1), relu, maxpool(2), conv(64, 3, padding=1), relu, globalpool, linear(classes)"
    for shape in ((1, 1000), (1, 32, 32), (1, 16, 16, 16)):
        counted = visus.summary(text, shape, num_classes=10)
        built = sum(values.numel() for values in visus.network(text, shape, 10).parameters())
        second = next(row for row in counted.rows if row.path == "conv2")
        rows.append([
            f"{len(shape) - 1}-D, {' x '.join(map(str, shape))}", f"{counted.num_parameters:,}", f"{built:,}",
            f"64 x 32 x {' x '.join(['3'] * (len(shape) - 1))} + 64 = {second.num_parameters:,}", write_count(counted.macs),
        ])  # fmt: skip
        figures[f"{len(shape) - 1}-D"] = [counted.num_parameters, built]
    return Claim(
        "A kernel has C_out * C_in * K_w * K_h weights; there are 1-D, 2-D and 3-D convolutions.",
        verdict(
            all(counted == built for counted, built in figures.values()),
            "True; a bias adds C_out, and with groups C_in is the number of channels of one group.",
            "Does not hold.",
        ),
        [
            f"One design on a signal, an image and a volume, `{text}`:",
            table(["input", "parameters counted", "built in PyTorch", "second convolution", "multiply-adds"], rows),
        ],
        figures,
    )


def relu_makes_zeros(bench: Bench) -> Claim:
    """Fraction of zeros behind each ReLU."""
    run = bench.run("sample", None, NETWORK)
    samples, _ = some_samples(run, run.open_data().split("test"), 500)
    seen = activations(run.module, samples)
    rows, figures = [], {}
    for layer in seen.layers:
        if isinstance(run.module.get_submodule(layer.path), nn.ReLU):
            shares = [float(value) for value in (np.mean(layer.zero_share), min(layer.zero_share), max(layer.zero_share))]
            figures[layer.path] = {
                **dict(zip(("zero_share", "lowest", "highest"), shares, strict=True)),
                "dead": list(layer.dead), "sparse": list(layer.sparse),
            }  # fmt: skip
            rows.append([
                layer.path, f"{layer.shape[0]}", *map(write_share, shares), str(len(layer.dead)), str(len(layer.sparse)),
            ])  # fmt: skip
    return Claim(
        "ReLU passes positive values and sets the rest to zero.",
        "True; so a part of every map is zero. How large a part depends on the layer and on the filter.",
        [
            f"The network of this page after {write_number_of(bench.epochs, 'epoch')} on the images that come with visus, 500 held-out images. The lowest and the highest "
            "are single filters; a dead filter was never above 0, a sparse one is 0 at 95 % of its positions:",
            table(["layer", "filters", "units at 0", "lowest", "highest", "dead", "sparse"], rows),
        ],
        figures,
    )


def pooling_makes_maps_small(bench: Bench) -> Claim:
    """Maximum, mean and stride in place of pooling: accuracy, cost, and what a shift does."""
    stem = "conv(32, 3{}, padding=1), norm, relu{}, conv(64, 3{}, padding=1), norm, relu{}, globalpool, linear(classes)"
    kinds = {
        "no pooling": stem.format("", "", "", ""),
        "maximum": stem.format("", ", maxpool(2)", "", ", maxpool(2)"),
        "mean": stem.format("", ", avgpool(2)", "", ", avgpool(2)"),
        "stride 2": stem.format(", stride=2", "", ", stride=2", ""),
    }
    rows, figures = [], {}
    for kind, design in kinds.items():
        run = bench.run(f"pooling-{kind.replace(' ', '-')}", None, design)
        costs = visus.summary(design, run.preprocessing.input_shape, num_classes=len(run.classes))
        last = next(row for row in reversed(costs.rows) if len(row.output_shape) == 3)
        samples, _ = some_samples(run, run.open_data().split("test"), 500)
        shifts = measure_shifts(run.module, samples, (2, 2), "roll", device=run.machine.device)
        figures[kind] = {
            "accuracy": run.scores.accuracy, "consistency": shifts.consistency, "macs": costs.macs,
            "bytes_training": costs.bytes_training(BATCH_SIZE), "field": last.fields[0].size,
        }  # fmt: skip
        rows.append([
            kind, write_share(run.scores.accuracy), write_share(shifts.consistency), write_count(costs.macs),
            _mebibytes(costs.bytes_training(BATCH_SIZE)), f"{last.fields[0].size} px",
        ])  # fmt: skip
    return Claim(
        "Pooling takes the maximum or the mean of each window, and makes the maps smaller.",
        verdict(
            figures["maximum"]["macs"] < figures["no pooling"]["macs"] / 2
            and figures["maximum"]["bytes_training"] < figures["no pooling"]["bytes_training"] * 0.6,
            "True: it has no weights, saves most of the arithmetic and about half of the memory, and the receptive field grows twice as fast.",
            "Partly true: see the figures below.",
        ),
        [
            f"Two convolutions on the images that come with visus, {write_number_of(bench.epochs, 'epoch')}, one seed (differences below 2 points are not significant); "
            f"circular shifts by up to 2 px; memory of a training step with {BATCH_SIZE} images. The design with `maximum`:",
            f"```text\n{kinds['maximum']}\n```",
            "`mean` has `avgpool(2)` in place of `maxpool(2)`, `stride 2` has `stride=2` in both convolutions instead, and `no pooling` has neither.",
            table(
                ["pooling", "accuracy", "two shifts agree", "multiply-adds", "memory of a training step", "receptive field"],
                rows,
            ),
        ],
        figures,
    )


def softmax_gives_probabilities(bench: Bench) -> Claim:
    """Whether the probabilities are calibrated."""
    scores = bench.run("fashion", bench.fashion, NETWORK).evaluate(raw=True)
    figures = {"confidence": scores.confidence, "accuracy": scores.accuracy, "calibration_error": scores.calibration_error}
    gap = "is too modest" if scores.confidence < scores.accuracy else "is too sure"
    said = [
        "Softmax turns the outputs of the last layer, the *logits*, into positive numbers that add up to 1. The largest is the *confidence* of the answer. If it is a "
        "probability, then of all answers with a confidence of 80 %, 80 % are right. The network is then called calibrated.",
        f"After {write_number_of(bench.epochs, 'epoch')}, the mean confidence is {write_share(scores.confidence)}, but {write_share(scores.accuracy)} of the answers are right: the "
        f"network {gap}. The *expected calibration error*, the mean distance between confidence and accuracy over 15 bins of similar confidence, is "
        f"{100 * scores.calibration_error:.1f} points. The cause is label smoothing in the recipe: it trains the network never to be quite sure.",
        "visus corrects this after the training: it inverts the smoothing, and divides the logits by one number, the temperature, each where the validation set "
        "shows that it helps. Neither changes which class has the largest probability, so no answer changes. The report shows the error before and after.",
        "The network of this page ends with global pooling and one linear layer. Flatten and several dense layers are the older form.",
    ]
    return Claim(
        "At the end stand flatten, fully connected layers and softmax, which gives probabilities.",
        "Partly true: the outputs are positive and add up to 1. Whether an answer with 80 % is right in 80 % of the cases must be measured.",
        said,
        figures,
        "[Calibration](concepts/calibration.md)",
    )


def _growth(channels: list[int]) -> str:
    """The first number of channels, the largest, and the last where it is smaller."""
    largest = max(channels)
    return f"{channels[0]} to {largest}" + (f", then {channels[-1]}" if channels[-1] < largest else "")


def stacks_narrow_and_deepen(bench: Bench) -> Claim:
    """Where weights and multiply-adds of known stacks lie."""
    rows, figures = [], {}
    for family in ("alexnet", "vgg(16)", "resnet(50)"):
        costs = visus.summary(family, (3, 224, 224), num_classes=1000)
        convolutions = [row for row in costs.rows if row.layer.startswith("conv(")]
        kernels = sorted(
            {int(row.layer.removeprefix("conv(").rstrip(")").split(",")[1]) for row in convolutions}, reverse=True
        )
        first = convolutions[: max(1, len(convolutions) // 4)]
        share = sum(row.macs for row in first) / costs.macs
        weights = sum(row.num_parameters for row in first) / costs.num_parameters
        figures[family] = {"macs_in_first_quarter": share, "parameters_in_first_quarter": weights}
        rows.append([
            family, ", ".join(map(str, kernels)), _growth([row.output_shape[0] for row in convolutions]),
            f"{convolutions[0].output_shape[1]} to {convolutions[-1].output_shape[1]}", write_share(share), write_share(weights),
        ])  # fmt: skip
    return Claim(
        "In a stack kernels shrink and channels grow.",
        "Partly true. Kernels shrink in AlexNet; since VGG, they are small from the start. Channels grow while the maps shrink, but in AlexNet they grow to "
        "384 and then fall to 256.",
        [
            "On images of 224 x 224 (the last columns: the fraction that the first quarter of the convolutions has):",
            table(["network", "kernels", "channels", "side of the map", "multiply-adds", "parameters"], rows),
        ],
        figures,
    )


def _far_marks(folder: Path, apart: int = 12, num_samples: int = 3000) -> Path:
    """Images with two marks ``apart`` px from each other; they point in the same direction in one class, across in the other."""
    file = folder / f"marks-{apart}.npz"
    if not file.is_file():
        rng = np.random.default_rng(0)
        x = rng.normal(0, 0.15, (num_samples, 1, 32, 32)).astype(np.float32)
        y = rng.integers(0, 2, num_samples)
        first = rng.integers(0, 2, num_samples)
        for index in range(num_samples):
            top, left = rng.integers(2, 29), rng.integers(2, 32 - apart - 3)
            for column, is_upright in ((left, first[index]), (left + apart, first[index] ^ y[index])):
                place = (slice(top, top + 3), column + 1) if is_upright else (top + 1, slice(column, column + 3))
                x[(index, 0, *place)] += 1.0
        np.savez(file, x=x, y=y)
    return file


def fields_decide_what_is_seen(bench: Bench) -> Claim:
    """Networks of equal design but for dilation, on images whose two marks together span 15 px."""
    data = _far_marks(bench.work)
    rows, figures = [], {}
    for depth, dilation in ((2, 1), (4, 1), (4, 2), (6, 2)):
        convolutions = ", ".join(
            f"conv(24, 3, padding={dilation if place else 1}{f', dilation={dilation}' if place and dilation > 1 else ''}), norm, relu"
            for place in range(depth)
        )
        design = f"{convolutions}, globalpool, linear(classes)"
        name = f"marks-{depth}-{dilation}"
        folder = bench.work / name
        if not (folder / "scores.json").is_file():
            print(f"training {name}", file=sys.stderr, flush=True)
            recipe = visus.Recipe(epochs=20, cutout=0.0, translate=0.0, flip="none")
            folder = visus.train(data, design, recipe, output=bench.work, name=name).folder
        run = visus.load(folder)
        costs = visus.summary(design, (1, 32, 32), num_classes=2)
        last = next(row for row in reversed(costs.rows) if len(row.output_shape) == 3 and not row.fields[0].is_whole)
        figures[name] = {
            "field": last.fields[1].size,
            "accuracy": run.scores.accuracy,
            "num_samples": run.scores.num_samples,
        }
        rows.append([
            write_number_of(depth, "convolution"), str(dilation), f"{last.fields[1].size} px", f"{costs.num_parameters:,}",
            f"{write_share(run.scores.accuracy)} ({write_share(run.scores.accuracy_low)} to {write_share(run.scores.accuracy_high)})",
        ])  # fmt: skip
    return Claim(
        "The receptive field must be large enough; a detector cannot see an object larger than it.",
        verdict(
            all((each["accuracy"] > 0.8) == (each["field"] >= 15) for each in figures.values()),
            "True: a network whose receptive field is smaller than the object guesses; one whose field contains it does not.",
            "Partly true: see the figures below.",
        ),
        [
            "Images of 32 x 32 with two small marks that together span 15 px. The class says whether they point in the same direction, so "
            "neither mark is enough alone. Convolutions, global mean, linear; 20 epochs:",
            table(
                ["network", "dilation from the second on", "receptive field", "parameters", "accuracy (95 % interval)"], rows
            ),
            "Dilation widens the receptive field without extra weights or multiply-adds, as stride does for the layers after it.",
        ],
        figures,
        "[Receptive field](concepts/receptive-field.md)",
    )


def _small(sentence: str) -> str:
    """A sentence that continues another one after a colon."""
    return sentence[:1].lower() + sentence[1:]


def filters_follow_from_the_task(bench: Bench) -> Claim:
    """The same network trained to classify images and to reconstruct them."""
    run = bench.run("fashion", bench.fashion, NETWORK)
    found = bench.kept("fashion-task", lambda: compare_tasks(run, "reconstruction", output=bench.work).to_json())
    others = found["others"]
    rows = [
        ["conv1, mean cosine of its filters", *(f"{other['filters']['mean_cosine']:.2f}" for other in others)],
        *(
            [
                f"{path}, CKA",
                *("" if other["layers"].get(path) is None else f"{other['layers'][path]:.2f}" for other in others),
            ]
            for path in others[-1]["layers"]
            if path.startswith(("conv", "globalpool", "linear"))
        ),
    ]
    conv3 = [other["layers"]["conv3"] for other in others]
    said = [
        f"A first network learns to classify Fashion-MNIST: {_small(found['result'])} It is compared with three networks of the same design. One learned "
        f"another task, to reconstruct its input: {_small(others[0]['result'])} One learned the same task from other random weights. One was not trained.",
        "*What is compared.* Two networks may order their filters differently and still compute the same. So visus compares what a layer makes of the images. "
        "It gives both networks the same images, and asks for each pair of images how similar the layer's values are. If both networks find the same pairs "
        "similar, the layers represent the images in the same way. The number for this is CKA (centered kernel alignment): 1 means the same "
        "representation, up to a rotation and one factor, and 0 means an unrelated one. For the filters of conv1, each is paired with a filter of the other network, and the "
        "cosine of the pair is taken: 1 means the same template up to a factor.",
        table(["similarity to the first network", *(other["name"] for other in others)], rows),
        f"Read the row of conv3: {conv3[1]:.2f} for the same task, {conv3[0]:.2f} for the other task, {conv3[2]:.2f} without training. The deeper the layer, the "
        "more the task decides. The column without training is the yardstick: this much similarity comes from the images and the design alone. In conv1 it is "
        "1.00 in all columns, so CKA does not tell the networks apart there. The network for the other task has no globalpool1 and no linear1.",
    ]
    return Claim(
        "Which filters come out follows from the task and the loss.",
        verdict(
            others[0]["layers"]["relu3"] < others[1]["layers"]["relu3"] - 0.1,
            "True, and more so in deeper layers: a second training for the same task finds nearly the same representation, and one for another "
            "task does not.",
            "Not seen in the last map.",
        ),
        said,
        {name: found[name] for name in ("result", "layer", "num_samples", "others", "sentences")},
    )


def channels_must_be_worked_out(bench: Bench) -> Claim:
    """What a person writes, and the errors for a wrong number."""
    network = visus.network("resnet(18)", (3, 64, 64), 10)
    numbers = sum(isinstance(part, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)) for part in network.modules())
    torch_says, visus_says = "", ""
    try:
        nn.Sequential(nn.Conv2d(3, 16, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 30 * 30, 10))(
            torch.zeros(1, 3, 62, 62)
        )
    except RuntimeError as error:
        torch_says = str(error)
    try:
        parse("conv(16, 5), maxpool(2), conv(32, 40), flatten, linear(classes)").place((3, 62, 62), 10)
    except DesignError as error:
        visus_says = str(error)
    figures = {"numbers_in_resnet18": numbers, "torch": torch_says, "visus": visus_says}
    return Claim(
        "In PyTorch, channels in and out must be worked out by oneself.",
        "True; a visus design names output channels only.",
        [
            f"ResNet-18 in PyTorch's layers needs {numbers} numbers of input channels or features. A design needs none: visus infers them from the "
            "data and from the layer before.",
            f"For a wrong number, PyTorch raises `{torch_says}`. A design has no such number. Where a window does not fit, visus "
            f"raises an error before anything runs: `{visus_says}`",
        ],
        figures,
    )


CLAIMS = (
    images_are_tensors,
    dense_layers_take_memory,
    perceptrons_ignore_space,
    convolutions_see_translations,
    filters_are_templates,
    the_formula_is_right,
    kernels_have_their_size,
    relu_makes_zeros,
    pooling_makes_maps_small,
    softmax_gives_probabilities,
    stacks_narrow_and_deepen,
    fields_decide_what_is_seen,
    filters_follow_from_the_task,
    channels_must_be_worked_out,
)


def write_page(claims: list[Claim], machine: dict[str, Any], command: str) -> str:
    """The page in Markdown."""
    parts = [
        "# The class note, measured",
        "A class note describes the convolutional network. This page compares each of its sentences with what visus measures. A script writes "
        f"everything below: `{command}`. The figures are in `benchmarks/results/`. [The class note by experiment](tutorials/class-note.ipynb) tries each "
        "sentence on your own machine, in about a minute. The [glossary](glossary.md) explains each word, and [Convolution](concepts/convolution.md) "
        "what is computed.",
        f"Machine: {machine['processor']}, {machine['cores']} cores; Python {machine['python']}, torch {machine['packages']['torch']}.",
        table(
            ["", "the note says", "measured"], [[str(n), each.says, each.verdict] for n, each in enumerate(claims, start=1)]
        ),
    ]
    for number, each in enumerate(claims, start=1):
        parts += [f"## {number}. {each.says}", f"**{each.verdict}**", *each.measured]
        parts += [f"Explained in {each.explained}."] if each.explained else []
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure all claims and write the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--fashion", type=Path)
    options.add_argument("--cifar", type=Path)
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument("--tries", type=int, default=5000)
    options.add_argument("--output", type=Path)
    options.add_argument("--page", type=Path)
    options.add_argument(
        "--only", nargs="+", choices=[each.__name__ for each in CLAIMS], help="these claims, printed and not written"
    )
    chosen = options.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(chosen.work, chosen.fashion, chosen.cifar, chosen.epochs, chosen.tries)
    claims = []
    for measure in CLAIMS:
        if chosen.only and measure.__name__ not in chosen.only:
            continue
        claims.append(measure(bench))
        print(f"{claims[-1].says}\n    {claims[-1].verdict}", file=sys.stderr, flush=True)
    machine = describe()
    words = [f"--{name} DATA" for name in ("fashion", "cifar") if getattr(chosen, name)]
    command = " ".join(["python benchmarks/class_note.py --work FOLDER", *words, f"--epochs {chosen.epochs}"])
    page = write_page(claims, machine, command)
    if chosen.only:
        print(page)
        return
    if chosen.page:
        chosen.page.write_text(page, encoding="utf-8")
    if chosen.output:
        kept = {name: machine[name] for name in ("visus", "python", "processor", "cores", "threads")}
        kept |= {"torch": machine["packages"]["torch"], "command": command, "claims": [asdict(each) for each in claims]}
        chosen.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
