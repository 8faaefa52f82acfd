"""What a notebook shows of a look: the first saliency map over its sample, and the filters of the first layer.

A notebook has no style sheet of visus, so each image stands for itself. Signals are curves, which need one: they are on the page alone.
"""

from __future__ import annotations

from html import escape
from typing import Final

from visus.pages.look.facts import LookFacts
from visus.pages.parts.document import figure
from visus.pages.parts.filters import dead_filters, filter_image, scale_sentence
from visus.pages.parts.overlay import map_over_sample

MAP_PX: Final = 168
MAX_FILTERS: Final = 32
_ROW: Final = "display:flex;flex-wrap:wrap;gap:6px"


def preview(facts: LookFacts) -> str:
    """The saliency map that is shown first, and the filters of the first layer, as HTML without a style sheet.

    Returns:
        The figures; empty for a signal, or if there is neither a map that passes its checks nor a layer with kernels.
    """
    return _map(facts) + _filters(facts) if len(facts.sample.spatial) > 1 else ""


def _map(facts: LookFacts) -> str:
    if not facts.methods:
        return ""
    sample, first = facts.sample, facts.methods[0]
    label = f"{first.saliency.method} over the {sample.noun}: red where it matters most"
    verdict = "" if first.is_passed else "; this map does not pass deletion and insertion"
    drawn = map_over_sample(sample.values, sample.lowest, sample.highest, first.saliency.map[0], label, MAP_PX)
    return figure(escape(f"{label}{verdict}"), drawn)


def _filters(facts: LookFacts) -> str:
    found = facts.kernels
    kernels = None if found is None else found.as_maps(facts.sample.values.shape)
    if found is None or kernels is None or kernels.ndim < 4:
        return ""
    some = f", the first {MAX_FILTERS} of {len(kernels)}" if len(kernels) > MAX_FILTERS else ""
    shown = kernels[:MAX_FILTERS]
    drawn = "".join(
        filter_image(kernel, f"{found.noun.capitalize()} {index} of {found.path}", is_dead=is_dead)
        for index, (kernel, is_dead) in enumerate(zip(shown, dead_filters(shown), strict=True))
    )
    caption = f"{found.noun.capitalize()}s of {found.path or 'the module'}{some}. {scale_sentence(kernels.shape[1:])}"
    return figure(escape(caption), f'<div style="{_ROW}">{drawn}</div>')
