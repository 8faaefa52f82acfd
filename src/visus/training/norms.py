"""Synchronized batch norms: statistics of the whole batch when several processes have a slice each.

On GPUs these are PyTorch's own (``nn.SyncBatchNorm``), which has no CPU version. On a CPU, each process measures its slice, the sums are reduced
over all processes, and the kernels get the statistics of the whole batch: PyTorch's kernels, or the fused ones of ``networks.fast``.

Shape letters: N samples, C channels, * any number of spatial axes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from visus.networks.fast import SharedNorm, unoptimized
from visus.training.distribution import all_reduce_sum


@contextlib.contextmanager
def synchronize_batch_norms(module: nn.Module, *, is_alone: bool) -> Iterator[None]:
    """A block in which the batch norms of ``module``, in training mode, use the statistics of all processes' samples.

    Args:
        module: any network; only the classes of its norms change, and are restored afterwards.
        is_alone: whether this is the only process; nothing changes then.
    """
    if is_alone:
        yield
        return
    with unoptimized(module):  # a network that a person sped up has choices of this process only
        changed = [part for part in module.modules() if type(part) in _SYNCHRONIZED]
        for part in changed:
            part.__class__ = _SYNCHRONIZED[type(part)]
        try:
            yield
        finally:
            for part in changed:
                part.__class__ = _ORIGINAL[type(part)]


class _SynchronizedNorm:
    """Common part of synchronized norms for 1, 2 and 3 spatial axes."""

    process_group = None  # as nn.SyncBatchNorm reads it: all processes

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        """Normalize (N, C, *)."""
        if not self.training:
            return super().forward(input)  # type: ignore[misc, no-any-return]
        self._check_input_dim(input)
        if input.device.type != "cpu":
            return nn.SyncBatchNorm.forward(self, input)
        mean, variance, num_values = _batch_statistics(input.detach())
        if self.track_running_stats:
            self._update_running_stats(mean, variance, num_values)
        out: torch.Tensor = _Normalize.apply(input, self.weight, self.bias, mean, variance, self.eps, num_values)  # type: ignore[no-untyped-call]
        return out

    def _check_non_zero_input_channels(self, input: torch.Tensor) -> None:
        """Called by ``nn.SyncBatchNorm``; the maps of a design always have channels."""

    @torch.no_grad()
    def _update_running_stats(self: Any, mean: torch.Tensor, variance: torch.Tensor, num_values: int) -> None:
        """Update the running statistics as PyTorch does: with the unbiased variance, and a cumulative mean if momentum is None."""
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance * (num_values / (num_values - 1))).to(self.running_var.dtype), momentum)


class _SynchronizedNorm1d(_SynchronizedNorm, nn.BatchNorm1d):
    pass


class _SynchronizedNorm2d(_SynchronizedNorm, SharedNorm):
    """A norm that ``networks.fast`` can fuse with the activation after it; the fused kernels reduce their sums with ``all_reduce_sum``."""

    all_reduce_sum = staticmethod(all_reduce_sum)


class _SynchronizedNorm3d(_SynchronizedNorm, nn.BatchNorm3d):
    pass


_SYNCHRONIZED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _SynchronizedNorm1d,
    nn.BatchNorm2d: _SynchronizedNorm2d,
    nn.BatchNorm3d: _SynchronizedNorm3d,
}
_ORIGINAL = {synchronized: original for original, synchronized in _SYNCHRONIZED.items()}


def _batch_statistics(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and variance (C,) of each channel over all processes, and the total number of values per channel.

    The sums are in float64, so that subtracting the squared mean loses no precision.
    """
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    num_channels = maps.shape[1]
    unused = maps.new_zeros(num_channels, dtype=dtype), maps.new_ones(num_channels, dtype=dtype)
    mean, variance = (each.double() for each in torch.batch_norm_update_stats(maps, *unused, 1.0))
    count = maps.numel() // num_channels
    # The same sums as in `networks.fast`, since another process may compute its slice there.
    sums = all_reduce_sum(torch.cat([mean, variance + mean.square(), mean.new_ones(1)]) * count)
    num_values = int(sums[-1])
    mean, squares = (sums[:-1] / num_values).chunk(2)
    return mean.to(dtype), (squares - mean.square()).clamp_min(0).to(dtype), num_values


class _Normalize(torch.autograd.Function):
    """``F.batch_norm`` with given statistics, and with the gradient of statistics over all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        num_values: int,
    ) -> torch.Tensor:
        """Normalize maps (N, C, *), in their dtype."""
        ctx.save_for_backward(maps, weight, mean, variance)
        ctx.eps, ctx.num_values = eps, num_values
        return F.batch_norm(maps, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the maps, and of weight and bias from this process's slice, as for all other parameters.

        With y = (x - mean) / deviation and g the gradient of the output, the gradient of x is
        weight / deviation * (g - mean(g) - y * mean(g * y)), with means over the whole batch (Ioffe and Szegedy 2015, section 3).
        """
        maps, weight, mean, variance = ctx.saved_tensors
        if gradient.dim() > 3 and maps.is_contiguous(memory_format=_channels_last_format(maps)):
            gradient = gradient.contiguous(memory_format=_channels_last_format(maps))
        ones = torch.ones_like(mean)
        _, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            gradient,
            maps,
            ones if weight is None else weight,
            mean,
            variance,
            None,
            None,
            False,
            ctx.eps,
            [False, True, True],
        )
        maps_grad = None
        if ctx.needs_input_grad[0]:
            sums = all_reduce_sum(torch.cat([bias_grad, weight_grad]).double())
            mean_g, mean_gy = (sums / ctx.num_values).to(mean.dtype).chunk(2)
            factor = torch.rsqrt(variance + ctx.eps) * (ones if weight is None else weight)
            # The correction -factor * (mean(g) + y * mean(g * y)) is itself a norm of x.
            correction = F.batch_norm(maps, mean, variance, -factor * mean_gy, -factor * mean_g, training=False, eps=ctx.eps)
            shape = (1, -1, *[1] * (maps.dim() - 2))
            maps_grad = correction.addcmul_(gradient, factor.to(gradient.dtype).reshape(shape))
        has_weight, has_bias = ctx.needs_input_grad[1:3]
        return maps_grad, weight_grad if has_weight else None, bias_grad if has_bias else None, None, None, None, None


def _channels_last_format(maps: torch.Tensor) -> torch.memory_format:
    """The channels-last memory format for 4 or 5 axes."""
    return torch.channels_last if maps.dim() == 4 else torch.channels_last_3d
