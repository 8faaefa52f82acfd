"""Labels that a program gives are read once, and keep what they are: class names, places in the class list, sets, numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

import visus
from visus.data.array_labels import class_of_each
from visus.data.given_labels import read_dataset_labels, read_given_labels
from visus.errors import DataError, UsageError, VisusError

COUNT = 60
Y = np.arange(COUNT) % 3
X = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)


def opened(tmp_path: Path, *given: Any, **options: Any) -> visus.Data:
    return visus.open_data(*given, keep_in=tmp_path / "kept", progress=False, **options)


def named(data: visus.Data) -> list[Any]:
    """The class of each sample in the order that it was given; of sets, its classes."""
    if data.task == "multi-label":
        return [{name for name, one in zip(data.classes, row, strict=True) if one} for row in data.samples.labels]
    return [data.classes[place] for place in data.samples.labels]


class Pairs:
    """A dataset of the samples with these labels, and a class list."""

    def __init__(self, labels: Sequence[Any], classes: list[str] | None = None, *, images: bool = False) -> None:
        self._labels, self._images = labels, images
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return Image.fromarray(X[place]) if self._images else X[place], self._labels[place]


# ---- class names that are whole numbers


@pytest.mark.parametrize("labels", [Y + 1, (Y + 1).astype(str), (Y + 1).astype(float)], ids=["integers", "texts", "floats"])
def test_labels_that_are_class_names_are_never_read_as_places(labels: Any, tmp_path: Path) -> None:
    data = opened(tmp_path, x=X, y=labels, class_names=["1", "2", "3"])
    assert data.classes == ("1", "2", "3")
    assert named(data) == [str(label) for label in Y + 1]


def test_whole_numbers_from_0_are_places_of_class_names_that_are_whole_numbers(tmp_path: Path) -> None:
    assert named(opened(tmp_path, x=X, y=Y, class_names=["1", "2", "3"])) == [str(label) for label in Y + 1]
    hot = np.eye(3)[Y]
    assert named(opened(tmp_path, x=X, y=hot, class_names=["1", "2", "3"])) == [str(label) for label in Y + 1]
    assert named(opened(tmp_path, x=X, y=Y, class_names=["0", "1", "2"])) == [str(label) for label in Y]


TWO_READINGS = (
    "y: the labels are whole numbers that may be places in the class list or names in it: the label 1 is the class '2' by its place, and '1' by its "
    "name. Give texts: np.array(class_names)[y] for places, y.astype(str) for names."
)


def test_whole_numbers_with_two_readings_are_refused_with_a_way_to_say_each(tmp_path: Path) -> None:
    labels, names = np.arange(COUNT) % 2 + 1, ["1", "2", "3"]
    with pytest.raises(DataError) as caught:
        opened(tmp_path, x=X, y=labels, class_names=names)
    assert str(caught.value) == TWO_READINGS
    assert not any((tmp_path / "kept").glob("*"))
    assert set(named(opened(tmp_path, x=X, y=np.array(names)[labels], class_names=names))) == {"2", "3"}
    assert set(named(opened(tmp_path, x=X, y=labels.astype(str), class_names=names))) == {"1", "2"}


def test_all_parts_of_the_labels_have_one_reading(tmp_path: Path) -> None:
    y_val = np.arange(20) % 2 + 1
    data = opened(tmp_path, x=X, y=Y + 1, x_val=X[:20] ^ 1, y_val=y_val, class_names=["1", "2", "3"])
    assert named(data)[COUNT:] == [str(label) for label in y_val]


def test_a_file_of_digit_class_names_is_read_by_the_same_rule(tmp_path: Path) -> None:
    np.savez(tmp_path / "names.npz", x=X, y=Y + 1, classes=["1", "2", "3"])
    assert named(visus.open_data(tmp_path / "names.npz", progress=False)) == [str(label) for label in Y + 1]
    np.savez(tmp_path / "two.npz", x=X, y=np.arange(COUNT) % 2 + 1, classes=["1", "2", "3"])
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "two.npz", progress=False)
    assert caught.value.message == (
        "the labels are whole numbers that may be places in the class list or names in it: the label 1 is the class '2' by its place, and '1' by its "
        "name. Save texts: np.array(classes)[labels] for places, labels.astype(str) for names."
    )


def test_texts_of_digits_are_places_only_where_no_class_has_such_a_name(tmp_path: Path) -> None:
    assert named(opened(tmp_path, x=X, y=Y.astype(str), class_names=["a", "b", "c"])) == ["abc"[label] for label in Y]
    with pytest.raises(DataError) as caught:
        opened(tmp_path, x=X, y=Y.astype(str), class_names=["1", "2", "c"])
    assert str(caught.value) == "y: unknown class '0'. Known: 1, 2, c."


# ---- class names with separators in them


@pytest.mark.parametrize("images", [False, True], ids=["arrays", "images"])
@pytest.mark.parametrize("name", ["dog, small", "dog;small", "dog|small", "[dog]", 'dog\'s, "own"'])
def test_a_class_name_with_a_separator_is_one_class(name: str, images: bool, tmp_path: Path) -> None:
    sets = [[name], ["cat"], ["cow"]] * 20
    given = opened(tmp_path, Pairs(sets, images=images), task="multi-label")
    assert sorted(given.classes) == sorted(["cat", "cow", name])
    assert named(given) == [set(each) for each in sets]
    if not images:
        assert named(opened(tmp_path, x=X, y=sets, task="multi-label")) == [set(each) for each in sets]


def test_columns_of_0_and_1_keep_class_names_with_separators(tmp_path: Path) -> None:
    rows = np.tile([[1, 0, 0], [1, 1, 0], [0, 0, 1]], (20, 1))
    data = opened(tmp_path, x=X, y=rows, class_names=["a|b", "c", "d"])
    assert data.classes == ("a|b", "c", "d")
    np.testing.assert_array_equal(data.samples.labels, rows)


def test_a_text_with_a_separator_is_no_label_of_sets_in_a_program(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, x=X, y=["cat|dog", "cat", "dog"] * 20, task="multi-label")
    assert str(caught.value) == (
        "y: the label of row 0 is 'cat|dog', which may be one class or several. Give lists of classes: ['cat|dog'] for one, ['cat', 'dog'] for several."
    )
    data = opened(tmp_path, x=X, y=["cat", "cow", "dog"] * 20, task="multi-label")
    assert named(data) == [{"cat"}, {"cow"}, {"dog"}] * 20


# ---- lists of places, and rows of 0 and 1


@pytest.mark.parametrize("images", [False, True], ids=["arrays", "images"])
def test_lists_of_several_lengths_are_places_with_two_classes_too(images: bool, tmp_path: Path) -> None:
    sets = [[0], [1], [0, 1]] * 20
    data = opened(tmp_path, Pairs(sets, ["a", "b"], images=images))
    assert (data.task, data.classes) == ("multi-label", ("a", "b"))
    assert named(data) == [{"ab"[place] for place in each} for each in sets]


def test_lists_of_0_and_1_in_which_a_number_is_repeated_are_rows(tmp_path: Path) -> None:
    rows = [[0, 1, 1], [1, 0, 0], [0, 0, 0]] * 20
    for given in (Pairs(rows, ["a", "b", "c"]), Pairs([tuple(each) for each in rows], ["a", "b", "c"])):
        data = opened(tmp_path, given)
        assert named(data) == [{"b", "c"}, {"a"}, set()] * 20
    hot = opened(tmp_path, x=X, y=np.eye(2, dtype=int)[Y % 2].tolist())
    assert (hot.task, hot.classes) == ("single-label", ("0", "1"))


def test_lists_that_are_all_0_1_are_refused_with_a_way_to_say_each(tmp_path: Path) -> None:
    for given in ({"x": X, "y": [[0, 1]] * COUNT}, {"path": Pairs([[0, 1]] * COUNT, ["a", "b"])}):
        with pytest.raises(DataError) as caught:
            opened(tmp_path, **given)
        assert caught.value.message == (
            "each label is the list [0, 1]: both classes, or 0 and 1 for the two classes. Give the set {0, 1} for both classes, an array for 0 and 1."
        )


class Lists:
    """The feature of a column of lists of classes."""

    def __init__(self, names: list[str]) -> None:
        self.feature = type("ClassLabel", (), {"names": names})()


class HuggingFace:
    """A dataset of Hugging Face with a list of classes for each image."""

    def __init__(self, labels: Sequence[Any], names: list[str]) -> None:
        self._labels, self.features = labels, {"image": type("Image", (), {})(), "labels": Lists(names)}

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> Any:
        return {"image": Image.fromarray(X[place]), "labels": self._labels[place]}


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor], ids=["lists", "arrays", "tensors"])
def test_a_sequence_of_classes_of_hugging_face_holds_places(convert: Any, tmp_path: Path) -> None:
    sets = [[0, 1], [1, 2], [0, 1]] * 20
    data = opened(tmp_path, HuggingFace([convert(each) for each in sets], ["a", "b", "c"]))
    assert named(data) == [{"abc"[place] for place in each} for each in sets]
    single = opened(tmp_path, HuggingFace([convert([each]) for each in Y], ["a", "b", "c"]))
    assert single.task == "multi-label"
    both = opened(tmp_path, HuggingFace([convert(each) for each in [[0, 1], [0], [1]] * 20], ["a", "b"]))
    assert named(both) == [{"a", "b"}, {"a"}, {"b"}] * 20


@pytest.mark.parametrize("one", ["y", "y_val", "y_test"])
def test_labels_of_all_parts_are_sets_where_those_of_one_are(one: str, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"x": X, "y": [[0], [1], [2]] * 20, "x_val": X[:20] ^ 1, "y_val": [[0], [1]] * 10}
    parts |= {"x_test": X[20:40] ^ 1, "y_test": [[2], [1]] * 10}
    parts[one] = [[1, 2], *parts[one][1:]]
    data = opened(tmp_path, **parts)
    assert (data.task, data.classes) == ("multi-label", ("0", "1", "2"))
    expected = [{str(place) for place in each} for name in ("y", "y_val", "y_test") for each in parts[name]]
    assert named(data) == expected


def test_a_validation_set_of_whole_numbers_has_one_class_each_beside_sets(tmp_path: Path) -> None:
    sets = [[0], [1, 2], [2]] * 20
    data = opened(tmp_path, x=X, y=sets, x_val=X[:20] ^ 1, y_val=Y[:20], class_names=["a", "b", "c"])
    assert named(data)[COUNT:] == [{"abc"[place]} for place in Y[:20]]


# ---- vectors of datasets


@pytest.mark.parametrize("images", [False, True], ids=["arrays", "images"])
def test_vectors_of_one_number_are_single_labels(images: bool, tmp_path: Path) -> None:
    vectors = [torch.tensor([label]) for label in Y]
    data = opened(tmp_path, Pairs(vectors, images=images))
    assert (data.task, named(data)) == ("single-label", [str(label) for label in Y])
    if not images:
        x = torch.from_numpy(X)
        assert opened(tmp_path, TensorDataset(x, torch.from_numpy(Y)[:, None])).fingerprint == data.fingerprint


@pytest.mark.parametrize("images", [False, True], ids=["arrays", "images"])
def test_one_hot_vectors_of_a_dataset_are_classes_as_those_of_arrays(images: bool, tmp_path: Path) -> None:
    note = "the labels are one-hot: read as 3 classes; task='multi-label' reads them as sets."
    hot = np.eye(3)[Y]
    data = opened(tmp_path, Pairs(list(hot), ["a", "b", "c"], images=images))
    assert (data.task, named(data)) == ("single-label", ["abc"[label] for label in Y])
    assert note in data.samples.notes
    assert opened(tmp_path, Pairs(list(hot), images=images), task="multi-label").task == "multi-label"


@pytest.mark.parametrize("images", [False, True], ids=["arrays", "images"])
def test_truth_values_of_a_dataset_are_the_numbers_0_and_1(images: bool, tmp_path: Path) -> None:
    labels = [bool(label % 2) for label in range(COUNT)]
    data = opened(tmp_path, Pairs(labels, ["no", "yes"], images=images))
    assert named(data) == [("no", "yes")[label] for label in labels]
    assert opened(tmp_path, Pairs(labels, images=images)).classes == opened(tmp_path, x=X, y=labels).classes == ("0", "1")


def test_vectors_with_another_length_than_the_class_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, Pairs([np.array([0, 1, 1])] * 4, ["a", "b"]))
    assert caught.value.message == "there are 2 class names for 3 columns of labels."


@pytest.mark.parametrize("labels", [[[0, 2], [1, 2], [2, 0]] * 20, [[label] for label in Y.tolist()]])
def test_lists_of_one_length_are_sets_in_a_dataset(labels: list[list[int]], tmp_path: Path) -> None:
    data = opened(tmp_path, Pairs(labels, ["a", "b", "c"]))
    assert (data.task, named(data)) == ("multi-label", [{"abc"[place] for place in each} for each in labels])


def test_a_text_beside_lists_of_texts_is_one_class(tmp_path: Path) -> None:
    data = opened(tmp_path, Pairs(["a", ["a", "b"], ["b"]] * 20))
    assert named(data) == [{"a"}, {"a", "b"}, {"b"}] * 20
    with pytest.raises(DataError) as caught:
        opened(tmp_path, Pairs(["a, b", ["a", "b"], ["b"]] * 20))
    assert str(caught.value) == (
        "the label of sample 0 is 'a, b', which may be one class or several. Give lists of classes: ['a, b'] for one, ['a', 'b'] for several."
    )


def test_vectors_of_several_lengths_are_places(tmp_path: Path) -> None:
    data = opened(tmp_path, Pairs([torch.arange(label + 1) for label in Y], ["a", "b", "c"]))
    assert named(data) == [set("abc"[: label + 1]) for label in Y]


def test_labels_of_several_kinds_in_a_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, Pairs([0, [1, 2], 1]))
    assert str(caught.value) == "the label of sample 0 is 0, and others are lists or vectors. Return labels of one kind."


# ---- laws

NAMES = ["a|b", "c, d", "2", "1", "e"]


@drawn(st.lists(st.sets(st.integers(0, 4)), min_size=1).filter(any))
def test_sets_of_places_of_names_and_rows_of_0_and_1_are_the_same_labels(sets: list[set[int]]) -> None:
    rows = np.array([[int(place in each) for place in range(5)] for each in sets])
    names = [{NAMES[place] for place in each} for each in sets]
    for labels in (names, rows, [list(each) for each in names]):
        read, _ = read_given_labels({"y": labels, "classes": NAMES}, "multi-label")
        np.testing.assert_array_equal(read["y"], rows)
    for labels in (names, list(rows), [list(each) for each in names]):
        found = read_dataset_labels(labels, [NAMES] * len(sets), "multi-label").labels
        assert [set(each) for each in found] == names


@drawn(st.lists(st.integers(0, 5), min_size=1), st.permutations(["0", "1", "2", "3", "4"]))
def test_whole_numbers_are_all_places_or_all_names(labels: list[int], names: list[str]) -> None:
    are_places, are_names = max(labels) < len(names), all(str(each) in names for each in labels)
    by_place, by_name = [names[each] if each < len(names) else "" for each in labels], [str(each) for each in labels]
    try:
        class_of = class_of_each({"y": labels}, names, "")
    except DataError:
        assert (are_places and are_names and by_place != by_name) or not (are_places or are_names)
    else:
        assert not (are_places and are_names) or by_place == by_name
        assert [class_of[each] for each in labels] == (by_place if are_places else by_name)


# ---- fingerprints, and folders of earlier versions


def old_arrays(folder: Path, **arrays: Any) -> Path:
    """A folder of arrays, as earlier versions of visus saved it."""
    folder.mkdir()
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(values))
    return folder


def old_images(folder: Path, cells: Sequence[str]) -> Path:
    """A folder of images with a table, as earlier versions of visus saved it."""
    folder.mkdir()
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label"))
        for place, cell in enumerate(cells):
            Image.fromarray(X[place]).save(folder / f"{place:06}.png")
            table.writerow((f"{place:06}.png", cell))
    return folder


SETS = [["cow"], ["cat", "dog"], []] * 20
CELLS = ["cow", "cat|dog", ""] * 20


def test_sets_of_names_have_the_fingerprint_of_the_texts_that_were_saved_before(tmp_path: Path) -> None:
    old = visus.open_data(old_arrays(tmp_path / "old", x=X, y=CELLS), task="multi-label", progress=False)
    assert named(old) == [set(each) for each in SETS]
    assert opened(tmp_path, x=X, y=SETS).fingerprint == old.fingerprint
    assert opened(tmp_path, Pairs(SETS)).fingerprint == old.fingerprint


def test_sets_of_places_have_the_fingerprint_of_the_texts_that_were_saved_before(tmp_path: Path) -> None:
    names = ["dog", "cow", "cat"]  # not in natural order
    arrays = {"x": X, "y": CELLS, "classes": names}
    old = visus.open_data(old_arrays(tmp_path / "old", **arrays), task="multi-label", progress=False)
    places = [[names.index(name) for name in each] for each in SETS]
    new = opened(tmp_path, x=X, y=places, class_names=names)
    assert (new.classes, new.fingerprint) == (("dog", "cow", "cat"), old.fingerprint)


def test_classes_of_a_dataset_have_the_fingerprint_of_before(tmp_path: Path) -> None:
    old = visus.open_data(old_arrays(tmp_path / "old", x=X, y=["cba"[each] for each in Y]), progress=False)
    assert opened(tmp_path, Pairs(Y.tolist(), ["c", "b", "a"])).fingerprint == old.fingerprint


@pytest.mark.parametrize(("labels", "cells"), [(SETS, CELLS), (["c", "a", "b"] * 20, ["c", "a", "b"] * 20)])
def test_images_of_a_dataset_have_the_fingerprint_of_before(labels: Any, cells: list[str], tmp_path: Path) -> None:
    task = "multi-label" if labels is SETS else None
    old = visus.open_data(old_images(tmp_path / "old", cells), task=task, progress=False, pretrained=False)
    assert opened(tmp_path, Pairs(labels, images=True), pretrained=False).fingerprint == old.fingerprint


def test_texts_of_digits_that_were_saved_before_are_still_read_as_places(tmp_path: Path) -> None:
    arrays = {"x": X, "y": Y.astype(str), "classes": ["a", "b", "c"]}
    assert named(visus.open_data(old_arrays(tmp_path / "old", **arrays), progress=False)) == ["abc"[each] for each in Y]


# ---- images with a palette


def test_images_with_equal_indices_and_other_palettes_are_other_images(tmp_path: Path) -> None:
    def with_palette(colors: list[int]) -> list[tuple[Image.Image, str]]:
        found = []
        for place in range(4):
            image = Image.fromarray(X[place] % 2, mode="P")
            image.putpalette(colors)
            found.append((image, "ab"[place % 2]))
        return found

    first = opened(tmp_path, with_palette([255, 0, 0, 0, 255, 0]))
    second = opened(tmp_path, with_palette([0, 0, 255, 255, 255, 0]))
    assert first.given != second.given
    assert not np.array_equal(first.store.pixels, second.store.pixels)
    assert opened(tmp_path, with_palette([255, 0, 0, 0, 255, 0])).given == first.given


# ---- errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"y": Y, "groups": np.linspace(0, 1, COUNT)},
            "groups: the group of row 1 is 0.01694915254237288, which is not an integer. Groups are whole numbers or texts, splits are texts.",
        ),
        (
            {"y": Y, "groups": np.zeros((COUNT, 2), int)},
            "groups: the groups have the shape 60 x 2; needed is one group per sample, (n,) or (n, 1).",
        ),
        (
            {"y": np.zeros((COUNT, 2)), "task": "regression", "class_names": ["a", "a"]},
            "class_names: the target 'a' occurs twice, for the columns 0 and 1 of the labels. Give each target a name of its own.",
        ),
        (
            {"y": np.zeros(COUNT, int)},
            "there is one class only, '0' with 60 samples; a classifier needs at least two classes. Add samples of another class.",
        ),
    ],
)  # fmt: skip
def test_errors_name_what_was_given(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(VisusError) as caught:
        opened(tmp_path, x=X, **given)
    assert str(caught.value) == message
