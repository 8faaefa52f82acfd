"""Loss and accuracy over the epochs of a training: as charts of a page and as a PNG file.

Training and validation are drawn in one chart: the loss is the same function for both, at the image size of the epoch. Stages of one size are shaded in
turn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from visus.errors import DataError
from visus.pages.parts.charts import Band, legend, line_chart
from visus.pages.parts.document import figure
from visus.pages.parts.plots import FAINT, INK, TRAIN, VALIDATION, new_figure, save_figure
from visus.pages.parts.table import number
from visus.units import write_share

Rows = Sequence[Mapping[str, object]]


def history_points(rows: Rows, column: str) -> list[tuple[float, float]]:
    """One column of a training's history as (epoch, value) points; rows without a value are dropped, and a part of an epoch counts as this epoch."""
    cells = [(number(row.get("epoch")), number(row.get(column))) for row in rows]
    return [(float(math.ceil(epoch)), value) for epoch, value in cells if epoch is not None and value is not None]


def lowest_loss(smoothing: float, num_classes: int) -> float:
    """The lowest cross-entropy that label smoothing allows, in nats: the entropy of the smoothed target.

    >>> lowest_loss(0.0, 10), round(lowest_loss(0.2, 10), 3)
    (0.0, 0.867)
    """
    if not smoothing or num_classes < 2:
        return 0.0
    other = smoothing / num_classes
    label = 1 - smoothing + other
    return -(label * math.log(label) + (num_classes - 1) * other * math.log(other))


def stages_of(rows: Rows, unit: str = "") -> list[Band]:
    """The stages of one image size, from the first to the last epoch of each; empty if the size never changes.

    >>> rows = [{"epoch": 1, "img_size": 24}, {"epoch": 2, "img_size": 24}, {"epoch": 3, "img_size": 32}]
    >>> [(stage.first, stage.last, stage.label) for stage in stages_of(rows, "px")]
    [(1.0, 2.0, '24 px'), (3.0, 3.0, '32 px')]
    """
    points = history_points(rows, "img_size")
    stages = []
    for size, group in itertools.groupby(points, key=lambda point: point[1]):
        epochs = [epoch for epoch, _ in group]
        stages.append(Band(epochs[0], epochs[-1], f"{size:.0f} {unit}".strip()))
    return stages if len(stages) > 1 else []


def training_curves(rows: Rows, best_epoch: int | None, *, floor: float = 0.0, unit: str = "") -> str:
    """A chart of the loss and one of the accuracy, training dashed and validation solid; empty if there is no history.

    Args:
        rows: the rows of ``results.csv``, as numbers or as their text.
        best_epoch: the epoch whose weights were kept, which is marked; None if they are not those of one epoch.
        floor: the lowest possible loss, which is drawn if it is above 0.
        unit: of the image sizes, such as ``px``.
    """
    what = _second_chart(rows)
    figures = [_chart(rows, "loss", best_epoch, floor, unit), _chart(rows, what, best_epoch, 0.0, unit)]
    drawn = "".join(figures)
    return f'<div class="pair">{drawn}</div>' if drawn else ""


def _second_chart(rows: Rows) -> str:
    """What is drawn beside the loss: the accuracy, or where a task has none, the score that selects the epoch."""
    return "accuracy" if history_points(rows, "train_accuracy") or history_points(rows, "val_accuracy") else "score"


def _chart(rows: Rows, what: str, best_epoch: int | None, floor: float, unit: str) -> str:
    is_share = what == "accuracy"
    write = write_share if is_share else _write_loss
    names = [("train", "training"), ("val", "validation")]
    drawn = [(style, name, points) for style, name in names if (points := history_points(rows, f"{style}_{what}"))]
    if not drawn:
        return ""
    label = "; ".join(f"{name} from {write(points[0][1])} to {write(points[-1][1])}" for _, name, points in drawn)
    lines = [(style, points) for style, _, points in drawn]
    keys = [(style, name) for style, name, _ in drawn]
    if best_epoch is not None:
        keys.append(("epoch", f"epoch {best_epoch}: weights kept"))
    if floor:
        epochs = [epoch for _, points in lines for epoch, _ in points]
        lines.append(("size", [(min(epochs), floor), (max(epochs), floor)]))
        keys.append(("size", f"lowest possible: {floor:.2f}"))
    chart = line_chart(
        f"{what.capitalize()} over the epochs",
        f"{label}.",
        lines,
        _write_accuracy_tick if is_share else _write_loss,
        lowest=None if floor or what == "score" else 0.0,
        highest=1.0 if is_share else None,
        mark=best_epoch,
        bands=stages_of(rows, unit),
    )
    return figure(f"<b>{what.capitalize()}</b>{legend(keys)}", chart)


def _write_loss(value: float) -> str:
    return f"{value:.3g}"


def _write_accuracy_tick(value: float) -> str:
    return f"{100 * value:.4g} %"


def draw_curves(rows: Rows, path: Path) -> None:
    """Write loss and accuracy over the epochs as a PNG, training dashed and validation solid.

    Args:
        rows: the rows of ``results.csv``, as numbers or as their text; empty values are dropped.
        path: the PNG to write.

    Raises:
        DataError: there is no row with an epoch.
        StorageError: the file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not any(number(row.get("epoch")) is not None for row in rows):
        raise DataError("there are no curves to draw: no epoch was finished.")
    figure = new_figure(9.6, 3.6)
    for axes, what in zip(figure.subplots(1, 2), ("loss", _second_chart(rows)), strict=True):
        for split, label, color, style in (("train", "training", TRAIN, "--"), ("val", "validation", VALIDATION, "-")):
            points = history_points(rows, f"{split}_{what}")
            if points:
                marker = "o" if len(points) < 3 else None
                axes.plot(*zip(*points, strict=True), style, color=color, label=label, linewidth=1.6, marker=marker)
        for place, stage in enumerate(stages_of(rows, "px")):
            axes.axvspan(
                stage.first - 0.5, stage.last + 0.5, color=FAINT, alpha=0.45 * (place % 2 == 0), linewidth=0, zorder=0
            )
        axes.set_title(what, fontsize=11, color=INK, loc="left")
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        if what == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None, symbol=" %"))
        elif what == "loss":
            axes.set_ylim(0, 1.05 * axes.dataLim.y1 if axes.lines and axes.dataLim.y1 > 0 else 1)
    save_figure(figure, path)
