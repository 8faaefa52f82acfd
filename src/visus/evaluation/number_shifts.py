"""How predicted numbers change when signals, images or volumes shift; ``shifts`` has the ways to shift, and the figures of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visus.errors import DataError
from visus.evaluation.shifts import MAX_SHIFTS, Shift, choose_shifts, count_shifts, predict_shifted
from visus.progress import SILENT, Monitor


@dataclass(frozen=True)
class NumberShiftFigures:
    """Changes of predicted numbers under shifts of one way.

    Attributes:
        way: a key of ``visus.evaluation.shifts.WAYS``.
        reach_px: largest shift on each axis, in both directions.
        num_shifts: number of different shifts of each sample, with the zero shift.
        is_every_shift: whether these are all shifts within ``reach_px``, not a random subset.
        num_samples: number of samples.
        mean_change: for each target, in its units, the mean absolute difference from the number of the unshifted sample, over shifts and samples.
        largest_change: the same for the shift with the largest one.
    """

    way: str
    reach_px: Shift
    num_shifts: int
    is_every_shift: bool
    num_samples: int
    mean_change: tuple[float, ...]
    largest_change: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The values as JSON data."""
        found = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def measure_number_shifts(
    module: nn.Module,
    batch: Tensor,
    reach_px: Sequence[int],
    way: str = "roll",
    *,
    values: Callable[[Tensor], Tensor],
    limit: int = MAX_SHIFTS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> NumberShiftFigures:
    """Measure how predicted numbers change under shifts.

    Args:
        module: returns outputs (samples, targets).
        batch: preprocessed samples (N, C, *).
        values: converts outputs to numbers in the units of the labels.
        reach_px, way, limit, seed, device, monitor: as for ``visus.evaluation.shifts.measure_shifts``.

    Raises:
        DataError: there is no sample.
        UsageError: the way or the reach is invalid.

    >>> class First(nn.Module):
    ...     def forward(self, x: Tensor) -> Tensor:
    ...         return x[:, :, 0]
    >>> found = measure_number_shifts(First(), torch.tensor([[[0.0, 1.0, 5.0]]]), (1,), values=lambda outputs: 2 * outputs)
    >>> found.mean_change, found.largest_change
    ((6.0,), (10.0,))
    """
    if not len(batch):
        raise DataError("there is nothing to shift: no samples were given.")
    shifts = choose_shifts(reach_px, limit, seed)
    numbers = values(predict_shifted(module, batch, reach_px, shifts, way, device, monitor))
    changes = (numbers - numbers[0]).abs().double().mean(dim=1)  # shifts, targets
    moved = changes[1:] if len(shifts) > 1 else changes
    return NumberShiftFigures(
        way=way,
        reach_px=tuple(reach_px),
        num_shifts=len(shifts),
        is_every_shift=len(shifts) == count_shifts(reach_px),
        num_samples=len(batch),
        mean_change=tuple(moved.mean(dim=0).tolist()),
        largest_change=tuple(moved.amax(dim=0).tolist()),
    )
