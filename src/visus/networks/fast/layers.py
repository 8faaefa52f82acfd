"""Layers of PyTorch's with another way to compute: convolutions by the plan for their shape, activations in one pass.

This file knows modules of one layer: what each may hand to an algorithm, and what it leaves to PyTorch.

A layer keeps all that it stores; only its class becomes one derived from PyTorch's own, with another ``forward``. Copies are
of that class too; what is written to a file is PyTorch's own.
"""

from __future__ import annotations

import copy
import copyreg
from typing import Any, ClassVar

import torch
from torch import nn

from visus.networks.fast.autotuner import Autotuner, ConvProblem
from visus.networks.fast.compiler import kernels
from visus.networks.fast.convolutions import Plan, convolve
from visus.networks.fast.eligibility import are_plain, is_convolved_in_bfloat16, is_eager, suits_rows
from visus.networks.fast.norms import activation_alone
from visus.networks.fast.windows import TapGeometry
from visus.networks.float32_layers import in_float32, is_slow_in_bfloat16, is_wrong_in_bfloat16, suits_float32

MEMORY = "_visus_choices"  # what a convolution stores beside PyTorch's own


class Faster:
    """What all modules with another way to compute share: they are told, stored and scripted as what they were.

    Attributes:
        _visus_plain: the class of PyTorch's (or of visus's blocks) that it was. A row has the names of its parts too, which
            may be any.
    """

    _visus_plain: ClassVar[type[nn.Module]]

    def __init_subclass__(cls) -> None:
        if "_visus_plain" in cls.__dict__:
            cls.__name__ = cls.__qualname__ = cls._visus_plain.__name__

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        if "_visus_plain" not in type(self).__dict__:  # derived further, as by torch.nn.utils.parametrize
            return super().__reduce_ex__(protocol)
        stored = {name: value for name, value in self.__dict__.items() if name != MEMORY}
        return copyreg._reconstructor, (self._visus_plain, object, None), stored  # type: ignore[attr-defined]

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        twin = memo[id(self)] = self.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__dict__, memo))
        return twin

    def __prepare_scriptable__(self) -> Any:
        """What ``torch.jit.script`` compiles instead."""
        twin: Any = copy.copy(self)
        twin._modules = dict(twin._modules)
        return twin


class FasterConvolution(Faster):
    """What the convolutions of all ranks share.

    Attributes:
        sees_to_float32: it computes in float32 by itself where bfloat16 is wrong.
    """

    sees_to_float32: ClassVar[bool] = True

    def forward(self: Any, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, *) to (N, K, *)."""
        plan = self.plan(maps) if is_eager() else Plan()
        return self.by_plan(maps, plan)  # type: ignore[no-any-return]

    def plan(self: Any, maps: torch.Tensor, is_pooled: bool = False) -> Plan:
        """How maps are best convolved: PyTorch's own way wherever it is the only one.

        Args:
            maps: the input.
            is_pooled: a maximum over 2 x 2 follows, which the plan may hold.
        """
        return self.__dict__[MEMORY].plan(self.case(maps, is_pooled)) if self.can_be_planned(maps) else Plan()

    def can_be_planned(self: Any, maps: torch.Tensor) -> bool:
        """Whether another way than PyTorch's own may compute it: plain tensors, in bfloat16, by a window that the algorithms know."""
        choices: Autotuner | None = self.__dict__.get(MEMORY)
        if choices is None or not are_plain(maps) or not are_plain(self.weight, self.bias) or not self._suits(maps):
            return False
        return is_convolved_in_bfloat16(maps, self.weight, self.bias)

    def case(self: Any, maps: torch.Tensor, is_pooled: bool = False) -> ConvProblem:
        """What the memory is asked for."""
        shapes = tuple(maps.shape), tuple(self.weight.shape)
        is_learned = torch.is_grad_enabled() and (maps.requires_grad or self.weight.requires_grad)
        return ConvProblem(*shapes, self.window, is_pooled, torch.get_num_threads(), is_learned)

    def by_plan(self: Any, maps: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Maps convolved; pooled where the plan is."""
        if plan == Plan():
            above = super().forward  # type: ignore[misc]
            in_float = is_eager() and suits_float32(self, maps) and self.needs_float32(maps)
            return in_float32(above, maps) if in_float else above(maps)  # type: ignore[no-any-return]
        out = convolve(maps.to(torch.bfloat16), self.weight, self.window, plan)
        return out if self.bias is None else out + self.bias.to(out.dtype).reshape(-1, *[1] * (out.ndim - 2))

    def needs_float32(self, x: torch.Tensor) -> bool:
        """Whether PyTorch's own way is wrong in bfloat16, or slow where no kernel is there to compute it."""
        return is_wrong_in_bfloat16(self, x) or (kernels() is None and is_slow_in_bfloat16(self, x))

    def _suits(self: Any, maps: torch.Tensor) -> bool:
        """Whether these are samples for it, laid out well and not too small, and it has no dilation, no padding but zeros, and no groups or as many as channels."""
        return bool(
            maps.ndim == self.weight.ndim
            and (maps.ndim != 4 or maps.is_contiguous(memory_format=torch.channels_last))
            and maps.shape[1] == self.groups * self.weight.shape[1]
            and maps.numel()
            and (self.groups == 1 or (maps.ndim == 4 and self.groups == maps.shape[1] == self.weight.shape[0]))
            and max(self.dilation) == 1
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and not is_wrong_in_bfloat16(self, maps)
        )

    @property
    def window(self: Any) -> TapGeometry:
        """Its stride and padding."""
        return TapGeometry(self.stride, self.padding)


class _FasterConv1d(FasterConvolution, nn.Conv1d):
    _visus_plain = nn.Conv1d


class FasterConv2d(FasterConvolution, nn.Conv2d):
    _visus_plain = nn.Conv2d


class _FasterConv3d(FasterConvolution, nn.Conv3d):
    _visus_plain = nn.Conv3d


class FasterActivation(Faster):
    """What the activations share.

    Attributes:
        _visus_name: as the algorithms know it.
    """

    _visus_name: ClassVar[str]

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        """Any shape; maps of a batch in one pass."""
        if is_eager() and are_plain(input) and suits_rows(input) and self.is_exact and not self.is_inplace and kernels():
            return activation_alone(input, self._visus_name)
        return super().forward(input)  # type: ignore[misc, no-any-return]

    @property
    def is_inplace(self) -> bool:
        """Whether the input becomes the output, which who has the input may count on."""
        return bool(getattr(self, "inplace", False))

    @property
    def is_exact(self) -> bool:
        """Not the approximation of GELU by tanh."""
        return getattr(self, "approximate", "none") == "none"


class _FasterReLU(FasterActivation, nn.ReLU):
    _visus_plain, _visus_name = nn.ReLU, "relu"


class _FasterGELU(FasterActivation, nn.GELU):
    _visus_plain, _visus_name = nn.GELU, "gelu"


class _FasterSiLU(FasterActivation, nn.SiLU):
    _visus_plain, _visus_name = nn.SiLU, "silu"


class _FasterReLU6(FasterActivation, nn.ReLU6):
    _visus_plain, _visus_name = nn.ReLU6, "relu6"


class _FasterHardswish(FasterActivation, nn.Hardswish):
    _visus_plain, _visus_name = nn.Hardswish, "hardswish"


LAYERS: tuple[type[Faster], ...] = (
    *(_FasterConv1d, FasterConv2d, _FasterConv3d),
    *(_FasterReLU, _FasterGELU, _FasterSiLU, _FasterReLU6, _FasterHardswish),
)
