"""A network whose convolutions are computed by the fastest algorithm of this machine, the network otherwise unchanged.

This file knows modules. It must not know algorithms.

A layer keeps its parameters, its name and its place; only its class becomes one with the same settings and another way to compute. So weights,
copies, hooks and files of a network are what they were, and ``plain`` undoes it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from visus.networks.blocks import Residual
from visus.networks.fast.choices import Case, Choices
from visus.networks.fast.compiler import kernels
from visus.networks.fast.convolutions import Plan, Window, convolve
from visus.networks.fast.norms import activation_alone, norm_and_activation

_MEMORY, _ACTIVATION = "_visus_choices", "_visus_activation"
LEAST_NUMBERS = 100_000  # in a map of all items: below it PyTorch's own calls are as fast
_Module = TypeVar("_Module", bound=nn.Module)


class _Fast:
    """What the convolutions of all ranks share."""

    def forward(self: Any, maps: torch.Tensor) -> torch.Tensor:
        chosen = _lowered(maps)
        if chosen is None:
            return self._as_before(maps)  # type: ignore[no-any-return]
        plan = self._plan(chosen)
        if plan == Plan():
            return self._as_before(maps)  # type: ignore[no-any-return]
        out = convolve(chosen, self.weight, Window(self.stride, self.padding), plan)
        if self._pools and not plan.is_pooled:
            out = F.max_pool2d(out, 2)
        return out if self.bias is None else out + self.bias.to(out.dtype).reshape(-1, *[1] * (out.ndim - 2))

    def _as_before(self: Any, maps: torch.Tensor) -> torch.Tensor:
        """What PyTorch's own layer gives, and the pooling that follows where it is this one's."""
        out: torch.Tensor = super().forward(maps)  # type: ignore[misc]
        return F.max_pool2d(out, 2) if self._pools else out

    def _plan(self: Any, maps: torch.Tensor) -> Plan:
        window = Window(self.stride, self.padding)
        case = Case(tuple(maps.shape), tuple(self.weight.shape), window, self._pools, torch.get_num_threads())
        choices: Choices = getattr(self, _MEMORY)
        return choices.plan(case)

    @property
    def _pools(self) -> bool:
        return isinstance(self, _FastPooledConv2d)


class _FastConv1d(_Fast, nn.Conv1d):
    pass


class _FastConv2d(_Fast, nn.Conv2d):
    pass


class _FastPooledConv2d(_FastConv2d):
    """Gives the maximum over 2 x 2 of its map; the pooling layer behind it lets it pass."""


class _FastConv3d(_Fast, nn.Conv3d):
    pass


class _PooledBefore(nn.MaxPool2d):
    """A pooling that was computed with the convolution before it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


class _FastBatchNorm2d(nn.BatchNorm2d):
    """A norm that computes the activation behind it too; the activation layer lets it pass."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        activation: str = getattr(self, _ACTIVATION)
        maps = _lowered(input)
        if maps is None or not self._suits(maps):
            return _BY_PYTORCH[activation](super().forward(input))
        assert self.weight is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        out, mean, variance = norm_and_activation(maps, self.weight, self.bias, self.eps, activation)
        with torch.no_grad():
            share = self.momentum or 0.0
            count = maps.numel() // maps.shape[1]
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), share)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return out

    def _suits(self, maps: torch.Tensor) -> bool:
        return (
            self.training
            and self.affine
            and self.track_running_stats
            and self.momentum is not None
            and self.weight.dtype == torch.float32
            and maps.ndim == 4
            and maps.numel() >= LEAST_NUMBERS
            and maps.numel() > maps.shape[1]
            and kernels() is not None
        )


class _FastActivation:
    """An activation of its own pass."""

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        maps = _lowered(input) if input.dtype == torch.bfloat16 else None
        if maps is None or maps.ndim != 4 or maps.numel() < LEAST_NUMBERS or kernels() is None:
            return super().forward(input)  # type: ignore[misc, no-any-return]
        return activation_alone(maps, _NAMES[_PLAINER[type(self)]])


class _FastReLU(_FastActivation, nn.ReLU):
    pass


class _FastGELU(_FastActivation, nn.GELU):
    pass


class _FastSiLU(_FastActivation, nn.SiLU):
    pass


class _Before:
    """An activation that was computed with the norm before it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


class _ReLUBefore(_Before, nn.ReLU):
    pass


class _GELUBefore(_Before, nn.GELU):
    pass


class _SiLUBefore(_Before, nn.SiLU):
    pass


_NAMES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.GELU: "gelu", nn.SiLU: "silu"}
_BEFORE: dict[type[nn.Module], type[nn.Module]] = {nn.ReLU: _ReLUBefore, nn.GELU: _GELUBefore, nn.SiLU: _SiLUBefore}
_ALONE: dict[type[nn.Module], type[nn.Module]] = {nn.ReLU: _FastReLU, nn.GELU: _FastGELU, nn.SiLU: _FastSiLU}
_BY_PYTORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
_FASTER: dict[type[nn.Module], type[nn.Module]] = {nn.Conv1d: _FastConv1d, nn.Conv2d: _FastConv2d, nn.Conv3d: _FastConv3d}
_PLAINER: dict[type[nn.Module], type[nn.Module]] = {
    **{fast: plain for plain, fast in _FASTER.items()},
    _FastPooledConv2d: nn.Conv2d,
    _PooledBefore: nn.MaxPool2d,
    _FastBatchNorm2d: nn.BatchNorm2d,
    **{fast: plain for table in (_BEFORE, _ALONE) for plain, fast in table.items()},
}


def speed_up(module: _Module, choices: Choices | None = None) -> _Module:
    """Let every convolution of ``module`` be computed by the fastest exact algorithm for its shape on this machine, in place.

    It concerns bfloat16 on a processor, in autocast or not, and there convolutions without groups and dilation; all else is left to PyTorch.
    Algorithms are measured on the first batch of each shape (tenths of a second) and remembered on the disk. The sums are the same, rounded
    otherwise: against float64, the relative error is at most three times that of PyTorch's bfloat16. Where in an ``nn.Sequential`` (or visus's residual) a
    ``MaxPool2d(2)`` follows a convolution of 3 x 3, or an activation (ReLU, GELU, SiLU) a ``BatchNorm2d``, the first may compute the second
    too, and the second then passes its input on.

    Args:
        module: any network; parameters, names and ``state_dict`` stay the same.
        choices: the memory of what is fastest; None for that of this machine.

    Returns:
        The same module. ``plain`` undoes the change.

    >>> network = speed_up(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    >>> isinstance(network[0], nn.Conv2d), sorted(network.state_dict())
    (True, ['0.bias', '0.weight'])
    """
    choices = choices or Choices()
    uses = Counter(id(part) for parent in module.modules() for part in parent._modules.values() if part is not None)
    for parent in module.modules():
        parts = _in_a_row(parent)
        _join_pools(parts, uses)
        _join_activations(parts, uses)
    for part in module.modules():
        if type(part) in _FASTER and _is_simple(part):
            part.__class__ = _FASTER[type(part)]
        elif type(part) in _ALONE and _is_exact(part):
            part.__class__ = _ALONE[type(part)]
        if isinstance(part, _Fast):
            setattr(part, _MEMORY, choices)
    return module


def is_sped_up(module: nn.Module) -> bool:
    """Whether a part of ``module`` is computed otherwise than PyTorch's own layers."""
    return any(type(part) in _PLAINER for part in module.modules())


def slow_down(module: _Module) -> _Module:
    """Undo ``speed_up``, in place."""
    for part in module.modules():
        if type(part) in _PLAINER:
            part.__class__ = _PLAINER[type(part)]
            for name in (_MEMORY, _ACTIVATION):
                part.__dict__.pop(name, None)
    return module


@contextlib.contextmanager
def plain(module: nn.Module) -> Iterator[nn.Module]:
    """The module as PyTorch computes it, inside a ``with``; as it was before afterwards."""
    before = [
        (part, type(part), {name: part.__dict__[name] for name in (_MEMORY, _ACTIVATION) if name in part.__dict__})
        for part in module.modules()
        if type(part) in _PLAINER
    ]
    slow_down(module)
    try:
        yield module
    finally:
        for part, kind, memory in before:
            part.__class__ = kind
            part.__dict__.update(memory)


def _in_a_row(parent: nn.Module) -> tuple[nn.Module, ...]:
    """The parts of a module of which each reads the one before and nothing else does; none where that is not known."""
    if type(parent) is nn.Sequential:
        return tuple(parent)
    return parent.body if type(parent) is Residual else ()


def _join_pools(sequence: tuple[nn.Module, ...], uses: Counter[int]) -> None:
    """Let each convolution of 3 x 3 compute the pooling right behind it."""
    for first, second in itertools.pairwise(sequence):
        if (
            type(first) is nn.Conv2d
            and _is_simple(first)
            and (first.kernel_size, first.stride) == ((3, 3), (1, 1))
            and type(second) is nn.MaxPool2d
            and _is_halving(second)
            and uses[id(first)] == uses[id(second)] == 1
            and not _has_hooks(first)
            and not _has_hooks(second)
        ):
            first.__class__, second.__class__ = _FastPooledConv2d, _PooledBefore


def _join_activations(sequence: tuple[nn.Module, ...], uses: Counter[int]) -> None:
    """Let each norm compute the activation right behind it."""
    for first, second in itertools.pairwise(sequence):
        if (
            type(first) is nn.BatchNorm2d
            and type(second) in _BEFORE
            and _is_exact(second)
            and uses[id(first)] == uses[id(second)] == 1
            and not _has_hooks(first)
            and not _has_hooks(second)
        ):
            setattr(first, _ACTIVATION, _NAMES[type(second)])
            first.__class__, second.__class__ = _FastBatchNorm2d, _BEFORE[type(second)]


def _is_exact(part: nn.Module) -> bool:
    """Not the approximation of GELU by tanh."""
    return getattr(part, "approximate", "none") == "none"


def _is_simple(part: nn.Module) -> bool:
    """A convolution without groups and dilation, padded with the same number of zeros on both sides."""
    conv: Any = part
    return bool(
        conv.groups == 1 and max(conv.dilation) == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    )


def _is_halving(pool: nn.MaxPool2d) -> bool:
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    pairs = tuple((each, each) if isinstance(each, int) else tuple(each) for each in settings)
    return pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not pool.ceil_mode and not pool.return_indices


def _has_hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)


def _lowered(maps: torch.Tensor) -> torch.Tensor | None:
    """The maps as bfloat16, channels last, where that is how they are computed anyway; None where PyTorch's own way stays."""
    if maps.device.type != "cpu" or maps.ndim not in (3, 4, 5) or not maps.numel():
        return None
    if torch.is_autocast_enabled("cpu") and maps.is_floating_point():
        maps = maps.to(torch.get_autocast_dtype("cpu"))
    if maps.dtype != torch.bfloat16:
        return None
    if maps.ndim == 4 and not maps.is_contiguous(memory_format=torch.channels_last):
        return None
    return maps
