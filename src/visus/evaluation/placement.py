"""Accuracy as a function of an object's position and size on an empty canvas: heat maps for signals, images and volumes.

Shape letters: N samples, C channels, * the spatial axes.
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
    """Accuracy for objects of one size, at each position of a grid.

    Attributes:
        object_px: size of the object on each axis, in pixels.
        starts_px: for each axis, the object's first pixel at each position.
        accuracy: accuracy at each position, in row-major order.
    """

    object_px: tuple[int, ...]
    starts_px: tuple[tuple[int, ...], ...]
    accuracy: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of positions on each axis."""
        return tuple(len(starts) for starts in self.starts_px)

    @property
    def lowest(self) -> float:
        """Accuracy at the worst position."""
        return min(self.accuracy)

    @property
    def highest(self) -> float:
        """Accuracy at the best position."""
        return max(self.accuracy)


@dataclass(frozen=True)
class PlacementFigures:
    """Heat maps for all object sizes.

    Attributes:
        canvas_px: size of the canvas on each axis, in pixels.
        num_samples: number of samples.
        sizes: one heat map per object size.
    """

    canvas_px: tuple[int, ...]
    num_samples: int
    sizes: tuple[Placed, ...]

    def to_json(self) -> dict[str, Any]:
        """The heat maps as JSON data, accuracies as nested lists."""
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
    """Paste each sample, resized, onto an empty canvas at every position of a grid, and measure the accuracy.

    Args:
        module: returns logits (samples, classes) for a canvas of this size.
        batch: preprocessed samples (N, C, *).
        labels: (N,) class indices.
        canvas_px: size of the canvas on each axis; default: that of the samples, which every network accepts.
        sizes: object sizes as fractions of the sample's size.
        num_places: number of evenly spaced positions on each axis, fewer if the canvas has no room; default: 5, or 3 for volumes.
        background: value of the canvas, for all channels or for each; with standardization, 0 is the training mean.
        device: device of the module; the arithmetic is float32.
        monitor: follows the positions, and may cancel.

    Raises:
        DataError: there is no sample.
        UsageError: an object is larger than the canvas.
    """
    if not len(batch):
        raise DataError("there is nothing to paste: no samples were given.")
    own = tuple(batch.shape[2:])
    unit = rank_words(len(own)).unit
    canvas_size = tuple(canvas_px) if canvas_px is not None else own
    max_places = num_places or (3 if len(own) == 3 else 5)
    placed = []
    for fraction in sizes:
        size = tuple(max(1, round(fraction * length)) for length in own)
        if len(canvas_size) != len(own) or any(length > room for length, room in zip(size, canvas_size, strict=False)):
            raise UsageError(
                f"an object of {write_shape(size)} {unit} does not fit on a canvas of {write_shape(canvas_size)} {unit}. Use a larger canvas or smaller sizes."
            )
        objects = batch if size == own else _resize(batch, size)
        starts = tuple(_places(room - length, max_places) for room, length in zip(canvas_size, size, strict=True))
        accuracy = []
        corners = list(itertools.product(*starts))
        for corner in monitor.over(corners, f"placing objects of {write_shape(size)}", len(corners), one):
            logits = predict_logits(module, _paste(objects, canvas_size, corner, background), device=device)
            accuracy.append(float((logits.argmax(dim=1) == labels.cpu()).double().mean()))
        placed.append(Placed(size, starts, tuple(accuracy)))
    return PlacementFigures(canvas_size, len(batch), tuple(placed))


def _paste(batch: Tensor, size: Sequence[int], corner: Sequence[int], background: Tensor | float) -> Iterator[Tensor]:
    """Yield batches of the samples on canvases of ``size``, with their first pixel at ``corner``."""
    value = torch.as_tensor(background, dtype=batch.dtype, device=batch.device).reshape(1, -1, *[1] * len(size))
    where = tuple(slice(first, first + length) for first, length in zip(corner, batch.shape[2:], strict=True))
    for part in torch.split(batch, BATCH):
        canvas = value.expand(len(part), part.shape[1], *size).clone()
        canvas[(slice(None), slice(None), *where)] = part
        yield canvas


def _resize(batch: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize samples with antialiasing where PyTorch supports it: images with a triangle filter, smaller signals and volumes by area."""
    if len(size) == 2:
        return F.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)
    if all(length <= own for length, own in zip(size, batch.shape[2:], strict=True)):
        return F.interpolate(batch, size=size, mode="area")
    return F.interpolate(batch, size=size, mode=_INTERPOLATION[len(size)], align_corners=False)


def _places(room: int, max_places: int) -> tuple[int, ...]:
    """At most ``max_places`` evenly spaced first pixels from 0 to ``room``.

    >>> _places(10, 3), _places(1, 5), _places(0, 5)
    ((0, 5, 10), (0, 1), (0,))
    """
    num_places = min(max_places, room + 1)
    return tuple(round(index * room / max(1, num_places - 1)) for index in range(num_places))
