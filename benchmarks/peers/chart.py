"""An image of accuracy over time for several ways to train, as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peers.curves import Curve, first_reached, mean_accuracies
from visus.files import write_file
from visus.units import write_duration, write_share

_INK: Final = "#1d2025"
_FAINT: Final = "#d9d6cf"
_COLORS: Final = ("#ab4f17", "#1f5fa8", "#3f7d3a", "#7a4b9c", "#98780f", "#3b8686", "#b0436c", "#5c5f66")


def draw_race(curves: Mapping[str, Sequence[Curve]], target: float, path: Path) -> None:
    """Write accuracy over time as a PNG: a thin line for each seed, a thick one for their mean, a dot where it first reaches the target.

    Time is seconds since the training data was in memory, on a logarithmic axis, since the ways differ by large factors.

    Args:
        curves: the trainings of each way, by its name.
        target: accuracy that is to be reached, 0 to 1; drawn as a dashed line.
        path: the PNG to write.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(8.6, 5.0), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    axes = figure.add_subplot()
    for place, (name, each) in enumerate(curves.items()):
        _draw_one(axes, name, each, target, _COLORS[place % len(_COLORS)], "-" if place < len(_COLORS) else "--")
    axes.axhline(target, color=_INK, linewidth=0.9, linestyle="--")
    axes.annotate(
        f"target {write_share(target)}", (0.005, target), xycoords=("axes fraction", "data"), va="bottom", fontsize=8
    )
    if axes.lines[:-1]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write_duration(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylim(_lowest(curves, target), 1.0 if target > 0.97 else min(1.0, target + 0.05))
    axes.set_title("accuracy on the held-out samples over time", fontsize=11, color=_INK, loc="left")
    axes.set_xlabel("seconds since the training data was in memory", color=_INK)
    axes.grid(color=_FAINT, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_file(path, content.getvalue())


def _draw_one(axes: Any, name: str, curves: Sequence[Curve], target: float, color: str, style: str) -> None:
    """The curves of one way to train."""
    for curve in curves:
        times = [point.seconds for point in curve.points]
        axes.plot(times, [point.accuracy for point in curve.points], style, color=color, linewidth=0.7, alpha=0.5)
    means = mean_accuracies(curves)
    if not means:
        return
    reached = None if any(curve.end == "failed" for curve in curves) else first_reached(curves, target)
    told = write_duration(reached.seconds) if reached else "not reached"
    marker = "o" if len(means) == 1 else None
    axes.plot(*zip(*means, strict=True), style, color=color, linewidth=2, marker=marker, label=f"{name}: {told}")
    if reached:
        axes.plot([reached.seconds], [reached.accuracy], "o", color=color, markersize=7)


def _lowest(curves: Mapping[str, Sequence[Curve]], target: float) -> float:
    """Where the axis begins: low enough for the last accuracy of each training, and for a view of the way there."""
    last = [curve.points[-1].accuracy for each in curves.values() for curve in each if curve.points]
    return max(0.0, min([target - 0.15, *(accuracy - 0.02 for accuracy in last)]))
