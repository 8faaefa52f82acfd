"""Which layer breaks it: does the map of a moved image equal the moved map of the image?

This file knows modules, their maps and receptive fields.

For a shift of t pixels on an axis and a layer whose step is s, the map should move by t/s positions.

- Where t/s is whole, position i of the moved image's map is compared with position i - t/s of the image's map.
- Where it is not, the image's map is read between its positions, by linear interpolation: a layer without aliasing has a map
  that is smooth enough for this, and one that drops pixels has not. What interpolation itself cannot give counts as error.
- Positions that only one of the two maps has are left out. Under ``roll``, where map and image have the same length in pixels, the
  map is a ring too and none is left out.
- *Interior* positions are those whose whole receptive field, in both images, lies within the image and is what was there
  before the shift. There a layer with a whole t/s is exactly equivariant, whatever its weights; a test holds the trace to this.
- What has no axes left (after flatten, global pooling, linear) should not change at all, and is compared number by number.
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
"""A relative error beyond this is no rounding any more."""


@dataclass(frozen=True)
class LayerShift:
    """How far one layer is from moving with the image.

    Attributes:
        path: the layer's path, as in the account; ``#2`` behind it for its second call.
        layer: the layer as it is written.
        step_px: its step on each axis, as text where it is a fraction; empty for what has no axes left.
        is_whole: whether the step divides the shift on every axis.
        error: length of the difference of the two maps, by the length of the moved map of the image; None where no position has
            a counterpart.
        interior_error: the same over interior positions alone; None where there are none.
    """

    path: str
    layer: str
    step_px: tuple[int | str, ...]
    is_whole: bool
    error: float | None
    interior_error: float | None


@dataclass(frozen=True)
class Equivariance:
    """Every layer's error for one shift, in the order of computation.

    Attributes:
        shift_px: pixels on each axis.
        way: how the image was moved.
        num_samples: samples over which the errors are taken together.
        layers: one for each layer.
    """

    shift_px: Shift
    way: str
    num_samples: int
    layers: tuple[LayerShift, ...]

    @property
    def first_broken(self) -> LayerShift | None:
        """The first layer that breaks it: inside the image if one does, else at the border; None where none does."""
        inside = (each for each in self.layers if each.step_px and (each.interior_error or 0) > BROKEN)
        anywhere = (each for each in self.layers if (each.error or 0) > BROKEN)
        return next(inside, None) or next(anywhere, None)

    def sentence(self) -> str:
        """Which layer breaks it and why, for people."""
        shift, noun = write_size(self.shift_px), rank_words(len(self.shift_px)).sample
        found = self.first_broken
        if found is None:
            return f"every layer moves with a shift of {shift}."
        if not found.step_px:
            return (
                f"{found.path or 'the module'} breaks it: behind it each number belongs to one place of the {noun}, and a shift of {shift} "
                f"changes it by {_percent(found.error)}."
            )
        if found.interior_error is not None and found.interior_error > BROKEN:
            reason = (
                f"its step of {write_size(found.step_px)} does not divide a shift of {shift}"
                if not found.is_whole
                else "its positions are not treated alike"
            )
            return f"{found.path or 'the module'} breaks it first: {reason}; its map changes by {_percent(found.interior_error)}."
        return (
            f"{found.path or 'the module'} breaks it first, at the border alone: what is put around the {noun} does not move with it; "
            f"its map changes by {_percent(found.error)}."
        )

    def to_json(self) -> dict[str, Any]:
        """The errors as plain data."""
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
    """Every layer's error for one shift of all samples.

    Args:
        module: any module that takes the batch; it comes back as it was.
        batch: scaled samples N C *, on the module's device.
        shift_px: pixels on each axis.
        way: a key of ``shifts.WAYS``; ``crop`` enlarges the images and has no unmoved counterpart.
        account: that of the module for such a sample, where it is at hand; else it is traced.

    Raises:
        UsageError: the shift cannot be used.
        TraceError: the module cannot be traced on this input.
    """
    if way == "crop":
        raise UsageError("a cropped sample is an enlarged one, so its maps have no unmoved counterpart. Use another way.")
    traced = account or trace(module, tuple(batch.shape[1:]))
    rows = {row.path: row for row in traced.rows}
    shifted = moved(batch, shift_px, way)
    with evaluation_mode(module), torch.no_grad():
        maps: dict[str, Tensor] = {}
        with _watched(module, rows, maps):
            module(batch)
        others: dict[str, Tensor] = {}
        with _watched(module, rows, others):
            module(shifted)
    size, shift = tuple(batch.shape[2:]), tuple(shift_px)
    layers = [
        _compare(rows[path], maps[path], others[path], size, shift, way) for path in rows if path in maps and path in others
    ]
    return Equivariance(shift, way, len(batch), tuple(layers))


@contextmanager
def _watched(module: nn.Module, rows: dict[str, Row], maps: dict[str, Tensor]) -> Iterator[None]:
    """Keep what comes out of every layer that has a row, and of every module that ends with the meeting of its paths."""
    last = {path.rpartition(".")[0]: path for path in rows}  # the last row of each module
    calls: dict[str, int] = {}
    handles = []

    def keep(path: str, is_leaf: bool) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            calls[path] = calls.get(path, 0) + 1
            named = path if calls[path] == 1 else f"{path}#{calls[path]}"
            target = named if is_leaf else last.get(path, "")
            fits = isinstance(output, Tensor) and target in rows and tuple(output.shape[1:]) == rows[target].output_shape
            if fits and target not in maps:
                maps[target] = output.clone()  # a layer that follows may work in place

        return hook

    for path, part in module.named_modules():
        handles.append(part.register_forward_hook(keep(path, not part._modules)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compare(row: Row, still: Tensor, other: Tensor, size: Shift, shift: Shift, way: str) -> LayerShift:
    is_map = len(row.fields) == len(size) == still.dim() - 2 and all(field.stride for field in row.fields)
    if not is_map:
        return LayerShift(row.path, row.layer, (), True, _relative(other - still, still), None)
    steps = [Fraction(field.stride) for field in row.fields]
    is_whole = all((pixels / step).denominator == 1 for pixels, step in zip(shift, steps, strict=True))
    whole, inside = [], []
    for axis, (field, pixels) in enumerate(zip(row.fields, shift, strict=True), start=2):
        positions = pixels / Fraction(field.stride)
        low, share = math.floor(positions), float(positions - math.floor(positions))
        length = still.shape[axis]
        is_ring = way == "roll" and length * field.stride == size[axis - 2]
        still = _read_between(still, axis, low, share)
        has = torch.tensor([is_ring or _has(index, low, share, length) for index in range(length)], dtype=torch.bool)
        whole.append(has)
        clear = [_is_clear(field, index, low, share, pixels, size[axis - 2]) for index in range(length)]
        inside.append(torch.tensor(clear, dtype=torch.bool) & _between(length, low, share))
    error = _over(other, still, whole)
    interior = None if any(field.is_whole for field in row.fields) else _over(other, still, inside)
    shown = tuple(int(step) if step.denominator == 1 else str(step) for step in steps)
    return LayerShift(row.path, row.layer, shown, is_whole, error, interior)


def _read_between(values: Tensor, axis: int, low: int, share: float) -> Tensor:
    """The map moved by ``low + share`` positions round a ring; linear interpolation between neighbors."""
    at = torch.roll(values, low, axis)
    return at if not share else (1 - share) * at + share * torch.roll(values, low + 1, axis)


def _has(index: int, low: int, share: float, length: int) -> bool:
    """Whether both neighbors that position ``index`` is read from exist."""
    return index - low - bool(share) >= 0 and index - low < length


def _between(length: int, low: int, share: float) -> Tensor:
    return torch.tensor([_has(index, low, share, length) for index in range(length)], dtype=torch.bool)


def _is_clear(field: Field, index: int, low: int, share: float, pixels: int, size: int) -> bool:
    """Whether a position sees, in the moved image and in the one before, only what is there in both."""
    spans = [(field.theoretical(index), pixels)]
    spans += [(field.theoretical(index - low - more), 0) for more in ((0, 1) if share else (0,))]
    for span, offset in spans:
        if span is None:
            return False
        first, last = span[0] - offset, span[1] - offset  # as pixels of the unmoved image
        if first < max(0, -pixels) or last >= min(size, size - pixels):
            return False
    return True


def _over(other: Tensor, still: Tensor, chosen: Sequence[Tensor]) -> float | None:
    """The relative difference over the chosen positions of each axis; None where there are none."""
    for axis, mask in enumerate(chosen, start=2):
        places = mask.nonzero()[:, 0].to(other.device)
        if not len(places):
            return None
        other, still = other.index_select(axis, places), still.index_select(axis, places)
    return _relative(other - still, still)


def _relative(difference: Tensor, reference: Tensor) -> float:
    """Length of the difference by that of the reference; 0 where both are nothing."""
    length = float(difference.double().norm())
    return length / max(float(reference.double().norm()), torch.finfo(torch.float64).tiny) if length else 0.0


def _percent(error: float | None) -> str:
    return f"{100 * (error or 0):.1f} %"
