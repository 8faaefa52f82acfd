"""Activations: a function of each value, and softmax over the channels.

A new one needs its class with its ``reference``, its lowercase name at the end of the file, both in ``__all__``, and a builder in
``networks.build``; ``tests/design/test_layers.py`` says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from visus.design.arguments import Shape
from visus.design.layers.layer import SameShape, after_all_channels, check_number
from visus.design.memory.saved import SavedForBackward
from visus.design.reference import Reference
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
    reference = Reference("y = max(0, x)", example="conv(16, 3, padding=1), relu", input_shape=(3, 32, 32))
    saved = SavedForBackward(output=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.ReLU()"


class Relu6(SameShape):
    """Negative values become 0, and those above 6 become 6.

    >>> from visus.design import relu6
    >>> relu6().text
    'relu6'
    """

    prefix = word = "relu6"
    reference = Reference("y = min(max(0, x), 6)", example="conv(16, 3, padding=1), relu6", input_shape=(3, 32, 32))
    saved = SavedForBackward(input=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.ReLU6()"


@dataclass(frozen=True, repr=False)
class LeakyRelu(SameShape):
    """Negative values are multiplied by ``negative_slope``.

    Args:
        negative_slope: the slope below 0.

    >>> from visus.design import leakyrelu
    >>> leakyrelu(0.2).text
    'leakyrelu(negative_slope=0.2)'
    """

    prefix = word = "leakyrelu"
    reference = Reference(
        "y = x if x >= 0 else negative_slope*x", example="conv(16, 3, padding=1), leakyrelu", input_shape=(3, 32, 32)
    )
    saved = SavedForBackward(input=True)

    negative_slope: float = 0.01

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_number(self, "negative_slope")

    def torch_code(self, input_shape: Shape) -> str:
        return f"torch.nn.LeakyReLU({self.negative_slope})"


@dataclass(frozen=True, repr=False)
class Elu(SameShape):
    """Negative values x become ``alpha * (exp(x) - 1)``.

    Args:
        alpha: minus the value that large negative inputs approach.

    >>> from visus.design import elu
    >>> elu().text
    'elu'
    """

    prefix = word = "elu"
    reference = Reference(
        "y = x if x > 0 else alpha*(exp(x) - 1)", example="conv(16, 3, padding=1), elu", input_shape=(3, 32, 32)
    )
    saved = SavedForBackward(input=True)

    alpha: float = 1.0

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_number(self, "alpha")

    def torch_code(self, input_shape: Shape) -> str:
        return f"torch.nn.ELU({self.alpha})"


class Gelu(SameShape):
    """The Gaussian error linear unit, in its exact form.

    >>> from visus.design import gelu
    >>> gelu().text
    'gelu'
    """

    prefix = word = "gelu"
    reference = Reference("y = x*(1 + erf(x/sqrt(2)))/2", example="conv(16, 3, padding=1), gelu", input_shape=(3, 32, 32))
    saved = SavedForBackward(input=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.GELU()"


class Silu(SameShape):
    """Each value times its own sigmoid.

    >>> from visus.design import silu
    >>> silu().text
    'silu'
    """

    prefix = word = "silu"
    reference = Reference("y = x/(1 + exp(-x))", example="conv(16, 3, padding=1), silu", input_shape=(3, 32, 32))
    saved = SavedForBackward(input=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.SiLU()"


class HardSwish(SameShape):
    """Each value times its own hard sigmoid: silu without an exponential (Howard et al. 2019, arXiv:1905.02244).

    >>> from visus.design import hardswish
    >>> hardswish().text
    'hardswish'
    """

    prefix = word = "hardswish"
    reference = Reference(
        "y = x*min(max(0, x + 3), 6)/6", example="conv(16, 3, padding=1), hardswish", input_shape=(3, 32, 32)
    )
    saved = SavedForBackward(input=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Hardswish()"


class Sigmoid(SameShape):
    """Maps each value to between 0 and 1, along an S-shaped curve.

    >>> from visus.design import sigmoid
    >>> sigmoid().text
    'sigmoid'
    """

    prefix = word = "sigmoid"
    reference = Reference("y = 1/(1 + exp(-x))", example="conv(16, 3, padding=1), sigmoid", input_shape=(3, 32, 32))
    saved = SavedForBackward(output=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Sigmoid()"


class HardSigmoid(SameShape):
    """Maps each value to between 0 and 1 along a straight line: 0 up to -3, 1 from 3 on.

    >>> from visus.design import hardsigmoid
    >>> hardsigmoid().text
    'hardsigmoid'
    """

    prefix = word = "hardsigmoid"
    reference = Reference(
        "y = min(max(0, x + 3), 6)/6", example="conv(16, 3, padding=1), hardsigmoid", input_shape=(3, 32, 32)
    )
    saved = SavedForBackward(input=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Hardsigmoid()"


class Tanh(SameShape):
    """Maps each value to between -1 and 1, along an S-shaped curve.

    >>> from visus.design import tanh
    >>> tanh().text
    'tanh'
    """

    prefix = word = "tanh"
    reference = Reference(
        "y = (exp(x) - exp(-x))/(exp(x) + exp(-x))", example="conv(16, 3, padding=1), tanh", input_shape=(3, 32, 32)
    )
    saved = SavedForBackward(output=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Tanh()"


class Softmax(SameShape):
    """Maps channels (or features) to probabilities that sum to 1. The loss applies it itself: a classifier does not end with it.

    >>> from visus.design import softmax
    >>> softmax().text
    'softmax'
    """

    prefix = word = "softmax"
    row_kind = "softmax"
    reference = Reference(
        "y[c] = exp(x[c])/sum(exp(x[i]) for i in range(C_in))",
        "The formula holds at each position.",
        example="flatten, linear(10), softmax",
        drawn=("softmax",),
    )
    saved = SavedForBackward(output=True)

    def torch_code(self, input_shape: Shape) -> str:
        return "torch.nn.Softmax(dim=1)"

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        return after_all_channels(fields, input_shape)


relu, relu6, leakyrelu, elu, gelu, silu, hardswish = Relu, Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish
sigmoid, hardsigmoid, tanh, softmax = Sigmoid, HardSigmoid, Tanh, Softmax
