"""From Python, results print themselves in a few lines, and arrays are taken where paths are."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.levels import images, write_levels

import visus
from visus.data.opened import open_scoring_data
from visus.errors import UsageError
from visus.training.checkpoints import Position
from visus.training.recipe import Recipe
from visus.units import write_share
from visus.workbench.runs.prediction import Prediction

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> visus.Run:
    return visus.train(file, NETWORK, RECIPE, output=tmp_path_factory.mktemp("runs"), progress=False)


# ---- in a few lines ----


def test_results_print_in_a_few_lines(run: visus.Run, file: Path) -> None:
    data = visus.open_data(file)
    account = visus.summary("lenet5", (1, 28, 28), 10)
    look = visus.look(run, images(1)[0][0])
    for result in (run, run.scores, data, account, look):
        assert len(repr(result)) < 500
        assert repr(result).count("\n") <= 5
        assert result._repr_html_().startswith("<table><caption>")
    assert repr(run).splitlines()[0] == "Run levels: 3 classes"
    assert repr(run).splitlines()[1] == f"  network   {NETWORK}, 127 parameters"
    assert repr(run).splitlines()[3] == f"  folder    {run.folder}"
    assert repr(account).splitlines()[:3] == [
        "Account of 12 rows",
        "  shapes  1 x 28 x 28 -> 10",
        "  costs   44,426 parameters, 282 k multiply-adds",
    ]


def test_mistakes_shifts_and_comparisons_print_in_a_few_lines(run: visus.Run) -> None:
    mistakes, shifts, comparison = run.mistakes(), run.shifts(), run.compare(run)
    for result in (mistakes, shifts, comparison):
        assert len(repr(result)) < 700
        assert repr(result).count("\n") <= 8
        assert result._repr_html_().startswith("<table><caption>")
    num_samples = run.scores.num_samples
    assert repr(mistakes).splitlines()[0] == f"Mistakes on {num_samples} images of the test split"
    assert repr(mistakes).splitlines()[1].split() == ["wrong", str(mistakes.num_wrong)]
    assert repr(shifts).splitlines()[0] == f"Shifts of {num_samples} images of the test split"
    assert repr(comparison).splitlines()[0] == f"Comparison on {num_samples} images of the test split"


# ---- in a notebook ----


def captions(shown: str) -> list[str]:
    return re.findall(r"<figcaption[^>]*>([^<]*)", shown)


def test_mistakes_show_their_samples_in_a_notebook(run: visus.Run, file: Path) -> None:
    found = run.mistakes(file)
    kinds = (found.confident_wrong, found.suspicious, found.unsure_right)
    assert any(kinds)
    expected = [each for kind in kinds for each in kind[:8]]
    assert len(captions(found._repr_html_())) == len(expected)
    assert all(shown.startswith(each.label) for shown, each in zip(captions(found._repr_html_()), expected, strict=True))
    part = run.open_data(file).split("test")
    for place, pixels in found.pixels.items():
        np.testing.assert_array_equal(pixels, part.rows(np.array([place]))[0])
    assert "pixels" not in found.to_json()


def test_predictions_show_their_first_samples_in_a_notebook_and_are_still_returned_from_the_first(run: visus.Run) -> None:
    x, _ = images(30)
    expected = list(run.predict(x))
    predictions = run.predict(x)
    assert next(predictions) == expected[0]
    shown = predictions._repr_html_()
    assert captions(shown) == [f"{each.label}, {write_share(each.probability)}" for each in expected[1:25]]
    assert "the first 24 predictions" in shown
    assert predictions._repr_html_() == shown
    assert list(predictions) == expected[1:]
    assert predictions._repr_html_().count("<img") == 0


def test_a_failed_prediction_is_shown_with_its_reason(run: visus.Run, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("this is text, not an image")
    shown = run.predict([images(1)[0][0], tmp_path / "bad.jpg"])._repr_html_()
    assert captions(shown)[1].startswith("no prediction: the file holds text")


def test_an_error_that_a_notebook_has_shown_is_still_raised(run: visus.Run) -> None:
    predictions = run.predict([images(1)[0][0], np.zeros((8, 8, 8), np.uint8)])
    said = "array 2: an array of 8 x 8 x 8 does not fit a network for 3 x 8 x 8."
    assert said in predictions._repr_html_()
    with pytest.raises(UsageError) as caught:
        list(predictions)
    assert str(caught.value) == said


# ---- predictions ----


def test_a_prediction_prints_all_of_its_classes(run: visus.Run) -> None:
    (found,) = run.predict(images(1)[0], top=3)
    pairs = zip(found.labels, found.probabilities, strict=True)
    assert repr(found) == f"Prediction(array 1[0]: {'; '.join(f'{label}, {write_share(share)}' for label, share in pairs)})"
    many = Prediction("a.png", tuple("abcdefgh"), (0.125,) * 8)
    assert repr(many).endswith("e, 12.5 %; and 3 more)")


# ---- names ----


def test_dir_lists_public_names_alone(run: visus.Run, file: Path) -> None:
    results = (run, run.scores, visus.open_data(file), visus.summary("lenet5", (1, 28, 28), 10), run.mistakes(), run.history)
    for result in (*results, visus.look(run, images(1)[0][0])):
        names = dir(result)
        assert [name for name in names if name.startswith("_")] == []
        assert set(vars(result)) - {name for name in vars(result) if name.startswith("_")} <= set(names)
        assert "to_json" in names or result in (run, results[2], results[5])
    assert "evaluate" in dir(run)


# ---- arrays and paths alike ----


def test_one_path_one_array_and_several_are_predicted_alike(run: visus.Run, file: Path) -> None:
    x, _ = images()
    expected = [each.probabilities for each in run.predict([file])]
    for given in (file, str(file), x, torch.from_numpy(x), [x], np.moveaxis(x, 1, -1)):
        assert [each.probabilities for each in run.predict(given)] == expected
    for one in (x[0], torch.from_numpy(x[0]), np.moveaxis(x[0], 0, -1)):
        assert [each.label for each in run.predict(one)] == [next(iter(run.predict(x))).label]


def test_arrays_are_scored_with_names_or_numbers_as_labels(run: visus.Run, file: Path) -> None:
    x, y = images()
    expected = run.evaluate(open_scoring_data(file, run.preprocessing, run.classes))
    for labels in (y, torch.from_numpy(y), [run.classes[place] for place in y]):
        scores = run.evaluate((x, labels))
        assert (scores.confusion, scores.accuracy) == (expected.confusion, expected.accuracy)
        assert (scores.num_learned, scores.num_chose) == (expected.num_learned, expected.num_chose) == (43, 5)
    said = "43 of 60 samples were in the training set and 5 more were in the validation set, so the metrics are too good; accuracy on the 12 new samples: "
    assert repr(scores).splitlines()[1].startswith(f"  note      {said}")


@pytest.mark.parametrize(
    ("labels", "split", "said"),
    [
        ([0, 1], None, "there are 3 samples and 2 labels. Give one label for each sample."),
        ([0, 1, 3], None, "the label 3 is no class: with 3 classes, labels are 0 to 2."),
        (["0", "1", "cat"], None, "unknown class 'cat'. Known: 0, 1, 2."),
        ([[0, 1, 2]], None, "labels of 1 x 3 cannot be used: one for each sample is needed."),
        ([0, 1, 2], "test", "a pair of arrays has no split 'test'. Leave the split out."),
    ],
)
def test_labels_that_cannot_be_used_are_refused(run: visus.Run, labels: Any, split: str | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run.evaluate((images(3)[0], labels), split=split)
    assert str(caught.value) == said


def test_a_run_is_asked_all_that_is_there(run: visus.Run) -> None:
    assert run.shifts().num_samples > 0
    assert run.look("test:0").layers
    assert run.report().path == run.folder / "report.html"
    assert len(run.compare(run.folder).contenders) == 2
    assert run.mistakes(limit=1) is not None


# ---- the history of a run ----


def test_the_history_of_a_run_is_that_of_its_file(run: visus.Run) -> None:
    with (run.folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    history = run.history
    assert len(history) == len(rows) > 1
    assert history.columns == tuple(rows[0])
    for name in history.columns:
        np.testing.assert_array_equal(history[name], [float(row[name]) for row in rows])
    assert [row["epoch"] for row in history] == [float(row["epoch"]) for row in rows]
    assert repr(history).splitlines()[0] == f"History of {len(rows)} epochs"
    assert repr(history).count("\n") <= 6
    assert history._repr_html_().count("<tr>") >= len(rows)
    assert list(history["elapsed_seconds"]) == sorted(history["elapsed_seconds"])
    with pytest.raises(UsageError) as caught:
        history[-1]  # type: ignore[index]
    assert str(caught.value) == "a history has its columns by name, and its epochs in .rows. Write history.rows[-1]."
    with pytest.raises(UsageError) as caught:
        history["val_acuracy"]
    assert str(caught.value).startswith(
        "unknown column 'val_acuracy'. Did you mean 'val_accuracy'? Known: elapsed_seconds, epoch, img_size, "
    )


def test_the_history_of_a_run_of_before_is_read_and_its_training_resumed(run: visus.Run, tmp_path: Path) -> None:
    old = Path(shutil.copytree(run.folder, tmp_path / "old"))
    table = old / "results.csv"
    assert ",elapsed_seconds," in table.read_text()
    table.write_text(table.read_text().replace(",elapsed_seconds,", ",seconds,"))
    assert visus.load(old).history == run.history
    history = [
        {"seconds" if name == "elapsed_seconds" else name: value for name, value in row.items()} for row in run.history
    ]
    position = Position(history=history)
    assert Position.from_json(json.loads(json.dumps(dataclasses.asdict(position)))).history == list(run.history)
