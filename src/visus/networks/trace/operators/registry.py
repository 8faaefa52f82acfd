"""The registry of torch's operators: one registration has everything about an operator, and no other file of the trace names
one.

To add an operator, such as ``aten::frexp``:

1. In the file of its family, write its rule: what each output depends on, from what the arguments depend on (``call.axes(0)``).
2. Decorate the rule. ``kind`` is required, every other column of ``Columns`` has a default::

       @operator("frexp", kind="values")
       def mantissa_and_exponent(call: Call) -> list[Axes | None]:
           return [call.axes(0)] * 2

3. Add a module with it to ``tests/networks/trace/hard_modules.py``, which compares its rows with an independent measurement.

Several ``@operator`` above a rule share it, each with its own columns. ``register`` adds an operator without a rule: its
output may depend on everything that its inputs depend on, and its row is noted as "hull". An operator with one output that
torch tags as pointwise needs no registration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor

from visus.design.flow import Kind, Normed
from visus.errors import VisusError
from visus.geometry import AxisOp
from visus.networks.trace.annotation import Axes, axes_of, dependent_tensors, tensors
from visus.networks.trace.coordinates.axis_dims import own_dims
from visus.networks.trace.coordinates.dependence import Shape, Terms

ShapeFunction = Callable[[Sequence[Any], dict[str, Any]], Any]
"""Returns the output without data, from the arguments; None where they are unusual, so that torch computes it."""

Count = Callable[[Sequence[Any], Any], int]
"""Returns a number of multiply-adds or of bytes, from the arguments and the output."""

Effect = Literal["new", "view", "in place", "out"]
"""What an operator returns: a new tensor, a view, its first argument overwritten, or an argument named ``out``."""


class RuleError(VisusError):
    """A rule of visus failed: a bug in visus, not in the module."""


class NeedsValuesError(Exception):
    """The output of an operator depends on values, but its inputs have no data; the module then runs again with data."""


class Hull:
    """The result of a rule for unsupported arguments: the output may depend on everything that the inputs depend on."""


HULL: Final = Hull()


Rule = Callable[["Call"], "Axes | list[Axes | None] | Hull | None"]
"""Returns what the output depends on, or a list for several outputs; None for an output that does not depend on the input."""

AnyRule = TypeVar("AnyRule", bound=Rule)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The fields of a registration.

    Args:
        kind: kind of its row, as in ``visus.design.flow``; ``"values"`` if no other fits; ``"move"`` for operators such as ``view`` that compute
            nothing and get no row of their own.
        rule: returns what its output depends on; default: everything that its inputs depend on (a hull).
        shape: returns the output without data (shape, dtype, strides), faster than torch; default: torch runs the operator on meta tensors.
        macs: returns its multiply-adds, half the FLOPs of ``torch.utils.flop_counter``; default: 0.
        is_counted: False if it multiplies matrices internally and the number of multiply-adds is unknown.
        label: its name in rows; default: its own name without underscores.
        workspace_bytes: returns the bytes of temporary buffers, without inputs and outputs; default: 0.
        normalizes: for a norm, returns the values that share a mean and a variance; None if advice does not cover it.
        is_affine: whether it is a weighted sum of its input plus a constant, if only one argument depends on the input; ``"move"`` implies it.
        pad_mode: for padding, the source of the new values.
        read_arguments: the arguments whose values matter, where the output's shape depends on values; default: all.
        copied_argument: the position of the argument that its output is a copy of, if that is not the first.
        is_uninitialized: whether its output has no values yet.
        more_written: positions of arguments that it overwrites, though torch's schema does not say so.
    """

    kind: Kind | Literal["move"]
    rule: Rule | None = None
    shape: ShapeFunction | None = None
    macs: Count | None = None
    is_counted: bool = True
    label: str | None = None
    workspace_bytes: Count | None = None
    normalizes: Callable[[Call], Normed | None] | None = None
    is_affine: bool = False
    pad_mode: Literal["constant", "reflect", "replicate"] | None = None
    read_arguments: Callable[[Sequence[Any]], Iterable[Tensor]] | None = None
    copied_argument: int | None = None
    is_uninitialized: bool = False
    more_written: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operator(Columns):
    """One operator, with its registration and torch's schema.

    Args:
        name: its name, without the trailing underscore of in-place operators.
        effect: kind of its return value.
        is_random: whether it draws random numbers.
        is_data_dependent: whether a number that it returns, or the shape of its output, depends on values.
        written_arguments: positions and names of the arguments that it overwrites.
    """

    name: str
    label: str
    effect: Effect
    is_random: bool
    is_data_dependent: bool
    written_arguments: tuple[tuple[int, str], ...]

    def written(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
        """The argument tensors that the call overwrites."""
        for place, name in self.written_arguments:
            value = args[place] if place < len(args) else kwargs.get(name)
            yield from tensors((value,))


class Call:
    """One call of an
        operator: its arguments and its output. A rule can set further attributes.

    Args: operator: the registered operator.
        func: the operator, as torch dispatches it.
        args, kwargs: its arguments.
        out: its return value.
        module: the running layer, if any.
    """

    __slots__ = (
        "aligned",
        "args",
        "axis_ops",
        "func",
        "is_affine",
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
        self.is_affine = operator.is_affine or operator.kind == "move"  # in one argument that depends on the input
        self.notes: tuple[str, ...] = ()
        self.unread_px: tuple[int, ...] = ()  # for each axis of the input: positions at the far edge that no window reads
        self.padded_px: tuple[int, ...] = ()  # and those that were added there
        self.axis_ops: tuple[AxisOp, ...] = ()  # how the last dimensions are read, where geometry has a word for it
        self.pads: tuple[tuple[int, int], ...] = ()  # pixels added before and after the last dimensions

    def axes(self, place: int) -> Axes | None:
        """The dependence of an argument."""
        return axes_of(self.args[place])

    def shape(self, place: int) -> Shape:
        """The shape of an argument."""
        return tuple(self.args[place].shape)

    @property
    def out_shape(self) -> Shape:
        """The shape of the first output."""
        out = self.out
        return tuple((out if isinstance(out, Tensor) else out[0]).shape)

    def named(self) -> dict[str, Any]:
        """The arguments by their names in the operator's schema; omitted arguments are absent or have their default."""
        schema = self.func._schema.arguments
        found = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        found.update({argument.name: value for argument, value in zip(schema, self.args, strict=False)})
        found.update(self.kwargs)
        return found

    def dependent_tensors(self) -> Iterator[Tensor]:
        """All tensors among the arguments that depend on the input."""
        return dependent_tensors(self.args, self.kwargs)

    def map_axes(self, rule: Callable[[Terms], Terms]) -> Axes:
        """The dependence of the output, from the same rule for each axis of the first argument."""
        return tuple(rule(terms) for terms in self.axes(0) or ())

    def own_dims(self, place: int) -> frozenset[int]:
        """The dimensions of an argument that belong to axes of the input."""
        return own_dims(self.axes(place) or ())


def per_input_axis(value: Any, num_axes: int) -> tuple[int, ...]:
    """A number, or a list with one for each axis or one for all, as one for each."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * num_axes if len(numbers) == 1 and num_axes > 1 else numbers


REGISTERED: Final[dict[str | torch.Tag, Columns]] = {}
_UNKNOWN: Final = Columns(kind="values")


def operator(*names: str | torch.Tag, **columns: Any) -> Callable[[AnyRule], AnyRule]:
    """Decorator that registers operators of torch with the decorated rule.

    Args:
        names: names of ``torch.ops.aten``. A name includes the in-place operator, unless that is registered separately with
            its trailing underscore. A tag of torch covers all operators with this tag that are not registered by name.
        columns: as in ``Columns``.
    """

    def enter(rule: AnyRule) -> AnyRule:
        register(*names, rule=rule, **columns)
        return rule

    return enter


def register(*names: str | torch.Tag, **columns: Any) -> None:
    """Registers operators without a rule, with their other columns.

    Raises:
        ValueError: a name is registered already.
    """
    known = Columns(**columns)
    for name in names:
        if name in REGISTERED:
            raise ValueError(f"{name} is registered twice")
        REGISTERED[name] = known


@cache
def operator_of(func: Any) -> Operator:
    """The registered operator for one that torch dispatches."""
    schema = func._schema
    namespace, full = schema.name.split("::")
    effect = _effect(schema, full)
    name = full[:-1] if effect == "in place" else full
    columns = _columns(func, full, name) if namespace == "aten" else _UNKNOWN
    known = {**vars(columns), "label": columns.label or name.strip("_")}
    if effect in ("view", "out"):
        known["shape"] = None
    if namespace not in ("aten", "prims"):
        known["is_counted"] = False
    tags = func.tags
    return Operator(
        **known,
        name=name,
        effect=effect,
        is_random=torch.Tag.nondeterministic_seeded in tags,
        written_arguments=tuple(
            (place, each.name)
            for place, each in enumerate(schema.arguments)
            if _is_written(each) or place in columns.more_written
        ),
        is_data_dependent=torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags,
    )


def _columns(func: Any, full: str, name: str) -> Columns:
    """What is registered under one of two names, or for one of the tags."""
    keys = (full, name, *func.tags)
    return next((REGISTERED[key] for key in keys if key in REGISTERED), _UNKNOWN)


def _effect(schema: Any, full: str) -> Effect:
    """What an operator returns, from torch's schema."""
    written = [each for each in schema.arguments if _is_written(each)]
    if written:
        if written[0].name in ("self", "input") and full.endswith("_"):
            return "in place"
        return "out" if any(each.is_out for each in written) else "new"  # running values of a batch norm are no output
    return "view" if any(each.alias_info is not None for each in schema.returns) else "new"


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
