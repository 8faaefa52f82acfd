"""Shift consistency: how predictions change when signals, images or volumes shift, for several kinds of padding.

A shifted image needs values for the pixels that enter. Each *way* (``WAYS``) pads the image differently and crops a window of its size, so results of
different ways are not comparable. Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.design.account import Account
from visus.errors import DataError, UsageError, unknown_name
from visus.evaluation.intervals import wilson_interval
from visus.evaluation.predictions import predict_logits
from visus.progress import SILENT, Monitor, one
from visus.units import rank_words, write_shape

WAYS: Final = {
    "roll": "wraps around",
    "zeros": "filled with 0 after normalization: the training mean, or with min-max the minimum",
    "edge": "filled with the values at the border",
    "reflect": "mirrored at the border",
    "crop": "a window of the enlarged sample",
}
"""Every way to shift a sample, and the values that enter."""

MAX_SHIFTS: Final = 64
BATCH: Final = 256
_PADDING: Final = {"roll": "circular", "zeros": "constant", "edge": "replicate", "reflect": "reflect"}
_INTERPOLATION: Final = {1: "linear", 2: "bilinear", 3: "trilinear"}

Shift = tuple[int, ...]
"""Shift on each axis in pixels, with the sign of ``torch.roll``."""


Predict = Callable[[Tensor], Tensor]
"""Numbers the predictions: logits (shifts, samples, classes) to whole numbers (shifts, samples), equal for equal predictions."""


def most_probable(logits: Tensor) -> Tensor:
    """The most probable class.

    >>> most_probable(torch.tensor([[0.1, 2.0], [3.0, 1.0]])).tolist()
    [1, 0]
    """
    return logits.argmax(dim=-1)


@dataclass(frozen=True)
class ShiftFigures:
    """Changes of a network's predictions under shifts of one way. Fractions are from 0 to 1.

    Attributes:
        way: a key of ``WAYS``.
        reach_px: largest shift on each axis, in both directions.
        num_shifts: number of different shifts of each sample, with the zero shift.
        is_every_shift: whether these are all shifts within ``reach_px``, not a random subset.
        num_samples: number of samples.
        consistency: probability that two different shifts of a sample get the same predicted class, or the same set of classes (Zhang 2019, arXiv:1904.11486, section 4.1),
            computed over all pairs; 1 for a single shift.
        consistency_low, consistency_high: its 95 % Wilson interval over samples, which is conservative here.
        kept: fraction of the shifted samples with the predicted class, or set of classes, of the unshifted sample.
        always: fraction of the samples whose prediction never changes.
        logit_change: mean distance from the unshifted sample's logits over shifts and samples, relative to their mean norm. Each sample's mean logit
            is subtracted first, since it does not affect probabilities; that of sets of classes is not, since it does.
        largest_logit_change: the same for the shift with the largest change.
    """

    way: str
    reach_px: Shift
    num_shifts: int
    is_every_shift: bool
    num_samples: int
    consistency: float
    consistency_low: float
    consistency_high: float
    kept: float
    always: float
    logit_change: float
    largest_logit_change: float

    def to_json(self) -> dict[str, Any]:
        """The values as JSON data."""
        return {**asdict(self), "reach_px": list(self.reach_px)}


@dataclass(frozen=True)
class PhasePattern:
    """Changes of the predictions for each shift modulo the network's total stride S: one value for each of S x S shifts.

    In the interior of every map, a shift by S moves the map by whole positions and changes nothing else, so larger shifts repeat the pattern.

    Attributes:
        way: a key of ``WAYS``.
        step_px: total stride of the network on each axis, in pixels; the shape of both grids.
        num_samples: number of samples.
        logit_change: relative change of the logits for each shift, in row-major order; the first is 0.
        kept: fraction of the samples that keep their predicted class for each shift, in the same order.
    """

    way: str
    step_px: Shift
    num_samples: int
    logit_change: tuple[float, ...]
    kept: tuple[float, ...]

    @property
    def mean_logit_change(self) -> float:
        """Mean over all shifts except the zero shift; 0 if there is no other."""
        return math.fsum(self.logit_change[1:]) / max(1, len(self.logit_change) - 1)

    def to_json(self) -> dict[str, Any]:
        """The pattern as JSON data, its grids as nested lists."""
        grids = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("logit_change", "kept")}
        nested = {name: grid.reshape(self.step_px).tolist() for name, grid in grids.items()}
        return {"way": self.way, "step_px": list(self.step_px), "num_samples": self.num_samples, **nested}


def canvas(batch: Tensor, reach_px: Sequence[int], way: str = "roll") -> Tensor:
    """Pad the samples by ``reach_px`` pixels on both sides of each axis: (N, C, *) to (N, C, * + 2 reach).

    Raises:
        UsageError: the way is unknown, or the reach is not shorter than the axes.
    """
    if way not in WAYS:
        raise UsageError(unknown_name("way to shift an image", way, WAYS))
    size = tuple(batch.shape[2:])
    unit = rank_words(len(size)).unit
    if len(reach_px) != len(size) or not all(0 <= reach < length for reach, length in zip(reach_px, size, strict=False)):
        raise UsageError(
            f"a shift must be shorter than each axis: samples of {write_shape(size)} {unit} cannot shift by {write_shape(reach_px)} {unit}."
        )
    if way == "crop":
        larger = [length + 2 * reach for length, reach in zip(size, reach_px, strict=True)]
        enlarged: Tensor = F.interpolate(batch, size=larger, mode=_INTERPOLATION[len(size)], align_corners=False)
        return enlarged
    pads = [pad for reach in reversed(reach_px) for pad in (reach, reach)]
    padded: Tensor = F.pad(batch, pads, mode=_PADDING[way])
    return padded


def crop_window(padded: Tensor, reach_px: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Crop the shifted samples, in their original size, from the padded ones of ``canvas``; a view."""
    for axis, (reach, pixels) in enumerate(zip(reach_px, shift, strict=True), start=2):
        padded = padded.narrow(axis, reach - pixels, padded.shape[axis] - 2 * reach)
    return padded


def moved(batch: Tensor, shift: Sequence[int], way: str = "roll") -> Tensor:
    """Shift samples (N, C, *) by ``shift`` pixels on each axis.

    With ``crop``, the images are first enlarged by twice the shift.

    Raises:
        UsageError: the way is unknown, or a shift is not shorter than its axis.

    >>> moved(torch.arange(4.0).reshape(1, 1, 4), (1,), "roll").tolist()
    [[[3.0, 0.0, 1.0, 2.0]]]
    >>> moved(torch.arange(4.0).reshape(1, 1, 4), (-1,), "edge").tolist()
    [[[1.0, 2.0, 3.0, 3.0]]]
    """
    reach = [abs(pixels) for pixels in shift]
    return crop_window(canvas(batch, reach, way), reach, shift).contiguous()


def total_step(account: Account) -> Shift:
    """Total stride of a network on each axis: the least common multiple of all strides, at most the length of the axis.

    A shift by it moves every map by whole positions.
    """
    strides = [1] * (len(account.input_shape) - 1)
    for row in account.rows:
        for axis, field in enumerate(row.fields[: len(strides)]):
            if field.stride:
                strides[axis] = math.lcm(strides[axis], Fraction(field.stride).numerator)
    return tuple(min(stride, length) for stride, length in zip(strides, account.input_shape[1:], strict=True))


def count_shifts(reach_px: Sequence[int]) -> int:
    """Number of different shifts within ``reach_px``, with the zero shift.

    >>> count_shifts((1, 2))
    15
    """
    return math.prod(2 * reach + 1 for reach in reach_px)


def choose_shifts(reach_px: Sequence[int], limit: int = MAX_SHIFTS, seed: int = 0) -> tuple[Shift, ...]:
    """All shifts within ``reach_px``, or a seeded random subset of ``limit``; the zero shift is first.

    >>> choose_shifts((1,))
    ((0,), (-1,), (1,))
    """
    num_shifts = count_shifts(reach_px)
    none = (0,) * len(reach_px)
    if num_shifts <= max(1, limit):
        every = itertools.product(*(range(-reach, reach + 1) for reach in reach_px))
        return (none, *(shift for shift in every if shift != none))
    generator = torch.Generator().manual_seed(seed)
    chosen = dict.fromkeys([none])
    while len(chosen) < limit:
        chosen[tuple(int(torch.randint(-reach, reach + 1, (), generator=generator)) for reach in reach_px)] = None
    return tuple(chosen)


def measure_shifts(
    module: nn.Module,
    batch: Tensor,
    reach_px: Sequence[int],
    way: str = "roll",
    *,
    limit: int = MAX_SHIFTS,
    seed: int = 0,
    predict: Predict = most_probable,
    is_centered: bool = True,
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> ShiftFigures:
    """Measure how predictions change under shifts.

    Args:
        module: returns logits (samples, classes).
        batch: preprocessed samples (N, C, *).
        reach_px: largest shift on each axis, in pixels.
        way: a key of ``WAYS``.
        limit: maximum number of shifts; of more, a random subset.
        seed: seed of the subset.
        predict: numbers the predictions.
        is_centered: whether each sample's mean logit does not count.
        device: device of the module; the arithmetic is float32.
        monitor: follows the shifts, and may cancel.

    Raises:
        DataError: there is no sample.
        UsageError: the way or the reach is invalid.
    """
    if not len(batch):
        raise DataError("there is nothing to shift: no samples were given.")
    shifts = choose_shifts(reach_px, limit, seed)
    logits = predict_shifted(module, batch, reach_px, shifts, way, device, monitor)
    labels = torch.unique(predict(logits), return_inverse=True)[1]  # shifts, samples
    counts = F.one_hot(labels).sum(dim=0).double()  # samples, different predictions
    num_pairs = len(shifts) * (len(shifts) - 1)  # ordered pairs of two different shifts
    consistency = ((counts * (counts - 1)).sum(dim=1) / num_pairs).mean() if num_pairs else torch.ones(())
    low, high = wilson_interval(float(consistency) * len(batch), len(batch))
    kept = (labels == labels[0]).double()
    changes = logit_changes(logits, is_centered=is_centered)
    return ShiftFigures(
        way=way,
        reach_px=tuple(reach_px),
        num_shifts=len(shifts),
        is_every_shift=len(shifts) == count_shifts(reach_px),
        num_samples=len(batch),
        consistency=float(consistency),
        consistency_low=low,
        consistency_high=high,
        kept=float(kept[1:].mean()) if len(shifts) > 1 else 1.0,
        always=float(kept.amin(dim=0).mean()),
        logit_change=float(changes[1:].mean()) if len(shifts) > 1 else 0.0,
        largest_logit_change=float(changes.max()),
    )


def measure_phases(
    module: nn.Module,
    batch: Tensor,
    step_px: Sequence[int],
    way: str = "roll",
    *,
    predict: Predict = most_probable,
    is_centered: bool = True,
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> PhasePattern:
    """Measure how predictions change for each shift from 0 to below ``step_px``, the network's ``total_step``, on every axis.

    The arguments are those of ``measure_shifts``.

    Raises:
        DataError: there is no sample.
        UsageError: the way or the step is invalid.
    """
    if not len(batch):
        raise DataError("there is nothing to shift: no samples were given.")
    shifts = tuple(itertools.product(*(range(step) for step in step_px)))
    reach = [step - 1 for step in step_px]
    logits = predict_shifted(module, batch, reach, shifts, way, device, monitor)
    labels = predict(logits)
    kept = (labels == labels[0]).double().mean(dim=1)
    changes = logit_changes(logits, is_centered=is_centered)
    return PhasePattern(way, tuple(step_px), len(batch), tuple(changes.tolist()), tuple(kept.tolist()))


def logit_changes(logits: Tensor, *, is_centered: bool = True) -> Tensor:
    """Relative change of the logits for each shift: (shifts, samples, classes) to (shifts,). The first shift is the zero shift.

    It is the mean distance to the first shift's logits, divided by the mean norm of those. Each sample's mean logit is subtracted before if
    ``is_centered``, unless there is only one class.
    """
    values = logits.double()
    if is_centered and values.shape[-1] > 1:
        values = values - values.mean(dim=-1, keepdim=True)
    norm = values[0].norm(dim=-1).mean()
    distances: Tensor = (values - values[0]).norm(dim=-1).mean(dim=1)
    relative: Tensor = distances / norm.clamp(min=torch.finfo(torch.float64).tiny)
    return relative


def _shifted(batch: Tensor, reach_px: Sequence[int], shifts: Sequence[Shift], way: str) -> Iterator[Tensor]:
    padded = canvas(batch, reach_px, way)
    for shift in shifts:
        yield crop_window(padded, reach_px, shift)


def predict_shifted(
    module: nn.Module,
    batch: Tensor,
    reach_px: Sequence[int],
    shifts: Sequence[tuple[int, ...]],
    way: str,
    device: torch.device | str,
    monitor: Monitor,
) -> Tensor:
    """Logits (shifts, samples, classes) of every shift of the samples."""
    logits = []
    for moved in monitor.over(_shifted(batch, reach_px, shifts, way), "shifting samples", len(shifts), one):
        parts = (part.contiguous() for part in torch.split(moved, BATCH))
        logits.append(predict_logits(module, parts, device=device))
    return torch.stack(logits)
