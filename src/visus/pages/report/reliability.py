"""The sections of a report on how far to trust its predictions: calibration, and consistency under shifts."""

from __future__ import annotations

from html import escape

from visus.evaluation.calibration import Bin, Calibration
from visus.evaluation.shifts import WAYS
from visus.pages.parts.charts import legend
from visus.pages.parts.document import beside, figure, folded, paragraphs
from visus.pages.parts.reliability_diagram import reliability_diagram
from visus.pages.parts.table import NO_SAMPLES, share_cell, table, table_row
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ShiftResults
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import calibration_sentences, shift_sentences
from visus.units import write_number_of, write_share, write_size


def calibration_section(facts: ReportFacts) -> str:
    """Confidence against accuracy, before and after calibration: sentences, a reliability diagram, all bins."""
    sentences = calibration_sentences(facts)
    found = facts.measured.calibration
    if found is None:
        return paragraphs(sentences) + missing_part(facts, "calibration")
    how = (
        "On the dotted line, confidence equals accuracy; below it the network is overconfident. "
        f"A larger dot stands for more {facts.nouns}."
    )
    keys = [("train", "uncalibrated"), ("val", "calibrated")] if found.after else [("train", "uncalibrated")]
    caption = f"<b>Confidence and accuracy</b>{legend(keys)}"
    drawn = figure(caption, reliability_diagram(found.before, found.after), "square")
    return beside(paragraphs([*sentences, how]), drawn) + folded("All bins", _bins_table(found, facts.nouns))


def _bins_table(found: Calibration, nouns: str) -> str:
    """Number of samples, mean confidence and accuracy of each bin, before and after calibration."""
    rows = []
    for place, bin in enumerate(found.before.bins):
        cells = _bin_cells(bin) + (_bin_cells(found.after.bins[place]) if found.after else [])
        rows.append(table_row(f"{write_share(bin.low, 0)} to {write_share(bin.high, 0)}", cells))
    columns = ["Confidence", nouns.capitalize(), "Mean confidence", "Accuracy"]
    caption = f"{nouns.capitalize()} by confidence"
    if found.after:
        columns += [f"{nouns.capitalize()}, calibrated", "Mean confidence, calibrated", "Accuracy, calibrated"]
        caption += ", before and after calibration"
    return table(caption, columns, rows)


def _bin_cells(bin: Bin) -> list[str]:
    return [f"{bin.num_samples:,}", share_cell(bin.confidence, NO_SAMPLES), share_cell(bin.accuracy, NO_SAMPLES)]


def shift_section(facts: ReportFacts) -> str:
    """The share of predictions that stay the same under shifts, and what would improve it."""
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
