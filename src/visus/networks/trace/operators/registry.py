"""One registration per operator of torch holds all that is known of it; nothing else in this package has a table by operator.

To add an operator, such as ``aten::frexp``: in the file of its family, decorate the function that says what its output depends on.

    @operator("frexp", kind="values")
    def pointwise(call): ...

``kind`` has to be said; every other column of ``Columns`` has a default that is right for most. Several operators may share a rule: each
``@operator`` above it has its own names and columns. An operator without a rule depends on all that its inputs depend on, and its row says
"hull"; ``register`` holds what else is known of it. An operator that torch tags as pointwise needs no registration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor

from visus.design.flow import Kind, Normed
from visus.networks.trace.calls import Axes, Call, Hull, tensors

Rule = Callable[[Call], "Axes | list[Axes | None] | Hull | None"]
"""Gives what the output depends on, or a list for several outputs; None for an output that does not depend on the input."""

AnyRule = TypeVar("AnyRule", bound=Rule)

ShapeFunction = Callable[[Sequence[Any], dict[str, Any]], Any]
"""Gives the output as a tensor without data, from the arguments; None where they are unusual, so that torch is asked."""

Count = Callable[[Sequence[Any], Any], int]
"""Gives a number of multiply-adds or of bytes, from the arguments and the output."""

Effect = Literal["new", "view", "in place", "out"]
"""What an operator returns: a new tensor, a view, its first argument overwritten, or an argument named ``out``."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a registration says of its operators.

    Args:
        kind: what a row with this operator does, as in ``visus.design.flow``; ``"move"`` for one that computes nothing.
        rule: what its output depends on.
        shape: the output's shape, dtype and layout, faster than torch says it.
        macs: multiply-adds, as ``torch.utils.flop_counter`` counts them, halved.
        is_counted: False where it multiplies matrices inside, and nobody knows how many multiply-adds that takes.
        label: its name in rows, where its own name without underscores is not the one that people know.
        workspace_bytes: bytes of buffers while it is computed, beside its inputs and outputs.
        normalizes: of a norm, what it divides by the deviation of; None where advice has no word for it.
        pad_mode: of padding, what is put around: the values mirrored, the outermost repeated, or a constant.
        read_arguments: of an operator whose output's shape depends on values, those arguments whose values matter; default: all.
        copied_argument: the place of the argument that its output is a copy of, if that is not the first.
        is_uninitialized: whether its output has no values yet.
        more_written: places of arguments that it overwrites, though torch's schema does not say so.
    """

    kind: Kind | Literal["move"]
    rule: Rule | None = None
    shape: ShapeFunction | None = None
    macs: Count | None = None
    is_counted: bool = True
    label: str | None = None
    workspace_bytes: Count | None = None
    normalizes: Callable[[Call], Normed | None] | None = None
    pad_mode: Literal["constant", "reflect", "replicate"] | None = None
    read_arguments: Callable[[Sequence[Any]], Iterable[Tensor]] | None = None
    copied_argument: int | None = None
    is_uninitialized: bool = False
    more_written: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operator(Columns):
    """What is known of one operator: what was registered, and what torch's schema says.

    Args:
        name: without the underscore of those that work in place.
        effect: what it returns.
        is_random: whether it draws random numbers.
        is_data_dependent: whether a number that it returns, or the shape of its output, depends on values.
        written_arguments: places and names of the arguments that it overwrites.
    """

    name: str
    label: str
    effect: Effect
    is_random: bool
    is_data_dependent: bool
    written_arguments: tuple[tuple[int, str], ...]

    def written(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
        """The tensors among the arguments of a call that it overwrites."""
        for place, name in self.written_arguments:
            value = args[place] if place < len(args) else kwargs.get(name)
            yield from tensors((value,))


REGISTERED: Final[dict[str | torch.Tag, Columns]] = {}
_UNKNOWN: Final = Columns(kind="values")


def operator(*names: str | torch.Tag, **columns: Any) -> Callable[[AnyRule], AnyRule]:
    """Registers operators of torch with the rule that is decorated.

    Args:
        names: names of ``torch.ops.aten``. One with a final underscore stands for the operator in place alone; without it, for both.
            A tag of torch stands for all that have it and no registration of their own.
        columns: as in ``Columns``.
    """

    def enter(rule: AnyRule) -> AnyRule:
        register(*names, rule=rule, **columns)
        return rule

    return enter


def register(*names: str | torch.Tag, **columns: Any) -> None:
    """Registers operators that no rule follows, with what else is known of them.

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
    """What is known of an operator, as torch hands it over; worked out once."""
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
    written = [each for each in schema.arguments if _is_written(each)]
    if written:
        if written[0].name in ("self", "input") and full.endswith("_"):
            return "in place"
        return "out" if any(each.is_out for each in written) else "new"  # running values of a batch norm are no output
    return "view" if any(each.alias_info is not None for each in schema.returns) else "new"


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
