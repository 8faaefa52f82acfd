"""Layers that output or read features: flatten and linear."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from visus.design.arguments import Shape, check_count, check_flag, classes, need_number
from visus.design.layers.layer import Layer
from visus.design.memory.saved import SavedForBackward
from visus.design.reference import Reference, torch_call
from visus.errors import DesignError
from visus.geometry import Field
from visus.units import write_shape

__all__ = ["Flatten", "Linear", "flatten", "linear"]


class Flatten(Layer):
    """All values of the map as features, channel by channel.

    >>> Flatten().output_shape((64, 7, 7))
    (3136,)
    """

    prefix = word = "flatten"
    is_affine = True
    reference = Reference(
        "y[c*L_in + q] = x[c, q]",
        channels="C_in*prod(L_in)",
        length=None,
        example="flatten",
        drawn=("flatten",),
    )
    saved = SavedForBackward(is_view=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Flatten()"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def output_length(self, length: int, axis: int, num_axes: int) -> int | None:
        return None

    def min_input_length(self, output_length: int, axis: int, num_axes: int) -> int:
        return 1

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        size, total = input_shape[1:], math.prod(input_shape)
        if not size:
            return fields
        return tuple(field.flattened(math.prod(size[axis + 1 :]), total) for axis, field in enumerate(fields))


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """Each output is a weighted sum of all features.

    Args:
        out_features: number of outputs; ``classes`` for one per class.
        bias: whether each output has a trained offset.

    >>> from visus.design import linear
    >>> linear(10).text
    'linear(10)'
    """

    prefix = word = "linear"
    is_affine = True
    reference = Reference(
        "y[o] = bias[o] + sum(weight[o, i]*x[i] for i in range(C_in))",
        channels="out_features",
        length=None,
        parameters="out_features*(C_in + bias)",
        macs="out_features*C_in",
        example="linear(10)",
        input_shape=(64,),
        drawn=("linear(10)",),
    )
    positional = 1
    context = "global"
    saved = SavedForBackward(input=True)

    out_features: int | Literal["classes"]
    bias: bool = True

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_count("out_features", self.out_features, or_classes=True)
        return mistakes + check_flag("bias", self.bias)

    def torch_code(self, input_shape: Shape) -> str:
        out_features = need_number("out_features", self.out_features)
        return torch_call("Linear", input_shape[0], out_features, bias=(self.bias, True))

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) > 1:
            raise DesignError(
                f"linear needs features, but its input is a map of {write_shape(input_shape)}. Add flatten or globalpool before it."
            )
        return (need_number("out_features", self.out_features),)

    def num_parameters(self, input_shape: Shape) -> int:
        return need_number("out_features", self.out_features) * (input_shape[0] + self.bias)

    def macs(self, input_shape: Shape) -> int:
        return need_number("out_features", self.out_features) * input_shape[0]

    def largest_weight(self, input_shape: Shape) -> int:
        return self.macs(input_shape)

    def resolved(self, num_classes: int | None, *, norm_follows: bool) -> Layer:
        if self.out_features == classes and num_classes is not None:
            return dataclasses.replace(self, out_features=num_classes)
        return self


flatten, linear = Flatten, Linear
