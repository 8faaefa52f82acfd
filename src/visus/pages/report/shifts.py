"""The part of a report on consistency under shifts. Its sentences are in ``sentences``."""

from __future__ import annotations

from visus.pages.parts.document import paragraphs
from visus.pages.parts.table import table, table_row
from visus.pages.report.actions import is_consistent
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ShiftResults
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import shift_sentences
from visus.units import write_share


def shift_part(facts: ReportFacts) -> str:
    """How often predictions stay the same when samples are shifted."""
    shifts = facts.measured.shifts
    if shifts is None:
        return missing_part(facts, "shifts")
    trade_off = "" if is_consistent(shifts) else shifts.trade_off
    return paragraphs(shift_sentences(facts)) + _shifts_table(shifts) + paragraphs([*shifts.notes, trade_off])


def _shifts_table(shifts: ShiftResults) -> str:
    rows = [table_row(each.way, [write_share(each.consistency)]) for each in shifts.ways]
    return table("Pairs of shifts with the same label", ["Shift", "Same label"], rows)
