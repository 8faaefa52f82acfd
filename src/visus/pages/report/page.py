"""The report of a run as one HTML file: its sections and their parts, in the order of the page.

A new part is one function from facts to page text, and one line in ``SECTIONS``. Every text that comes from a user is escaped where it
enters the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from visus.files import write_file
from visus.pages.parts.actions import Action, to_do
from visus.pages.parts.document import Section, folded, header, page
from visus.pages.report.actions import (
    answer_actions,
    cost_actions,
    files_actions,
    inside_actions,
    mistakes_actions,
    trust_actions,
)
from visus.pages.report.answer import answer_panel, warning_panel
from visus.pages.report.confusion import classes_part, confusion_part
from visus.pages.report.cost import cost_part, curves_part, files_part, recipe_part, run_again_part
from visus.pages.report.facts import ReportFacts
from visus.pages.report.mistakes import confident_mistakes_part, label_errors_part, unsure_part
from visus.pages.report.network import first_layer_part, network_part, receptive_field_part, saliency_part
from visus.pages.report.other_tasks import (
    error_actions,
    is_other_task,
    largest_errors_part,
    metrics_part,
    no_actions,
    task_actions,
    task_answer_panel,
    task_calibration_part,
    task_missing_part,
)
from visus.pages.report.shifts import shift_part
from visus.pages.report.trust import calibration_part, changes_part, held_out_part, outside_part


@dataclass(frozen=True)
class ReportSection:
    """A section of the report.

    Attributes:
        id: its anchor in the page, such as ``mistakes``.
        title: its heading.
        parts: heading, which may be empty, and content of each part. A part whose content is empty is dropped with its heading.
        actions: what to do, which ends the section.
    """

    id: str
    title: str
    parts: tuple[tuple[str, Callable[[ReportFacts], str]], ...]
    actions: Callable[[ReportFacts], Sequence[Action]]


SECTIONS: Final = (
    ReportSection("answer", "Answer", (("", answer_panel), ("", warning_panel)), answer_actions),
    ReportSection(
        "mistakes",
        "Mistakes",
        (
            ("Confusion matrix", confusion_part),
            ("Possible label errors", label_errors_part),
            ("Most confident mistakes", confident_mistakes_part),
            ("", unsure_part),
            ("Classes", classes_part),
        ),
        mistakes_actions,
    ),
    ReportSection(
        "trust",
        "Trust",
        (
            ("How it was measured", held_out_part),
            ("Outside the classes", outside_part),
            ("Calibration", calibration_part),
            ("Consistency under shifts", shift_part),
            ("Changes to the data", changes_part),
        ),
        trust_actions,
    ),
    ReportSection(
        "inside",
        "Inside",
        (
            ("Network", network_part),
            ("Receptive field", receptive_field_part),
            ("First layer", first_layer_part),
            ("Saliency", saliency_part),
        ),
        inside_actions,
    ),
    ReportSection(
        "cost",
        "Cost",
        (("Time and memory", cost_part), ("Training curves", curves_part), ("Recipe", recipe_part)),
        cost_actions,
    ),
    ReportSection(
        "files", "Files", (("Training it again", run_again_part), ("In the run folder", files_part)), files_actions
    ),
)
"""The sections of the report of one class for each sample: the answer first, then the mistakes, then trust, the network, its cost, and the files."""


TASK_SECTIONS: Final = (
    ReportSection("answer", "Answer", (("", task_answer_panel), ("", warning_panel)), task_actions),
    ReportSection(
        "mistakes", "Mistakes", (("Metrics", metrics_part), ("Largest errors", largest_errors_part)), error_actions
    ),
    ReportSection(
        "trust",
        "Trust",
        (
            ("How it was measured", held_out_part),
            ("Calibration", task_calibration_part),
            ("Not measured", task_missing_part),
            ("Changes to the data", changes_part),
        ),
        no_actions,
    ),
    ReportSection("inside", "Inside", (*SECTIONS[3].parts[:3],), inside_actions),
    ReportSection("cost", "Cost", SECTIONS[4].parts, no_actions),
    SECTIONS[5],
)
"""The sections of the report of a network that predicts sets of classes or numbers."""


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
        [_section(each, facts) for each in (TASK_SECTIONS if is_other_task(facts) else SECTIONS)],
        kind="report",
        made_with=str(facts.environment.get("visus", "")),
    )


def _section(section: ReportSection, facts: ReportFacts) -> Section:
    parts = [_part(title, content, facts) for title, content in section.parts]
    if section.id == "inside" and facts.start and not facts.history:
        parts = [folded("The layers are those of the initial weights: no epoch was trained", "".join(parts))]
    parts.append(_part("", lambda known: to_do(section.actions(known)), facts))
    return Section(section.title, "".join(parts), section.id)


def _part(title: str, content: Callable[[ReportFacts], str], facts: ReportFacts) -> str:
    """A part under its heading; where it cannot be made, such as where matplotlib does not load, the reason in its place."""
    try:
        made = content(facts)
    except Exception as error:  # one part is no reason to lose the others
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        made = f'<p class="missing">This part could not be made: {escape(reason)}.</p>'
    heading = f"<h3>{title}</h3>" if title else ""
    return heading + made if made else ""
