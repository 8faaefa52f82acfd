"""Fusion of two or three consecutive layers in a sequence, if no hook or caller can observe the difference.

A sequence decides again in each forward pass. It never fuses a layer that was replaced by another class or that has hooks, and a layer that is called
directly runs by itself.
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
from visus.networks.fast.eligibility import are_plain, is_eager, suits_norm_kernels
from visus.networks.fast.layers import Faster, FasterActivation, FasterConv2d
from visus.networks.fast.norms import norm_and_activation
from visus.networks.fast.stored_norms import StoredNorm, convolve_and_normalize, stored_norm_and_activation

_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class SharedNorm(nn.BatchNorm2d):
    """A batch norm over a batch that several processes share; subclasses define how to reduce its sums."""

    @staticmethod
    def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
        """Sum (n,) float64 values over all processes; the result is the same for all."""
        raise NotImplementedError


class FasterSequential(Faster, nn.Sequential):
    """``nn.Sequential`` with fusion; a slice such as ``sequence[:2]`` has the same class."""

    _visus_original = nn.Sequential

    def forward(self, input: Any) -> Any:
        """Output of the layers in sequence."""
        if isinstance(input, torch.Tensor) and is_eager():
            return run_sequence(tuple(self._modules.values()), input)
        return super().forward(input)  # type: ignore[no-untyped-call]


class FasterResidual(Faster, Residual):
    """visus's ``Residual`` with fusion in its body."""

    _visus_original = Residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, *) to (N, C', *)."""
        if not (isinstance(x, torch.Tensor) and is_eager()):
            return super().forward(x)
        y: torch.Tensor = run_sequence(self.body, x)
        shortcut = self._modules["projection"](x) if self.has_projection else x  # type: ignore[misc]
        return y + shortcut


SEQUENCES: tuple[type[Faster], ...] = (FasterSequential, FasterResidual)


def run_sequence(parts: Sequence[Any], input: Any) -> Any:
    """Output of the parts in sequence; two or three of them are fused where possible."""
    has_hooks = any(getattr(modules, name, True) for name in _GLOBAL_HOOKS)
    at = 0
    while at < len(parts):
        out, num_parts = (None, 0) if has_hooks else _try_fused(parts[at : at + 3], input)
        input, at = (parts[at](input), at + 1) if out is None else (out, at + num_parts)
    return input


def _try_fused(parts: Sequence[nn.Module], input: Any) -> tuple[torch.Tensor | None, int]:
    """Output of the first two or three parts fused, and their number; None if the first part must run by itself."""
    first, second = parts[0], parts[1] if len(parts) > 1 else None
    if type(first) is FasterConv2d:
        if type(second) is nn.MaxPool2d:
            is_fused = (first.kernel_size, first.stride) == ((3, 3), (1, 1)) and _is_2x2_pooling(second)
            return (_convolve_and_pool(first, second, input) if is_fused and _are_unhooked(first, second) else None), 2
        if _is_norm(second) and not second.training:
            norm, activation = _norm_and_activation(parts[1:])
            is_fused = first.bias is None and _are_unhooked(first, norm) and _can_fuse_stored_norm(first, norm, input)
            return (_convolve_and_normalize(first, norm, activation, input) if is_fused else None), 1 + _num_parts(
                activation
            )
    if _is_norm(first) and _are_unhooked(first):
        norm, activation = _norm_and_activation(parts)
        if not norm.training and _is_supported(input) and _has_statistics(norm, input.shape[1]):
            return stored_norm_and_activation(input, _stored_norm(norm), activation), _num_parts(activation)
        if activation != "none" and _can_fuse_batch_norm(norm, input):
            return _normalize_and_activate(norm, activation, input), 2
    return None, 0


def _norm_and_activation(parts: Sequence[nn.Module]) -> tuple[nn.BatchNorm2d, str]:
    """A norm, and the name of the activation after it that can be fused with it; ``none`` if there is none."""
    norm, *following = parts
    assert _is_norm(norm)
    if following and isinstance(following[0], FasterActivation) and following[0].is_exact and _are_unhooked(following[0]):
        return norm, following[0]._visus_name
    return norm, "none"


def _num_parts(activation: str) -> int:
    """Number of parts of a norm with its activation."""
    return 1 if activation == "none" else 2


def _convolve_and_normalize(conv: FasterConv2d, norm: nn.BatchNorm2d, activation: str, maps: torch.Tensor) -> torch.Tensor:
    """Convolution, norm by stored statistics, and activation, fused."""
    return convolve_and_normalize(
        maps.to(torch.bfloat16), conv.weight, conv.window, conv.plan(maps), _stored_norm(norm), activation
    )


def _stored_norm(norm: nn.BatchNorm2d) -> StoredNorm:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return StoredNorm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def _can_fuse_stored_norm(conv: FasterConv2d, norm: nn.BatchNorm2d, maps: Any) -> bool:
    """Whether a norm in evaluation mode can be fused with the convolution before it."""
    if not (isinstance(maps, torch.Tensor) and maps.ndim == 4 and kernels() is not None and conv.can_be_planned(maps)):
        return False
    num_values = maps.shape[0] * conv.out_channels * math.prod(conv.problem(maps).size)
    return num_values >= eligibility.MIN_VALUES and _has_statistics(norm, conv.out_channels)


def _is_norm(part: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is PyTorch's own ``BatchNorm2d`` or one of a shared batch."""
    return type(part) is nn.BatchNorm2d or isinstance(part, SharedNorm)


def _convolve_and_pool(conv: FasterConv2d, pool: nn.MaxPool2d, maps: Any) -> torch.Tensor:
    """Convolution and pooling by one plan, fused if that is faster."""
    plan = conv.plan(maps, is_pooled=True)
    out: torch.Tensor = conv.by_plan(maps, plan)
    return out if plan.is_pooled else pool(out)


def _normalize_and_activate(norm: nn.BatchNorm2d, activation: str, maps: torch.Tensor) -> torch.Tensor:
    """Norm by batch statistics and activation, fused; updates the running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    all_reduce_sum = norm.all_reduce_sum if isinstance(norm, SharedNorm) else None
    out, mean, variance = norm_and_activation(maps, norm.weight, norm.bias, norm.eps, activation, all_reduce_sum)
    with torch.no_grad():
        momentum = norm.momentum or 0.0
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance, momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return out


def _can_fuse_batch_norm(norm: nn.BatchNorm2d, maps: Any) -> bool:
    """Whether a norm in training mode with running statistics can be fused with its activation."""
    if not (norm.training and norm.momentum is not None and _is_supported(maps) and maps.numel() > maps.shape[1]):
        return False
    return norm.track_running_stats and _has_statistics(norm, maps.shape[1])


def _is_supported(maps: Any) -> bool:
    """Whether the kernels for norms support these maps."""
    return isinstance(maps, torch.Tensor) and are_plain(maps) and suits_norm_kernels(maps) and kernels() is not None


def _has_statistics(norm: nn.BatchNorm2d, channels: int) -> bool:
    """Whether the norm has weight, bias and running statistics for this number of channels, in float32 and contiguous."""
    stored = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return are_plain(*stored) and all(
        each is not None and each.dtype == torch.float32 and each.shape == (channels,) and each.is_contiguous()
        for each in stored
    )


def _are_unhooked(*parts: Any) -> bool:
    """Whether calling each part runs only its class's ``forward``, so that no hook sees its input or output."""
    return not any(
        any(getattr(part, name, True) for name in _HOOKS)
        or "forward" in part.__dict__
        or getattr(part, "_compiled_call_impl", None) is not None
        for part in parts
    )


def _is_2x2_pooling(pool: nn.MaxPool2d) -> bool:
    """Whether it is a 2 x 2 max pooling with stride 2 that drops a last row or column."""
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    pairs = tuple((each, each) if isinstance(each, int) else tuple(each) for each in settings)
    return pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not pool.ceil_mode and not pool.return_indices
