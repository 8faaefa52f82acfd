"""Initial values of a network, the same for the same seed whatever else drew random numbers.

This file knows how each kind of layer begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from visus.networks.blocks import BlurPool, LayerNorm, Residual
from visus.networks.gates import DropPath, Scale, SqueezeExcite
from visus.networks.whitening import Whitening

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, LayerNorm)
MAX_HEAD_DEVIATION = 0.01


@torch.no_grad()
def initialize(module: nn.Module, seed: int | torch.Generator = 0) -> nn.Module:
    """Give every layer that visus builds its initial values, in place; layers of other kinds are left as they are.

    Convolutions and linear layers are Kaiming-normal (He et al. 2015, arXiv:1502.01852, eq. 14 by fan-out for convolutions,
    eq. 10 by fan-in for linear layers), biases 0. A convolution that keeps the size of its map hands it on: its first filters are 1 at the
    center of one channel each (Zagoruyko and Komodakis 2017, arXiv:1706.00388), but not inside a residual, whose shortcut does that. The last
    linear layer is normal with a deviation of one over its inputs, at most 0.01, so that a new network gives all classes nearly the
    same probability. Norms begin as the identity, and the last norm of a residual at 0
    (Goyal et al. 2017, arXiv:1706.02677, section 5.1), so that a new residual passes its input on. The gate of a new
    squeeze-and-excite is the same for all items: its second layer begins at 0.

    Args:
        module: the network, on the CPU.
        seed: a seed, or a CPU generator to draw from. The global random state is neither read nor changed.

    Returns:
        The same module.
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    layers = list(module.modules())
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    beside_a_shortcut = {part for layer in layers if isinstance(layer, Residual) for part in layer.modules()}
    for layer in layers:
        if isinstance(layer, Whitening):
            layer.reset_filters()
        elif isinstance(layer, _CONVS):
            fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if layer not in beside_a_shortcut and _keeps_position(layer):
                nn.init.dirac_(layer.weight[: layer.in_channels])
        elif isinstance(layer, nn.Linear):
            head_deviation = min(MAX_HEAD_DEVIATION, 1.0 / layer.in_features)
            deviation = head_deviation if layer is linears[-1] else math.sqrt(2.0 / layer.in_features)
            layer.weight.normal_(0.0, deviation, generator=generator)
        elif isinstance(layer, _NORMS):
            layer.weight.fill_(1.0)
        elif isinstance(layer, (SqueezeExcite, Scale, BlurPool)):
            _begin(layer, generator)
        if isinstance(layer, (*_CONVS, nn.Linear, *_NORMS)) and layer.bias is not None:
            layer.bias.zero_()
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.reset_running_stats()
    for layer in layers:
        if isinstance(layer, Residual) and (norm := _last_norm(layer.body)) is not None:
            nn.init.zeros_(norm.get_parameter("weight"))
    return module


def _keeps_position(layer: nn.Module) -> bool:
    """Whether a convolution over all channels gives each place of its map to the same place, with its window around it."""
    if not isinstance(layer, _PLAIN_CONVS) or isinstance(layer.padding, str) or layer.groups > 1:
        return False
    sides = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    return max(layer.kernel_size) > 1 and all(
        stride == 1 and kernel % 2 == 1 and padding == dilation * (kernel // 2)
        for kernel, stride, padding, dilation in sides
    )


def _begin(layer: SqueezeExcite | Scale | BlurPool, generator: torch.Generator) -> None:
    """First values of a layer of visus' own."""
    if isinstance(layer, BlurPool):
        layer.reset_filter()
    elif isinstance(layer, Scale):
        layer.weight.fill_(layer.init)
    else:
        for values in layer.parameters():
            values.zero_()
        fan_in = layer.squeeze_weight.shape[1]
        layer.squeeze_weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)


def _last_norm(layers: Sequence[nn.Module]) -> nn.Module | None:
    """The norm that is the last thing that layers in a row do, paths left out aside; None where they end with something else."""
    kept = [layer for layer in layers if not isinstance(layer, DropPath)]
    if kept and isinstance(kept[-1], nn.Sequential):
        return _last_norm(list(kept[-1]))
    return kept[-1] if kept and isinstance(kept[-1], _NORMS) else None
