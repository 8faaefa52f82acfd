"""Operators that resize maps: nearest, linear, bicubic, antialiased; as in ``torch.nn.functional.interpolate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visus.networks.trace.annotation import Axes
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.operators.registry import Call, operator
from visus.networks.trace.operators.shapes import is_channels_last, num_bytes
from visus.networks.trace.operators.windows import along_last_dims


def _upsample_bytes(args: Sequence[Any], out: Any) -> int:
    return 0 if is_channels_last(args[0]) else num_bytes(args[0]) + num_bytes(out)


@operator("upsample_nearest2d", "upsample_bilinear2d", kind="window", is_affine=True, workspace_bytes=_upsample_bytes)
@operator("upsample_nearest1d", "upsample_nearest3d", kind="window", is_affine=True)
@operator(
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", kind="window", is_affine=True
)
@operator("upsample_linear1d", "upsample_trilinear3d", "upsample_bicubic2d", kind="window", is_affine=True)
@operator("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", kind="window", is_affine=True)
def resizing(call: Call) -> Axes:
    """``upsample(x, output_size, [align_corners], scales...)``."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    num_axes = len(shape) - 2
    mode = (
        "nearest-exact"
        if "exact" in call.name
        else next(word for word in ("nearest", "linear", "cubic") if word in call.name)
    )
    corners = bool(named.get("align_corners", False))
    if "scale_factors" in named:
        scales = list(named["scale_factors"] or [None] * num_axes)
    else:
        keys = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[num_axes]
        scales = [named.get(key) for key in keys]
    make = taps_of.antialiased if call.name.endswith("_aa") else taps_of.resized
    taps = [make(shape[2 + axis], after[2 + axis], mode, corners, scales[axis]) for axis in range(num_axes)]
    axis_ops = tuple(each.axis_op for each in taps if each.axis_op is not None)
    call.axis_ops = axis_ops if len(axis_ops) == num_axes else ()
    return along_last_dims(call, taps)
