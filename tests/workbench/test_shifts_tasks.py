"""How sets of classes and numbers change when samples shift."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.commands import Call
from tests.workbench.conftest import TaskRuns
from torch import nn

import visus
from visus.evaluation.number_shifts import measure_number_shifts
from visus.evaluation.shifts import measure_shifts, moved
from visus.tables import Table
from visus.workbench.runs.shifts import some_samples


@given(st.integers(0, 99), st.integers(1, 2), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_the_change_of_numbers_is_that_of_a_plain_loop(seed: int, reach: int, num_targets: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, num_targets)).eval()
    batch = torch.randn(3, 2, 6, generator=generator)
    found = measure_number_shifts(module, batch, (reach,), values=lambda outputs: 3 * outputs + 1)
    with torch.no_grad():
        numbers = [3 * module(moved(batch, (shift,))) + 1 for shift in range(-reach, reach + 1)]
        changes = torch.stack([(each - numbers[reach]).abs().mean(0) for each in numbers if each is not numbers[reach]])
    assert found.mean_change == pytest.approx(changes.mean(0).tolist(), rel=1e-4)
    assert found.largest_change == pytest.approx(changes.amax(0).tolist(), rel=1e-4)
    assert (found.num_shifts, found.is_every_shift) == (2 * reach + 1, True)


def test_a_network_that_ignores_positions_changes_nothing() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
    found = measure_number_shifts(module, torch.randn(4, 2, 8), (2,), values=lambda outputs: outputs)
    assert max(found.largest_change) < 1e-6


@pytest.mark.long
def test_sets_of_classes_are_compared_as_wholes(task_runs: TaskRuns) -> None:
    run = task_runs("multi-label")[0]
    report = run.shifts(progress=False)
    data = run.open_data(progress=False)
    samples, _ = some_samples(run, data.split("test"), 200)
    way = report.ways[0]
    thresholds = torch.tensor(run.calibration.thresholds)

    def sets(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = run.calibrator()(run.module(batch)) >= thresholds
        return found

    reach = way.reach_px
    shifts = [(y, x) for y in range(-reach[0], reach[0] + 1) for x in range(-reach[1], reach[1] + 1) if (y, x) != (0, 0)]
    same = [(sets(moved(samples, shift)) == sets(samples)).all(1).float().mean() for shift in shifts]
    assert way.kept == pytest.approx(float(torch.stack(same).mean()))
    assert report.placement.sizes == ()
    assert json.loads(json.dumps(report.to_json()))["ways"][0]["kept"] == way.kept


def test_the_mean_logit_counts_where_each_class_is_decided_by_itself() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 0].repeat(1, 2)

    batch = torch.arange(1.0, 7.0).reshape(1, 1, 6)
    assert measure_shifts(Sum(), batch, (1,)).logit_change == 0
    assert measure_shifts(Sum(), batch, (1,), is_centered=False).logit_change > 0


@pytest.mark.long
def test_numbers_have_a_row_for_each_way_and_target(task_runs: TaskRuns, visus_command: Call) -> None:
    run = task_runs("regression")[0]
    report: Any = run.shifts(progress=False)
    table = next(each for each in report.text() if isinstance(each, Table))
    assert table.headings == ("way", "target", "mean change", "worst shift", "what enters")
    assert [row[:2] for row in table.rows[:2]] == [("roll", name) for name in run.classes]
    assert f"{run.classes[0]} changes by {report.ways[0].mean_change[0]:.4g}" in repr(report)
    assert report.phases is None
    assert not any("translate" in each.command for each in report.remedies)
    answer = visus_command("evaluate", run.folder, "--shifts", "--json")
    assert json.loads(answer.out)["shifts"]["ways"][0]["mean_change"] == pytest.approx(list(report.ways[0].mean_change))


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_an_experiment_compares_runs_of_every_task(task: str, task_runs: TaskRuns, tmp_path: Any, light_pages: None) -> None:
    run = task_runs(task)[0]
    found = visus.experiment.shuffle(run, output=tmp_path, progress=False)
    assert [each.scores.headline.metric for each in found.contenders] == [run.scores.headline.metric] * 2
    text = str(found.text())
    column = "two shifts agree" if task == "multi-label" else "shift change"
    assert f"{column}: the " in text
    assert column in next(each for each in found.text() if isinstance(each, Table)).headings
    assert ("the same set of classes for two" in text) == (task == "multi-label")
