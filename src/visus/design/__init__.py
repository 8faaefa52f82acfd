"""Networks as plain data: layers as values, a text for every design, shapes, costs and receptive fields.

This room knows designs. It must not know modules, tensors or torch.
"""

from visus.design.account import Account, Row
from visus.design.arguments import classes
from visus.design.compact import compact
from visus.design.families import FAMILIES, alexnet, lenet5, mlp, resnet, vgg
from visus.design.graph import Node
from visus.design.items import Concat, Item, Repeat, Residual, Sequence, concat, repeat, residual, sequence
from visus.design.layers import (
    LAYERS,
    Layer,
    avgpool,
    conv,
    depthwise,
    dropout,
    flatten,
    gelu,
    globalpool,
    groupnorm,
    layernorm,
    linear,
    maxpool,
    norm,
    relu,
    silu,
    softmax,
)
from visus.design.notation import parse
from visus.design.plan import Design
from visus.design.resolve import resolve
from visus.design.tally import account

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
    "avgpool",
    "classes",
    "compact",
    "concat",
    "conv",
    "depthwise",
    "dropout",
    "flatten",
    "gelu",
    "globalpool",
    "groupnorm",
    "layernorm",
    "lenet5",
    "linear",
    "maxpool",
    "mlp",
    "norm",
    "parse",
    "relu",
    "repeat",
    "residual",
    "resnet",
    "resolve",
    "sequence",
    "silu",
    "softmax",
    "vgg",
]
