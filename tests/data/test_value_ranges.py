"""Splits of another scale are warned of, and data of any kind that was scaled alike is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import visus
from visus.data.batches import Part
from visus.data.value_ranges import split_warnings

ALIKE = "so a network that learns from one does not know the other. Scale the samples of all splits in the same way."


def part(name: str, values: np.ndarray) -> Part:
    number = len(values)
    return Part(name, values, np.arange(number), np.zeros(number, np.int64), tuple(map(str, range(number))))


def test_a_test_set_that_was_not_divided_by_255_is_warned_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, other = (rng.integers(0, 256, (number, 8, 8, 3)) for number in (60, 30))
    x[0, 0, 0], other[0, 0, 0] = (0, 255, 0), (0, 255, 0)
    y, labels = np.arange(60) % 3, np.arange(30) % 3
    opened = visus.open_data(x=x / 255.0, y=y, x_test=other.astype(float), y_test=labels, cache_dir=tmp_path, progress=False)
    (warning,) = opened.warnings
    assert warning.startswith("the values of the test split (0 to 255) spread over 2")
    assert warning.endswith(f" times those of the training split (0 to 1), {ALIKE}")
    assert visus.check(opened).warnings == (warning,)
    other_way = visus.open_data(
        x=x.astype(float), y=y, x_test=other / 255.0, y_test=labels, cache_dir=tmp_path, progress=False
    )
    assert other_way.warnings[0].startswith("the values of the test split (0 to 1) spread over 1/2")
    assert " of those of the training split (0 to 255), " in other_way.warnings[0]
    alike = visus.open_data(x=x / 255.0, y=y, x_test=other / 255.0, y_test=labels, cache_dir=tmp_path, progress=False)
    assert alike.warnings == ()


def spectrograms(rng: np.random.Generator, number: int) -> np.ndarray:
    """Powers, whose loudness differs from sample to sample by a factor of 1,000 or so."""
    return rng.exponential(1, (number, 1, 8, 16)) * rng.lognormal(0, 1.5, (number, 1, 1, 1))


def volumes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Hounsfield units: air around a body of any size, and metal in some."""
    found = np.full((number, 1, 6, 6, 6), -1024.0)
    for each in found:
        length = rng.integers(1, 6)
        each[0, :length] = rng.normal(40, 20, (length, 6, 6))
        each[0, 0, 0, 0] = rng.choice([40, 3071])
    return found


def events(rng: np.random.Generator, number: int) -> np.ndarray:
    """Mostly zeros, and some samples with nothing else."""
    return (rng.random((number, 2, 64)) < 0.02) * rng.exponential(1, (number, 2, 64))


@pytest.mark.parametrize("kind", [spectrograms, volumes, events])
def test_data_that_was_scaled_alike_is_not_warned_of(kind: object) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        parts = [
            part(name, kind(rng, number).astype(np.float32)) for name, number in (("train", 40), ("val", 5), ("test", 12))
        ]  # type: ignore[operator]
        assert split_warnings(parts) == []


@given(st.floats(60, 1e6), st.booleans(), st.sampled_from([spectrograms, volumes]))
@settings(max_examples=25, deadline=None)
def test_a_split_of_another_scale_is_warned_of(factor: float, is_larger: bool, kind: object) -> None:
    rng = np.random.default_rng(0)
    train, test = kind(rng, 64), kind(rng, 64)  # type: ignore[operator]
    (warning,) = split_warnings([part("train", train), part("test", test * 4 * (factor if is_larger else 1 / factor / 16))])
    assert ALIKE in warning


def test_integers_and_splits_without_samples_are_not_warned_of() -> None:
    train = np.arange(160, dtype=np.float32).reshape(10, 1, 16)
    assert split_warnings([part("train", train), part("val", train[:0]), part("test", 100 * train[:2])]) == []
    assert split_warnings([part("train", train), part("test", np.ones_like(train))]) == []
    assert split_warnings([part("train", train.astype(int)), part("test", 100 * train.astype(int))]) == []
    assert len(split_warnings([part("train", train), part("test", 100 * train)])) == 1
