"""Norms and softmax: each element depends on those that it is normalized with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visus.design.flow import Normed
from visus.networks.trace.annotation import Axes, annotation_of
from visus.networks.trace.coordinates.dependence import Terms
from visus.networks.trace.coordinates.mixing import grouped, with_global_context
from visus.networks.trace.operators.registry import HULL, Call, Hull, operator, register
from visus.networks.trace.operators.shapes import FLOATS, META, copies_of, new_like, num_bytes, same_layout, with_layout_of

# ---- batch norm ----

_RUNNING = (3, 4)  # the places of the running mean and variance


def _batch_norm_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    if any(isinstance(value, Tensor) and value.shape[0] != x.shape[1] for value in args[1:5]):
        return None
    unused = torch.empty(0, device=META)
    return same_layout(x), unused, unused.detach()


def _batch_normed(call: Call) -> Normed | None:
    """What a batch norm normalizes; None for an instance norm, which is a batch norm of a batch merged into the channels."""
    shape = call.shape(0)
    if len(shape) < 2 or (call.module is not None and type(call.module).__name__.startswith("InstanceNorm")):
        return None
    return Normed("batch", shape[1], 1, math.prod(shape[2:]))


def _batch_norm_backward_bytes(args: Sequence[Any], out: Any) -> int:
    made = (
        num_bytes(args[1]) if args[9][0] else 0
    )  # where it is not asked for, the gradient of the input is made all the same
    return made + (0 if args[0].is_contiguous() == args[1].is_contiguous() else num_bytes(args[0]))


register("native_batch_norm_backward", kind="norm", workspace_bytes=_batch_norm_backward_bytes)


@operator(
    "native_batch_norm",
    kind="norm",
    is_affine=True,
    shape=_batch_norm_shape,
    normalizes=_batch_normed,
    label="batch_norm",
    more_written=_RUNNING,
)
@operator(
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    kind="norm",
    is_affine=True,
    shape=_batch_norm_shape,
    normalizes=_batch_normed,
)
@operator(
    *("_batch_norm_with_update", "_batch_norm_no_update", "_native_batch_norm_legit_functional"),
    kind="norm",
    is_affine=True,
    normalizes=_batch_normed,
)
@operator(
    "cudnn_batch_norm", "miopen_batch_norm", kind="norm", is_affine=True, normalizes=_batch_normed, more_written=_RUNNING
)
def batch_norm(call: Call) -> list[Axes | None] | Axes:
    """With running statistics, each element depends on itself; with batch statistics, on all positions of all samples."""
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
        call.is_affine = False
        if not _is_by_instance(call):
            call.notes = ("batch-coupled",)
    return [axes]


def _is_by_instance(call: Call) -> bool:
    """Whether the batch was merged into the channels before, as an instance norm does."""
    if isinstance(call.module, torch.nn.modules.instancenorm._InstanceNorm):
        return True
    mark = annotation_of(call.args[0])
    is_view = mark is not None and mark.source is not None
    return is_view and call.shape(0)[0] == 1 and not isinstance(call.module, torch.nn.modules.batchnorm._BatchNorm)


# ---- layer norm, group norm ----


def _layer_norm_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, normalized = args[0], list(args[1])
    if list(x.shape[len(x.shape) - len(normalized) :]) != normalized:
        return None
    unused = torch.empty(0, device=META)
    return new_like(x.shape, x), unused, unused.detach()


def _group_norm_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    unused = torch.empty(0, device=META)
    return with_layout_of(args[0].shape, args[0]), unused, unused.detach()


def _layer_normed(call: Call) -> Normed:
    shape = call.shape(0)
    return Normed("layer", shape[1] if len(shape) > 1 else 1, 1, math.prod(call.args[1]))


def _group_normed(call: Call) -> Normed:
    channels, positions, num_groups = call.args[4:7]
    return Normed("group", channels, num_groups, channels // num_groups * positions)


register("native_layer_norm_backward", kind="norm", workspace_bytes=copies_of(0, 1))


@operator(
    "native_layer_norm",
    kind="norm",
    shape=_layer_norm_shape,
    normalizes=_layer_normed,
    label="layer_norm",
    workspace_bytes=copies_of(0),
)
@operator("layer_norm", kind="norm", normalizes=_layer_normed)
@operator("rms_norm", "_fused_rms_norm", kind="values")
def layer_norm(call: Call) -> list[Axes | None]:
    """``native_layer_norm(x, normalized_shape, ...)``: normalizes the last dimensions together."""
    shape = call.shape(0)
    dims = range(len(shape) - len(call.args[1]), len(shape))
    return [tuple(with_global_context(terms, shape, dims) for terms in call.axes(0) or ())]


@operator("native_group_norm", kind="norm", shape=_group_norm_shape, normalizes=_group_normed, label="group_norm")
def group_norm(call: Call) -> list[Axes | None]:
    """``native_group_norm(x, weight, bias, N, C, HxW, group, eps)``: normalizes all positions and a group's channels together."""
    shape, num_groups = call.shape(0), call.args[6]

    def rule(terms: Terms) -> Terms:
        return grouped(with_global_context(terms, shape, range(2, len(shape))), shape, 1, num_groups, shape[1])

    return [tuple(rule(terms) for terms in call.axes(0) or ())]


# ---- softmax ----


def _softmax_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return (
        None if kwargs or args[0].dtype not in FLOATS else new_like(args[0].shape, args[0])
    )  # contiguous, whatever comes in


@operator("_softmax", kind="softmax", shape=_softmax_shape)
@operator("softmax", kind="softmax")
@operator("_log_softmax", "_safe_softmax", kind="values", shape=_softmax_shape)
@operator("log_softmax", kind="values")
def softmax(call: Call) -> Axes:
    """``softmax(x, dim)``: each position depends on all along a dimension."""
    shape = call.shape(0)
    dim = call.args[1] % max(len(shape), 1)
    return tuple(with_global_context(terms, shape, (dim,)) for terms in call.axes(0) or ())


@operator("_weight_norm_interface", "_weight_norm", kind="values")
def weight_norm(call: Call) -> Axes | Hull:
    """Weights of a given direction and norm, which seldom depend on the input."""
    return HULL
