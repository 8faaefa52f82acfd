"""What each position of a tensor really reads, found without any rule: poison one row of the input with NaN, see what turns NaN."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Outputs(TorchDispatchMode):
    """Every tensor that an operation makes, with the operation's name, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in [out] if isinstance(out, Tensor) else out:
            if isinstance(each, Tensor) and each.is_floating_point():
                self.found.append((func._schema.name.split("::")[-1], each.clone()))
        return out


def poisoned(shape: tuple[int, ...], axis: int) -> Tensor:
    """One sample for each pixel of an axis, with NaN at that pixel in all channels and along all other axes."""
    x = torch.rand((shape[axis + 1], *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for pixel in range(shape[axis + 1]):
        x[pixel].select(axis + 1, pixel).fill_(torch.nan)
    return x


def sound(module: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, its weights and running values such that no path is closed."""
    module = copy.deepcopy(module).double().eval()
    generator = torch.Generator().manual_seed(2)
    for values in module.parameters():
        values.data = torch.rand(values.shape, dtype=torch.float64, generator=generator) * 0.2 + 0.05
    return module


@torch.no_grad()
def output_of(module: nn.Module, shape: tuple[int, ...], axis: int) -> Tensor:
    """Which elements of the output turn NaN: (pixels of the axis, *output)."""
    return first_of(sound(module)(poisoned(shape, axis))).isnan()


@torch.no_grad()
def operations_of(module: nn.Module, shape: tuple[int, ...], axis: int) -> list[tuple[str, Tensor]]:
    """The same for every tensor that an operation makes, with the operation's name."""
    module = sound(module)
    with _Outputs() as outputs:
        module(poisoned(shape, axis))
    return [(name, out.isnan()) for name, out in outputs.found]


@torch.no_grad()
def layers_of(module: nn.Module, shape: tuple[int, ...], axis: int) -> dict[str, Tensor]:
    """The same for the output of every layer, by its path; the first call counts."""
    module = sound(module)
    found: dict[str, Tensor] = {}

    def note(path: str, output: Any) -> None:
        found.setdefault(path, first_of(output).isnan().clone())

    for path, each in module.named_modules():
        if not any(True for _ in each.children()):
            each.register_forward_hook(lambda _, args, output, path=path: note(path, output))
    module(poisoned(shape, axis))
    return found


def first_of(output: Any) -> Tensor:
    """The first tensor of an output."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def boxes(touched: Tensor, dim: int | None) -> list[tuple[int, int] | None]:
    """First and last pixel by which each position along ``dim`` (batch counted) is touched; without a dimension, all together."""
    others = [each for each in range(1, touched.dim()) if each != dim]
    by_position = touched.any(dim=others) if others else touched
    columns = by_position.reshape(touched.shape[0], -1).T
    pixels = [column.nonzero().flatten().tolist() for column in columns]
    return [(each[0], each[-1]) if each else None for each in pixels]
