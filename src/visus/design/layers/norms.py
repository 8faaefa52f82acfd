"""Norms: over the batch, over the channels of one position, over groups of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from visus.design.arguments import Shape, check_count
from visus.design.flow import Normed
from visus.design.layers.layer import SameShape, after_all_channels, check_number
from visus.design.memory.saved import BYTES_PER_VALUE, EMPTY, Bytes, SavedForBackward, num_bytes
from visus.design.reference import Reference, torch_call
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
    is_affine = True  # with its running averages, after training
    reference = Reference(
        "y[n, c, q] = weight[c]*(x[n, c, q] - mean(x[:, c]))/sqrt(var(x[:, c]) + eps) + bias[c]",
        "In training, mean and var (divided by the number of values) are over all samples and positions of the batch. "
        "Afterwards they are running averages, stored with the weights.",
        parameters="2*C_in",
        example="conv(16, 3, padding=1), norm, relu",
        input_shape=(3, 32, 32),
        drawn=("norm",),
    )
    cancels_bias = True

    eps: float = field(default=1e-5, kw_only=True)

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_number(self, "eps")
        if not mistakes and self.eps <= 0:
            mistakes.append(f"eps must be above 0, not {self.eps:g}.")
        return mistakes

    def torch_code(self, input_shape: Shape) -> str:
        rank = max(1, len(input_shape) - 1)
        return torch_call(f"BatchNorm{rank}d", input_shape[0], eps=(self.eps, 1e-5))

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
    reference = Reference(
        "y[n, c, q] = weight[c]*(x[n, c, q] - mean(x[n, :, q]))/sqrt(var(x[n, :, q]) + 1/10**5) + bias[c]",
        "mean and var (divided by the number of values) are over the channels of one position.",
        parameters="2*C_in",
        example="conv(16, 3, padding=1), layernorm, gelu",
        input_shape=(3, 32, 32),
        drawn=("layernorm",),
        difference="PyTorch's layer norm normalizes over the last axes, so the channels move to the end and back.",
    )

    def torch_code(self, input_shape: Shape) -> str:
        layer = torch_call("LayerNorm", input_shape[0])
        return layer if len(input_shape) == 1 else f"layer = {layer}\ny = layer(x.movedim(1, -1)).movedim(-1, 1)"

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

    Args:
        num_groups: number of groups of channels; it divides the channels.

    >>> from visus.design import groupnorm
    >>> groupnorm(4).text
    'groupnorm(4)'
    """

    prefix = word = "groupnorm"
    positional = 1
    reference = Reference(
        "y[n, c, q] = weight[c]*(x[n, c, q] - mean(x[n, group(c)]))/sqrt(var(x[n, group(c)]) + 1/10**5) + bias[c]",
        "group(c) is all channels of the group of c. mean and var (divided by the number of values) are over these and all positions.",
        parameters="2*C_in",
        example="conv(16, 3, padding=1), groupnorm(4), relu",
        input_shape=(3, 32, 32),
        drawn=("groupnorm(2)",),
    )
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

    def torch_code(self, input_shape: Shape) -> str:
        return torch_call("GroupNorm", self.num_groups, input_shape[0])

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
