"""Subclasses of PyTorch's convolutions and activations with a faster ``forward``.

``speed_up`` changes only the class of a layer, so all its attributes stay. Copies have the new class; pickles have PyTorch's own.
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
from visus.networks.fast.eligibility import are_plain, is_convolved_in_bfloat16, is_eager, suits_norm_kernels
from visus.networks.fast.norms import activate
from visus.networks.fast.windows import TapGeometry
from visus.networks.float32_layers import in_float32, is_slow_in_bfloat16, is_wrong_in_bfloat16, suits_float32

AUTOTUNER = "_visus_autotuner"  # attribute of a sped-up convolution


class Faster:
    """Base of all sped-up modules: they are printed, pickled and scripted as their original class.

    Attributes:
        _visus_original: the original class. The prefix avoids clashes with the names of an ``nn.Sequential``'s parts.
    """

    _visus_original: ClassVar[type[nn.Module]]

    def __init_subclass__(cls) -> None:
        if "_visus_original" in cls.__dict__:
            cls.__name__ = cls.__qualname__ = cls._visus_original.__name__

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        if "_visus_original" not in type(self).__dict__:  # a further subclass, for example of torch.nn.utils.parametrize
            return super().__reduce_ex__(protocol)
        stored = {name: value for name, value in self.__dict__.items() if name != AUTOTUNER}
        return copyreg._reconstructor, (self._visus_original, object, None), stored  # type: ignore[attr-defined]

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        twin = memo[id(self)] = self.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__dict__, memo))
        return twin

    def __prepare_scriptable__(self) -> Any:
        """A copy that ``torch.jit.script`` compiles instead."""
        twin: Any = copy.copy(self)
        twin._modules = dict(twin._modules)
        return twin


class FasterConvolution(Faster):
    """Common part of sped-up convolutions for 1, 2 and 3 spatial axes.

    Attributes:
        handles_float32: it switches to float32 by itself where PyTorch's bfloat16 is wrong.
    """

    handles_float32: ClassVar[bool] = True

    def forward(self: Any, maps: torch.Tensor) -> torch.Tensor:
        """Convolve (N, C, *) to (N, K, *)."""
        plan = self.plan(maps) if is_eager() else Plan()
        return self.by_plan(maps, plan)  # type: ignore[no-any-return]

    def plan(self: Any, maps: torch.Tensor, is_pooled: bool = False) -> Plan:
        """The fastest plan for ``maps``; PyTorch's own kernels if no other algorithm applies.

        Args:
            maps: the input.
            is_pooled: whether a 2 x 2 max pooling follows, which the plan may include.
        """
        return self.__dict__[AUTOTUNER].plan(self.problem(maps, is_pooled)) if self.can_be_planned(maps) else Plan()

    def can_be_planned(self: Any, maps: torch.Tensor) -> bool:
        """Whether another algorithm than PyTorch's may compute it: plain tensors, bfloat16, and a supported configuration."""
        autotuner: Autotuner | None = self.__dict__.get(AUTOTUNER)
        if autotuner is None or not are_plain(maps) or not are_plain(self.weight, self.bias) or not self._is_supported(maps):
            return False
        return is_convolved_in_bfloat16(maps, self.weight, self.bias)

    def problem(self: Any, maps: torch.Tensor, is_pooled: bool = False) -> ConvProblem:
        """The autotuner's key for this input."""
        shapes = tuple(maps.shape), tuple(self.weight.shape)
        is_learned = torch.is_grad_enabled() and (maps.requires_grad or self.weight.requires_grad)
        return ConvProblem(*shapes, self.window, is_pooled, torch.get_num_threads(), is_learned)

    def by_plan(self: Any, maps: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Convolve by a plan, with pooling if the plan includes it."""
        if plan == Plan():
            above = super().forward  # type: ignore[misc]
            in_float = is_eager() and suits_float32(self, maps) and self.needs_float32(maps)
            return in_float32(above, maps) if in_float else above(maps)  # type: ignore[no-any-return]
        out = convolve(maps.to(torch.bfloat16), self.weight, self.window, plan)
        return out if self.bias is None else out + self.bias.to(out.dtype).reshape(-1, *[1] * (out.ndim - 2))

    def needs_float32(self, x: torch.Tensor) -> bool:
        """Whether PyTorch's bfloat16 convolution is wrong for ``x``, or slow and without a compiled kernel as an alternative."""
        return is_wrong_in_bfloat16(self, x) or (kernels() is None and is_slow_in_bfloat16(self, x))

    def _is_supported(self: Any, maps: torch.Tensor) -> bool:
        """Whether the layer has no dilation, only zero padding, one group or one per channel, and ``maps`` is a channels-last batch for it."""
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
        """Stride and padding."""
        return TapGeometry(self.stride, self.padding)


class _FasterConv1d(FasterConvolution, nn.Conv1d):
    _visus_original = nn.Conv1d


class FasterConv2d(FasterConvolution, nn.Conv2d):
    _visus_original = nn.Conv2d


class _FasterConv3d(FasterConvolution, nn.Conv3d):
    _visus_original = nn.Conv3d


class FasterActivation(Faster):
    """Common part of sped-up activations.

    Attributes:
        _visus_name: one of ``norms.ACTIVATIONS``.
    """

    _visus_name: ClassVar[str]

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        """Apply to a tensor of any shape; the kernel handles bfloat16 channels-last maps."""
        if (
            is_eager()
            and are_plain(input)
            and suits_norm_kernels(input)
            and self.is_exact
            and not self.is_inplace
            and kernels()
        ):
            return activate(input, self._visus_name)
        return super().forward(input)  # type: ignore[misc, no-any-return]

    @property
    def is_inplace(self) -> bool:
        """Whether it overwrites its input, on which callers that hold the input may rely."""
        return bool(getattr(self, "inplace", False))

    @property
    def is_exact(self) -> bool:
        """Whether it is not the tanh approximation of GELU."""
        return getattr(self, "approximate", "none") == "none"


class _FasterReLU(FasterActivation, nn.ReLU):
    _visus_original, _visus_name = nn.ReLU, "relu"


class _FasterGELU(FasterActivation, nn.GELU):
    _visus_original, _visus_name = nn.GELU, "gelu"


class _FasterSiLU(FasterActivation, nn.SiLU):
    _visus_original, _visus_name = nn.SiLU, "silu"


class _FasterReLU6(FasterActivation, nn.ReLU6):
    _visus_original, _visus_name = nn.ReLU6, "relu6"


class _FasterHardswish(FasterActivation, nn.Hardswish):
    _visus_original, _visus_name = nn.Hardswish, "hardswish"


LAYERS: tuple[type[Faster], ...] = (
    *(_FasterConv1d, FasterConv2d, _FasterConv3d),
    *(_FasterReLU, _FasterGELU, _FasterSiLU, _FasterReLU6, _FasterHardswish),
)
