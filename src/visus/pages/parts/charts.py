"""Charts as SVG text for a page: lines over epochs, small curves, bars, and the legend of a chart.

Colors come from the page's style sheet by class name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 14, 40
_LETTER = 8  # width of a letter, about
_MAX_POINTS = 400
_MAX_STRETCHES = 120  # of the background behind a curve


@dataclass(frozen=True)
class Band:
    """A stretch of the horizontal axis with a name, such as a stage of a training.

    Attributes:
        first, last: its first and last epoch.
        label: its name, written at its top where it fits.
    """

    first: float
    last: float
    label: str


def line_chart(
    title: str,
    description: str,
    lines: Sequence[tuple[str, Points]],
    write_value: Callable[[float], str],
    *,
    lowest: float | None = None,
    highest: float | None = None,
    mark: float | None = None,
    along: str = "epoch",
    bands: Sequence[Band] = (),
) -> str:
    """Lines over epochs, or over anything else that is counted, as one ``<svg>``.

    Args:
        title, description: the text for screen readers.
        lines: style class and (epoch, value) points of each line; a line without points is dropped.
        write_value: writes a value beside its grid line.
        lowest, highest: natural bounds of the values; the scale never goes beyond them. With only a ``lowest`` of 0 it starts there.
        mark: an epoch to mark with a vertical line.
        along: name of the horizontal axis; escaped.
        bands: stretches of the axis, shaded in turn.
    """
    drawn = [(style, _thin(points)) for style, points in lines if points]
    values = [value for _, points in drawn for _, value in points]
    epochs = [epoch for _, points in drawn for epoch, _ in points]
    axes = _Axes(min(epochs), max(epochs), *_scale(values, lowest, highest))
    parts = _bands(bands, axes) + _horizontal_grid(axes, write_value)
    parts += [
        f'<text x="{axes.x(epoch):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{epoch:,}</text>'
        for epoch in _whole_ticks(axes.first, axes.last)
    ]
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(along)}</text>')
    if mark is not None and axes.first <= mark <= axes.last:
        x = f"{axes.x(mark):.1f}"
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    parts += [_line(style, points, axes) for style, points in drawn]
    return svg(title, description, _WIDTH, _HEIGHT, "".join(parts))


@dataclass(frozen=True)
class _Axes:
    """The axes of a line chart: ends of both, and the distance of the grid lines."""

    first: float
    last: float
    low: float
    high: float
    step: float

    def x(self, epoch: float) -> float:
        """Position from the left."""
        share = (epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        """Position from the top."""
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def _bands(bands: Sequence[Band], axes: _Axes) -> list[str]:
    """Every second band shaded; each one with its label where that fits. A band ends halfway between two epochs."""
    parts = []
    for place, band in enumerate(bands):
        left = axes.x(max(axes.first, band.first - 0.5))
        right = axes.x(min(axes.last, band.last + 0.5))
        if place % 2 == 0:
            parts.append(
                f'<rect class="band" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"/>'
            )
        if right - left >= _LETTER * len(band.label):
            parts.append(
                f'<text class="band" x="{(left + right) / 2:.1f}" y="{_TOP + 14}" text-anchor="middle">{escape(band.label)}</text>'
            )
    return parts


def _horizontal_grid(axes: _Axes, write_value: Callable[[float], str]) -> list[str]:
    """Grid lines with their labels."""
    parts = []
    ticks = [axes.low + index * axes.step for index in range(round((axes.high - axes.low) / axes.step) + 1)]
    for value, label in zip(ticks, _labels(ticks, axes.step, write_value), strict=True):
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    return parts


def _line(style: str, points: Points, axes: _Axes) -> str:
    """One line, a dot at its end; at every point where there are fewer than three."""
    places = [(axes.x(epoch), axes.y(min(axes.high, max(axes.low, value)))) for epoch, value in points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    dots = "".join(
        f'<circle class="dot {style}" cx="{across:.1f}" cy="{down:.1f}" r="3"/>'
        for across, down in (places if len(places) < 3 else places[-1:])
    )
    return f'<polyline class="line {style}" points="{path}"/>{dots}'


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """What each line of a chart is: style class and name; the names are escaped."""
    return " ".join(
        f'<span class="named"><span class="{f"key {style}".strip()}"></span>{escape(name)}</span>' for style, name in keys
    )


def curve(
    title: str,
    lines: Sequence[tuple[str, Sequence[float] | npt.NDArray[Any]]],
    *,
    lowest: float | None = None,
    highest: float | None = None,
    heat: npt.NDArray[Any] | None = None,
    box: tuple[int, int] | None = None,
    size: tuple[int, int] = (300, 84),
) -> str:
    """Values along one axis as a small ``<svg>`` without scales, a line at 0 where 0 is within the range.

    Args:
        title: the text for screen readers; escaped.
        lines: style class and values of each line; where there are more values than pixels, the minimum and the maximum of each stretch.
        lowest, highest: ends of the height; default: those of the values.
        heat: a number from 0 on for each position: the higher it is, the darker the background.
        box: first and last position to outline.
        size: width and height, in CSS pixels.
    """
    width, height = size
    values = [float(value) for _, line in lines for value in line] or [0.0]
    low = min(values) if lowest is None else lowest
    high = max(values) if highest is None else highest
    num_places = max(len(line) for _, line in lines)
    across = width / max(1, num_places)

    def y(value: float) -> float:
        return 2 + (height - 4) * ((high - min(high, max(low, value))) / (high - low) if high > low else 0.5)

    parts = [f'<rect class="frame" x="0" y="0" width="{width}" height="{height}"/>']
    if heat is not None and float(heat.max()) > 0:
        shares, each = _thin_heat(heat), width / min(len(heat), _MAX_STRETCHES)
        parts += [
            f'<rect class="heat" x="{place * each:.1f}" y="0" width="{each + 0.1:.1f}" height="{height}" fill-opacity="{share:.2f}"/>'
            for place, share in enumerate(shares)
            if share >= 0.02
        ]
    if low < 0 < high:
        parts.append(f'<line class="grid" x1="0" x2="{width}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    for style, line in lines:
        points = _stretch_extremes(line, width)
        path = " ".join(f"{(place + 0.5) * across:.1f},{y(value):.1f}" for place, value in points)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
    if box is not None:
        first, last = box
        parts.append(
            f'<rect class="box" x="{first * across:.1f}" y="1" width="{(last + 1 - first) * across:.1f}" height="{height - 2}"/>'
        )
    label = escape(title, quote=True)
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def bars(title: str, values: Sequence[float] | npt.NDArray[Any], *, size: tuple[int, int] = (600, 90)) -> str:
    """A bar for each value, up from 0 or down from 0, as a small ``<svg>`` without scales."""
    width, height = size
    numbers = [float(value) for value in values]
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    each = width / len(numbers)

    def y(value: float) -> float:
        return 1 + (height - 2) * (high - value) / ((high - low) or 1.0)

    parts = [f'<line class="grid" x1="0" x2="{width}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>']
    for place, value in enumerate(numbers):
        top, bottom = sorted((y(value), y(0)))
        kind = "hit" if value >= 0 else "miss"
        parts.append(
            f'<rect class="{kind}" x="{place * each:.1f}" y="{top:.1f}" width="{max(0.5, each * 0.8):.1f}" '
            f'height="{max(0.4, bottom - top):.1f}"/>'
        )
    label = escape(title, quote=True)
    return f'<svg class="bars" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _stretch_extremes(line: Sequence[float] | npt.NDArray[Any], max_points: int) -> Points:
    """Position and value of each point; of a longer line than ``max_points``, the minimum and the maximum of each stretch: no peak is lost.

    >>> _stretch_extremes([0.0, 9.0, 1.0, 2.0, -3.0, 0.0], 4)
    [(0.0, 0.0), (1.0, 9.0), (3.0, 2.0), (4.0, -3.0)]
    """
    values = np.asarray(line, dtype=np.float64)
    if len(values) <= max_points:
        return [(float(place), float(value)) for place, value in enumerate(values)]
    points = []
    for places in np.array_split(np.arange(len(values)), max_points // 2):
        ends = sorted({int(places[values[places].argmin()]), int(places[values[places].argmax()])})
        points += [(float(place), float(values[place])) for place in ends]
    return points


def _thin_heat(heat: npt.NDArray[Any]) -> list[float]:
    """Shares of the maximum, at most ``_MAX_STRETCHES`` of them, each the maximum of its stretch."""
    parts = np.array_split(heat, min(len(heat), _MAX_STRETCHES))
    return [float(part.max()) / float(heat.max()) for part in parts]


def scatter(title: str, description: str, points: Points, across: str, up: str, *, size: int = 300) -> str:
    """Points in a square with equal axes and its diagonal, as one ``<svg>``.

    Args:
        title, description: the text for screen readers.
        points: pairs of numbers; not empty.
        across, up: names of the axes; escaped.
        size: side of the square with its labels, in pixels.
    """
    values = [value for pair in points for value in pair]
    low, high, step = _scale(values, None, None)
    left, bottom = 52, 40
    side = size - left - _RIGHT

    def place(value: float) -> float:
        return side * (value - low) / (high - low)

    parts = [f'<line class="grid" x1="{left}" y1="{_TOP + side}" x2="{left + side}" y2="{_TOP}"/>']
    ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
    for tick in ticks:
        words = escape(f"{tick:.4g}")
        parts.append(f'<text x="{left - 6}" y="{_TOP + side - place(tick) + 4:.1f}" text-anchor="end">{words}</text>')
        parts.append(f'<text x="{left + place(tick):.1f}" y="{_TOP + side + 16}" text-anchor="middle">{words}</text>')
    parts += [
        f'<circle class="val" cx="{left + place(x):.1f}" cy="{_TOP + side - place(y):.1f}" r="2.5"/>' for x, y in points
    ]
    parts.append(f'<text x="{left + side / 2}" y="{_TOP + side + bottom - 6}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text x="14" y="{_TOP + side / 2}" text-anchor="middle" transform="rotate(-90 14 {_TOP + side / 2})">{escape(up)}</text>'
    )
    return svg(title, description, size, _TOP + side + bottom, "".join(parts))


def svg(title: str, description: str, width: int, height: int, inside: str) -> str:
    """An ``<svg>`` with its title and its description for a screen reader."""
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}"><desc>{escape(description)}</desc>{inside}</svg>'


def _thin(points: Points) -> Points:
    """At most ``_MAX_POINTS`` of the points, evenly spaced, with the first and the last."""
    if len(points) <= _MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(index * last / (_MAX_POINTS - 1))] for index in range(_MAX_POINTS)]


def _labels(ticks: Sequence[float], step: float, write_value: Callable[[float], str]) -> list[str]:
    """The labels of the grid lines; with more decimals where two would be the same.

    >>> _labels([0.508, 0.509, 0.51], 0.001, "{:.2g}".format), _labels([0.1, 0.2], 0.1, "{:.2g}".format)
    (['0.508', '0.509', '0.510'], ['0.1', '0.2'])
    """
    labels = [write_value(value) for value in ticks]
    if len(set(labels)) == len(labels):
        return labels
    unit = " %" if all(label.endswith(" %") for label in labels) else ""
    factor = 100.0 if unit else 1.0
    decimals = next(
        (count for count in range(12) if abs(round(step * factor, count) - step * factor) < 1e-6 * step * factor), 12
    )
    return [f"{value * factor:.{decimals}f}{unit}" for value in ticks]


def _scale(values: Sequence[float], lowest: float | None, highest: float | None) -> tuple[float, float, float]:
    """Ends and step of an axis: round numbers that hold all values, four to seven grid lines."""
    low = 0.0 if lowest == 0.0 and highest is None else min(values)
    high = max(values)
    if high <= low:
        low, high = low - 0.05, high + 0.05
    step = _round_step((high - low) / 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if highest is not None:
        high = min(high, highest)
    if lowest is not None:
        low = max(low, lowest)
    if (high - low) / step < 0.5:
        low, high, step = low - step, low, step
    return low, high, step


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least ``least``.

    >>> _round_step(0.034), _round_step(3.0)
    (0.05, 5.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * 0.999)


def _whole_ticks(first: float, last: float) -> list[int]:
    """At most nine whole epochs for the axis: the first one, and multiples of 1, 2 or 5 times a power of ten.

    >>> _whole_ticks(1, 32), _whole_ticks(1, 4), _whole_ticks(3, 3)
    ([1, 5, 10, 15, 20, 25, 30], [1, 2, 3, 4], [3])
    """
    start, end = round(first), round(last)
    steps = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    step = next(each for each in steps if (end - start) / each <= 7)
    multiples = range(-(-start // step) * step, end + 1, step)
    return [start, *(each for each in multiples if each - start >= max(1, step / 2))]
