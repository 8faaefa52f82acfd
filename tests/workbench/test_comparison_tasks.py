"""``visus compare`` of runs that predict sets of classes or numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.commands import Call
from tests.workbench.conftest import TaskRuns, task_arrays

import visus
from visus.errors import UsageError
from visus.evaluation.paired import holm
from visus.evaluation.tasks.paired_differences import PairedSets
from visus.tables import Table

TASKS = ["multi-label", "regression"]
METRICS = {"multi-label": ("mAP", "95 % interval", "exact match"), "regression": ("MAE", "95 % interval")}


@pytest.mark.parametrize("task", TASKS)
def test_the_scores_are_those_of_each_run_and_the_difference_is_theirs(task: str, task_runs: TaskRuns) -> None:
    left, right = task_runs(task)
    found = visus.compare(left, right.folder, progress=False)
    assert [each.scores.headline for each in found.contenders] == [each.evaluate().headline for each in (left, right)]
    (pair,) = found.pairs
    values = [each.scores.headline.value for each in found.contenders]
    answers: Any = pair.answers
    first = answers if isinstance(answers, PairedSets) else answers.targets[0]
    assert first.difference == pytest.approx(values[1] - values[0])
    if isinstance(answers, PairedSets):
        assert answers.exact.accuracy_left == pytest.approx(found.contenders[0].scores.exact_match)  # type: ignore[union-attr]
    table = next(each for each in found.text() if isinstance(each, Table))
    assert table.headings == ("run", "network", *METRICS[task], "parameters", "multiply-adds", "trained in")
    assert all(len(row) == len(table.headings) for row in table.rows)
    assert json.loads(json.dumps(found.to_json()))["pairs"][0]["num_samples"] == answers.num_samples
    assert found.contenders[0].scores.headline.write(values[0]) in repr(found)
    assert found.contenders[0].scores.headline.metric in repr(found.contenders[0])


@pytest.mark.parametrize("task", TASKS)
def test_a_run_equals_itself(task: str, task_runs: TaskRuns) -> None:
    run = task_runs(task)[0]
    answers: Any = visus.compare(run, run, progress=False).pairs[0].answers
    assert set(answers.p_values) == {1.0}
    assert not (answers.largest if task == "regression" else answers.differing)


@pytest.mark.parametrize("task", TASKS)
def test_p_values_of_three_runs_are_corrected_metric_by_metric(task: str, task_runs: TaskRuns) -> None:
    left, right = task_runs(task)
    found = visus.compare(left, right, left, progress=False)
    own = [pair.answers.p_values for pair in found.pairs]
    assert len(own[0]) == 2
    by_metric = [holm(values) for values in zip(*own, strict=True)]
    assert [pair.holm_p_values for pair in found.pairs] == list(zip(*by_metric, strict=True))
    assert found.to_json()["pairs"][0]["holm_p_values"] == list(found.pairs[0].holm_p_values)
    assert "by Holm's correction" in found.pairs[0].sentence()


@pytest.mark.parametrize("task", TASKS)
def test_other_data_is_compared_whole(task: str, task_runs: TaskRuns, tmp_path: Any, visus_command: Call) -> None:
    left, right = task_runs(task)
    x, own_sets, own_numbers = task_arrays(7, 24)
    names = {"classes": ["column", "row"]} if task == "multi-label" else {}
    np.savez(tmp_path / "new.npz", x=x, y=own_sets if names else own_numbers, **names)  # type: ignore[arg-type]
    answer = visus_command("compare", left.folder, right.folder, "--data", tmp_path / "new.npz")
    assert answer.code == 0, answer.err
    words = "the same probability" if task == "multi-label" else "always predicting the training mean"
    assert words in answer.out
    assert METRICS[task][0] in answer.out
    assert "paired bootstrap p = " in answer.out
    assert ("whose errors of" if task == "regression" else "they answer differently for") in answer.out


def test_runs_of_two_tasks_are_refused(task_runs: TaskRuns) -> None:
    left, right = task_runs("multi-label")[0], task_runs("regression")[0]
    with pytest.raises(UsageError) as caught:
        visus.compare(left, right, progress=False)
    assert str(caught.value) == (
        "multi-label-0 and regression-0 cannot be compared: one predicts multi-label, the other regression. Give runs of one task."
    )
