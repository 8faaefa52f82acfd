"""Conditions under which a compiled kernel may replace PyTorch's operators: eager execution on plain CPU tensors.

A compiled kernel reads memory directly. PyTorch therefore computes everything under tracing, compilation, ``torch.func``, ``vmap``, forward-mode
derivatives and dispatch modes, and all tensor subclasses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

MIN_VALUES = 100_000  # per batch; below it, PyTorch's own norms and activations are as fast

_TENSORS = (torch.Tensor, torch.nn.Parameter)  # no subclasses
_AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # dtypes that autocast converts
# Private functions of PyTorch: if a version lacks one, its default makes every layer ineligible.
_transform: Any = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: "unknown")
_is_batched: Any = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _: True)
_is_traced: Any = getattr(torch.jit, "is_tracing", lambda: True)
_num_dispatch_modes: Any = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_function_modes: Any = getattr(torch.overrides, "_get_current_function_mode_stack", lambda: ["unknown"])
_num_function_modes: Any = getattr(torch._C, "_len_torch_function_stack", lambda: 1)


def is_eager() -> bool:
    """Whether PyTorch runs operators eagerly, without tracing, transforms or dispatch modes."""
    if torch.compiler.is_compiling():  # first, since the compiler cannot trace the rest of this function
        return False
    return not (
        _num_dispatch_modes()
        or (_num_function_modes() and not _has_only_device_modes())
        or _transform() is not None
        or _is_traced()
        or forward_ad._current_level >= 0
    )


def are_plain(*tensors: object) -> bool:
    """Whether all of these are plain strided CPU tensors; None, for an absent tensor, is allowed."""
    for each in tensors:
        if each is None:
            continue
        if type(each) not in _TENSORS or not isinstance(each, torch.Tensor):
            return False
        if each.device.type != "cpu" or each.layout != torch.strided:
            return False
    return True


def is_batched_gradient(gradient: torch.Tensor) -> bool:
    """Whether it is a batch of gradients of ``torch.autograd.grad(..., is_grads_batched=True)``, which ``is_eager`` does not detect."""
    return bool(_is_batched(gradient))


def is_convolved_in_bfloat16(maps: torch.Tensor, *weights: torch.Tensor | None) -> bool:
    """Whether PyTorch would compute the convolution of these maps and weights in bfloat16.

    Under autocast PyTorch converts the inputs of a convolution, except float64; without it, all must have one dtype.
    """
    kinds = {each.dtype for each in (maps, *weights) if each is not None}
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and kinds.issubset(_AUTOCAST_DTYPES)
    return kinds == {torch.bfloat16}


def suits_norm_kernels(maps: torch.Tensor) -> bool:
    """Whether the kernels for norms and activations support these maps, (N, C, H, W) bfloat16 and channels-last, and pay off for their size.

    Norms and activations compute in the dtype of their input; autocast does not change it.
    """
    return (
        maps.dtype == torch.bfloat16
        and maps.ndim == 4
        and maps.numel() >= MIN_VALUES
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def _has_only_device_modes() -> bool:
    """Whether the only function modes are ``with torch.device(...)`` and the default device, which affect only new tensors."""
    return all(isinstance(mode, DeviceContext) for mode in _function_modes())
