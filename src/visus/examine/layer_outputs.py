"""Outputs of layers: their tensors, their layout, and whether they come from an activation."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYOUT: Final = (
    "_visus_layout"  # attribute of an output whose channels are not dimension 1: the permutation of its dimensions
)
ACTIVE: Final = "_visus_active"  # attribute of an output that comes from an activation
_NOT_ACTIVATIONS: Final = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.MultiheadAttention)
_ACTIVATION_NAME: Final = re.compile(r"relu|gelu|silu|swish|[a-z]elu|mish|tanh|activation", re.IGNORECASE)
ACTIVATION_FUNCTIONS: Final[dict[Any, str]] = {
    **{function: function.__name__ for function in (F.relu, F.relu6, F.elu, F.celu, F.selu, F.leaky_relu, F.rrelu, F.prelu)},
    F.silu: "silu",
    F.mish: "mish",
    F.hardswish: "hardswish",
    F.hardtanh: "hardtanh",
    F.gelu: "gelu",
    F.softplus: "softplus",
    torch.relu: "relu",
    Tensor.relu: "relu",
    torch.tanh: "tanh",
    Tensor.tanh: "tanh",
    F.tanh: "tanh",
}


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of an output, at any depth of nesting."""
    return next(all_tensors(output), None)


def all_tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of an output in order, at any depth of tuples, lists, dictionaries and dataclasses."""
    if isinstance(output, Tensor):
        yield output
        return
    for part in _parts(output):
        yield from all_tensors(part)


def _parts(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    if isinstance(output, (list, tuple)):
        return list(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [getattr(output, each.name) for each in dataclasses.fields(output)]
    return []


def with_first(output: Any, tensor: Tensor) -> Any:
    """An output of the same structure with another first tensor."""
    if isinstance(output, Tensor):
        return tensor
    parts = _parts(output)
    place = next(place for place, part in enumerate(parts) if first_tensor(part) is not None)
    parts[place] = with_first(parts[place], tensor)
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        changed[list(output)[place]] = parts[place]
        return changed
    if isinstance(output, tuple):
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if isinstance(output, list):
        return parts
    return dataclasses.replace(output, **{dataclasses.fields(output)[place].name: parts[place]})


def layout_of(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> tuple[int, ...] | None:
    """The permutation that makes an output (samples, channels, *spatial); None if it already is.

    Channels are the last dimension after a linear layer, an embedding, a recurrent layer or a norm over the last dimension, and after
    elementwise layers that follow; a recurrent layer may have time steps as its first dimension.
    """
    if output.dim() < 3:
        return None
    last = (0, output.dim() - 1, *range(1, output.dim() - 1))
    if isinstance(layer, nn.RNNBase):
        return last if layer.batch_first else (1, 2, 0)
    before = first_tensor(args)
    if not layer._parameters and before is not None and before.shape == output.shape:
        return getattr(before, LAYOUT, None)
    if isinstance(layer, (nn.Linear, nn.Embedding)):
        return getattr(before, LAYOUT, last) if before is not None and before.dim() == output.dim() else last
    sizes = tuple(getattr(layer, "normalized_shape", ()) or ())
    is_first = type(layer) not in (nn.LayerNorm, nn.RMSNorm) and len(sizes) == 1 and output.shape[1] == sizes[0]
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)) and not (
        is_first and (output.dim() > 3 or output.shape[-1] != sizes[0])
    ):
        return getattr(before, LAYOUT, last) if before is not None and before.dim() == output.dim() else last
    return None


def is_activation(layer: nn.Module) -> bool:
    """Whether a layer is an activation, of torch or by its name.

    >>> is_activation(nn.GELU()), is_activation(nn.Softmax(1)), is_activation(nn.MaxPool2d(2))
    (True, False, False)
    """
    kind = type(layer)
    if isinstance(layer, _NOT_ACTIVATIONS):
        return False
    if kind.__module__ == "torch.nn.modules.activation":
        return True
    return (
        not layer._modules and bool(_ACTIVATION_NAME.search(kind.__name__)) and sum(map(torch.numel, layer.parameters())) < 2
    )


def is_after_activation(layer: nn.Module, args: tuple[Any, ...]) -> bool:
    """Whether the output of a layer comes from an activation."""
    if is_activation(layer):
        return True
    before = first_tensor(args)
    if layer._parameters or layer._buffers or before is None or isinstance(layer, _NOT_ACTIVATIONS):
        return False
    return bool(getattr(before, ACTIVE, False)) or (before.dim() > 2 and bool((before >= 0).all()))
