"""Arrays and datasets that a program holds are read as the same samples in files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import visus
from visus.errors import DataError, StorageError, UsageError
from visus.progress import Monitor
from visus.workbench.given_datasets import is_dataset
from visus.workbench.given_samples import save_dataset

NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture
def x() -> Any:
    """Forty color images of 12 x 10 pixels in memory, each another one."""
    return np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3), dtype=np.uint8)


@pytest.fixture
def y() -> Any:
    return np.arange(40) % 4


def opened(tmp_path: Path, *given: Any, **options: Any) -> visus.Data:
    return visus.open_data(*given, keep_in=tmp_path / "kept", progress=False, **options)


def samples(data: visus.Data) -> dict[str, tuple[list[str], Any]]:
    """Class names and stored values of each split, in an order that does not depend on the names of the samples."""
    found = {}
    for split in ("train", "val", "test"):
        part = data.split(split)
        values = part.pixels[part.indices]
        order = np.lexsort(values.reshape(len(values), -1).T)
        found[split] = [data.classes[label] for label in part.labels[order]], values[order]
    return found


def assert_same(first: visus.Data, second: visus.Data, splits: tuple[str, ...] = ("train", "val", "test")) -> None:
    one, two = samples(first), samples(second)
    for split in splits:
        assert one[split][0] == two[split][0]
        np.testing.assert_array_equal(one[split][1], two[split][1])


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, list], ids=["arrays", "tensors", "lists"])
def test_arrays_are_read_as_the_same_arrays_in_a_file(convert: Callable[[Any], Any], x: Any, y: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "same.npz", x=x, y=y, classes=NAMES)
    in_file = visus.open_data(tmp_path / "same.npz", progress=False)
    assert_same(opened(tmp_path, x=convert(x), y=convert(y), class_names=NAMES), in_file)


def test_a_test_set_and_groups_of_arrays_are_kept(x: Any, y: Any, tmp_path: Path) -> None:
    split = opened(tmp_path, x=x[:30], y=y[:30], x_test=x[30:], y_test=y[30:])
    assert len(split.split("test")) == 10
    np.testing.assert_array_equal(np.sort(samples(split)["test"][1], axis=None), np.sort(x[30:], axis=None))
    grouped = opened(tmp_path, x=x, y=y, groups=[f"p{number // 4}" for number in range(40)])
    assert {len(grouped.split(each)) % 4 for each in ("train", "val", "test")} == {0}


def test_a_validation_set_of_arrays_is_kept(x: Any, y: Any, tmp_path: Path) -> None:
    both = opened(tmp_path, x=x[:24], y=y[:24], x_val=x[24:32], y_val=y[24:32], x_test=x[32:], y_test=y[32:])
    assert [len(both.split(each)) for each in ("train", "val", "test")] == [24, 8, 8]
    np.testing.assert_array_equal(np.sort(samples(both)["val"][1], axis=None), np.sort(x[24:32], axis=None))
    alone = opened(tmp_path, x=x[:32], y=y[:32], x_val=x[32:], y_val=y[32:])
    assert [len(alone.split(each)) for each in ("train", "val", "test")] == [32, 8, 0]


def test_tensors_of_bfloat16_keep_their_values(x: Any, y: Any, tmp_path: Path) -> None:
    short = torch.from_numpy(x).bfloat16()
    assert_same(opened(tmp_path, x=short, y=y), opened(tmp_path, x=short.float(), y=y))


def test_lists_of_class_names_are_sets_of_classes(x: Any, tmp_path: Path) -> None:
    labels = [[], ["cat"], ["cat", "dog"], ("dog",)] * 10
    data = opened(tmp_path, x=x, y=labels)
    assert (data.task, data.classes) == ("multi-label", ("cat", "dog"))
    hot = np.array([[0, 0], [1, 0], [1, 1], [0, 1]] * 10)
    expected = opened(tmp_path, x=x, y=hot, class_names=["cat", "dog"])
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(data.split(split).labels, expected.split(split).labels)
    assert opened(tmp_path, x=x, y=[set(each) for each in labels]).task == "multi-label"


def test_a_list_of_pairs_is_a_dataset(x: Any, y: Any, tmp_path: Path) -> None:
    pairs = [(Image.fromarray(sample), NAMES[label]) for sample, label in zip(x, y, strict=True)]
    assert_same(opened(tmp_path, pairs), opened(tmp_path, Images(x, y)))


def test_a_table_of_pandas_names_images_below_the_current_folder(
    x: Any, y: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas", reason="the package pandas is not installed")
    monkeypatch.chdir(tmp_path)
    for place, sample in enumerate(x):
        Image.fromarray(sample).save(f"{place}.png")
    table = pandas.DataFrame({"file": [f"{place}.png" for place in range(40)], "kind": [NAMES[label] for label in y]})
    data = opened(tmp_path, table, path_column="file", label_column="kind")
    assert_same(data, opened(tmp_path, Images(x, y)))
    assert opened(tmp_path, table.rename(columns={"file": "path", "kind": "label"})).num_samples == 40
    assert list(table["file"][:2]) == ["0.png", "1.png"], "the table itself is unchanged"


@pytest.mark.long
def test_equal_arrays_are_saved_once_and_later_steps_read_them_again(x: Any, y: Any, tmp_path: Path) -> None:
    first, second = opened(tmp_path, x=x, y=y), opened(tmp_path, x=x, y=y)
    assert first.given == second.given
    assert [each.name for each in (tmp_path / "kept").iterdir()] == [Path(str(first.given)).name]
    recipe = visus.Recipe(epochs=1, device="cpu", precision="float32")
    run = visus.train(first, "conv(4, 3), relu, globalpool, linear(classes)", recipe, output=tmp_path, progress=False)
    assert run.evaluate(progress=False).accuracy == run.scores.accuracy


class Images(Dataset[Any]):
    """A dataset of Pillow images, as torchvision's folders are."""

    classes = NAMES

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> Any:
        return Image.fromarray(self.x[place]), int(self.y[place])


def test_a_dataset_of_tensors_is_read_as_its_arrays(x: Any, y: Any, tmp_path: Path) -> None:
    given = TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y))
    assert_same(opened(tmp_path, given, layout="NCHW"), opened(tmp_path, x=x, y=y))


def test_a_dataset_of_images_is_read_pixel_by_pixel(x: Any, y: Any, tmp_path: Path) -> None:
    data = opened(tmp_path, Images(x, y), img_size=(12, 10))
    assert data.classes == tuple(NAMES)
    stored = np.concatenate([samples(data)[each][1] for each in ("train", "val", "test")])
    expected = x.transpose(0, 3, 1, 2)
    assert sorted(each.tobytes() for each in stored) == sorted(each.tobytes() for each in expected)


def test_each_sample_of_a_dataset_is_read_once(x: Any, y: Any, tmp_path: Path) -> None:
    read: list[int] = []

    class Counted(Images):
        def __getitem__(self, place: int) -> Any:
            read.append(place)
            return super().__getitem__(place)

    opened(tmp_path, Counted(x, y))
    assert read == list(range(40))


def test_a_mapping_of_splits_keeps_them(x: Any, y: Any, tmp_path: Path) -> None:
    parts = {"train": Images(x[:24], y[:24]), "validation": Images(x[24:32], y[24:32]), "test": Images(x[32:], y[32:])}
    images = opened(tmp_path, parts)
    tensors = opened(
        tmp_path,
        {
            name: TensorDataset(torch.from_numpy(each.x).permute(0, 3, 1, 2), torch.from_numpy(each.y))
            for name, each in parts.items()
        },
        layout="NCHW",
    )
    for data in (images, tensors):
        assert [len(data.split(each)) for each in ("train", "val", "test")] == [24, 8, 8]


class ClassLabel:
    names = NAMES


class Value:
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class HuggingFace:
    """What ``datasets.Dataset`` is for visus: features, a length, and a mapping for each place."""

    def __init__(self, x: Any, y: Any, **more: Any) -> None:
        image = type("Image", (), {})()
        self.x, self.y, self.features = x, y, {"picture": image, "kind": ClassLabel()} | more
        self.features = {name: kind for name, kind in self.features.items() if kind is not None}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> Any:
        return {"picture": Image.fromarray(self.x[place]), "kind": int(self.y[place]), "age": place / 4, "weight": place}


def test_images_and_labels_of_hugging_face_are_found_by_their_features(x: Any, y: Any, tmp_path: Path) -> None:
    assert_same(opened(tmp_path, HuggingFace(x, y)), opened(tmp_path, Images(x, y)))


def test_a_real_dataset_of_hugging_face_is_read(x: Any, y: Any, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=NAMES)})
    rows = {"image": [Image.fromarray(each) for each in x], "label": y.tolist()}
    given = library.Dataset.from_dict(rows, features=features)
    assert_same(opened(tmp_path, given), opened(tmp_path, Images(x, y)))


def test_the_one_column_of_numbers_of_hugging_face_is_the_label_of_regression(x: Any, y: Any, tmp_path: Path) -> None:
    numbers = HuggingFace(x, y, kind=None, age=Value("float64"), name=Value("string"))
    data = opened(tmp_path, numbers, task="regression")
    assert (data.task, sorted(data.samples.labels[:, 0])) == ("regression", [place / 4 for place in range(40)])


def test_the_label_column_chooses_a_column_of_hugging_face(x: Any, y: Any, tmp_path: Path) -> None:
    several = HuggingFace(x, y, age=Value("float64"), weight=Value("int64"))
    data = opened(tmp_path, several, task="regression", label_column="weight")
    assert sorted(data.samples.labels[:, 0]) == list(range(40))
    assert_same(opened(tmp_path, several, label_column="kind"), opened(tmp_path, Images(x, y)))
    message = "a label is a whole number or a text, and not 0.25. For numbers that are no classes: task='regression'."
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, several, label_column="age")
    assert str(caught.value) == message


def test_a_label_column_of_a_dataset_without_columns_is_refused(x: Any, y: Any, tmp_path: Path) -> None:
    given = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    with pytest.raises(DataError, match="--label-column and --skip-missing apply to tables, but this was read as npy"):
        opened(tmp_path, given, label_column="age")


def objects(*values: Any) -> Any:
    """An array of Python objects, as a column of pandas is."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


SETS: list[list[int]] = [[], [2], [2, 3], [3]] * 10


@pytest.mark.parametrize(
    "labels",
    [
        SETS,
        objects(*SETS),
        [set(each) for each in SETS],
        [np.array(each, dtype=int) for each in SETS],
        [[NAMES[place] for place in each] for each in SETS],
        objects(*([NAMES[place] for place in each] for each in SETS)),
    ],
    ids=["lists", "objects", "sets", "arrays", "names", "objects of names"],
)
def test_lists_of_classes_are_sets_as_those_of_a_dataset(labels: Any, x: Any, tmp_path: Path) -> None:
    data = opened(tmp_path, x=x, y=labels, class_names=NAMES)
    assert (data.task, data.classes) == ("multi-label", ("cat", "dog"))
    assert data.samples.labels[:4].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert "classes without a sample, which the class list leaves out: ant, bee." in data.warnings
    rows = [each.tolist() if isinstance(each, np.ndarray) else each for each in labels]
    pairs = opened(tmp_path, list(zip(x, rows, strict=True)), task="multi-label")
    assert pairs.samples.labels.tolist() == data.samples.labels.tolist()


def test_sets_are_labels_of_a_dataset(x: Any, tmp_path: Path) -> None:
    names = opened(tmp_path, [(sample, {"cat", "dog"} if place % 2 else {"cat"}) for place, sample in enumerate(x)])
    assert (names.task, names.classes) == ("multi-label", ("cat", "dog"))
    assert names.samples.labels[:2].tolist() == [[1, 0], [1, 1]]


def test_lists_of_one_length_are_classes_only_where_sets_are_asked_for_and_they_are_not_0_and_1(
    x: Any, tmp_path: Path
) -> None:
    data = opened(tmp_path, x=x, y=[[0, 1], [1, 2]] * 20, task="multi-label")
    assert (data.classes, data.samples.labels[:2].tolist()) == (("0", "1", "2"), [[1, 1, 0], [0, 1, 1]])
    hot = opened(tmp_path, x=x, y=[[0, 1], [1, 1]] * 20)
    assert (hot.classes, hot.samples.labels[:2].tolist()) == (("0", "1"), [[0, 1], [1, 1]])


def labels_of(data: visus.Data) -> dict[str, list[float]]:
    """The labels of all samples by their names."""
    parts = [data.split(split) for split in ("train", "val", "test")]
    return {name: label for part in parts for name, label in zip(part.names, part.labels.tolist(), strict=True)}


CATS_AND_DOGS = ["cat", "dog"] * 20


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(CATS_AND_DOGS),
        pd.Series(CATS_AND_DOGS, dtype="category"),
        pd.Categorical(CATS_AND_DOGS),
        pd.Index(CATS_AND_DOGS),
        pd.DataFrame({"label": CATS_AND_DOGS}),
        pd.DataFrame({"label": CATS_AND_DOGS}).to_numpy(dtype=object),
        pd.get_dummies(pd.Series(CATS_AND_DOGS)),
    ],
    ids=["series", "category", "categorical", "index", "table", "column of objects", "dummies"],
)
def test_labels_of_pandas_are_one_class_for_each_sample(labels: Any, x: Any, tmp_path: Path) -> None:
    assert_same(opened(tmp_path, x=x, y=labels), opened(tmp_path, x=x, y=CATS_AND_DOGS))


def test_columns_of_a_table_of_pandas_name_the_classes_and_targets(x: Any, tmp_path: Path) -> None:
    sets = opened(tmp_path, x=x, y=pd.DataFrame({"cat": [1, 1] * 20, "dog": [0, 1] * 20}))
    assert (sets.task, sets.classes) == ("multi-label", ("cat", "dog"))
    numbers = opened(
        tmp_path, x=x, y=pd.DataFrame({"age": np.arange(40.0), "height": np.arange(40.0) ** 2}), task="regression"
    )
    assert numbers.classes == ("age", "height")
    swapped = opened(tmp_path, x=x, y=pd.DataFrame({"cat": [1, 1] * 20, "dog": [0, 1] * 20}), class_names=["dog", "cat"])
    assert swapped.classes == ("dog", "cat")
    assert labels_of(swapped) == {name: label[::-1] for name, label in labels_of(sets).items()}
    whole = opened(tmp_path, x=x, y=pd.get_dummies(pd.Series([5, 6, 7, 6] * 10)))
    assert_same(whole, opened(tmp_path, x=x, y=np.array([5, 6, 7, 6] * 10)))
    given = opened(tmp_path, x=x, y=pd.DataFrame(np.array([[1, 1], [0, 1]] * 20)))
    assert given.classes == ("0", "1")


@pytest.mark.parametrize("values", [[0, 1], [0.0, 1.0], [np.True_, np.False_], ["a", "b"], [[0, 1], [1, 1]]])
def test_arrays_of_objects_of_one_kind_are_read_as_the_same_lists(values: list[Any], x: Any, tmp_path: Path) -> None:
    in_objects, in_lists = opened(tmp_path, x=x, y=objects(*values * 20)), opened(tmp_path, x=x, y=values * 20)
    assert in_objects.classes == in_lists.classes
    np.testing.assert_array_equal(in_objects.samples.labels, in_lists.samples.labels)


def test_a_part_that_is_none_is_left_out(x: Any, y: Any, tmp_path: Path) -> None:
    assert_same(opened(tmp_path, x=x, y=y, x_val=None, y_val=None), opened(tmp_path, x=x, y=y))
    folder = tmp_path / "photos"
    for place, label in enumerate(y):
        (folder / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[place]).save(folder / NAMES[label] / f"{place}.png")
    assert opened(tmp_path, folder, x=None, y=None).num_samples == 40


class Rows(Dataset[Any]):
    """Rows as they are."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.rows[place]


BOTH = pd.DataFrame({"cat": [1, 1], "dog": [0, 1]})
LABELS = (
    "Labels are whole numbers or texts; lists of classes (multi-label); or numbers, as many for each sample (regression)."
)
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no labels", {"x": np.zeros((4, 3))}, "x is given without y. Give both."),
    ("no samples", {"y": [0, 1]}, "y is given without x. Give x and y."),
    (
        "too few labels",
        {"x": np.zeros((4, 3)), "y": [0, 1]},
        "x has 4 samples, and y has 2 labels. Give one label for each sample.",
    ),
    (
        "several shapes",
        {"x": [np.zeros(3), np.zeros(4)], "y": [0, 1]},
        "x is no array of numbers or texts. Samples of several shapes cannot be stacked: pad or cut signals to one length; save images as files, or give "
        "a dataset that returns images of Pillow.",
    ),
    (
        "groups beside a test set",
        {"x": np.zeros((2, 3)), "y": [0, 1], "x_test": np.zeros((2, 3)), "y_test": [0, 1], "groups": [0, 1]},
        "groups are for data whose split visus makes, and x_test is given. Leave out groups, or x_test and y_test.",
    ),
    ("an empty dataset", {"path": Images([], [])}, "the dataset is empty. Give one with samples."),
    (
        "no pairs",
        {"path": TensorDataset(torch.zeros(3, 4))},
        "item 0 of the dataset is no pair of a sample and its label, but a tuple. Return (sample, label).",
    ),
    (
        "rows of a dataset that are mappings",
        {"path": Rows([{"image": np.zeros((4, 4), np.uint8), "label": 0}])},
        "item 0 of the dataset is no pair of a sample and its label, but a dict. Return (sample, label).",
    ),
    (
        "paths in a dataset",
        {"path": [("a.png", "ant"), ("b.png", "bee")]},
        "sample 0 is the text 'a.png', and a dataset returns the sample itself: an image of Pillow, an array or a tensor. For files, give a table with the "
        "columns path and label.",
    ),
    (
        "a label without a name",
        {"path": Images(np.zeros((2, 4, 4), np.uint8), [0, 7])},
        "the label 7 has no class name: there are 4 class names, for the labels 0 to 3.",
    ),
    (
        "labels that are no classes",
        {"path": TensorDataset(torch.zeros(2, 4), torch.full((2,), 0.5))},
        "a label is a whole number or a text, and not 0.5. For numbers that are no classes: task='regression'.",
    ),
    (
        "a vector of numbers of classes",
        {"path": [(np.zeros(4), np.array([0, 2]))]},
        "a vector as a label holds 0 or 1 for each class, and not 2. Return a list for the numbers of classes.",
    ),
    (
        "a label of another type",
        {"path": [(np.zeros(4), b"cat")]},
        "a label is a whole number or a text, and not a bytes.",
    ),
    (
        "a split of another name",
        {"path": {"train": Images([1], [0]), "unsupervised": Images([1], [0])}},
        "the dataset has a part 'unsupervised', and a split is train, validation or test. Rename the part, or leave it out.",
    ),
    (
        "two columns of images",
        {"path": HuggingFace([1], [0], mask=type("Image", (), {})())},
        "one column of images and one of labels are needed, and the dataset has picture (Image), kind (ClassLabel), mask (Image). Choose the labels "
        "with label_column, and the images with dataset.select_columns([image, label]).",
    ),
    (
        "two columns of numbers",
        {"path": HuggingFace([1], [0], age=Value("float64")), "task": "regression"},
        "one column of images and one of labels are needed, and the dataset has picture (Image), kind (ClassLabel), age (Value). Choose the labels "
        "with label_column, and the images with dataset.select_columns([image, label]).",
    ),
    (
        "an unknown column",
        {"path": HuggingFace([1], [0], age=Value("float64")), "label_column": "ages"},
        "unknown column of the dataset 'ages'. Did you mean 'age'? Known: age, kind, picture.",
    ),
    (
        "a list of several lengths and too few names",
        {"x": np.zeros((2, 3)), "y": [[0], [1, 2]], "class_names": ["a", "b"]},
        "y: the label 2 has no class name: there are 2 class names, for the labels 0 to 1.",
    ),
    (
        "a missing label",
        {"x": np.zeros((2, 3)), "y": ["a", None]},
        "1 label of 2 is missing: y[1]. Give each sample a label, or leave it out.",
    ),
    (
        "missing labels, of which pandas makes NaN",
        {"x": np.zeros((3, 3)), "y": [math.nan, "a", math.nan]},
        "2 labels of 3 are missing: y[0], y[2]. Give each sample a label, or leave them out.",
    ),
    (
        "a missing label of a column of pandas",
        {"x": np.zeros((2, 3)), "y": pd.Series([None, "a"])},
        "1 label of 2 is missing: y[0]. Give each sample a label, or leave it out.",
    ),
    (
        "columns in another order",
        {"x": np.zeros((2, 3)), "y": BOTH, "x_val": np.zeros((2, 3)), "y_val": BOTH[["dog", "cat"]]},
        "the columns of y_val are dog, cat, and those of y are cat, dog. Give the same columns in the same order.",
    ),
    (
        "a table beside a series",
        {"x": np.zeros((2, 3)), "y": BOTH, "x_val": np.zeros((2, 3)), "y_val": pd.Series([0, 1])},
        "y_val has no columns with names, and those of y are cat, dog. Give the same columns in the same order.",
    ),
    (
        "other class names than the columns",
        {"x": np.zeros((2, 3)), "y": BOTH, "class_names": ["ant", "bee"]},
        "class_names are ant, bee, and the columns of the labels are cat, dog. Give the names of the columns, in any order, or leave class_names out.",
    ),
    (
        "two columns of one name",
        {"x": np.zeros((2, 3)), "y": pd.DataFrame([[1, 0], [0, 1]], columns=["cat", "cat"])},
        "two columns of the labels are called 'cat'. Rename one.",
    ),
    (
        "a column whose name is no text",
        {"x": np.zeros((2, 3)), "y": pd.DataFrame([[1, 0], [0, 1]], columns=["cat", 1.5])},
        "a column of the labels is called 1.5, and a name is a text or a whole number. Rename it.",
    ),
    (
        "a missing label in a table",
        {"x": np.zeros((2, 3)), "y": pd.DataFrame({"cat": [1, 0], "dog": [0, math.nan]})},
        "1 label of 2 is missing: y[1] (dog). Give each sample a label, or leave it out.",
    ),
    (
        "a missing label of a dataset",
        {"path": Rows([(np.zeros((4, 4), np.uint8), label) for label in (0, math.nan)])},
        "sample 1 has no label: its label is nan. Leave such samples out.",
    ),
    (
        "images with a palette",
        {
            "x": [Image.fromarray(np.zeros((9, 9), np.uint8)), Image.fromarray(np.zeros((9, 9), np.uint8)).quantize(4)],
            "y": [0, 1],
        },
        "x[1] is an image of Pillow in the mode P, which has other values than levels of gray, or of red, green and blue. Convert it: "
        "[each.convert('RGB') for each in x].",
    ),
    ("labels of several types", {"x": np.zeros((2, 3)), "y": objects("a", 1.5)}, f"y[1] is 1.5. {LABELS}"),
    ("decimal numbers", {"x": np.zeros((1, 3)), "y": [Decimal("1.5")]}, f"y[0] is Decimal('1.5'). {LABELS}"),
    ("too large numbers", {"x": np.zeros((1, 3)), "y": [2**70]}, f"y holds values of the type object. {LABELS}"),
    (
        "dates",
        {"x": np.zeros((1, 3)), "y": np.array(["2020-01-01"], dtype="datetime64[D]")},
        f"y holds values of the type datetime64[D]. {LABELS}",
    ),
    (
        "rows of several lengths",
        {"x": np.zeros((2, 3)), "y": [[0.5], [1.0, 2.0]], "task": "regression"},
        f"y has rows of several lengths. {LABELS}",
    ),
    (
        "groups that are missing",
        {"x": np.zeros((2, 3)), "y": [0, 1], "groups": [None, None]},
        "2 groups of 2 are missing: groups[0], groups[1]. Give each sample a group, or leave them out.",
    ),
    (
        "a group that is NaN",
        {"x": np.zeros((2, 3)), "y": [0, 1], "groups": np.array([1, math.nan])},
        "groups: the group of row 1 is missing (NaN). Give each sample a group, or leave it out.",
    ),
    (
        "class names in a mapping",
        {"x": np.zeros((2, 3)), "y": [0, 1], "class_names": {0: "a", 1: "b"}},
        "class_names is of the type dict. Class names are a list of texts, in the order of the labels.",
    ),
    (
        "class names that are numbers",
        {"x": np.zeros((2, 3)), "y": [0, 1], "class_names": [1, 2]},
        "class_names holds values of the type int64. Class names are a list of texts, in the order of the labels.",
    ),
    ("sets without a class", {"x": np.zeros((2, 3)), "y": [[], []]}, "no sample has a label. Give at least two classes."),
    (
        "a set of something else",
        {"x": np.zeros((2, 3)), "y": [["a"], [None, "b"]]},
        "y[1] holds None. A set of classes holds whole numbers or texts.",
    ),
    (
        "sets for single labels",
        {"path": [(np.zeros(4), [0]), (np.zeros(4), [0, 1])], "task": "single-label"},
        "a label is a whole number or a text, and not a list.",
    ),
    (
        "numbers that are NaN",
        {"x": np.zeros((4, 3)), "y": [0.5, np.nan, 1, np.inf], "task": "regression"},
        "2 labels of 4 are NaN or infinite: y[1], y[3]. Regression needs a finite number for each sample: correct or remove them.",
    ),
    (
        "a row of numbers with NaN beside a validation set",
        {
            "x": np.zeros((2, 3)),
            "y": [[0.5, np.nan], [1, 2]],
            "x_val": np.zeros((1, 3)),
            "y_val": [[0.5, 1]],
            "task": "regression",
        },
        "1 label of 2 is NaN or infinite: y[0]. Regression needs a finite number for each sample: correct or remove it.",
    ),
    (
        "a number beside a validation set",
        {"x": np.zeros((2, 3)), "y": [0, 0.5], "x_val": np.zeros((1, 3)), "y_val": [0]},
        "y: the label of row 1 is 0.5, which is not an integer. For numbers that are no classes: task='regression'.",
    ),
    (
        "too few labels beside a test set",
        {"x": np.zeros((2, 3)), "y": [0], "x_test": np.zeros((1, 3)), "y_test": [0]},
        "x has 2 samples, and y has 1 labels. Give one label for each sample.",
    ),
    (
        "a missing sample",
        {"path": [(None, 0)]},
        "sample 0 has no image: it is None. Leave such samples out.",
    ),
    (
        "a missing label of a part",
        {"path": {"test": [(np.zeros(4), 0), (np.zeros(4), None)]}},
        "sample 1 of the part 'test' has no label: its label is None. Leave such samples out. If the whole part has no labels, leave the part out.",
    ),
    (
        "a number of a dataset that is NaN",
        {"path": TensorDataset(torch.zeros(2, 4), torch.tensor([0.5, torch.nan])), "task": "regression"},
        "sample 1 has no finite number: its label is nan. Leave such samples out.",
    ),
    (
        "a text for a number",
        {"path": [(np.zeros(4), "old")], "task": "regression"},
        "a label of regression is a number or a list of numbers, and not 'old'.",
    ),
    (
        "pairs without a length",
        {"path": zip([np.zeros(4)], [0], strict=True)},
        "a zip has no length. Give a list of its pairs (sample, label): visus.open_data(list(dataset)).",
    ),
    (
        "a column of groups of pairs",
        {"path": [(np.zeros(4), 0)], "groups": "patient"},
        "groups='patient' is a column of a dataset of Hugging Face, and this dataset has no columns. Give x, y and groups, one value for each sample.",
    ),
    (
        "samples and labels that are None",
        {"x": None, "y": None},
        "x and y are None. Give samples and labels: a function that loads them returns None where its return statement is missing. For the images that "
        "come with visus, leave out x and y.",
    ),
    (
        "samples that are None",
        {"x": None, "y": [0, 1]},
        "x is None. Give samples and labels: a function that loads them returns None where its return statement is missing. For the images that "
        "come with visus, leave out x and y.",
    ),
    (
        "twice",
        {"path": ".", "x": [1], "y": [2]},
        "data is given twice: as the first argument, and as x, y. Give one of them.",
    ),
]


@pytest.mark.parametrize(("given", "message"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
def test_what_cannot_be_used_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        opened(tmp_path, **given)
    assert str(caught.value) == message
    assert not any((tmp_path / "kept").glob("*")), "nothing is left behind"


def test_samples_of_several_shapes_in_a_dataset_are_named(tmp_path: Path) -> None:
    class Mixed(Images):
        def __getitem__(self, place: int) -> Any:
            return np.zeros(3 + place), 0

    with pytest.raises(UsageError) as caught:
        opened(tmp_path, Mixed([1, 2], [0, 0]))
    assert str(caught.value) == "sample 1 has the shape 4, and sample 0 3. Return samples of one shape, or images of Pillow."

    class Changing(Images):
        def __getitem__(self, place: int) -> Any:
            return (np.zeros(3) if place else Image.new("L", (4, 4))), 0

    with pytest.raises(UsageError) as caught:
        opened(tmp_path, Changing([1, 2], [0, 0]))
    assert str(caught.value) == "sample 1 is a ndarray, and those before are images. Return images of Pillow."


@pytest.mark.skipif(os.name != "posix", reason="a file is no folder")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, x: Any, y: Any) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(StorageError) as caught:
        opened(tmp_path, x=x, y=y)
    assert str(caught.value) == f"{tmp_path / 'kept'}: the samples cannot be saved here (File exists)."
    with pytest.raises(StorageError, match="the samples cannot be saved here"):
        save_dataset(Images(x, y), tmp_path / "kept", Monitor())


def test_paths_lists_and_arrays_are_no_datasets(x: Any) -> None:
    assert not any(
        map(is_dataset, ("folder", Path("folder"), [1], [], [(1, 2, 3)], x, torch.zeros(2), None, {}, {"train": "folder"}))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": np.full((40, 6), np.nan)},
            "40 samples of 40 hold NaN or infinite values; the first is x[0]. Repair or remove them.",
        ),
        (
            {"class_names": ["ant", "bee", "bee", "dog"]},
            "class_names: the class name 'bee' occurs twice, for the labels 1 and 2, which would become one class. Give each class a name of its own.",
        ),
        (
            {"y": np.arange(40) % 4 / 2},
            "y: the label of row 1 is 0.5, which is not an integer. For numbers that are no classes: task='regression'.",
        ),
        ({"class_names": NAMES[:3]}, "y: the label 3 has no class name: there are 3 class names, for the labels 0 to 2."),
        (
            {"y": np.eye(4)[np.arange(40) % 4], "class_names": NAMES[:3]},
            "y: there are 3 class names for 4 columns of labels.",
        ),
    ],
)
def test_arrays_that_are_refused_leave_no_copy(change: dict[str, Any], message: str, tmp_path: Path, x: Any, y: Any) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, **{"x": x, "y": y} | change)
    assert str(caught.value) == message
    assert not any((tmp_path / "kept").glob("*"))


def test_a_refused_setting_leaves_no_copy_and_keeps_that_of_an_earlier_call(tmp_path: Path, x: Any, y: Any) -> None:
    message = "unknown layout 'NO LAYOUT'. Known: NCDHW, NCHW, NCL, NDHW, NDHWC, NHW, NHWC, NL, NLC."
    for given, said in (
        ({"x": x, "y": y}, message),
        (
            {"path": Images(x, y)},
            "a layout was given, but this is not an NPZ or NPY file: it was read as table.",
        ),
    ):
        with pytest.raises(DataError) as caught:
            opened(tmp_path, **given, layout="no layout")
        assert str(caught.value) == said
        assert not any((tmp_path / "kept").glob("*"))
    opened(tmp_path, x=x, y=y)
    (copy,) = (tmp_path / "kept").glob("*")
    with pytest.raises(DataError) as caught:
        opened(tmp_path, x=x, y=y, layout="no layout")
    assert str(caught.value) == f"{copy}: {message}"
    assert copy.is_dir()


def test_a_dataset_with_two_classes_of_one_name_is_refused(x: Any, y: Any, tmp_path: Path) -> None:
    given = Images(x, y)
    given.classes = ["ant", "bee", "cat", "ant"]
    with pytest.raises(DataError) as caught:
        opened(tmp_path, given)
    assert str(caught.value) == (
        "the classes of the dataset: the class name 'ant' occurs twice, for the labels 0 and 3, which would become one class. Give each class a name of "
        "its own."
    )


def test_one_hot_labels_are_classes_unless_sets_are_asked_for(x: Any, y: Any, tmp_path: Path) -> None:
    hot = np.eye(4)[y]
    assert_same(opened(tmp_path, x=x, y=hot, class_names=NAMES), opened(tmp_path, x=x, y=y, class_names=NAMES))
    data = opened(tmp_path, x=x, y=hot)
    assert "the labels are one-hot: read as 4 classes; task='multi-label' reads them as sets." in data.samples.notes
    assert opened(tmp_path, x=x, y=hot, task="multi-label").task == "multi-label"


def test_columns_without_a_sample_are_warned_of_as_names_are(x: Any, y: Any, tmp_path: Path) -> None:
    several = np.zeros((40, 3), dtype=int)
    several[:, 0], several[:, 2] = y % 2, 1
    np.savez(tmp_path / "file.npz", x=x, y=several)
    for hot, left_out in ((several, "1"), (np.eye(6)[y], "4, 5")):
        pairs = list(zip(x, hot, strict=True))
        pictures = [(Image.fromarray(sample), row) for sample, row in pairs]
        for data in (opened(tmp_path, x=x, y=hot), opened(tmp_path, pairs), opened(tmp_path, pictures)):
            assert data.warnings == (f"classes without a sample, which the class list leaves out: {left_out}.",)
    expected = "classes without a sample, which the class list leaves out: 1."
    assert visus.open_data(tmp_path / "file.npz", progress=False).warnings == (expected,)
    assert opened(tmp_path, x=x, y=np.eye(4)[y]).warnings == ()
    assert opened(tmp_path, x=x, y=several.astype(float), task="regression").samples.classes[1] == "label 2"


def test_a_truncated_image_of_a_dataset_is_named(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:9000])
    with Image.open(file) as image, pytest.raises(DataError) as caught:
        opened(tmp_path, [(Image.new("RGB", (4, 4)), 0), (image, 1)])
    assert str(caught.value) == "sample 1 cannot be read (image file is truncated). Leave it out."


class Kinds(TensorDataset):
    """A dataset of PyTorch with a class list that is not sorted, as those of torchvision have."""

    classes = ("dog", "ant", "cat")


def test_parts_and_joined_datasets_of_pytorch_keep_their_class_names(x: Any, tmp_path: Path) -> None:
    whole = Kinds(torch.from_numpy(x).permute(0, 3, 1, 2), torch.arange(40) % 3)
    first, second = torch.utils.data.random_split(whole, [25, 15], generator=torch.Generator().manual_seed(0))
    wanted = samples(opened(tmp_path, whole))
    joined = torch.utils.data.ConcatDataset([first, torch.utils.data.Subset(second, range(15))])
    assert set(opened(tmp_path, first).classes) == set(Kinds.classes)
    data = opened(tmp_path, joined)
    assert data.classes == ("ant", "cat", "dog")
    named = {place: Kinds.classes[int(label)] for place, (_, label) in enumerate(joined)}
    assert sorted(named.values()) == sorted(data.classes[label] for label in data.samples.labels)
    assert sum(len(names) for names, _ in wanted.values()) == 40
    other = Kinds(whole.tensors[0], whole.tensors[1])
    other.classes = ("ant", "cat", "dog")
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, torch.utils.data.ConcatDataset([whole, other]))
    assert str(caught.value) == "the datasets that are joined have several class lists. Return class names as labels."
