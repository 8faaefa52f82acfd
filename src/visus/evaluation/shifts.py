"""Does a network answer the same when the image moves? Measured for every way to move it.

This file knows modules, batches and shifts, for signals, images and volumes alike.

An image that moves by a few pixels needs something where it was. Each *way* fills that differently, so figures of different
ways cannot be compared: ``WAYS`` names them. In every way the image is continued beyond its border, and a window of its own
size is cut out. Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.design.account import Account
from visus.errors import DataError, UsageError, unknown_name
from visus.evaluation.predictions import predict_logits
from visus.evaluation.scores import wilson_interval
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
"""Pixels on each axis; what is at 0 goes to the shift, as in ``torch.roll``."""


@dataclass(frozen=True)
class ShiftFigures:
    """How much a network's answers change when its images move in one way. Shares are from 0 to 1.

    Attributes:
        way: a key of ``WAYS``.
        reach_px: the largest shift on each axis, to both sides.
        num_shifts: different shifts that were tried on each sample, none at all among them.
        is_every_shift: whether these are all shifts within reach, and not a random choice of them.
        num_samples: samples that were moved.
        consistency: how often two different shifts of one sample, drawn at random, get the same label (Zhang 2019, arXiv:1904.11486,
            section 4.1); computed for all pairs of the tried shifts, so nothing is left to the draw. 1 where only one was tried.
        consistency_low, consistency_high: its 95 % interval over samples; Wilson's, which is at most too wide here.
        kept: share of all shifted samples that keep the label of the unmoved one.
        always: share of the samples whose label no shift changes.
        logit_change: how far the logits move, relative to their size: mean over shifts and samples of the distance from the
            unmoved sample's logits, by the mean length of those. The mean of a sample's logits is taken off first, since it changes no
            probability.
        largest_logit_change: the same for the shift that changes most.
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
        """The figures as plain data."""
        return {**asdict(self), "reach_px": list(self.reach_px)}


@dataclass(frozen=True)
class PhasePattern:
    """How the answers change with the shift modulo the network's step: one figure for each of S x S shifts.

    In the interior of every map a shift by the step S moves the map by whole positions and changes nothing else, so further
    shifts would only repeat the pattern there.

    Attributes:
        way: a key of ``WAYS``.
        step_px: the network's step on each axis; the shape of the two grids.
        num_samples: samples that were moved.
        logit_change: relative change of the logits for each shift, the last axis fastest; the first is 0.
        kept: share of the samples that keep the label of the unmoved ones, in the same order.
    """

    way: str
    step_px: Shift
    num_samples: int
    logit_change: tuple[float, ...]
    kept: tuple[float, ...]

    @property
    def mean_logit_change(self) -> float:
        """Mean over all phases but the first, which is no shift; 0 where there is no other."""
        return math.fsum(self.logit_change[1:]) / max(1, len(self.logit_change) - 1)

    def to_json(self) -> dict[str, Any]:
        """The pattern as plain data, its grids as nested lists."""
        grids = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("logit_change", "kept")}
        nested = {name: grid.reshape(self.step_px).tolist() for name, grid in grids.items()}
        return {"way": self.way, "step_px": list(self.step_px), "num_samples": self.num_samples, **nested}


def canvas(batch: Tensor, reach_px: Sequence[int], way: str = "roll") -> Tensor:
    """The samples continued by ``reach_px`` pixels on both sides of each axis: N C * -> N C (* + 2 reach).

    Raises:
        UsageError: there is no such way, or the reach does not fit the axes.
    """
    if way not in WAYS:
        raise UsageError(unknown_name("way to move an image", way, WAYS))
    size = tuple(batch.shape[2:])
    unit = rank_words(len(size)).unit
    if len(reach_px) != len(size) or not all(0 <= reach < length for reach, length in zip(reach_px, size, strict=False)):
        raise UsageError(
            f"samples of {write_shape(size)} {unit} can be moved by less than their length on each axis, and {write_shape(reach_px)} {unit} "
            "was asked for."
        )
    if way == "crop":
        larger = [length + 2 * reach for length, reach in zip(size, reach_px, strict=True)]
        enlarged: Tensor = F.interpolate(batch, size=larger, mode=_INTERPOLATION[len(size)], align_corners=False)
        return enlarged
    pads = [pad for reach in reversed(reach_px) for pad in (reach, reach)]
    continued: Tensor = F.pad(batch, pads, mode=_PADDING[way])
    return continued


def window(continued: Tensor, reach_px: Sequence[int], shift: Sequence[int]) -> Tensor:
    """The samples of a canvas moved by ``shift``: a view of their first size."""
    for axis, (reach, pixels) in enumerate(zip(reach_px, shift, strict=True), start=2):
        continued = continued.narrow(axis, reach - pixels, continued.shape[axis] - 2 * reach)
    return continued


def moved(batch: Tensor, shift: Sequence[int], way: str = "roll") -> Tensor:
    """The samples moved by ``shift`` pixels on each axis, N C * -> N C *.

    For ``crop``, the window is cut out of images enlarged by twice the shift.

    Raises:
        UsageError: there is no such way, or a shift is as long as its axis.

    >>> moved(torch.arange(4.0).reshape(1, 1, 4), (1,), "roll").tolist()
    [[[3.0, 0.0, 1.0, 2.0]]]
    >>> moved(torch.arange(4.0).reshape(1, 1, 4), (-1,), "edge").tolist()
    [[[1.0, 2.0, 3.0, 3.0]]]
    """
    reach = [abs(pixels) for pixels in shift]
    return window(canvas(batch, reach, way), reach, shift).contiguous()


def total_step(account: Account) -> Shift:
    """Pixels on each axis by which a shift moves every map of a network by whole positions: the least common multiple of all steps.

    At most the length of the axis: further shifts of an image of that size do not exist.
    """
    steps = [1] * (len(account.input_shape) - 1)
    for row in account.rows:
        for axis, field in enumerate(row.fields[: len(steps)]):
            if field.stride:
                steps[axis] = math.lcm(steps[axis], Fraction(field.stride).numerator)
    return tuple(min(step, length) for step, length in zip(steps, account.input_shape[1:], strict=True))


def choose_shifts(reach_px: Sequence[int], limit: int = MAX_SHIFTS, seed: int = 0) -> tuple[Shift, ...]:
    """All shifts within reach, or ``limit`` of them drawn with a seed; no shift at all stands first.

    >>> choose_shifts((1,))
    ((0,), (-1,), (1,))
    """
    num_shifts = math.prod(2 * reach + 1 for reach in reach_px)
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
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> ShiftFigures:
    """How much the answers change when the samples move within reach.

    Args:
        module: gives (samples, classes).
        batch: scaled samples, N C *.
        reach_px: the largest shift on each axis.
        way: a key of ``WAYS``.
        limit: where there are more shifts within reach, so many are drawn.
        seed: of that draw.
        device: where the module is; the arithmetic is float32.
        monitor: follows the shifts, and may cancel.

    Raises:
        DataError: there is no sample.
        UsageError: the way or the reach cannot be used.
    """
    if not len(batch):
        raise DataError("there is nothing to move: no samples were given.")
    shifts = choose_shifts(reach_px, limit, seed)
    logits = torch.stack(
        [
            _of(module, each, device)
            for each in monitor.over(_shifted(batch, reach_px, shifts, way), "moving samples", len(shifts), one)
        ]
    )
    labels = logits.argmax(dim=-1)  # shifts, samples
    counts = F.one_hot(labels, logits.shape[-1]).sum(dim=0).double()  # samples, classes
    num_pairs = len(shifts) * (len(shifts) - 1)  # of two different shifts
    agreeing = ((counts * (counts - 1)).sum(dim=1) / num_pairs).mean() if num_pairs else torch.ones(())
    low, high = wilson_interval(float(agreeing) * len(batch), len(batch))
    kept = (labels == labels[0]).double()
    changes = logit_changes(logits)
    return ShiftFigures(
        way=way,
        reach_px=tuple(reach_px),
        num_shifts=len(shifts),
        is_every_shift=len(shifts) == math.prod(2 * reach + 1 for reach in reach_px),
        num_samples=len(batch),
        consistency=float(agreeing),
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
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> PhasePattern:
    """How the answers change for each shift from 0 to the network's step, ``step_px``, on every axis (see ``total_step``).

    Raises:
        DataError: there is no sample.
        UsageError: the way or the step cannot be used.
    """
    if not len(batch):
        raise DataError("there is nothing to move: no samples were given.")
    shifts = tuple(itertools.product(*(range(step) for step in step_px)))
    reach = [step - 1 for step in step_px]
    logits = torch.stack(
        [
            _of(module, each, device)
            for each in monitor.over(_shifted(batch, reach, shifts, way), "moving samples", len(shifts), one)
        ]
    )
    kept = (logits.argmax(dim=-1) == logits[0].argmax(dim=-1)).double().mean(dim=1)
    return PhasePattern(way, tuple(step_px), len(batch), tuple(logit_changes(logits).tolist()), tuple(kept.tolist()))


def logit_changes(logits: Tensor) -> Tensor:
    """Relative change of the logits for each shift: (shifts, samples, classes) -> (shifts,), the first shift being none.

    The length of the difference to the first shift's logits, by the length of those, both as means over the samples; the mean of
    a sample's logits is taken off before, unless there is one class.
    """
    values = logits.double()
    if values.shape[-1] > 1:
        values = values - values.mean(dim=-1, keepdim=True)
    sizes = values[0].norm(dim=-1).mean()
    distances: Tensor = (values - values[0]).norm(dim=-1).mean(dim=1)
    relative: Tensor = distances / sizes.clamp(min=torch.finfo(torch.float64).tiny)
    return relative


def _shifted(batch: Tensor, reach_px: Sequence[int], shifts: Sequence[Shift], way: str) -> Iterator[Tensor]:
    continued = canvas(batch, reach_px, way)
    for shift in shifts:
        yield window(continued, reach_px, shift)


def _of(module: nn.Module, batch: Tensor, device: torch.device | str) -> Tensor:
    return predict_logits(module, (part.contiguous() for part in torch.split(batch, BATCH)), device=device)
