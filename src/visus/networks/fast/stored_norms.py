"""A norm by stored statistics with the activation behind it, alone or behind a convolution, one pass over the maps each way.

This file knows the calls of the compiled kernels, and PyTorch's own for gradients of gradients.

Behind a convolution its output is overwritten by what the norm and the activation give, so a training step keeps one map
where PyTorch keeps two or three. The gradient of the gain needs the numbers before the norm. Where the activation is the
identity wherever it is open (none, ReLU, ReLU6) they follow from those behind it; where that would round too coarsely, the
convolution is computed again.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.convolutions import Plan, by_pytorch, computed, gradients
from visus.networks.fast.gradients import gradients_by_pytorch, is_first_order_eager
from visus.networks.fast.norms import ACTIVATIONS, BY_PYTORCH
from visus.networks.fast.windows import TapGeometry

_FROM_BEHIND = ("none", "relu", "relu6")  # activations whose gradient follows from what they gave
_MAX_SHIFT = 16.0  # of a channel, in gains: above it the rounding of what is behind the norm hides what was before it


@dataclass(frozen=True)
class Stored:
    """What a norm in evaluation mode goes by, (C,) float32 each.

    Attributes:
        gain, shift: learned, or kept as they are.
        mean, variance: the stored statistics.
        eps: added to the variance.
    """

    gain: torch.Tensor
    shift: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    eps: float

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All but ``eps``."""
        return self.gain, self.shift, self.mean, self.variance

    def by_pytorch(self, maps: torch.Tensor, activation: str) -> torch.Tensor:
        """The norm and the activation."""
        out = F.batch_norm(maps, self.mean, self.variance, self.gain, self.shift, training=False, eps=self.eps)
        return BY_PYTORCH[activation](out)

    @property
    def line(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The norm is ``scale * x + base``."""
        scale = self.gain.detach().double() * (self.variance.double() + self.eps).rsqrt()
        return scale.float(), (self.shift.detach().double() - self.mean.double() * scale).float()

    def normed(self, is_behind: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The normed number is ``factor * x + offset`` of a number before the norm, or of one behind it."""
        gain, shift = self.gain.detach().double(), self.shift.detach().double()
        factor = 1 / gain if is_behind else (self.variance.double() + self.eps).rsqrt()
        return factor.float(), (-factor * (shift if is_behind else self.mean.double())).float()


class _Normed(torch.autograd.Function):
    """The norm and the activation of maps that others may read too."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        gain: torch.Tensor,
        shift: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        activation: str,
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, gain, shift, mean, variance)
        ctx.eps, ctx.activation = eps, activation
        out = torch.empty_like(maps)
        _forward(maps, Stored(gain, shift, mean, variance, eps), activation, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, *kept = ctx.saved_tensors
        stored, wanted = Stored(kept[0], kept[1], kept[2], kept[3], ctx.eps), ctx.needs_input_grad[:3]
        if is_first_order_eager(gradient):
            found = _backward(gradient, maps, stored, ctx.activation, False, wanted)
        else:

            def again(maps: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
                return Stored(gain, shift, kept[2], kept[3], ctx.eps).by_pytorch(maps, ctx.activation)

            found = gradients_by_pytorch(again, (maps, *kept[:2]), wanted, gradient)
        return *found, None, None, None, None


class _ConvolvedAndNormed(torch.autograd.Function):
    """A convolution, the norm and the activation behind it; nobody else reads what is between them."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        gain: torch.Tensor,
        shift: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        activation: str,
        window: TapGeometry,
        plan: Plan,
    ) -> torch.Tensor:
        between, _ = computed(maps, weight, window, plan)
        between = between.contiguous(memory_format=torch.channels_last)
        is_behind = activation in _FROM_BEHIND
        out = between if is_behind else torch.empty_like(between)
        ctx.is_finite = _forward(between, Stored(gain, shift, mean, variance, eps), activation, out)
        ctx.save_for_backward(maps, weight, gain, shift, mean, variance, out if is_behind else between)
        ctx.eps, ctx.activation, ctx.window, ctx.plan, ctx.is_behind = eps, activation, window, plan, is_behind
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight, *norm, kept = ctx.saved_tensors
        stored, window, plan, activation = (
            Stored(norm[0], norm[1], norm[2], norm[3], ctx.eps),
            ctx.window,
            ctx.plan,
            ctx.activation,
        )
        wants_maps, wants_weight, wants_gain, wants_shift = wanted = ctx.needs_input_grad[:4]
        if not is_first_order_eager(gradient):

            def again(maps: torch.Tensor, weight: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
                between = by_pytorch(maps, weight, window)
                return Stored(gain, shift, norm[2], norm[3], ctx.eps).by_pytorch(between, activation)

            return *gradients_by_pytorch(again, (maps, weight, *norm[:2]), wanted, gradient), *[None] * 6
        is_behind = ctx.is_behind
        if wants_gain and is_behind and not (ctx.is_finite and _is_told_from_behind(stored)):
            kept, _ = computed(maps, weight, window, plan)
            kept, is_behind = kept.contiguous(memory_format=torch.channels_last), False
        asked = (wants_maps or wants_weight, wants_gain, wants_shift)
        of_between, of_gain, of_shift = _backward(gradient, kept, stored, activation, is_behind, asked)
        of_maps = of_weight = None
        if of_between is not None:
            of_maps, of_weight = gradients(of_between, maps, weight, window, plan, (wants_maps, wants_weight))
        return of_maps, of_weight, of_gain, of_shift, *[None] * 6


def normed(maps: torch.Tensor, stored: Stored, activation: str) -> torch.Tensor:
    """``activation(gain * (maps - mean) / sqrt(variance + eps) + shift)`` of maps (N, C, H, W) bfloat16, channels last.

    Args:
        maps: that others may read too.
        stored: what the norm goes by.
        activation: one of ``norms.ACTIVATIONS``.
    """
    out: torch.Tensor = _Normed.apply(maps, *stored.tensors, stored.eps, activation)  # type: ignore[no-untyped-call]
    return out


def convolved_and_normed(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan, stored: Stored, activation: str
) -> torch.Tensor:
    """``normed`` of a convolution of maps (N, C, H, W) bfloat16, channels last, by weights of any floating type."""
    out: torch.Tensor = _ConvolvedAndNormed.apply(  # type: ignore[no-untyped-call]
        maps, weight, *stored.tensors, stored.eps, activation, window, plan
    )
    return out


def _forward(maps: torch.Tensor, stored: Stored, activation: str, out: torch.Tensor) -> bool:
    """Write the norm and the activation of ``maps`` to ``out``, which may be the same; whether all of ``maps`` was finite."""
    library = kernels()
    assert library is not None, "asked only where the kernels are"
    is_finite = ctypes.c_int(0)
    kind, threads = ACTIVATIONS.index(activation), torch.get_num_threads()
    line = stored.line
    given = (_address(maps), *_rows(maps), *map(_address, line))
    check_status(library.visus_stored_norm_forward(*given, kind, _address(out), ctypes.byref(is_finite), threads))
    return bool(is_finite.value)


def _backward(
    gradient: torch.Tensor, kept: torch.Tensor, stored: Stored, activation: str, is_behind: bool, wanted: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of the maps, the gain and the shift; None for one that is not wanted.

    Args:
        gradient: of what came out.
        kept: what came out, where ``is_behind``; else what the norm was given.
        stored: what it goes by.
        activation: one of ``norms.ACTIVATIONS``.
        is_behind: see ``kept``.
        wanted: for each of the three.
    """
    library = kernels()
    assert library is not None, "asked only where the kernels are"
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    wants_maps, wants_gain, wants_shift = wanted
    out = torch.empty_like(kept) if wants_maps else None
    sums = kept.new_empty(2 * kept.shape[1], dtype=torch.float64) if wants_gain or wants_shift else None
    numbers = (*stored.line, *stored.normed(is_behind))
    check_status(
        library.visus_stored_norm_backward(
            *(_address(gradient), _address(kept), int(is_behind), *_rows(kept), *map(_address, numbers)),
            *(ACTIVATIONS.index(activation), _address(out), _address(sums), torch.get_num_threads()),
        )
    )
    of_shift, of_gain = (None, None) if sums is None else sums.float().chunk(2)
    return out, of_gain if wants_gain else None, of_shift if wants_shift else None


def _is_told_from_behind(stored: Stored) -> bool:
    """Whether what was before the norm follows from what is behind it: no channel is a large shift with a small gain."""
    return bool((stored.shift.detach().abs() <= _MAX_SHIFT * stored.gain.detach().abs()).logical_and(stored.gain != 0).all())


def _rows(maps: torch.Tensor) -> tuple[ctypes.c_int64, int]:
    """Positions of all samples, and channels."""
    return ctypes.c_int64(maps.numel() // maps.shape[1]), maps.shape[1]


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
