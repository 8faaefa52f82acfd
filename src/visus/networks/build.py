"""``build``: a design to an ``nn.Module`` whose module paths are those of the design's nodes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from visus.design import Design, Node
from visus.design.arguments import per_axis
from visus.design.items import Concat as ConcatItem
from visus.design.items import Residual as ResidualItem
from visus.design.layers.registry import (
    AvgPool,
    BlurPool,
    Conv,
    Depthwise,
    Dropout,
    DropPath,
    Elu,
    Flatten,
    Gelu,
    GlobalPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    Layer,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Norm,
    Relu,
    Relu6,
    Scale,
    Shape,
    Sigmoid,
    Silu,
    Softmax,
    SqueezeExcite,
    Tanh,
    Transposed,
    Upsample,
    Whiten,
)
from visus.errors import DesignError
from visus.networks import blocks, gates
from visus.networks.initialize import initialize
from visus.networks.whitening import WHITENINGS

_CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def build(
    design: Design, input_shape: Shape, num_classes: int | None = None, *, seed: int | torch.Generator = 0
) -> nn.Sequential:
    """Build the network of a design, with initial weights, on the CPU and in training mode.

    Args:
        design: the network as data.
        input_shape: ``(channels, *spatial)`` or ``(features,)`` of one sample; the network accepts ``(n, *input_shape)``.
        num_classes: value of ``classes`` in the design.
        seed: seed of the initial weights, or a generator; the global random state does not change.

    Returns:
        A module whose submodules have the paths of the design's nodes.

    Raises:
        DesignError: the design is impossible for this input, uses a name that PyTorch reserves, or does not fit into memory.

    >>> from visus.design import parse
    >>> network = build(parse("conv(8, 3, padding=1), norm, relu, globalpool, linear(classes)"), (3, 32, 32), 10)
    >>> [path for path, _ in network.named_modules()][1:]
    ['conv1', 'norm1', 'relu1', 'globalpool1', 'linear1']
    """
    nodes = design.place(input_shape, num_classes)
    with torch.device("meta"):
        network = _chain(nodes)
    try:
        network._apply(_uninitialized)  # type: ignore[no-untyped-call]  # to_empty would import sympy, in tenths of a second
    except (RuntimeError, MemoryError):
        num_parameters = sum(node.num_parameters for node in nodes)
        raise DesignError(
            f"the {num_parameters:,} parameters of this design do not fit into memory. Use fewer channels."
        ) from None
    initialize(network, seed)
    return network


def _chain(nodes: Iterable[Node]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(_named(nodes)))


def _named(nodes: Iterable[Node]) -> dict[str, nn.Module]:
    modules = {}
    for node in nodes:
        if hasattr(nn.Sequential, node.name) or node.name in _INSTANCE_NAMES:
            raise DesignError(f"PyTorch reserves the name {node.name!r}. Choose another.", where=node.path)
        modules[node.name] = _module(node)
    return modules


def _module(node: Node) -> nn.Module:
    """The module of one node, with uninitialized weights."""
    item = node.layer
    if isinstance(item, Layer):
        return _BUILDERS[type(item)](item, node.input_shape)
    if isinstance(item, ResidualItem):
        projection = _module(node.branches[1][0]) if len(node.branches) > 1 else None
        return blocks.Residual(_named(node.branches[0]), projection)
    if isinstance(item, ConcatItem):
        return blocks.Concat(_named(branch[0] for branch in node.branches))
    return _chain(node.branches[0])


def _convolution(layer: Conv | Depthwise, shape: Shape) -> nn.Module:
    num_axes = len(shape) - 1
    windows = layer.windows(num_axes)
    even = all(window.padding[0] == window.padding[1] for window in windows)
    arguments: dict[str, Any] = {
        "kernel_size": tuple(window.kernel_size for window in windows),
        "stride": tuple(window.stride for window in windows),
        "dilation": tuple(window.dilation for window in windows),
        "padding": tuple(window.padding[0] for window in windows) if even else 0,
        "groups": layer.num_groups(shape[0]),
        "bias": layer.has_bias,
    }
    channels = (shape[0], layer.output_shape(shape)[0])
    if even:
        module: nn.Module = _CONVS[num_axes](*channels, **arguments)
        return module
    padded = blocks.PADDED_CONVS[num_axes](*channels, **arguments)
    padded.pads = blocks.pad_order([window.padding for window in windows])
    return padded


def _whitening(layer: Whiten, shape: Shape) -> nn.Module:
    windows = layer.windows(len(shape) - 1)
    return WHITENINGS[len(shape) - 1](
        shape[0],
        tuple(window.kernel_size for window in windows),
        tuple(window.stride for window in windows),
        [window.padding for window in windows],
    )


def _transposed(layer: Transposed, shape: Shape) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    axis_ops = layer.axis_ops(len(shape) - 1)
    module: nn.Module = _TRANSPOSED[len(shape) - 1](
        shape[0],
        layer.output_shape(shape)[0],
        **{name: tuple(getattr(axis_op, name) for axis_op in axis_ops) for name in names},
        groups=layer.groups,
        bias=layer.has_bias,
    )
    return module


def _upsample(layer: Upsample, shape: Shape) -> nn.Module:
    scales = tuple(float(scale) for scale in per_axis("scale_factor", layer.scale_factor, len(shape) - 1))
    return nn.Upsample(scale_factor=scales, mode="nearest" if layer.mode == "nearest" else _LINEAR_MODES[len(shape) - 1])


def _pool(layer: MaxPool | AvgPool, shape: Shape) -> nn.Module:
    windows = layer.windows(len(shape) - 1)
    kinds = _MAX_POOLS if isinstance(layer, MaxPool) else _AVG_POOLS
    module: nn.Module = kinds[len(shape) - 1](
        kernel_size=tuple(window.kernel_size for window in windows),
        stride=tuple(window.stride for window in windows),
        padding=tuple(window.padding[0] for window in windows),
        ceil_mode=layer.ceil_mode,
    )
    return module


_BUILDERS: dict[type[Layer], Callable[[Any, Shape], nn.Module]] = {
    Conv: _convolution,
    Depthwise: _convolution,
    Transposed: _transposed,
    Whiten: _whitening,
    MaxPool: _pool,
    AvgPool: _pool,
    BlurPool: lambda layer, shape: blocks.BlurPool(layer.weights, per_axis("stride", layer.stride, len(shape) - 1)),
    Upsample: _upsample,
    GlobalPool: lambda layer, shape: blocks.GlobalPool(layer.kind),
    Norm: lambda layer, shape: _NORMS[len(shape) - 1](shape[0], eps=layer.eps),
    LayerNorm: lambda layer, shape: blocks.LayerNorm(shape[0]),
    GroupNorm: lambda layer, shape: nn.GroupNorm(layer.num_groups, shape[0]),
    Relu: lambda layer, shape: nn.ReLU(),
    Relu6: lambda layer, shape: nn.ReLU6(),
    LeakyRelu: lambda layer, shape: nn.LeakyReLU(layer.negative_slope),
    Elu: lambda layer, shape: nn.ELU(layer.alpha),
    Gelu: lambda layer, shape: nn.GELU(),
    Silu: lambda layer, shape: nn.SiLU(),
    HardSwish: lambda layer, shape: nn.Hardswish(),
    Sigmoid: lambda layer, shape: nn.Sigmoid(),
    HardSigmoid: lambda layer, shape: nn.Hardsigmoid(),
    Tanh: lambda layer, shape: nn.Tanh(),
    Softmax: lambda layer, shape: nn.Softmax(dim=1),
    SqueezeExcite: lambda layer, shape: gates.SqueezeExcite(
        shape[0], layer.squeeze_channels, layer.activation, layer.scale_activation
    ),
    Scale: lambda layer, shape: gates.Scale(shape[0], layer.init),
    Dropout: lambda layer, shape: nn.Dropout(layer.p),
    DropPath: lambda layer, shape: gates.DropPath(layer.p),
    Flatten: lambda layer, shape: nn.Flatten(),
    Linear: lambda layer, shape: nn.Linear(shape[0], layer.out_features, bias=layer.bias),
}
_INSTANCE_NAMES = frozenset(vars(nn.Module())) | {"names", "has_projection", "body"}


def _uninitialized(tensor: torch.Tensor) -> torch.Tensor:
    """An uninitialized tensor on the CPU, with the shape and dtype of another."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
