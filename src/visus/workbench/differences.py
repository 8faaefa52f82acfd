"""``visus.diff``: two networks compared row by row, and their totals. Torch is loaded only for modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visus.design import Account, Design
from visus.design.difference import RowPair, pairs
from visus.design.table import cells
from visus.tables import Described, Table, Text
from visus.units import write_bytes, write_count, write_number_of
from visus.workbench.live_line import working
from visus.workbench.summaries import Detail, InputShape, StepMemory, summarize, training_of

if TYPE_CHECKING:
    from visus.workbench.summaries import Network

COLUMNS = ("path", "layer", "output", "parameters", "multiply-adds", "receptive field")
MAX_NAME = 60  # of a network, in characters; a longer design is named by its side


@dataclass(frozen=True, repr=False)
class Difference(Described):
    """Two networks with matched rows.

    Args:
        names: what the two networks are called.
        left, right: their accounts.
        memory: the memory of a training step of each.
        rows: the rows of both, matched.

    >>> import visus
    >>> [pair.differs for pair in visus.diff("conv(8, 3), relu", "conv(8, 3), gelu", (3, 32, 32)).rows]
    [(), ('layer',)]
    """

    names: tuple[str, str]
    left: Account
    right: Account
    memory: tuple[StepMemory, StepMemory]
    rows: tuple[RowPair, ...]

    @property
    def num_differing(self) -> int:
        """Number of rows that differ, or that only one network has.

        >>> import visus
        >>> visus.diff("conv(8, 3), relu", "conv(8, 5), relu", (3, 32, 32)).num_differing
        2
        """
        return sum(bool(pair.differs) for pair in self.rows)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("<", self.names[0]), (">", self.names[1])]
        for name, one, other in self._totals():
            rows.append((name, f"{write_count(one)} and {write_count(other)}{_times(one, other)}"))
        return self._count(), [*rows, ("next", ".rows; .text() has every row, .to_json() all figures")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("rows that differ", self._row_table(only_differing=True)),) if self.num_differing else ()

    def _count(self) -> str:
        return f"{self.num_differing:,} of {write_number_of(len(self.rows), 'row')} differ"

    def _totals(self) -> tuple[tuple[str, int, int], ...]:
        left, right = self.left, self.right
        return (("parameters", left.num_parameters, right.num_parameters), ("multiply-adds", left.macs, right.macs))

    def _row_table(self, *, only_differing: bool = False) -> Table:
        rows = []
        for pair in self.rows:
            if pair.left is not None and not pair.differs:
                rows += [] if only_differing else [("", *_cells(pair.left))]
                continue
            rows += [(sign, *_cells(row)) for sign, row in (("<", pair.left), (">", pair.right)) if row is not None]
        return Table(tuple(rows), ("", *COLUMNS), (4, 5))

    def sentences(self) -> tuple[str, ...]:
        """The number of rows that differ, and the totals of both networks.

        >>> import visus
        >>> visus.diff("conv(8, 3), relu", "conv(8, 5), relu", (3, 32, 32)).sentences()[1]
        'parameters: 224 and 608, +384, 2.71 times'
        """
        lines = [f"{self._count()}; < {self.names[0]}, > {self.names[1]}"]
        for name, one, other in self._totals():
            gap = f", {other - one:+,}{_times(one, other)}" if other != one else ", the same"
            lines.append(f"{name}: {one:,} and {other:,}{gap}")
        one_bytes, other_bytes = (each.bytes_training for each in self.memory)
        if one_bytes is None or other_bytes is None:
            lines.append(self.memory[0 if one_bytes is None else 1].why)
        else:
            lines.append(
                f"memory of a training step with batches of {self.memory[0].batch_size}: {write_bytes(one_bytes)} and "
                f"{write_bytes(other_bytes)}{_times(one_bytes, other_bytes)}"
            )
        return tuple(lines)

    def text(self) -> Text:
        """The rows of both networks, with ``<`` and ``>`` before those that differ, and the totals.

        >>> import visus
        >>> visus.diff("conv(8, 3), relu", "conv(8, 5), relu", (3, 32, 32)).text()[0].rows[1]
        ('>', 'conv1', 'conv(8, 5, bias=True)', '8 x 28 x 28', '608', '470 k', '5/1')
        """
        return Text((self._row_table(), *self.sentences()))

    def to_json(self) -> dict[str, Any]:
        """The totals of both networks and the matched rows as plain data.

        >>> import visus
        >>> list(visus.diff("conv(8, 3), relu", "conv(8, 5), relu", (3, 32, 32)).to_json())
        ['left', 'right', 'rows']
        """
        names = ("output", "num_parameters", "macs", "bytes_weights")
        totals = [
            {
                **{name: getattr(each, name) for name in names},
                "batch_size": memory.batch_size,
                "bytes_training": memory.bytes_training,
            }
            for each, memory in zip((self.left, self.right), self.memory, strict=True)
        ]
        return {"left": totals[0], "right": totals[1], "rows": [pair.to_json() for pair in self.rows]}


def diff(
    left: Network,
    right: Network,
    input_shape: InputShape,
    num_classes: int = 1000,
    *,
    detail: Detail = "layers",
    batch_size: int = 64,
    progress: bool | None = None,
) -> Difference:
    """Compare two networks row by row, and their totals.

    Args:
        left, right: the networks, in any form that ``visus.summary`` takes.
        input_shape: ``(channels, *spatial)``, without the batch axis.
        num_classes: the value of ``classes``.
        detail: ``"layers"`` for a row for each layer, ``"operations"`` for a row for each intermediate tensor.
        batch_size: samples of a training batch, for the memory.
        progress: False shows nothing on stderr.

    Raises:
        DesignError: a design has a syntax error, or a layer cannot take its input.
        UsageError: a module cannot be found, or cannot take this input.

    >>> import visus
    >>> visus.diff("conv(8, 3), relu", "conv(8, 5), relu", (3, 32, 32))
    2 of 2 rows differ
      <              conv(8, 3), relu
      >              conv(8, 5), relu
      parameters     224 and 608, 2.71 times
      multiply-adds  194 k and 470 k, 2.42 times
      next           .rows; .text() has every row, .to_json() all figures
    """
    accounts = []
    with working("following the networks", progress):
        for network in (left, right):
            found = summarize(network, input_shape, num_classes, detail=detail)
            if found.error is not None:
                raise found.error.within(network) if isinstance(network, str) else found.error
            accounts.append(found.account)
        memory = training_of(accounts[0], batch_size), training_of(accounts[1], batch_size)
    names = _name(left, "the first network"), _name(right, "the second network")
    return Difference(names, accounts[0], accounts[1], memory, pairs(*accounts))


def _name(network: Any, side: str) -> str:
    """The text of a network, or the class of a module; a text that is too long for a line is named by its side."""
    text = network.text if isinstance(network, Design) else network if isinstance(network, str) else type(network).__name__
    line = " ".join(text.split())
    return line if len(line) <= MAX_NAME else side


def _cells(row: Any) -> list[str]:
    path, layer, output, parameters, _, fields = cells(row)
    return [path, layer, output, parameters, write_count(row.macs), fields]


def _times(one: float, other: float) -> str:
    times = f"{other / one:.3g}" if one else "1"
    return f", {times} times" if times != "1" else ""
