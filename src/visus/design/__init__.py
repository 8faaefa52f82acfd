"""Networks as plain data: layers as values, a text for every design, shapes, costs, receptive fields.

    parse            a design from its text
    Design           a design from layers in Python
    account          a row for each layer: shape, parameters, multiply-adds, receptive field
    resolve_network  a design from a text, a family call or a name

Layers and groups have the names and arguments of PyTorch, without input channels:

    conv, depthwise, transposed, linear, flatten, maxpool, avgpool, blurpool, globalpool, upsample,
    norm, layernorm, groupnorm, relu, gelu, silu, softmax and others, se, scale, dropout, droppath,
    sequence, residual, concat, repeat; classes stands for the number of classes

Families: lenet5, alexnet, vgg, inception, resnet, densenet, mobilenet, efficientnet_lite, convnext,
mlp, compact. LAYERS and FAMILIES hold all of them by name. Torch is not needed.

>>> from visus.design import Design, account, classes, conv, globalpool, linear, maxpool, relu
>>> design = Design([conv(32, 3, padding=1), relu, maxpool(2), globalpool, linear(classes)])
>>> design.text
'conv(32, 3, padding=1), relu, maxpool(2), globalpool, linear(classes)'
>>> account(design, (3, 32, 32), 10)
Account of 5 rows
  shapes  3 x 32 x 32 -> 10
  costs   1,226 parameters, 885 k multiply-adds
"""

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
