"""Advice that follows from a network's figures: what is wrong or wasteful, each with its sum and with remedies that were tried.

This file knows which kinds of advice there are, and their order. It must not know how any is found, nor how it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from visus.design.account import Account
from visus.design.advice_cost import falling_channels, large_linear, lone_values, pooled_points, softmax_last
from visus.design.advice_sight import gaps, object_size, unproductive, unread
from visus.design.advised import Advice as Advice
from visus.design.advised import Facts
from visus.design.plan import Design

KINDS: Final[dict[str, str]] = {
    "object": "the last map sees less than an object",
    "norm": "a norm over one value",
    "softmax": "a softmax before the cross-entropy",
    "pool": "a map with one position is pooled",
    "stride": "a stride larger than its kernel",
    "gaps": "windows that leave gaps in what is read",
    "border": "a border that is never read",
    "channels": "fewer channels on a smaller map",
    "linear": "the first linear layer holds most parameters",
    "unproductive": "layers that see no new part of the picture",
}
"""Every kind of advice and what it is about, the gravest first; the last two are often meant to be so."""

_SOURCES: Final[tuple[Callable[[Facts], Iterator[Advice]], ...]] = (
    *(object_size, lone_values, softmax_last, pooled_points, unread),
    *(falling_channels, large_linear, unproductive),
)


def advise(
    account: Account, design: Design | None = None, num_classes: int | None = None, *, object_px: int | None = None
) -> tuple[Advice, ...]:
    """What to say about a network, the gravest first; empty where there is nothing.

    Args:
        account: its account.
        design: the design that the account is of; without it, only what follows from the rows is said, and no remedy is tried.
        num_classes: what ``classes`` stands for.
        object_px: size of the objects in the pictures, in pixels of the input.

    Raises:
        DesignError: the design cannot take the account's input.

    >>> from visus.design import account, parse
    >>> design = parse("conv(8, 3, padding=1), relu, globalpool, linear(classes), softmax")
    >>> [advice.kind for advice in advise(account(design, (3, 32, 32), 10), design, 10)]
    ['softmax']
    """
    nodes = design.place(account.input_shape, num_classes) if design is not None else ()
    facts = Facts(account, nodes, object_px)
    found = [advice for source in _SOURCES for advice in source(facts)]
    if not any(advice.kind in ("stride", "gaps") for advice in found):
        found += gaps(facts)
    return tuple(sorted(found, key=lambda advice: list(KINDS).index(advice.kind)))
