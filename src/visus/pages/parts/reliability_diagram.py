"""The reliability diagram: confidence against accuracy, as SVG text. Colors come from the page's style sheet by class name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from visus.evaluation.calibration import Bin, Reliability
from visus.units import write_share

_SIDE, _LEFT, _TOP, _BOTTOM, _RIGHT = 300, 60, 12, 44, 26
_COUNTS = 46
_JOINED = 5  # a line joins the dots of bins with at least so many samples: with fewer, accuracy is chance
_MAX_DOT, _MIN_DOT = 7.0, 1.8


def reliability_diagram(before: Reliability, after: Reliability | None) -> str:
    """A reliability diagram: a dot for each bin that has samples, larger where it has more, and below it a histogram of the confidence.

    On the diagonal, confidence equals accuracy: the network is calibrated.
    """
    drawn = [("train", "uncalibrated", before)] + ([("val", "calibrated", after)] if after is not None else [])
    height = _TOP + _SIDE + _COUNTS + _BOTTOM
    width = _LEFT + _SIDE + _RIGHT
    parts = [_diagonal_grid()]
    parts += [_dots(style, each.bins) for style, _, each in drawn]
    parts += [_count_bars(before.bins), _foot("confidence", height)]
    words = f"{drawn[-1][1].capitalize()}, accuracy at confidence: {_ends(drawn[-1][2].bins)}"
    return (
        f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" aria-label="Confidence and accuracy"><desc>{words}.</desc>'
        f"{''.join(parts)}</svg>"
    )


def _ends(bins: Sequence[Bin]) -> str:
    """Accuracy and confidence of the lowest and the highest bin of at least ``_JOINED`` samples, or of any samples."""
    known = [each for each in bins if each.accuracy is not None and each.confidence is not None]
    chosen = [each for each in known if each.num_samples >= _JOINED] or known
    ends = chosen if len(chosen) < 2 else [chosen[0], chosen[-1]]
    return " to ".join(
        f"{write_share(each.accuracy or 0.0, 0)} at {write_share(each.confidence or 0.0, 0)}" for each in ends
    )


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


def _diagonal_grid() -> str:
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_x(1)}" y1="{_y(tick):.1f}" y2="{_y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.0f} %</text>')
    parts.append(f'<line class="mark" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    return "".join(parts)


def _dots(style: str, bins: Sequence[Bin]) -> str:
    total = sum(each.num_samples for each in bins) or 1
    places, parts = [], []
    for each in bins:
        if each.confidence is None or each.accuracy is None:
            continue
        across, up = _x(each.confidence), _y(each.accuracy)
        if _is_on_line(each):
            places.append(f"{across:.1f},{up:.1f}")
        radius = _MIN_DOT + (_MAX_DOT - _MIN_DOT) * math.sqrt(each.num_samples / total)
        parts.append(f'<circle class="dot {style}" cx="{across:.1f}" cy="{up:.1f}" r="{radius:.1f}"/>')
    return f'<polyline class="line {style}" points="{" ".join(places)}"/>{"".join(parts)}'


def _is_on_line(each: Bin) -> bool:
    return each.confidence is not None and each.accuracy is not None and each.num_samples >= _JOINED


def is_joined(bins: Sequence[Bin]) -> bool:
    """Whether a line joins the dots of some bins, so that the legend shows a line."""
    return sum(map(_is_on_line, bins)) > 1


def _count_bars(bins: Sequence[Bin]) -> str:
    """The share of the samples in each bin, as bars that hang below the plot."""
    most = max(each.num_samples for each in bins) or 1
    top = _TOP + _SIDE + 6
    parts = []
    for each in bins:
        height = (_COUNTS - 10) * each.num_samples / most
        if height:
            parts.append(
                f'<rect class="count" x="{_x(each.low) + 1:.1f}" y="{top}" width="{_SIDE / len(bins) - 2:.1f}" height="{max(0.6, height):.1f}"/>'
            )
    return "".join(parts)


def _foot(along: str, height: float) -> str:
    ticks = "".join(
        f'<text x="{_x(tick):.1f}" y="{height - 22}" text-anchor="middle">{100 * tick:.0f} %</text>'
        for tick in (0.0, 0.5, 1.0)
    )
    return (
        f'{ticks}<text x="{_x(0.5)}" y="{height - 5}" text-anchor="middle">{escape(along)}; below: number of samples</text>'
    )
