"""Roles of a network's parameters: filters, heads, weights of norms, and others.

The roles come from the autograd graph of one forward pass on the meta device, so they hold for any module, including a person's own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from visus.networks.blocks import LayerNorm
from visus.networks.gates import SqueezeExcite
from visus.networks.own_code import copied

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FEW_VALUES = 3 * 64 * 64  # of a sample whose forward pass takes milliseconds
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, LayerNorm)
# Autograd nodes of positively homogeneous operations: f(k x) = k f(x) for k > 0.
_HOMOGENEOUS = (
    *("MaxPool", "AvgPool", "AdaptiveMax", "AdaptiveAvg", "Relu", "LeakyRelu", "Dropout", "View", "Reshape", "Permute"),
    *("Transpose", "Squeeze", "Unsqueeze", "Clone", "Contiguous", "ConstantPad", "ReflectionPad", "ToCopy", "Mean", "Amax"),
)
_NOT_HOMOGENEOUS = ("Relu6", "Hardtanh", "PRelu", "Celu", "Selu", "Gelu")


@dataclass(frozen=True)
class Role:
    """The role of one parameter.

    Args:
        kind: ``filter`` for weights of convolutions and hidden linear layers, ``head`` for weights of the last layer before the output, ``gain`` for
            weights of norms, ``matrix`` for other tensors with two or more axes, such as embeddings, recurrent weights and attention projections,
            ``other`` for vectors, such as biases and class tokens.
        num_groups: number of groups of a grouped convolution.
        is_scale_invariant: whether a norm follows, so that scaling the tensor by a positive factor does not change the output.
    """

    kind: Literal["filter", "head", "gain", "matrix", "other"]
    num_groups: int = 1
    is_scale_invariant: bool = False


def weight_roles(module: nn.Module, input_shape: tuple[int, ...] | None = None) -> dict[str, Role]:
    """The role of every trainable parameter, by its name in ``named_parameters``.

    Args:
        module: the network; it does not change.
        input_shape: ``(channels, *spatial)`` of one sample. Without it, and for a module that cannot run on the meta device, the last linear
            layer or convolution is the head, and no tensor is scale-invariant.

    >>> found = weight_roles(nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2)), (1, 8))
    >>> found["0.weight"], found["3.weight"].kind, found["0.bias"].kind
    (Role(kind='filter', num_groups=1, is_scale_invariant=False), 'head', 'other')
    """
    groups = dict(_filters(module))
    heads, scale_invariant = _read_graph(module, input_shape) if input_shape is not None else (None, set())
    if heads is None:
        heads = set(list(groups)[-1:])
    gains = {id(part.weight) for part in module.modules() if isinstance(part, _NORMS)}
    roles = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if name in heads:
            roles[name] = Role("head", groups.get(name, 1))
        elif name in groups:
            roles[name] = Role("filter", groups[name], name in scale_invariant)
        elif id(parameter) in gains:
            roles[name] = Role("gain")
        else:
            roles[name] = Role("matrix" if max(parameter.shape, default=1) < parameter.numel() else "other")
    return roles


def other_norms(module: nn.Module) -> tuple[str, ...]:
    """Paths of the norms without batch statistics: layer, group, instance and root-mean-square norms.

    >>> other_norms(nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm(4)))
    ('1',)
    """
    kinds = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm, LayerNorm)
    return tuple(path for path, part in module.named_modules() if isinstance(part, kinds))


def accepts(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether a network accepts samples of this shape. A copy runs on zeros if they are few, else on the meta device, then on zeros.

    On the meta device some operators, such as GELU, import ``torch._dynamo`` at their first call, which takes longer than a small forward pass.

    >>> pooled = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 3))
    >>> accepts(pooled, (1, 5)), accepts(pooled, (1, 2))
    (True, False)
    """
    for device in ("cpu",) if math.prod(input_shape) <= _FEW_VALUES else ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                copied(module).to(device).train()(torch.zeros(2, *input_shape, device=device))
        except Exception:  # a person's own code may raise anything
            continue
        return True
    return False


def _filters(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the names of the weights of convolutions and linear layers with their number of groups, in the modules' order."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(part, (*_CONVS, nn.Linear)):
            yield f"{prefix}weight", getattr(part, "groups", 1)
        elif isinstance(part, SqueezeExcite):
            yield from ((f"{prefix}squeeze_weight", 1), (f"{prefix}excite_weight", 1))


def _read_graph(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[set[str] | None, set[str]]:
    """Names of the heads and of the scale-invariant tensors; (None, empty) if the module cannot run on the meta device."""
    try:
        ghost = copied(module).to("meta").train()
        names = {id(value): name for name, value in ghost.named_parameters()}
        dtype = next((value.dtype for value in ghost.parameters() if value.is_floating_point()), None)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            output = ghost(torch.empty(2, *input_shape, device="meta", dtype=dtype))
        graph = _Graph(output.grad_fn, names)
    except Exception:  # a person's own code may raise anything, for example because it needs values or another dtype
        return None, set()
    return graph.heads(), {name for name, node in graph.reader.items() if graph.is_normed(node)}


class _Graph:
    """Autograd's graph from an output back to the parameters."""

    def __init__(self, root: Any, names: dict[int, str]) -> None:
        self.root = root
        self.readers: dict[Any, list[tuple[Any, int]]] = defaultdict(
            list
        )  # node -> nodes that read its output, with the argument's position
        self.tensors: dict[Any, str] = {}  # node of a parameter -> its name
        seen, waiting = {root}, [root]
        while waiting:
            node = waiting.pop()
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in names:
                self.tensors[node] = names[id(variable)]
            for place, (below, _) in enumerate(node.next_functions):
                if below is None:
                    continue
                self.readers[below].append((node, place))
                if below not in seen:
                    seen.add(below)
                    waiting.append(below)
        self.reader = dict(self._only_readers())

    def _only_readers(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, node) for each parameter that exactly one convolution or product without bias reads."""
        for entry, name in self.tensors.items():
            nodes = self.readers[entry]
            while len(nodes) == 1 and _is_layout(nodes[0][0]):
                nodes = self.readers[nodes[0][0]]
            if len(nodes) == 1 and _is_product(nodes[0][0]) and not self._has_bias(nodes[0][0], entry):
                yield name, nodes[0][0]

    def _has_bias(self, node: Any, weight: Any) -> bool:
        """Whether the node reads another parameter in addition to the weight."""
        return any(below in self.tensors and below is not weight for below, _ in node.next_functions)

    def is_normed(self, node: Any) -> bool:
        """Whether every path from the node leads to a norm, through homogeneous operations only."""
        readers = self.readers[node]
        return bool(readers) and all(
            ("Norm" in above.name() and place == 0) or (_is_homogeneous(above) and self.is_normed(above))
            for above, place in readers
        )

    def heads(self) -> set[str]:
        """Names of the weights that the graph meets first on the way back from the output."""
        found: set[str] = set()
        seen, waiting = {self.root}, [self.root]
        while waiting:
            node = waiting.pop()
            weights = self._weights_of(node)
            found.update(weights)
            if weights:
                continue
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    waiting.append(below)
        return found

    def _weights_of(self, node: Any) -> set[str]:
        """Names of the parameters with two or more axes that a convolution or product reads."""
        names = set()
        for below, _ in node.next_functions if _is_product(node) else ():
            while below is not None and below not in self.tensors and _is_layout(below):
                below = below.next_functions[0][0]
            if below in self.tensors and below.variable.ndim > 1:
                names.add(self.tensors[below])
        return names


def _is_product(node: Any) -> bool:
    return any(word in node.name() for word in ("Conv", "Addmm", "MmBackward", "Linear", "Bmm", "Matmul"))


def _is_layout(node: Any) -> bool:
    return any(node.name().startswith(word) for word in ("TBackward", "Transpose", "View", "ToCopy", "Permute", "Clone"))


def _is_homogeneous(node: Any) -> bool:
    name = node.name()
    return name.startswith(_HOMOGENEOUS) and not name.startswith(_NOT_HOMOGENEOUS)
