"""``speed_up`` and ``slow_down``: replace the classes of a network's layers by faster ones, and restore them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from visus.errors import UsageError
from visus.networks.fast.autotuner import Autotuner
from visus.networks.fast.fusion import SEQUENCES
from visus.networks.fast.layers import AUTOTUNER, LAYERS, Faster, FasterConvolution

_FASTER: dict[type[nn.Module], type[Faster]] = {kind._visus_original: kind for kind in (*LAYERS, *SEQUENCES)}
_Module = TypeVar("_Module", bound=nn.Module)


def speed_up(module: _Module, autotuner: Autotuner | None = None) -> _Module:
    """Make ``module`` use the fastest algorithms for its shapes on this machine; ``slow_down`` undoes it.

    It affects bfloat16 on a CPU, with autocast or without:

    - Convolutions without dilation, either ungrouped or depthwise, use the algorithm that is fastest for their shape.
    - An ``nn.Sequential``, or a residual of visus, fuses a ``MaxPool2d(2)`` with the 3 x 3 convolution before it, and an activation (ReLU, ReLU6,
      GELU, SiLU, Hardswish) with the ``BatchNorm2d`` before it.
    - It also fuses a ``BatchNorm2d`` in evaluation mode with the convolution before it, in place: a training step saves one map instead of three.

    The first batch of each shape measures the algorithms (tenths of a second; only the forward pass if no gradient is needed) and stores the result on
    the disk. This holds for the first ``autotuner.MAX_SHAPES`` shapes of each kind of convolution; further shapes use PyTorch's own kernels.

    Weights, names, ``state_dict``, hooks, copies and pickles (with PyTorch's own classes) stay the same, and so does each part's output when it is
    called, sliced, replaced or hooked. PyTorch's own kernels compute everything under tracing, scripting, export, ``torch.compile``, ``torch.func``
    and ``vmap``, and gradients of gradients, single samples, float32 and float64.

    Only rounding changes. Against float64, the relative error of a convolution is at most three times that of PyTorch's bfloat16. Infinite and NaN
    outputs occur wherever PyTorch has them, and with Winograd's algorithm up to two positions further. Convolutions, activations and
    ``nn.Sequential`` become instances of subclasses: ``isinstance`` holds, ``type(part) is nn.Conv2d`` does not.

    Args:
        module: any network.
        autotuner: chooses the algorithms; default: one with the plans of this machine.

    Returns:
        The same module, changed in place.

    Raises:
        UsageError: this is not a module.

    >>> network = speed_up(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    >>> isinstance(network[0], nn.Conv2d), sorted(network.state_dict())
    (True, ['0.bias', '0.weight'])
    >>> type(slow_down(network)[0]).__name__
    'Conv2d'
    """
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"speed_up takes a torch.nn.Module, and not a {type(module).__name__}. "
            "Build it first, such as visus.network('resnet(18)', (3, 32, 32), 10)."
        )
    autotuner = autotuner or Autotuner()
    for part in module.modules():
        if type(part) in _FASTER:
            part.__class__ = _FASTER[type(part)]  # type: ignore[assignment]
        if isinstance(part, FasterConvolution):
            setattr(part, AUTOTUNER, autotuner)
    return module


def is_sped_up(module: nn.Module) -> bool:
    """Whether ``speed_up`` has changed a part of ``module``."""
    return any(isinstance(part, Faster) for part in module.modules())


def slow_down(module: _Module) -> _Module:
    """Undo ``speed_up``, in place: every part has its original class again.

    Returns:
        The same module.

    >>> type(slow_down(speed_up(nn.Conv2d(3, 8, 3)))).__name__
    'Conv2d'
    """
    for part in module.modules():
        if isinstance(part, Faster) and type(part) in _FASTER.values():
            part.__class__ = part._visus_original  # type: ignore[assignment]
        part.__dict__.pop(AUTOTUNER, None)  # without it, a subclass of a faster class computes as PyTorch does
    return module


@contextlib.contextmanager
def unoptimized(module: nn.Module) -> Iterator[nn.Module]:
    """A block in which ``slow_down`` has undone ``speed_up``; afterwards the module is as before."""
    before = [(part, type(part), part.__dict__.get(AUTOTUNER)) for part in module.modules() if isinstance(part, Faster)]
    slow_down(module)
    try:
        yield module
    finally:
        for part, kind, autotuner in before:
            part.__class__ = kind
            if autotuner is not None:
                setattr(part, AUTOTUNER, autotuner)
