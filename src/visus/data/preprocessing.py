"""Preprocessing of samples: from a file or a stored array to the input of a network.

Its settings (channels, size, normalization) are decided once per dataset, stored with the weights, and the same in training and use.

Shape letters: N samples, C channels, * the spatial axes (length; height, width; depth, height, width).
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from visus.data.images import decode as images
from visus.data.images.decode import DEFAULT_LIMITS, Limits
from visus.data.images.fit import ResizeMode
from visus.data.images.modes import blended_on_white
from visus.data.ledger import Ledger
from visus.data.plain_values import items, number, positive, record, shown, text, whole
from visus.errors import ImageError, RunError
from visus.units import rank_words, write_shape

if TYPE_CHECKING:  # samples are read without torch; only the methods on tensors need it
    import torch

Normalize = Literal["mean-deviation", "min-max", "fixed"]
NORMALIZATIONS: tuple[Normalize, ...] = ("mean-deviation", "min-max")  # with statistics of the training split
Pixels = npt.NDArray[Any]
WIDE = ("float64", "int32", "int64", "uint32", "uint64")
"""Data types with values that float32 cannot represent exactly. They are normalized in float64."""
_DTYPES: Final = frozenset(
    {
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
        *(f"{order}{kind}{size}" for order in "<>" for kind in "iuf" for size in (2, 4, 8)),
    }
)
FAR_DEVIATIONS: Final = 50.0
_COMPARED_VALUES: Final = 1_000
_LAYOUT: Final = re.compile("[NCLDHW]{2,5}")
_MAX_LENGTH: Final = 2**24
"""Channels, and values along one axis of a sample, at most."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of every sample: conversion to the channels and size, then ``(value - offset) / divisor`` per channel.

    Args:
        kind: ``images`` for image files, ``array`` for rows of an array file.
        channels: number of channels, C.
        size: lengths of the spatial axes, in pixels or samples.
        resize_mode: how images are resized: ``squash``, ``crop`` or ``pad``.
        dtype: data type of the stored values, such as ``uint8``.
        normalize: ``mean-deviation`` (offset is the training mean, divisor the standard deviation), ``min-max`` (to 0-1), or ``fixed``
            (the numbers of a pretrained network).
        offset: one number per channel, in stored units.
        divisor: one number per channel, in stored units; never zero.
        shuffle_seed: seed of a fixed random order of positions (``pixel_order``), the same for all samples and channels, applied last;
            default: no shuffling.
        layout: axes of the arrays of the training data, in letters such as ``NLC``; None for image files.
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
        """The noun for a sample: signal, image or volume."""
        return rank_words(len(self.size)).sample

    @property
    def is_image_like(self) -> bool:
        """Whether an image file can be converted to such a sample."""
        return len(self.size) == 2 and self.channels in (1, 3) and self.dtype == "uint8"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Preprocessing:
        """The inverse of ``to_dict``.

        Raises:
            RunError: the facts are those of another version of visus, or a value is impossible.
        """
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        odd = (facts.keys() - {field.name for field in fields(cls)}) | (needed - facts.keys())
        if odd:
            listed = ", ".join(sorted(odd))
            raise RunError(
                f"the preprocessing was written by another version of visus: it differs in {listed}. Train the run anew."
            )
        try:
            return cls.from_plain(facts)
        except ValueError as error:
            raise RunError(f"the preprocessing cannot be used: {error}. Train the run anew.") from None

    @classmethod
    def from_plain(cls, facts: Any, where: str = "") -> Preprocessing:
        """Preprocessing from plain data that may hold anything.

        Args:
            facts: as ``to_dict`` makes them.
            where: put before the names of fields in messages, such as ``preprocessing.``.

        Raises:
            ValueError: a field is missing or unknown, or a value is impossible; the message names it.
        """
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        optional = [field.name for field in fields(cls) if field.default is not MISSING]
        plain = record(facts, where.rstrip(".") or "the preprocessing", needed, optional)
        for name, known in _WORDS.items():
            text(plain[name], where + name, known)
        channels = whole(plain["channels"], f"{where}channels", 1, _MAX_LENGTH)
        size = tuple(whole(each, f"{where}size", 1, _MAX_LENGTH) for each in items(plain["size"], f"{where}size"))
        if not 1 <= len(size) <= 3:
            raise ValueError(f"{where}size is {shown(plain['size'])}, and 1 to 3 lengths are needed")
        if text(plain["dtype"], f"{where}dtype") not in _DTYPES:
            raise ValueError(f"{where}dtype is {shown(plain['dtype'])}, and a type of numbers such as uint8 is needed")
        if plain["kind"] == "images" and (len(size), plain["dtype"]) != (2, "uint8"):
            raise ValueError(f"{where}kind is 'images', and so two lengths and uint8 are needed")
        offset = tuple(number(each, f"{where}offset") for each in items(plain["offset"], f"{where}offset", channels))
        divisor = tuple(positive(each, f"{where}divisor") for each in items(plain["divisor"], f"{where}divisor", channels))
        if (seed := plain.get("shuffle_seed")) is not None:
            whole(seed, f"{where}shuffle_seed", -(2**63), 2**64)
        if (layout := plain.get("layout")) is not None and not _LAYOUT.fullmatch(text(layout, f"{where}layout")):
            raise ValueError(f"{where}layout is {shown(layout)}, and letters such as NHWC are needed")
        return cls(**{**plain, "size": size, "offset": offset, "divisor": divisor})

    def scaled(self, batch: torch.Tensor) -> torch.Tensor:
        """Stored values (N, C, *) as network inputs: float32 on the same device, normalized, and shuffled if ``shuffle_seed`` is set."""
        return self.shuffled(self.scale_values(batch))

    def shuffled(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalized values (N, C, *) with their positions shuffled; unchanged if ``shuffle_seed`` is None."""
        if self.shuffle_seed is None:
            return batch
        import torch

        flat = batch.flatten(2)
        order = torch.from_numpy(pixel_order(flat.shape[2], self.shuffle_seed)).to(batch.device)
        return flat[:, :, order].reshape(batch.shape)

    def scale_values(self, batch: torch.Tensor) -> torch.Tensor:
        """Stored values (N, C, *) normalized to float32 on the same device, without shuffling."""
        import torch

        precision = torch.float64 if str(batch.dtype).removeprefix("torch.") in WIDE else torch.float32
        offset, divisor = self._scaling(batch.device, precision)
        values = batch.to(precision, copy=True)
        return values.sub_(offset).div_(divisor).to(torch.float32)

    def stored_values(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalized values (N, C, *) in stored units; the inverse of ``scale_values``, up to rounding."""
        offset, divisor = self._scaling(batch.device)
        return batch * divisor + offset

    def _scaling(self, device: torch.device, precision: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Offset and divisor of each channel, shape (1, C, 1, ...), in float32 or the given type."""
        import torch

        shape = (1, self.channels, *([1] * len(self.size)))
        offset, divisor = (
            torch.tensor(values, dtype=precision or torch.float32, device=device).reshape(shape)
            for values in (self.offset, self.divisor)
        )
        return offset, divisor

    def read_image(
        self, file: Path | bytes | Image.Image, ledger: Ledger, *, name: str = "", limits: Limits = DEFAULT_LIMITS
    ) -> Pixels:
        """Decode an image to stored values of shape (C, *), and note the changes on the ledger. An image of Pillow is read as its file is.

        Args:
            file: the image.
            ledger: receives the changes.
            name: name in messages and on the ledger.
            limits: limits of file size and pixels.

        Raises:
            ImageError: the file cannot be read as an image.
        """
        size = self._decode_size()
        if isinstance(file, Image.Image):
            decoded = images.decode_opened(file, name=name, limits=limits, at_least=size)
        else:
            decoded = images.decode(file, name=name, limits=limits, at_least=size)
        pixels, actions = images.fit(decoded.pixels, self.channels, self.size, self.resize_mode)
        for action in (*decoded.actions, *actions):
            ledger.note(action, name or ("an image of Pillow" if isinstance(file, Image.Image) else str(file)))
        return pixels

    def looks_inverted(self, pixels: Pixels) -> bool:
        """Whether a gray 8-bit image is probably inverted: bright where the training images are dark, or dark where they are bright.

        The means of the whole image and of its border are then on the same side of the training mean, more than 1.5 standard deviations
        away, and the inverted image is much closer.
        """
        if self.normalize != "mean-deviation" or self.channels != 1 or self.dtype != "uint8" or len(self.size) != 2:
            return False
        mean, deviation = self.offset[0], self.divisor[0]
        plane = pixels[0].astype(np.float64)
        edge = np.concatenate((plane[0], plane[-1], plane[:, 0], plane[:, -1])).mean()
        far = min(abs(plane.mean() - mean), abs(edge - mean))
        same_side = (plane.mean() > mean) == (edge > mean)
        return bool(same_side and far > 1.5 * deviation and abs(255 - plane.mean() - mean) < 0.25 * far)

    def is_far_off(self, row: Pixels) -> bool:
        """Whether floating-point values (C, *) of a sample lie far outside those of the training samples, as values up to 255 do for a network of values up to 1.

        Their root mean square distance from the training mean is then at least 50 standard deviations; of ``min-max``, 50 times the training range. Up to
        some thousand values of each channel, evenly spread, are compared.
        """
        if row.dtype.kind != "f":
            return False
        flat = row.reshape(len(row), -1)
        few = flat[:, :: max(1, flat.shape[1] // _COMPARED_VALUES)].astype(np.float64)
        with np.errstate(over="ignore"):
            distance = np.square((few.T - self.offset) / self.divisor).mean()
        return bool(distance >= FAR_DEVIATIONS**2)

    def fit_array(self, rows: Pixels) -> Pixels:
        """Resize rows of an array, shape (N, C, *).

        Rows of 8-bit images for a network of image files are resized as files are, so an array and the PNG file of the same pixels give the same
        numbers. A network of arrays averages areas, as its training did; 8-bit images that are too small for it are resized as files are. Signals,
        volumes and other data types are not enlarged: how values between two measurements are to be made up is known for images only.

        For a network of 8-bit color images, gray rows (one channel) become color and rows with opacity (four channels) are blended on white,
        as files are.

        Raises:
            ImageError: the channels, axes or dtype differ, the rows are smaller than the input and not enlarged, or a value is not finite.
        """
        return self._fit_rows(rows)[0]

    def fit_row(self, row: Pixels, ledger: Ledger, name: str) -> Pixels:
        """One row of an array, shape (C, *), as ``fit_array`` resizes it; the changes are noted on the ledger.

        Raises:
            ImageError: as for ``fit_array``.
        """
        rows, actions = self._fit_rows(row[None])
        for action in actions:
            ledger.note(action, name)
        fitted: Pixels = rows[0]
        return fitted

    def _fit_rows(self, rows: Pixels) -> tuple[Pixels, tuple[str, ...]]:
        """The resized rows, contiguous so that a network rounds alike for every order of the axes, and what was done to each."""
        if self.takes_as_color(rows) and rows.ndim == 4 and rows.shape[1] in (1, 4):
            return self._fit_other_colors(rows)
        wanted = " x ".join(map(str, self.input_shape))
        if rows.ndim != len(self.size) + 2 or rows.shape[1] != self.channels:
            found = " x ".join(map(str, rows.shape[1:]))
            raise ImageError(f"a sample of {found} does not fit this network's input of {wanted} (channels first).")
        if rows.dtype != np.dtype(self.dtype):
            raise ImageError(
                f"these values are {rows.dtype}, but this network was trained on {self.dtype}. Use the same type and range."
            )
        is_smaller = any(wanted > length for wanted, length in zip(self.size, rows.shape[2:], strict=True))
        if self.is_image_like and rows.size and (is_smaller or self.kind == "images"):
            if rows.shape[2:] == self.size:
                return np.ascontiguousarray(rows), ()
            fitted = [images.fit(row, self.channels, self.size, self.resize_mode) for row in rows]
            return np.stack([row for row, _ in fitted]), fitted[0][1]
        if is_smaller:
            found = write_shape(rows.shape[2:])
            raise ImageError(
                f"a sample of {found} is smaller than this network's input of {write_shape(self.size)}; visus enlarges only 8-bit images, of gray "
                "or color. Resize the arrays first."
            )
        if np.issubdtype(rows.dtype, np.floating) and not np.isfinite(rows).all():
            raise ImageError("a value is NaN or infinite. Repair the sample, or remove it.")
        return np.ascontiguousarray(shrink_images(rows, self.size)), () if rows.shape[2:] == self.size else ("resized",)

    def takes_as_color(self, values: Pixels) -> bool:
        """Whether the network reads 8-bit color images, and these values are 8-bit too."""
        return self.is_image_like and self.channels == 3 and values.dtype == np.uint8

    def _fit_other_colors(self, rows: Pixels) -> tuple[Pixels, tuple[str, ...]]:
        """Gray rows, or rows of color with opacity, as files of them are read; and what was done to the last one."""
        fitted, actions = [], tuple[str, ...]()
        for row in rows:
            values, is_blended = row, False
            if len(row) == 4:
                blended, is_blended = blended_on_white(row.transpose(1, 2, 0))
                values = blended.transpose(2, 0, 1)
            pixels, done = images.fit(values, self.channels, self.size, self.resize_mode)
            fitted.append(pixels)
            actions = (*(["transparency blended on white"] * is_blended), *done)
        return np.stack(fitted) if fitted else np.empty((0, *self.input_shape), np.uint8), actions

    def _decode_size(self) -> tuple[int, int] | None:
        return (self.size[0], self.size[1]) if len(self.size) == 2 else None


_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "kind": ("images", "array"),
    "resize_mode": get_args(ResizeMode),
    "normalize": get_args(Normalize),
}
"""Fields of ``Preprocessing`` with their known words."""


@functools.lru_cache(maxsize=8)
def pixel_order(num_positions: int, seed: int) -> npt.NDArray[np.int64]:
    """A fixed random order of positions: the source position of each position.

    Positions are sorted by the BLAKE2b hash of seed and position, so the order is the same on every machine and version.

    >>> pixel_order(6, 0).tolist()
    [1, 0, 4, 3, 5, 2]
    """
    keys = (hashlib.blake2b(f"{seed} {position}".encode(), digest_size=16).digest() for position in range(num_positions))
    return np.array(sorted(range(num_positions), key=list(keys).__getitem__), dtype=np.int64)


def shrink_images(rows: Pixels, size: tuple[int, ...]) -> Pixels:
    """Resize rows of shape (N, C, *) to ``size`` by averaging areas; integers are rounded. Equal sizes are returned unchanged.

    Position i of ``wanted`` is the mean from ``i * found // wanted`` to ``ceil((i + 1) * found / wanted)``, as in ``torch.nn.AdaptiveAvgPool2d``. Sums are
    in float64, one sample at a time, and so the same for any number of samples.
    """
    if rows.shape[2:] == size:
        return rows
    shrunk = np.empty((*rows.shape[:2], *size), dtype=rows.dtype)
    for row, target in zip(rows, shrunk, strict=True):
        means = row.astype(np.float64)
        for axis, wanted in enumerate(size, start=1):
            means = _area_means(means, axis, wanted)
        target[...] = np.rint(means) if np.issubdtype(rows.dtype, np.integer) else means
    return shrunk


def _area_means(values: npt.NDArray[np.float64], axis: int, wanted: int) -> npt.NDArray[np.float64]:
    """Means of the areas along one axis, which may overlap."""
    found = values.shape[axis]
    if found == wanted:
        return values
    places = np.arange(wanted)
    first, last = places * found // wanted, -(-(places + 1) * found // wanted)
    shape = [1] * values.ndim
    shape[axis] = wanted
    total = np.zeros((*values.shape[:axis], wanted, *values.shape[axis + 1 :]))
    for step in range(int((last - first).max())):
        inside = first + step < last
        taken = values.take(np.minimum(first + step, found - 1), axis=axis)
        total += np.where(inside.reshape(shape), taken, 0.0)
    return np.asarray(total / (last - first).reshape(shape))


class RowsInChunks(Protocol):
    """Rows of shape (N, C, *) that can be sliced, such as a memory-mapped array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, chosen: slice, /) -> Pixels: ...


def measure_scale(rows: RowsInChunks, normalize: Normalize) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the offset and divisor of each channel, in chunks, so that a memory-mapped array is never copied whole.

    Args:
        rows: stored values, shape (N, C, *).
        normalize: ``mean-deviation`` or ``min-max``.

    Returns:
        Offsets and divisors; a constant channel gets the divisor 1.
    """
    count, low, high = 0, np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    for chunk in _channel_chunks(rows):
        count += chunk.shape[1]
        low, high = np.minimum(low, chunk.min(axis=1)), np.maximum(high, chunk.max(axis=1))
    span = high - low
    unit = np.where((span > 0) & np.isfinite(span), span, 1.0)
    if normalize == "min-max":
        offset, divisor = low, span
    else:  # relative to the middle of the range and in units of it, to avoid overflow, underflow and cancellation
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
