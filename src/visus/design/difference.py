"""The comparison of two accounts: which rows match, and which of their figures differ."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from visus.design.account import Account, Row
from visus.design.table import write_fields


@dataclass(frozen=True)
class RowPair:
    """Two matching rows; one of them is None if only the other account has the layer."""

    left: Row | None
    right: Row | None

    @property
    def differs(self) -> tuple[str, ...]:
        """Names of the figures that differ; all of them if a row is missing."""
        shown = [figures(row) for row in (self.left, self.right)]
        return tuple(name for name in _NAMES if shown[0].get(name) != shown[1].get(name))

    def to_json(self) -> dict[str, Any]:
        """The pair as plain data."""
        rows = {side: row.to_json() if row else None for side, row in (("left", self.left), ("right", self.right))}
        return {**rows, "differs": list(self.differs)}


_NAMES = ("layer", "output_shape", "num_parameters", "macs", "fields")


def figures(row: Row | None) -> dict[str, Any]:
    """The compared figures of a row, by their names in the JSON; the receptive field as text."""
    if row is None:
        return {}
    return {
        "layer": row.layer,
        "output_shape": row.output_shape,
        "num_parameters": row.num_parameters,
        "macs": row.macs,
        "fields": write_fields(row),
    }


def pairs(left: Account, right: Account) -> tuple[RowPair, ...]:
    """The rows of two accounts matched by path, in order. Rows between matches are paired if both sides have the same
    number.

    >>> from visus.design import account, parse
    >>> one, other = (account(parse(text), (1, 9)) for text in ("conv(2, 3), relu", "conv(4, 3), norm, relu"))
    >>> [(pair.left and pair.left.path, pair.right and pair.right.path, pair.differs) for pair in pairs(one, other)][0]
    ('conv1', 'conv1', ('layer', 'output_shape', 'num_parameters', 'macs'))
    """
    ours_by_path, others_by_path = ([row.path for row in account.rows] for account in (left, right))
    found: list[RowPair] = []
    for tag, begin, end, first, last in SequenceMatcher(None, ours_by_path, others_by_path, autojunk=False).get_opcodes():
        ours, others = left.rows[begin:end], right.rows[first:last]
        if tag == "equal" or (tag == "replace" and len(ours) == len(others)):
            found += [RowPair(*both) for both in zip(ours, others, strict=True)]
        else:
            found += [*(RowPair(row, None) for row in ours), *(RowPair(None, row) for row in others)]
    return tuple(found)
