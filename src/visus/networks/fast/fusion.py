"""Layers in a row, of which two or three that follow each other are computed together where nobody can tell.

This file knows which layers can be computed together, and when.

Nothing is arranged beforehand: the row looks at its layers each time it is computed. A layer that was exchanged, that has
hooks, or that is called by anybody else computes what it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.modules import module as modules

from visus.networks.blocks import Residual
from visus.networks.fast import eligibility
from visus.networks.fast.compiler import kernels
from visus.networks.fast.eligibility import are_plain, is_eager, suits_rows
from visus.networks.fast.layers import Faster, FasterActivation, FasterConv2d
from visus.networks.fast.norms import norm_and_activation
from visus.networks.fast.stored_norms import Stored, convolved_and_normed, normed

_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class SharedNorm(nn.BatchNorm2d):
    """A norm over a batch of which others have slices too; what derives from it says how their sums are added up."""

    @staticmethod
    def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
        """Sums (n,) float64 over all slices, from those of this one; the same for all."""
        raise NotImplementedError


class FasterSequential(Faster, nn.Sequential):
    """``nn.Sequential``; a part of it, ``row[:2]``, is one again."""

    _visus_plain = nn.Sequential

    def forward(self, input: Any) -> Any:
        """What the layers give one after another."""
        if isinstance(input, torch.Tensor) and is_eager():
            return run_sequence(tuple(self._modules.values()), input)
        return super().forward(input)  # type: ignore[no-untyped-call]


class FasterResidual(Faster, Residual):
    """visus's ``Residual``, the layers of its body in a row."""

    _visus_plain = Residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N C * -> N C' *."""
        if not (isinstance(x, torch.Tensor) and is_eager()):
            return super().forward(x)
        y: torch.Tensor = run_sequence(self.body, x)
        shortcut = self._modules["projection"](x) if self.has_projection else x  # type: ignore[misc]
        return y + shortcut


SEQUENCES: tuple[type[Faster], ...] = (FasterSequential, FasterResidual)


def run_sequence(parts: Sequence[Any], input: Any) -> Any:
    """What the parts give one after another; two or three of them at once where that is the same and nobody watches either."""
    is_watched = any(getattr(modules, name, True) for name in _GLOBAL_HOOKS)
    at = 0
    while at < len(parts):
        found, num = (None, 0) if is_watched else _together(parts[at : at + 3], input)
        input, at = (parts[at](input), at + 1) if found is None else (found, at + num)
    return input


def _together(parts: Sequence[nn.Module], input: Any) -> tuple[torch.Tensor | None, int]:
    """What the first of some parts give as one, and how many these are; None where the first is to be computed by itself."""
    first, second = parts[0], parts[1] if len(parts) > 1 else None
    if type(first) is FasterConv2d:
        if type(second) is nn.MaxPool2d:
            is_joined = (first.kernel_size, first.stride) == ((3, 3), (1, 1)) and _is_halving(second)
            return (_convolved_and_pooled(first, second, input) if is_joined and _are_alone(first, second) else None), 2
        if _is_norm(second) and not second.training:
            norm, activation = _norm_and_activation(parts[1:])
            is_joined = first.bias is None and _are_alone(first, norm) and _suits_behind(first, norm, input)
            return (_convolved_and_normed(first, norm, activation, input) if is_joined else None), 1 + _num(activation)
    if _is_norm(first) and _are_alone(first):
        norm, activation = _norm_and_activation(parts)
        if not norm.training and _is_read(input) and _keeps_statistics(norm, input.shape[1]):
            return normed(input, _stored(norm), activation), _num(activation)
        if activation != "none" and _suits(norm, input):
            return _normed_and_activated(norm, activation, input), 2
    return None, 0


def _norm_and_activation(parts: Sequence[nn.Module]) -> tuple[nn.BatchNorm2d, str]:
    """A norm, and the activation behind it that may be computed with it; ``none`` where there is none."""
    norm, *rest = parts
    assert _is_norm(norm)
    if rest and isinstance(rest[0], FasterActivation) and rest[0].is_exact and _are_alone(rest[0]):
        return norm, rest[0]._visus_name
    return norm, "none"


def _num(activation: str) -> int:
    """Parts that a norm with its activation is."""
    return 1 if activation == "none" else 2


def _convolved_and_normed(conv: FasterConv2d, norm: nn.BatchNorm2d, activation: str, maps: torch.Tensor) -> torch.Tensor:
    """By the plan for the convolution and the stored statistics."""
    return convolved_and_normed(
        maps.to(torch.bfloat16), conv.weight, conv.window, conv.plan(maps), _stored(norm), activation
    )


def _stored(norm: nn.BatchNorm2d) -> Stored:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return Stored(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def _suits_behind(conv: FasterConv2d, norm: nn.BatchNorm2d, maps: Any) -> bool:
    """Whether the norm, which goes by its stored statistics, can be computed with the convolution before it."""
    if not (isinstance(maps, torch.Tensor) and maps.ndim == 4 and kernels() is not None and conv.can_be_planned(maps)):
        return False
    num_values = maps.shape[0] * conv.out_channels * math.prod(conv.case(maps).size)
    return num_values >= eligibility.MIN_NUMBERS and _keeps_statistics(norm, conv.out_channels)


def _is_norm(part: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is PyTorch's own or goes by the same arithmetic."""
    return type(part) is nn.BatchNorm2d or isinstance(part, SharedNorm)


def _convolved_and_pooled(conv: FasterConv2d, pool: nn.MaxPool2d, maps: Any) -> torch.Tensor:
    """By the plan for both; it may hold that the pooling is better apart."""
    plan = conv.plan(maps, is_pooled=True)
    out: torch.Tensor = conv.by_plan(maps, plan)
    return out if plan.is_pooled else pool(out)


def _normed_and_activated(norm: nn.BatchNorm2d, activation: str, maps: torch.Tensor) -> torch.Tensor:
    """By the statistics of the batch, toward which the stored ones are drawn."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    all_reduce_sum = norm.all_reduce_sum if isinstance(norm, SharedNorm) else None
    out, mean, variance = norm_and_activation(maps, norm.weight, norm.bias, norm.eps, activation, all_reduce_sum)
    with torch.no_grad():
        share = norm.momentum or 0.0
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return out


def _suits(norm: nn.BatchNorm2d, maps: Any) -> bool:
    """Whether the norm goes by the batch, keeps its statistics, and all is of types and sizes that the algorithm reads."""
    if not (norm.training and norm.momentum is not None and _is_read(maps) and maps.numel() > maps.shape[1]):
        return False
    return norm.track_running_stats and _keeps_statistics(norm, maps.shape[1])


def _is_read(maps: Any) -> bool:
    """Whether the kernels for norms read these maps."""
    return isinstance(maps, torch.Tensor) and are_plain(maps) and suits_rows(maps) and kernels() is not None


def _keeps_statistics(norm: nn.BatchNorm2d, channels: int) -> bool:
    """Whether the norm has gains, shifts and stored statistics of so many channels, of the type that the kernels read."""
    stored = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return are_plain(*stored) and all(
        each is not None and each.dtype == torch.float32 and each.shape == (channels,) and each.is_contiguous()
        for each in stored
    )


def _are_alone(*parts: Any) -> bool:
    """Whether calling each part is its ``forward`` and nothing else, so that nobody sees what it is given or gives."""
    return not any(
        any(getattr(part, name, True) for name in _HOOKS)
        or "forward" in part.__dict__
        or getattr(part, "_compiled_call_impl", None) is not None
        for part in parts
    )


def _is_halving(pool: nn.MaxPool2d) -> bool:
    """Whether it gives the largest of each 2 x 2, leaving out a last row or column."""
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    pairs = tuple((each, each) if isinstance(each, int) else tuple(each) for each in settings)
    return pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not pool.ceil_mode and not pool.return_indices
