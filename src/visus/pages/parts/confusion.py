"""The confusion matrix: as a table for few classes, as a heat map for many, as a PNG file; and the most frequent confusions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from visus.evaluation.scores import Scores
from visus.pages.parts.charts import svg
from visus.pages.parts.document import shorten
from visus.pages.parts.plots import FAINT, INK, new_figure, save_figure
from visus.pages.parts.table import bare_table, percent_cell, table, table_row, text_cell
from visus.units import write_number_of, write_share

COUNTED_CLASSES: Final = 20
_LABELED_CLASSES: Final = 100
_NAME_LENGTH: Final = 32
_CELL: Final = 10
# Where the figures of a colored cell change color: with these, their contrast is at least 4.5 in light and in dark.
_STRONG, _FULL_HIT, _FULL_MISS = 0.58, 0.83, 0.9


def confusion_table(scores: Scores, nouns: str) -> str:
    """A table of counts, the cells colored by their share of the row, with recall and F1 at the right and precision below: for few classes."""
    names = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in scores.classes)
    names += "".join(f'<th scope="col" class="metric"><span>{name}, %</span></th>' for name in ("Recall", "F1"))
    body = []
    for true, row in enumerate(scores.confusion):
        cells = [_count_cell(count, sum(row), true == predicted) for predicted, count in enumerate(row)]
        metrics = _metric_cell(scores.per_class[true].recall) + _metric_cell(scores.per_class[true].f1)
        body.append(f'<tr><th scope="row">{escape(scores.classes[true])}</th>{"".join(cells)}{metrics}</tr>')
    last = "".join(_metric_cell(each.precision) for each in scores.per_class) + "<td></td>" + _metric_cell(scores.macro_f1)
    foot = f'<tfoot><tr><th scope="row">Precision, %</th>{last}</tr></tfoot>'
    head = f'<thead><tr><td class="corner"></td>{names}</tr></thead>'
    caption = f"{nouns.capitalize()} by true class (row) and predicted class (column)"
    return bare_table(caption, f"{head}<tbody>{''.join(body)}</tbody>{foot}", "confusion")


def _count_cell(count: int, num_samples: int, is_hit: bool) -> str:
    """A count on the color of its share of the row; an empty cell for 0."""
    if not count:
        return "<td></td>"
    strength = shade(count / num_samples)
    return f'<td class="{cell_style(strength, is_hit)}" style="--s:{strength:.2f}">{count:,}</td>'


def _metric_cell(share: float | None) -> str:
    return f'<td class="metric">{percent_cell(share)}</td>'


def confusion_map(scores: Scores) -> str:
    """One ``<svg>`` for many classes: a square for each pair of classes that occurs, its names and count on hover."""
    side = len(scores.classes) * _CELL
    parts = [f'<rect class="frame" x="0" y="0" width="{side}" height="{side}"/>']
    for true, row in enumerate(scores.confusion):
        num_samples = sum(row)
        for predicted, count in enumerate(row):
            if count:
                kind = "hit" if true == predicted else "miss"
                label = f"{scores.classes[true]} predicted as {scores.classes[predicted]}: {count:,} of {num_samples:,}"
                parts.append(
                    f'<rect class="{kind}" x="{predicted * _CELL}" y="{true * _CELL}" width="{_CELL}" height="{_CELL}" '
                    f'fill-opacity="{shade(count / num_samples):.2f}"><title>{escape(label)}</title></rect>'
                )
    label = (
        f"{scores.num_right:,} of {scores.num_samples:,} lie on the diagonal. The table lists the most frequent confusions."
    )
    return svg("Confusion matrix", label, side, side, "".join(parts))


def confused_pairs_table(pairs: Sequence[tuple[str, str, int]], nouns: str) -> str:
    """The most frequent confusions: true class, predicted class and count of each."""
    rows = [table_row(true, [text_cell(predicted), f"{count:,}"]) for true, predicted, count in pairs]
    columns = ["True class", "Predicted class", nouns.capitalize()]
    return table("The most frequent confusions", columns, rows, text_columns=(0, 1))


def shade(share: float) -> float:
    """The color strength of a share of a row, 0 to 1: its square root, so that rare confusions can be seen.

    >>> shade(0.0), shade(0.01), shade(1.0)
    (0.0, 0.1, 1.0)
    """
    return math.sqrt(share)


def cell_style(strength: float, is_hit: bool) -> str:
    """Style classes of a colored cell, by which the style sheet picks black or white figures."""
    is_full = strength >= (_FULL_HIT if is_hit else _FULL_MISS)
    return ("hit" if is_hit else "miss") + (" strong" if strength >= _STRONG else "") + (" full" if is_full else "")


def draw_confusion(scores: Scores, path: Path) -> None:
    """Write the confusion matrix as a PNG: rows are true classes, columns predicted ones, color the share of the row.

    With up to 20 classes each cell holds its count, and with up to 100 each class has its name; beyond that, every second
    one has it, or every third, and so on. The color grows with the square root of the share, so that rare confusions
    can be seen.

    Raises:
        StorageError: the file cannot be written.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    counts = np.array(scores.confusion, dtype=np.float64)
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, max(2.6, 0.52 * num_classes))
    figure = new_figure(side + 2.6, side + 1.9)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    _label_axes(axes, scores, side)
    if num_classes <= COUNTED_CLASSES:
        _write_counts(axes, scores.confusion, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, aspect=30, pad=0.02, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"], fontsize=8)
    bar.set_label("share of the true class", fontsize=8, color=INK)
    bar.outline.set_edgecolor(FAINT)
    save_figure(figure, path)


def _label_axes(axes: Any, scores: Scores, side: float) -> None:
    """Names of classes, of the axes, and the accuracy as a title."""
    num_classes = len(scores.classes)
    step = -(-num_classes // _LABELED_CLASSES)
    places = list(range(0, num_classes, step))
    names = [shorten(scores.classes[place], _NAME_LENGTH) for place in places]
    size = 9.0 if num_classes <= COUNTED_CLASSES else max(5.0, min(9.0, 0.72 * 72 * side / len(places)))
    axes.set_xticks(places, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    of = write_number_of(scores.num_samples, "sample")
    axes.set_title(f"accuracy {write_share(scores.accuracy)} on {of}", fontsize=11, color=INK, loc="left")
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _write_counts(axes: Any, confusion: Sequence[Sequence[int]], shares: Any) -> None:
    longest = max(len(f"{count:,}") for row in confusion for count in row)
    for true, row in enumerate(confusion):
        for predicted, count in enumerate(row):
            color = "white" if shares[true, predicted] > 0.35 else INK if count else "#8a8781"
            axes.text(
                predicted, true, f"{count:,}", ha="center", va="center", color=color, fontsize=8.5 if longest < 5 else 7
            )
