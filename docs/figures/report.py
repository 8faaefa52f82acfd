"""The first screen of the report of ``visus train`` without arguments."""

from __future__ import annotations

from typing import Final
from unittest.mock import patch

import visus
from figures.figure import Figure, SourcePage
from figures.runs import DEFAULT, copied_run
from visus.workbench.report import measures

NUM_SECTIONS: Final = 2
"""Sections with a heading that reach over the first screen."""

HEIGHT: Final = 1330


def draw() -> Figure:
    """The report as it is, cut where the first screen ends."""
    with copied_run(DEFAULT) as run:
        report = visus.load(run, device="cpu").report()
        page = SourcePage.read(report.path.read_text("utf-8"))
    return Figure(page.until(NUM_SECTIONS), width=1000, style=page.style, max_height=HEIGHT)


def draft() -> Figure:
    """The same page from fewer measurements, in a tenth of the time: its words are the same, and its numbers are masked."""
    with patch.multiple(measures, SHARE=0.0, MIN_MACS=10**9):
        return draw()
