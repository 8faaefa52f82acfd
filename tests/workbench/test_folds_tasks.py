"""Folds of data whose labels are sets of classes or numbers: each sample is predicted by the network that did not learn from it."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands import StopAfter
from tests.workbench.conftest import TASK_NETWORK, open_task, task_arrays

import visus
from visus.data.folds import assign_folds
from visus.data.tasks import label_text
from visus.errors import DataError, VisusError
from visus.workbench.folds.result import CrossValidation

TASKS = ["multi-label", "regression"]
OPTIONS: dict[str, dict[str, float]] = {"multi-label": {"test": 0.2}, "regression": {"val": 0.2}}
RECIPE = visus.Recipe(epochs=4, batch_size=16, learning_rate=0.02)


@pytest.fixture(scope="module", autouse=True)
def _light_reports() -> Iterator[None]:
    from visus.workbench.report import measures

    def left_out(*_: Any) -> None:
        raise VisusError("left out in this test.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_saliencies", left_out)
        yield


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CrossValidation]:
    """Two folds of the arrays of a task, with a test set for sets of classes."""
    made: dict[str, CrossValidation] = {}

    def find(task: str) -> CrossValidation:
        if task not in made:
            root = tmp_path_factory.mktemp(task)
            data = open_task(task, root, **OPTIONS[task])
            made[task] = visus.cross_validate(
                data, TASK_NETWORK, RECIPE, folds=2, output=root / "runs", name="two", progress=False
            )
        return made[task]

    return find


def rows_of(found: CrossValidation) -> list[dict[str, str]]:
    with open(found.out_of_fold, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def cells_of(row: dict[str, str], prefix: str) -> list[float]:
    return [float(value) for name, value in row.items() if name.startswith(prefix)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_out_of_fold_predictions_are_those_of_the_run_of_the_fold(task: str, crossed: Any) -> None:
    found = crossed(task)
    rows = rows_of(found)
    runs = found.runs()
    places = {each: place for place, each in enumerate(open_names(runs[0]))}
    x, sets, numbers = task_arrays(0)
    assert len({row["sample"] for row in rows}) == len(rows) == sum(each.num_samples for each in found.folds)
    for number, run in enumerate(runs, start=1):
        own = [row for row in rows if row["fold"] == str(number)]
        with (run.folder / "split.csv").open(newline="") as stream:
            tested = {row["sample"] for row in csv.DictReader(stream) if row["split"] == "test"}
        assert {row["sample"] for row in own} == tested
        at = [places[row["sample"]] for row in own]
        for row, answer, place in zip(own, run.predict(x[at], progress=False), at, strict=True):
            if task == "regression":
                assert cells_of(row, "label:") == pytest.approx(numbers[place].tolist())
                assert cells_of(row, "prediction:") == pytest.approx([each.value for each in answer.numbers])
            else:
                assert set(filter(None, row["prediction"].split("|"))) == set(answer.labels)
                assert row["label"] == label_text(sets[place], task, run.classes)


def open_names(run: visus.Run) -> list[str]:
    return list(run.open_data(progress=False).table.names)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_the_figures_follow_from_the_predictions(task: str, crossed: Any) -> None:
    found = crossed(task)
    rows, scores = rows_of(found), found.scores
    assert (scores.num_samples, scores.split) == (len(rows), "out-of-fold")
    if task == "regression":
        truth, answers = (np.array([cells_of(row, name) for row in rows]) for name in ("label:", "prediction:"))
        assert [each.mae for each in scores.targets] == pytest.approx(np.abs(answers - truth).mean(axis=0).tolist())
        folds = np.array([int(row["fold"]) for row in rows])
        covered = [
            (np.abs(answers - truth)[folds == number] <= np.array(run.calibration.half_widths)).sum(axis=0)
            for number, run in enumerate(found.runs(), start=1)
        ]
        assert [each.covered for each in scores.targets] == pytest.approx((sum(covered) / len(rows)).tolist())
        means = np.array([found.runs()[number - 1].task.mean for number in folds])
        assert [each.baseline for each in scores.targets] == pytest.approx(np.abs(truth - means).mean(axis=0).tolist())
        sizes = [each.num_samples for each in found.folds]
        assert scores.loss == pytest.approx(np.average([each.loss for each in found.folds], weights=sizes))
    else:
        assert scores.exact_match == pytest.approx(np.mean([row["label"] == row["prediction"] for row in rows]))
    own = [run.scores.headline for run in found.runs()]
    assert [(each.value, each.low, each.high) for each in found.folds] == [(each.value, each.low, each.high) for each in own]
    assert found.mean == pytest.approx(np.mean([each.value for each in own]))
    assert json.loads((found.folder / "summary.json").read_text()) == found.to_json()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_text_and_page_have_the_metric_of_the_task(task: str, crossed: Any) -> None:
    found = crossed(task)
    metric = "mean average precision" if task == "multi-label" else "mean absolute error of "
    text, page = str(found.text()), (found.folder / "report.html").read_text()
    assert f"out-of-fold {metric}" in text
    assert found.spread_sentence().startswith(metric)
    assert " on average, standard deviation " in found.spread_sentence()
    assert f"Out-of-fold {metric}" in page
    assert "Metrics of each" in page
    assert ("2 targets" if task == "regression" else "2 classes") in repr(found)
    assert "MAE" in text if task == "regression" else "mAP" in text


def test_a_test_set_is_scored_once_by_the_mean_of_the_networks(crossed: Any) -> None:
    found = crossed("multi-label")
    assert found.test_scores.num_samples == 32
    both = found.ensemble()
    assert [each.name for each in both.members] == ["fold1", "fold2"]
    assert (
        "The mean of the probabilities of the 2 networks: mean average precision"
        in (found.folder / "report.html").read_text()
    )


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_stopped_folds_go_on_to_the_same_result(task: str, crossed: Any, tmp_path: Path) -> None:
    data = open_task(task, tmp_path, **OPTIONS[task])
    stop = StopAfter(18)  # within the second fold
    stopped = visus.cross_validate(
        data,
        TASK_NETWORK,
        RECIPE,
        folds=2,
        output=tmp_path / "runs",
        name="two",
        progress=False,
        should_stop=stop,
        on_event=stop.follow,
    )
    assert not stopped.is_finished
    resumed: Any = visus.resume(stopped.folder, progress=False)
    for name in ("summary.json", "out_of_fold.csv", "folds.csv"):
        assert (resumed.folder / name).read_text() == (crossed(task).folder / name).read_text(), name


def test_a_class_in_one_group_is_refused(tmp_path: Path) -> None:
    table = open_task("multi-label", tmp_path).table
    labels = table.labels.copy()
    labels[:, 1] = np.arange(len(labels)) == 3
    rare = dataclasses.replace(table, labels=labels)
    with pytest.raises(DataError) as caught:
        assign_folds(rare, np.zeros(len(rare), dtype=bool), 2, 0)
    assert caught.value.message == (
        "all samples of the class 'row' are in one group, or copies of one sample, so one fold would leave none for training. Add "
        "samples of other groups, or remove the class."
    )
