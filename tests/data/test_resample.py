"""Resizing: the same pixels with and without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.data.images import resample as resampling
from visus.data.images.resample import by_matrix_products, resample
from visus.data.preprocessing import shrink_images

_LENGTH = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(_LENGTH, _LENGTH, _LENGTH, _LENGTH, st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.booleans())
def test_matrix_products_give_the_pixels_of_torch(
    height: int, width: int, new_height: int, new_width: int, channels: int, seed: int, extreme: bool
) -> None:
    random = np.random.default_rng(seed)
    levels = random.integers(0, 256, (channels, height, width), dtype=np.uint8)
    pixels = (levels // 128 * 255).astype(np.uint8) if extreme else levels
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # torch 2.13 stops on the other layout where a side is 1
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(rows).permute(2, 0, 1)[None],
        (new_height, new_width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    np.testing.assert_array_equal(by_matrix_products(pixels, (new_height, new_width)), expected[0].numpy())


@pytest.mark.parametrize("shape", [(3, 1200, 40), (1, 7, 4000), (3, 700, 900)])
def test_a_strong_reduction_is_exact_too(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(by_matrix_products(pixels, (3, 5)), resample(pixels, (3, 5)))


def test_torch_is_not_used_where_its_pixels_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    expected = resample(pixels, (8, 8))
    monkeypatch.setattr(resampling, "_by_torch", lambda torch, pixels, size: np.zeros((pixels.shape[0], *size), np.uint8))
    resampling._agrees.cache_clear()
    try:
        np.testing.assert_array_equal(resample(pixels, (8, 8)), expected)
    finally:
        resampling._agrees.cache_clear()


def test_an_image_is_resized_in_a_process_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from visus.data.images.decode import fit\n"
        "pixels = np.arange(3 * 40 * 60, dtype=np.uint8).reshape(3, 40, 60)\n"
        "print(int(fit(pixels, 1, (20, 20), 'pad')[0].astype(int).sum()))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    pixels = np.arange(3 * 40 * 60, dtype=np.uint8).reshape(3, 40, 60)
    from visus.data.images.decode import fit

    assert int(printed) == int(fit(pixels, 1, (20, 20), "pad")[0].astype(int).sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_areas_are_averaged_as_by_torch(axes: list[tuple[int, int]], seed: int) -> None:
    size = tuple(min(pair) for pair in axes)
    rows = np.random.default_rng(seed).normal(size=(2, 2, *(max(pair) for pair in axes))).astype(np.float32)
    pool = {1: torch.nn.functional.adaptive_avg_pool1d, 2: torch.nn.functional.adaptive_avg_pool2d}.get(
        len(size), torch.nn.functional.adaptive_avg_pool3d
    )
    expected = pool(torch.from_numpy(rows).double(), size)  # type: ignore[arg-type]
    np.testing.assert_allclose(shrink_images(rows, size), expected.numpy(), rtol=1e-6, atol=1e-7)
