"""Which layers of a network are computed in another way than PyTorch's own, and how that is undone.

This file knows the tree of modules and which class stands for which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from visus.networks.fast.autotuner import Autotuner
from visus.networks.fast.fusion import SEQUENCES
from visus.networks.fast.layers import LAYERS, MEMORY, Faster, FasterConvolution

_FASTER: dict[type[nn.Module], type[Faster]] = {kind._visus_plain: kind for kind in (*LAYERS, *SEQUENCES)}
_Module = TypeVar("_Module", bound=nn.Module)


def speed_up(module: _Module, choices: Autotuner | None = None) -> _Module:
    """Let ``module`` be computed by the fastest algorithms for its shapes on this machine; ``slow_down`` undoes it.

    What is computed otherwise: bfloat16 on a processor, in autocast or not. Convolutions without dilation, and without groups
    or with single channels (depthwise), by the algorithm that is fastest for their shape; and, where an ``nn.Sequential`` or
    one of visus's residuals calls one behind the other, a ``MaxPool2d(2)`` with the convolution of 3 x 3 before it, and an
    activation (ReLU, ReLU6, GELU, SiLU, Hardswish) with the ``BatchNorm2d`` before it. A ``BatchNorm2d`` in evaluation mode is
    computed with the convolution before it too, and in place: a training step keeps one map of the three. Algorithms are measured on the first batch of each shape (tenths of a second; of
    the forward alone where no gradient is asked for) and remembered on the disk, for the first ``choices.MAX_SHAPES``
    shapes that a kind of convolution meets; further ones are PyTorch's own.

    What stays: weights, names, ``state_dict``, hooks, copies, what ``torch.save`` and ``pickle`` write (PyTorch's own
    classes), and what every part gives when it is called, sliced, replaced or watched by a hook. Whatever does not run
    plainly is PyTorch's own: tracing, scripting, export, ``torch.compile``, ``torch.func``, ``vmap``, gradients of
    gradients, single samples, float32 and float64.

    What changes: the last digits. Against float64, the relative error of a convolution is at most three times that of
    PyTorch's bfloat16. What is infinite or no number comes out wherever PyTorch's does, and by Winograd's algorithm up to
    two positions further. Convolutions, activations and ``nn.Sequential`` become instances of classes derived from
    PyTorch's: ``isinstance`` holds, ``type(part) is nn.Conv2d`` does not.

    Args:
        module: any network.
        choices: the memory of what is fastest; None for that of this machine.

    Returns:
        The same module, changed in place.

    >>> network = speed_up(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    >>> isinstance(network[0], nn.Conv2d), sorted(network.state_dict())
    (True, ['0.bias', '0.weight'])
    >>> type(slow_down(network)[0]).__name__
    'Conv2d'
    """
    choices = choices or Autotuner()
    for part in module.modules():
        if type(part) in _FASTER:
            part.__class__ = _FASTER[type(part)]  # type: ignore[assignment]
        if isinstance(part, FasterConvolution):
            setattr(part, MEMORY, choices)
    return module


def is_sped_up(module: nn.Module) -> bool:
    """Whether a part of ``module`` is computed otherwise than by PyTorch's own layers."""
    return any(isinstance(part, Faster) for part in module.modules())


def slow_down(module: _Module) -> _Module:
    """Undo ``speed_up``, in place: every part is of PyTorch's own class again.

    Returns:
        The same module.
    """
    for part in module.modules():
        if isinstance(part, Faster) and type(part) in _FASTER.values():
            part.__class__ = part._visus_plain  # type: ignore[assignment]
        part.__dict__.pop(MEMORY, None)  # without it, a class derived from a faster one computes as PyTorch does
    return module


@contextlib.contextmanager
def plain(module: nn.Module) -> Iterator[nn.Module]:
    """The module as PyTorch computes it, inside a ``with``; as it was before afterwards."""
    before = [(part, type(part), part.__dict__.get(MEMORY)) for part in module.modules() if isinstance(part, Faster)]
    slow_down(module)
    try:
        yield module
    finally:
        for part, kind, memory in before:
            part.__class__ = kind
            if memory is not None:
                setattr(part, MEMORY, memory)
