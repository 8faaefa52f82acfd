"""What looking inside costs, as ratios to one forward of the same network, and how near effective fields of one pass come to sampled ones.

    python benchmarks/looking_inside.py [--rounds 15] [--epochs 3] [--output FILE.json]

Everything is timed in turn, round after round, on one thread and one sample, so that a busy machine slows all alike; medians are told. Fields
are compared in new networks and in three that are trained for a few epochs on the images that come with visus.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import visus
from visus.evaluation.predictions import predict_logits
from visus.evaluation.shifts import measure_phases, total_step
from visus.examine import (
    activations,
    effective_field,
    effective_field_sampled,
    grad_cam,
    gradient_saliency,
    measure_derivatives,
    templates,
)
from visus.networks.machine import describe
from visus.training.recipe import Recipe

NUM_SAMPLES = 200
SEARCHED = 32
MAX_PHASES = 256
TIMED: dict[str, tuple[str, tuple[int, ...]]] = {
    "compact, 1 x 28 x 28": ("compact", (1, 28, 28)),
    "compact, 3 x 96 x 96": ("compact", (3, 96, 96)),
    "resnet(18), 3 x 32 x 32": ("resnet(18)", (3, 32, 32)),
    "resnet(18), 3 x 224 x 224": ("resnet(18)", (3, 224, 224)),
}
COMPARED: dict[str, tuple[str, str]] = {
    "plain": (
        "conv(16, 5, padding=2), relu, maxpool(2), conv(32, 3, padding=1), relu, conv(32, 3, padding=1), relu, maxpool(2), "
        "conv(64, 3, padding=1), relu, globalpool, linear(classes)",
        "relu4",
    ),
    "residual": (
        "conv(16, 3, padding=1), norm, relu, residual(conv(16, 3, padding=1), norm, relu, conv(16, 3, padding=1), norm), relu, "
        "residual(conv(32, 3, stride=2, padding=1), norm, relu, conv(32, 3, padding=1), norm), relu, "
        "residual(conv(64, 3, stride=2, padding=1), norm, relu, conv(64, 3, padding=1), norm), relu, globalpool, linear(classes)",
        "relu4",
    ),
    "compact": ("compact", "stage3.relu2"),
}


def medians(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call, all called in turn."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for place in range(rounds + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if place >= 2:
                spent[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(times) for name, times in spent.items()}


def times_of(text: str, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Times for one network, and their ratios to one forward."""
    module = visus.network(text, shape, 10).eval()
    sample = torch.randn(1, *shape)
    layer = activations(module, sample, summary_only=True).layers[-3].path
    rates = measure_derivatives(module, sample)

    def forward() -> Tensor:
        with torch.no_grad():
            output: Tensor = module(sample)
        return output

    found = medians(
        {
            "forward": forward,
            "all activation maps": lambda: activations(module, sample),
            "all figures, no maps": lambda: activations(module, sample, summary_only=True),
            "Grad-CAM": lambda: grad_cam(module, sample, 0),
            "gradient saliency": lambda: gradient_saliency(module, sample, 0),
            "one sample of the effective field": lambda: effective_field_sampled(module, sample, layer),
            "effective field in one pass": lambda: effective_field(module, rates, layer),
            "effective field of one channel": lambda: effective_field(module, rates, layer, channel=0),
        },
        rounds,
    )
    samples = torch.randn(SEARCHED, *shape)
    searched = medians(
        {"forward": lambda: predict_logits(module, [samples]), "templates": lambda: templates(module, samples)}, 3
    )
    step = total_step(visus.summary(module, shape))
    num_phases = math.prod(step) if step else 0
    phases = {}
    if step and num_phases <= MAX_PHASES:
        told = medians({"forward": forward, "phases": lambda: measure_phases(module, sample, step)}, 3)
        phases = {
            "num_phases": num_phases,
            "all_phases_to_so_many_forwards": round(told["phases"] / told["forward"] / num_phases, 2),
        }
    return {
        "milliseconds": {name: round(value, 3) for name, value in found.items()},
        **phases,
        "ratios_to_forward": {name: round(value / found["forward"], 2) for name, value in found.items()},
        "templates_of_every_layer_over_32_samples_to_their_forward": round(searched["templates"] / searched["forward"], 2),
        "one_pass_to_one_sample": round(
            found["effective field in one pass"] / found["one sample of the effective field"], 2
        ),
    }


def fields_of(module: nn.Module, samples: Tensor, others: Tensor, layer: str) -> dict[str, Any]:
    """Cosines with the sampled field of the middle unit of a layer."""
    batches = samples.split(50)
    sampled = effective_field_sampled(module, batches, layer)
    rates = measure_derivatives(module, others[:NUM_SAMPLES].split(50))
    channels = np.flatnonzero(
        activations(module, samples, layer)[layer].values[:, :, sampled.position[0], sampled.position[1]].mean(0) > 0
    )
    singles = []
    for channel in channels[:8].tolist():
        one = effective_field_sampled(module, batches, layer, channel=channel)
        singles.append(effective_field(module, rates, layer, channel=channel).cosine(one))
    agreed = effective_field_sampled(module, others, layer, until=0.98)
    return {
        "num_samples": sampled.num_samples,
        "agreement_of_halves": sampled.agreement,
        "one_pass": effective_field(module, rates, layer).cosine(sampled),
        "one_pass_of_single_channels": {
            "lowest": min(singles),
            "median": statistics.median(singles),
            "highest": max(singles),
        },
        "sampled_until_0.98": {"num_samples": agreed.num_samples, "cosine": agreed.cosine(sampled)},
    }


def compared(epochs: int) -> dict[str, Any]:
    """Fields of new and of trained networks."""
    data = visus.open_data()
    found: dict[str, Any] = {}
    places = np.random.default_rng(0).permutation(len(data.split("train")))
    with tempfile.TemporaryDirectory() as scratch:
        for name, (text, layer) in COMPARED.items():
            new = visus.network(text, data.input_shape, len(data.classes)).eval()
            for part in new.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.weight.data.fill_(1.0)  # else the residuals of a new network are closed
            noise = torch.randn(600, *data.input_shape, generator=torch.Generator().manual_seed(0))
            run = visus.train(
                data, text, Recipe(epochs=epochs, precision="float32", device="cpu"), output=scratch, name=name
            )
            samples = run.preprocessing.scaled(data.split("train").rows(places[: NUM_SAMPLES + 600]))
            found[name] = {
                "layer": layer,
                "accuracy": run.scores.accuracy,
                "new": fields_of(new, noise[:NUM_SAMPLES], noise[NUM_SAMPLES:], layer),
                "trained": fields_of(run.module, samples[:NUM_SAMPLES], samples[NUM_SAMPLES:], layer),
            }
            print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure everything and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    machine = describe()
    table = {
        "command": f"python benchmarks/looking_inside.py --rounds {chosen.rounds} --epochs {chosen.epochs}",
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "cores": machine["cores"],
        "threads": 1,
        "times": {name: times_of(text, shape, chosen.rounds) for name, (text, shape) in TIMED.items()},
        "effective_fields": compared(chosen.epochs),
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
