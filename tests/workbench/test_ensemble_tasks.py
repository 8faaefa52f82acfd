"""Ensembles of networks that predict sets of classes or numbers: the means, what is decided by them, and their scores."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.commands import Call
from tests.workbench.conftest import TaskRuns, task_arrays

import visus
from visus.errors import UsageError
from visus.workbench.runs.mean_predictor import mean_numbers, mean_thresholds

TASKS = ["multi-label", "regression"]
NAMES = ("a", "b", "c")


@given(st.permutations(range(3)), st.integers(0, 99), st.integers(1, 4))
def test_numbers_and_thresholds_are_matched_by_name(order: list[int], seed: int, num_members: int) -> None:
    numbers = np.random.default_rng(seed).normal(size=(num_members, 5, 3))
    turned = tuple(NAMES[place] for place in order)
    names = [NAMES, *[turned] * (num_members - 1)]
    given = [numbers[0], *numbers[1:, :, order]]
    np.testing.assert_allclose(mean_numbers(given, names), numbers.mean(axis=0))
    thresholds = [tuple(each[0].tolist()) for each in given]
    np.testing.assert_allclose(mean_thresholds(list(zip(names, thresholds, strict=True))), numbers[:, 0].mean(axis=0))


def values(run: Any, x: Any) -> Any:
    """The probabilities (N, K) or numbers (N, K) of a run."""
    import torch

    return run.calibrator()(run.logits(run.preprocessing.scaled(torch.from_numpy(x[:, None])))).numpy()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_a_prediction_is_the_mean_of_those_of_the_members(task: str, task_runs: TaskRuns) -> None:
    members = task_runs(task)
    x, _, _ = task_arrays(3, 30)
    mean = np.mean([values(run, x) for run in members], axis=0)
    for both in (visus.ensemble(members), visus.ensemble(members[::-1])):
        for answer, row in zip(both.predict(x, progress=False), mean, strict=True):
            if task == "regression":
                assert [each.value for each in answer.numbers] == pytest.approx(row.tolist())
                assert {each.low for each in answer.numbers} == {None}
            else:
                limits = np.mean([run.calibration.thresholds for run in members], axis=0)
                assert set(answer.labels) == {
                    name for name, share, limit in zip(both.classes, row, limits, strict=True) if share >= limit
                }


@pytest.mark.parametrize("task", TASKS)
def test_a_run_and_its_copy_have_the_scores_of_the_run(task: str, task_runs: TaskRuns, tmp_path: Path) -> None:
    run = task_runs(task)[0]
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    both, alone = visus.ensemble([run, copy]).evaluate(progress=False), run.evaluate()
    assert both.num_samples == alone.num_samples
    for name in ("value", "low", "high", "baseline"):
        assert getattr(both.headline, name) == pytest.approx(getattr(alone.headline, name))
    assert both.loss == pytest.approx(alone.loss, rel=1e-4)
    assert (both.num_learned, both.num_chose) == (alone.num_learned, alone.num_chose)  # type: ignore[union-attr]
    if task == "multi-label":
        assert both.exact_match == alone.exact_match  # type: ignore[union-attr]
    else:
        assert both.targets[0].covered is None  # type: ignore[union-attr]


@pytest.mark.parametrize("task", TASKS)
def test_the_scores_are_those_of_the_predictions(task: str, task_runs: TaskRuns, tmp_path: Path) -> None:
    both = visus.ensemble(task_runs(task))
    x, sets, numbers = task_arrays(4, 40)
    answers = list(both.predict(x, progress=False))
    names = {"classes": list(both.classes)} if task == "multi-label" else {}
    np.savez(tmp_path / "new.npz", x=x, y=sets if names else numbers, **names)  # type: ignore[arg-type]
    scores: Any = both.evaluate(tmp_path / "new.npz", progress=False)
    if task == "multi-label":
        wanted = [{name for name, has in zip(both.classes, row, strict=True) if has} for row in sets]
        share = np.mean([set(each.labels) == truth for each, truth in zip(answers, wanted, strict=True)])
        assert scores.exact_match == pytest.approx(share)
    else:
        found = np.array([[each.value for each in answer.numbers] for answer in answers])
        assert [each.mae for each in scores.targets] == pytest.approx(np.abs(found - numbers).mean(axis=0).tolist())


@pytest.mark.parametrize("task", TASKS)
def test_commands_average_and_say_so(task: str, task_runs: TaskRuns, tmp_path: Path, visus_command: Call) -> None:
    members = task_runs(task)
    np.save(tmp_path / "new.npy", task_arrays(2, 6)[0])
    folders = [run.folder for run in members]
    printed = visus_command("predict", *folders, tmp_path / "new.npy", "--json")
    answers = list(visus.ensemble(folders).predict(tmp_path / "new.npy", progress=False))
    said = " ".join(printed.err.split())
    if task == "regression":
        numbers = [[each["value"] for each in row["numbers"]] for row in json.loads(printed.out)]
        assert np.array(numbers) == pytest.approx(np.array([[each.value for each in one.numbers] for one in answers]))
        assert "Numbers are the mean over 2 networks: regression-0, regression-1." in said
        assert "A mean has no prediction interval: those of the members hold for their own predictions." in said
        assert "of the prediction (" not in said
    else:
        labels = [[each["label"] for each in row["labels"]] for row in json.loads(printed.out)]
        assert labels == [list(each.labels) for each in answers]
        assert "A class is predicted if its mean probability reaches the mean of the members' thresholds." in said
    assert visus_command("predict", *folders, tmp_path / "new.npy", "-q", "--out", tmp_path / "t.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert len(rows) == 6
    found = repr(visus.ensemble(folders))
    assert ("mean of numbers" if task == "regression" else "mean of calibrated probabilities") in found
    assert members[0].scores.headline.metric in found


def test_networks_of_two_tasks_are_refused(task_runs: TaskRuns) -> None:
    with pytest.raises(UsageError) as caught:
        visus.ensemble([task_runs("multi-label")[0], task_runs("regression")[0]])
    assert str(caught.value) == (
        "the run multi-label-0 and the run regression-0 cannot be averaged: one predicts multi-label, the other regression. Give "
        "networks of one task."
    )
