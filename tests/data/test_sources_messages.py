"""Messages of sources about rarer mistakes, compared exactly."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from visus.data.ledger import Ledger
from visus.data.source_folders import LAYOUTS
from visus.data.sources import read_source
from visus.errors import DataError

NOT_AS_CIFAR = "the Python batch does not have the data and labels of a CIFAR batch."


def message(path: Path) -> str:
    """The text of the error from reading a source."""
    with pytest.raises(DataError) as caught:
        read_source(path, Ledger())
    return str(caught.value)


def idx(file: Path, *shape: int) -> Path:
    """An IDX file of bytes 0, 1, 2, ..."""
    head = bytes([0, 0, 0x08, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    file.write_bytes(head + bytes(range(int(np.prod(shape)))))
    return file


def cifar_batch(folder: Path, batch: object, meta: object) -> Path:
    """A folder of CIFAR-10 as Python batches: one batch, and the file of class names."""
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps(meta))
    return folder / "data_batch_1"


def npz(folder: Path, **arrays: object) -> Path:
    file = folder / "set.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def pixels(num_samples: int, num_values: int = 3072) -> np.ndarray:
    return np.zeros((num_samples, num_values), np.uint8)


# ---- labels and class names


def test_labels_of_bytes_that_are_not_utf_8_are_an_error(tmp_path: Path) -> None:
    file = npz(tmp_path, x=np.eye(3), y=np.array([b"caf\xe9", b"tea", b"tea"]))
    assert message(file) == f"{file}: y: a label is not valid UTF-8. Save the labels as text."


@pytest.mark.parametrize(("name", "written"), [("", "''"), ("  ", "'  '"), ("a\tb", r"'a\tb'"), ("\x7f", r"'\x7f'")])
def test_a_class_name_that_cannot_be_seen_is_an_error(tmp_path: Path, name: str, written: str) -> None:
    file = npz(tmp_path, x=np.eye(3), y=np.array([name, "tea", "tea"]))
    assert message(file) == (
        f"{file}: the class name {written} is empty, holds a control character or is not UTF-8. Rename that class."
    )


# ---- CIFAR's Python batches


@pytest.mark.parametrize(
    "meta",
    [
        ["plane", "car"],
        {"fine_label_names": ["plane", "car"]},
        {"label_names": []},
        {"label_names": ("plane", "car")},
        {"label_names": ["plane", 1]},
    ],
)
def test_a_cifar_file_without_class_names_is_an_error(tmp_path: Path, meta: object) -> None:
    cifar_batch(tmp_path, {"data": pixels(2), "labels": [0, 1]}, meta)
    assert message(tmp_path) == f"{tmp_path / 'batches.meta'}: the file holds no class names."


@pytest.mark.parametrize(
    "batch",
    [
        [0, 1],
        {"labels": [0, 1]},
        {"data": pixels(2)},
        {"data": b"\0" * 6144, "labels": [0, 1]},
        {"data": pixels(2), "labels": (0, 1)},
        {"data": pixels(2), "labels": [0, "1"]},
        {"data": pixels(2), "fine_labels": [0, 1]},
    ],
)
def test_a_cifar_batch_without_data_or_labels_is_an_error(tmp_path: Path, batch: object) -> None:
    file = cifar_batch(tmp_path, batch, {"label_names": ["plane", "car"]})
    assert message(tmp_path) == f"{file}: {NOT_AS_CIFAR}"


@pytest.mark.parametrize(
    ("data", "shape"), [(pixels(3), "(3, 3072)"), (pixels(2, 3071), "(2, 3071)"), (pixels(2).reshape(-1), "(6144,)")]
)
def test_a_cifar_batch_whose_counts_differ_is_an_error(tmp_path: Path, data: np.ndarray, shape: str) -> None:
    file = cifar_batch(tmp_path, {"data": data, "labels": [0, 1]}, {"label_names": ["plane", "car"]})
    assert message(tmp_path) == (
        f"{file}: the Python batch holds 2 labels and an array of shape {shape}; 3,072 values per label are needed."
    )


# ---- folders and tables


@pytest.mark.parametrize("below", [".", "cats", "cats/notes.txt"])
def test_a_split_folder_without_images_is_an_error(tmp_path: Path, below: str) -> None:
    for name in ("train/cats/1.jpg", "train/dogs/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    last = tmp_path / "test" / below
    (last.parent if last.suffix else last).mkdir(parents=True)
    if last.suffix:
        last.write_text("a note")
    assert message(tmp_path) == f"{tmp_path}: the split folder 'test' holds no images. {LAYOUTS}"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own on Windows")
def test_a_table_that_is_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.symlink_to(tmp_path / "gone.csv")
    assert message(tmp_path) == f"{table}: the table cannot be read (No such file or directory)."


# ---- IDX


def test_idx_labels_of_two_axes_are_an_error(tmp_path: Path) -> None:
    idx(tmp_path / "train-images-idx3-ubyte", 2, 5, 5)
    labels = idx(tmp_path / "train-labels-idx2-ubyte", 2, 3)
    assert message(tmp_path) == f"{labels}: labels need one axis, not 2 x 3."


def test_two_idx_data_sets_in_a_folder_are_an_error(tmp_path: Path) -> None:
    for prefix in ("letters-", "digits-"):
        idx(tmp_path / f"{prefix}train-images-idx3-ubyte", 2, 5, 5)
        idx(tmp_path / f"{prefix}train-labels-idx1-ubyte", 2)
    assert message(tmp_path) == (
        f"{tmp_path}: there are several datasets in one folder: digits-, letters-. Move one of them into its own folder."
    )


# ---- NPZ


def test_arrays_named_alike_but_for_capitals_are_an_error(tmp_path: Path) -> None:
    file = npz(tmp_path, x=np.eye(2), X=np.eye(2), y=[0, 1])
    assert message(file) == f"{file}: the names of two arrays differ only in case. Rename one."


@pytest.mark.parametrize(
    ("name", "values", "kind"), [("classes", [1.5, 2], "float64"), ("layout", np.uint8([0, 1]), "uint8")]
)
def test_class_names_and_a_layout_that_are_not_text_are_errors(tmp_path: Path, name: str, values: object, kind: str) -> None:
    file = npz(tmp_path, x=np.eye(2), y=[0, 1], **{name: values})
    assert message(file) == f"{file}: the array {name!r} has the type {kind}, but text is needed."
