"""The section of a report on consistency under shifts. Its sentences are in ``sentences``."""

from __future__ import annotations

from html import escape

from visus.evaluation.shifts import WAYS
from visus.pages.parts.document import folded, paragraphs
from visus.pages.parts.table import table, table_row
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ShiftResults
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import shift_sentences
from visus.units import write_number_of, write_share, write_size


def shift_section(facts: ReportFacts) -> str:
    """How often predictions stay the same when samples are shifted, and what would improve it."""
    shifts = facts.measured.shifts
    if shifts is None:
        return missing_part(facts, "shifts")
    more = ""
    if shifts.command:
        more = "<p>To measure more kinds of shifts, and positions and sizes of the object:</p>"
        more += f'<pre class="command">{escape(shifts.command)}</pre>'
    words = paragraphs(shift_sentences(facts))
    return words + _shifts_table(shifts, facts.noun) + paragraphs(shifts.notes) + more + _remedies(shifts)


def _shifts_table(shifts: ShiftResults, noun: str) -> str:
    rows = [
        table_row(
            f"{each.way}: {WAYS[each.way]}",
            [
                write_share(each.consistency),
                f"{write_share(each.consistency_low)} to {write_share(each.consistency_high)}",
                write_share(each.kept),
                write_share(each.always),
                write_share(each.logit_change),
            ],
        )
        for each in shifts.ways
    ]
    first = shifts.ways[0]
    samples, reach = write_number_of(shifts.num_samples, noun), write_size(first.reach_px)
    caption = f"{samples} shifted by up to {reach}, {first.num_shifts} shifts of each"
    columns = ["Shift", "Consistency", "95 % interval", "Label kept", "Never changed", "Change of the logits"]
    return table(caption, columns, rows)


def _remedies(shifts: ShiftResults) -> str:
    """Changes of the network or the training, each with its price and its command."""
    listed = "".join(
        f'<li><b>{escape(name)}</b>: {escape(price)}.<pre class="command">{escape(command)}</pre></li>'
        for name, price, command in shifts.remedies
    )
    return folded("What would improve it, and at what cost", f"<ul>{listed}</ul>") if listed else ""
