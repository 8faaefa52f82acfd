"""Tables on stdout: scores, data sets, machines.

This file knows columns and words.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from visus.units import write_bytes, write_shape, write_share
from visus.workbench.screen import scaling

if TYPE_CHECKING:
    from visus.data.opened import Data
    from visus.evaluation.scores import Scores

MAX_CLASSES_SHOWN = 20


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=160)


def _names(heading: str) -> Column:
    """A column of names, which are folded where they are longer than the screen is wide, and never cut."""
    return Column(heading, overflow="fold")


def show_scores(scores: Scores) -> None:
    """The accuracy, every class, and the most frequent mistakes."""
    console = _console()
    if learned := scores.learned_sentence():
        console.print(learned, markup=False, soft_wrap=True)
    console.print(
        f"accuracy on {scores.num_samples:,} samples ({scores.split}): {write_share(scores.accuracy)} "
        f"(95 % interval {write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)})",
        markup=False,
    )
    console.print(f"always guessing {scores.baseline_class}: {write_share(scores.baseline)}", markup=False)
    console.print(
        f"calibration error: {write_share(scores.calibration_error)} (mean confidence {write_share(scores.confidence)}); "
        f"loss {scores.loss:.4f}; macro F1 {scores.macro_f1:.4f}",
        markup=False,
    )
    table = Table(_names("class"), "samples", "precision", "recall", "F1", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in scores.per_class:
        table.add_row(
            Text(row.name), f"{row.num_samples:,}", *(_figure(value) for value in (row.precision, row.recall, row.f1))
        )
    console.print(table)
    if len(scores.per_class) <= MAX_CLASSES_SHOWN:
        console.print("confusion: rows are true classes, columns are answers in the same order")
        grid = Table(_names(""), box=None, show_header=False)
        for name, counts in zip((row.name for row in scores.per_class), scores.confusion, strict=True):
            grid.add_row(Text(name), *(str(count) for count in counts))
        for column in grid.columns[1:]:
            column.justify = "right"
        console.print(grid)
    for true, predicted, count in scores.most_confused(5):
        console.print(f"{count} x {true} taken for {predicted}", markup=False)
    for note in scores.notes:
        console.print(f"note: {note}", markup=False)


def tell_data(data: Data) -> None:
    """What was done to a data set and what to look at, on stderr."""
    for note in data.samples.notes:
        sys.stderr.write(f"note: {note}\n")
    for sentence in data.ledger.sentences():
        sys.stderr.write(f"ledger: {sentence}\n")
    for warning in data.warnings:
        sys.stderr.write(f"warning: {warning}\n")


def data_facts(data: Data, begins: str) -> dict[str, Any]:
    """A data set as plain data, for ``visus check --json``, with what a training would begin with."""
    return {
        "name": data.name,
        "kind": data.samples.kind,
        "input_shape": list(data.input_shape),
        "normalize": data.preprocessing.normalize,
        "begins": begins,
        "classes": list(data.classes),
        "num_samples": {split: len(data.split(split)) for split in ("train", "val", "test")},
        "class_counts": {split: data.class_counts(split) for split in ("train", "val", "test")},
        "ledger": data.ledger.as_dict(),
        "warnings": list(data.warnings),
        "notes": list(data.samples.notes),
        "fingerprint": data.fingerprint,
        "cache": {"folder": str(data.store.folder), "bytes": int(data.store.pixels.nbytes)},
    }


def show_data(data: Data, begins: str) -> None:
    """What is in a data set, what was done to it, what a training would begin with, and what to look at."""
    console = _console()
    console.print(
        f"{data.name} ({data.samples.kind}): {data.num_samples:,} {data.noun}s of {write_shape(data.input_shape)}, {scaling(data)}",
        markup=False,
    )
    table = Table(_names("class"), "train", "val", "test", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    counts = {split: data.class_counts(split) for split in ("train", "val", "test")}
    for name in data.classes:
        table.add_row(Text(name), *(f"{counts[split][name]:,}" for split in ("train", "val", "test")))
    table.add_row("all", *(f"{len(data.split(split)):,}" for split in ("train", "val", "test")))
    console.print(table)
    for note in data.samples.notes:
        console.print(f"note: {note}", markup=False)
    for sentence in data.ledger.sentences():
        console.print(f"ledger: {sentence}", markup=False)
    for warning in data.warnings:
        console.print(f"warning: {warning}", markup=False)
    if not data.warnings:
        console.print("no warnings.")
    console.print(begins, markup=False)
    console.print(f"decoded into {write_bytes(data.store.pixels.nbytes)} at {data.store.folder}", markup=False)


def show_doctor(facts: dict[str, Any]) -> None:
    """Versions, devices, speeds and places."""
    console = _console()
    table = Table(box=None, show_header=False)
    for name, value in facts["machine"].items():
        table.add_row(name, Text(_plain(value)))
    console.print(table)
    speeds = Table("way of computing", "images/s", "to plain float32", box=None)
    for speed in facts["speeds"]:
        speeds.add_row(speed["name"], f"{speed['samples_per_second']:,.0f}", f"{speed['ratio']:.2f} x")
    console.print(speeds)
    console.print(f"visus trains here in {facts['choice']}", markup=False)
    console.print(f"kernels of visus: {facts['kernels']}", markup=False)
    console.print(f"decoded data: {facts['cache']['folder']} ({write_bytes(facts['cache']['bytes'])})", markup=False)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each or 'not installed'}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
