"""Searches with other metrics than the accuracy: of sets of classes, of numbers, and that of ``select``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.levels import write_levels
from tests.workbench.conftest import TASK_NETWORK, open_task

import visus
from visus.errors import TrainingError
from visus.workbench.tune.events import TrialDone
from visus.workbench.tune.result import Tuned, best_of
from visus.workbench.tune.trial import FINISHED, Trial

METRICS = {"multi-label": "average_precision", "regression": "mae"}


@pytest.fixture(autouse=True)
def _light(light_pages: None) -> None:
    """Without the slow parts of a report."""


def search(task: str, folder: Path, **changes: Any) -> Tuned:
    recipe = changes.pop("recipe", visus.Recipe(epochs=2, batch_size=16))
    keywords: dict[str, Any] = {"space": {"lr": "0.001..0.1"}, "trials": 3, "output": folder / "runs", "progress": False}
    return visus.tune(open_task(task, folder), TASK_NETWORK, recipe, **keywords | changes)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
@pytest.mark.long
def test_the_best_trial_is_that_of_the_main_metric_and_its_run_has_the_same(task: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    found = search(task, tmp_path, on_event=seen.append)
    metric = METRICS[task]
    values = [each.value for each in found.trials]
    best = min(values) if task == "regression" else max(values)
    assert found.best_trial.value == best
    assert {each.metric for each in found.trials} == {metric}
    history = list(csv.DictReader(io.StringIO((found.run.folder / "results.csv").read_text())))
    assert str(f"{best:.6g}") in {f"{float(row['val_score']):.6g}" for row in history}
    (head, *_), text = list(csv.reader(io.StringIO((found.folder / "trials.csv").read_text()))), str(found.text())
    assert head[:4] == ["trial", "state", f"val_{metric}", "val_loss"]
    assert (
        found.table().headings[1]
        == f"validation {'mean average precision' if task == 'multi-label' else 'mean absolute error'}"
    )
    error = "mean absolute error in standard deviations (mean of 2 targets)"
    words = "mean average precision" if task == "multi-label" else error
    assert f"{words} {found.best_trial.write()} on 13 validation samples" in text
    assert found.run.scores.headline.metric in text
    done = [each for each in seen if isinstance(each, TrialDone)]
    assert f"validation {words} {found.trials[0].write()}" in done[0].facts()[0][1]
    assert json.loads(json.dumps(found.to_json()))["best"]["metric"] == metric


def test_numbers_have_a_default_space_without_smoothing(tmp_path: Path) -> None:
    found = search("regression", tmp_path, space=None, trials=2, recipe=visus.Recipe(epochs=1, batch_size=16))
    assert {each.state for each in found.trials} == {FINISHED}
    assert "learning_rate" in found.trials[1].settings
    assert "label_smoothing" not in found.trials[1].settings


def test_select_is_the_metric_of_the_search(tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, select="log_loss")
    space = {"lr": "0.001..0.3"}
    levels = write_levels(tmp_path)
    found = visus.tune(levels, TASK_NETWORK, recipe, space=space, trials=2, output=tmp_path, progress=False)
    assert found.best_trial.value == min(each.value for each in found.trials)
    assert np.isnan(found.best_trial.accuracy)


def test_small_errors_and_large_gains_are_better() -> None:
    def trial(number: int, value: float, metric: str) -> Trial:
        return Trial(number, {}, FINISHED, value, 1.0, 2, 1.0, 100, metric=metric)

    assert best_of([trial(0, 3.0, "mae"), trial(1, 2.0, "mae"), trial(2, 2.5, "mae")]).number == 1
    assert best_of([trial(0, 0.3, "r2"), trial(1, 0.2, "r2")]).number == 0
    again = trial(0, 2.0, "mae")
    assert Trial.from_json(json.loads(json.dumps(again.to_json()))) == again


def nowhere_defined(scores: object, labels: object) -> float:
    return float("nan")


def test_a_metric_that_is_undefined_in_every_trial_is_the_cause_that_is_named(tmp_path: Path) -> None:
    seen: list[Any] = []
    name = f"{__name__}:nowhere_defined"
    recipe = visus.Recipe(epochs=1, batch_size=8, select=name)
    with pytest.raises(TrainingError) as caught:
        visus.tune(
            write_levels(tmp_path),
            TASK_NETWORK,
            recipe,
            space={"lr": "0.001..0.3"},
            trials=2,
            output=tmp_path,
            progress=False,
            on_event=seen.append,
        )
    assert str(caught.value) == (
        f"no trial has a score: the {name} is undefined (NaN) after every epoch. Choose another with Recipe(select=...)."
    )
    done = [each.facts()[0][1] for each in seen if isinstance(each, TrialDone)]
    assert len(done) == 2
    assert done[0].startswith(f"0: validation {name} undefined (NaN) in ")


def test_a_trial_without_an_epoch_has_no_metric() -> None:
    none = Trial(1, {"learning_rate": 0.1}, "failed", float("nan"), float("nan"), 0, 1.0, 50, "the loss became nan.")
    assert TrialDone(none, False).facts() == [
        ("trial", "1: no epoch (failed: the loss became nan) in 1 s; learning_rate 0.1")
    ]
