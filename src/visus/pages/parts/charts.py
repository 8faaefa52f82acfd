"""Charts as SVG text for a page: lines over epochs, curves and bars of values, a heat map of a confusion.

This file knows coordinates and marks; colors come from the page's style sheet by class name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.evaluation.scores import Scores

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 40
_MAX_POINTS = 400
_MAX_STRETCHES = 120  # of the ground behind a curve


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
) -> str:
    """Lines over epochs, or over anything else that is counted, as one ``<svg>``.

    Args:
        title, description: what a person hears who cannot see the chart.
        lines: style class and (epoch, value) points of each line; a line without points is left out.
        write_value: how a value is written beside its grid line.
        lowest, highest: bounds that the values have by nature; the scale never goes beyond them. With only a
            ``lowest`` of 0 it starts there.
        mark: an epoch to mark with an upright line.
        along: what the lines go along; escaped.
    """
    drawn = [(style, _thin(points)) for style, points in lines if points]
    values = [value for _, points in drawn for _, value in points]
    epochs = [epoch for _, points in drawn for epoch, _ in points]
    low, high, step = _scale(values, lowest, highest)
    first, last = min(epochs), max(epochs)
    span = last - first or 1.0

    def x(epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((epoch - first) / span if last > first else 0.5)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = []
    ticks = [low + index * step for index in range(round((high - low) / step) + 1)]
    for value, label in zip(ticks, _labels(ticks, step, write_value), strict=True):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    parts += [
        f'<text x="{x(epoch):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{epoch:,}</text>'
        for epoch in _whole_ticks(first, last)
    ]
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(along)}</text>')
    if mark is not None and first <= mark <= last:
        parts.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    for style, points in drawn:
        places = [(x(epoch), y(min(high, max(low, value)))) for epoch, value in points]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        dots = places if len(places) < 3 else places[-1:]
        parts += [f'<circle class="dot {style}" cx="{across:.1f}" cy="{down:.1f}" r="3"/>' for across, down in dots]
    return _svg(title, description, _WIDTH, _HEIGHT, "".join(parts))


def growth_figure(
    what: str, unit: str, sizes: Sequence[int], length: int, told: str, *, object_px: int | None = None, caption: str = ""
) -> str:
    """How far each layer sees, the first at the left, with the length of the sample and of its objects, as a ``<figure>``.

    Args:
        what: what the sample is called, such as ``the image``; escaped.
        unit: what lengths are counted in.
        sizes: receptive field of each layer; drawn in full, however far beyond the sample.
        length: of the sample's axis.
        told: what a person hears who cannot see the chart.
        object_px: length of the objects; None where it is not known.
        caption: before the keys; escaped.
    """
    last = float(len(sizes))
    lines: list[tuple[str, Points]] = [
        ("val", [(float(place), float(size)) for place, size in enumerate(sizes, start=1)]),
        ("size", [(1.0, float(length)), (last, float(length))]),
    ]
    keys = f"<b>{escape(caption)}</b> " if caption else ""
    keys += f'<span class="named"><span class="key"></span>receptive field in {unit}</span> '
    keys += f'<span class="named"><span class="key size"></span>{escape(what)}: {length:,} {unit}</span> '
    if object_px is not None:
        lines.append(("train", [(1.0, float(object_px)), (last, float(object_px))]))
        keys += f'<span class="named"><span class="key train"></span>an object: {object_px} {unit}</span>'
    chart = line_chart(
        "Receptive field over depth",
        told,
        lines,
        lambda value: f"{value:,.0f}",
        lowest=0.0,
        along="layer, in the order of computation",
    )
    return f'<figure class="growth"><figcaption>{keys}</figcaption>{chart}</figure>'


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
    """Values along one axis as a small ``<svg>`` without scales, a line at 0 where 0 is among them.

    Args:
        title: what a person hears who cannot see it; escaped.
        lines: style class and values of each line; of more values than pixels the lowest and the highest of each stretch.
        lowest, highest: ends of the height; those of the values where they are left out.
        heat: a number from 0 on for each place, drawn as a stronger ground where it is larger.
        box: first and last place to outline.
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
        points = _ends_of_stretches(line, width)
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
    """A bar for each value, up for more than 0 and down for less, as a small ``<svg>`` without scales."""
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


def _ends_of_stretches(line: Sequence[float] | npt.NDArray[Any], most: int) -> Points:
    """Place and value of each point; of a line with more than ``most``, the lowest and the highest of each stretch, so that no peak is lost.

    >>> _ends_of_stretches([0.0, 9.0, 1.0, 2.0, -3.0, 0.0], 4)
    [(0.0, 0.0), (1.0, 9.0), (3.0, 2.0), (4.0, -3.0)]
    """
    values = np.asarray(line, dtype=np.float64)
    if len(values) <= most:
        return [(float(place), float(value)) for place, value in enumerate(values)]
    points = []
    for places in np.array_split(np.arange(len(values)), most // 2):
        ends = sorted({int(places[values[places].argmin()]), int(places[values[places].argmax()])})
        points += [(float(place), float(values[place])) for place in ends]
    return points


def _thin_heat(heat: npt.NDArray[Any]) -> list[float]:
    """Shares of the largest value, at most ``_MAX_STRETCHES`` of them, each the largest of its stretch."""
    parts = np.array_split(heat, min(len(heat), _MAX_STRETCHES))
    return [float(part.max()) / float(heat.max()) for part in parts]


def heat_map(title: str, description: str, scores: Scores) -> str:
    """The confusion of many classes as one ``<svg>``: a square for each pair that occurs, its names and count on hover."""
    side, cell = len(scores.classes), 10
    parts = [f'<rect class="frame" x="0" y="0" width="{side * cell}" height="{side * cell}"/>']
    for true, row in enumerate(scores.confusion):
        num_samples = sum(row)
        for predicted, count in enumerate(row):
            if count:
                kind = "hit" if true == predicted else "miss"
                told = escape(f"{scores.classes[true]} called {scores.classes[predicted]}: {count:,} of {num_samples:,}")
                parts.append(
                    f'<rect class="{kind}" x="{predicted * cell}" y="{true * cell}" width="{cell}" height="{cell}" '
                    f'fill-opacity="{shade(count / num_samples):.2f}"><title>{told}</title></rect>'
                )
    return _svg(title, description, side * cell, side * cell, "".join(parts))


def shade(share: float) -> float:
    """How strongly a share of a row is colored, 0 to 1: its square root, so that rare mistakes can be seen.

    >>> shade(0.0), shade(0.01), shade(1.0)
    (0.0, 0.1, 1.0)
    """
    return math.sqrt(share)


def _svg(title: str, description: str, width: int, height: int, inside: str) -> str:
    label = escape(f"{title}. {description}", quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inside}</svg>'


def _thin(points: Points) -> Points:
    """At most ``_MAX_POINTS`` of the points, evenly taken, with the first and the last."""
    if len(points) <= _MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(index * last / (_MAX_POINTS - 1))] for index in range(_MAX_POINTS)]


def _labels(ticks: Sequence[float], step: float, write_value: Callable[[float], str]) -> list[str]:
    """What stands beside the grid lines; with more decimals where two would read alike.

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
    """At most eight whole epochs for the axis, from the first one."""
    step = max(1, math.ceil((last - first) / 7))
    return list(range(round(first), round(last) + 1, step))
