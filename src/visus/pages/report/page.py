"""The report of a run as one HTML file: its sections, in the order of the page.

A new section is one function from facts to page text, and one line in ``SECTIONS``. Every text that comes from a user is escaped where it
enters the page.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Final

from visus.files import write_file
from visus.pages.parts.document import header, page, section
from visus.pages.report.calibration import calibration_section
from visus.pages.report.classes import confusion_section, per_class_section
from visus.pages.report.data import data_section
from visus.pages.report.facts import ReportFacts
from visus.pages.report.mistakes import mistakes_section
from visus.pages.report.network import network_section
from visus.pages.report.result import result_panel, warning_panel
from visus.pages.report.shifts import shift_section
from visus.pages.report.training import cost_section, reproduce_section, training_section

SECTIONS: Final[tuple[tuple[str, Callable[[ReportFacts], str]], ...]] = (
    ("Result", result_panel),
    ("Warnings", warning_panel),
    ("Confusion matrix", confusion_section),
    ("Metrics by class", per_class_section),
    ("Calibration", calibration_section),
    ("Consistency under shifts", shift_section),
    ("Mistakes", mistakes_section),
    ("Data", data_section),
    ("Network", network_section),
    ("Training", training_section),
    ("Cost", cost_section),
    ("Reproducing this run", reproduce_section),
)
"""Title and content of each section. A section whose content is empty is dropped with its title; the first two have no title."""

_UNTITLED: Final = (result_panel, warning_panel)


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the report of a run to ``path``: one file under 3 MB, for screen and print, light and dark.

    Raises:
        StorageError: the file cannot be written.
    """
    write_file(path, report_page(facts))


def report_page(facts: ReportFacts) -> str:
    """The report as HTML text; the output is deterministic."""
    return page(
        facts.name,
        header("Training report", facts.name, (facts.created, f"trained on {facts.data_name}")),
        [_section(title, content, facts) for title, content in SECTIONS],
        kind="report",
        made_with=str(facts.environment.get("visus", "")),
    )


def _section(title: str, content: Callable[[ReportFacts], str], facts: ReportFacts) -> str:
    """A section of the page; where it cannot be made, such as where matplotlib does not load, the reason in its place."""
    try:
        made = content(facts)
    except Exception as error:  # one section is no reason to lose the others
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        return section(title, f"<p>This part could not be made: {escape(reason)}.</p>")
    return made if content in _UNTITLED or not made else section(title, made)
