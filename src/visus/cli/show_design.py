"""Prints tables of networks on stdout: an account with its advice, two accounts side by side, and equivalent perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from visus.cli.show import console, table_of
from visus.design.difference import RowPair, figures
from visus.design.table import cells, marks_in
from visus.units import write_bytes, write_count, write_number_of, write_shape

if TYPE_CHECKING:
    from visus.design import Account, Row
    from visus.design.advice.advise import Advice
    from visus.design.mlp_equivalents import Twin
    from visus.workbench.summaries import StepMemory, Summary

_STYLES = {"linear": "cyan", "unproductive": "cyan"}  # often meant to be so; anything else is yellow
_COLUMNS = ("path", "layer", "output", "parameters", "macs", "receptive field")


def show_summary(found: Summary, training: StepMemory | None) -> None:
    """Print the rows, the totals, the meaning of the marks, the training memory if known, and the advice."""
    out = console()
    styles = _styles(found.advice)
    table = table_of(*_COLUMNS, right=(3, 4))
    for row in found.account.rows:
        table.add_row(*_cells(row), style=styles.get(row.path, ""))
    out.print(table)
    for mark in marks_in(found.account.rows):
        out.print(mark)
    so_far = " up to here" if found.error is not None else ""
    out.print(
        f"{found.account.num_parameters:,} parameters, {write_count(found.account.macs)} multiply-adds for one sample{so_far}"
    )
    if training is not None:
        out.print(_memory(training))
    for advice in found.advice:
        out.print(f"{advice.text}", style=_STYLES.get(advice.kind, "yellow"))


def show_difference(
    names: Sequence[str], accounts: Sequence[Account], trainings: Sequence[StepMemory], pairs: Sequence[RowPair]
) -> None:
    """Print the rows of two networks side by side, with differences marked and colored, then their totals."""
    out = console()
    table = table_of("", *_COLUMNS, right=(4, 5))
    for pair in pairs:
        if pair.left is not None and not pair.differs:
            table.add_row("", *_cells(pair.left))
            continue
        for sign, style, row in (("<", "red", pair.left), (">", "green", pair.right)):
            if row is not None:
                table.add_row(sign, *_marked(row, pair, style))
    out.print(table)
    differing = sum(bool(pair.differs) for pair in pairs)
    out.print(f"{differing} of {write_number_of(len(pairs), 'row')} differ; < {_short(names[0])}, > {_short(names[1])}")
    for name in ("num_parameters", "macs"):
        one, other = (getattr(account, name) for account in accounts)
        word = "parameters" if name == "num_parameters" else "macs"
        gap = f", {other - one:+,}{_times(one, other)}" if other != one else ", the same"
        out.print(f"{word}: {one:,} and {other:,}{gap}")
    one, other = (training.bytes_training for training in trainings)
    if one is None or other is None:
        out.print(_memory(trainings[0 if one is None else 1]))
        return
    size = trainings[0].batch_size
    out.print(f"memory for training with batches of {size}: {write_bytes(one)} and {write_bytes(other)}{_times(one, other)}")


def show_twins(twins: Sequence[Twin], input_shape: Sequence[int]) -> None:
    """Print a design and its equivalent perceptrons, with the property that each of them keeps."""
    from visus.design.mlp_equivalents import KINDS
    from visus.design.wider_fields import activation_bytes

    out = console()
    table = table_of("network", "parameters", "macs", "weights", "activations", "widths", right=(1, 2, 3, 4))
    for twin in twins:
        weights, given = write_bytes(4 * twin.account.num_parameters), write_bytes(activation_bytes(twin.account))
        numbers = (f"{twin.account.num_parameters:,}", write_count(twin.account.macs), weights, given)
        table.add_row(twin.kind, *numbers, _short(", ".join(f"{width:,}" for width in twin.widths)))
    out.print(table)
    for twin in twins[1:]:
        out.print(f"{twin.kind}: {KINDS[twin.kind]}{f'; {twin.note}' if twin.note else ''}")
    out.print(f"for one sample of {write_shape(input_shape)}, 4 bytes per value")


def _memory(training: StepMemory) -> str:
    """The memory of a training in a line, or why it is not known."""
    if training.bytes_training is None:
        return training.why
    return (
        f"memory for training with batches of {training.batch_size}: {write_bytes(training.bytes_training)} "
        f"(weights and adamw: {write_bytes(training.bytes_standing)}; "
        f"kept for the backward pass: {write_bytes(training.bytes_saved)})"
    )


def _times(one: float, other: float) -> str:
    times = f"{other / one:.3g}" if one else "1"
    return f", {times} times" if times != "1" else ""


def _styles(advice: Sequence[Advice]) -> dict[str, str]:
    """The color of each row that is spoken of; the gravest advice wins."""
    styles: dict[str, str] = {}
    for each in advice:
        for path in each.paths:
            styles.setdefault(path, _STYLES.get(each.kind, "yellow"))
    return styles


def _cells(row: Row) -> list[Text]:
    path, layer, output, parameters, _, fields = cells(row)
    return [Text(cell) for cell in (path, layer, output, parameters, write_count(row.macs), fields)]


def _marked(row: Row, pair: RowPair, style: str) -> list[Text]:
    """The cells of a row, those that differ from the other row in color."""
    names = ("path", *figures(row))
    missing = pair.left is None or pair.right is None
    moved = missing or (pair.left is not None and pair.right is not None and pair.left.path != pair.right.path)
    differing = {*pair.differs, *(["path"] if moved else [])}
    return [
        Text(cell.plain, style=style if name in differing else "") for name, cell in zip(names, _cells(row), strict=True)
    ]


def _short(words: str, most: int = 60) -> str:
    line = " ".join(words.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
