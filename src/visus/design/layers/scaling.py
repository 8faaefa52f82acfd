"""Layers that multiply values by factors: gates, trained scales, dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visus.design.arguments import Shape, check_count
from visus.design.layers.layer import SameShape, check_number, spatial_size
from visus.design.memory.saved import BYTES_PER_VALUE, Bytes, SavedForBackward, num_bytes
from visus.design.reference import Reference

__all__ = [
    "DropPath",
    "Dropout",
    "Scale",
    "SqueezeExcite",
    "dropout",
    "droppath",
    "scale",
    "se",
]


@dataclass(frozen=True, repr=False)
class SqueezeExcite(SameShape):
    """A gate for each channel, computed from the means of all channels (Hu, Shen and Sun 2018, arXiv:1709.01507).

    A linear layer maps the means to ``squeeze_channels``; an activation and a second linear layer return one factor between
    0 and 1 for each channel. So each output depends on its own position and on
    the whole map.

    Args:
        squeeze_channels: channels between the two linear layers, as a number and not a ratio. EfficientNet uses a quarter of
            the block's input channels, MobileNetV3 a quarter of its inner channels.
        activation: ``"relu"`` or ``"silu"``.
        scale_activation: the function that computes the factor, ``"sigmoid"`` or ``"hardsigmoid"``.

    >>> SqueezeExcite(4).num_parameters((16, 8, 8))
    148
    """

    prefix = word = "se"
    positional = 1
    reference = Reference(
        "z[s] = activation(squeeze_bias[s] + sum(squeeze_weight[s, i]*mean(x[i]) for i in range(C_in)))\n"
        "y[c, q] = x[c, q]*scale_activation(excite_bias[c] + sum(excite_weight[c, s]*z[s] for s in range(squeeze_channels)))",
        "mean is over all positions of a channel.",
        parameters="squeeze_channels*(C_in + 1) + C_in*(squeeze_channels + 1)",
        macs="2*C_in*squeeze_channels",
        example="se(4)",
        drawn=("se(4)",),
        difference="PyTorch has no such layer: it is a pool, two convolutions of kernel 1 and a product.",
    )
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

    def torch_code(self, input_shape: Shape) -> str:
        channels, squeezed, rank = input_shape[0], self.squeeze_channels, len(input_shape) - 1
        names = {"relu": "ReLU", "silu": "SiLU", "sigmoid": "Sigmoid", "hardsigmoid": "Hardsigmoid"}
        layers = [
            f"AdaptiveAvgPool{rank}d(1)",
            f"Conv{rank}d({channels}, {squeezed}, 1)",
            f"{names[self.activation]}()",
            f"Conv{rank}d({squeezed}, {channels}, 1)",
            f"{names[self.scale_activation]}()",
        ]
        return (
            "gate = torch.nn.Sequential(\n" + "".join(f"    torch.nn.{layer},\n" for layer in layers) + ")\ny = x * gate(x)"
        )

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

    Args:
        init: the factors before training.

    >>> from visus.design import scale
    >>> scale(1e-06).text
    'scale(1e-06)'
    """

    prefix = word = "scale"
    is_affine = True
    positional = 1
    reference = Reference(
        "y[c, q] = weight[c]*x[c, q]",
        parameters="C_in",
        example="residual(conv(16, 3, padding=1), gelu, scale(0.1))",
        drawn=("scale(0.1)",),
        difference="PyTorch has no such layer: it is a parameter and a product.",
    )

    init: float = 1e-6

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_number(self, "init")

    def torch_code(self, input_shape: Shape) -> str:
        ones = ", 1" * (len(input_shape) - 1) or ","
        return f"factor = torch.nn.Parameter(torch.full(({input_shape[0]}{ones}), {self.init}))\ny = x * factor"

    def num_parameters(self, input_shape: Shape) -> int:
        return input_shape[0]

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(input=True, backward=(Bytes(0, num_bytes(input_shape)),))


@dataclass(frozen=True, repr=False)
class _Dropping(SameShape):
    """Common base of dropout and droppath. Abstract."""

    positional = 1
    is_affine = True
    is_training_only = True

    p: float = 0.5

    def _mistakes(self) -> list[str]:
        usable = isinstance(self.p, (int, float)) and not isinstance(self.p, bool) and 0 <= self.p < 1
        if usable:
            object.__setattr__(self, "p", float(self.p))
        return super()._mistakes() + ([] if usable else [f"p must be a probability from 0 to below 1, not {self.p!r}."])


class Dropout(_Dropping):
    """In training, each value is 0 with probability ``p``, and the others are divided by ``1 - p``.

    Args:
        p: probability, from 0 to below 1.

    >>> from visus.design import dropout
    >>> dropout(0.5).text
    'dropout(0.5)'
    """

    prefix = word = "dropout"
    reference = Reference(
        "y[n, c, q] = keep[n, c, q]*x[n, c, q]/(1 - p)",
        "keep is 0 with probability p, else 1, drawn for each value. Outside training, y is x.",
        example="linear(64), relu, dropout(0.5)",
        input_shape=(64,),
        drawn=("dropout(0.5)",),
    )

    def torch_code(self, input_shape: Shape) -> str:
        return f"torch.nn.Dropout({self.p})"

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(extra=Bytes(0, num_bytes(input_shape))) if self.p else SavedForBackward(is_view=True)


@dataclass(frozen=True, repr=False)
class DropPath(_Dropping):
    """In training, all values of a sample are 0 with probability ``p``; other samples are divided by ``1 - p``.

    As the last layer of a residual it skips the block for some samples (stochastic depth: Huang et al. 2016,
    arXiv:1603.09382).

    Args:
        p: probability, from 0 to below 1.

    >>> from visus.design import droppath
    >>> droppath(0.1).text
    'droppath(0.1)'
    """

    prefix = word = "droppath"
    reference = Reference(
        "y[n, c, q] = keep[n]*x[n, c, q]/(1 - p)",
        "keep is 0 with probability p, else 1, drawn for each sample. Outside training, y is x.",
        example="residual(conv(16, 3, padding=1), gelu, droppath(0.2))",
        drawn=("droppath(0.25)",),
        difference="PyTorch has no such layer: the code holds in training. Outside training, y is x.",
    )

    p: float = 0.1

    def torch_code(self, input_shape: Shape) -> str:
        ones = ", 1" * len(input_shape)
        return f"keep = torch.rand(len(x){ones}) >= {self.p}\ny = x * keep / (1 - {self.p})"

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(extra=Bytes(0, BYTES_PER_VALUE)) if self.p else SavedForBackward(is_view=True)


se, scale, dropout, droppath = SqueezeExcite, Scale, Dropout, DropPath
