"""Charts of a report as SVG text: confidence against accuracy, and how far each layer sees.

This file knows coordinates and marks; colours come from the page's style sheet by class name. It must not know runs or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from visus.evaluation.temperature import Bin, Reliability
from visus.units import write_share

_SIDE, _LEFT, _TOP, _BOTTOM, _RIGHT = 300, 52, 12, 44, 26
_COUNTS = 46
_LARGEST_DOT, _SMALLEST_DOT = 7.0, 1.8
_WIDTH, _HEIGHT = 560, 260


def reliability_chart(before: Reliability, after: Reliability | None) -> str:
    """Confidence from left to right, accuracy upwards: a dot for each bin that has items, larger where it has more; bars of their share below.

    Dots on the diagonal are what a network says whose confidence can be taken at its word.
    """
    drawn = [("train", before)] + ([("val", after)] if after is not None else [])
    told = []
    for name, each in zip(("As it is", "with the temperature"), (found for _, found in drawn), strict=False):
        pairs = ", ".join(f"{write_share(bin.accuracy, 0)} at {write_share(bin.confidence, 0)}" for bin in each.bins
                          if bin.accuracy is not None and bin.confidence is not None)  # fmt: skip
        told.append(f"{name}, accuracy at confidence: {pairs}")
    height = _TOP + _SIDE + _COUNTS + _BOTTOM
    width = _LEFT + _SIDE + _RIGHT
    parts = [_diagonal_grid()]
    for style, each in drawn:
        parts.append(_dots(style, each.bins))
    parts += [_count_bars(before.bins), _foot("confidence", height)]
    label = escape(f"Confidence and accuracy. {'; '.join(told)}.", quote=True)
    return f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def growth_chart(title: str, sizes_px: Sequence[float], picture_px: float, told: str) -> str:
    """How far each layer sees, the first layer at the left, with the size of the picture as a line.

    Args:
        title: of the axis; escaped.
        sizes_px: receptive field after each layer, in pixels of the input; larger ones than twice the picture are drawn at twice.
        picture_px: length of the input's axis.
        told: what a person hears who cannot see the chart; escaped.
    """
    high = min(max([*sizes_px, picture_px]), 2 * picture_px) * 1.04
    across = (_WIDTH - _LEFT - _RIGHT) / max(1, len(sizes_px))

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(value, high) / high)

    parts = []
    step = _tick_step(high)
    for index in range(int(high / step) + 1):
        value = index * step
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for place, size in enumerate(sizes_px):
        style = "hit" if size < picture_px else "all"
        left, top = _LEFT + (place + 0.12) * across, y(size)
        parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{max(0.5, 0.76 * across):.1f}" height="{max(0.5, y(0) - top):.1f}"/>'
        )
    line = y(picture_px)
    parts.append(f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>')
    parts.append(
        f'<text class="limit" x="{_LEFT + 4}" y="{max(_TOP + 10, line - 5):.1f}">{escape(title)}: {picture_px:g} px</text>'
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">layers, the first at the left; px of the input upwards</text>'
    )
    label = escape(told, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


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
    total = sum(each.num_items for each in bins) or 1
    places, parts = [], []
    for each in bins:
        if each.confidence is None or each.accuracy is None:
            continue
        across, up = _x(each.confidence), _y(each.accuracy)
        places.append(f"{across:.1f},{up:.1f}")
        radius = _SMALLEST_DOT + (_LARGEST_DOT - _SMALLEST_DOT) * math.sqrt(each.num_items / total)
        parts.append(f'<circle class="dot {style}" cx="{across:.1f}" cy="{up:.1f}" r="{radius:.1f}"/>')
    return f'<polyline class="line {style}" points="{" ".join(places)}"/>{"".join(parts)}'


def _count_bars(bins: Sequence[Bin]) -> str:
    """The share of the items in each bin, as bars that hang below the plot."""
    most = max(each.num_items for each in bins) or 1
    top = _TOP + _SIDE + 6
    parts = []
    for each in bins:
        height = (_COUNTS - 10) * each.num_items / most
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
    return f'{ticks}<text x="{_x(0.5)}" y="{height - 5}" text-anchor="middle">{escape(along)}; below: how many items have it</text>'


def _tick_step(high: float) -> float:
    """A round step for at most six grid lines."""
    power = 10.0 ** math.floor(math.log10(high / 5))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= high / 6)
