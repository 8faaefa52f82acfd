"""Initial values of a network, the same for the same seed whatever else drew random numbers.

This file knows how each kind of layer begins. It must not know designs or training.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from visus.networks.blocks import LayerNorm, Residual

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, LayerNorm)
LAST_LINEAR_DEVIATION = 0.01


@torch.no_grad()
def initialize(module: nn.Module, seed: int | torch.Generator = 0) -> nn.Module:
    """Give every layer that visus builds its initial values, in place; layers of other kinds are left as they are.

    Convolutions and linear layers are Kaiming-normal (He et al. 2015, arXiv:1502.01852, eq. 14 by fan-out for convolutions,
    eq. 10 by fan-in for linear layers), biases 0. The last linear layer is normal with a deviation of 0.01, so that a new
    network gives all classes nearly the same probability. Norms begin as the identity, and the last norm of a residual at 0
    (Goyal et al. 2017, arXiv:1706.02677, section 5.1), so that a new residual passes its input on.

    Args:
        module: the network, on the CPU.
        seed: a seed, or a CPU generator to draw from. The global random state is neither read nor changed.

    Returns:
        The same module.
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    layers = list(module.modules())
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in layers:
        if isinstance(layer, _CONVS):
            fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(layer, nn.Linear):
            deviation = LAST_LINEAR_DEVIATION if layer is linears[-1] else math.sqrt(2.0 / layer.in_features)
            layer.weight.normal_(0.0, deviation, generator=generator)
        elif isinstance(layer, _NORMS):
            layer.weight.fill_(1.0)
        if isinstance(layer, (*_CONVS, nn.Linear, *_NORMS)) and layer.bias is not None:
            layer.bias.zero_()
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.reset_running_stats()
    for layer in layers:
        if isinstance(layer, Residual) and (norm := _last_norm(layer.last)) is not None:
            nn.init.zeros_(norm.get_parameter("weight"))
    return module


def _last_norm(layer: nn.Module) -> nn.Module | None:
    """The norm that is the last thing a layer does; None where it ends with something else."""
    while isinstance(layer, nn.Sequential) and len(layer):
        layer = layer[-1]
    return layer if isinstance(layer, _NORMS) else None
