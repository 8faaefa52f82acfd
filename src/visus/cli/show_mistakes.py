"""What a run gets wrong, as tables on stdout.

This file knows columns and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from visus.errors import UsageError
from visus.units import write_number_of, write_share

if TYPE_CHECKING:
    from visus.examine.mistake_report import MistakeReport, ShownSample

DEFAULT_LIMIT: Final = 8


def num_shown(limit: int | None, *, mistakes: bool) -> int:
    """How many samples of each kind are asked for.

    Raises:
        UsageError: a number where no mistakes are asked for, or one below 1.
    """
    if limit is not None and not mistakes:
        raise UsageError("--limit needs --mistakes. Add it, or leave --limit out.")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}.")
    return DEFAULT_LIMIT if limit is None else limit


def show_mistakes(found: MistakeReport) -> None:
    """The surest wrong answers, the least sure right ones, confusions with samples, and labels that may be wrong."""
    console = Console(highlight=False, markup=False)
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=160)
    split = "all samples" if found.split == "all" else f"the {found.split} split"
    console.print(f"mistakes: {found.num_wrong:,} of {write_number_of(found.num_samples, found.noun)} of {split}")
    _show_samples(console, "the surest wrong answers", found.confident_wrong)
    _show_samples(console, "the least sure right answers", found.unsure_right)
    for pair in found.confusions:
        names = ", ".join(each.sample for each in pair.samples)
        console.print(f"{pair.num_samples:,} x {pair.label} taken for {pair.answer}: {names}", markup=False)
    _show_suspicious(console, found)
    if found.num_compared:
        console.print(
            f"most alike: by the cosine of what reaches {found.feature_layer}, among {found.num_compared:,} of "
            f"{found.num_training:,} training {found.noun}s"
        )
    for note in found.notes:
        console.print(f"note: {note}")


def _show_samples(console: Console, title: str, samples: Sequence[ShownSample]) -> None:
    if not samples:
        return
    console.print(title)
    table = Table("sample", "label", "answer", "sure", "its label", "most alike in training", box=None)
    for column in table.columns[3:5]:
        column.justify = "right"
    for each in samples:
        alike = ", ".join(f"{near.sample} ({near.label} {near.similarity:.2f})" for near in each.alike)
        names = (Text(text) for text in (each.sample, each.label, each.answer))
        table.add_row(*names, write_share(each.probability), write_share(each.label_probability), Text(alike))
    console.print(table)


def _show_suspicious(console: Console, found: MistakeReport) -> None:
    if not found.suspicious:
        return
    console.print(
        f"labels that may be wrong: {found.num_suspicious:,} (another class is more probable than the label, and as probable as it is on "
        "average for samples of that class; Northcutt et al. 2021)",
        soft_wrap=True,
    )
    table = Table("sample", "label", "probability", "rather", "probability", box=None)
    for place in (2, 4):
        table.columns[place].justify = "right"
    for each in found.suspicious:
        own, other = write_share(each.label_probability), write_share(each.probability)
        table.add_row(Text(each.sample), Text(each.label), own, Text(each.answer), other)
    console.print(table)
