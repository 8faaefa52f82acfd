"""Warnings about suspicious class names and placeholder images, and none for sound data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import visus
from visus.data.ledger import Ledger
from visus.data.sources import read_source

from .conftest import MakeFolder
from .test_layouts import lay, read


@pytest.mark.parametrize("name", ["Not sure", "not_sure", "Skip", "unknown", "misc", "trash", "UNLABELED", "_unsorted"])
def test_a_class_of_leftovers_is_warned_of(tmp_path: Path, name: str) -> None:
    assert read(lay(tmp_path, "cat", "dog", name)).warnings == (
        f"class names that may stand for unsorted images: {name!r} (3 samples). Remove these samples if they are not a class.",
    )


@pytest.mark.parametrize("name", ["otter", "good", "bad", "normal", "none-of-these", "skipjack", "background", "0", "Other"])
def test_an_ordinary_class_is_not(tmp_path: Path, name: str) -> None:
    assert read(lay(tmp_path, "cat", "dog", name)).warnings == ()


def test_empty_cells_and_spellings_among_labels_are_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, "x")
    names = ["cat", "Cat", "nan", "new york", "new_york", "-1", "1"]
    lay(tmp_path, *[f"x/{number}.jpg" for number in range(3, 14)])
    rows = [f"x/{number}.jpg,{names[number % 7]}\n" for number in range(14)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(rows))
    assert read(tmp_path / "labels.csv").warnings == (
        "class names that may stand for a missing label: 'nan' (2 samples). Remove these samples if they have no label.",
        "the classes 'Cat', 'cat' differ only in capitals, spaces or punctuation. Give them one name if they are one class.",
        "the classes 'new york', 'new_york' differ only in capitals, spaces or punctuation. Give them one name if they are one class.",
    )


@pytest.mark.parametrize(
    "name", ["imageNotFound.gif", "no-photo.jpg", "image_unavailable 2.png", "placeholder(1).jpg", "404.jpg"]
)
def test_a_file_named_like_a_placeholder_is_warned_of(tmp_path: Path, name: str) -> None:
    lay(tmp_path, "ants", "bees", f"ants/{name}", num_images=9)
    assert read(tmp_path).warnings == (
        f"1 image is named like a placeholder (ants/{name}). Look at it, and delete it if it shows none of the classes.",
    )


@pytest.mark.parametrize("name", ["found.jpg", "no_tumor_12.jpg", "default.jpg", "blank1.jpg", "4040.jpg", "notary.jpg"])
def test_a_file_with_an_ordinary_name_is_not(tmp_path: Path, name: str) -> None:
    lay(tmp_path, "ants", "bees", f"ants/{name}", num_images=9)
    assert read(tmp_path).warnings == ()


def test_a_placeholder_under_many_names_is_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog", num_images=30)
    for name in ("cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "dog/4.jpg", "dog/5.jpg"):
        (tmp_path / name).write_text("image not found")
    assert read(tmp_path).warnings[-1] == (
        "one image occurs 5 times under different names in 2 classes (cat/1.jpg, cat/2.jpg, cat/3.jpg, dog/4.jpg, dog/5.jpg). "
        "If it is a placeholder, such as 'image not found', delete these files."
    )


def test_classes_that_were_copied_to_even_out_are_no_placeholders(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog", num_images=30)
    for number in range(30):
        (tmp_path / f"dog/{number}.jpg").write_text(f"dog {number % 6}")
    ledger = Ledger()
    assert read_source(tmp_path, ledger).warnings == ()
    assert ledger.counts["duplicate"] == 24


def test_intact_images_are_warned_of_by_nothing(make_folder: MakeFolder, tmp_path: Path) -> None:
    assert visus.open_data(make_folder({"cat": 20, "dog": 20}), cache_dir=tmp_path / "cache").warnings == ()


@pytest.mark.parametrize("name", ["photos_dog_cat", "photos_sign_digits"])
def test_real_photos_are_warned_of_by_nothing(real_data: Callable[[str], Path], name: str) -> None:
    assert read_source(real_data(name), Ledger()).warnings == ()
