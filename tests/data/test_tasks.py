"""Labels as sets of classes and as numbers, from every source that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

import visus
from visus.data.label_numbers import parse_numbers
from visus.data.splits import assign, write_split_csv
from visus.data.tasks import encode_sets, label_text, split_sets, strata
from visus.errors import DataError, UsageError

SETS = [("cat", "dog"), ("cat",), ("dog",), ()]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Sixty images with a table: a cell of classes, two columns of 0 and 1, and a column of numbers."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["path,label,cat,dog,size,empty,word"]
    for place in range(60):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{place:02}.png")
        names = SETS[place % 4]
        rows.append(f"{place:02}.png,{';'.join(names)},{int('cat' in names)},{int('dog' in names)},{1.5 * place},,old")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


def opened(path: Any = None, **options: Any) -> visus.Data:
    return visus.open_data(path, progress=False, pretrained=False, **options)


@given(st.lists(st.lists(st.sampled_from(["a", "b b", "c"]), unique=True), min_size=1), st.sampled_from("|;,"))
def test_sets_of_classes_are_read_back_from_their_text(sets: list[list[str]], separator: str) -> None:
    classes = ["a", "b b", "c"]
    cells = [f" {separator} ".join(names) for names in sets]
    labels = encode_sets(split_sets(cells), classes)
    assert [set(names) for names in split_sets([label_text(row, "multi-label", classes) for row in labels])] == [
        set(names) for names in sets
    ]


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1, 1)), min_size=1, max_size=20))
def test_numbers_are_read_back_from_their_text_without_loss(rows: list[tuple[float, float]]) -> None:
    labels = np.array(rows)
    texts = [label_text(row, "regression", ["x", "y"]) for row in labels]
    np.testing.assert_array_equal(parse_numbers(texts, ["sample"] * len(texts), "here"), labels)


def test_a_table_with_sets_in_a_cell_and_in_columns_has_the_same_labels(images: Path) -> None:
    in_cells, in_columns = opened(images, task="multi-label"), opened(images, task="multi-label", label_column="cat,dog")
    assert in_cells.classes == in_columns.classes == ("cat", "dog")
    np.testing.assert_array_equal(in_cells.samples.labels, in_columns.samples.labels)
    assert in_cells.samples.labels[:4].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    assert in_cells.class_counts("train")["cat"] == int(in_cells.split("train").labels[:, 0].sum())


def test_columns_may_be_a_list_of_names(images: Path) -> None:
    in_list = opened(images, task="multi-label", label_column=["cat", "dog"])
    assert in_list.reading == opened(images, task="multi-label", label_column="cat,dog").reading


def test_a_column_of_numbers_is_read_as_it_is(images: Path) -> None:
    data = opened(images, task="regression", label_column="size")
    assert (data.task, data.classes) == ("regression", ("size",))
    assert data.samples.labels[:, 0].tolist() == [1.5 * place for place in range(60)]


def test_several_columns_of_numbers_are_several_targets(images: Path) -> None:
    data = opened(images, task="regression", label_column="size,cat")
    assert data.classes == ("size", "cat")
    assert data.samples.labels.shape == (60, 2)


def test_the_split_file_keeps_sets_and_numbers(images: Path, tmp_path: Path) -> None:
    for options in ({"task": "multi-label"}, {"task": "regression", "label_column": "size"}):
        data = opened(images, **options)
        write_split_csv(data.table, tmp_path / "split.csv")
        again = opened(images, split=tmp_path / "split.csv", **options)
        assert again.samples.splits.tolist() == data.samples.splits.tolist()
        assert again.fingerprint == data.fingerprint


def test_arrays_of_0_and_1_are_sets_of_classes_and_a_note_says_so(tmp_path: Path) -> None:
    y = np.random.default_rng(0).integers(0, 2, (80, 3))
    x = np.random.default_rng(1).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    data = opened(x=x, y=y, class_names=["a", "b", "c"], keep_in=tmp_path)
    assert (data.task, data.classes) == ("multi-label", ("a", "b", "c"))
    np.testing.assert_array_equal(data.samples.labels, y)
    assert any("so each sample has a set of classes (multi-label)" in note for note in data.samples.notes)
    one_hot = opened(x=x, y=np.arange(80) % 3, keep_in=tmp_path)
    assert one_hot.task == "single-label"


def test_a_dataset_of_vectors_is_multi_label_and_one_of_numbers_regression(tmp_path: Path) -> None:
    x, y = torch.zeros(60, 1, 8, 8), torch.arange(60)
    x += y[:, None, None, None]
    sets = opened(TensorDataset(x, torch.stack([y % 2, y % 3 // 2, y % 2], 1)), keep_in=tmp_path)
    assert (sets.task, sets.samples.labels.shape) == ("multi-label", (60, 3))
    numbers = opened(TensorDataset(x, y / 7), task="regression", keep_in=tmp_path)
    assert numbers.task == "regression"
    np.testing.assert_allclose(np.sort(numbers.samples.labels[:, 0]), np.arange(60) / 7, rtol=1e-6)


@given(st.integers(30, 300), st.integers(0, 5))
def test_a_split_keeps_the_proportions_of_numbers_and_sets(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for labels in (random.normal(size=(count, 1)), random.integers(0, 2, (count, 3)).astype(np.float32)):
        kinds = strata(labels)
        splits = assign(kinds, seed=seed)
        share = (splits == "test").mean()
        for kind in np.unique(kinds):
            inside = kinds == kind
            assert abs((splits[inside] == "test").sum() - share * inside.sum()) <= 2


def test_class_names_that_look_like_sets_are_pointed_out(images: Path) -> None:
    images.write_text(images.read_text().replace("\n", "\n", 1).replace(",,0,0,", ",cat,0,0,"))
    data = opened(images)
    warning = next(each for each in data.warnings if "sets of classes" in each)
    assert warning == (
        "class names such as 'cat;dog' may be sets of classes. task='multi-label' reads them as sets, so that a sample can have several classes."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label_column": "size"},
            "60 classes (0.0, 1.5, 3.0, 4.5, 6.0 and 55 more) have 1 sample; at least 2 are needed, one for training and one for testing. Add samples "
            "of that class, or remove the class. The labels look like numbers: task='regression' predicts them as numbers.",
        ),
        (
            {"task": "regression"},
            "rows 5, 9, 13, 17, 21 and 10 more: no label. Write it, or remove the row.",
        ),
        (
            {"task": "regression", "label_column": "word"},
            "the label of 00.png, row 2 is 'old', and regression needs a finite number for each sample. Correct or remove each such row.",
        ),
        (
            {"task": "multi-label", "label_column": "cat,size"},
            "row 3 has '1.5' in a column of a class; 0 or 1 is needed.",
        ),
        (
            {"task": "multi-label", "label_column": "cat,empty"},
            "60 rows have an empty cell in a column of a class: rows 2 (empty), 3 (empty), 4 (empty), 5 (empty), 6 (empty) and 55 more. Write 1 where the "
            "class applies, and 0 where it does not.",
        ),
        (
            {"task": "multi-label", "label_column": "cat,dogs"},
            "there is no column 'dogs' (--label-column). Did you mean 'dog'? The columns are path,label,cat,dog,size,empty,word.",
        ),
        ({"task": "multi-label", "label_column": "empty"}, "no sample has a label. Give at least two classes."),
    ],
)
def test_labels_that_do_not_fit_the_task_are_refused(images: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(images, **options)
    assert caught.value.message == message


def test_an_unknown_task_names_the_closest() -> None:
    with pytest.raises(UsageError) as caught:
        opened(task="multilabel")
    assert str(caught.value) == (
        "unknown task 'multilabel'. Did you mean 'multi-label'? Known: multi-label, regression, single-label."
    )


def test_folders_name_one_class_and_are_refused_for_sets(images: Path) -> None:
    for name in ("a", "b"):
        (images.parent / name).mkdir()
    for place, file in enumerate(sorted(images.parent.glob("*.png"))):
        file.rename(images.parent / "ab"[place % 2] / file.name)
    images.unlink()
    with pytest.raises(DataError) as caught:
        opened(images.parent, task="multi-label")
    assert caught.value.message == (
        "multi-label needs several classes for a sample, and a folder names one. Write a table with the columns path and label, such as 1.jpg,cat|dog."
    )


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (
            np.array([["a"], ["b"]] * 20),
            "regression",
            "the labels are <U1 of the shape 40 x 1; regression needs numbers, (n,) or (n, targets).",
        ),
        (
            np.full((40, 2), 3),
            "multi-label",
            "the labels are int64 of the shape 40 x 2; multi-label needs 0 and 1 for each class, (n, classes).",
        ),
        (
            np.tile([[1, 1], [0, 1]], (20, 1)),
            "single-label",
            "20 of 40 rows of the labels name no class or several classes, and single-label needs exactly one. Remove those rows, or leave out "
            "task='single-label'.",
        ),
        (
            np.linspace(0, 1, 40),
            None,
            "the label of row 1 is 0.02564102564102564, which is not an integer. For numbers that are no classes: task='regression'.",
        ),
    ],
)
def test_arrays_that_do_not_fit_the_task_are_refused(y: Any, task: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(x=np.zeros((40, 8, 8), np.uint8), y=y, task=task, keep_in=tmp_path)
    assert caught.value.message == message


def test_class_names_of_another_number_than_columns_are_refused(tmp_path: Path) -> None:
    y = np.tile([[1, 1], [0, 1]], (20, 1))
    with pytest.raises(DataError) as caught:
        opened(x=np.zeros((40, 8, 8), np.uint8), y=y, class_names=["a"], keep_in=tmp_path)
    assert caught.value.message == "there is 1 class name for 2 columns of labels."
    for names, said in (
        (["w"], "there is 1 class name for 2 columns of labels."),
        ("abc", "there are 3 class names for 2 columns of labels."),
    ):
        with pytest.raises(DataError) as caught:
            opened(x=np.zeros((40, 8, 8), np.uint8), y=y / 7, task="regression", class_names=list(names), keep_in=tmp_path)
        assert caught.value.message == said


def test_one_blank_cell_in_the_columns_of_classes_is_named(images: Path) -> None:
    images.write_text(images.read_text().replace("dog,0,1,", "dog,,1,", 1))
    with pytest.raises(DataError) as caught:
        opened(images, task="multi-label", label_column="cat,dog")
    assert caught.value.message == (
        "1 row has an empty cell in a column of a class: row 4 (cat). Write 1 where the class applies, and 0 where it does not."
    )


def test_a_column_of_a_class_without_a_sample_is_a_warning_as_for_arrays(images: Path) -> None:
    images.write_text(images.read_text().replace(",,old", ",0,old"))
    warning = "classes without a sample, which the class list leaves out: empty."
    data = opened(images, task="multi-label", label_column="Dog,cat,empty")
    assert data.classes == ("cat", "Dog"), "in natural order, not in that of the columns"
    assert warning in data.warnings
    arrays = visus.open_data(
        x=np.arange(40 * 64, dtype=np.float32).reshape(40, 64),
        y=np.tile([[1, 1, 0], [0, 1, 0]], (20, 1)),
        class_names=["cat", "dog", "empty"],
        keep_in=images.parent / "kept",
        progress=False,
    )
    assert warning in arrays.warnings


def test_a_class_name_in_another_form_of_unicode_has_its_samples(images: Path) -> None:
    images.write_text(images.read_text().replace("path,label,cat", "path,label,che\u0301", 1))
    data = opened(images, task="multi-label", label_column="che\u0301,dog")
    assert (data.classes, data.warnings) == (("ch\u00e9", "dog"), ())


def test_several_numbers_in_one_cell_are_numbered_targets(images: Path) -> None:
    images.write_text(images.read_text().replace(",,old", ",1|2.5,old").replace(",1|2.5,", ",3|0.5,", 1))
    data = opened(images, task="regression", label_column="empty")
    assert data.classes == ("empty 1", "empty 2")
    assert data.samples.labels[:2].tolist() == [[3, 0.5], [1, 2.5]]


def test_folders_of_classes_are_refused_for_numbers_with_the_remedy(images: Path) -> None:
    (images.parent / "cat").mkdir()
    for file in images.parent.glob("*.png"):
        file.rename(images.parent / "cat" / file.name)
    images.unlink()
    (images.parent / "12").mkdir()
    (images.parent / "cat" / "00.png").rename(images.parent / "12" / "00.png")
    with pytest.raises(DataError) as caught:
        opened(images.parent, task="regression")
    assert caught.value.message == (
        "the label of cat/01.png is 'cat', and regression needs a finite number for each sample. The labels of this data are names of classes: write "
        "a table with the columns path and label, such as 1.jpg,12.5."
    )


def test_a_label_of_a_dataset_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(_Pairs("old"), task="regression", keep_in=tmp_path)
    assert str(caught.value) == "a label of regression is a number or a list of numbers, and not 'old'."


class _Pairs:
    """A dataset of four samples with one label."""

    def __init__(self, label: Any) -> None:
        self._label = label

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return np.full((1, 4, 4), place, np.uint8), self._label


def test_labels_of_several_lengths_are_refused(images: Path) -> None:
    with pytest.raises(DataError) as caught:
        parse_numbers(["1|2", "3"], ["a.png", "b.png"], "here")
    assert caught.value.message == "the labels have different numbers of values. Give each sample the same targets."


def test_regression_without_a_readable_training_image_says_so(tmp_path: Path) -> None:
    rows = ["path,label,split"]
    for place, split in enumerate(("train", "train", "test", "test")):
        file = tmp_path / f"{place}.png"
        Image.fromarray(np.full((8, 8), place, np.uint8)).save(file)
        if split == "train":
            file.write_bytes(b"no image")
        rows.append(f"{file.name},{place},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "table.csv", task="regression", max_unreadable=0.9)
    assert caught.value.message == "no readable training samples are left. Repair the files that were left out."
