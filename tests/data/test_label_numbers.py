"""Numbers of regression: which commas are read, refused and noted, and which numbers are suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.label_numbers import comma_notes, number_warnings, parse_numbers
from visus.errors import DataError

REMEDY = (
    ". Write each number without separators of thousands and with a decimal point, such as 2077 or 38.5. A comma is read as the decimal mark only where "
    "no number of the column has a point or exactly three digits after its comma, as in 38,5."
)


def table(folder: Path, cells: Sequence[str], *, head: str = "label", splits: Sequence[str] = ()) -> Path:
    """A table of an image and a number for each cell."""
    random = np.random.default_rng(0)
    rows = [f"path;{head}{';split' if splits else ''}"]
    for place, cell in enumerate(cells):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{place}.png")
        rows.append(f"{place}.png;{cell}{f';{splits[place]}' if splits else ''}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


def opened(file: Path, **options: str) -> visus.Data:
    return visus.open_data(file, task="regression", progress=False, pretrained=False, **options)


def refusal(file: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        opened(file, **options)
    return str(caught.value)


# ---- commas


def test_a_comma_before_three_digits_is_refused_with_its_rows(tmp_path: Path) -> None:
    file = table(tmp_path, ["665", "2,077", "700", "1,234,567"], head="weight")
    assert refusal(file, label_column="weight") == (
        f"{file}: the column 'weight' has commas that may separate thousands or decimals: '2,077' (1.png, row 3), '1,234,567' (3.png, row 5){REMEDY}"
    )


def test_commas_beside_points_are_refused(tmp_path: Path) -> None:
    file = table(tmp_path, ["2.077", "2,222", "5"])
    assert refusal(file) == (
        f"{file}: the column 'label' has commas that may separate thousands ('2,222' (1.png, row 3)) beside numbers with a point "
        f"('2.077' (0.png, row 2)){REMEDY}"
    )
    file = table(tmp_path, ["38,5", "40.5"])
    assert refusal(file) == (
        f"{file}: the column 'label' has numbers with a comma ('38,5' (0.png, row 2)) and with a point ('40.5' (1.png, row 3)){REMEDY}"
    )


def test_decimal_commas_are_read_and_noted(tmp_path: Path) -> None:
    data = opened(table(tmp_path, [f"{place},5" for place in range(9)] + ["7"]))
    assert sorted(data.samples.labels[:, 0]) == sorted([place + 0.5 for place in range(9)] + [7.0])
    assert "label: the comma is read as the decimal mark in 9 numbers: '0,5' is read as 0.5." in data.samples.notes


@given(st.lists(st.integers(1_000, 10**12), min_size=1, max_size=5))
def test_thousands_written_with_commas_are_never_read(numbers: list[int]) -> None:
    with pytest.raises(DataError, match="may separate thousands"):
        comma_notes([f"{number:,}" for number in numbers], ["sample"] * len(numbers), "here")


@given(st.lists(st.floats(-1e9, 1e9).map(lambda number: round(number, 2)), min_size=1, max_size=5))
def test_two_decimals_are_read_alike_with_a_comma_and_with_a_point(numbers: list[float]) -> None:
    samples = ["sample"] * len(numbers)
    points = [f"{number:.2f}" for number in numbers]
    commas = [text.replace(".", ",") for text in points]
    assert comma_notes(points, samples, "here") == ()
    assert len(comma_notes(commas, samples, "here")) == 1
    np.testing.assert_array_equal(parse_numbers(commas, samples, "here"), parse_numbers(points, samples, "here"))


def test_a_leading_zero_makes_a_comma_the_decimal_mark() -> None:
    assert comma_notes(["0,125"], ["a"], "here") == (
        "label: the comma is read as the decimal mark in 1 number: '0,125' is read as 0.125.",
    )


def test_each_target_has_its_own_decimal_mark() -> None:
    assert comma_notes(["1.5|2,5", "2.5|3"], ["a", "b"], "here", ["x", "y"]) == (
        "y: the comma is read as the decimal mark in 1 number: '2,5' is read as 2.5.",
    )


def test_a_cell_that_is_no_number_is_named_with_its_table_and_row(tmp_path: Path) -> None:
    file = table(tmp_path, ["37.5", "38.139 %"])
    assert refusal(file) == (
        f"{file}: the label of 1.png, row 3 is '38.139 %', and regression needs a finite number for each sample. Correct or remove each such row."
    )


def test_all_cells_that_are_no_numbers_are_named_where_most_are_numbers(tmp_path: Path) -> None:
    file = table(tmp_path, ["1.5", "nan", "old", "inf", *["2"] * 20])
    assert refusal(file) == (
        f"{file}: the label of 1.png, row 3 is 'nan', and regression needs a finite number for each sample. 2 more samples have none: 2.png, row 4; "
        "3.png, row 5. Correct or remove each such row."
    )
    file = table(tmp_path, [*["nan"] * 7, *["2"] * 20])
    named = "1.png, row 3; 2.png, row 4; 3.png, row 5; 4.png, row 6; 5.png, row 7; ..."
    assert f"6 more samples have none: {named}. Correct" in refusal(file)


def test_a_number_of_an_array_file_that_is_nan_is_named_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "signals.npz", x=np.zeros((4, 9)), y=[0.5, np.nan, 1, 2])
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "signals.npz", task="regression", progress=False)
    assert str(caught.value) == (
        f"{tmp_path / 'signals.npz'}: the label of x[1] is 'nan', and regression needs a finite number for each sample. Correct or remove each such sample."
    )


# ---- suspicious numbers


def test_a_number_far_from_all_others_is_named_with_its_row(tmp_path: Path) -> None:
    data = opened(table(tmp_path, [str(place) for place in range(19)] + ["9999"]))
    assert [each for each in data.warnings if "far from" in each] == [
        "1 number of the target 'label' is far from the others, half of which are between 4.75 and 14.25: 9999 (19.png, row 21). Correct it if it is a "
        "mistake: the loss follows such numbers most."
    ]


def test_numbers_within_ten_interquartile_ranges_are_no_outliers() -> None:
    numbers = np.array([*np.arange(20.0), 100.0])[:, None]
    assert number_warnings(numbers, ["sample"] * 21, ["size"], [True] * 21) == []


def test_a_target_that_is_mostly_one_number_has_no_outliers() -> None:
    numbers = np.array([0.0] * 19 + [3.0])[:, None]
    assert number_warnings(numbers, ["sample"] * 20, ["size"], [True] * 20) == []


def test_a_constant_target_is_a_warning_of_the_check(tmp_path: Path) -> None:
    warning = "the target 'label' is 7 in all training samples, so there is nothing to learn, and a training refuses it. Leave it out."
    assert warning in opened(table(tmp_path, ["7"] * 10)).warnings
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    assert warning in opened(table(tmp_path, ["7"] * 6 + ["8"] * 4, splits=splits)).warnings
    assert warning not in opened(table(tmp_path, ["7"] * 5 + ["8"] * 5, splits=splits)).warnings
