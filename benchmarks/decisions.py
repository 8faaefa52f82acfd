"""Decisions of visus against what stood before them or beside them: one row for each, run alone or together.

    python benchmarks/decisions.py ROW... [--data ../shared/data] [--output FILE.json] [--quick]
    python benchmarks/decisions.py --list

A row is a function with ``@row``: it returns ``Figure(variant, name, value, seed)`` for each variant, figure and seed. The table is written as JSON,
and as Markdown beside it, with versions, device, threads, number of runs and the command. A new row is one function here, or in a file that is
imported at the end of this one.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import visus
from measuring import command_line, machine_facts, mean_of, write_result
from visus.training.recipe import Recipe

DATA: Final = Path("../shared/data")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        variant: what was measured, such as ``before`` or ``after``.
        name: the figure's name with its unit.
        value: the number.
        seed: of the run; None where nothing is drawn.
    """

    variant: str
    name: str
    value: float
    seed: int | None = None


@dataclass(frozen=True)
class Setting:
    """How the rows are run.

    Args:
        data: folder of the datasets.
        scratch: folder for what is made on the way, empty at first.
        runs: folder of trained runs that are taken where they are there, and kept where they are not; None to train anew.
        quick: a few samples alone, to try whether a row works.
        only: names of the trainings that a row takes; empty for all.
        before: folder of a checkout of an earlier version that is run beside this one; None for none.
    """

    data: Path
    scratch: Path
    runs: Path | None = None
    quick: bool = False
    only: tuple[str, ...] = ()
    before: Path | None = None


Row = Callable[[Setting], Iterable[Figure]]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Register a row under its name."""

    def registered(function: Row) -> Row:
        assert name not in ROWS, f"two rows are named {name}"
        ROWS[name] = function
        return function

    return registered


# ---- saliency-offset ----

OFFSETS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "compact, 1 x 28 x 28": ("compact", (1, 28, 28)),
    "compact, 3 x 32 x 32": ("compact", (3, 32, 32)),
    "lenet5, 1 x 28 x 28": ("lenet5", (1, 28, 28)),
    "resnet(18), 3 x 224 x 224": ("resnet(18)", (3, 224, 224)),
    "alexnet, 3 x 224 x 224": ("alexnet", (3, 224, 224)),
    "efficientnet_lite(0), 3 x 224 x 224": ("efficientnet_lite(0)", (3, 224, 224)),
    "unpadded strides, 1 x 64 x 64": (
        "conv(8, 7, stride=3), relu, conv(8, 5, stride=2), relu, conv(8, 3), relu, globalpool, linear(classes)",
        (1, 64, 64),
    ),
    "signal, 2 x 90": (
        "conv(8, 3, stride=2, padding=1), relu, conv(8, 3, dilation=3), relu, globalpool, linear(classes)",
        (2, 90),
    ),
}


@row("saliency-offset")
def saliency_offset(setting: Setting) -> list[Figure]:
    """How far the cells of Grad-CAM's map are drawn from the centers of their units' receptive fields: the largest distance in pixels.

    What is drawn is read off the map of a ramp over the cells. Before, the map was stretched over the sample.
    """
    from visus.examine import grad_cam
    from visus.examine.map_placement import MapPlacements

    found = []
    for name, (text, shape) in OFFSETS.items():
        module = visus.network(text, shape, 10).eval()
        drawn = grad_cam(module, torch.rand(1, *shape))
        assert drawn.layer_map is not None
        fields = {each.path: each.fields for each in visus.summary(module, shape).rows}[drawn.layer]
        cells, placement = drawn.layer_map.shape[1:], MapPlacements(drawn.traced).of(drawn.layer, drawn.layer_map.shape[1:])
        offsets: dict[str, list[float]] = {"before": [], "after": []}
        for axis, count in enumerate(cells):
            centers = [sum(ends) / 2 for index in range(count) if (ends := fields[axis].theoretical(index)) is not None]
            ramp = np.broadcast_to(
                np.arange(count, dtype=np.float32).reshape([-1 if each == axis else 1 for each in range(len(cells))]), cells
            )[None]
            placed = placement.spread(ramp, shape[1:])[0]
            offsets["after"] += _offsets(np.moveaxis(placed, axis, 0).reshape(shape[1 + axis], -1)[:, 0], centers)
            stretched = F.interpolate(torch.tensor(ramp)[:, None], size=shape[1:], mode=_MODES[len(cells)])[0, 0].numpy()
            offsets["before"] += _offsets(np.moveaxis(stretched, axis, 0).reshape(shape[1 + axis], -1)[:, 0], centers)
        found += [Figure(f"{name}: {variant}", "largest offset, px", max(each)) for variant, each in offsets.items()]
    return found


_MODES: Final = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _offsets(line: np.ndarray[Any, Any], centers: Sequence[float]) -> list[float]:
    """How far from its center each cell inside the sample is drawn: where the line has the cell's number."""
    moving = np.flatnonzero(np.diff(line) > 1e-6)
    pixels = np.arange(moving[0] + 1, moving[-1] + 1)  # those between the outermost centers
    steps = line[pixels]
    if len(pixels) < 2:
        return []
    first, last = (steps[1] - steps[0], steps[-1] - steps[-2])
    steps = np.concatenate([[steps[0] - first * len(line)], steps, [steps[-1] + last * len(line)]])
    pixels = np.concatenate([[pixels[0] - len(line)], pixels, [pixels[-1] + len(line)]])
    inside = [index for index in range(len(centers)) if line[0] - 1e-6 <= index <= line[-1] + 1e-6]
    return [abs(float(np.interp(index, steps, pixels)) - centers[index]) for index in inside]


# ---- deletion-insertion ----


@dataclass(frozen=True)
class Trained:
    """A small training that a row needs.

    Args:
        name: of the run.
        folder: of the dataset, below the data folder.
        recipe: how it is trained.
        img_size: side of the images; None for their own.
    """

    name: str
    folder: str
    recipe: dict[str, Any] = field(default_factory=dict)
    img_size: tuple[int, int] | None = None


TRAINED: Final = (
    Trained("fashion", "fashion_mnist", {"epochs": 2}),
    Trained("cifar", "cifar10", {"epochs": 3}),
    Trained("pets", "photos_dog_cat", {"epochs": 6}, (64, 64)),
)
NUM_IMAGES: Final = 200
STEPS, NUM_ORDERS = 8, 8
ABOVE: Final = "both gains above 0, share of the images"
SHOWN: Final = "share of the images"
BEATS: Final = "beats random in both, share of the images"


@row("deletion-insertion")
def deletion_insertion(setting: Setting) -> list[Figure]:
    """The share of test images whose default map beats random order in both curves, for ``compact`` after a small training.

    Before: Grad-CAM at the last layer with 6 cells along an axis, stretched over the image. After: on the look page the map that passes on the
    image by most, if one does; in the report the method that passes on 32 other held-out images, drawn where it passes on the image itself. The
    judge is the same for all and draws random orders of its own: 8 for each image, 8 steps; pixels that are taken away become 0, the mean of
    the training images; a gain counts where it is larger than three standard deviations of the random orders.
    """
    found: list[Figure] = []
    for each in wanted_trainings(setting):
        began = time.perf_counter()
        run, data = trained(each, setting)
        found.append(Figure(each.name, "test accuracy", run.scores.accuracy, run.recipe.seed))
        part = data.split(data.scored_split)
        drawn = np.random.default_rng(0).permutation(len(part))
        count = 40 if setting.quick else NUM_IMAGES
        x = run.preprocessing.scaled(part.rows(np.sort(drawn[:count])))
        held_out = run.preprocessing.scaled(part.rows(np.sort(drawn[count : count + 32])))
        for variant, name, value in _shares(run.module.eval(), x, held_out):
            found.append(Figure(f"{each.name}: {variant}", name, value, run.recipe.seed))
            print(f"{found[-1].variant}: {value:.3f}", flush=True)
        print(f"{each.name}: {time.perf_counter() - began:.0f} s", flush=True)
    return found


def _shares(module: nn.Module, x: Tensor, held_out: Tensor) -> list[tuple[str, str, float]]:
    """Who beats random order on how many images: maps are chosen by one set of random orders, and judged by another."""
    import dataclasses

    from visus.examine.saliency_choice import best_of, check_methods
    from visus.workbench.look.map_methods import tried_methods

    with torch.no_grad():
        answers, others = module(x).argmax(1).tolist(), module(held_out).argmax(1).tolist()
    maps = [each for _, each in tried_methods(module, x, answers, is_costly=True)[0]]
    chooser = check_methods(module, x, maps, steps=STEPS, num_random=NUM_ORDERS, seed=1)
    score = np.array([(each.gains / each.margins).min(0) for each in chooser[: len(maps)]])
    best, is_shown = score.argmax(0), score.max(0) > 1
    page = dataclasses.replace(maps[0], map=np.stack([maps[place].map[image] for image, place in enumerate(best)]))
    other = [each for _, each in tried_methods(module, held_out, others, is_costly=True)[0]]
    tested = check_methods(module, held_out, other, steps=STEPS, num_random=NUM_ORDERS)
    chosen = best_of(tested)
    place = tested.index(chosen) if chosen is not None else 0
    judged = check_methods(
        module,
        x,
        [before_maps(module, x, answers), page, maps[place]],
        steps=STEPS,
        num_random=NUM_ORDERS,
        seed=2,
        center=False,
    )
    before, on_page, of_method = (each.passes_on for each in judged)
    is_above = [(each.gains > 0).all(0) for each in judged]
    report = "none" if chosen is None else _name(maps[place])
    is_drawn = chooser[place].passes_on & (chosen is not None)
    found = [
        ("before", BEATS, float(before.mean())),
        ("after, look page: an image shows the best map that passes on it", BEATS, float((on_page & is_shown).mean())),
        ("after, look page: of the maps that are shown", BEATS, _mean(on_page[is_shown])),
        (f"after, report: method of the run ({report})", BEATS, float((of_method & (chosen is not None)).mean())),
        ("after, report: of the maps that are shown", BEATS, _mean(of_method[is_drawn])),
        ("after, report: images that show a map", SHOWN, _mean(is_drawn)),
        ("before", ABOVE, _mean(is_above[0])),
        ("after, look page: of the maps that are shown", ABOVE, _mean(is_above[1][is_shown])),
        ("after, report: of the maps that are shown", ABOVE, _mean(is_above[2][is_drawn])),
        ("after, look page: images that show a map", SHOWN, _mean(is_shown)),
    ]
    return found + [(f"method {_name(each)}", BEATS, each.share) for each in chooser]


def _mean(values: Any) -> float:
    return float(values.mean()) if len(values) else math.nan


def _name(found: Any) -> str:
    return f"{found.method} at {found.layer}" if found.layer else str(found.method)


def before_maps(module: nn.Module, x: Tensor, answers: list[int]) -> Any:
    """Grad-CAM as it was: at the last layer with at least 6 cells along an axis, behind its activation or not, stretched over the image."""
    import dataclasses

    from visus.examine import grad_cam
    from visus.examine.layer_calls import eval_mode, hook_layers, run

    paths: list[str] = []

    def listen(call: Any) -> None:
        if call.output.dim() == x.dim() and max(call.output.shape[2:]) >= 6:
            paths.append(call.path)

    with torch.no_grad(), eval_mode(module), hook_layers(module, listen):
        run(module, x[:1])
    found = grad_cam(module, x, answers, layer=paths[-1])
    assert found.layer_map is not None
    stretched = F.interpolate(torch.tensor(found.layer_map)[:, None], size=x.shape[2:], mode="bilinear")[:, 0].numpy()
    return dataclasses.replace(found, map=stretched)


def wanted_trainings(setting: Setting) -> list[Trained]:
    """Those that ``--only`` leaves."""
    return [each for each in TRAINED if not setting.only or each.name in setting.only]


def trained(wanted: Trained, setting: Setting) -> tuple[Any, Any]:
    """The run and its data: as it lies in the folder of runs, or trained now."""
    folder = setting.runs or setting.scratch
    path = folder / wanted.name
    size = {} if wanted.img_size is None else {"img_size": wanted.img_size}
    data = visus.open_data(dataset(wanted.folder, setting), **size)
    if (path / "scores.json").is_file():
        return visus.load(path, device="cpu"), data
    return visus.train(data, "compact", Recipe(**wanted.recipe), output=folder, name=wanted.name), data


def dataset(name: str, setting: Setting) -> Path:
    """The folder of a dataset; CIFAR-10 is unpacked from its mosaics."""
    if name != "cifar10":
        return setting.data / name
    import subprocess
    import sys

    unpacked = setting.scratch / name
    if not unpacked.is_dir():
        subprocess.run([sys.executable, str(setting.data.parent / "tools" / "unpack_cifar10.py"), str(unpacked)], check=True)
    return unpacked


# ---- the command ----


def measured_rows(names: Sequence[str], setting: Setting) -> Iterator[dict[str, Any]]:
    """The rows that are asked for, in their order, with what each took: the table so far after every figure, so that nothing measured is lost."""
    found = {}
    for name in names:
        began, figures = time.perf_counter(), list[Figure]()
        for figure in ROWS[name](setting):
            figures.append(figure)
            print(*(each for each in vars(figure).values() if each is not None), sep="  ", flush=True)
            found[name] = {
                "says": " ".join((ROWS[name].__doc__ or "").split()),
                "figures": [vars(each) for each in figures],
                "num_runs": len({each.seed for each in figures}),
                "seconds": round(time.perf_counter() - began, 1),
            }
            yield found


def markdown(result: dict[str, Any]) -> str:
    """The same as tables for people: a line for each variant and figure, the mean over seeds with its 95 % interval."""
    machine = f"visus {result['versions']['visus']}, torch {result['versions']['torch']}, {result['processor']}, {result['threads']} threads"
    lines = [f"# Decisions\n\n`{result['command']}`\n\n{machine}, {'CUDA' if result['cuda'] else 'CPU'}\n"]
    for name, each in result["rows"].items():
        lines.append(
            f"## {name}\n\n{each['says']}\n\n| variant | figure | mean | 95 % interval | runs |\n|---|---|---:|---:|---:|"
        )
        keys = list(dict.fromkeys((figure["variant"], figure["name"]) for figure in each["figures"]))
        for key in keys:
            values = [figure["value"] for figure in each["figures"] if (figure["variant"], figure["name"]) == key]
            mean = mean_of(values)
            interval = "" if mean.num < 2 else f"{mean.low:.4g} to {mean.high:.4g}"
            lines.append(f"| {key[0]} | {key[1]} | {mean.mean:.4g} | {interval} | {mean.num} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run rows and write their tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rows", nargs="*", metavar="ROW", help=f"any of: {', '.join(ROWS)}; default: all")
    options.add_argument("--data", type=Path, default=DATA, help="folder of the datasets; default: %(default)s")
    options.add_argument("--runs", type=Path, help="folder of trained runs to take, and to keep new ones in")
    options.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options.add_argument("--output", type=Path, help="a JSON file; a Markdown file of the same name is written beside it")
    options.add_argument("--quick", action="store_true", help="few samples, to try a row")
    options.add_argument(
        "--only", nargs="*", default=[], metavar="RUN", help="trainings of the row that are taken; default: all"
    )
    options.add_argument("--before", type=Path, help="a checkout of an earlier version, to run beside this one")
    options.add_argument("--list", action="store_true", help="print the rows")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(ROWS))
        return
    unknown = [name for name in chosen.rows if name not in ROWS]
    if unknown:
        options.error(f"unknown row {unknown[0]!r}. Known: {', '.join(ROWS)}")
    torch.set_num_threads(chosen.threads)
    if chosen.before is not None:
        chosen.before = chosen.before.resolve()
    chosen.data = chosen.data.resolve()
    result = {"command": command_line(), **machine_facts(chosen.threads), "rows": {}}
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(chosen.data, Path(scratch), chosen.runs, chosen.quick, tuple(chosen.only), chosen.before)
        for rows in measured_rows(chosen.rows or list(ROWS), setting):
            result["rows"] = rows
            write_result(chosen.output, result)
            if chosen.output:
                chosen.output.with_suffix(".md").write_text(markdown(result) + "\n", "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    import decisions  # the module that the rows of other files are registered in

    decisions.main()
else:
    import decisions_answers  # noqa: F401  # its rows
    import decisions_training  # noqa: F401
