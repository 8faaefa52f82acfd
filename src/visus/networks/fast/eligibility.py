"""When a layer may be computed by what PyTorch does not see: on plain tensors of the processor, here and now.

This file knows the types, modes and transforms of PyTorch.

A compiled kernel reads memory. So tracing, compilation, ``torch.func`` and ``vmap``, forward-mode derivatives, modes that
watch each operation, and tensors of other types are left to PyTorch, which knows what they mean.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

MIN_NUMBERS = 100_000  # in a map of all samples: below it PyTorch's own calls for norms and activations are as fast

_TENSORS = (torch.Tensor, torch.nn.Parameter)  # and no class derived from them
_LOWERED = (torch.float32, torch.float16, torch.bfloat16)  # what autocast converts; it leaves float64 alone
# PyTorch's private questions: where a version lacks one, nothing is computed otherwise than by PyTorch.
_transform: Any = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: "unknown")
_is_batched: Any = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _: True)
_is_traced: Any = getattr(torch.jit, "is_tracing", lambda: True)
_num_dispatch_modes: Any = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_function_modes: Any = getattr(torch.overrides, "_get_current_function_mode_stack", lambda: ["unknown"])
_num_function_modes: Any = getattr(torch._C, "_len_torch_function_stack", lambda: 1)


def is_eager() -> bool:
    """Whether operations are carried out one by one, on numbers, and nobody watches them."""
    if torch.compiler.is_compiling():  # first: the compiler follows this function no further
        return False
    return not (
        _num_dispatch_modes()
        or (_num_function_modes() and not _only_a_device())
        or _transform() is not None
        or _is_traced()
        or forward_ad._current_level >= 0
    )


def are_plain(*tensors: object) -> bool:
    """Whether these are numbers in the processor's memory and no more; None, for a tensor that there is not, is well too."""
    for each in tensors:
        if each is None:
            continue
        if type(each) not in _TENSORS or not isinstance(each, torch.Tensor):
            return False
        if each.device.type != "cpu" or each.layout != torch.strided:
            return False
    return True


def is_one_of_many(gradient: torch.Tensor) -> bool:
    """Whether it stands for several gradients: ``torch.autograd.grad`` does this to a batch, unseen by ``is_eager``."""
    return bool(_is_batched(gradient))


def is_convolved_in_bfloat16(maps: torch.Tensor, *weights: torch.Tensor | None) -> bool:
    """Whether PyTorch computes the convolution of these maps by these weights in bfloat16.

    In autocast PyTorch converts what a convolution reads, except float64; elsewhere all has to be of one type.
    """
    kinds = {each.dtype for each in (maps, *weights) if each is not None}
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and kinds.issubset(_LOWERED)
    return kinds == {torch.bfloat16}


def suits_rows(maps: torch.Tensor) -> bool:
    """Whether maps can be read row by row and are large enough for it to pay: (N, C, H, W) bfloat16, channels last.

    Norms and activations compute in the type of their input; autocast does not change it.
    """
    return (
        maps.dtype == torch.bfloat16
        and maps.ndim == 4
        and maps.numel() >= MIN_NUMBERS
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def _only_a_device() -> bool:
    """Whether the only modes are those of ``with torch.device(...)`` and the default device, which concern new tensors."""
    return all(isinstance(mode, DeviceContext) for mode in _function_modes())
