"""The base classes of layers: frozen values that compute their shapes, parameters, multiply-adds, receptive field and
memory.

Shapes are ``(channels, *spatial)`` for a map and ``(features,)`` after flatten, globalpool or linear. One class serves maps of
any number of axes.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import ClassVar, Final

from visus.design.arguments import Shape, plain_whole, write_value
from visus.design.flow import Context, Kind, Normed
from visus.design.items import Item
from visus.design.memory.saved import BYTES_PER_VALUE, SavedForBackward
from visus.errors import DesignError
from visus.geometry import AxisOp, Field, TransposedWindow, Upsampling, Window
from visus.units import write_shape

MAX_AXIS: Final = 1_000_000
_PER_AXIS: Final = ("kernel_size", "stride", "padding", "dilation", "output_padding", "scale_factor")
_OWN_POSITION: Final = Window(1)  # leaves every field as it is


@dataclass(frozen=True, repr=False)
class Layer(Item):
    """One layer. Abstract; each concrete class has its own ``word``, by which ``visus.design.layers.registry`` finds it.

    >>> from visus.design import conv
    >>> layer = conv(8, 3, padding=1)
    >>> layer.output_shape((3, 32, 32)), layer.num_parameters((3, 32, 32))
    ((8, 32, 32), 224)
    """

    positional: ClassVar[int] = 0  # so many arguments are written without their names
    row_kind: ClassVar[Kind] = "values"  # what advice calls it
    context: ClassVar[Context] = "local"  # what each output position depends on
    is_affine: ClassVar[bool] = False  # a weighted sum of its input plus a constant, as a convolution, and no activation
    is_training_only: ClassVar[bool] = False  # does nothing in inference, as dropout
    cancels_bias: ClassVar[bool] = False  # subtracts the mean of each channel, so a bias right before it has no effect
    saved: ClassVar[SavedForBackward]  # unless it follows from shapes and arguments: then ``saved_for_backward`` computes it

    @property
    def text(self) -> str:
        """The layer as the text of a design; arguments with default values are omitted.

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

    def resolved(self, num_classes: int | None, *, norm_follows: bool) -> Layer:
        """The layer with ``classes`` and an undecided bias replaced by their values.

        Args:
            num_classes: number of classes; None if it is unknown.
            norm_follows: whether a layer with ``cancels_bias`` comes right after.
        """
        return self

    # ---- shapes and costs ----

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output, without the batch axis.

        Raises:
            DesignError: the layer cannot take this shape. The message has the numbers, without the layer's path.
        """

    def output_length(self, length: int, axis: int, num_axes: int) -> int | None:
        """Length of one spatial axis after the layer; None if the output is features.

        Raises:
            DoesNotFitError: the axis is too short for the layer's window.
        """
        return length

    def min_input_length(self, output_length: int, axis: int, num_axes: int) -> int:
        """The shortest axis that yields at least ``output_length`` output positions."""
        return output_length

    def num_parameters(self, input_shape: Shape) -> int:
        """Number of trained values."""
        return 0

    def largest_weight(self, input_shape: Shape) -> int:
        """Number of values of the largest trained tensor.

        >>> from visus.design import linear
        >>> linear(10).largest_weight((64,))
        640
        """
        return self.num_parameters(input_shape)

    def bytes_weights(self, input_shape: Shape) -> int:
        """Bytes of all trained values and buffers, as float32."""
        return BYTES_PER_VALUE * self.num_parameters(input_shape)

    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds for one sample; bias, norms and activations are not counted."""
        return 0

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        """What autograd saves of the layer in training, and the layer's buffers.

        Args:
            input_shape, output_shape: without the batch axis.
            is_channels_last: whether the input is channels-last in memory.

        >>> from visus.design import maxpool
        >>> maxpool(2).saved_for_backward((16, 8, 8), (16, 4, 4)).extra  # an int64 for each value
        Bytes(fixed=0, sample=2048)
        """
        return self.saved

    @abstractmethod
    def torch_code(self, input_shape: Shape) -> str:
        """PyTorch code that computes the same for an input of this shape, without the batch axis.

        Either an expression that makes a module, or lines that end with ``y = ...``, computed from a batch ``x``.

        >>> from visus.design import conv
        >>> conv(32, padding=1).torch_code((3, 64, 64))
        'torch.nn.Conv2d(3, 32, 3, padding=1)'
        """

    # ---- what it reads ----

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        """The window on each spatial axis; empty for a layer without one."""
        return ()

    def axis_ops(self, num_axes: int) -> tuple[AxisOp, ...]:
        """The window or the enlargement of each axis; empty if each position reads only itself, or all positions."""
        return self.windows(num_axes)

    def normed(self, input_shape: Shape) -> Normed | None:
        """The values over which a norm takes a mean and a standard deviation; None for any other layer."""
        return None

    def fields_after(self, fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
        """The receptive fields of the output, from those of the layer's input; one for each axis of the network's input."""
        num_axes = len(input_shape) - 1
        if self.context == "global":
            return each_once(Field.hull, fields)
        if self.context == "both" and num_axes:
            return each_once(Field.with_global_context, fields)
        axis_ops = self.axis_ops(num_axes) if num_axes and fields else ()
        if not axis_ops:
            return fields
        found: dict[tuple[AxisOp, int], Field] = {}
        for field, axis_op in zip(fields, axis_ops, strict=True):
            if (axis_op, id(field)) not in found:
                found[axis_op, id(field)] = field if axis_op == _OWN_POSITION else field.through(axis_op)
        return tuple(found[axis_op, id(field)] for field, axis_op in zip(fields, axis_ops, strict=True))


class DoesNotFitError(DesignError):
    """A window that does not fit its map. Internal: ``remedies.explain`` turns it into the error that users see."""


@dataclass(frozen=True, repr=False)
class Windowed(Layer):
    """A layer that changes the size of the map by a window or an enlargement. Abstract."""

    row_kind: ClassVar[Kind] = "window"

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
                    f"{axis_ops_text(axis_ops)} does not fit {map_text(size)}: {self._misfit(axis_op, length)}."
                )
        spatial = tuple(axis_op.output_size(length) for axis_op, length in zip(axis_ops, size, strict=True))
        if max(spatial) > max(MAX_AXIS, *size):
            raise DesignError(
                f"{self.word} makes an axis of {max(spatial):,} px; at most {MAX_AXIS:,} are allowed. Enlarge the map less."
            )
        return (self._out_channels(input_shape), *spatial)

    def output_length(self, length: int, axis: int, num_axes: int) -> int | None:
        axis_op = self.axis_ops(num_axes)[axis]
        if not self.fits(axis_op, length, num_axes):
            raise DoesNotFitError(self._misfit(axis_op, length))
        return axis_op.output_size(length)

    def min_input_length(self, output_length: int, axis: int, num_axes: int) -> int:
        return self.axis_ops(num_axes)[axis].smallest_input(output_length)

    def fits(self, axis_op: AxisOp, length: int, num_axes: int) -> bool:
        """Whether an axis of ``length`` positions of a map of ``num_axes`` axes is long enough for the layer's axis operation on it."""
        return axis_op.fits(length)

    def paddings_to_try(self) -> Many[int]:
        """Other paddings with which a window may fit its map, the nearest first."""
        padding = getattr(self, "padding", None)
        if not isinstance(padding, int):
            return ()
        num_axes = max(len(value) if isinstance(value, tuple) else 1 for value in vars(self).values())
        return range(padding + 1, max(window.span for window in self.windows(num_axes)))

    def kernels_to_try(self) -> Many[object]:
        """Smaller kernels with which a window may fit its map, the largest first."""
        return smaller_kernels(getattr(self, "kernel_size"), min_kernel=1)  # noqa: B009  # a field of the final classes

    def _misfit(self, axis_op: AxisOp, length: int) -> str:
        """The sum that fails."""
        return axis_op.sum_text(length)

    def _out_channels(self, input_shape: Shape) -> int:
        return input_shape[0]


@dataclass(frozen=True, repr=False)
class SameShape(Layer):
    """A layer whose output has the shape of its input. Used only as a base class."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def each_once(change: Callable[[Field], Field], fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The fields after a change, computed once for axes that share a field, as in a square image."""
    found = {id(field): field for field in fields}
    changed = {key: change(field) for key, field in found.items()}
    return tuple(changed[id(field)] for field in fields)


def after_all_channels(fields: tuple[Field, ...], input_shape: Shape) -> tuple[Field, ...]:
    """The fields after a layer that reads all channels of a position: the union for features, unchanged for a map."""
    return each_once(Field.with_global_context, fields) if len(input_shape) == 1 else fields


def smaller_kernels(kernel_size: object, *, min_kernel: int) -> Many[object]:
    """Kernels smaller than this one, the largest first.

    >>> list(smaller_kernels(4, min_kernel=2)), smaller_kernels((3, 2), min_kernel=1)
    ([3, 2], [(2, 1), (1, 1)])
    """
    if isinstance(kernel_size, tuple):
        return [tuple(max(min_kernel, size - less) for size in kernel_size) for less in range(1, max(kernel_size))]
    return range(kernel_size - 1, min_kernel - 1, -1) if isinstance(kernel_size, int) else ()


def spatial_size(input_shape: Shape, word: str) -> Shape:
    """The spatial part of a map's shape.

    Raises:
        DesignError: the shape is that of features.
    """
    if len(input_shape) < 2:
        raise DesignError(
            f"{word} needs a map (channels and at least one axis), and gets {input_shape[0]} features. "
            "Put it before flatten, globalpool or linear."
        )
    return input_shape[1:]


def axis_ops_text(axis_ops: Many[AxisOp]) -> str:
    """``a 5 x 5 window``; with its span if it is dilated."""
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


def check_number(layer: Layer, name: str) -> list[str]:
    """The error message for an argument that is not a finite number; integers become floats."""
    value = getattr(layer, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        object.__setattr__(layer, name, float(value))
        return []
    return [f"{name} must be a number, not {value!r}."]
