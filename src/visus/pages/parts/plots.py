"""Images of a result as PNG files: the confusion of the classes and the curves of a training.

This file knows matplotlib. matplotlib is loaded on the first drawing, and only its figure objects are used, so nothing of the
program's own plots or settings changes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visus.errors import DataError
from visus.evaluation.scores import Scores
from visus.files import write_file
from visus.pages.report.facts import number
from visus.units import write_number_of, write_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED_CLASSES = 20
_LABELED_CLASSES = 100
_NAME_LENGTH = 32
_INK, _FAINT, _TRAIN, _VALIDATION = "#1d2025", "#d9d6cf", "#ab4f17", "#1f5fa8"


def draw_confusion(scores: Scores, path: Path) -> None:
    """Write the confusion matrix as a PNG: rows are true classes, columns predicted ones, color the share of the row.

    With up to 20 classes each cell holds its count, and with up to 100 each class has its name; beyond that, every second
    one has it, or every third, and so on. The color grows with the square root of the share, so that rare mistakes
    can be seen.

    Raises:
        StorageError: the file cannot be written.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.array(scores.confusion, dtype=np.float64)
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, max(2.6, 0.52 * num_classes))
    figure = Figure(figsize=(side + 2.6, side + 1.9), facecolor="white", layout=_layout())
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    step = -(-num_classes // _LABELED_CLASSES)
    places = list(range(0, num_classes, step))
    names = [shorten(scores.classes[place]) for place in places]
    size = 9.0 if num_classes <= COUNTED_CLASSES else max(5.0, min(9.0, 0.72 * 72 * side / len(places)))
    axes.set_xticks(places, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", color=_INK)
    axes.set_ylabel("true class", color=_INK)
    of = write_number_of(scores.num_samples, "sample")
    axes.set_title(f"{write_share(scores.accuracy)} of {of} right", fontsize=11, color=_INK, loc="left")
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    if num_classes <= COUNTED_CLASSES:
        _write_counts(axes, scores.confusion, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, aspect=30, pad=0.02, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"], fontsize=8)
    bar.set_label("share of the true class", fontsize=8, color=_INK)
    bar.outline.set_edgecolor(_FAINT)
    _save(figure, path)


def draw_curves(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write loss and accuracy over the epochs as a PNG, training dashed and validation solid.

    Args:
        rows: the rows of ``results.csv``, as numbers or as their text; empty values are left out.
        path: the PNG to write.

    Raises:
        DataError: there is no row with an epoch.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not any(number(row.get("epoch")) is not None for row in rows):
        raise DataError("there are no curves to draw: no epoch was finished.")
    figure = Figure(figsize=(9.6, 3.6), layout=_layout(), facecolor="white")
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, label, color, style in (("train", "training", _TRAIN, "--"), ("val", "validation", _VALIDATION, "-")):
            cells = [(number(row.get("epoch")), number(row.get(f"{split}_{what}"))) for row in rows]
            points = [(epoch, value) for epoch, value in cells if epoch is not None and value is not None]
            if points:
                marker = "o" if len(points) < 3 else None
                axes.plot(*zip(*points, strict=True), style, color=color, label=label, linewidth=1.6, marker=marker)
        axes.set_title(what, fontsize=11, color=_INK, loc="left")
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(axis="y", color=_FAINT, linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        if what == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None, symbol=" %"))
        else:
            axes.set_ylim(0, 1.05 * axes.dataLim.y1 if axes.lines and axes.dataLim.y1 > 0 else 1)
    _save(figure, path)


def shorten(name: str, length: int = _NAME_LENGTH) -> str:
    """A name in one line of at most ``length`` characters, its middle left out where it is longer.

    >>> shorten("a very long name of a class of beetles", 16)
    'a very l…beetles'
    """
    flat = " ".join(name.split())
    if len(flat) <= length:
        return flat
    tail = (length - 1) // 2
    return f"{flat[: length - 1 - tail]}…{flat[-tail:]}"


def _write_counts(axes: Any, confusion: Sequence[Sequence[int]], shares: Any) -> None:
    longest = max(len(f"{count:,}") for row in confusion for count in row)
    for true, row in enumerate(confusion):
        for predicted, count in enumerate(row):
            color = "white" if shares[true, predicted] > 0.35 else _INK if count else "#8a8781"
            axes.text(
                predicted, true, f"{count:,}", ha="center", va="center", color=color, fontsize=8.5 if longest < 5 else 7
            )


def _layout() -> Any:
    """Places the parts of a figure so that none is cut off, with a tenth of an inch around each."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)


def _save(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; confusion.csv and the report hold it as it is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_file(path, content.getvalue())
