"""The part of a look page that writes out one output: patch x kernel + bias = value, every term.

Shape letters: C input channels, k taps on an axis.
"""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np

from visus.examine.dot_products import PADDING, OutputTerms
from visus.examine.layer_calls import Array
from visus.pages.look.facts import LookFacts
from visus.pages.parts.document import Section, folded, paragraphs
from visus.pages.parts.table import bare_table, table, table_row
from visus.units import write_number_of, write_shape

MAX_TERMS: Final = 1200  # channels with so many terms together are written out
OPEN_CHANNELS: Final = 3
_ROW: Final = 12


def output_terms_section(facts: LookFacts) -> Section:
    """One output as a sum, term by term."""
    found = facts.sum
    if found is None:
        return Section("One output, term by term", f"<p>{escape(facts.missing.get('sum', ''))}</p>")
    return Section("One output, term by term", _words(facts, found) + _equation(found) + _channels(found))


def _words(facts: LookFacts, found: OutputTerms) -> str:
    place = f" at {write_place(found.position)}" if found.position else ""
    is_map = found.kernel.ndim > 1
    unit = f"{'filter' if is_map else 'unit'} {found.channel} of <b>{escape(found.path or 'the module')}</b>{place}"
    shape = (
        f", {write_number_of(found.patch.shape[0], 'input channel')} of {write_shape(found.kernel.shape[1:])}"
        if is_map
        else ""
    )
    bias = "there is no bias" if "bias=False" in found.layer else "a bias is added"
    every = (
        "Every value of a feature map is computed this way."
        if is_map
        else "Every unit of a linear layer is computed this way."
    )
    has_padding = any(int((line == PADDING).sum()) for line in found.places)
    padding = " Some of the inputs are padding, which is 0." if has_padding else ""
    why = facts.missing.get("sum", "")
    return paragraphs([why]) + (
        f"<p>The output of {unit} is the sum of {write_number_of(found.products.size, 'product')}{shape}; {bias}. {every}{padding}</p>"
    )


def write_place(position: tuple[int, ...]) -> str:
    """A position of a map in words.

    >>> write_place((3, 4)), write_place((7,))
    ('row 3, column 4', 'place 7')
    """
    names = {1: ("place",), 2: ("row", "column"), 3: ("slice", "row", "column")}[len(position)]
    return ", ".join(f"{name} {index}" for name, index in zip(names, position, strict=True))


def _equation(found: OutputTerms) -> str:
    products = float(found.products.sum())
    sign = "+" if found.bias >= 0 else "\u2212"
    gap = abs(found.sum - found.value)
    is_rounding = gap <= 1e-3 * max(1.0, abs(found.value))
    verdict = (
        f"the difference of {gap:.1g} is rounding" if is_rounding else f"the difference of {gap:.3g} is more than rounding"
    )
    return (
        f'<p class="sum">{products:.6g} {sign} {abs(found.bias):.6g} = <b>{found.sum:.6g}</b></p>'
        f"<p>The products add up to {products:.6g}, the bias is {found.bias:.6g}. The network computes {found.value:.6g}: "
        f"{verdict}.</p>"
    )


def _channels(found: OutputTerms) -> str:
    """Patch, kernel and products of each channel; the largest sums open, the others folded."""
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
        content += folded(f"The sums of all {len(order):,} channels", _channel_sums(found.channels_in, totals, order))
    return content


def _channel_sums(channels: range, totals: list[float], order: list[int]) -> str:
    rows = [table_row(str(channels[place]), [f"{totals[place]:.6g}"]) for place in order]
    caption = "The sum of the products of each input channel, the largest first"
    return table(caption, ["Input channel", "Sum"], rows, foot=table_row("all", [f"{sum(totals):.6g}"]))


def _grids(values: Array) -> list[Array]:
    """A grid for each channel: slices of a volume below each other; all features of a linear layer in rows of 12, the last filled up with NaN."""
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
    total = f'<p class="under">The products of channel {channel} sum to {float(np.nansum(products)):.6g}.</p>'
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
    return bare_table(caption, f"<tbody>{''.join(rows)}</tbody>", "terms")


def _term(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")
