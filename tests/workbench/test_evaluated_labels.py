"""Labels of other arrays are read for a network as they were read for its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import visus
from visus.data.given_labels import encode_given_labels
from visus.errors import DataError, UsageError

Y = np.arange(60) % 3


def trained(folder: Path, labels: Any, **options: Any) -> visus.Run:
    x = np.random.default_rng(0).integers(0, 60, (60, 8, 8), dtype=np.uint8) + 90 * Y.astype(np.uint8)[:, None, None]
    data = visus.open_data(x=x, y=labels, keep_in=folder / "kept", progress=False, **options)
    recipe = visus.Recipe(epochs=2, batch_size=8, precision="float32", device="cpu")
    return visus.train(data, "conv(4, 3), relu, globalpool, linear(classes)", recipe, output=folder / "runs", progress=False)


@pytest.mark.usefixtures("light_pages")
def test_a_run_is_scored_on_arrays_with_the_labels_of_its_training(tmp_path: Path) -> None:
    run = trained(tmp_path, Y + 1)
    assert run.classes == ("1", "2", "3")
    part = run.open_data(progress=False).split("test")
    x, truth = part.pixels[part.indices][:, 0], part.labels + 1
    expected = run.evaluate(progress=False)
    for labels in (
        truth,
        truth.astype(float),
        truth[:, None],
        truth.astype(str),
        torch.from_numpy(truth),
        np.eye(3)[truth - 1],
    ):
        scores = run.evaluate((x, labels), progress=False)
        assert (scores.confusion, scores.accuracy) == (expected.confusion, expected.accuracy)


@pytest.mark.parametrize(
    ("labels", "classes", "places"),
    [
        ([1, 3, 1], ("1", "2", "3"), [0, 2, 0]),
        ([1, 2], ("1", "2", "3"), [0, 1]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        ([[1], [0]], ("0", "1"), [1, 0]),
        ([True, False], ("no", "yes"), [1, 0]),
        ([True, False], ("0", "1"), [1, 0]),
        ([2, 0], ("cat", "dog", "cow"), [2, 0]),
        ([-1, 1], ("-1", "1"), [0, 1]),
        ([1, 0], ("1", "0"), [0, 1]),
        ([5, 7], ("5", "7", "none"), [0, 1]),
        (["7", "5"], ("5", "7"), [1, 0]),
    ],
)
def test_labels_are_places_or_names_as_the_classes_say(labels: Any, classes: tuple[str, ...], places: list[int]) -> None:
    assert encode_given_labels(labels, "single-label", classes).tolist() == places


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[0], [1, 2]], [[1, 0, 0], [0, 1, 1]]),
        ([["a|b"], ["c", "d"]], [[1, 0, 0], [0, 1, 1]]),
        ([{0}, {1, 2}], [[1, 0, 0], [0, 1, 1]]),
        ([[0, 1], [1, 2]], [[1, 1, 0], [0, 1, 1]]),
        ([[0, 1], [0, 1]], [[1, 1, 0], [1, 1, 0]]),
        ([[0, 1, 1], [1, 0, 0]], [[0, 1, 1], [1, 0, 0]]),
        (["c", "d"], [[0, 1, 0], [0, 0, 1]]),
        ([np.array([0, 1, 1])], [[0, 1, 1]]),
    ],
)
def test_sets_of_other_arrays_are_read_as_those_of_the_training(labels: Any, expected: list[list[int]]) -> None:
    assert encode_given_labels(labels, "multi-label", ("a|b", "c", "d")).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "task", "classes", "message"),
    [
        (
            [0, 1],
            "single-label",
            ("1", "2", "3"),
            "unknown class '0'. Known: 1, 2, 3. The classes are whole numbers, so labels are names of classes. For places in the class list, give texts: "
            "np.array(run.classes)[labels].",
        ),
        (
            [1, 2],
            "single-label",
            ("1", "2", "none"),
            "labels: the labels are whole numbers that may be places in the class list or names in it: the label 1 is the class '2' by its place, and '1' "
            "by its name. Give texts: np.array(run.classes)[labels] for places, labels.astype(str) for names.",
        ),
        ([0.5, 1], "single-label", ("0", "1"), "labels: the label of row 0 is 0.5, which is not an integer. The network predicts classes."),
        (
            [[0, 1]],
            "multi-label",
            ("a", "b"),
            "each label is the list [0, 1]: both classes, or 0 and 1 for the two classes. Give the set {0, 1} for both classes, an array for 0 and 1.",
        ),
        ([[0.5], ["a"]], "multi-label", ("a", "b"), "labels[0] holds 0.5. A set of classes holds whole numbers or texts."),
        (
            pd.DataFrame({"a": [1], "c": [0]}),
            "multi-label",
            ("a", "b"),
            "the columns of the labels are a, c, and needed are a, b.",
        ),
        (
            pd.Series(["a", None]),
            "single-label",
            ("a", "b"),
            "1 label of 2 is missing: labels[1]. Give each sample a label, or leave it out.",
        ),
        (
            [[0], [2]],
            "multi-label",
            ("a", "b"),
            "the label 2 is no class: with 2 classes, labels are 0 to 1.",
        ),
    ],
)  # fmt: skip
def test_labels_that_fit_no_class_are_refused(labels: Any, task: str, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        encode_given_labels(labels, task, classes)
    assert str(caught.value) == message


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_columns_of_a_table_of_pandas_are_found_by_their_names(task: str) -> None:
    table = pd.DataFrame({"b": [0, 1], "a": [1, 1]})
    assert encode_given_labels(table, task, ("a", "b")).tolist() == [[1, 0], [1, 1]]
    assert encode_given_labels(table, task, ("0", "1")).tolist() == [[0, 1], [1, 1]], "no name is known"
    whole = table.set_axis([7, 5], axis=1)
    assert encode_given_labels(whole, task, ("5", "7")).tolist() == [[1, 0], [1, 1]]


@pytest.mark.usefixtures("light_pages")
def test_scores_of_arrays_say_that_samples_were_resized(tmp_path: Path) -> None:
    run = trained(tmp_path, Y)
    x = np.zeros((6, 5, 5), np.uint8)
    assert "6 samples were resized (samples[0], ...)." in run.evaluate((x, Y[:6]), progress=False).notes
    assert not any("resized" in note for note in run.evaluate((np.zeros((6, 8, 8), np.uint8), Y[:6]), progress=False).notes)


@pytest.mark.usefixtures("light_pages")
def test_numbers_that_are_nan_are_refused_and_arrays_have_no_split(tmp_path: Path) -> None:
    run = trained(tmp_path, Y + 0.5, task="regression")
    x, numbers = np.zeros((5, 8, 8), np.uint8), [1, 2, np.nan, 4, np.inf]
    with pytest.raises(DataError) as caught:
        run.evaluate((x, numbers), progress=False)
    assert str(caught.value) == (
        "2 labels of 5 are NaN or infinite: labels[2], labels[4]. Regression needs a finite number for each sample: correct or remove them."
    )
    assert str(run.evaluate((x, Y[:5]), progress=False).text()[0]).startswith("mean absolute error on 5 samples: ")


@pytest.mark.usefixtures("light_pages")
@pytest.mark.parametrize(("labels", "metric"), [(Y, "accuracy"), (np.eye(3)[Y] + np.eye(3)[0], "mean average precision")])
def test_scores_of_arrays_name_no_split(labels: Any, metric: str, tmp_path: Path) -> None:
    labels = np.minimum(labels, 1) if labels.ndim == 2 else labels
    run = trained(tmp_path, labels)
    lines = [str(line) for line in run.evaluate((np.zeros((6, 8, 8), np.uint8), labels[:6]), progress=False).text()]
    assert any(line.startswith(f"{metric} on 6 samples: ") for line in lines)
