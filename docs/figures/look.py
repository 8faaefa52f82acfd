"""The saliency section of a look page: a map of one image, and the checks that it passed."""

from __future__ import annotations

from typing import Final

import visus
from figures.figure import Figure, SourcePage
from figures.runs import DEFAULT, copied_run

SAMPLE: Final = "test:18"


def draw() -> Figure:
    """The section as ``visus look RUN SAMPLE`` writes it."""
    with copied_run(DEFAULT) as run:
        found = visus.look(visus.load(run, device="cpu"), SAMPLE, templates=False)
    page = SourcePage.read(found.page())
    return Figure(page.section("Saliency"), width=1000, style=page.style)
