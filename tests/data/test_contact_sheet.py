"""A contact sheet: the samples as they are, capped in number and bytes, without a color that a dark page would hide."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.contact_sheet import MAX_BYTES, MAX_SAMPLES, Captioned, contact_sheet, spread


def drawn(sheet: str) -> list[Any]:
    """The pixels of the images of a sheet."""
    files = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", sheet)]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def sheet_of(*arrays: Any) -> str:
    return contact_sheet("samples", [Captioned(each, f"class {place}", f"{place}.png") for place, each in enumerate(arrays)])


def test_8_bit_images_are_drawn_with_their_own_pixels() -> None:
    color = np.random.default_rng(0).integers(0, 256, (3, 9, 7), dtype=np.uint8)
    first, second = drawn(sheet_of(color, color[:1]))
    np.testing.assert_array_equal(first, color.transpose(1, 2, 0))
    np.testing.assert_array_equal(second, np.repeat(color[0][..., None], 3, axis=-1))


def test_a_large_image_is_drawn_as_block_means_and_small_ones_are_enlarged_by_the_page() -> None:
    large = np.random.default_rng(0).integers(0, 256, (1, 128, 128), dtype=np.uint8)
    (found,) = drawn(sheet_of(large))
    means = np.rint(large[0].reshape(64, 2, 64, 2).mean((1, 3)))
    np.testing.assert_array_equal(found[..., 0], means)
    assert "width:56px;height:56px" in sheet_of(np.zeros((1, 28, 28), np.uint8))


def test_a_volume_is_drawn_as_its_middle_slice() -> None:
    volume = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(drawn(sheet_of(volume))[0][..., 0], volume[0, 2])


def test_a_signal_is_drawn_as_lines_in_the_color_of_the_text() -> None:
    signal = np.stack([np.linspace(0, 1, 500), np.linspace(1, 0, 500)]).astype(np.float32)
    sheet = sheet_of(signal)
    rising, falling = re.findall(r'points="([^"]+)"', sheet)
    heights = [float(pair.split(",")[1]) for pair in rising.split()]
    assert heights == sorted(heights, reverse=True)
    assert heights == [float(pair.split(",")[1]) for pair in falling.split()][::-1]
    assert sheet.count('stroke="currentColor"') == 2


def test_values_that_are_no_numbers_are_drawn_too() -> None:
    values = np.full((1, 4, 4), np.nan, np.float32)
    values[0, 0] = (0.0, 1.0, np.inf, -np.inf)
    assert drawn(sheet_of(values))[0][0, :, 0].tolist() == [0, 255, 255, 0]
    assert len(drawn(sheet_of(np.full((1, 2, 2), np.nan)))) == 1


def test_a_sheet_has_no_color_that_is_invisible_in_the_dark() -> None:
    sheet = sheet_of(np.zeros((1, 4, 4), np.uint8), np.zeros((2, 50), np.float32))
    assert not re.search(r"background|[^-]color:|#[0-9a-f]{3}", sheet)


def test_names_and_captions_are_escaped() -> None:
    sheet = contact_sheet("<t>", [Captioned(np.zeros((1, 2, 2), np.uint8), "<c>", '"><n>'), Captioned(None, "<e>", "f")])
    assert not any(word in sheet for word in ("<t>", "<c>", "<n>", "<e>"))
    assert "&lt;e&gt;" in sheet


@given(st.integers(1, 60), st.integers(1, 150))
def test_a_sheet_is_capped_in_number_and_bytes(count: int, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
    sheet = sheet_of(*[noise] * count)
    assert len(sheet) < MAX_BYTES + 1_000
    assert 1 <= len(drawn(sheet)) <= min(count, MAX_SAMPLES)


def test_a_sheet_without_samples_is_empty() -> None:
    assert contact_sheet("nothing", []) == ""


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 30))
def test_samples_are_spread_over_the_classes(labels: list[int], count: int) -> None:
    places = spread(np.array(labels, dtype=np.int64), count)
    assert len(set(places.tolist())) == len(places) == min(count, len(labels))
    chosen = [labels[place] for place in places]
    assert chosen == sorted(chosen)
    shown = np.bincount(chosen, minlength=6)
    all_of_them = np.bincount(labels, minlength=6) if labels else shown
    assert (
        max(shown, default=0)
        - min((n for n, whole in zip(shown, all_of_them, strict=True) if n < whole), default=max(shown))
        <= 1
    )


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 40), (1, 4, 6, 5)])
def test_opened_data_shows_samples_of_each_class_in_a_notebook(shape: tuple[int, ...], tmp_path: Any) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    names = np.array(["cat", "dog"])
    layout = {3: "NCHW", 2: "NCL", 4: "NCDHW"}[len(shape)]
    np.savez(tmp_path / "x.npz", x=x, y=names[np.arange(40) % 2])
    data = visus.open_data(tmp_path / "x.npz", layout=layout, cache_dir=tmp_path / "cache", progress=False)
    shown = data._repr_html_()
    assert shown.startswith("<table><caption>Data x")
    captions = re.findall(r"<figcaption[^>]*>([^<]*)", shown)
    assert captions == ["cat"] * 12 + ["dog"] * 12
    assert f"24 of {len(data.split('train'))} {data.noun}s of the training split" in shown
    assert shown.count("<svg" if len(shape) == 2 else "<img") == 24


def test_numbers_are_captions_with_at_most_six_digits(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    y = np.random.default_rng(0).uniform(10, 99, (40, 2))
    data = visus.open_data(x=x, y=y, task="regression", cache_dir=tmp_path / "cache", progress=False)
    captions = re.findall(r"<figcaption[^>]*>([^<]*)", data._repr_html_())
    assert len(captions) == 24
    assert all(re.fullmatch(r"\d\d\.\d{1,4}, \d\d\.\d{1,4}", caption) for caption in captions)
