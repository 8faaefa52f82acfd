"""Norms: over the batch, over the channels of one position, over groups of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from visus.design.arguments import Shape, check_count
from visus.design.flow import Normed
from visus.design.layers.layer import SameShape, after_all_channels, check_number
from visus.design.memory.saved import BYTES_PER_VALUE, EMPTY, Bytes, SavedForBackward, num_bytes
from visus.errors import DesignError
from visus.geometry import Field

__all__ = [
    "GroupNorm",
    "LayerNorm",
    "Norm",
    "groupnorm",
    "layernorm",
    "norm",
]

_COUNTER_BYTES: Final = 8  # batch norm counts its batches in a 64-bit number


@dataclass(frozen=True, repr=False)
class _AnyNorm(SameShape):
    """Common base of norms: a trained scale and shift for each channel. Abstract."""

    row_kind = "norm"

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * input_shape[0]

    def largest_weight(self, input_shape: Shape) -> int:
        return input_shape[0]


@dataclass(frozen=True, repr=False)
class Norm(_AnyNorm):
    """Batch norm: normalizes each channel over the batch, then applies a trained scale and shift.

    Args:
        eps: added to the variance before the square root, as in torch. EfficientNet was trained with 0.001.

    >>> Norm(eps=1e-3).text
    'norm(eps=0.001)'
    """

    prefix = word = "norm"
    cancels_bias = True

    eps: float = field(default=1e-5, kw_only=True)

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_number(self, "eps")
        if not mistakes and self.eps <= 0:
            mistakes.append(f"eps must be above 0, not {self.eps:g}.")
        return mistakes

    def bytes_weights(self, input_shape: Shape) -> int:
        return BYTES_PER_VALUE * 4 * input_shape[0] + _COUNTER_BYTES

    def normed(self, input_shape: Shape) -> Normed:
        return Normed("batch", input_shape[0], 1, math.prod(input_shape[1:]))

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        statistics = Bytes(BYTES_PER_VALUE * 2 * input_shape[0], 0)  # a mean and a deviation for each channel
        return SavedForBackward(True, extra=statistics, backward=(Bytes(0, num_bytes(input_shape)),), copies=True)


class LayerNorm(_AnyNorm):
    """Layer norm: normalizes over the channels at each position separately, then applies a trained scale and shift.

    >>> from visus.design import layernorm
    >>> layernorm().text
    'layernorm'
    """

    prefix = word = "layernorm"

    def normed(self, input_shape: Shape) -> Normed:
        return Normed("layer", input_shape[0], 1, input_shape[0])

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        return after_all_channels(fields, input_shape)

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        statistics = Bytes(0, BYTES_PER_VALUE * 2 * math.prod(input_shape[1:]))
        is_map = len(input_shape) > 1
        copy = Bytes(0, num_bytes(input_shape)) if is_map and not is_channels_last else EMPTY
        return SavedForBackward(
            True, extra=statistics, forward=(copy,), backward=(copy,), copies=True, to_channels_last=is_map
        )


@dataclass(frozen=True, repr=False)
class GroupNorm(_AnyNorm):
    """Group norm: normalizes the channels of each group over the whole map, then applies a trained scale and shift.

    Each output depends on the mean of the map, so its receptive field includes the whole image.

    >>> from visus.design import groupnorm
    >>> groupnorm(4).text
    'groupnorm(4)'
    """

    prefix = word = "groupnorm"
    positional = 1
    context = "both"

    num_groups: int

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_count("num_groups", self.num_groups)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[0]
        if channels % self.num_groups:
            fitting = [groups for groups in range(1, channels + 1) if channels % groups == 0]
            nearest = min(fitting, key=lambda groups: abs(groups - self.num_groups))
            raise DesignError(
                f"{channels} channels cannot be cut into {self.num_groups} equal groups. Nearest that can: {nearest}."
            )
        return input_shape

    def normed(self, input_shape: Shape) -> Normed:
        channels = input_shape[0]
        return Normed("group", channels, self.num_groups, channels // self.num_groups * math.prod(input_shape[1:]))

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        if len(input_shape) > 1:
            return super().fields_after(fields, input_shape)
        after = after_all_channels(fields, input_shape)  # of several groups, a feature depends on its own group alone
        return after if self.num_groups == 1 else tuple(replace(field, is_exact=False) for field in after)

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(True, extra=Bytes(0, BYTES_PER_VALUE * 2 * self.num_groups), copies=True)


norm, layernorm, groupnorm = Norm, LayerNorm, GroupNorm
