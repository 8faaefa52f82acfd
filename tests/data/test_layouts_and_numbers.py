"""Arrays: ambiguous layouts are errors, and values keep their precision far from zero or close to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import visus
from visus.data.array_labels import class_values
from visus.data.ledger import Ledger
from visus.data.preprocessing import Preprocessing, measure_scale
from visus.data.source_arrays import ARRAY_LAYOUTS, layout_of, possible_layouts
from visus.errors import DataError
from visus.workbench.runs.predict_inputs import ArraySample, find_samples


def saved(tmp_path: Path, x: np.ndarray, **others: object) -> Path:
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(len(x)) % 2, **others)
    return tmp_path / "s.npz"


def opened(file: Path, tmp_path: Path, **options: object) -> visus.data.opened.Data:
    return visus.open_data(file, cache_dir=tmp_path / "cache", **options)  # type: ignore[arg-type]


def message(file: Path, tmp_path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        opened(file, tmp_path, **options)
    return str(caught.value)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# ---- layouts ----


@given(st.lists(st.integers(1, 300), min_size=2, max_size=4))
def test_the_rule_returns_a_layout_with_as_many_axes_or_none(sample: list[int]) -> None:
    found = layout_of((9, *sample), "plain")
    assert found is None or found in possible_layouts(len(sample) + 1)


@given(st.integers(1, 300), st.integers(1, 300))
def test_signals_turned_round_are_read_as_the_same(channels: int, length: int) -> None:
    found, turned = layout_of((9, channels, length), "plain"), layout_of((9, length, channels), "plain")
    assert (found, turned) in [("NCL", "NLC"), ("NLC", "NCL"), ("NHW", "NHW"), (None, None)]


@pytest.mark.parametrize("shape", [(60, 6, 10), (60, 64, 256), (60, 32, 32, 32), (60, 3, 32, 3), (60, 9, 8, 8, 8)])
def test_an_open_layout_is_one_question_and_any_answer_is_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = saved(tmp_path, random(*shape))
    text = message(file, tmp_path)
    assert "is ambiguous" in text
    for layout in possible_layouts(len(shape)):
        assert f"{layout} is " in text
        assert opened(file, tmp_path, layout=layout.lower()).preprocessing.layout == layout


def test_steps_of_sensors_are_read_as_signals_and_the_note_says_how_to_state_another(tmp_path: Path) -> None:
    data = opened(saved(tmp_path, random(60, 128, 9)), tmp_path)
    assert data.input_shape == (9, 128)
    assert data.samples.notes == (
        "an array of 60 x 128 x 9 is read as (samples, length, channels); layout selects another layout (NCL, NHW).",
    )
    assert opened(tmp_path / "s.npz", tmp_path, layout="NCL").input_shape == (128, 9)


def test_predict_reads_arrays_as_the_training_did(tmp_path: Path) -> None:
    x = random(40, 20, 30)
    plan = opened(saved(tmp_path, x), tmp_path, layout="NLC").preprocessing
    assert (plan.channels, plan.size, plan.layout) == (30, (20,), "NLC")
    assert Preprocessing.from_dict(plan.to_dict()) == plan
    for given_array, rows in ((x[:3], x[:3]), (x[5], x[5:6])):
        samples = [sample for sample in find_samples([given_array], plan, Ledger()) if isinstance(sample, ArraySample)]
        np.testing.assert_array_equal(np.stack([sample.row for sample in samples]), rows.transpose(0, 2, 1))


def test_every_layout_is_a_permutation_of_known_letters() -> None:
    assert all(set(layout) <= set("NCLDHW") and layout[0] == "N" for layout in ARRAY_LAYOUTS)


# ---- labels ----


def test_rows_with_several_classes_are_refused_with_their_own_message() -> None:
    labels = np.zeros((9, 4), np.uint8)
    labels[:, 1] = 1
    labels[:3, 2] = 1
    labels[8] = 0
    with pytest.raises(DataError) as caught:
        class_values(labels, "chest.npz")
    assert str(caught.value) == (
        "chest.npz: 4 of 9 rows of the labels name no class or several classes, and single-label needs exactly one. Remove those rows, or leave out "
        "task='single-label'."
    )


# ---- numbers ----


@pytest.mark.parametrize("factor", [1e-300, 1e-21, 1e-9, 1.0, 1e30, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1.7e9])
def test_scaled_values_are_the_same_for_any_unit_and_offset(factor: float, offset: float) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2, 30))
    stored = (values + offset) * factor
    plan = Preprocessing("array", 2, (30,), "squash", "float64", "mean-deviation", *measure_scale(stored, "mean-deviation"))
    scaled = plan.scaled(torch.from_numpy(stored)).numpy()
    assert scaled.dtype == np.float32
    expected = (values - values.mean((0, 2), keepdims=True)) / values.std((0, 2), keepdims=True)
    np.testing.assert_allclose(scaled, expected, atol=2e-6 + 1e-6 * offset / 1.7e9)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64"])
def test_every_number_format_is_opened_and_scaled(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 100, (40, 12)).astype(dtype)
    data = opened(saved(tmp_path, values), tmp_path)
    batch = data.preprocessing.scaled(data.split("train").rows(np.arange(20)))
    assert abs(float(batch.mean())) < 0.3
    assert 0.7 < float(batch.std()) < 1.3


def test_large_integers_keep_their_differences(tmp_path: Path) -> None:
    values = 2**40 + np.random.default_rng(0).integers(0, 50, (40, 12))
    data = opened(saved(tmp_path, values), tmp_path)
    assert len(data.preprocessing.scaled(data.split("train").rows(np.arange(20))).unique()) > 40


@pytest.mark.parametrize("constant", [0.0, 3.0, 1e30])
def test_a_channel_without_spread_is_divided_by_one(constant: float) -> None:
    assert measure_scale(np.full((5, 1, 4), constant), "mean-deviation") == ((constant,), (1.0,))
    assert measure_scale(np.full((5, 1, 4), constant), "min-max") == ((constant,), (1.0,))


def test_inverted_images_are_reported_and_others_are_not() -> None:
    plan = Preprocessing("array", 1, (8, 8), "squash", "uint8", "mean-deviation", (40.0,), (60.0,), layout="NHW")
    dark = np.full((1, 8, 8), 5, np.uint8)
    dark[:, 2:6, 2:6] = 180
    bright_thing = np.full((1, 8, 8), 250, np.uint8)
    bright_thing[:, 0], bright_thing[:, -1], bright_thing[:, :, 0], bright_thing[:, :, -1] = 0, 0, 0, 0
    assert [plan.looks_inverted(sample) for sample in (255 - dark, dark, bright_thing)] == [True, False, False]


@pytest.mark.parametrize(("base", "is_warned"), [(1e4, False), (1e9, True)])
def test_numbers_very_far_from_0_are_reported(tmp_path: Path, base: float, is_warned: bool) -> None:
    values = base + np.random.default_rng(0).normal(size=(40, 1, 16))
    np.savez(tmp_path / "x.npz", x=values, y=np.arange(40) % 2)
    warnings = visus.open_data(tmp_path / "x.npz").warnings
    assert len(warnings) == is_warned
    if is_warned:
        assert warnings[0].startswith("the values have a mean of 1e+09 but a standard deviation of only 1")
        assert warnings[0].endswith(
            ", like timestamps or indices. visus normalizes them in float64 without loss, but a program that reads them as float32 loses most of "
            "their differences."
        )
