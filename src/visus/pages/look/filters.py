"""The part of a look page that shows filters: the first layer's kernels, and for deeper layers the patches that excite each filter most.

Shape letters: F filters, C channels, * spatial axes. This file knows kernels, patches and how many of them a page can bear.
"""

from __future__ import annotations

import math
from html import escape
from typing import Final

import numpy as np

from visus.examine.layer_calls import Array
from visus.pages.look.facts import LayerPatches, LookFacts, Patch
from visus.pages.parts import samples as look_drawn
from visus.pages.parts.charts import curve
from visus.pages.parts.document import section
from visus.pages.parts.images import Drawn, as_image, in_signed_shades, sheet
from visus.units import write_number_of, write_shape, write_size

MAX_KERNELS: Final = 64
KERNEL_PX, PATCH_PX = 48, 56
PATCHES_BYTES: Final = 700_000
_CURVES: Final = 4
_SIDES: Final = (96, 56, 40, 28, 20)
_BYTES_PER_PX, _BYTES_BESIDE = 1.9, 420


def filters_section(facts: LookFacts) -> str:
    """First the kernels themselves, then the templates."""
    title = "Filters" if facts.kernels is None or facts.kernels.noun == "filter" else "First units"
    return section(title, _kernels(facts) + _templates(facts))


def _kernels(facts: LookFacts) -> str:
    found = facts.kernels
    if found is None:
        return f"<p>{escape(facts.missing.get('kernels', ''))}</p>"
    kernels = found.as_maps(facts.sample.values.shape)
    if kernels is None:
        return (
            f"<p>The first layer with weights, <b>{escape(found.path)}</b>, reads {write_number_of(found.kernels.shape[1], 'number')} "
            "that are no places of the sample, so its weights are not drawn.</p>"
        )
    top = float(np.abs(kernels).max())
    drawn = [
        _kernel(kernel, top, f"{found.noun.capitalize()} {index} of {found.path}")
        for index, kernel in enumerate(kernels[:MAX_KERNELS])
    ]
    left = len(kernels) - len(drawn)
    rest = f" The other {left:,} are not drawn." if left > 0 else ""
    is_color = kernels.ndim == 4 and kernels.shape[1] == 3
    scale = (
        f"Gray is weight 0; red, green and blue are the weights of the three channels, from {-top:.3g} to {top:.3g}"
        if is_color
        else f"Each goes from {-top:.3g} to {top:.3g}, with the line at 0"
        if kernels.ndim == 3
        else f"White is weight 0, the strongest red {top:.3g}, the strongest blue {-top:.3g}"
    )
    figures = "".join(f"<figure>{each}<figcaption>{index}</figcaption></figure>" for index, each in enumerate(drawn))
    return (
        f"<h3>{escape(found.path or 'the module')} <span class='under'>{escape(found.layer)}</span></h3>"
        f"<p>{write_number_of(len(kernels), found.noun)} of {write_shape(kernels.shape[1:])} weights (channels first), all on one scale. "
        f"{scale}.{rest}</p>"
        f'<div class="maps">{figures}</div>'
    )


def _kernel(kernel: Array, top: float, told: str) -> str:
    """One kernel, (C, *)."""
    rank = kernel.ndim - 1
    if rank == 1:
        lines = [("val", line) for line in kernel[:_CURVES]]
        return curve(told, lines, lowest=-top, highest=top, size=(120, 60))
    if rank == 2 and len(kernel) == 3:
        return look_drawn.image(as_image(kernel, -top, top), told, KERNEL_PX)
    planes: list[Drawn] = [
        in_signed_shades(plane, top) for plane in (kernel[:_CURVES] if rank == 2 else kernel[0][: look_drawn.SLICES])
    ]
    joined = sheet(planes, len(planes), gap=1) if len(planes) > 1 else planes[0]
    return look_drawn.image(joined, told, KERNEL_PX * len(planes))


def _templates(facts: LookFacts) -> str:
    is_first = facts.kernels is not None and [each.path for each in facts.patches] == [facts.kernels.path]
    nouns = f"{facts.kernels.noun}s" if facts.kernels is not None and not facts.patches else "filters"
    title = f"<h3>What {'these' if is_first else 'deeper'} {nouns} look for</h3>"
    if not facts.patches:
        return f"{title}<p>{escape(facts.missing.get('patches', ''))}</p>"
    said = (
        f"<p>For each filter, the places in {escape(facts.patches_of)} that excite it most, cut to the {facts.sample.place}s that the unit really "
        f"reads: nothing outside of them can change its answer. Of each layer the {write_number_of(len(facts.patches[0].channels), 'filter')} "
        f"are shown that fired most on this {facts.sample.noun}, at most one place of a sample.</p>"
    )
    side = _side(facts)
    return title + said + "".join(_layer(facts, layer, side) for layer in facts.patches)


def _side(facts: LookFacts) -> int:
    """The longest side that patches keep, so that all of them fit into ``PATCHES_BYTES``, by an estimate."""
    patches = [patch for layer in facts.patches for _, found in layer.channels for patch in found]
    for side in _SIDES:
        total = 0.0
        for patch in patches:
            plane = patch.pixels.shape[1:][-2:]
            shrink = max(1, -(-max(plane, default=1) // side))
            slices = look_drawn.SLICES if patch.pixels.ndim == 4 else 1
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
        rows.append(
            f'<div class="row"><span class="name">{channel}</span>{drawn}</div>'
            if drawn
            else f'<div class="row"><span class="name">{channel}</span><span class="under">reads padding alone</span></div>'
        )
    return f"<div class='layer'><h4>{escape(layer.path)}{rest}</h4><div class='rows'>{''.join(rows)}</div></div>"


def _patch(facts: LookFacts, path: str, channel: int, patch: Patch, side: int) -> str:
    if patch.box is None or not patch.pixels.size:
        return ""
    size = write_size(patch.pixels.shape[1:])
    told = f"Filter {channel} of {path} says {patch.value:.3g} to {size} of {patch.sample}"
    pixels = look_drawn.reduced_sample(patch.pixels, side) if patch.pixels.ndim > 2 else patch.pixels
    shown = look_drawn.sample(pixels, facts.sample.lowest, facts.sample.highest, told, max(PATCH_PX, side))
    return f"<figure>{shown}<figcaption>{patch.value:.3g}</figcaption></figure>"
