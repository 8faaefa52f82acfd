"""Seeded initialization of a network's weights, independent of the global random state."""

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
    """Initialize every kind of layer that visus builds, in place; other layers do not change.

    - Convolutions and linear layers: Kaiming-normal (He et al. 2015, arXiv:1502.01852, eq. 14 by fan-out for convolutions, eq. 10 by fan-in for
      linear layers), with zero biases.
    - Convolutions that keep the size of the map, outside residuals: the first filters are identities (Zagoruyko and Komodakis 2017,
      arXiv:1706.00388).
    - Last linear layer: normal with a standard deviation of one over its inputs, at most 0.01, so that all classes start with nearly equal
      probability.
    - Norms: identity; the last norm of a residual: zero (Goyal et al. 2017, arXiv:1706.02677, section 5.1), so that a new residual is the identity.
    - Squeeze-and-excitation: its second layer is zero, so that the gate starts equal for all samples.

    Args:
        module: the network, on the CPU.
        seed: a seed, or a CPU generator. The global random state does not change.

    Returns:
        The same module.
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    layers = list(module.modules())
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    in_residuals = {part for layer in layers if isinstance(layer, Residual) for part in layer.modules()}
    for layer in layers:
        if isinstance(layer, Whitening):
            layer.reset_filters()
        elif isinstance(layer, _CONVS):
            fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if layer not in in_residuals and _keeps_size(layer):
                nn.init.dirac_(layer.weight[: layer.in_channels])
        elif isinstance(layer, nn.Linear):
            head_deviation = min(MAX_HEAD_DEVIATION, 1.0 / layer.in_features)
            deviation = head_deviation if layer is linears[-1] else math.sqrt(2.0 / layer.in_features)
            layer.weight.normal_(0.0, deviation, generator=generator)
        elif isinstance(layer, _NORMS):
            layer.weight.fill_(1.0)
        elif isinstance(layer, (SqueezeExcite, Scale, BlurPool)):
            _initialize_own(layer, generator)
        if isinstance(layer, (*_CONVS, nn.Linear, *_NORMS)) and layer.bias is not None:
            layer.bias.zero_()
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.reset_running_stats()
    for layer in layers:
        if isinstance(layer, Residual) and (norm := _last_norm(layer.body)) is not None:
            nn.init.zeros_(norm.get_parameter("weight"))
    return module


def _keeps_size(layer: nn.Module) -> bool:
    """Whether an ungrouped convolution has an odd kernel, stride 1 and "same" padding."""
    if not isinstance(layer, _PLAIN_CONVS) or isinstance(layer.padding, str) or layer.groups > 1:
        return False
    sides = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    return max(layer.kernel_size) > 1 and all(
        stride == 1 and kernel % 2 == 1 and padding == dilation * (kernel // 2)
        for kernel, stride, padding, dilation in sides
    )


def _initialize_own(layer: SqueezeExcite | Scale | BlurPool, generator: torch.Generator) -> None:
    """Initialize a layer of visus."""
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
    """The norm at the end of the layers, before any drop path; None if they end with another layer."""
    kept = [layer for layer in layers if not isinstance(layer, DropPath)]
    if kept and isinstance(kept[-1], nn.Sequential):
        return _last_norm(list(kept[-1]))
    return kept[-1] if kept and isinstance(kept[-1], _NORMS) else None
