"""Replacements for report parts that could not be measured."""

from __future__ import annotations

from html import escape

from visus.pages.report.facts import ReportFacts


def missing_part(facts: ReportFacts, part: str, subject: str = "This part") -> str:
    """A sentence that a part is missing and why; empty if it is not."""
    why = facts.measured.missing.get(part)
    return f'<p class="missing">{subject} could not be made: {escape(why)}</p>' if why else ""
