"""Shapes of the outputs of the most frequent operations, answered without asking torch, whose own answers take longer.

An answer is None where anything is unusual; torch then answers, and refuses what cannot be computed. This file knows shapes,
number formats and the order of elements in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

Answer = Callable[[Sequence[Any], dict[str, Any]], Any]

META: Final = torch.device("meta")
SHAPE_FUNCTIONS: Final[dict[str, Answer]] = {}
_FLOATS = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))


def _enter(*names: str) -> Callable[[Answer], Answer]:
    def enter(answer: Answer) -> Answer:
        SHAPE_FUNCTIONS.update(dict.fromkeys(names, answer))
        return answer

    return enter


def new(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor without data, in order, with the number format of another."""
    return torch.empty(shape, dtype=like.dtype, device=META)


def bytes_of(value: Tensor) -> int:
    """Bytes of a tensor's numbers; of one that keeps only those that are not zero, of these and their places.

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


def same(like: Tensor) -> Tensor:
    """A tensor without data, with shape, number format and order of another."""
    if like.is_contiguous():
        return torch.empty(like.shape, dtype=like.dtype, device=META)
    strides = like.stride()
    if _is_dense(like.shape, strides):
        return torch.empty_strided(like.shape, strides, dtype=like.dtype, device=META)
    return torch.empty(like.shape, dtype=like.dtype, device=META)


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements lie side by side without gaps or overlaps."""
    expected = 1
    for stride, length in sorted((stride, length) for stride, length in zip(strides, shape, strict=True) if length != 1):
        if stride != expected:
            return False
        expected *= length
    return True


def in_order_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """A map without data, its channels side by side in memory where those of another are."""
    out = torch.empty(shape, dtype=like.dtype, device=META)
    if len(shape) == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
        return out.to(memory_format=torch.channels_last)
    return out


@_enter(
    *("relu", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "leaky_relu", "elu", "mish", "neg"),
    *(
        "exp",
        "sqrt",
        "rsqrt",
        "abs",
        "softplus",
        "erf",
        "square",
        "_softmax",
        "_log_softmax",
        "_safe_softmax",
        "relu6",
        "selu",
    ),
    *("celu", "softsign", "logsigmoid", "sin", "cos", "reciprocal", "log", "clamp", "clamp_min", "clamp_max"),
)
def _elementwise(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if kwargs or x.dtype not in _FLOATS or any(isinstance(value, Tensor) for value in args[1:]):
        return None
    return same(x)


@_enter("add", "sub", "mul", "div", "maximum", "minimum", "pow", "rsub")
def _two(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    one, other = args[0], args[1]
    if (kwargs and set(kwargs) != {"alpha"}) or not isinstance(one, Tensor) or one.dtype not in _FLOATS:
        return None
    if not isinstance(other, Tensor):
        return None if isinstance(other, complex) else same(one)
    if other.dtype != one.dtype:
        return None
    if one.shape == other.shape:
        return same(one)
    shape = _together(one.shape, other.shape)
    if shape is None:
        return None
    if shape == tuple(one.shape):
        return same(one)
    return same(other) if shape == tuple(other.shape) else new(shape, one)


def _together(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that two shapes are broadcast to."""
    longest = max(len(one), len(other))
    found = []
    for a, b in zip((1,) * (longest - len(one)) + tuple(one), (1,) * (longest - len(other)) + tuple(other), strict=True):
        if a != b and a != 1 and b != 1:
            return None
        found.append(b if a == 1 else a)
    return tuple(found)


@_enter("convolution")
def _convolution(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, weight, bias, stride, padding, dilation, is_transposed, output_padding, groups = args
    shape, kernel = x.shape, weight.shape
    num_axes = len(shape) - 2
    channels = kernel[0] if is_transposed else kernel[1] * groups
    if len(kernel) != len(shape) or shape[1] != channels or len(stride) != num_axes or len(padding) != num_axes:
        return None
    if bias is not None and bias.shape[0] != (kernel[1] * groups if is_transposed else kernel[0]):
        return None
    if len(dilation) != num_axes or min(shape) < 1 or x.dtype != weight.dtype or shape[1] % groups or kernel[0] % groups:
        return None
    lengths = []
    for axis in range(num_axes):
        span = dilation[axis] * (kernel[axis + 2] - 1)
        if is_transposed:
            length = (shape[axis + 2] - 1) * stride[axis] - 2 * padding[axis] + span + output_padding[axis] + 1
        else:
            length = (shape[axis + 2] + 2 * padding[axis] - span - 1) // stride[axis] + 1
        if length < 1:
            return None
        lengths.append(length)
    return in_order_of((shape[0], kernel[1] * groups if is_transposed else kernel[0], *lengths), x)


@_enter("max_pool2d_with_indices", "avg_pool2d")
def _pool(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, kernel = args[0], args[1]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding = args[3] if len(args) > 3 else (0, 0)
    is_largest = len(args) <= 4 or not isinstance(args[4], bool)
    dilation = args[4] if len(args) > 4 and is_largest else (1, 1)
    ceil_mode = args[5] if len(args) > 5 and is_largest else len(args) > 4 and args[4] is True
    if (
        kwargs
        or x.dim() != 4
        or any(isinstance(each, int) or len(each) != 2 for each in (kernel, stride, padding, dilation))
    ):
        return None
    lengths = []
    for axis in (0, 1):
        size, span = x.shape[axis + 2], dilation[axis] * (kernel[axis] - 1) + 1
        steps = size + 2 * padding[axis] - span
        if steps < 0 or 2 * padding[axis] > kernel[axis]:
            return None
        length = (-(-steps // stride[axis]) if ceil_mode else steps // stride[axis]) + 1
        if ceil_mode and (length - 1) * stride[axis] >= size + padding[axis]:
            length -= 1
        lengths.append(length)
    return in_order_of((*x.shape[:2], *lengths), x)


def _with_indices(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    out = _pool(args, kwargs)
    return None if out is None else (out, torch.empty(out.shape, dtype=torch.int64, device=META))


SHAPE_FUNCTIONS["max_pool2d_with_indices"] = _with_indices


@_enter("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def _batch_norm(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if any(isinstance(value, Tensor) and value.shape[0] != x.shape[1] for value in args[1:5]):
        return None
    nothing = torch.empty(0, device=META)
    return same(x), nothing, nothing.detach()


@_enter("native_layer_norm", "native_group_norm")
def _norm(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if (
        not isinstance(args[1], Tensor)
        and args[1] is not None
        and list(x.shape[len(x.shape) - len(args[1]) :]) != list(args[1])
    ):
        return None
    nothing = torch.empty(0, device=META)
    return torch.empty(x.shape, dtype=x.dtype, device=META), nothing, nothing.detach()


@_enter("mean", "amax", "amin", "sum")
def _reduction(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if kwargs or len(args) < 2 or not isinstance(args[1], (list, tuple)) or not args[1] or x.dtype not in _FLOATS:
        return None
    gone = {dim % x.dim() for dim in args[1]}
    keepdim = len(args) > 2 and args[2]
    return new([1 if dim in gone else length for dim, length in enumerate(x.shape) if keepdim or dim not in gone], x)


@_enter("cat")
def _cat(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    parts = args[0]
    first = parts[0]
    dim = args[1] if len(args) > 1 else 0
    dim += first.dim() if dim < 0 else 0
    others = [length for place, length in enumerate(first.shape) if place != dim]
    total = 0
    for part in parts:
        shape = part.shape
        if part.dim() != first.dim() or part.dtype != first.dtype or not part.is_contiguous():
            return None
        if [length for place, length in enumerate(shape) if place != dim] != others:
            return None
        total += shape[dim]
    return new((*first.shape[:dim], total, *first.shape[dim + 1 :]), first)


@_enter("mm", "bmm", "addmm", "baddbmm")
def _product(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if kwargs:
        return None
    one, other = args[-2], args[-1]
    if not isinstance(other, Tensor) or one.shape[-1] != other.shape[-2] or one.dtype != other.dtype:
        return None
    if len(one.shape) == 3 and one.shape[0] != other.shape[0]:
        return None
    shape = (*one.shape[:-1], other.shape[-1])
    if len(args) == 3 and _together(args[0].shape, shape) != shape:
        return None
    return new(shape, one)


@_enter("clone")
def _clone(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, layout = args[0], kwargs.get("memory_format", torch.preserve_format)
    if layout == torch.contiguous_format:
        return new(x.shape, x)
    if layout == torch.preserve_format:
        return same(x)
    return None


@_enter("constant_pad_nd")
def _pad(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, pads = args[0], args[1]
    shape = list(x.shape)
    for index in range(len(pads) // 2):
        shape[-1 - index] += pads[2 * index] + pads[2 * index + 1]
    return in_order_of(shape, x) if min(shape) > 0 else None


def _convolution_cost(args: Sequence[Any], out: Any) -> int:
    x, weight = args[0].shape, args[1].shape
    places = x if len(args) > 6 and args[6] is True else (out if isinstance(out, Tensor) else out[0]).shape
    return int(math.prod(places[2:]) * math.prod(weight) * x[0])


def _product_cost(args: Sequence[Any], out: Any) -> int:
    one, other = [value for value in args if isinstance(value, Tensor)][-2:]
    return int(math.prod(one.shape) * other.shape[-1])


def _sparse_product_cost(args: Sequence[Any], out: Any) -> int:
    one, other = [value for value in args if isinstance(value, Tensor)][-2:]
    if one.layout == torch.strided:
        return int(one.shape[0] * other._nnz())
    return int(one._nnz() * other.shape[-1])


def _lstm_cost(args: Sequence[Any], out: Any) -> int:
    x, of_input, of_state = (value.shape for value in args[:3])
    return int(math.prod(x[:-1]) * (math.prod(of_input) + math.prod(of_state)))


def _linear_cost(args: Sequence[Any], out: Any) -> int:
    return int(math.prod(args[0].shape) * args[1].shape[0])


def _attention_cost(args: Sequence[Any], out: Any) -> int:
    query, key, value = (each.shape for each in args[:3])
    return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


UNCOUNTED: Final = frozenset(("_cudnn_rnn", "miopen_rnn", "_lstm_mps", "quantized_lstm", "quantized_gru"))
"""Operations of torch itself that multiply matrices inside, and whose multiply-adds are not known."""

# Multiply-adds of a convolution, a matrix product or an attention, as ``torch.utils.flop_counter`` counts them, halved; beside
# them those of an LSTM, which on the CPU is one operation, and of a product with a matrix that keeps only what is not zero.
COSTS: Final[dict[str, Callable[[Sequence[Any], Any], int]]] = {
    **dict.fromkeys(
        ("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution", "_slow_conv2d_forward"), _convolution_cost
    ),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "_int_mm", "_addmm_activation"), _product_cost),
    **dict.fromkeys(("_sparse_addmm", "_sparse_mm"), _sparse_product_cost),
    "mkldnn_rnn_layer": _lstm_cost,
    **dict.fromkeys(("linear", "mkldnn_linear", "_mkldnn_linear"), _linear_cost),
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "scaled_dot_product_attention",
        ),
        _attention_cost,
    ),
}
