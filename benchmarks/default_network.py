"""The default network beside changes that the advice or the report could propose, on the images that come with visus: what each gains and costs.

    python benchmarks/default_network.py [--seeds 0 1 2] [--variants default blurred ...] [--output FILE.json]

The variants are ``compact`` as it is (``default``), with blur pooling instead of strides (``blurred``), with augmentation by shifts of up to 10 %
of each side (``translated``), with ``ceil_mode=True`` in its pools, so that no position is left over (``ceiled``), and without its last convolution
(``shortened``). Each is trained with the default recipe and every seed on one split. Told are the accuracy on the 2,000 held-out images, and how often two
shifts of one image by up to 4 px get the same label, for each kind of shift of ``visus.evaluation.shifts``. All seeds of one variant follow those of the
others, so that partial results are paired.

The time of a training step (forward, backward, at the sizes of the recipe, with the kernels that a training uses) is measured at the end, all variants in
turn in one process: told is the processor time relative to the default, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F

import visus
from measuring import command_line, machine_facts, mean_of, ratio_of, write_result
from visus.data.batches import batches_in_order
from visus.data.opened import Data
from visus.design import Design, account, parse
from visus.design.antialiasing import with_blur_pooling
from visus.design.families.compact import compact
from visus.evaluation.shifts import WAYS, measure_shifts
from visus.networks.build import build
from visus.networks.fast import speed_up
from visus.networks.machine import choose, memory_format, suited

NUM_SHIFTS: Final = 9
BATCH: Final = 256
SIDES: Final = (0.75, 0.875, 1.0)
SHARES: Final = (0.4, 0.4, 0.2)
"""Sizes of the default recipe on small images, and the share of the training at each."""

TRANSLATE: Final = 0.1


def designs(data: Data) -> dict[str, Design]:
    """The design of each variant."""
    plain = compact(data.input_shape, len(data.classes), len(data.split("train")))
    blurred = with_blur_pooling(plain)
    assert blurred is not None, "the default network has pools with a stride"
    last = 'conv(128, 3, padding=1, bias=False),\n    norm,\n    gelu,\n    name="stage3"'
    assert plain.text.count(last) == 1, "the default network of these images has three stages of two convolutions"
    return {
        "default": plain,
        "blurred": blurred,
        "translated": plain,
        "ceiled": parse(plain.text.replace("maxpool(2)", "maxpool(2, ceil_mode=True)")),
        "shortened": parse(plain.text.replace(last, 'name="stage3"')),
    }


def measure(
    data: Data, name: str, design: Design, seed: int, num_shifted: int, epochs: int | None, folder: Path
) -> dict[str, Any]:
    """Train one variant with one seed, score it and shift its held-out samples."""
    recipe = visus.Recipe(seed=seed, epochs=epochs, translate=TRANSLATE if name == "translated" else None)
    run = visus.train(data, design, recipe, output=folder, name=f"{name}-{seed}")
    costs = account(design, data.input_shape, len(data.classes))
    held_out = data.split("test")
    batch = torch.cat(list(batches_in_order(held_out, data.preprocessing, BATCH)))
    chosen = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))[:num_shifted]
    reach = tuple(max(1, round(length / 8)) for length in data.input_shape[1:])
    ways = {way: measure_shifts(run.module, batch[chosen], reach, way, limit=NUM_SHIFTS) for way in WAYS}
    return {
        "variant": name,
        "seed": seed,
        "accuracy": run.scores.accuracy,
        "num_samples": run.scores.num_samples,
        "num_shifted": len(chosen),
        "reach_px": list(reach),
        "num_parameters": costs.num_parameters,
        "macs": costs.macs,
        "consistency": {way: found.consistency for way, found in ways.items()},
    }


def step_of(design: Design, data: Data, side: float) -> Callable[[], None]:
    """One forward and backward pass of a batch at a size, as a training computes it."""
    torch.manual_seed(0)
    machine = choose("cpu")
    module = build(design, data.input_shape, len(data.classes)).train()
    machine = suited(machine, module)
    size = [max(1, round(side * length)) for length in data.input_shape[1:]]
    images = torch.randn(BATCH, data.input_shape[0], *size)
    labels = torch.arange(BATCH) % len(data.classes)
    if machine.channels_last:
        module, images = module.to(memory_format=memory_format(4)), images.to(memory_format=memory_format(4))  # type: ignore[call-overload]
    speed_up(module)

    def step() -> None:
        module.zero_grad(set_to_none=True)
        with machine.autocast():
            logits = module(images).float()
        F.cross_entropy(logits, labels, label_smoothing=0.2).backward()  # type: ignore[no-untyped-call]

    return step


def step_ratios(data: Data, variants: dict[str, Design], rounds: int) -> dict[str, Any]:
    """Processor time of a step of each variant relative to the default, in rounds."""
    steps = {name: [step_of(design, data, side) for side in SIDES] for name, design in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(-2, rounds):
        for name in list(steps) if index % 2 else list(reversed(steps)):
            spent = 0.0
            for step, share in zip(steps[name], SHARES, strict=True):
                began = time.process_time()
                step()
                spent += share * (time.process_time() - began)
            if index >= 0:  # the first two rounds choose the kernels and warm up
                seconds[name].append(spent)
    return {name: ratio_of(each, seconds["default"]).to_json() for name, each in seconds.items() if name != "default"}


def summarized(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and the differences from the default with the same seed."""
    table: dict[str, Any] = {}
    by_seed = {each["seed"]: each for each in results if each["variant"] == "default"}
    for name in dict.fromkeys(each["variant"] for each in results):
        own = [each for each in results if each["variant"] == name and each["seed"] in by_seed]
        if not own:
            continue
        worst = [min(each["consistency"].values()) for each in own]
        plain_worst = [min(by_seed[each["seed"]]["consistency"].values()) for each in own]
        table[name] = {
            "num_parameters": own[0]["num_parameters"],
            "macs": own[0]["macs"],
            "accuracy": mean_of([each["accuracy"] for each in own]).to_json(),
            "accuracy_gain": mean_of([each["accuracy"] - by_seed[each["seed"]]["accuracy"] for each in own]).to_json(),
            "worst_consistency": mean_of(worst).to_json(),
            "worst_consistency_gain": mean_of(
                [own - plain for own, plain in zip(worst, plain_worst, strict=True)]
            ).to_json(),
            "consistency": {way: mean_of([each["consistency"][way] for each in own]).to_json() for way in WAYS},
        }
    return table


def main() -> None:
    """Train every variant with every seed, time their steps, and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--variants", nargs="+", default=["default", "blurred", "translated", "ceiled", "shortened"])
    options.add_argument("--shifted", type=int, default=1000, help="held-out images that are shifted")
    options.add_argument("--epochs", type=int, help="for a trial; that of the recipe by default")
    options.add_argument("--rounds", type=int, default=21, help="rounds in which the steps are timed")
    options.add_argument("--output", type=Path, help="results that it holds already are kept and not measured again")
    chosen = options.parse_args()
    data = visus.open_data()
    variants = {name: design for name, design in designs(data).items() if name in {"default", *chosen.variants}}
    table: dict[str, Any] = {
        "command": command_line(), **machine_facts(), "data": data.name, "step_time": {}, "summary": {}, "results": []
    }  # fmt: skip
    if chosen.output and chosen.output.is_file():
        known = json.loads(chosen.output.read_text("utf-8"))
        table |= {name: known[name] for name in ("step_time", "results")}
    table["step_time"] = table["step_time"] or step_ratios(data, variants, chosen.rounds)
    print(json.dumps({name: ratio["mean"] for name, ratio in table["step_time"].items()}), file=sys.stderr, flush=True)
    done = {(each["variant"], each["seed"]) for each in table["results"]}
    for seed in chosen.seeds:
        for name, design in variants.items():
            if (name, seed) in done:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                found = measure(data, name, design, seed, chosen.shifted, chosen.epochs, Path(scratch))
            table["results"].append(found)
            table["summary"] = summarized(table["results"])
            worst = min(found["consistency"].values())
            print(
                f"{name} seed {seed}: accuracy {found['accuracy']:.4f}, worst consistency {worst:.4f}",
                file=sys.stderr,
                flush=True,
            )
            write_result(chosen.output, table)
    table["summary"] = summarized(table["results"])
    write_result(chosen.output, table)
    print(json.dumps(table["summary"], indent=2))


if __name__ == "__main__":
    main()
