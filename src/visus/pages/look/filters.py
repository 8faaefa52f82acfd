"""The part of a look page that shows filters: the kernels of the first layer, and for deeper layers the patches that excite each filter most.

Shape letters: C channels, * spatial axes.
"""

from __future__ import annotations

import math
from html import escape
from typing import Final

from visus.pages.look.facts import LayerPatches, LookFacts, Patch
from visus.pages.parts.document import Section
from visus.pages.parts.filters import filter_figures
from visus.pages.parts.samples import MAX_SLICES, sample_block_means, sample_image
from visus.units import write_number_of, write_size

PATCH_PX: Final = 56
PATCHES_BYTES: Final = 700_000
_SIDES: Final = (96, 56, 40, 28, 20)
_BYTES_PER_PX, _BYTES_BESIDE = 1.9, 420


def filters_section(facts: LookFacts) -> Section:
    """The kernels of the first layer, then the strongest patches of deeper ones."""
    title = "Filters" if facts.kernels is None or facts.kernels.noun == "filter" else "First units"
    return Section(title, _kernels(facts) + _templates(facts))


def _kernels(facts: LookFacts) -> str:
    found = facts.kernels
    if found is None:
        return f"<p>{escape(facts.missing.get('kernels', ''))}</p>"
    kernels = found.as_maps(facts.sample.values.shape)
    if kernels is None:
        return (
            f"<p>The weights of the first layer, <b>{escape(found.path)}</b>, are not drawn: its "
            f"{write_number_of(found.kernels.shape[1], 'input')} are no positions of the sample.</p>"
        )
    return filter_figures(kernels, found.path, found.layer, found.noun)


def _templates(facts: LookFacts) -> str:
    is_first = facts.kernels is not None and [each.path for each in facts.patches] == [facts.kernels.path]
    nouns = f"{facts.kernels.noun}s" if facts.kernels is not None and not facts.patches else "filters"
    title = f"<h3>What {'these' if is_first else 'deeper'} {nouns} respond to</h3>"
    if not facts.patches:
        return f"{title}<p>{escape(facts.missing.get('patches', ''))}</p>"
    words = (
        f"<p>Each row shows the patches of {escape(facts.patches_of)} with the highest activations of one filter, at most one from each sample. "
        f"A patch is cut to the exact receptive field of the unit: no {facts.sample.place} outside it can change the activation. Of each layer "
        f"the {write_number_of(len(facts.patches[0].channels), 'filter')} with the highest activations on this {facts.sample.noun} are "
        "shown.</p>"
    )
    side = _side(facts)
    return title + words + "".join(_layer(facts, layer, side) for layer in facts.patches)


def _side(facts: LookFacts) -> int:
    """The longest side that patches keep, so that all of them fit into ``PATCHES_BYTES``, by an estimate."""
    patches = [patch for layer in facts.patches for _, found in layer.channels for patch in found]
    for side in _SIDES:
        total = 0.0
        for patch in patches:
            plane = patch.pixels.shape[1:][-2:]
            shrink = max(1, -(-max(plane, default=1) // side))
            slices = MAX_SLICES if patch.pixels.ndim == 4 else 1
            total += slices * math.prod(plane) / shrink**2 * _BYTES_PER_PX + _BYTES_BESIDE
        if total * 4 / 3 <= PATCHES_BYTES:
            return side
    return _SIDES[-1]


def _layer(facts: LookFacts, layer: LayerPatches, side: int) -> str:
    left = layer.num_channels - len(layer.channels)
    rest = f" <span class='under'>{write_number_of(left, 'more filter')}</span>" if left else ""
    rows = []
    for channel, patches in layer.channels:
        drawn = "".join(_patch(facts, layer.path, channel, patch, side) for patch in patches)
        drawn = drawn or '<span class="under">reads only padding</span>'
        rows.append(f'<div class="row"><span class="name">{channel}</span>{drawn}</div>')
    return f"<div class='layer'><h4>{escape(layer.path)}{rest}</h4><div class='rows'>{''.join(rows)}</div></div>"


def _patch(facts: LookFacts, path: str, channel: int, patch: Patch, side: int) -> str:
    if patch.box is None or not patch.pixels.size:
        return ""
    size = write_size(patch.pixels.shape[1:])
    label = f"Filter {channel} of {path} has the activation {patch.value:.3g} on {size} of {patch.sample}"
    pixels = sample_block_means(patch.pixels, side) if patch.pixels.ndim > 2 else patch.pixels
    shown = sample_image(pixels, facts.sample.lowest, facts.sample.highest, label, max(PATCH_PX, side))
    return f"<figure>{shown}<figcaption>{patch.value:.3g}</figcaption></figure>"
