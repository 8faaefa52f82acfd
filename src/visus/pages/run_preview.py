"""What a notebook shows of a run: the curves of loss and accuracy, and the confusion matrix, drawn as in the report.

A notebook has no style sheet of visus. So the rules of the report that these drawings need stand beside them, for them alone and in the light
colors of the report, on their own background.
"""

from __future__ import annotations

import importlib.resources
import re
from functools import cache
from typing import Final

from visus.evaluation.scores import Scores
from visus.pages.parts.confusion import COUNTED_CLASSES, confusion_map, confusion_table
from visus.pages.parts.training_curves import Rows, training_curves

MAX_BYTES: Final = 60_000
"""A larger confusion matrix is left out."""

_SCOPE: Final = "visus-run"
_NEEDED: Final = ("svg", "figure", "figcaption", "table", ".pair", ".key", ".heat", ".wide")


def run_preview(rows: Rows, best_epoch: int | None, scores: Scores | None, *, floor: float, unit: str, nouns: str) -> str:
    """The curves and the confusion matrix as HTML without outside resources; empty if there is neither.

    Args:
        rows: the epochs, as for ``training_curves``.
        best_epoch: the epoch whose weights were kept; None if they are not those of one epoch.
        scores: the scores; None if there are none.
        floor: the lowest possible loss.
        unit: of the image sizes, such as ``px``.
        nouns: the noun for samples, in the plural.
    """
    drawn = training_curves(rows, best_epoch, floor=floor, unit=unit) + ("" if scores is None else _confusion(scores, nouns))
    return f'<div class="{_SCOPE}"><style>{_style()}</style>{drawn}</div>' if drawn else ""


def _confusion(scores: Scores, nouns: str) -> str:
    """The confusion matrix; empty if there are too many classes to draw it in a cell."""
    if len(scores.classes) <= COUNTED_CLASSES:
        return confusion_table(scores, nouns)
    drawn = confusion_map(scores) if len(scores.classes) <= MAX_BYTES // 100 else ""
    return f'<figure class="heat">{drawn}</figure>' if len(drawn) <= MAX_BYTES else ""


@cache
def _style() -> str:
    """The rules of the report's style sheet that the drawings need, each for the drawings alone; and its light colors."""
    text = importlib.resources.files("visus.pages.parts").joinpath("page.css").read_text(encoding="utf-8")
    colors = re.search(r":root \{([^}]*)\}", text)
    assert colors is not None, "the style sheet begins with its colors"
    light = " ".join(colors[1].replace("color-scheme: light dark;", "color-scheme: light;").split())
    rules = [
        f".{_SCOPE}{{{light} background:var(--panel);color:var(--ink);padding:.6rem;font:14px/1.5 system-ui,sans-serif}}"
    ]
    for selectors, content in re.findall(r"^([^\s@{}/][^{}\n]*) \{([^{}]*)\}", text, re.M):
        names = [each.strip() for each in selectors.split(",")]
        kept = [f".{_SCOPE} {name}" for name in names if name.startswith(_NEEDED)]
        if kept:
            rules.append(f"{','.join(kept)}{{{' '.join(content.split())}}}")
    return "".join(rules)
