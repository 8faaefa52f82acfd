"""Advice that follows from a network's figures: what is wrong or wasteful, each with its calculation and with remedies that
were tried."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from visus.design.account import Account
from visus.design.advice.activations import missing_activation
from visus.design.advice.cost import (
    activation_last,
    falling_channels,
    large_linear,
    lone_values,
    pooled_points,
    softmax_last,
)
from visus.design.advice.pieces import Advice as Advice
from visus.design.advice.receptive_field import object_size, unproductive
from visus.design.advice.unread_pixels import gaps, unread
from visus.design.facts import Facts, Finder, remedied
from visus.design.plan import Design

KINDS: Final[dict[str, str]] = {
    "batch": "operations that mix the samples of a batch",
    "unregistered": "layers in a plain list or dict, whose weights are not trained",
    "object": "the last map sees less than an object, or the image is smaller than one",
    "norm": "a norm over one value",
    "softmax": "a softmax before the cross-entropy",
    "output": "an activation before the cross-entropy that limits the logits",
    "activation": "no activation between two convolutions or two linear layers",
    "pool": "a map with a single position is pooled",
    "stride": "a stride larger than its kernel",
    "gaps": "windows that leave gaps in what is read",
    "border": "a border that is never read",
    "unused": "layers that the forward pass never calls",
    "channels": "fewer channels on a smaller map",
    "linear": "the first linear layer holds most parameters",
    "unproductive": "layers that see no new part of the image",
}
"""Every kind of advice and its subject, the most serious first; the last two are often intended."""

MODULE_KINDS: Final = ("batch", "unregistered", "unused")
"""The kinds that a design cannot have: mistakes in the code of a module, found by ``visus.networks.trace.module_advice``."""

TRAINING_KINDS: Final = ("batch", "unused", "output", "activation")
"""The kinds that a training repeats before its first step: what the network computes is surely not what was meant. It refuses
``unregistered``, and has its own sentence on ``softmax``."""

_FINDERS: Final[tuple[Finder, ...]] = (
    *(object_size, lone_values, softmax_last, activation_last, missing_activation, pooled_points, unread),
    *(falling_channels, large_linear, unproductive),
)


def advise(
    account: Account,
    design: Design | None = None,
    num_classes: int | None = None,
    *,
    object_px: int | None = None,
    batch_size: int | None = None,
) -> tuple[Advice, ...]:
    """Advice on a network, the most serious first; empty if there is none.

    A design and the module that is built from it get the same advice; remedies are tried on a design only.

    Args:
        account: its account, with a row for each layer.
        design: the design that the account is of; without it, no remedy is tried.
        num_classes: the value of ``classes``.
        object_px: size of the objects in the images, in pixels of the input.
        batch_size: samples of a training batch. With 1, a batch norm over one position has a single value.

    Raises:
        DesignError: the design cannot take the account's input.

    >>> from visus.design import account, parse
    >>> design = parse("conv(8, 3, padding=1), relu, globalpool, linear(classes), softmax")
    >>> [advice.kind for advice in advise(account(design, (3, 32, 32), 10), design, 10)]
    ['softmax']
    """
    nodes = design.place(account.input_shape, num_classes) if design is not None else ()
    facts = Facts(account, nodes, object_px, batch_size)
    advice = [remedied(found, finder) for finder in _FINDERS for found in finder(facts)]
    if not any(each.kind in ("stride", "gaps") for each in advice):
        advice += [remedied(found, gaps) for found in gaps(facts)]
    return most_serious_first(advice)


def training_advice(account: Account, design: Design | None = None, num_classes: int | None = None) -> tuple[Advice, ...]:
    """The advice of the kinds that a training repeats, of those that an account shows.

    Args:
        account, design, num_classes: as for ``advise``.

    >>> from visus.design import account, parse
    >>> design = parse("conv(8, 3), conv(8, 3), globalpool, linear(classes)")
    >>> [advice.path for advice in training_advice(account(design, (3, 32, 32), 10), design, 10)]
    ['conv2']
    """
    nodes = design.place(account.input_shape, num_classes) if design is not None else ()
    facts = Facts(account, nodes)
    return tuple(remedied(found, finder) for finder in (activation_last, missing_activation) for found in finder(facts))


def most_serious_first(advice: Iterable[Advice]) -> tuple[Advice, ...]:
    """The advice in the order of ``KINDS``.

    >>> [each.kind for each in most_serious_first([Advice("linear", "", ""), Advice("norm", "", "")])]
    ['norm', 'linear']
    """
    return tuple(sorted(advice, key=lambda each: list(KINDS).index(each.kind)))
