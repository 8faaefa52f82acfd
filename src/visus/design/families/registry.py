"""The table of families: each name with the function that returns its design."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from visus.design.families.compact import compact
from visus.design.families.deep import densenet, inception, resnet
from visus.design.families.early import alexnet, lenet5, mlp, vgg
from visus.design.families.light import efficientnet_lite, mobilenet
from visus.design.families.modern import convnext
from visus.design.plan import Design

FAMILIES: Final[dict[str, Callable[..., Design]]] = {
    "alexnet": alexnet,
    "compact": compact,
    "convnext": convnext,
    "densenet": densenet,
    "efficientnet_lite": efficientnet_lite,
    "inception": inception,
    "lenet5": lenet5,
    "mlp": mlp,
    "mobilenet": mobilenet,
    "resnet": resnet,
    "vgg": vgg,
}

__all__ = [
    "FAMILIES",
    "alexnet",
    "compact",
    "convnext",
    "densenet",
    "efficientnet_lite",
    "inception",
    "lenet5",
    "mlp",
    "mobilenet",
    "resnet",
    "vgg",
]
