"""One piece of advice, and the facts from which advice is drawn.

This file knows what advice is made of. It must not know what is wasteful.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

from visus.design.account import Account, Fields, Row
from visus.design.arguments import Shape
from visus.design.changes import leaves
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers import Layer
from visus.design.plan import Design
from visus.design.tally import account_of_nodes
from visus.errors import DesignError
from visus.geometry import Field
from visus.units import write_count


@dataclass(frozen=True)
class Advice:
    """Something in a network that is wasteful or cannot work as meant, with its sum and with changes that were tried.

    Args:
        kind: one word of ``visus.design.advice.KINDS``.
        path: path of the layer that it is about, the first where there are several; empty for the network as a whole.
        sentence: what is so, with the numbers that show it.
        remedies: what to do about it; each figure in it was computed on the changed design.
        paths: paths of all rows that it is about.
    """

    kind: str
    path: str
    sentence: str
    remedies: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Place, sentence and remedies as one line.

        >>> Advice("pool", "pool1", "There is nothing to pool.", ("leave it out", "use a larger map")).text
        'pool1: There is nothing to pool. What helps: leave it out; or use a larger map.'
        """
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.sentence}" + (f" What helps: {'; or '.join(self.remedies)}." if self.remedies else "")

    def to_json(self) -> dict[str, Any]:
        """The advice as plain data."""
        return {"kind": self.kind, "path": self.path, "sentence": self.sentence, "remedies": list(self.remedies)}


@dataclass(frozen=True)
class Facts:
    """What is known of a network: its account, and the nodes where it is a design.

    Args:
        account: the rows.
        nodes: those of the design; empty for a module that was traced.
        object_px: size of the objects in the pictures; None where that is not told.
    """

    account: Account
    nodes: tuple[Node, ...] = ()
    object_px: int | None = None

    @property
    def input_size(self) -> Shape:
        """Lengths of the axes of the input."""
        return self.account.input_shape[1:]

    @property
    def leaves(self) -> list[Node]:
        """The layers of the design, in order."""
        return leaves(self.nodes)

    def last_map(self) -> Row | None:
        """The last row that is a map with fields of its own; None where there is none."""
        maps = [row for row in self.account.rows if len(row.output_shape) == len(self.account.input_shape)]
        maps = [row for row in maps if row.fields and all(field.step != 0 for field in row.fields)]
        return maps[-1] if maps else None

    def entries(self) -> dict[str, Fields]:
        """For each layer of the design, the receptive fields of what enters it."""
        found: dict[str, Fields] = {}
        if self.nodes:
            start = tuple(Field.of_input(length) for length in self.input_size)
            _enter(self.nodes, start, {row.path: row.fields for row in self.account.rows}, found)
        return found

    def again(self, design: Design | None, input_shape: Shape | None = None) -> Account | None:
        """The account of a changed design for the same input, or for another one; None where it is impossible."""
        if design is None:
            return None
        try:
            return account_of_nodes(
                design.place(input_shape or self.account.input_shape), input_shape or self.account.input_shape
            )
        except DesignError:
            return None


def costs(account: Account) -> str:
    """Parameters and multiply-adds of a network, as people write them."""
    return f"{write_count(account.num_parameters)} parameters, {write_count(account.macs)} macs"


def per_axis_text(numbers: Many[int]) -> str:
    """One number where all axes have the same, else one for each axis.

    >>> per_axis_text((7, 7)), per_axis_text((7, 9))
    ('7', '7 x 9')
    """
    return str(numbers[0]) if len(set(numbers)) == 1 else " x ".join(map(str, numbers))


def _enter(nodes: Many[Node], fields: Fields, after: dict[str, Fields], found: dict[str, Fields]) -> Fields:
    for node in nodes:
        if isinstance(node.layer, Layer):
            found[node.path] = fields
            fields = after[node.path]
        else:
            ends = [_enter(branch, fields, after, found) for branch in node.branches]
            fields = after[node.path] if isinstance(node.layer, (Residual, Concat)) else ends[0] if ends else fields
    return fields
