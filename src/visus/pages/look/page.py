"""The look page: one sample through a network, as one HTML file; its sections, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final

from visus.pages.look.facts import LookFacts
from visus.pages.look.fields import fields_section
from visus.pages.look.filters import filters_section
from visus.pages.look.layers import layers_section
from visus.pages.look.output_terms import output_terms_section
from visus.pages.look.saliency import saliency_section, sample_section
from visus.pages.parts.document import Section, header, page

SECTIONS: Final[tuple[Callable[[LookFacts], Section], ...]] = (
    sample_section,
    saliency_section,
    layers_section,
    filters_section,
    output_terms_section,
    fields_section,
)
"""Each makes one section of the page; its title is that of its content."""


def look_page(facts: LookFacts) -> str:
    """The page as HTML text, under 3 MB: the output is deterministic."""
    under = (f"network: {facts.name}", "" if facts.is_trained else "not trained: its weights are random")
    warning = f'<div class="warning" role="note"><p>{escape(facts.warning)}</p></div>' if facts.warning else ""
    title = facts.sample.name
    return page(
        title,
        header("A look inside", title, under),
        [make(facts) for make in SECTIONS],
        kind="look",
        made_with=facts.made_with,
        before=warning,
    )
