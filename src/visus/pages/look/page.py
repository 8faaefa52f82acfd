"""A look as one HTML page: the parts in the order in which a person asks.

This file knows the order of the parts.
"""

from __future__ import annotations

from html import escape

from visus.pages.look.facts import LookFacts
from visus.pages.look.fields import fields_section
from visus.pages.look.filters import filters_section
from visus.pages.look.layers import layers_section
from visus.pages.look.saliency import saliency_section, sample_section
from visus.pages.look.sums import sum_section
from visus.pages.parts.document import header, page


def look_page(facts: LookFacts) -> str:
    """The page as HTML text, under 3 MB: the same facts give the same text."""
    under = (f"network: {facts.name}", "" if facts.is_trained else "not trained: its weights are random")
    warning = facts.warning
    parts = [
        f'<div class="warning" role="note"><p>{escape(warning)}</p></div>' if warning else "",
        sample_section(facts),
        saliency_section(facts),
        layers_section(facts),
        filters_section(facts),
        sum_section(facts),
        fields_section(facts),
    ]
    title = facts.sample.name
    return page(
        title,
        header("A look inside", title, under),
        [f'<div class="look">{"".join(parts)}</div>'],
        kind="look",
        made_with=facts.made_with,
    )
