"""One call of an operator while a module is traced: its arguments, its output, and what each tensor depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from visus.errors import VisusError
from visus.geometry import AxisOp
from visus.networks.trace.coordinates.dependence import Line, Shape, Terms

if TYPE_CHECKING:
    from visus.networks.trace.operators.registry import Operator

Axes = tuple[Terms, ...]
"""What a tensor depends on along each axis of the input."""

ANNOTATION: Final = "_visus_annotation"  # the attribute of a tensor that holds its annotation


class Annotation:
    """What a tensor depends on, and what it is a view of: a write into a view reaches its source.

    Args:
        axes: what it depends on; None where it does not depend on the input.
        shape: the tensor's shape.
        source: the annotation of the tensor that this one is a view of.
        replay: returns the axes of the view from those of the source.
        part: returns the same view of another tensor.

    ``producers`` has the indices of the rows that the values come from; None where they are those of the source, or the input's.
    """

    __slots__ = ("axes", "part", "producers", "replay", "shape", "source", "source_version", "version")

    def __init__(
        self,
        axes: Axes | None,
        shape: Shape,
        source: Annotation | None = None,
        replay: Callable[[Axes], Axes] | None = None,
        part: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.axes, self.shape, self.source, self.replay, self.part = axes, shape, source, replay, part
        self.producers: frozenset[int] | None = None
        self.version = 0
        self.source_version = 0 if source is None else source.version

    def current(self) -> Axes | None:
        """What the tensor depends on now, after all that was written into its source."""
        if self.source is not None:
            above = self.source.current()
            if self.source.version != self.source_version:
                self.source_version = self.source.version
                self.version += 1
                self.axes = None if above is None or self.replay is None else self.replay(above)
        return self.axes


def annotation_of(value: Any) -> Annotation | None:
    """The annotation of a tensor, if it has one."""
    return value.__dict__.get(ANNOTATION) if isinstance(value, Tensor) else None


def axes_of(value: Any) -> Axes | None:
    """What a tensor depends on; None for one that does not depend on the input, and for what is no tensor."""
    annotation = annotation_of(value)
    if annotation is None:
        return None
    return annotation.axes if annotation.source is None else annotation.current()


class Call:
    """One call of an operator: its arguments and its output. A rule sets what else it finds out.

    Args:
        operator: what is known of the operator.
        func: the operator, as torch dispatches it.
        args, kwargs: its arguments.
        out: what it returned.
        module: the layer that is running, where one is.
    """

    __slots__ = (
        "aligned",
        "args",
        "axis_ops",
        "func",
        "is_hull",
        "kwargs",
        "module",
        "name",
        "needs_data",
        "notes",
        "operator",
        "out",
        "padded_px",
        "pads",
        "unread_px",
    )

    def __init__(
        self, operator: Operator, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, module: Any
    ) -> None:
        self.operator, self.name, self.func = operator, operator.name, func
        self.args, self.kwargs, self.out, self.module = args, kwargs, out, module
        self.aligned = True
        self.is_hull = self.needs_data = False
        self.notes: tuple[str, ...] = ()
        self.unread_px: tuple[int, ...] = ()  # for each axis of the input: positions at the far edge that no window reads
        self.padded_px: tuple[int, ...] = ()  # and those that were added there
        self.axis_ops: tuple[AxisOp, ...] = ()  # how the last dimensions are read, where geometry has a word for it
        self.pads: tuple[tuple[int, int], ...] = ()  # pixels added before and after the last dimensions

    def axes(self, place: int) -> Axes | None:
        """What an argument depends on."""
        return axes_of(self.args[place])

    def shape(self, place: int) -> Shape:
        """The shape of an argument."""
        return tuple(self.args[place].shape)

    @property
    def out_shape(self) -> Shape:
        """The shape of the output, or of the first of several."""
        out = self.out
        return tuple((out if isinstance(out, Tensor) else out[0]).shape)

    def named(self) -> dict[str, Any]:
        """The arguments by their names in the operator's schema; those not given are absent, or their default."""
        schema = self.func._schema.arguments
        found = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        found.update({argument.name: value for argument, value in zip(schema, self.args, strict=False)})
        found.update(self.kwargs)
        return found

    def dependent_tensors(self) -> Iterator[Tensor]:
        """All tensors among the arguments that depend on the input."""
        return dependent_tensors(self.args, self.kwargs)

    def map_axes(self, rule: Callable[[Terms], Terms]) -> Axes:
        """What the output depends on where each axis of the first argument follows the same rule."""
        return tuple(rule(terms) for terms in self.axes(0) or ())

    def own_dims(self, place: int) -> frozenset[int]:
        """The dimensions of an argument that are those of axes of the input."""
        return own_dims(self.axes(place) or (), self.shape(place))


def own_dims(axes: Axes, shape: Shape) -> frozenset[int]:
    """The dimensions of a tensor that are those of axes of the input."""
    found = set()
    for terms in axes:
        for term in terms:
            if isinstance(term, Line):
                if term.dim is not None and term.inner == 1 and term.length == shape[term.dim]:
                    found.add(term.dim)
            elif term.own is not None:
                found.add(term.own)
    return frozenset(found)


def tensors(args: Any) -> Iterator[Tensor]:
    """All tensors in arguments, however deep in lists."""
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def dependent_tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """All tensors among arguments that depend on the input."""
    for value in tensors(args):
        if axes_of(value) is not None:
            yield value
    if kwargs:
        for value in tensors(kwargs.values()):
            if axes_of(value) is not None:
                yield value


class RuleError(VisusError):
    """A rule of visus failed: a fault of visus, not of the module."""


class NeedsValuesError(Exception):
    """The output of an operator depends on values, and its inputs have none; the module is run again with data."""


class Hull:
    """What a rule returns for arguments that it cannot follow: the output may depend on all that the inputs depend on."""


HULL: Final = Hull()


def per_axis(value: Any, num_axes: int) -> tuple[int, ...]:
    """A number, or a list with one for each axis or one for all, as one for each."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * num_axes if len(numbers) == 1 and num_axes > 1 else numbers


def meta_like(value: Any) -> Any:
    """Arguments with every tensor that has data replaced by one that has none."""
    if isinstance(value, Tensor):
        if value.is_meta:
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)(meta_like(each) for each in value)
    return value
