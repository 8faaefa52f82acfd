"""The layers, each a frozen value that knows its own shapes, parameters, multiply-adds and windows.

Shapes are ``(channels, *spatial)`` for a map and ``(features,)`` after flatten, globalpool or linear. One class serves maps of
any number of axes. This file knows one layer at a time. It must not know its neighbours, modules, tensors or torch.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from visus.design.arguments import (
    PerAxis,
    check_count,
    check_flag,
    check_whole,
    largest,
    need_number,
    per_axis,
    plain_whole,
    write_value,
)
from visus.design.arguments import Shape as Shape
from visus.design.arguments import classes as classes
from visus.design.items import Item
from visus.errors import DesignError
from visus.geometry import Window, same_padding
from visus.units import write_shape


@dataclass(frozen=True, repr=False)
class Layer(Item):
    """One layer. Abstract; the classes below are final."""

    positional: ClassVar[int] = 0  # so many arguments are written without their names

    @property
    def text(self) -> str:
        """The layer as it is written in a design; arguments that keep their default are left out.

        >>> Conv(32, padding=1).text, Norm().text
        ('conv(32, 3, padding=1)', 'norm')
        """
        parts = []
        for index, argument in enumerate(dataclasses.fields(self)[1:]):  # the first field is the name
            value = getattr(self, argument.name)
            if index < self.positional:
                parts.append(write_value(value))
            elif value != argument.default:
                parts.append(f"{argument.name}={write_value(value)}")
        if self.name is not None:
            parts.append(f"name={self.name!r}".replace("'", '"'))
        return f"{self.word}({', '.join(parts)})" if parts else self.word

    @property
    def num_layers(self) -> int:
        return 1

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of what comes out, without the batch axis.

        Raises:
            DesignError: the layer cannot take this shape; the sentence gives the numbers and does not know the layer's path.
        """

    def num_parameters(self, input_shape: Shape) -> int:
        """Number of trained values."""
        return 0

    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds for one item; the additions of a bias, norms and activations count as none."""
        return 0

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        """The window on each spatial axis; empty where each position sees itself alone, or all positions."""
        return ()

    @property
    def sees(self) -> Literal["window", "map", "window and map"]:
        """What each number that comes out depends on: its window (or its own position), all positions of the map, or both."""
        return "window"


class DoesNotFitError(DesignError):
    """A window that does not fit its map. It never leaves this room: ``remedies.explain`` makes what a user reads."""


@dataclass(frozen=True, repr=False)
class Windowed(Layer):
    """A layer that slides a window over the map."""

    def _mistakes(self) -> list[str]:
        for name in ("kernel_size", "stride", "padding", "dilation"):
            value = getattr(self, name, None)
            if isinstance(value, (list, tuple)) or (value is not None and not isinstance(value, (int, str))):
                object.__setattr__(self, name, plain_whole(value))
        return super()._mistakes()

    def output_shape(self, input_shape: Shape) -> Shape:
        size = spatial_size(input_shape, self.word)
        windows = self.windows(len(size))
        for window, length in zip(windows, size, strict=True):
            if not self.fits(window, length, len(size)):
                raise DoesNotFitError(f"{_window_text(windows)} does not fit {_map_text(size)}: {window.sum_text(length)}.")
        spatial = tuple(window.output_size(length) for window, length in zip(windows, size, strict=True))
        return (self._out_channels(input_shape[0]), *spatial)

    def fits(self, window: Window, length: int, num_axes: int) -> bool:
        """Whether an axis of ``length`` positions of a map of ``num_axes`` axes is long enough for the layer's window on it."""
        return window.fits(length)

    @abstractmethod
    def _out_channels(self, in_channels: int) -> int: ...


@dataclass(frozen=True, repr=False)
class _Convolution(Windowed):
    """What conv and depthwise share. Abstract."""

    def _shape_of_kernel(self, num_axes: int) -> tuple[int, ...]:
        return per_axis("kernel_size", getattr(self, "kernel_size"), num_axes)  # noqa: B009  # fields of the final classes

    @abstractmethod
    def num_groups(self, in_channels: int) -> int:
        """Number of groups of channels that do not see each other."""

    @property
    @abstractmethod
    def has_bias(self) -> bool:
        """Whether a number is added for each output channel; None is read as yes."""

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        values: Any = self
        kernels = self._shape_of_kernel(num_axes)
        strides = per_axis("stride", values.stride, num_axes)
        dilations = per_axis("dilation", values.dilation, num_axes)
        if values.padding == "same":
            pads = tuple(same_padding(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=True))
        else:
            pads = tuple((pad, pad) for pad in per_axis("padding", values.padding, num_axes))
        return tuple(
            Window(kernel, stride, pad, dilation)
            for kernel, stride, pad, dilation in zip(kernels, strides, pads, dilations, strict=True)
        )

    def num_parameters(self, input_shape: Shape) -> int:
        out_channels = self._out_channels(input_shape[0])
        return out_channels * (self._taps(input_shape) + self.has_bias)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * self._taps(input_shape)

    def _taps(self, input_shape: Shape) -> int:
        """Numbers that are multiplied and added for one output value."""
        kernel = self._shape_of_kernel(len(spatial_size(input_shape, self.word)))
        return input_shape[0] // self.num_groups(input_shape[0]) * math.prod(kernel)

    def _mistakes(self) -> list[str]:
        values: Any = self
        mistakes = super()._mistakes()
        mistakes += check_whole("kernel_size", values.kernel_size, least=1, axes=True)
        mistakes += check_whole("stride", values.stride, least=1, axes=True)
        mistakes += self._padding_mistakes()
        mistakes += check_whole("dilation", values.dilation, least=1, axes=True)
        return mistakes + check_flag("bias", values.bias, none_allowed=True)

    def _padding_mistakes(self) -> list[str]:
        values: Any = self
        if isinstance(values.padding, str):
            if values.padding != "same":
                return [f'padding is a number, a tuple of numbers or "same", not {values.padding!r}.']
            if largest(values.stride) > 1:
                return [
                    f'padding="same" needs a stride of 1, and the stride is {values.stride}. Give the padding as a number.'
                ]
            return []
        return check_whole("padding", values.padding, least=0, axes=True)


@dataclass(frozen=True, repr=False)
class Conv(_Convolution):
    """A convolution. The input's channels are never written: they are inferred.

    Args:
        out_channels: number of filters; ``classes`` for one each class.
        kernel_size, stride, padding, dilation: as in torch, one number for all axes or a tuple with one for each;
            ``padding="same"`` keeps the size (stride 1 only; an odd pixel goes to the far edge).
        groups: number of groups of channels that do not see each other.
        bias: whether a number is added for each output channel. None, the default, means: no bias where a ``norm`` (batch
            norm) follows directly, since that subtracts it again; else a bias.

    >>> Conv(64, 3, padding=1, bias=False).output_shape((3, 32, 32))
    (64, 32, 32)
    """

    prefix = word = "conv"
    positional = 2

    out_channels: int | Literal["classes"]
    kernel_size: PerAxis = 3
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    groups: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        mistakes = check_count("out_channels", self.out_channels, or_classes=True) + super()._mistakes()
        return mistakes + check_count("groups", self.groups)

    def num_groups(self, in_channels: int) -> int:
        return self.groups

    @property
    def has_bias(self) -> bool:
        return self.bias is not False

    def output_shape(self, input_shape: Shape) -> Shape:
        out_channels = self._out_channels(input_shape[0])
        shape = super().output_shape(input_shape)
        if input_shape[0] % self.groups or out_channels % self.groups:
            common = math.gcd(input_shape[0], out_channels)
            fitting = [str(groups) for groups in range(1, common + 1) if common % groups == 0]
            shown = fitting if len(fitting) <= 6 else [*fitting[:5], "..", fitting[-1]]
            raise DesignError(
                f"groups={self.groups} must divide the {input_shape[0]} channels that come in and the {out_channels} "
                f"that go out. Groups that do: {', '.join(shown)}."
            )
        return shape

    def _out_channels(self, in_channels: int) -> int:
        return need_number("out_channels", self.out_channels)


@dataclass(frozen=True, repr=False)
class Depthwise(_Convolution):
    """A convolution that sees each channel alone: ``multiplier`` filters for each channel.

    Args:
        kernel_size, stride, padding, dilation, bias: as for ``conv``.
        multiplier: output channels for each input channel.

    >>> Depthwise(3, padding=1, bias=False).num_parameters((32, 8, 8))
    288
    """

    prefix = word = "depthwise"
    positional = 1

    kernel_size: PerAxis = 3
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    multiplier: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_count("multiplier", self.multiplier)

    def num_groups(self, in_channels: int) -> int:
        return in_channels

    @property
    def has_bias(self) -> bool:
        return self.bias is not False

    def _out_channels(self, in_channels: int) -> int:
        return in_channels * self.multiplier


@dataclass(frozen=True, repr=False)
class Pool(Windowed):
    """What maxpool and avgpool share. Abstract.

    Args:
        kernel_size: pixels of the window, one number for all axes or one for each.
        stride: None, the default, means the kernel's size: windows side by side.
        padding: at most half the kernel, as in torch; the average counts padding as zeros.
        ceil_mode: keep a last window that reaches beyond the map.
    """

    prefix = "pool"
    positional = 1

    kernel_size: PerAxis = 2
    stride: PerAxis | None = None
    padding: PerAxis = 0
    ceil_mode: bool = False

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes()
        mistakes += check_whole("kernel_size", self.kernel_size, least=1, axes=True)
        if self.stride is not None:
            mistakes += check_whole("stride", self.stride, least=1, axes=True)
        mistakes += check_whole("padding", self.padding, least=0, axes=True)
        if not mistakes and self._pads_too_much():
            mistakes.append(
                f"padding={self.padding} is more than half of kernel_size={self.kernel_size}: a window would see padding "
                "alone. Use less padding or a larger kernel."
            )
        return mistakes + check_flag("ceil_mode", self.ceil_mode)

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        kernels = per_axis("kernel_size", self.kernel_size, num_axes)
        strides = kernels if self.stride is None else per_axis("stride", self.stride, num_axes)
        pads = per_axis("padding", self.padding, num_axes)
        return tuple(
            Window(kernel, stride, (pad, pad), ceil_mode=self.ceil_mode)
            for kernel, stride, pad in zip(kernels, strides, pads, strict=True)
        )

    def _pads_too_much(self) -> bool:
        num_axes = max(len(value) if isinstance(value, tuple) else 1 for value in (self.kernel_size, self.padding))
        kernels = self.kernel_size if isinstance(self.kernel_size, tuple) else (self.kernel_size,) * num_axes
        pads = self.padding if isinstance(self.padding, tuple) else (self.padding,) * num_axes
        return any(pad > kernel // 2 for pad, kernel in zip(pads, kernels, strict=False))

    def _out_channels(self, in_channels: int) -> int:
        return in_channels


@dataclass(frozen=True, repr=False)
class MaxPool(Pool):
    """The largest value under each window.

    >>> MaxPool(2).output_shape((16, 28, 28))
    (16, 14, 14)
    """

    word = "maxpool"


@dataclass(frozen=True, repr=False)
class AvgPool(Pool):
    """The mean value under each window.

    >>> AvgPool(3, stride=2, padding=1).output_shape((16, 28, 28))
    (16, 14, 14)
    """

    word = "avgpool"

    def fits(self, window: Window, length: int, num_axes: int) -> bool:
        return window.fits(length) and (num_axes < 3 or length >= window.kernel_size)

    def output_shape(self, input_shape: Shape) -> Shape:
        size = input_shape[1:]
        windows = self.windows(len(size)) if len(size) == 3 else ()
        for window, length in zip(windows, size, strict=False):
            if window.fits(length) and not self.fits(window, length, len(size)):
                raise DoesNotFitError(
                    f"torch averages volumes only where the map without its padding is as long as the window, "
                    f"{window.kernel_size}, and it is {write_shape(size)}."
                )
        return super().output_shape(input_shape)


@dataclass(frozen=True, repr=False)
class GlobalPool(Layer):
    """One feature for each channel: the mean (``"avg"``) or the largest (``"max"``) of all its positions.

    >>> GlobalPool().output_shape((512, 7, 7))
    (512,)
    """

    prefix = word = "globalpool"

    kind: Literal["avg", "max"] = "avg"

    @property
    def text(self) -> str:
        """``globalpool`` or ``globalpool("max")``."""
        parts = [] if self.kind == "avg" else [f'"{self.kind}"']
        parts += [] if self.name is None else [f'name="{self.name}"']
        return f"{self.word}({', '.join(parts)})" if parts else self.word

    def _mistakes(self) -> list[str]:
        known = self.kind in ("avg", "max")
        return super()._mistakes() + ([] if known else [f'a global pool is "avg" or "max", not {self.kind!r}.'])

    def output_shape(self, input_shape: Shape) -> Shape:
        spatial_size(input_shape, self.word)
        return input_shape[:1]

    @property
    def sees(self) -> Literal["map"]:
        return "map"


@dataclass(frozen=True, repr=False)
class _SameShape(Layer):
    """A layer whose output has the shape of its input. Abstract in meaning: it stands for its subclasses."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@dataclass(frozen=True, repr=False)
class Norm(_SameShape):
    """Batch norm: each channel to mean 0 and deviation 1 over the batch, then a trained scale and shift."""

    prefix = word = "norm"

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * input_shape[0]


@dataclass(frozen=True, repr=False)
class LayerNorm(_SameShape):
    """Layer norm over the channels, at each position of the map alone, then a trained scale and shift."""

    prefix = word = "layernorm"

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * input_shape[0]


@dataclass(frozen=True, repr=False)
class GroupNorm(_SameShape):
    """Group norm: the channels of each group, over the whole map, to mean 0 and deviation 1; then a trained scale and shift.

    Each output depends on the mean of the map, so its receptive field is that of the windows before it and the whole picture.
    """

    prefix = word = "groupnorm"
    positional = 1

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

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * input_shape[0]

    @property
    def sees(self) -> Literal["window and map"]:
        return "window and map"


@dataclass(frozen=True, repr=False)
class Relu(_SameShape):
    """Negative values become 0."""

    prefix = word = "relu"


@dataclass(frozen=True, repr=False)
class Gelu(_SameShape):
    """The Gaussian error linear unit, in its exact form."""

    prefix = word = "gelu"


@dataclass(frozen=True, repr=False)
class Silu(_SameShape):
    """Each value times its own sigmoid."""

    prefix = word = "silu"


@dataclass(frozen=True, repr=False)
class Softmax(_SameShape):
    """Channels (or features) to shares that add up to 1. Training applies it itself: a classifier does not end with it."""

    prefix = word = "softmax"


@dataclass(frozen=True, repr=False)
class Dropout(_SameShape):
    """In training, each value is 0 with probability ``p``, and the others are divided by ``1 - p``."""

    prefix = word = "dropout"
    positional = 1

    p: float = 0.5

    def _mistakes(self) -> list[str]:
        usable = isinstance(self.p, (int, float)) and not isinstance(self.p, bool) and 0 <= self.p < 1
        if usable:
            object.__setattr__(self, "p", float(self.p))
        return super()._mistakes() + ([] if usable else [f"p is a probability from 0 to below 1, not {self.p!r}."])


@dataclass(frozen=True, repr=False)
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
    def sees(self) -> Literal["map"]:
        return "map"


conv, depthwise, maxpool, avgpool, globalpool = Conv, Depthwise, MaxPool, AvgPool, GlobalPool
norm, layernorm, groupnorm = Norm, LayerNorm, GroupNorm
relu, gelu, silu, softmax = Relu, Gelu, Silu, Softmax
dropout, flatten, linear = Dropout, Flatten, Linear

LAYERS: Final[dict[str, type[Layer]]] = {
    cls.word: cls
    for cls in (
        *(Conv, Depthwise, MaxPool, AvgPool, GlobalPool, Norm, LayerNorm, GroupNorm),
        *(Relu, Gelu, Silu, Flatten, Linear, Dropout, Softmax),
    )
}


def spatial_size(input_shape: Shape, word: str) -> Shape:
    """The spatial part of a map's shape.

    Raises:
        DesignError: the shape is one of features.
    """
    if len(input_shape) < 2:
        raise DesignError(
            f"{word} needs a map (channels and at least one axis), and gets {input_shape[0]} features. "
            "Put it before flatten, globalpool or linear."
        )
    return input_shape[1:]


def _window_text(windows: tuple[Window, ...]) -> str:
    """``a 5 x 5 window``; with its span where pixels between are left out."""
    kernel = write_shape(window.kernel_size for window in windows)
    span = write_shape(window.span for window in windows)
    text = f"a {kernel} window" if len(windows) > 1 else f"a window of {kernel}"
    return text if span == kernel else f"{text} that spans {span}"


def _map_text(size: Shape) -> str:
    """``a 2 x 2 map``, or ``a length of 2`` on one axis."""
    return f"a {write_shape(size)} map" if len(size) > 1 else f"a length of {size[0]}"
