"""The facts from which advice follows: rows, their sources, and the design on which changes are tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from visus.design.account import Account, Fields, Row
from visus.design.account_walk import account_of_nodes
from visus.design.advice.pieces import Advice, Remedy
from visus.design.arguments import Shape
from visus.design.edits import leaves
from visus.design.flow import INPUT, Flow
from visus.design.graph import Impossible, Node, propagate
from visus.design.plan import Design
from visus.errors import DesignError
from visus.geometry import Field
from visus.units import write_count


@dataclass(frozen=True)
class Facts:
    """The known facts about a network: its account, and its nodes if it is a design.

    Args:
        account: the rows.
        nodes: those of the design; empty for a traced module.
        object_px: size of the objects in the images; None if unknown.
        batch_size: samples of a training batch; None if unknown.
    """

    account: Account
    nodes: tuple[Node, ...] = ()
    object_px: int | None = None
    batch_size: int | None = None

    @property
    def input_shape(self) -> Shape:
        """Shape of the input, without the batch axis."""
        return self.account.input_shape

    @property
    def input_size(self) -> Shape:
        """Lengths of the axes of the input."""
        return self.account.input_shape[1:]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the account."""
        return self.account.rows

    @property
    def leaves(self) -> list[Node]:
        """The layers of the design, in order."""
        return leaves(self.nodes)

    @cached_property
    def flows(self) -> tuple[Flow, ...]:
        """The sources of each row. If they are unknown, the source is the row before it, with unknown context."""
        if self.account.flows is not None:
            return self.account.flows
        return tuple(
            Flow("values", row.output_shape, (place - 1,), context="unknown") for place, row in enumerate(self.rows)
        )

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """For each row, and for the input, the indices of the rows that read it, in order."""
        found: dict[int, list[int]] = {}
        for place, flow in enumerate(self.flows):
            for source in flow.sources:
                found.setdefault(source, []).append(place)
        return found

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each row by its path."""
        return {row.path: place for place, row in enumerate(self.rows)}

    def shape_at(self, place: int) -> Shape:
        """Output shape of a row, or the shape of the input."""
        return self.input_shape if place == INPUT else self.rows[place].output_shape

    def source(self, place: int) -> int:
        """The index of a row's first source."""
        return next(iter(self.flows[place].sources), INPUT)

    def fields_at(self, place: int) -> Fields:
        """The receptive fields of a row, or of the input."""
        return tuple(map(Field.of_input, self.input_size)) if place == INPUT else self.rows[place].fields

    def is_exact(self, place: int) -> bool:
        """Whether the fields of a row are neither a hull nor approximate."""
        return place == INPUT or self.rows[place].is_exact

    def is_map(self, shape: Shape) -> bool:
        """Whether a shape is that of a map, with as many axes as the input."""
        return len(shape) == len(self.input_shape) > 1

    def node(self, path: str) -> Node | None:
        """The layer of the design at a path; None for a traced module."""
        return next((node for node in self.leaves if node.path == path), None)

    def last_map(self) -> Row | None:
        """The last row that is a map whose positions have different fields; None if there is none."""
        for row in reversed(self.rows):
            if (
                len(row.output_shape) == len(self.input_shape)
                and row.fields
                and all(field.stride != 0 for field in row.fields)
                and row.layer not in _OF_ATTENTION
                and all(map(_lies_along, row.fields, row.output_shape[1:]))
            ):
                return row
        return None

    def whole_tokens(self) -> Row | None:
        """The last row of tokens (tokens, features) that each see the whole image, as after attention; None if there is none."""
        for row in reversed(self.rows):
            is_tokens = len(row.output_shape) == 2 < len(self.input_shape) and row.output_shape[0] > 1
            if is_tokens and row.fields and all(field.is_whole for field in row.fields):
                return row
        return None

    def tried(
        self,
        design: Design | None,
        input_shape: Shape | None = None,
        *,
        object_px: int | None = None,
        with_memory: bool = False,
        with_fields: bool = True,
    ) -> Facts | None:
        """The facts of a changed design for the same input, or for another one; None if the design is impossible."""
        if design is None:
            return None
        shape = input_shape or self.input_shape
        try:
            nodes = propagate(design.layers, shape, None)
        except (Impossible, DesignError):
            return None
        costs = account_of_nodes(nodes, shape, with_memory=with_memory, with_fields=with_fields)
        return Facts(costs, nodes, object_px or self.object_px, self.batch_size)


_OF_ATTENTION: Final = ("baddbmm", "bmm", "softmax")
"""Operations outside of layers whose outputs have axes of heads, queries and keys, and no map."""


def _lies_along(field: Field, length: int) -> bool:
    """Whether an axis of a map has a position of the field for each place; heads and tokens of attention have not."""
    return field.intervals is None or len(field.intervals) == length


@dataclass(frozen=True)
class Candidate:
    """A change that may help.

    Args:
        text: the change, with figures of the changed network.
        design, facts: the changed design and its facts; None if nothing can be tried.
        is_partial: whether a part of the problem remains; ``text`` then names it.
    """

    text: str
    design: Design | None = None
    facts: Facts | None = None
    is_partial: bool = False


@dataclass(frozen=True)
class AdviceFound:
    """Advice without its remedies, and the changes to try.

    Args:
        advice: the finding.
        candidates: yields changes, the best first; called only if the advice is given.
        max_remedies: maximum number of helpful changes that become remedies.
    """

    advice: Advice
    candidates: Callable[[], Iterable[Candidate]] = tuple
    max_remedies: int = 3


Finder = Callable[[Facts], Iterable[AdviceFound]]
"""Finds the advice of one kind, or of several that belong together."""


def remedied(found: AdviceFound, finder: Finder) -> Advice:
    """The advice with the changes after which it no longer applies at the same place."""
    kept: list[Remedy] = []
    for each in found.candidates():
        facts = each.facts
        stays = facts is not None and any(other.advice.is_same_as(found.advice) for other in finder(facts))
        if stays and not each.is_partial:
            continue
        shape, object_px = (facts.input_shape, facts.object_px) if facts is not None else (None, None)
        kept.append(Remedy(each.text, each.design, shape, object_px, not stays))
        if len(kept) == found.max_remedies:
            break
    return dataclasses.replace(found.advice, changes=tuple(kept))


def costs(account: Account) -> str:
    """Parameters and multiply-adds of a network, as short text."""
    return f"{write_count(account.num_parameters)} parameters, {write_count(account.macs)} multiply-adds"
