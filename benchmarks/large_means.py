"""How exact the compiled kernels are when the mean of what they read is large beside its deviation, against float64.

    OMP_NUM_THREADS=1 python benchmarks/large_means.py --output benchmarks/results/<date>-large-means.json

Inputs and weights are rounded to what each kernel reads (inputs to bfloat16, weights stay float32 as in training), so that only the arithmetic
differs. A convolution's error is given in units of 2^-8 times the norm of what is multiplied: the filter's norm times the root mean square
of the input, mean included. PyTorch's own kernel (oneDNN) rounds the weights to bfloat16, which is an error of the same kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from measuring import command_line, machine_facts, write_result
from visus.networks.fast import Plan, why_no_kernels
from visus.networks.fast.convolutions import WINOGRAD, convolve
from visus.networks.fast.norms import norm_and_activation
from visus.networks.fast.windows import TapGeometry

MEANS = ((0.0, 1.0), (1.0, 1.0), (5.0, 1.0), (5.0, 0.1), (50.0, 0.5), (50.0, 0.1))  # mean and deviation of the input
CHANNELS = (16, 64, 256)
RATIOS = (1, 10, 100, 300, 1000)
WINDOW = TapGeometry((1, 1), (1, 1))
BY_WINOGRAD = Plan(WINOGRAD, WINOGRAD, WINOGRAD)


def main() -> int:
    options = _options()
    if why_no_kernels():
        print(f"error: there are no kernels to measure: {why_no_kernels()}.", file=sys.stderr)
        return 1
    rows = large_means()
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    write_result(options.output, {"command": command_line(), **machine_facts(), "rows": rows})
    return 0


def large_means() -> list[dict[str, Any]]:
    """A row for each kernel, number of channels and mean."""
    torch.manual_seed(0)
    rows = [row for channels in CHANNELS for row in convolutions(channels)]
    return rows + [norms(channels, ratio) for channels in CHANNELS for ratio in RATIOS]


def convolutions(channels: int) -> list[dict[str, Any]]:
    """Errors of a 3 x 3 convolution in its three directions: by Winograd, by oneDNN."""
    rows = []
    for mean, deviation in MEANS:
        for is_balanced in (False, True):
            x = mean + deviation * torch.randn(8, channels, 16, 16)
            weight = torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5
            if is_balanced:
                weight -= weight.mean((2, 3), keepdim=True)  # filters that see no mean: the true output is small
            found = errors_of_convolution(x, weight, torch.randn(8, channels, 16, 16))
            rows.append(
                {
                    "kernel": "convolution",
                    "channels": channels,
                    "mean": mean,
                    "deviation": deviation,
                    "filters": "without a mean" if is_balanced else "random",
                    **found,
                }
            )
    return rows


def errors_of_convolution(x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> dict[str, float]:
    """Root mean square errors in units of 2^-8 of the norm of what is multiplied, by direction and kernel."""
    x, gradient = (each.to(torch.bfloat16).contiguous(memory_format=torch.channels_last) for each in (x, gradient))
    true = _directions(lambda x, w: F.conv2d(x, w, padding=1), x.double(), weight.double(), gradient.double())
    spatial = x[:, 0].numel() ** 0.5
    rms = {name: float(each.double().square().mean().sqrt()) for name, each in (("x", x), ("gradient", gradient))}
    norms = {
        "output": float(weight.double().square().sum((1, 2, 3)).mean().sqrt()) * rms["x"],
        "gradient_of_input": float(weight.double().square().sum((0, 2, 3)).mean().sqrt()) * rms["gradient"],
        "gradient_of_weight": spatial * rms["x"] * rms["gradient"],
    }
    found = {}
    for name, plan in (("winograd", BY_WINOGRAD), ("onednn", Plan())):
        made = _directions(lambda x, w, plan=plan: convolve(x, w, WINDOW, plan), x, weight, gradient)
        for direction, norm in norms.items():
            error = (made[direction].double() - true[direction]).square().mean().sqrt()
            found[f"{direction}_{name}"] = float(error) / norm * 2**8
    return found


def _directions(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    weight: torch.Tensor,
    gradient: torch.Tensor,
) -> dict[str, torch.Tensor]:
    x, weight = (each.detach().clone().requires_grad_(True) for each in (x, weight))
    out = function(x, weight)
    out.backward(gradient.to(out.dtype))  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert weight.grad is not None
    return {"output": out.detach(), "gradient_of_input": x.grad, "gradient_of_weight": weight.grad}


def norms(channels: int, ratio: float) -> dict[str, Any]:
    """Relative error of the variance of a batch norm's channels, the largest; and of its output beside PyTorch's bfloat16 kernel."""
    means = ratio * (1 + 0.1 * torch.rand(1, channels, 1, 1, dtype=torch.float64))
    x = (torch.randn(32, channels, 16, 16, dtype=torch.float64) + means).to(torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    gain, shift = torch.ones(channels), torch.zeros(channels)
    out, _, variance = norm_and_activation(x, gain, shift, 1e-5, "none")
    true = F.batch_norm(x.double(), None, None, gain.double(), shift.double(), training=True, eps=1e-5)
    by_pytorch = F.batch_norm(x, None, None, gain, shift, training=True, eps=1e-5)
    exact = x.double().var((0, 2, 3))
    return {
        "kernel": "batch norm",
        "channels": channels,
        "mean_by_deviation": ratio,
        "variance": float(((variance.double() - exact).abs() / exact.clamp_min(1e-9)).max()),
        "output": float((out.double() - true).square().mean().sqrt()),
        "output_pytorch": float((by_pytorch.double() - true).square().mean().sqrt()),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="where the result is written as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
