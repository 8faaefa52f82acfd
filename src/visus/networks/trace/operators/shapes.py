"""Tensors without data, for the shape functions of operators, and the bytes of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

META: Final = torch.device("meta")
FLOATS: Final = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))


def new_like(shape: Sequence[int], like: Tensor) -> Tensor:
    """A contiguous tensor without data, with the dtype of another."""
    return torch.empty(shape, dtype=like.dtype, device=META)


def same_layout(like: Tensor) -> Tensor:
    """A tensor without data, with shape, dtype and strides of another; contiguous if that has gaps or overlaps."""
    if like.is_contiguous():
        return torch.empty(like.shape, dtype=like.dtype, device=META)
    strides = like.stride()
    if _is_dense(like.shape, strides):
        return torch.empty_strided(like.shape, strides, dtype=like.dtype, device=META)
    return torch.empty(like.shape, dtype=like.dtype, device=META)


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a tensor has neither gaps nor overlaps in memory."""
    expected = 1
    for stride, length in sorted((stride, length) for stride, length in zip(strides, shape, strict=True) if length != 1):
        if stride != expected:
            return False
        expected *= length
    return True


def with_layout_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor without data; channels-last if another tensor is."""
    out = torch.empty(shape, dtype=like.dtype, device=META)
    if len(shape) == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
        return out.to(memory_format=torch.channels_last)
    return out


def is_channels_last(value: Tensor) -> bool:
    """Whether a map is channels-last in memory."""
    return value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def broadcast_shape(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """The broadcast shape of two shapes."""
    longest = max(len(one), len(other))
    found = []
    for a, b in zip((1,) * (longest - len(one)) + tuple(one), (1,) * (longest - len(other)) + tuple(other), strict=True):
        if a != b and a != 1 and b != 1:
            return None
        found.append(b if a == 1 else a)
    return tuple(found)


def bytes_of(value: Tensor) -> int:
    """Bytes of a tensor; for a sparse one, of its values and indices.

    >>> bytes_of(torch.zeros(2, 3)), bytes_of(torch.eye(5).to_sparse())
    (24, 100)
    """
    if value.layout == torch.strided:
        return value.nbytes
    if value.layout == torch.sparse_coo:
        return value._indices().nbytes + value._values().nbytes
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        return value.crow_indices().nbytes + value.col_indices().nbytes + value.values().nbytes
    if value.layout in (torch.sparse_csc, torch.sparse_bsc):
        return value.ccol_indices().nbytes + value.row_indices().nbytes + value.values().nbytes
    return value.numel() * value.element_size()


def num_bytes(value: Tensor) -> int:
    """Bytes of a tensor without gaps."""
    return value.numel() * value.element_size()


def copies_of(*places: int) -> Callable[[Sequence[Any], Any], int]:
    """A function that returns the bytes of contiguous copies of the non-contiguous arguments."""

    def count(args: Sequence[Any], out: Any) -> int:
        return sum(num_bytes(args[place]) for place in places if not args[place].is_contiguous())

    return count
