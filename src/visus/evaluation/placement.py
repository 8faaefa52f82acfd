"""Accuracy over the place and the size at which an object stands on an empty canvas: a heat map.

This file knows modules, batches and labels, for signals, images and volumes alike. Shape letters: N samples, C channels, * the
spatial axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.errors import DataError, UsageError
from visus.evaluation.predictions import predict_logits
from visus.evaluation.shifts import BATCH
from visus.progress import SILENT, Monitor, one
from visus.units import rank_words, write_shape

SIZES: Final = (0.5, 0.75, 1.0)
_INTERPOLATION: Final = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Placed:
    """The accuracy for objects of one size, at each place of a grid.

    Attributes:
        object_px: size of the object on each axis.
        starts_px: for each axis, the first pixel of the object at each place.
        accuracy: share of the samples with the right label at each place, the last axis fastest.
    """

    object_px: tuple[int, ...]
    starts_px: tuple[tuple[int, ...], ...]
    accuracy: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of places on each axis."""
        return tuple(len(starts) for starts in self.starts_px)

    @property
    def lowest(self) -> float:
        """Accuracy at the worst place."""
        return min(self.accuracy)

    @property
    def highest(self) -> float:
        """Accuracy at the best place."""
        return max(self.accuracy)


@dataclass(frozen=True)
class PlacementFigures:
    """The heat maps of all sizes.

    Attributes:
        canvas_px: size of the canvas on each axis.
        num_samples: samples that were pasted.
        sizes: one heat map for each size of the object.
    """

    canvas_px: tuple[int, ...]
    num_samples: int
    sizes: tuple[Placed, ...]

    def to_json(self) -> dict[str, Any]:
        """The heat maps as plain data, accuracies as nested lists."""
        sizes = []
        for each in self.sizes:
            grid = torch.tensor(each.accuracy, dtype=torch.float64).reshape(each.shape).tolist()
            sizes.append({**asdict(each), "accuracy": grid})
        return {"canvas_px": list(self.canvas_px), "num_samples": self.num_samples, "sizes": sizes}


def measure_placement(
    module: nn.Module,
    batch: Tensor,
    labels: Tensor,
    *,
    canvas_px: Sequence[int] | None = None,
    sizes: Sequence[float] = SIZES,
    num_places: int | None = None,
    background: Tensor | float = 0.0,
    device: torch.device | str = "cpu",
    monitor: Monitor = SILENT,
) -> PlacementFigures:
    """Paste each sample, made smaller, onto an empty canvas at every place of a grid, and score the answers.

    Args:
        module: gives (samples, classes) for a canvas of this size.
        batch: scaled samples, N C *.
        labels: class index of each, (N,).
        canvas_px: size of the canvas on each axis; None for that of the samples, which every network takes.
        sizes: sizes of the object as shares of the sample's own.
        num_places: places on each axis, evenly from one end to the other; None for 5, and for 3 in volumes. Where there is room for
            fewer, there are fewer.
        background: value of the canvas, one for all channels or one for each; 0 is the training mean with mean-deviation scaling.
        device: where the module is; the arithmetic is float32.
        monitor: follows the places, and may cancel.

    Raises:
        DataError: there is no sample.
        UsageError: an object does not fit onto the canvas.
    """
    if not len(batch):
        raise DataError("there is nothing to paste: no samples were given.")
    own = tuple(batch.shape[2:])
    unit = rank_words(len(own)).unit
    wanted = tuple(canvas_px) if canvas_px is not None else own
    limit = num_places or (3 if len(own) == 3 else 5)
    placed = []
    for share in sizes:
        size = tuple(max(1, round(share * length)) for length in own)
        if len(wanted) != len(own) or any(length > room for length, room in zip(size, wanted, strict=False)):
            raise UsageError(
                f"an object of {write_shape(size)} {unit} does not fit onto a canvas of {write_shape(wanted)} {unit}. Give a larger canvas or smaller sizes."
            )
        small = batch if size == own else _resized(batch, size)
        starts = tuple(_places(room - length, limit) for room, length in zip(wanted, size, strict=True))
        accuracy = []
        corners = list(itertools.product(*starts))
        for corner in monitor.over(corners, f"placing objects of {write_shape(size)}", len(corners), one):
            logits = predict_logits(module, _pasted(small, wanted, corner, background), device=device)
            accuracy.append(float((logits.argmax(dim=1) == labels.cpu()).double().mean()))
        placed.append(Placed(size, starts, tuple(accuracy)))
    return PlacementFigures(wanted, len(batch), tuple(placed))


def _pasted(batch: Tensor, size: Sequence[int], corner: Sequence[int], background: Tensor | float) -> Iterator[Tensor]:
    """The samples on canvases of ``size``, their first corner at ``corner``, in batches."""
    value = torch.as_tensor(background, dtype=batch.dtype, device=batch.device).reshape(1, -1, *[1] * len(size))
    where = tuple(slice(first, first + length) for first, length in zip(corner, batch.shape[2:], strict=True))
    for part in torch.split(batch, BATCH):
        canvas = value.expand(len(part), part.shape[1], *size).clone()
        canvas[(slice(None), slice(None), *where)] = part
        yield canvas


def _resized(batch: Tensor, size: tuple[int, ...]) -> Tensor:
    """The samples made smaller, antialiased where torch can: images by triangle filters, others by the mean over areas."""
    if len(size) == 2:
        return F.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)
    if all(length <= own for length, own in zip(size, batch.shape[2:], strict=True)):
        return F.interpolate(batch, size=size, mode="area")
    return F.interpolate(batch, size=size, mode=_INTERPOLATION[len(size)], align_corners=False)


def _places(room: int, limit: int) -> tuple[int, ...]:
    """At most ``limit`` first pixels from 0 to ``room``, evenly.

    >>> _places(10, 3), _places(1, 5), _places(0, 5)
    ((0, 5, 10), (0, 1), (0,))
    """
    num_places = min(limit, room + 1)
    return tuple(round(index * room / max(1, num_places - 1)) for index in range(num_places))
