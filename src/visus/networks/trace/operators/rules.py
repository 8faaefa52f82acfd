"""Rules for operations that compute: element by element, reductions, norms, softmax, matrix products, attention, Fourier.

A rule takes the operation's call and gives what the output sees. This file knows the arguments of PyTorch's operations that
compute without a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visus.networks.trace.calls import HULL, Axes, Call, Hull, axes_of, mark_of, register
from visus.networks.trace.coordinates.dependence import MAX_NUMBERS, Dependence, Shape, Terms
from visus.networks.trace.coordinates.gaps import blanked, without
from visus.networks.trace.coordinates.layouts import broadcast, unsqueezed
from visus.networks.trace.coordinates.reductions import accumulated, frequencies, grouped, reduced, with_global_context
from visus.networks.trace.coordinates.taps import sliced
from visus.networks.trace.coordinates.unions import joined, united
from visus.networks.trace.coordinates.windows import along

# ---- element by element ----


def pointwise(call: Call) -> Axes:
    """Each element sees what the elements see that it is computed from."""
    return _joined(call, list(call.seeing()), call.out_shape)


register(
    *("lerp", "addcmul", "addcdiv", "add", "sub", "mul", "div", "maximum", "minimum", "threshold"),
    *("glu_jvp", "rrelu_with_noise", "_prelu_kernel", "prelu", "clamp", "heaviside", "fmod", "remainder"),
    *(
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "silu",
        "gelu",
        "mish",
        "celu",
        "elu",
        "selu",
        "softplus",
        "leaky_relu",
        "relu6",
    ),
    *(
        "log_sigmoid_forward",
        "logsigmoid",
        "softshrink",
        "hardshrink",
        "rrelu",
        "rrelu_with_noise_functional",
        "pow",
        "_masked_scale",
    ),
)(pointwise)


@register("where")
def where(call: Call) -> Axes | None:
    """``where(condition, one, other)``: by a condition that is known, each place sees one of the two."""
    if len(call.args) < 3 or axes_of(call.args[0]) is not None:
        return pointwise(call)
    return _chosen(call, call.args[0], call.axes(1), call.axes(2))


@register("masked_fill")
def masked_fill(call: Call) -> Axes | None:
    """``masked_fill(x, mask, value)``: by a mask that is known, what it covers sees the value alone."""
    if axes_of(call.args[1]) is not None:
        return pointwise(call)
    return _chosen(call, call.args[1], axes_of(call.args[2]), call.axes(0))


def _chosen(call: Call, mask: Tensor, one: Axes | None, other: Axes | None) -> Axes | None:
    """One of two, place by place, by a mask that does not depend on the input; of a mask that is not known, the hull of both."""
    if one is not None and one is other:
        return pointwise(call)
    if not mask.is_meta and mask.numel() and bool((mask == mask.reshape(-1)[0]).all()):
        axes, place = (one, 1) if mask.reshape(-1)[0] else (other, 2)
        if call.name == "masked_fill":
            place = 2 if axes is one else 0
        return None if axes is None else _joined(call, [call.args[place]], call.out_shape)
    after = call.out_shape
    if mask.is_meta or 2 * math.prod(after) > MAX_NUMBERS:
        call.is_hull |= mask.numel() != 1
        return pointwise(call)
    taken = mask.detach().cpu().numpy().reshape(*[1] * (len(after) - mask.dim()), *mask.shape) != 0
    values = (call.args[2], call.args[0]) if call.name == "masked_fill" else call.args[1:3]
    paths = [
        [without(broadcast(terms, tuple(value.shape), after), blank, after) for terms in axes]
        for axes, value, blank in ((one, values[0], ~taken), (other, values[1], taken))
        if axes is not None
    ]
    found = []
    for seen in zip(*paths, strict=True):
        terms, aligned = joined([(terms, after) for terms in seen], after)
        call.aligned &= aligned
        found.append(terms)
    return tuple(found)


@register("tril", "triu")
def triangle(call: Call) -> Axes:
    """``tril(x, diagonal=0)``: what is not in the triangle is zero; taken for all of it."""
    call.is_hull = True
    return call.axes(0) or ()


def _joined(call: Call, paths: Sequence[Tensor], after: Shape) -> Axes:
    first = axes_of(paths[0])
    assert first is not None
    if len(paths) == 1:
        shape = tuple(paths[0].shape)
        return first if shape == after else tuple(broadcast(terms, shape, after) for terms in first)
    shapes = [tuple(path.shape) for path in paths]
    seen = [blanked(axes_of(path) or (), shape) for path, shape in zip(paths, shapes, strict=True)]
    found = []
    for axis in range(len(first)):
        terms, aligned = joined([(axes[axis], shape) for axes, shape in zip(seen, shapes, strict=True)], after)
        call.aligned &= aligned
        found.append(terms)
    return tuple(found)


@register("copy")
def copy(call: Call) -> Axes | None:
    """``copy_(x, source)``: what was there before is gone."""
    axes = call.axes(1)
    if axes is None:
        return None
    shape, after = call.shape(1), call.shape(0)
    return axes if shape == after else tuple(broadcast(terms, shape, after) for terms in axes)


@register(
    *(
        "fill",
        "zero",
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
    ),
    *(
        "new_empty",
        "new_full",
        "new_empty_strided",
        "normal_",
        "uniform",
        "random",
        "exponential",
        "randint_like",
        "_assert_async",
    ),
)
def nothing(call: Call) -> None:
    """New values that do not depend on the input."""
    return


@register("glu")
def glu(call: Call) -> Axes:
    """The first half of a dimension, gated by the second."""
    shape, after = call.shape(0), call.out_shape
    dim = call.named().get("dim", -1) % len(shape)
    half = after[dim]
    found = []
    for terms in call.axes(0) or ():
        halves = [(along(terms, shape, dim, sliced(shape[dim], start, half, 1)), after) for start in (0, half)]
        both, aligned = joined(halves, after)
        call.aligned &= aligned
        found.append(both)
    return tuple(found)


# ---- reductions ----


@register(
    *(
        "sum",
        "mean",
        "amax",
        "amin",
        "prod",
        "any",
        "all",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "logsumexp",
        "nansum",
        "nanmean",
    ),
    *("max", "min", "median", "nanmedian", "mode", "argmax", "argmin", "norm", "linalg_vector_norm", "aminmax", "kthvalue"),
    *("count_nonzero", "linalg_matrix_norm", "frobenius_norm", "nuclear_norm", "hash_tensor"),
)
def reduction(call: Call) -> Axes | list[Axes | None]:
    """A number from all places along some dimensions, or along all; ``max`` of two tensors is element by element."""
    named = call.named()
    if isinstance(named.get("other"), Tensor):
        return pointwise(call)
    shape = call.shape(0)
    dims = named.get("dim")
    if isinstance(dims, int):
        dims = [dims]
    gone = [dim % len(shape) for dim in dims] if dims else list(range(len(shape)))
    keepdim = bool(named.get("keepdim", False))
    found = tuple(reduced(terms, shape, gone, keepdim) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


@register("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper", "_cummin_helper")
def running(call: Call) -> Axes | list[Axes | None]:
    """Each place with all before it along a dimension."""
    shape = call.shape(0)
    dim = call.named()["dim"] % max(len(shape), 1)
    found = tuple(accumulated(terms, shape, dim) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


@register("sort", "argsort", "topk", "msort", "renorm", "rank")
def ordered(call: Call) -> list[Axes | None] | Axes:
    """The values along a dimension by their size: each place depends on all."""
    named = call.named()
    shape = call.shape(0)
    dim = named.get("dim", -1) % max(len(shape), 1)
    after = call.out_shape

    def rule(terms: Terms) -> Terms:
        if after == shape:
            return with_global_context(terms, shape, (dim,))
        kept = reduced(terms, shape, (dim,), True, False)
        return broadcast(kept, (*shape[:dim], 1, *shape[dim + 1 :]), after)

    found = tuple(rule(terms) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


# ---- norms and softmax ----


@register(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
    *("miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "_native_batch_norm_legit_functional"),
)
def batch_norm(call: Call) -> list[Axes | None] | Axes:
    """With running values each element sees itself; with those of the batch, all places of all samples."""
    axes = call.axes(0) or ()
    is_training = call.args[5] if len(call.args) > 5 else True
    if call.name.endswith("_no_training") or call.name.endswith("_no_update"):
        is_training = False
    elif call.name.startswith("_native_batch_norm_legit"):
        is_training = call.named().get("training", True)
    elif call.name == "_batch_norm_with_update":
        is_training = True
    if is_training:
        shape = call.shape(0)
        axes = tuple(with_global_context(terms, shape, (0, *range(2, len(shape)))) for terms in axes)
        if not _is_by_instance(call):
            call.notes = ("batch-coupled",)
    return [axes]


def _is_by_instance(call: Call) -> bool:
    """Whether the batch was laid into the channels before, as an instance norm does."""
    if isinstance(call.module, torch.nn.modules.instancenorm._InstanceNorm):
        return True
    mark = mark_of(call.args[0])
    is_view = mark is not None and mark.source is not None
    return is_view and call.shape(0)[0] == 1 and not isinstance(call.module, torch.nn.modules.batchnorm._BatchNorm)


@register("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(call: Call) -> list[Axes | None]:
    """``native_layer_norm(x, normalized_shape, ...)``: over the last dimensions."""
    shape = call.shape(0)
    dims = range(len(shape) - len(call.args[1]), len(shape))
    return [tuple(with_global_context(terms, shape, dims) for terms in call.axes(0) or ())]


@register("native_group_norm", "group_norm")
def group_norm(call: Call) -> list[Axes | None]:
    """``native_group_norm(x, weight, bias, N, C, HxW, group, eps)``: over space and the channels of a group."""
    shape, num_groups = call.shape(0), call.args[6]

    def rule(terms: Terms) -> Terms:
        return grouped(with_global_context(terms, shape, range(2, len(shape))), shape, 1, num_groups, shape[1])

    return [tuple(rule(terms) for terms in call.axes(0) or ())]


@register("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def softmax(call: Call) -> Axes:
    """Each place with all along a dimension."""
    shape = call.shape(0)
    dim = call.args[1] % max(len(shape), 1)
    return tuple(with_global_context(terms, shape, (dim,)) for terms in call.axes(0) or ())


# ---- matrix products ----


def _product(call: Call, one: int, other: int, added: int | None = None) -> Axes:
    """A matrix product of two arguments: the last dimension of one and the last but one of the other are summed over."""
    after = call.out_shape
    found: list[list[Dependence]] = []
    for place, gone in ((one, -1), (other, -2)):
        axes, shape = call.axes(place), call.shape(place)
        for axis, terms in enumerate(axes or ()):
            if axis == len(found):
                found.append([])
            found[axis] += reduced(terms, shape, (len(shape) + gone,), True, False)
    if added is not None and (axes := call.axes(added)) is not None:
        shape = call.shape(added)
        for axis, terms in enumerate(axes):
            if axis == len(found):
                found.append([])
            found[axis] += broadcast(terms, shape, after)
    return tuple(tuple(terms) if len(terms) == 1 else united(terms, after) for terms in found)


@register("mm", "bmm", "matmul", "_int_mm")
def matrix_product(call: Call) -> Axes:
    """``mm(a, b)``."""
    return _product(call, 0, 1)


@register("addmm", "baddbmm", "_addmm_activation")
def matrix_product_added(call: Call) -> Axes:
    """``addmm(added, a, b)``."""
    return _product(call, 1, 2, 0)


@register("linear", "mkldnn_linear", "_mkldnn_linear")
def linear(call: Call) -> Axes | Hull:
    """``linear(x, weight, bias)`` where it is one operation."""
    if any(axes_of(value) is not None for value in call.args[1:]):
        return HULL
    shape = call.shape(0)
    return tuple(reduced(terms, shape, (len(shape) - 1,), True, False) for terms in call.axes(0) or ())


@register("mv", "dot", "vdot", "addmv")
def vector_product(call: Call) -> Axes:
    """A matrix with a vector, or two vectors."""
    after, found = call.out_shape, []
    values = [value for value in call.args if isinstance(value, Tensor)]
    for value in values[-2:]:
        shape = tuple(value.shape)
        axes = axes_of(value)
        if axes is not None:
            found.append([reduced(terms, shape, (len(shape) - 1,), False) for terms in axes])
    if len(values) > 2 and (axes := axes_of(values[0])) is not None:
        found.append([broadcast(terms, tuple(values[0].shape), after) for terms in axes])
    return tuple(united([term for terms in paths for term in terms], after) for paths in zip(*found, strict=True))


@register(
    *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention", "scaled_dot_product_attention"),
    *(
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ),
)
def attention(call: Call) -> list[Axes | None]:
    """``attention(query, key, value, ...)``, each N heads T D: each place of the query sees all keys and values."""
    out = call.out if isinstance(call.out, Tensor) else call.out[0]
    after = tuple(out.shape)
    mask: Any = call.named().get("attn_mask", call.named().get("attn_bias"))
    found: list[list[Dependence]] = []
    given: list[tuple[Any, tuple[int, ...]]] = [
        (call.args[0], (-1,)),
        (call.args[1], (-2, -1)),
        (call.args[2], (-2,)),
        (mask, (-1,)),
    ]
    for value, gone in given:
        axes = axes_of(value)
        for axis, terms in enumerate(axes or ()):
            shape = tuple(value.shape)
            if axis == len(found):
                found.append([])
            less = reduced(terms, shape, [len(shape) + dim for dim in gone], True, False)
            kept = tuple(1 if dim - len(shape) in gone else length for dim, length in enumerate(shape))
            found[axis] += broadcast(less, kept, after) if len(kept) < len(after) else less
    return [tuple(united(terms, after) for terms in found)]


# ---- Fourier ----


@register("_fft_r2c", "_fft_c2c", "_fft_c2r")
def fourier(call: Call) -> Axes:
    """Each frequency depends on all places along the dimensions."""
    shape = call.shape(0)
    dims = [dim % len(shape) for dim in call.args[1]]
    return tuple(frequencies(terms, shape, dims) for terms in call.axes(0) or ())


@register("one_hot")
def one_hot(call: Call) -> Axes:
    """A new last dimension of classes."""
    num_dims = len(call.shape(0))
    return tuple(unsqueezed(terms, num_dims) for terms in call.axes(0) or ())


@register("_weight_norm_interface", "_weight_norm")
def weight_norm(call: Call) -> Axes | Hull:
    """Weights by their direction and length; they seldom depend on the input."""
    return HULL


def is_pointwise(func: Any) -> bool:
    """Whether torch says of an operation that it works element by element."""
    return torch.Tag.pointwise in func.tags
