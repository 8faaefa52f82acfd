"""Networks as plain data: layers as values, a text for every design, shapes, costs and receptive fields."""

from visus.design.account import Account, Row
from visus.design.account_walk import account
from visus.design.arguments import classes
from visus.design.families.compact import compact
from visus.design.families.registry import (
    FAMILIES,
    alexnet,
    convnext,
    densenet,
    efficientnet_lite,
    inception,
    lenet5,
    mlp,
    mobilenet,
    resnet,
    vgg,
)
from visus.design.graph import Node
from visus.design.items import Concat, Item, Repeat, Residual, Sequence, concat, repeat, residual, sequence
from visus.design.layers.activations import *  # noqa: F403  # every layer by its word
from visus.design.layers.convolution import *  # noqa: F403
from visus.design.layers.features import *  # noqa: F403
from visus.design.layers.norms import *  # noqa: F403
from visus.design.layers.pooling import *  # noqa: F403
from visus.design.layers.registry import LAYERS, Layer
from visus.design.layers.scaling import *  # noqa: F403
from visus.design.layers.transposed import *  # noqa: F403
from visus.design.notation import parse
from visus.design.plan import Design
from visus.design.resolve import resolve_network

__all__ = [
    "FAMILIES",
    "LAYERS",
    "Account",
    "Concat",
    "Design",
    "Item",
    "Layer",
    "Node",
    "Repeat",
    "Residual",
    "Row",
    "Sequence",
    "account",
    "alexnet",
    "classes",
    "compact",
    "concat",
    "convnext",
    "densenet",
    "efficientnet_lite",
    "inception",
    "lenet5",
    "mlp",
    "mobilenet",
    "parse",
    "repeat",
    "residual",
    "resnet",
    "resolve_network",
    "sequence",
    "vgg",
    *LAYERS,
]
