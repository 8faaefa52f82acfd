"""What a training says of its network before the first step: mistakes with which it would learn less than was meant, or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from torch import nn

from visus.design import account
from visus.design.advice.advise import TRAINING_KINDS, Advice, most_serious_first, training_advice
from visus.errors import UsageError
from visus.networks.trace import trace
from visus.networks.trace.module_advice import module_advice, unregistered
from visus.workbench.modules import BuiltNetwork

RESUMED_KINDS: Final = ("unused", "activation")
"""The kinds that a resumed training repeats, since the rest of it learns less too."""


def advised(
    made: BuiltNetwork, input_shape: tuple[int, ...], num_classes: int, kinds: Sequence[str] = TRAINING_KINDS
) -> BuiltNetwork:
    """The network with the advice of ``visus summary`` on mistakes as warnings, one line each.

    Args:
        made: the network.
        input_shape: (channels, *spatial).
        num_classes: width of the last layer.
        kinds: the kinds of advice.

    Raises:
        UsageError: layers with weights are not registered, so they would be neither trained nor saved.
    """
    if made.design is None:
        refuse_unregistered(made.module, made.asked)
        found = _on_module(made.module, input_shape)
    else:
        found = training_advice(account(made.design, input_shape, num_classes), made.design, num_classes)
    return dataclasses.replace(made, warnings=(*made.warnings, *(each.text for each in found if each.kind in kinds)))


def refuse_unregistered(module: nn.Module, name: str) -> None:
    """Raise an error for a module that holds layers or parameters in a plain list, tuple or dict.

    Args:
        module: the module.
        name: its name, for the message.

    Raises:
        UsageError: it holds some; the message names each list and what to use instead.
    """
    if found := list(unregistered(module)):
        raise UsageError(" ".join(each.text for each in found), where=name)


def _on_module(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Advice, ...]:
    try:
        costs = trace(module, input_shape)
        found = (*training_advice(costs), *module_advice(module, costs))
    except Exception:  # whatever a person's own code raises without data: advice stops no training
        return ()
    return most_serious_first(each for each in found if each.kind in TRAINING_KINDS)
