"""Layers of features: a map laid out in a row, and weighted sums.

This file knows one such layer at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from visus.design.arguments import Shape, check_count, check_flag, need_number
from visus.design.layers.layer import Layer
from visus.errors import DesignError
from visus.units import write_shape


class Flatten(Layer):
    """All values of the map as features in one row.

    >>> Flatten().output_shape((64, 7, 7))
    (3136,)
    """

    prefix = word = "flatten"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """Each output is a weighted sum of all features.

    Args:
        out_features: number of outputs; ``classes`` for one each class.
        bias: whether a number is added to each output.
    """

    prefix = word = "linear"
    positional = 1

    out_features: int | Literal["classes"]
    bias: bool = True

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_count("out_features", self.out_features, or_classes=True)
        return mistakes + check_flag("bias", self.bias)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) > 1:
            raise DesignError(
                f"linear needs features, and gets a map of {write_shape(input_shape)}. Add flatten or globalpool before it."
            )
        return (need_number("out_features", self.out_features),)

    def num_parameters(self, input_shape: Shape) -> int:
        return need_number("out_features", self.out_features) * (input_shape[0] + self.bias)

    def macs(self, input_shape: Shape) -> int:
        return need_number("out_features", self.out_features) * input_shape[0]

    @property
    def context(self) -> Literal["global"]:
        return "global"
