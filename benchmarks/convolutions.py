"""How long each algorithm of a convolution takes, direction by direction, on the shapes of two well-known networks.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py --output benchmarks/results/<date>-convolutions.json

Interleaved, the median of a few runs after one that warms up. Errors are relative, against float64. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from measuring import command_line, machine_facts, write_result
from visus.networks.fast import Plan, why_no_kernels
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.fast.convolutions import convolve
from visus.networks.fast.windows import TapGeometry
from visus.networks.machine import keep_freed_memory

# channels in, channels out, side of the map, samples, whether a maximum over 2 x 2 follows
SHAPES = (
    (24, 64, 31, 256, True),
    (64, 64, 15, 256, False),
    (64, 256, 15, 256, True),
    (256, 256, 7, 256, False),
    (256, 256, 7, 256, True),
    (256, 256, 3, 256, False),
    (64, 64, 32, 128, False),
    (128, 128, 16, 128, False),
    (256, 256, 8, 128, False),
    (512, 512, 4, 128, False),
)
DIRECTIONS = ("forward", "input_gradient", "weight_gradient")
WINDOW = TapGeometry((1, 1), (1, 1))


def main() -> int:
    options = _options()
    if why_no_kernels():
        print(f"error: there are no kernels to compare: {why_no_kernels()}.", file=sys.stderr)
        return 1
    keep_freed_memory()
    rows = []
    print(
        f"{'convolution':34} {'direction':16} {'onednn':>9} {'winograd':>9} {'taps':>9}   ms; relative error of onednn, winograd"
    )
    for shape in SHAPES:
        for row in measured(shape, options.repeats):
            rows.append(row)
            times = " ".join(f"{row['ms'].get(name, float('nan')):9.1f}" for name in ("onednn", "winograd", "taps"))
            errors = ", ".join(f"{row['error'][name]:.1e}" for name in ("onednn", "winograd"))
            print(f"{row['convolution']:34} {row['direction']:16} {times}   {errors}", flush=True)
    if options.output:
        facts = {"command": command_line(), "repeats": options.repeats}
        write_result(options.output, facts | machine_facts() | {"rows": rows})
    return 0


def measured(shape: tuple[int, int, int, int, bool], repeats: int) -> list[dict[str, object]]:
    """One row for each direction; a pooled convolution is timed with its pooling, forward and backward as a whole."""
    channels, filters, side, samples, is_pooled = shape
    torch.manual_seed(0)
    maps = torch.randn(samples, channels, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    weight = torch.randn(filters, channels, 3, 3) / (9 * channels) ** 0.5
    name = f"{channels} to {filters}, {side} x {side}, {samples} samples"
    runs: dict[str, dict[str, Callable[[], torch.Tensor]]]
    if is_pooled:
        fused = Plan("winograd", "winograd", "winograd", is_pooled=True)
        runs = {"whole step, pooled": {"onednn": _step(maps, weight, Plan()), "winograd": _step(maps, weight, fused)}}
    else:
        runs = {direction: _runs(direction, maps, weight) for direction in DIRECTIONS}
    assert ConvProblem(tuple(maps.shape), tuple(weight.shape), WINDOW, is_pooled, 1).supports_winograd
    found = []
    for direction, candidates in runs.items():
        times = {each: [] for each in candidates}
        for repeat in range(repeats + 1):
            for each, run in candidates.items():
                began = time.perf_counter()
                run()
                if repeat:
                    times[each].append(1000 * (time.perf_counter() - began))
        exact = _exact(direction, maps, weight)
        error = {each: float((run().double() - exact).norm() / exact.norm()) for each, run in candidates.items()}
        ms = {each: round(statistics.median(values), 2) for each, values in times.items()}
        found.append({"convolution": name, "direction": direction, "ms": ms, "error": error})
    return found


def _runs(direction: str, maps: torch.Tensor, weight: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    names = ("onednn", "winograd", "taps") if direction == "weight_gradient" else ("onednn", "winograd")
    if direction == "forward":
        return {name: lambda name=name: convolve(maps, weight, WINDOW, Plan(forward=name)) for name in names}
    return {name: _gradient(direction, maps, weight, Plan(**{direction: name})) for name in names}


def _gradient(direction: str, maps: torch.Tensor, weight: torch.Tensor, plan: Plan) -> Callable[[], torch.Tensor]:
    maps, weight = maps.detach(), weight.detach()
    wanted = (maps if direction == "input_gradient" else weight).requires_grad_()
    out = convolve(maps, weight, WINDOW, plan)
    gradient = _direction(out)
    return lambda: torch.autograd.grad(out, wanted, gradient, retain_graph=True)[0]


def _step(maps: torch.Tensor, weight: torch.Tensor, plan: Plan) -> Callable[[], torch.Tensor]:
    maps, weight = maps.detach().requires_grad_(), weight.detach().requires_grad_()

    def run() -> torch.Tensor:
        out = convolve(maps, weight, WINDOW, plan)
        out = out if plan.is_pooled else F.max_pool2d(out, 2)
        return torch.autograd.grad(out, (maps, weight), _direction(out))[1]

    return run


def _exact(direction: str, maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    maps, weight = maps.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    out = F.conv2d(maps, weight, padding=1)
    if direction == "forward":
        return out.detach()
    if direction.startswith("whole"):
        out = F.max_pool2d(out, 2)
    wanted = maps if direction == "input_gradient" else weight
    return torch.autograd.grad(out, wanted, _direction(out).double())[0]


def _direction(out: torch.Tensor) -> torch.Tensor:
    """A gradient that does not depend on the algorithm."""
    return (
        torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        .bfloat16()
        .contiguous(memory_format=torch.channels_last)
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
