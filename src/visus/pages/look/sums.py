"""The part of a look page that takes one output apart: patch x kernel + bias = value, every term.

Shape letters: C channels in, k taps on an axis. This file knows terms and tables of them.
"""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np

from visus.examine.layer_calls import Array
from visus.examine.pixel_sums import PADDING, PixelSum
from visus.pages.look.facts import LookFacts
from visus.pages.parts.document import folded, section, table_head, table_row, wide_table
from visus.units import write_number_of, write_shape

MAX_TERMS: Final = 1200  # tables of this many terms are written out
OPEN_CHANNELS: Final = 3
_ROW: Final = 12


def sum_section(facts: LookFacts) -> str:
    """One output as a sum, in full."""
    found = facts.sum
    if found is None:
        return section("One number, in full", f"<p>{escape(facts.missing.get('sum', ''))}</p>")
    return section("One number, in full", _words(facts, found) + _equation(found) + _channels(found))


def _words(facts: LookFacts, found: PixelSum) -> str:
    place = f" at {write_place(found.position)}" if found.position else ""
    num_terms = found.products.size
    padding = sum(int((line == PADDING).sum()) > 0 for line in found.places)
    border = " Some of its taps lie on padding and read 0." if padding else ""
    reads = (
        f"{write_number_of(found.patch.shape[0], 'channel')} of {write_shape(found.kernel.shape[1:])}"
        if found.kernel.ndim > 1
        else write_number_of(found.kernel.shape[0], "number")
    )
    everywhere = "in every place of every map" if found.kernel.ndim > 1 else "for every number of every layer"
    noun = "Filter" if found.kernel.ndim > 1 else "Unit"
    why = facts.missing.get("sum", "")
    bias = ", and no bias" if "bias=False" in found.layer else " and a bias"
    return (
        (f"<p>{escape(why)}</p>" if why else "")
        + f"<p>{noun} {found.channel} of <b>{escape(found.path or 'the module')}</b>{place} reads {reads} and has as many weights: "
        f"{write_number_of(num_terms, 'product')}{bias}. What a network does {everywhere} is this.{border}</p>"
    )


def write_place(position: tuple[int, ...]) -> str:
    """A position of a map in words.

    >>> write_place((3, 4)), write_place((7,))
    ('row 3, column 4', 'place 7')
    """
    names = {1: ("place",), 2: ("row", "column"), 3: ("slice", "row", "column")}[len(position)]
    return ", ".join(f"{name} {index}" for name, index in zip(names, position, strict=True))


def _equation(found: PixelSum) -> str:
    products = float(found.products.sum())
    sign = "+" if found.bias >= 0 else "\u2212"
    gap = abs(found.sum - found.value)
    is_rounding = gap <= 1e-3 * max(1.0, abs(found.value))
    verdict = (
        f"the two differ by {gap:.1g}, which is rounding" if is_rounding else f"they differ by {gap:.3g}, more than rounding"
    )
    return (
        f'<p class="sum">{products:.6g} {sign} {abs(found.bias):.6g} = <b>{found.sum:.6g}</b></p>'
        f"<p>The products add up to {products:.6g}, the bias is {found.bias:.6g}. The network itself says {found.value:.6g}: "
        f"{verdict}.</p>"
    )


def _channels(found: PixelSum) -> str:
    """Each channel's patch, kernel and products; the largest shares open, the rest folded."""
    patch, kernel, products = (_grids(each) for each in (found.patch, found.kernel, found.products))
    totals = [float(np.nansum(each)) for each in products]
    order = [int(place) for place in np.argsort(-np.abs(totals), kind="stable")]
    per_channel = max(1, products[0].size)
    num_written = max(OPEN_CHANNELS, MAX_TERMS // per_channel)
    written = [
        _one_channel(found.channels_in[place], patch[place], kernel[place], products[place]) for place in order[:num_written]
    ]
    content = "".join(written[:OPEN_CHANNELS])
    if len(written) > OPEN_CHANNELS:
        content += folded(
            f"The terms of {write_number_of(len(written) - OPEN_CHANNELS, 'more channel')}", "".join(written[OPEN_CHANNELS:])
        )
    if len(order) > 1:
        rows = "".join(table_row(str(found.channels_in[place]), [f"{totals[place]:.6g}"]) for place in order)
        last = f"<tfoot>{table_row('all', [f'{sum(totals):.6g}'])}</tfoot>"
        table = wide_table(
            "What each channel adds, the largest first",
            f"{table_head(['Channel in', 'Sum of its products'])}<tbody>{rows}</tbody>{last}",
        )
        content += folded(f"What each of the {len(order):,} channels adds", table)
    return content


def _grids(values: Array) -> list[Array]:
    """A table for each channel: slices of a volume below each other; all features of a linear layer in rows of a dozen.

    What is missing in the last row is not a number.
    """
    if values.ndim == 1:
        rows = -(-len(values) // _ROW)
        padded = np.full(rows * _ROW, np.nan)
        padded[: len(values)] = values
        return [padded.reshape(rows, _ROW)]
    return [each.reshape(-1, each.shape[-1]) for each in values]


def _one_channel(channel: int, patch: Array, kernel: Array, products: Array) -> str:
    grids = [
        ("patch", patch),
        ("kernel", kernel),
        ("products", products),
    ]
    signs = ("\u00d7", "=", "")
    parts = []
    for (name, values), sign in zip(grids, signs, strict=True):
        parts.append(_grid(f"{name}, channel {channel}", values) + (f'<span class="sign">{sign}</span>' if sign else ""))
    total = f'<p class="under">Channel {channel} adds {float(np.nansum(products)):.6g}.</p>'
    return f'<div class="terms">{"".join(parts)}</div>{total}'


def _grid(caption: str, values: Array) -> str:
    top = float(np.nanmax(np.abs(values))) or 1.0
    rows = []
    for row in values:
        cells = []
        for value in row:
            if np.isnan(value):
                continue
            kind = "plus" if value >= 0 else "minus"
            cells.append(f'<td class="{kind}" style="--s:{abs(float(value)) / top:.2f}">{_term(float(value))}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return wide_table(caption, f"<tbody>{''.join(rows)}</tbody>", "terms")


def _term(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")
