"""Normalization and size: statistics of the training split, the same for every sample."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from visus.data.ledger import Ledger
from visus.data.preprocessing import Preprocessing, measure_scale, shrink_images
from visus.errors import ImageError, RunError

IMAGES = Preprocessing("images", 3, (8, 8), "squash", "uint8", "mean-deviation", (10.0, 20.0, 30.0), (2.0, 4.0, 8.0))
VOLUMES = Preprocessing("array", 1, (4, 4, 4), "squash", "uint8", "min-max", (0.0,), (255.0,))


@pytest.mark.parametrize("preprocessing", [IMAGES, VOLUMES])
def test_plain_data_round_trip_through_json(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@given(st.integers(1, 3), st.sampled_from([(7,), (3, 4), (2, 3, 2)]), st.integers(0, 10**6))
def test_scaled_training_samples_have_mean_0_and_deviation_1(channels: int, size: tuple[int, ...], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (20, channels, *size), dtype=np.uint8)
    offset, divisor = measure_scale(rows, "mean-deviation")
    scaled = Preprocessing("array", channels, size, "squash", "uint8", "mean-deviation", offset, divisor).scaled(
        torch.from_numpy(rows)
    )
    by_channel = scaled.double().transpose(0, 1).flatten(1)
    assert torch.allclose(by_channel.mean(1), torch.zeros(channels, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(by_channel.std(1, correction=0), torch.ones(channels, dtype=torch.float64), atol=1e-5)


@given(st.integers(0, 10**6))
def test_min_max_scaling_reaches_0_and_1_in_every_channel(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(5, 2, 6)).astype(np.float32) * 1000
    offset, divisor = measure_scale(rows, "min-max")
    scaled = Preprocessing("array", 2, (6,), "squash", "float32", "min-max", offset, divisor).scaled(torch.from_numpy(rows))
    assert torch.allclose(scaled.amin((0, 2)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(scaled.amax((0, 2)), torch.ones(2), atol=1e-5)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_scaled_numbers_go_back_to_the_stored_ones(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (3, channels, 4, 5), dtype=np.uint8)
    offset, divisor = tuple(rng.uniform(0, 255, channels).tolist()), tuple(rng.uniform(1, 255, channels).tolist())
    preprocessing = Preprocessing("images", channels, (4, 5), "squash", "uint8", "mean-deviation", offset, divisor)
    stored = torch.from_numpy(rows)
    torch.testing.assert_close(
        preprocessing.stored_values(preprocessing.scale_values(stored)), stored.float(), atol=1e-3, rtol=0
    )


def test_a_channel_without_spread_is_not_divided_by_zero() -> None:
    assert measure_scale(np.full((4, 1, 3), 7, dtype=np.uint8), "mean-deviation") == ((7.0,), (1.0,))
    assert measure_scale(np.full((4, 1, 3), 7, dtype=np.uint8), "min-max") == ((7.0,), (1.0,))


@pytest.mark.long
def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (1000, 3, 80, 80), dtype=np.uint8)
    offset, divisor = measure_scale(rows, "mean-deviation")
    assert offset == pytest.approx(rows.mean((0, 2, 3)))
    assert divisor == pytest.approx(rows.std((0, 2, 3)))


def test_shrinking_averages_areas_and_rounds_integers() -> None:
    rows = np.array([[[0, 1, 2, 4]]], dtype=np.uint8)
    assert shrink_images(rows, (2,)).tolist() == [[[0, 3]]]
    assert shrink_images(rows.astype(np.float32), (2,)).tolist() == [[[0.5, 3.0]]]
    assert shrink_images(rows, (4,)) is rows


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([1, 3]),
    st.sampled_from(["squash", "crop", "pad"]),
    st.sampled_from(["images", "array"]),
)
def test_an_8_bit_image_has_the_same_numbers_as_an_array_and_as_a_file(
    size: tuple[int, int], channels: int, resize_mode: Any, kind: Any
) -> None:
    preprocessing = dataclasses.replace(
        IMAGES,
        kind=kind,
        channels=channels,
        size=(16, 12),
        resize_mode=resize_mode,
        offset=(0.0,) * channels,
        divisor=(1.0,) * channels,
    )
    assume(kind == "images" or size[0] < 16 or size[1] < 12 or size == (16, 12))
    row = np.random.default_rng(size).integers(0, 256, (channels, *size), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(row[0] if channels == 1 else np.moveaxis(row, 0, -1)).save(file, "PNG")
    of_file, of_array = Ledger(), Ledger()
    expected = preprocessing.read_image(file.getvalue(), of_file, name="one")
    np.testing.assert_array_equal(preprocessing.fit_row(row, of_array, "one"), expected)
    np.testing.assert_array_equal(preprocessing.fit_array(np.stack([row, row])), [expected, expected])
    assert of_array.counts == of_file.counts


def test_larger_arrays_of_a_network_of_arrays_are_averaged_as_its_training_was() -> None:
    preprocessing = dataclasses.replace(IMAGES, kind="array", size=(8, 8))
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24), dtype=np.uint8)
    np.testing.assert_array_equal(preprocessing.fit_array(rows), shrink_images(rows, (8, 8)))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="a sample of 0 x 5 is smaller than this network's input of 8 x 8"):
        IMAGES.fit_array(np.zeros((1, 3, 0, 5), np.uint8))


def test_a_sample_of_another_shape_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        VOLUMES.fit_array(np.zeros((1, 2, 4, 4, 4), dtype=np.uint8))
    assert (
        str(caught.value) == "a sample of 2 x 4 x 4 x 4 does not fit this network's input of 1 x 4 x 4 x 4 (channels first)."
    )


def test_what_was_done_to_a_image_is_noted(tmp_path: Path) -> None:
    Image.new("L", (20, 10), 200).save(tmp_path / "gray.png")
    ledger = Ledger()
    pixels = IMAGES.read_image(tmp_path / "gray.png", ledger, name="gray.png")
    assert pixels.shape == (3, 8, 8)
    assert (pixels == 200).all()
    assert ledger.counts == {"gray made color": 1, "resized": 1}


def test_an_impossible_value_of_the_facts_is_named() -> None:
    for field, value, said in (
        ("divisor", [0.0] * 3, "divisor is 0.0, and a finite number above 0 is needed"),
        ("offset", [float("nan")] * 3, "offset is nan, and a finite number is needed"),
        ("channels", True, "channels is true, and a whole number from 1 to 16,777,216 is needed"),
        ("resize_mode", "stretch", "resize_mode is 'stretch', and one of squash, crop, pad is needed"),
    ):
        with pytest.raises(RunError) as caught:
            Preprocessing.from_dict({**IMAGES.to_dict(), field: value})
        assert str(caught.value) == f"the preprocessing cannot be used: {said}. Train the run anew."


def test_the_facts_of_another_version_are_refused() -> None:
    facts = {("rule" if name == "resize_mode" else name): value for name, value in IMAGES.to_dict().items()}
    with pytest.raises(RunError) as caught:
        Preprocessing.from_dict(facts)
    assert str(caught.value) == (
        "the preprocessing was written by another version of visus: it differs in resize_mode, rule. Train the run anew."
    )
