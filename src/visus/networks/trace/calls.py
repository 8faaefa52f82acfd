"""One call of an operation while a module is traced, and the table of rules by the operation's name.

This file knows how rules are found and what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from visus.errors import VisusError
from visus.geometry import AxisOp
from visus.networks.trace.coordinates.axis_dims import own_dims
from visus.networks.trace.coordinates.dependence import Shape, Terms

Axes = tuple[Terms, ...]
"""For each axis of the input what a tensor sees of it."""

MARK: Final = "_visus_mark"  # the attribute under which a tensor carries its mark


class Annotation:
    """What a tensor sees, and where it came from if it is a view: a write into a view reaches its source.

    Args:
        axes: what is seen; None where the tensor does not depend on the input.
        shape: the tensor's shape.
        source: the mark of the tensor that this one is a view of.
        replay: gives the axes of the view from those of the source.
        part: gives the view of a tensor, as torch does.

    ``fed`` has the places of the rows that the values come from; None where they are those of the source, or the input's.
    """

    __slots__ = ("axes", "fed", "part", "replay", "seen", "shape", "source", "version")

    def __init__(
        self,
        axes: Axes | None,
        shape: Shape,
        source: Annotation | None = None,
        replay: Callable[[Axes], Axes] | None = None,
        part: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.axes, self.shape, self.source, self.replay, self.part = axes, shape, source, replay, part
        self.fed: frozenset[int] | None = None
        self.version = 0
        self.seen = 0 if source is None else source.version

    def current(self) -> Axes | None:
        """What the tensor sees now, after all that was written into its source."""
        if self.source is not None:
            above = self.source.current()
            if self.source.version != self.seen:
                self.seen = self.source.version
                self.version += 1
                self.axes = None if above is None or self.replay is None else self.replay(above)
        return self.axes


def mark_of(value: Any) -> Annotation | None:
    """The mark of a tensor, where it has one."""
    return value.__dict__.get(MARK) if isinstance(value, Tensor) else None


def axes_of(value: Any) -> Axes | None:
    """What a tensor sees; None for one that does not depend on the input, and for what is no tensor."""
    mark = mark_of(value)
    if mark is None:
        return None
    return mark.axes if mark.source is None else mark.current()


class Call:
    """One call of an operation: its arguments, and the tensor that came out.

    Args:
        name: the operation's name without the underscore of those that work in place.
        func: the operation.
        args, kwargs: its arguments.
        out: what it returned.
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
        "out",
        "padded_px",
        "pads",
        "unread_px",
    )

    def __init__(self, name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, module: Any) -> None:
        self.name, self.func, self.args, self.kwargs, self.out, self.module = name, func, args, kwargs, out, module
        self.aligned = True
        self.is_hull = self.needs_data = False
        self.notes: tuple[str, ...] = ()
        self.unread_px: tuple[int, ...] = ()  # for each axis of the input: positions at the far edge that no window reaches
        self.padded_px: tuple[int, ...] = ()  # and those that were added there
        self.axis_ops: tuple[
            AxisOp, ...
        ] = ()  # what the last dimensions are looked at through, where there is a word for it
        self.pads: tuple[tuple[int, int], ...] = ()  # pixels added before and after the last dimensions

    def axes(self, place: int) -> Axes | None:
        """What the argument at a place sees."""
        return axes_of(self.args[place])

    def shape(self, place: int) -> Shape:
        """The shape of the argument at a place."""
        return tuple(self.args[place].shape)

    @property
    def out_shape(self) -> Shape:
        """The shape of the tensor that came out, or of the first one."""
        out = self.out
        return tuple((out if isinstance(out, Tensor) else out[0]).shape)

    def named(self) -> dict[str, Any]:
        """The arguments by their names in the operation's schema; those not given are absent, or their default."""
        schema = self.func._schema.arguments
        found = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        found.update({argument.name: value for argument, value in zip(schema, self.args, strict=False)})
        found.update(self.kwargs)
        return found

    def seeing(self) -> Iterator[Tensor]:
        """All tensors among the arguments that depend on the input."""
        return seeing(self.args, self.kwargs)

    def own_dims(self, place: int) -> frozenset[int]:
        """The dimensions of an argument that are those of axes of the input."""
        return own_dims(self.axes(place) or ())


def tensors(args: Any) -> Iterator[Tensor]:
    """All tensors in arguments, however deep in lists."""
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def seeing(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """All tensors among arguments that depend on the input."""
    for value in tensors(args):
        if axes_of(value) is not None:
            yield value
    if kwargs:
        for value in tensors(kwargs.values()):
            if axes_of(value) is not None:
                yield value


class RuleError(VisusError):
    """A rule of visus that fails on what it is given: a fault of visus, not of the module."""


class NeedsValuesError(Exception):
    """An operation whose outcome depends on values, met on tensors that have none; the module is run again with data."""


class Hull:
    """What a rule gives that does not know these arguments: the output is taken to see all that the inputs saw."""


HULL: Final = Hull()

Rule = Callable[[Call], "Axes | list[Axes | None] | Hull | None"]
"""Gives what the output sees, or a list for each of several outputs; None for one that does not depend on the input."""

RULES: Final[dict[str, Rule]] = {}


def register(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule for operations by their names."""

    def enter(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return enter


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
