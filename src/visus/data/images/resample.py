"""Bilinear resizing with antialiasing in integer arithmetic, with the same pixels with and without PyTorch.

Each axis is a weighted sum over the pixels below a triangle: its half width is one output pixel, or one input pixel where the axis grows (the
convolution-based resizing of Pillow). As in ``torch.nn.functional.interpolate`` for uint8, weights are rounded to at most 15 bits, the width comes
first, and each axis is rounded to whole levels. All sums are integers, so every implementation that adds exactly gives the same pixels: here matrix
products in floating point, whose sums stay below the largest exact integer. PyTorch is several times faster; where it is loaded, it is used after a check.

Shape letters: C channels, H height, W width.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

_WEIGHT_BITS: Final = 15
_BLOCK: Final = 16
"""Output positions of one matrix product."""
_STRIP: Final = 64
"""Rows whose width is resized at a time, so that they stay in the processor's cache."""


def resample(pixels: Image, size: tuple[int, int]) -> Image:
    """Resize an image of shape (C, H, W) to (height, width).

    >>> resample(np.array([[[0, 100, 200, 200]]], np.uint8), (1, 2)).tolist()
    [[[71, 186]]]
    """
    torch = sys.modules.get("torch")
    if torch is not None and _agrees(torch):
        return _by_torch(torch, pixels, size)
    return by_matrix_products(pixels, size)


def by_matrix_products(pixels: Image, size: tuple[int, int]) -> Image:
    """``resample`` without PyTorch."""
    channels, height, width = pixels.shape
    rows, columns = _axis(height, size[0]), _axis(width, size[1])
    narrow = np.empty((height, channels, size[1]), dtype=rows.dtype)
    for top in range(0, height, _STRIP):
        strip = pixels[:, top : top + _STRIP].transpose(1, 0, 2).astype(columns.dtype, order="C").reshape(-1, width)
        sums = np.empty((len(strip), size[1]), dtype=columns.dtype)
        for band in columns.bands:
            np.matmul(strip[:, band.source], band.weights.T, out=sums[:, band.target])
        narrow[top : top + _STRIP] = columns.levels(sums).reshape(-1, channels, size[1])
    flat = narrow.reshape(height, -1)
    sums = np.empty((size[0], flat.shape[1]), dtype=rows.dtype)
    for band in rows.bands:
        np.matmul(band.weights, flat[band.source], out=sums[band.target])
    levels = rows.levels(sums).astype(np.uint8).reshape(size[0], channels, size[1])
    return np.ascontiguousarray(levels.transpose(1, 0, 2))


@dataclass(frozen=True, eq=False)
class _Band:
    """The weights of some neighboring output positions, shape (target, source)."""

    target: slice
    source: slice
    weights: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Axis:
    """The resizing of one axis: integer weights in units of 2**-bits, in a floating-point type that holds all sums exactly."""

    bits: int
    dtype: type[np.floating[Any]]
    bands: tuple[_Band, ...]

    def levels(self, sums: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sums as whole levels, 0 to 255, in place."""
        sums += 2.0 ** (self.bits - 1)
        sums *= 2.0**-self.bits
        np.floor(sums, out=sums)
        return np.asarray(np.minimum(sums, 255, out=sums))


@functools.lru_cache(maxsize=512)
def _axis(found: int, wanted: int) -> _Axis:
    """The weights that resize an axis from ``found`` to ``wanted`` positions."""
    scale = found / wanted
    reach = max(scale, 1.0)
    centers = scale * (np.arange(wanted) + 0.5)
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + reach + 0.5).astype(np.int64), found)
    places = first[:, None] + np.arange((last - first).max())
    triangle = np.maximum(0.0, 1 - np.abs((places - centers[:, None] + 0.5) / reach))
    shares = np.where(places < last[:, None], triangle, 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 22 and int(0.5 + shares.max() * 2 ** (bits + 1)) < 2**_WEIGHT_BITS:
        bits += 1
    weights = np.floor(shares * 2.0**bits + 0.5)
    dtype = np.float32 if 255 * weights.sum(axis=1).max() + 2**bits < 2**24 else np.float64
    bands = []
    for start in range(0, wanted, _BLOCK):
        stop = min(start + _BLOCK, wanted)
        low, high = int(first[start:stop].min()), int(last[start:stop].max())
        block = np.zeros((stop - start, high - low), dtype=dtype)
        for place in range(start, stop):
            count = last[place] - first[place]
            block[place - start, first[place] - low : last[place] - low] = weights[place, :count]
        bands.append(_Band(slice(start, stop), slice(low, high), block))
    return _Axis(bits, dtype, tuple(bands))


def _by_torch(torch: ModuleType, pixels: Image, size: tuple[int, int]) -> Image:
    # torch needs writable memory without negative strides; a view of (H, W, C) needs no copy and is fastest
    rows = np.require(pixels.transpose(1, 2, 0), requirements=["C", "W"])
    batch = torch.from_numpy(rows).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(resized[0].numpy())


@functools.cache
def _agrees(torch: ModuleType) -> bool:
    """Whether PyTorch's pixels are equal on this machine, tested for larger and smaller axes of gray and color."""
    random = np.random.default_rng(0)
    for shape, size in (((3, 61, 43), (17, 20)), ((1, 61, 43), (17, 20)), ((3, 9, 40), (31, 7)), ((1, 5, 300), (5, 9))):
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        if not np.array_equal(_by_torch(torch, pixels, size), by_matrix_products(pixels, size)):
            return False
    return True
