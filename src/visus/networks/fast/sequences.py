"""Layers in a row, of which two that follow each other are computed together where nobody can tell.

This file knows which two layers can be computed together, and when. It must not know how.

Nothing is arranged beforehand: the row looks at its layers each time it is computed. A layer that was exchanged, that has
hooks, or that is called by anybody else computes what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.modules import module as modules

from visus.networks.blocks import Residual
from visus.networks.fast.compiler import kernels
from visus.networks.fast.conditions import are_plain, is_eager, suits_rows
from visus.networks.fast.layers import Faster, FasterActivation, FasterConv2d
from visus.networks.fast.norms import norm_and_activation

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
    def add_up(values: torch.Tensor) -> torch.Tensor:
        """Sums (n,) float64 over all slices, from those of this one; the same for all."""
        raise NotImplementedError


class FasterSequential(Faster, nn.Sequential):
    """``nn.Sequential``; a part of it, ``row[:2]``, is one again."""

    _visus_plain = nn.Sequential

    def forward(self, input: Any) -> Any:
        """What the layers give one after another."""
        if isinstance(input, torch.Tensor) and is_eager():
            return in_a_row(tuple(self._modules.values()), input)
        return super().forward(input)  # type: ignore[no-untyped-call]


class FasterResidual(Faster, Residual):
    """visus's ``Residual``, the layers of its body in a row."""

    _visus_plain = Residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N C * -> N C' *."""
        if not (isinstance(x, torch.Tensor) and is_eager()):
            return super().forward(x)
        y: torch.Tensor = in_a_row(self.body, x)
        shortcut = self._modules["projection"](x) if self.has_projection else x  # type: ignore[misc]
        return y + shortcut


SEQUENCES: tuple[type[Faster], ...] = (FasterSequential, FasterResidual)


def in_a_row(parts: Sequence[Any], input: Any) -> Any:
    """What the parts give one after another; two of them at once where that is the same and nobody watches either."""
    is_watched = any(getattr(modules, name, True) for name in _GLOBAL_HOOKS)
    at = 0
    while at < len(parts):
        found = None
        if not is_watched and at + 1 < len(parts):
            found = _both(parts[at], parts[at + 1], input)
        input, at = (parts[at](input), at + 1) if found is None else (found, at + 2)
    return input


def _both(first: nn.Module, second: nn.Module, input: Any) -> torch.Tensor | None:
    """What the second gives behind the first; None where they are to be computed one after the other."""
    if type(first) is FasterConv2d and type(second) is nn.MaxPool2d:
        is_joined = (first.kernel_size, first.stride) == ((3, 3), (1, 1)) and _is_halving(second)
        return _convolved_and_pooled(first, second, input) if is_joined and _are_alone(first, second) else None
    if _is_norm(first) and isinstance(second, FasterActivation):
        is_joined = second.is_exact and _suits(first, input)
        return _normed_and_activated(first, second._visus_name, input) if is_joined and _are_alone(first, second) else None
    return None


def _is_norm(part: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is PyTorch's own or goes by the same arithmetic."""
    return type(part) is nn.BatchNorm2d or isinstance(part, SharedNorm)


def _convolved_and_pooled(conv: FasterConv2d, pool: nn.MaxPool2d, maps: Any) -> torch.Tensor:
    """By the plan for both; it may hold that the pooling is better apart."""
    plan = conv.plan(maps, is_pooled=True)
    out: torch.Tensor = conv.by_plan(maps, plan)
    return out if plan.is_pooled else pool(out)


def _normed_and_activated(norm: nn.BatchNorm2d, activation: str, maps: torch.Tensor) -> torch.Tensor:
    """By the statistics of the batch, towards which the stored ones are drawn."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    add_up = norm.add_up if isinstance(norm, SharedNorm) else None
    out, mean, variance = norm_and_activation(maps, norm.weight, norm.bias, norm.eps, activation, add_up)
    with torch.no_grad():
        share = norm.momentum or 0.0
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return out


def _suits(norm: nn.BatchNorm2d, maps: Any) -> bool:
    """Whether the norm goes by the batch, keeps its statistics, and all is of types and sizes that the algorithm reads."""
    if not (norm.training and norm.track_running_stats and norm.momentum is not None and kernels() is not None):
        return False
    if not (isinstance(maps, torch.Tensor) and are_plain(maps) and suits_rows(maps) and maps.numel() > maps.shape[1]):
        return False
    stored = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return are_plain(*stored) and all(
        each is not None and each.dtype == torch.float32 and each.shape == maps.shape[1:2] and each.is_contiguous()
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
