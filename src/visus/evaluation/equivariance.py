"""Shift equivariance of every layer: whether the map of a shifted image equals the shifted map of the image.

For a shift of t pixels on an axis and a layer with stride s, the map should move by t/s positions.

- If t/s is a whole number, position i of the shifted image's map is compared with position i - t/s of the image's map.
- If it is not, the image's map is interpolated linearly. The map of a layer without aliasing is smooth enough for this; that of a layer that drops
  pixels is not. Interpolation errors count as errors.
- Positions that exist in only one of the two maps are excluded. Under ``roll``, a map with the same length in pixels as the image is circular too, and
  no position is excluded.
- A position is *interior* if its whole receptive field, in both images, lies within the image and within the pixels from before the shift. There a
  layer with a whole t/s is exactly equivariant for any weights; a test checks the trace by this.
- Outputs without spatial axes (after flatten, global pooling, linear) should not change at all, and are compared value by value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus.design.account import Account, Row
from visus.errors import UsageError
from visus.evaluation.predictions import evaluation_mode
from visus.evaluation.shifts import Shift, moved
from visus.geometry import Field
from visus.networks.trace import trace
from visus.units import rank_words, write_size

BROKEN: Final = 1e-3
"""Relative error above which a layer counts as not equivariant; rounding errors are smaller."""


@dataclass(frozen=True)
class LayerShift:
    """Equivariance error of one layer.

    Attributes:
        path: path of the layer, as in the account; its second call ends with ``#2``.
        layer: the layer as text.
        step_px: stride of the receptive field on each axis, as text if it is a fraction; empty without spatial axes.
        is_whole: whether the stride divides the shift on every axis.
        error: norm of the difference of the two maps, divided by the norm of the image's shifted map; None if no position has a counterpart.
        interior_error: the same over interior positions only; None if there are none.
    """

    path: str
    layer: str
    step_px: tuple[int | str, ...]
    is_whole: bool
    error: float | None
    interior_error: float | None


@dataclass(frozen=True)
class Equivariance:
    """Equivariance errors of all layers for one shift, in the order of execution.

    Attributes:
        shift_px: shift on each axis, in pixels.
        way: how the image was shifted, a key of ``shifts.WAYS``.
        num_samples: number of samples in each error.
        layers: error of each layer.
    """

    shift_px: Shift
    way: str
    num_samples: int
    layers: tuple[LayerShift, ...]

    @property
    def first_broken(self) -> LayerShift | None:
        """The first layer that is not equivariant: one with an interior error if there is any, else one with an error at the border."""
        inside = (each for each in self.layers if each.step_px and (each.interior_error or 0) > BROKEN)
        anywhere = (each for each in self.layers if (each.error or 0) > BROKEN)
        return next(inside, None) or next(anywhere, None)

    def sentence(self) -> str:
        """A sentence that names the first layer that is not equivariant, and the cause.

        If an earlier layer is not equivariant at the border, a second sentence names that one.
        """
        shift, noun = write_size(self.shift_px), rank_words(len(self.shift_px)).sample
        found = self.first_broken
        if found is None:
            return f"every layer is equivariant to a shift of {shift}."
        if not found.step_px:
            return (
                f"{found.path or 'the module'} is the first layer that is not equivariant: each of its outputs belongs to one position of the {noun}, "
                f"and a shift of {shift} changes them by {_percent(found.error)}."
            )
        if found.interior_error is not None and found.interior_error > BROKEN:
            reason = (
                f"its stride of {write_size(found.step_px)} does not divide a shift of {shift}"
                if not found.is_whole
                else "it treats positions differently"
            )
            border = self._first_at_border(found)
            return (
                f"{'apart from the border, ' if border else ''}{found.path or 'the module'} is the first layer that is not equivariant: {reason}; "
                f"its map changes by {_percent(found.interior_error)}."
                + (
                    f" At the border, {border.path} is the first: the padding does not move with the {noun}."
                    if border
                    else ""
                )
            )
        return (
            f"at the border, {found.path or 'the module'} is the first layer that is not equivariant to a shift of {shift}: the padding does not move "
            f"with the {noun}; its map changes by {_percent(found.error)}."
        )

    def _first_at_border(self, inside: LayerShift) -> LayerShift | None:
        """The first layer before ``inside`` that is not equivariant, which it then is at the border only; None if there is none."""
        before = self.layers[: self.layers.index(inside)]
        return next((each for each in before if each.step_px and (each.error or 0) > BROKEN), None)

    def to_json(self) -> dict[str, Any]:
        """The errors as JSON data."""
        first = self.first_broken
        return {
            "shift_px": list(self.shift_px),
            "way": self.way,
            "num_samples": self.num_samples,
            "first_broken": first.path if first else None,
            "sentence": self.sentence(),
            "layers": [{**asdict(each), "step_px": list(each.step_px)} for each in self.layers],
        }


def measure_equivariance(
    module: nn.Module,
    batch: Tensor,
    shift_px: Sequence[int],
    way: str = "roll",
    *,
    account: Account | None = None,
) -> Equivariance:
    """Measure the equivariance error of every layer for one shift of all samples.

    Args:
        module: any module that accepts the batch; it does not change.
        batch: preprocessed samples (N, C, *), on the module's device.
        shift_px: shift on each axis, in pixels.
        way: a key of ``shifts.WAYS``, except ``crop``, which enlarges the image.
        account: the module's account for this input shape; default: traced here.

    Raises:
        UsageError: the shift is invalid.
        TraceError: the module cannot be traced on this input.
    """
    if way == "crop":
        raise UsageError("a cropped sample is enlarged, so its maps have no unshifted counterpart. Use another way.")
    traced = account or trace(module, tuple(batch.shape[1:]))
    rows = {row.path: row for row in traced.rows}
    shifted = moved(batch, shift_px, way)
    with evaluation_mode(module), torch.no_grad():
        maps: dict[str, Tensor] = {}
        with _captured_outputs(module, rows, maps):
            module(batch)
        shifted_maps: dict[str, Tensor] = {}
        with _captured_outputs(module, rows, shifted_maps):
            module(shifted)
    size, shift = tuple(batch.shape[2:]), tuple(shift_px)
    layers = [
        _compare(rows[path], maps[path], shifted_maps[path], size, shift, way)
        for path in rows
        if path in maps and path in shifted_maps
    ]
    return Equivariance(shift, way, len(batch), tuple(layers))


@contextmanager
def _captured_outputs(module: nn.Module, rows: dict[str, Row], maps: dict[str, Tensor]) -> Iterator[None]:
    """A block that stores the output of every layer with a row, and of every module that ends by joining its branches."""
    last = {path.rpartition(".")[0]: path for path in rows}  # the last row of each module
    calls: dict[str, int] = {}
    handles = []

    def keep(path: str, is_leaf: bool) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            calls[path] = calls.get(path, 0) + 1
            call_path = path if calls[path] == 1 else f"{path}#{calls[path]}"
            target = call_path if is_leaf else last.get(path, "")
            is_match = isinstance(output, Tensor) and target in rows and tuple(output.shape[1:]) == rows[target].output_shape
            if is_match and target not in maps:
                maps[target] = output.clone()  # the next layer may work in place

        return hook

    for path, part in module.named_modules():
        handles.append(part.register_forward_hook(keep(path, not part._modules)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compare(row: Row, expected: Tensor, actual: Tensor, size: Shift, shift: Shift, way: str) -> LayerShift:
    """Compare the map of the shifted samples (``actual``) with that of the unshifted ones (``expected``, shifted here)."""
    is_map = len(row.fields) == len(size) == expected.dim() - 2 and all(field.stride for field in row.fields)
    if not is_map:
        return LayerShift(row.path, row.layer, (), True, _relative(actual - expected, expected), None)
    strides = [Fraction(field.stride) for field in row.fields]
    is_whole = all((pixels / stride).denominator == 1 for pixels, stride in zip(shift, strides, strict=True))
    valid, interior = [], []
    for axis, (field, pixels) in enumerate(zip(row.fields, shift, strict=True), start=2):
        positions = pixels / Fraction(field.stride)
        low, fraction = math.floor(positions), float(positions - math.floor(positions))
        length = expected.shape[axis]
        is_circular = way == "roll" and length * field.stride == size[axis - 2]
        expected = _shift_map(expected, axis, low, fraction)
        exists = torch.tensor([_has_counterpart(index, low, fraction, length) for index in range(length)], dtype=torch.bool)
        valid.append(torch.ones_like(exists) if is_circular else exists)
        is_inside = [_is_interior(field, index, low, fraction, pixels, size[axis - 2]) for index in range(length)]
        interior.append(torch.tensor(is_inside, dtype=torch.bool) & exists)
    error = _masked_error(actual, expected, valid)
    has_whole_field = any(field.is_whole for field in row.fields)
    interior_error = None if has_whole_field else _masked_error(actual, expected, interior)
    step_px = tuple(int(stride) if stride.denominator == 1 else str(stride) for stride in strides)
    return LayerShift(row.path, row.layer, step_px, is_whole, error, interior_error)


def _shift_map(values: Tensor, axis: int, low: int, fraction: float) -> Tensor:
    """Shift a map circularly by ``low + fraction`` positions, with linear interpolation."""
    shifted = torch.roll(values, low, axis)
    return shifted if not fraction else (1 - fraction) * shifted + fraction * torch.roll(values, low + 1, axis)


def _has_counterpart(index: int, low: int, fraction: float, length: int) -> bool:
    """Whether both neighbors that interpolate position ``index`` exist."""
    return index - low - bool(fraction) >= 0 and index - low < length


def _is_interior(field: Field, index: int, low: int, fraction: float, pixels: int, size: int) -> bool:
    """Whether the receptive field of a position, in both images, contains only pixels that both images have."""
    spans = [(field.theoretical(index), pixels)]
    spans += [(field.theoretical(index - low - more), 0) for more in ((0, 1) if fraction else (0,))]
    for span, offset in spans:
        if span is None:
            return False
        first, last = span[0] - offset, span[1] - offset  # in pixels of the unshifted image
        if first < max(0, -pixels) or last >= min(size, size - pixels):
            return False
    return True


def _masked_error(actual: Tensor, expected: Tensor, masks: Sequence[Tensor]) -> float | None:
    """The relative error over the positions in the mask of each axis; None if there are none."""
    for axis, mask in enumerate(masks, start=2):
        places = mask.nonzero()[:, 0].to(actual.device)
        if not len(places):
            return None
        actual, expected = actual.index_select(axis, places), expected.index_select(axis, places)
    return _relative(actual - expected, expected)


def _relative(difference: Tensor, reference: Tensor) -> float:
    """Norm of the difference divided by that of the reference; 0 if both are 0."""
    length = float(difference.double().norm())
    return length / max(float(reference.double().norm()), torch.finfo(torch.float64).tiny) if length else 0.0


def _percent(error: float | None) -> str:
    return f"{100 * (error or 0):.1f} %"
