"""Experiments with runs that predict sets of classes or numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.workbench.conftest import TASK_NETWORK, TaskRuns, open_task

import visus
from visus.networks import weights
from visus.tables import Table
from visus.workbench.train.events import Prepared

TASKS = ["multi-label", "regression"]
pytestmark = pytest.mark.usefixtures("light_pages")


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_perceptrons_are_compared_by_the_metric_of_the_task(task: str, task_runs: TaskRuns, tmp_path: Path) -> None:
    run = task_runs(task)[0]
    found = visus.experiment.mlp(run, output=tmp_path, progress=False)
    first, *others = (each.scores for each in found.contenders)
    assert first.headline == run.scores.headline
    assert {each.headline.metric for each in others} == {first.headline.metric}
    assert {each.num_samples for each in others} == {first.num_samples}
    assert isinstance(next(each for each in found.text() if isinstance(each, Table)), Table)


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_state_the_metric_of_each_network(task: str, task_runs: TaskRuns, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    run = task_runs(task)[0]
    found = visus.experiment.task(run, "reconstruction", output=tmp_path, progress=False)
    headline = run.scores.headline
    assert found.facts.result == f"Its {headline.metric} is {headline.write(headline.value)} on 32 held-out samples."
    assert f"Its {headline.metric} is" in found.facts.others[1].result
    assert found.page.is_file()


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
def test_an_antialiased_network_has_both_reports(task: str, tmp_path: Path) -> None:
    network = "conv(4, 3, stride=2), relu, flatten, linear(classes)"
    recipe = visus.Recipe(epochs=1, batch_size=16)
    run = visus.train(open_task(task, tmp_path), network, recipe, output=tmp_path / "runs", progress=False)
    found: Any = visus.experiment.antialias(run, progress=False)
    words = "keep their label" if task == "multi-label" else f"{run.classes[0]} changes by"
    assert repr(found).count(words) == 2
    assert len(found.after.ways) == len(found.before.ways) == 5
    assert (found.before.phases is None) == (task == "regression")


@pytest.mark.parametrize(("task", "outputs"), [("multi-label", "classes"), ("regression", "outputs")])
def test_the_line_of_a_new_head_names_what_it_outputs(
    task: str, outputs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.save(visus.network(TASK_NETWORK, (1, 10, 10), 5), tmp_path / "five.safetensors")
    seen: list[Any] = []
    recipe = visus.Recipe(epochs=1, batch_size=16)
    data, file = open_task(task, tmp_path), tmp_path / "five.safetensors"
    visus.train(data, TASK_NETWORK, recipe, weights=file, output=tmp_path / "runs", progress=True, on_event=seen.append)
    assert any(isinstance(each, Prepared) for each in seen)
    printed = " ".join(capsys.readouterr().err.split())
    assert f"linear1.weight and linear1.bias are new, for another number of {outputs}" in printed
