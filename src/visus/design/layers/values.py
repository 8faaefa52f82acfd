"""Layers that keep the shape and change the values: norms, activations, gates, scales, dropout.

A layer without arguments is a plain subclass. A new layer needs its class, its lowercase name at the end of this file, both in
``__all__``, and a builder in ``networks.build``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from visus.design.arguments import Shape, check_count
from visus.design.flow import Normed
from visus.design.layers.layer import SameShape, each_once, spatial_size
from visus.design.memory.saved import BYTES_PER_VALUE, EMPTY, Bytes, SavedForBackward, num_bytes
from visus.errors import DesignError
from visus.geometry import Field

__all__ = [
    "DropPath",
    "Dropout",
    "Elu",
    "Gelu",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "LayerNorm",
    "LeakyRelu",
    "Norm",
    "Relu",
    "Relu6",
    "Scale",
    "Sigmoid",
    "Silu",
    "Softmax",
    "SqueezeExcite",
    "Tanh",
    "dropout",
    "droppath",
    "elu",
    "gelu",
    "groupnorm",
    "hardsigmoid",
    "hardswish",
    "layernorm",
    "leakyrelu",
    "norm",
    "relu",
    "relu6",
    "scale",
    "se",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]

_COUNTER_BYTES: Final = 8  # batch norm counts its batches in a 64-bit number


@dataclass(frozen=True, repr=False)
class _AnyNorm(SameShape):
    """What norms share: a trained scale and shift for each channel. Abstract."""

    row_kind = "norm"

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * input_shape[0]

    def largest_weight(self, input_shape: Shape) -> int:
        return input_shape[0]


@dataclass(frozen=True, repr=False)
class Norm(_AnyNorm):
    """Batch norm: each channel to mean 0 and deviation 1 over the batch, then a trained scale and shift.

    Args:
        eps: added to the variance before its root is taken, as in torch. EfficientNet was trained with 0.001.

    >>> Norm(eps=1e-3).text
    'norm(eps=0.001)'
    """

    prefix = word = "norm"
    cancels_bias = True

    eps: float = field(default=1e-5, kw_only=True)

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + _number(self, "eps")
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
    """Layer norm over the channels, at each position of the map alone, then a trained scale and shift."""

    prefix = word = "layernorm"

    def normed(self, input_shape: Shape) -> Normed:
        return Normed("layer", input_shape[0], 1, input_shape[0])

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        return _after_all_channels(fields, input_shape)

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
    """Group norm: the channels of each group, over the whole map, to mean 0 and deviation 1; then a trained scale and shift.

    Each output depends on the mean of the map, so its receptive field is that of the windows before it and the whole image.
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
        after = _after_all_channels(fields, input_shape)  # of several groups, a feature depends on its own group alone
        return after if self.num_groups == 1 else tuple(replace(field, is_exact=False) for field in after)

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(True, extra=Bytes(0, BYTES_PER_VALUE * 2 * self.num_groups), copies=True)


class Relu(SameShape):
    """Negative values become 0."""

    prefix = word = "relu"
    saved = SavedForBackward(output=True)


class Relu6(SameShape):
    """Negative values become 0, and those above 6 become 6."""

    prefix = word = "relu6"
    saved = SavedForBackward(input=True)


@dataclass(frozen=True, repr=False)
class LeakyRelu(SameShape):
    """Negative values are multiplied by ``negative_slope``."""

    prefix = word = "leakyrelu"
    saved = SavedForBackward(input=True)

    negative_slope: float = 0.01

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + _number(self, "negative_slope")


@dataclass(frozen=True, repr=False)
class Elu(SameShape):
    """Negative values x become ``alpha * (exp(x) - 1)``."""

    prefix = word = "elu"
    saved = SavedForBackward(input=True)

    alpha: float = 1.0

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + _number(self, "alpha")


class Gelu(SameShape):
    """The Gaussian error linear unit, in its exact form."""

    prefix = word = "gelu"
    saved = SavedForBackward(input=True)


class Silu(SameShape):
    """Each value times its own sigmoid."""

    prefix = word = "silu"
    saved = SavedForBackward(input=True)


class HardSwish(SameShape):
    """Each value times its own hard sigmoid: silu without an exponential (Howard et al. 2019, arXiv:1905.02244)."""

    prefix = word = "hardswish"
    saved = SavedForBackward(input=True)


class Sigmoid(SameShape):
    """Values to between 0 and 1."""

    prefix = word = "sigmoid"
    saved = SavedForBackward(output=True)


class HardSigmoid(SameShape):
    """Values to between 0 and 1 along a straight line: 0 up to -3, 1 from 3 on."""

    prefix = word = "hardsigmoid"
    saved = SavedForBackward(input=True)


class Tanh(SameShape):
    """Values to between -1 and 1."""

    prefix = word = "tanh"
    saved = SavedForBackward(output=True)


class Softmax(SameShape):
    """Channels (or features) to probabilities that sum to 1. The loss applies it itself: a classifier does not end with it."""

    prefix = word = "softmax"
    row_kind = "softmax"
    saved = SavedForBackward(output=True)

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        return _after_all_channels(fields, input_shape)


@dataclass(frozen=True, repr=False)
class SqueezeExcite(SameShape):
    """A gate for each channel from the means of all channels (Hu, Shen and Sun 2018, arXiv:1709.01507).

    The mean of each channel over the map goes through a linear layer to ``squeeze_channels``, an activation, and a linear layer
    back to a number for each channel, which becomes a factor between 0 and 1. So each output depends on its own position and on
    the whole map.

    Args:
        squeeze_channels: width between the two layers, in channels. It is no ratio: EfficientNet writes a quarter of the channels
            before the block, MobileNetV3 a quarter of those inside.
        activation: ``"relu"`` or ``"silu"``.
        scale_activation: what makes the factor, ``"sigmoid"`` or ``"hardsigmoid"``.

    >>> SqueezeExcite(4).num_parameters((16, 8, 8))
    148
    """

    prefix = word = "se"
    positional = 1
    context = "both"

    squeeze_channels: int
    activation: Literal["relu", "silu"] = "relu"
    scale_activation: Literal["sigmoid", "hardsigmoid"] = "sigmoid"

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_count("squeeze_channels", self.squeeze_channels)
        if self.activation not in ("relu", "silu"):
            mistakes.append(f'activation of se is "relu" or "silu", not {self.activation!r}.')
        if self.scale_activation not in ("sigmoid", "hardsigmoid"):
            mistakes.append(f'scale_activation of se is "sigmoid" or "hardsigmoid", not {self.scale_activation!r}.')
        return mistakes

    def output_shape(self, input_shape: Shape) -> Shape:
        spatial_size(input_shape, self.word)
        return input_shape

    def num_parameters(self, input_shape: Shape) -> int:
        channels = input_shape[0]
        return self.squeeze_channels * (channels + 1) + channels * (self.squeeze_channels + 1)

    def macs(self, input_shape: Shape) -> int:
        return 2 * self.squeeze_channels * input_shape[0]

    def largest_weight(self, input_shape: Shape) -> int:
        return input_shape[0] * self.squeeze_channels

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        """Means, values between the two linear layers (twice for silu), and factors (twice for hardsigmoid)."""
        values = input_shape[0] + self.squeeze_channels * (2 if self.activation == "silu" else 1)
        values += input_shape[0] * (2 if self.scale_activation == "hardsigmoid" else 1)
        product = Bytes(0, num_bytes(input_shape))
        return SavedForBackward(input=True, extra=Bytes(0, BYTES_PER_VALUE * values), backward=(product,))


@dataclass(frozen=True, repr=False)
class Scale(SameShape):
    """A trained factor for each channel, initially ``init`` (layer scale: Touvron et al. 2021, arXiv:2103.17239).

    At the end of a residual, a small initial factor makes the block start near the identity.
    """

    prefix = word = "scale"
    positional = 1

    init: float = 1e-6

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + _number(self, "init")

    def num_parameters(self, input_shape: Shape) -> int:
        return input_shape[0]

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(input=True, backward=(Bytes(0, num_bytes(input_shape)),))


@dataclass(frozen=True, repr=False)
class _Dropping(SameShape):
    """What dropout and droppath share. Abstract."""

    positional = 1
    is_training_only = True

    p: float = 0.5

    def _mistakes(self) -> list[str]:
        usable = isinstance(self.p, (int, float)) and not isinstance(self.p, bool) and 0 <= self.p < 1
        if usable:
            object.__setattr__(self, "p", float(self.p))
        return super()._mistakes() + ([] if usable else [f"p is a probability from 0 to below 1, not {self.p!r}."])


class Dropout(_Dropping):
    """In training, each value is 0 with probability ``p``, and the others are divided by ``1 - p``."""

    prefix = word = "dropout"

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(extra=Bytes(0, num_bytes(input_shape))) if self.p else SavedForBackward(is_view=True)


@dataclass(frozen=True, repr=False)
class DropPath(_Dropping):
    """In training, all values of a sample are 0 with probability ``p``; other samples are divided by ``1 - p``.

    As the last layer of a residual it skips the block for some samples (stochastic depth: Huang et al. 2016,
    arXiv:1603.09382).
    """

    prefix = word = "droppath"

    p: float = 0.1

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(extra=Bytes(0, BYTES_PER_VALUE)) if self.p else SavedForBackward(is_view=True)


norm, layernorm, groupnorm = Norm, LayerNorm, GroupNorm
relu, relu6, leakyrelu, elu, gelu, silu, hardswish = Relu, Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish
sigmoid, hardsigmoid, tanh, softmax = Sigmoid, HardSigmoid, Tanh, Softmax
se, scale, dropout, droppath = SqueezeExcite, Scale, Dropout, DropPath


def _after_all_channels(fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
    """The fields after a layer that reads all channels of a position: all features, or nothing more of a map."""
    return each_once(Field.with_global_context, fields) if len(input_shape) == 1 else fields


def _number(layer: Norm | LeakyRelu | Elu | Scale, name: str) -> list[str]:
    """The mistake of an argument that is no finite number; a whole one becomes a float."""
    value = getattr(layer, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        object.__setattr__(layer, name, float(value))
        return []
    return [f"{name} must be a number, not {value!r}."]
