"""Properties of the table of samples and of its readers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.data.ledger import Ledger
from visus.data.samples import ArrayRows, ImageFiles
from visus.data.source_rules import natural_key
from visus.data.sources import read_source

A = np.arange(5 * 6, dtype=np.uint8).reshape(5, 1, 2, 3)
B = np.arange(100, 100 + 3 * 6, dtype=np.uint8).reshape(3, 1, 2, 3)
WHOLE = np.concatenate([A, B])


def load_a() -> np.ndarray:
    return A


def load_b() -> np.ndarray:
    return B


def rows() -> ArrayRows:
    return ArrayRows([(5, load_a), (3, load_b)], (1, 2, 3), np.dtype(np.uint8))


@given(st.slices(8))
def test_slices_of_several_arrays_are_slices_of_one(chosen: slice) -> None:
    np.testing.assert_array_equal(rows().read(chosen), WHOLE[chosen])


@given(st.lists(st.integers(-8, 7), max_size=12), st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_gathered_rows_and_selections_are_those_of_one_array(chosen: list[int], order: list[int]) -> None:
    np.testing.assert_array_equal(rows().read(np.array(chosen, dtype=np.int64)), WHOLE[np.array(chosen, dtype=np.int64)])
    selected = rows().select(np.array(order, dtype=np.int64))
    np.testing.assert_array_equal(selected.read(slice(None)), WHOLE[order])
    np.testing.assert_array_equal(selected.read(len(order) - 1), WHOLE[order[-1]])
    np.testing.assert_array_equal(selected.select(np.array([0], dtype=np.int64)).read(0), WHOLE[order[0]])


@pytest.mark.parametrize("index", [8, -9])
def test_a_row_that_is_not_there_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        rows().read(index)


def test_arrays_are_loaded_once_and_again_after_release() -> None:
    loads = []

    def load() -> np.ndarray:
        loads.append(1)
        return A

    reader = ArrayRows([(5, load)], (1, 2, 3), np.dtype(np.uint8))
    assert loads == []
    reader.read(0)
    reader.read(slice(1, 3))
    assert len(loads) == 1
    reader.release()
    reader.read(4)
    assert len(loads) == 2


def test_big_endian_values_come_in_native_order() -> None:
    big = np.array([[1.5, 2.5]], dtype=">f4")
    reader = ArrayRows([(1, lambda: big)], (2,), big.dtype)
    assert reader.read(slice(None)).dtype == np.dtype(np.float32)
    assert reader.read(0).tolist() == [1.5, 2.5]


def test_a_reader_crosses_a_process_boundary_without_its_arrays() -> None:
    reader = rows()
    unread = len(pickle.dumps(reader))
    reader.read(slice(None))
    assert len(pickle.dumps(reader)) == unread
    np.testing.assert_array_equal(copy.copy(reader).read(7), WHOLE[7])


def test_each_reader_refuses_what_the_other_does() -> None:
    with pytest.raises(TypeError, match="samples are image files"):
        ImageFiles(Path("x"), ("a.jpg",)).read(0)
    with pytest.raises(TypeError, match="samples are rows of arrays"):
        rows().path(0)


def test_a_selection_keeps_rows_together(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    samples = read_source(tmp_path, Ledger())
    chosen = samples.select(np.array([2, 0]))
    assert chosen.names == ("b/3.jpg", "a/1.jpg")
    assert chosen.labels.tolist() == [1, 0]
    assert [chosen.reader.path(index).name for index in range(len(chosen.reader))] == ["3.jpg", "1.jpg"]
    assert (chosen.classes, chosen.fingerprint) == (samples.classes, samples.fingerprint)
    assert samples.class_counts().tolist() == [2, 1]


@given(st.lists(st.integers(-(10**6), 10**6)))
def test_integers_sort_as_numbers(numbers: list[int]) -> None:
    names = [str(number) for number in numbers]
    assert [int(name) for name in sorted(names, key=natural_key)] == sorted(numbers)


@given(st.lists(st.text(max_size=8), unique=True))
def test_the_natural_order_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(sorted(names, reverse=True), key=natural_key)
