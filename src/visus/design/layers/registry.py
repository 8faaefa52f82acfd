"""The table of layers: each word of the notation with its class, and the words as names in Python.

This file knows which layers there are.
"""

from __future__ import annotations

from typing import Final

from visus.design.arguments import Shape, classes
from visus.design.layers.convolution import Conv, Depthwise, Transposed, Whiten
from visus.design.layers.features import Flatten, Linear
from visus.design.layers.layer import DoesNotFitError, Layer, Windowed
from visus.design.layers.pooling import AvgPool, BlurPool, GlobalPool, MaxPool, Pool, Upsample
from visus.design.layers.values import (
    Dropout,
    DropPath,
    Elu,
    Gelu,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Norm,
    Relu,
    Relu6,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SqueezeExcite,
    Tanh,
)

conv, depthwise, transposed, whiten = Conv, Depthwise, Transposed, Whiten
maxpool, avgpool, blurpool, globalpool, upsample = MaxPool, AvgPool, BlurPool, GlobalPool, Upsample
norm, layernorm, groupnorm = Norm, LayerNorm, GroupNorm
relu, relu6, leakyrelu, elu, gelu, silu, hardswish = Relu, Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish
sigmoid, hardsigmoid, tanh, softmax = Sigmoid, HardSigmoid, Tanh, Softmax
se, scale, dropout, droppath = SqueezeExcite, Scale, Dropout, DropPath
flatten, linear = Flatten, Linear

LAYERS: Final[dict[str, type[Layer]]] = {
    cls.word: cls
    for cls in (
        *(Conv, Depthwise, Transposed, Whiten, MaxPool, AvgPool, BlurPool, GlobalPool, Upsample, Norm, LayerNorm, GroupNorm),
        *(Relu, Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish, Sigmoid, HardSigmoid, Tanh, Softmax),
        *(SqueezeExcite, Scale, Dropout, DropPath, Flatten, Linear),
    )
}

__all__ = [
    "LAYERS",
    "AvgPool",
    "BlurPool",
    "Conv",
    "Depthwise",
    "DoesNotFitError",
    "DropPath",
    "Dropout",
    "Elu",
    "Flatten",
    "Gelu",
    "GlobalPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "Linear",
    "MaxPool",
    "Norm",
    "Pool",
    "Relu",
    "Relu6",
    "Scale",
    "Shape",
    "Sigmoid",
    "Silu",
    "Softmax",
    "SqueezeExcite",
    "Tanh",
    "Transposed",
    "Upsample",
    "Whiten",
    "Windowed",
    "avgpool",
    "blurpool",
    "classes",
    "conv",
    "depthwise",
    "dropout",
    "droppath",
    "elu",
    "flatten",
    "gelu",
    "globalpool",
    "groupnorm",
    "hardsigmoid",
    "hardswish",
    "layernorm",
    "leakyrelu",
    "linear",
    "maxpool",
    "norm",
    "relu",
    "relu6",
    "scale",
    "se",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "transposed",
    "upsample",
    "whiten",
]
