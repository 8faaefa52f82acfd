"""What a layer is: a frozen value that knows its own shapes, parameters, multiply-adds and what it looks through.

Shapes are ``(channels, *spatial)`` for a map and ``(features,)`` after flatten, globalpool or linear. One class serves maps of
any number of axes. This file knows what all layers share.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from visus.design.arguments import Shape, plain_whole, write_value
from visus.design.items import Item
from visus.errors import DesignError
from visus.geometry import AxisOp, TransposedWindow, Upsampling, Window
from visus.units import write_shape

BYTES_PER_VALUE: Final = 4  # float32
MAX_AXIS: Final = 1_000_000
_PER_AXIS: Final = ("kernel_size", "stride", "padding", "dilation", "output_padding", "scale_factor")


@dataclass(frozen=True, repr=False)
class Layer(Item):
    """One layer. Abstract; the classes in ``visus.design.layers.registry`` are final."""

    positional: ClassVar[int] = 0  # so many arguments are written without their names

    @property
    def text(self) -> str:
        """The layer as it is written in a design; arguments that keep their default are left out.

        >>> from visus.design import conv, norm
        >>> conv(32, padding=1).text, norm().text
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

    def bytes_weights(self, input_shape: Shape) -> int:
        """Bytes of all that the layer keeps: trained values as float32, and what it counts or fixes beside them."""
        return BYTES_PER_VALUE * self.num_parameters(input_shape)

    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds for one sample; the additions of a bias, norms and activations count as none."""
        return 0

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        """The window on each spatial axis; empty for a layer that has none."""
        return ()

    def axis_ops(self, num_axes: int) -> tuple[AxisOp, ...]:
        """What each axis is looked at through; empty where each position sees itself alone, or all positions."""
        return self.windows(num_axes)

    @property
    def context(self) -> Literal["local", "global", "both"]:
        """What each number that comes out depends on: its window (or its own position), all positions of the map, or both."""
        return "local"


class DoesNotFitError(DesignError):
    """A window that does not fit its map. It never leaves this room: ``remedies.explain`` makes what a user reads."""


@dataclass(frozen=True, repr=False)
class Windowed(Layer):
    """A layer that changes the size of the map as what it looks through does. Abstract."""

    def _mistakes(self) -> list[str]:
        for name in _PER_AXIS:
            value = getattr(self, name, None)
            if isinstance(value, (list, tuple)) or (value is not None and not isinstance(value, (int, str))):
                object.__setattr__(self, name, plain_whole(value))
        return super()._mistakes()

    def output_shape(self, input_shape: Shape) -> Shape:
        size = spatial_size(input_shape, self.word)
        axis_ops = self.axis_ops(len(size))
        for axis_op, length in zip(axis_ops, size, strict=True):
            if not self.fits(axis_op, length, len(size)):
                raise DoesNotFitError(
                    f"{lens_text(axis_ops)} does not fit {map_text(size)}: {self._misfit(axis_op, length)}."
                )
        spatial = tuple(axis_op.output_size(length) for axis_op, length in zip(axis_ops, size, strict=True))
        if max(spatial) > max(MAX_AXIS, *size):
            raise DesignError(
                f"{self.word} makes an axis of {max(spatial):,} px; at most {MAX_AXIS:,} are allowed. Enlarge the map less."
            )
        return (self._out_channels(input_shape[0]), *spatial)

    def fits(self, axis_op: AxisOp, length: int, num_axes: int) -> bool:
        """Whether an axis of ``length`` positions of a map of ``num_axes`` axes is long enough for the layer's axis operation on it."""
        return axis_op.fits(length)

    def _misfit(self, axis_op: AxisOp, length: int) -> str:
        """The sum that fails."""
        return axis_op.sum_text(length)

    @abstractmethod
    def _out_channels(self, in_channels: int) -> int: ...


@dataclass(frozen=True, repr=False)
class SameShape(Layer):
    """A layer whose output has the shape of its input. Abstract in meaning: it stands for its subclasses."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


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


def lens_text(axis_ops: Many[AxisOp]) -> str:
    """``a 5 x 5 window``; with its span where pixels between are left out."""
    sizes = [axis_op.scale_factor if isinstance(axis_op, Upsampling) else axis_op.kernel_size for axis_op in axis_ops]
    kernel = write_shape(sizes)
    kind = "transposed window" if isinstance(axis_ops[0], TransposedWindow) else "window"
    text = f"{_article(sizes[0])} {kernel} {kind}" if len(axis_ops) > 1 else f"a {kind} of {kernel}"
    span = write_shape(axis_op.span for axis_op in axis_ops)
    return text if span == kernel or kind != "window" else f"{text} that spans {span}"


def map_text(size: Shape) -> str:
    """``a 2 x 2 map``, or ``a length of 2`` on one axis."""
    return f"{_article(size[0])} {write_shape(size)} map" if len(size) > 1 else f"a length of {size[0]}"


def _article(number: int) -> str:
    """``an`` before 8, 11, 18, 80 and the like."""
    return "an" if str(number).startswith("8") or number in (11, 18) else "a"
