"""From a file, or a stored array, to the numbers that a network reads.

This file knows what was decided once for a data set (channels, size, scaling) and applies it the same way to every sample, in
training and in use; it travels with the weights.

Shape letters: N samples, C channels, * the spatial axes (length; height, width; depth, height, width).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from visus.data.images import decode as images
from visus.data.images.fit import ResizeMode
from visus.data.ledger import Ledger
from visus.errors import ImageError, RunError
from visus.units import rank_words, write_shape

Normalize = Literal["mean-deviation", "min-max", "fixed"]
NORMALIZATIONS: tuple[Normalize, ...] = ("mean-deviation", "min-max")  # those that are measured on the training split
Pixels = npt.NDArray[Any]
_WIDE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
"""Number formats of which float32 may not hold every value: the offset is taken off in float64."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every sample: ``(value - offset) / divisor`` for each channel, after it has the right channels and size.

    Args:
        kind: ``images`` for files that the decode door opens, ``array`` for rows of an array file.
        channels: number of channels, C.
        size: lengths of the spatial axes, in pixels or samples.
        resize_mode: how an image gets this size: ``squash``, ``crop`` or ``pad``.
        dtype: the stored number format, such as ``uint8``.
        normalize: ``mean-deviation`` (offset is the training mean, divisor the deviation), ``min-max`` (to 0-1), or ``fixed`` (the
            numbers that a network was trained with before).
        offset: one number for each channel, in stored units.
        divisor: one number for each channel, in stored units; never zero.
        shuffle_seed: where it is given, the last thing done to a sample is to put its positions into one random order that this seed
            fixes, the same for all samples and channels (``pixel_order``); None, the default, leaves them where they are.
        layout: the axes of the arrays that the training data was stored in, in letters such as ``NLC``; None for image files.
    """

    kind: Literal["images", "array"]
    channels: int
    size: tuple[int, ...]
    resize_mode: ResizeMode
    dtype: str
    normalize: Normalize
    offset: tuple[float, ...]
    divisor: tuple[float, ...]
    shuffle_seed: int | None = None
    layout: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, *spatial) of one sample."""
        return (self.channels, *self.size)

    @property
    def noun(self) -> str:
        """What one sample is called: signal, image or volume."""
        return rank_words(len(self.size)).sample

    @property
    def is_image_like(self) -> bool:
        """Whether an image file can be turned into such a sample."""
        return len(self.size) == 2 and self.channels in (1, 3) and self.dtype == "uint8"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Preprocessing:
        """The inverse of ``to_dict``.

        Raises:
            RunError: the facts are those of another version of visus.
        """
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        odd = (facts.keys() - {field.name for field in fields(cls)}) | (needed - facts.keys())
        if odd:
            listed = ", ".join(sorted(odd))
            raise RunError(
                f"the preprocessing was written by another version of visus: it differs in {listed}. Train the run anew."
            )
        sequences = {name: tuple(facts[name]) for name in ("size", "offset", "divisor")}
        return cls(**{**facts, **sequences})

    def scaled(self, batch: torch.Tensor) -> torch.Tensor:
        """Stored numbers, shape (N, C, *), as the network reads them: float32 on the same device, scaled, and shuffled where that is asked for."""
        return self.shuffled(self.scale_values(batch))

    def shuffled(self, batch: torch.Tensor) -> torch.Tensor:
        """Scaled numbers with their positions in the order that ``shuffle_seed`` fixes; unchanged where it is None."""
        if self.shuffle_seed is None:
            return batch
        flat = batch.flatten(2)
        order = pixel_order(flat.shape[2], self.shuffle_seed).to(batch.device)
        return flat[:, :, order].reshape(batch.shape)

    def scale_values(self, batch: torch.Tensor) -> torch.Tensor:
        """Stored numbers, shape (N, C, *), as float32 scaled by what the training split said, on the same device, never shuffled."""
        precision = torch.float64 if batch.dtype in _WIDE else torch.float32
        offset, divisor = self._scaling(batch.device, precision)
        values = batch.to(precision, copy=True)
        return values.sub_(offset).div_(divisor).to(torch.float32)

    def stored_values(self, batch: torch.Tensor) -> torch.Tensor:
        """Scaled numbers, shape (N, C, *), in the units in which samples are stored: what ``scale_values`` was given, to rounding."""
        offset, divisor = self._scaling(batch.device)
        return batch * divisor + offset

    def _scaling(self, device: torch.device, precision: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        """Offset and divisor of each channel, shape (1, C, 1, ...)."""
        shape = (1, self.channels, *([1] * len(self.size)))
        offset, divisor = (
            torch.tensor(values, dtype=precision, device=device).reshape(shape) for values in (self.offset, self.divisor)
        )
        return offset, divisor

    def read_image(self, file: Path | bytes, ledger: Ledger, *, name: str = "") -> Pixels:
        """One image as stored numbers, shape (C, *); what was done to it goes on the ledger.

        Raises:
            ImageError: the file cannot be read as an image.
        """
        decoded = images.decode(file, name=name, at_least=self._decode_size())
        pixels, actions = images.fit(decoded.pixels, self.channels, self.size, self.resize_mode)
        for action in (*decoded.actions, *actions):
            ledger.note(action, name or str(file))
        return pixels

    def looks_inverted(self, pixels: Pixels) -> bool:
        """Whether a gray 8-bit image is bright where the training images are dark, or the reverse, in its middle and at its edge alike.

        Its mean and the mean of its outermost pixels lie more than one and a half deviations from the training mean, and come close to it
        when black and white change places.
        """
        if self.normalize != "mean-deviation" or self.channels != 1 or self.dtype != "uint8" or len(self.size) != 2:
            return False
        mean, deviation = self.offset[0], self.divisor[0]
        plane = pixels[0].astype(np.float64)
        edge = np.concatenate((plane[0], plane[-1], plane[:, 0], plane[:, -1])).mean()
        far = min(abs(plane.mean() - mean), abs(edge - mean))
        same_side = (plane.mean() > mean) == (edge > mean)
        return bool(same_side and far > 1.5 * deviation and abs(255 - plane.mean() - mean) < 0.25 * far)

    def fit_array(self, rows: Pixels) -> Pixels:
        """Rows of an array file, shape (N, C, *), brought to the right size by averaging areas.

        Raises:
            ImageError: the rows have another number of channels or of axes, another number format, are smaller, or are not all finite.
        """
        wanted = " x ".join(map(str, self.input_shape))
        if rows.ndim != len(self.size) + 2 or rows.shape[1] != self.channels:
            found = " x ".join(map(str, rows.shape[1:]))
            raise ImageError(f"a sample of {found} does not fit a network for {wanted} (channels first).")
        if any(wanted > length for wanted, length in zip(self.size, rows.shape[2:], strict=True)):
            found = write_shape(rows.shape[2:])
            raise ImageError(
                f"a sample of {found} is smaller than the {write_shape(self.size)} of this network; arrays are only made smaller."
            )
        if rows.dtype != np.dtype(self.dtype):
            raise ImageError(
                f"these values are {rows.dtype}, and this network was trained on {self.dtype}. Give them in the same format and range."
            )
        if np.issubdtype(rows.dtype, np.floating) and not np.isfinite(rows).all():
            raise ImageError("a value is not a finite number. Repair the sample, or leave it out.")
        return shrink(rows, self.size)

    def _decode_size(self) -> tuple[int, int] | None:
        return (self.size[0], self.size[1]) if len(self.size) == 2 else None


@functools.lru_cache(maxsize=8)
def pixel_order(num_positions: int, seed: int) -> torch.Tensor:
    """One random order of positions: which position each place takes its value from.

    Positions are sorted by the BLAKE2b hash of seed and position, so the order is the same on every machine and with every version.

    >>> pixel_order(6, 0).tolist()
    [1, 0, 4, 3, 5, 2]
    """
    marks = (hashlib.blake2b(f"{seed} {position}".encode(), digest_size=16).digest() for position in range(num_positions))
    order = sorted(range(num_positions), key=list(marks).__getitem__)
    return torch.tensor(order, dtype=torch.long)


_POOLS: dict[int, Callable[[torch.Tensor, Any], torch.Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


def shrink(rows: Pixels, size: tuple[int, ...]) -> Pixels:
    """Rows of shape (N, C, *) resized to ``size`` by the mean over areas; whole-number formats are rounded. A no-op for equal sizes."""
    if rows.shape[2:] == size:
        return rows
    precision = np.float64 if rows.dtype.itemsize > 4 or rows.dtype in (np.int32, np.uint32) else np.float32
    means = _POOLS[len(size)](torch.from_numpy(np.asarray(rows, dtype=precision)), size).numpy()
    return (np.rint(means) if np.issubdtype(rows.dtype, np.integer) else means).astype(rows.dtype)


class RowsInChunks(Protocol):
    """Rows of shape (N, C, *) of which slices can be taken, such as a memory-mapped array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, chosen: slice, /) -> Pixels: ...


def measure_scale(rows: RowsInChunks, normalize: Normalize) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Offset and divisor for each channel from rows of shape (N, C, *), in chunks so that a memory-mapped array is never copied whole.

    Returns:
        Offsets and divisors; a channel without any spread gets the divisor 1.
    """
    count, low, high = 0, np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    for chunk in _channel_chunks(rows):
        count += chunk.shape[1]
        low, high = np.minimum(low, chunk.min(axis=1)), np.maximum(high, chunk.max(axis=1))
    span = high - low
    unit = np.where((span > 0) & np.isfinite(span), span, 1.0)
    if normalize == "min-max":
        offset, divisor = low, span
    else:  # from the middle of the range, in units of it: no square overflows, vanishes or cancels out
        middle, total, squares = low + span / 2, np.zeros(len(low)), np.zeros(len(low))
        for chunk in _channel_chunks(rows):
            centered = (chunk - middle[:, None]) / unit[:, None]
            total += centered.sum(axis=1)
            squares += np.square(centered).sum(axis=1)
        mean = total / count
        offset = middle + mean * unit
        divisor = np.sqrt(np.maximum(squares / count - np.square(mean), 0)) * unit
    divisor = np.where(span > 0, divisor, 1.0)
    return tuple(float(value) for value in offset), tuple(float(value) for value in divisor)


def _channel_chunks(rows: RowsInChunks) -> Iterator[npt.NDArray[np.float64]]:
    """All values, shape (C, values), in chunks of at most 2^24 values."""
    rows_per_chunk = max(1, 2**24 // max(1, int(np.prod(rows.shape[1:]))))
    for start in range(0, len(rows), rows_per_chunk):
        chunk = np.asarray(rows[start : start + rows_per_chunk], dtype=np.float64)
        yield np.moveaxis(chunk, 1, 0).reshape(rows.shape[1], -1)
