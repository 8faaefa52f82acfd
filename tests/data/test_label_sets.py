"""Sets of classes: how their texts are read, and which texts are suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.label_sets import read_cells, set_warnings, write_cells
from visus.data.tasks import split_sets
from visus.errors import DataError


def opened(folder: Path, cells: Sequence[str]) -> visus.Data:
    """The data of a table with an image for each cell."""
    random = np.random.default_rng(0)
    rows = ["path\tlabel"]
    for place, cell in enumerate(cells):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{place}.png")
        rows.append(f"{place}.png\t{cell}")
    (folder / "table.tsv").write_text("\n".join(rows))
    return visus.open_data(folder / "table.tsv", task="multi-label", progress=False, pretrained=False)


# ---- lists


@given(st.lists(st.lists(st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1)), min_size=1))
def test_lists_that_python_wrote_are_read_as_their_names(sets: list[list[str]]) -> None:
    found, notes = read_cells([repr(names) for names in sets], ["sample"] * len(sets), "here")
    assert [list(each) for each in found] == [
        list(dict.fromkeys(name.strip() for name in names if name.strip())) for names in sets
    ]
    assert len(notes) == 1


def test_a_column_that_pandas_wrote_is_read_with_a_note(tmp_path: Path) -> None:
    data = opened(tmp_path, ["['shoe', 'warm']", "[]", "['shoe']", "['warm']"] * 5)
    assert data.classes == ("shoe", "warm")
    assert sorted(data.samples.labels.tolist()) == sorted([[1, 1], [0, 0], [1, 0], [0, 1]] * 5)
    assert "20 labels written as lists, such as \"['shoe', 'warm']\", are read as the classes in them." in data.samples.notes


@pytest.mark.parametrize("cell", ["['shoe' 'warm']", "[shoe, warm]"])
def test_a_list_without_commas_or_quotes_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, ["['shoe']", cell])
    assert str(caught.value) == (
        f"{tmp_path / 'table.tsv'}: the label of 1.png, row 3 is {cell!r}, a list that cannot be read. Write the classes with ';' between them, "
        "such as shoe;warm."
    )


def test_lists_beside_other_separators_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        read_cells(["['shoe', 'warm']", "shoe;open"], ["a", "b"], "here")
    assert str(caught.value) == (
        "here: some labels are written as lists, such as \"['shoe', 'warm']\", and others with separators, such as 'shoe;open'. Write all of them in one way."
    )


def test_a_class_name_with_brackets_is_no_list() -> None:
    cells = ["cat (old);dog", "(new) cat", "dog"]
    assert read_cells(cells, ["a", "b", "c"], "here") == (split_sets(cells), ())


@given(st.lists(st.lists(st.text(st.characters(categories=["L", "P"]), min_size=1), unique=True), min_size=1))
def test_sets_are_read_as_they_were_written(sets: list[list[str]]) -> None:
    assert read_cells(write_cells(sets), ["sample"] * len(sets), "here")[0] == [tuple(each) for each in sets]


# ---- separators


def test_tags_separated_by_spaces_are_a_warning(tmp_path: Path) -> None:
    data = opened(tmp_path, ["shoe open", "shoe", "open", "warm shoe", "warm"] * 4)
    assert (
        "spaces do not separate classes, so 'shoe open', 'warm shoe' are one class each, although other classes have the same words. If spaces "
        "separate the classes, write ';' instead of them." in data.warnings
    )


def test_class_names_of_several_words_are_no_warning() -> None:
    assert set_warnings(["red shirt;old shoe", "green hat", "dress"]) == []


def test_two_separators_are_a_warning(tmp_path: Path) -> None:
    data = opened(tmp_path, ["shoe|open", "shoe;warm", "open", "shoe"] * 5)
    assert (
        "classes are separated by '|', and class names contain another separator: 'shoe;warm'. Write '|' everywhere if these are several classes."
        in data.warnings
    )


@given(st.lists(st.lists(st.sampled_from("abc"), unique=True), min_size=1), st.sampled_from("|;,"))
def test_sets_with_one_separator_are_read_without_a_warning(sets: list[list[str]], separator: str) -> None:
    cells = [separator.join(names) for names in sets]
    assert read_cells(cells, ["sample"] * len(cells), "here") == ([tuple(names) for names in sets], ())
    assert set_warnings(cells) == []
