"""A look as one HTML page: the parts in the order in which a person asks.

This file knows the order of the parts.
"""

from __future__ import annotations

from html import escape

from visus.examine.look_facts import LookFacts
from visus.examine.look_fields import fields_section
from visus.examine.look_filters import filters_section
from visus.examine.look_layers import layers_section
from visus.examine.look_saliency import saliency_section, sample_section
from visus.examine.look_sums import sum_section
from visus.examine.page import header, page


def look_page(facts: LookFacts) -> str:
    """The page as HTML text, under 3 MB: the same facts give the same text."""
    under = (f"network: {facts.name}", "" if facts.is_trained else "not trained: its weights are random")
    warning = facts.missing.get("training", "")
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
