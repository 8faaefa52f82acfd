"""Activations: a function of each value, and softmax over the channels.

A new one needs its class, its lowercase name at the end of the file, both in ``__all__``, and a builder in ``networks.build``;
``tests/design/test_layers.py`` says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from visus.design.arguments import Shape
from visus.design.layers.layer import SameShape, after_all_channels, check_number
from visus.design.memory.saved import SavedForBackward
from visus.geometry import Field

__all__ = [
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Relu",
    "Relu6",
    "Sigmoid",
    "Silu",
    "Softmax",
    "Tanh",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "leakyrelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]


class Relu(SameShape):
    """Negative values become 0.

    >>> from visus.design import relu
    >>> relu().text
    'relu'
    """

    prefix = word = "relu"
    saved = SavedForBackward(output=True)


class Relu6(SameShape):
    """Negative values become 0, and those above 6 become 6.

    >>> from visus.design import relu6
    >>> relu6().text
    'relu6'
    """

    prefix = word = "relu6"
    saved = SavedForBackward(input=True)


@dataclass(frozen=True, repr=False)
class LeakyRelu(SameShape):
    """Negative values are multiplied by ``negative_slope``.

    >>> from visus.design import leakyrelu
    >>> leakyrelu(0.2).text
    'leakyrelu(negative_slope=0.2)'
    """

    prefix = word = "leakyrelu"
    saved = SavedForBackward(input=True)

    negative_slope: float = 0.01

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_number(self, "negative_slope")


@dataclass(frozen=True, repr=False)
class Elu(SameShape):
    """Negative values x become ``alpha * (exp(x) - 1)``.

    >>> from visus.design import elu
    >>> elu().text
    'elu'
    """

    prefix = word = "elu"
    saved = SavedForBackward(input=True)

    alpha: float = 1.0

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_number(self, "alpha")


class Gelu(SameShape):
    """The Gaussian error linear unit, in its exact form.

    >>> from visus.design import gelu
    >>> gelu().text
    'gelu'
    """

    prefix = word = "gelu"
    saved = SavedForBackward(input=True)


class Silu(SameShape):
    """Each value times its own sigmoid.

    >>> from visus.design import silu
    >>> silu().text
    'silu'
    """

    prefix = word = "silu"
    saved = SavedForBackward(input=True)


class HardSwish(SameShape):
    """Each value times its own hard sigmoid: silu without an exponential (Howard et al. 2019, arXiv:1905.02244).

    >>> from visus.design import hardswish
    >>> hardswish().text
    'hardswish'
    """

    prefix = word = "hardswish"
    saved = SavedForBackward(input=True)


class Sigmoid(SameShape):
    """Values to between 0 and 1.

    >>> from visus.design import sigmoid
    >>> sigmoid().text
    'sigmoid'
    """

    prefix = word = "sigmoid"
    saved = SavedForBackward(output=True)


class HardSigmoid(SameShape):
    """Values to between 0 and 1 along a straight line: 0 up to -3, 1 from 3 on.

    >>> from visus.design import hardsigmoid
    >>> hardsigmoid().text
    'hardsigmoid'
    """

    prefix = word = "hardsigmoid"
    saved = SavedForBackward(input=True)


class Tanh(SameShape):
    """Values to between -1 and 1.

    >>> from visus.design import tanh
    >>> tanh().text
    'tanh'
    """

    prefix = word = "tanh"
    saved = SavedForBackward(output=True)


class Softmax(SameShape):
    """Channels (or features) to probabilities that sum to 1. The loss applies it itself: a classifier does not end with it.

    >>> from visus.design import softmax
    >>> softmax().text
    'softmax'
    """

    prefix = word = "softmax"
    row_kind = "softmax"
    saved = SavedForBackward(output=True)

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        return after_all_channels(fields, input_shape)


relu, relu6, leakyrelu, elu, gelu, silu, hardswish = Relu, Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish
sigmoid, hardsigmoid, tanh, softmax = Sigmoid, HardSigmoid, Tanh, Softmax
