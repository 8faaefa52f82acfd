"""The section of a report on calibration: whether the probabilities agree with the accuracy. Its sentences are in ``sentences``."""

from __future__ import annotations

from visus.evaluation.calibration import Bin, Calibration
from visus.pages.parts.charts import legend
from visus.pages.parts.document import beside, figure, folded, paragraphs
from visus.pages.parts.reliability_diagram import reliability_diagram
from visus.pages.parts.table import NO_SAMPLES, share_cell, table, table_row
from visus.pages.report.facts import ReportFacts
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import calibration_sentences
from visus.units import write_share


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
