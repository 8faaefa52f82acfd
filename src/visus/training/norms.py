"""Batch norms that go by the statistics of the whole batch, of which several processes have a slice each.

This file knows the arithmetic of batch norms and how processes add up.

PyTorch has this for graphics processors alone (``nn.SyncBatchNorm``), and it is used there. On a processor the same is done with PyTorch's own
kernels, or together with the activation behind the norm by those of ``networks.fast``: each process measures its slice, the sums are added up,
and what each kernel gets are the statistics of the whole batch.

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

from visus.networks.fast import SharedNorm, plain
from visus.training.distribution import all_reduce_sum


@contextlib.contextmanager
def whole_batch_norms(module: nn.Module, *, is_alone: bool) -> Iterator[None]:
    """A block in which the batch norms of ``module``, in training mode, go by what all processes have together; the same layers otherwise.

    Args:
        module: any network; only the classes of its layers change, and are as they were afterwards.
        is_alone: there is no other process, and nothing to do.
    """
    if is_alone:
        yield
        return
    with plain(module):  # what a person sped up goes by measurements of this process alone
        changed = [part for part in module.modules() if type(part) in _TOGETHER]
        for part in changed:
            part.__class__ = _TOGETHER[type(part)]
        try:
            yield
        finally:
            for part in changed:
                part.__class__ = _APART[type(part)]


class _Together:
    """What the norms of all ranks share."""

    process_group = None  # as nn.SyncBatchNorm reads it: all processes

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        """N C * -> N C *."""
        if not self.training:
            return super().forward(input)  # type: ignore[misc, no-any-return]
        self._check_input_dim(input)
        if input.device.type != "cpu":
            return nn.SyncBatchNorm.forward(self, input)
        mean, variance, num_values = _measured(input.detach())
        if self.track_running_stats:
            self._note(mean, variance, num_values)
        out: torch.Tensor = _Normalized.apply(input, self.weight, self.bias, mean, variance, self.eps, num_values)  # type: ignore[no-untyped-call]
        return out

    def _check_non_zero_input_channels(self, input: torch.Tensor) -> None:
        """Called by ``nn.SyncBatchNorm``; a design cannot have such a map."""

    @torch.no_grad()
    def _note(self: Any, mean: torch.Tensor, variance: torch.Tensor, num_values: int) -> None:
        """Draw the stored statistics toward these, as PyTorch does: without bias, and by the count where there is no momentum."""
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (num_values / (num_values - 1))).to(self.running_var.dtype), share)


class _Together1d(_Together, nn.BatchNorm1d):
    pass


class _Together2d(_Together, SharedNorm):
    """Where an activation follows, both can be computed together (``networks.fast``), by sums that are added up here."""

    all_reduce_sum = staticmethod(all_reduce_sum)


class _Together3d(_Together, nn.BatchNorm3d):
    pass


_TOGETHER: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Together1d,
    nn.BatchNorm2d: _Together2d,
    nn.BatchNorm3d: _Together3d,
}
_APART = {together: apart for apart, together in _TOGETHER.items()}


def _measured(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and variance (C,) of each channel over all slices, and how many values of a channel there are in all.

    The sums are added in float64: the squared mean that is taken away again then costs no digits.
    """
    kind = torch.float64 if maps.dtype == torch.float64 else torch.float32
    num_channels = maps.shape[1]
    unread = maps.new_zeros(num_channels, dtype=kind), maps.new_ones(num_channels, dtype=kind)
    mean, variance = (each.double() for each in torch.batch_norm_update_stats(maps, *unread, 1.0))
    count = maps.numel() // num_channels
    # In the form of `networks.fast`, so that slices of other sizes may be computed in another way.
    sums = all_reduce_sum(torch.cat([mean, variance + mean.square(), mean.new_ones(1)]) * count)
    num_values = int(sums[-1])
    mean, squares = (sums[:-1] / num_values).chunk(2)
    return mean.to(kind), (squares - mean.square()).clamp_min(0).to(kind), num_values


class _Normalized(torch.autograd.Function):
    """``F.batch_norm`` by given statistics, with the gradient of statistics that were measured on all slices."""

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
        """Maps (N, C, *), normalized, in their type."""
        ctx.save_for_backward(maps, weight, mean, variance)
        ctx.eps, ctx.num_values = eps, num_values
        return F.batch_norm(maps, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the maps, and of weight and bias from this process's slice alone, as those of all other weights are.

        With y = (x - mean) / deviation and g the gradient of the output, the gradient of x is
        weight / deviation * (g - mean(g) - y * mean(g * y)), its means over the whole batch (Ioffe and Szegedy 2015, section 3).
        """
        maps, weight, mean, variance = ctx.saved_tensors
        if gradient.dim() > 3 and maps.is_contiguous(memory_format=_last(maps)):
            gradient = gradient.contiguous(memory_format=_last(maps))
        ones = torch.ones_like(mean)
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
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
        of_maps = None
        if ctx.needs_input_grad[0]:
            sums = all_reduce_sum(torch.cat([of_bias, of_weight]).double())
            mean_g, mean_gy = (sums / ctx.num_values).to(mean.dtype).chunk(2)
            factor = torch.rsqrt(variance + ctx.eps) * (ones if weight is None else weight)
            # What is taken away is itself a norm of x: -factor * (mean(g) + y * mean(g * y)).
            taken = F.batch_norm(maps, mean, variance, -factor * mean_gy, -factor * mean_g, training=False, eps=ctx.eps)
            shape = (1, -1, *[1] * (maps.dim() - 2))
            of_maps = taken.addcmul_(gradient, factor.to(gradient.dtype).reshape(shape))
        has_weight, has_bias = ctx.needs_input_grad[1:3]
        return of_maps, of_weight if has_weight else None, of_bias if has_bias else None, None, None, None, None


def _last(maps: torch.Tensor) -> torch.memory_format:
    """Channels last for maps of this many axes."""
    return torch.channels_last if maps.dim() == 4 else torch.channels_last_3d
