"""Test sets of one group, or of few: what scores, JSON, comparison and bundle say of the intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands import Call

import visus
from visus.evaluation.cluster_bootstrap import group_notes
from visus.evaluation.tasks.all_scores import scores_from_json

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
TASKS = ("single-label", "multi-label", "regression")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def train_task(tmp_path: Path, light_pages: None) -> Callable[..., visus.Run]:
    def train(task: str, name: str, num_speakers: int = 3, call: Callable[..., Any] = visus.train, **settings: Any) -> Any:
        random = np.random.default_rng(0)
        x = random.normal(size=(60, 1, 32)).astype(np.float32)
        labels = {
            "single-label": random.integers(0, 2, 60),
            "multi-label": random.integers(0, 2, (60, 3)),
            "regression": random.normal(size=60),
        }
        groups = [f"speaker{place % num_speakers}" for place in range(60)]
        keep = {"keep_in": tmp_path / f"kept-{task}-{num_speakers}", "progress": False}
        data = visus.open_data(x=x, y=labels[task], task=task, groups=groups, **keep)
        how = {name: settings.pop(name) for name in ("folds", "progress") if name in settings}
        recipe = visus.Recipe(**{"epochs": 1, "batch_size": 16, "device": "cpu", "seed": 0, **settings})
        return call(data, NETWORK, recipe, output=tmp_path, name=name, **{"progress": False, **how})

    return train


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_a_test_set_of_one_group_has_valid_scores_that_are_read_back_and_exported(
    task: str, train_task: Callable[..., visus.Run], tmp_path: Path, visus_command: Call
) -> None:
    run = train_task(task, "run")
    assert run.scores.num_groups == 1
    for file in run.folder.glob("*.json"):
        strict(file.read_text())
    assert scores_from_json(strict(json.dumps(run.scores.to_json(), allow_nan=False))) == run.scores
    found = run.scores.headline
    assert (found.low, found.high) == ((None, None) if task == "regression" else (0.0, 1.0))
    assert found.is_no_better
    interval = {"regression": "no interval: all samples are of one group"}.get(
        task, "95 % interval 0.0 % to 100.0 % over 1 group"
    )
    assert interval in str(run.scores.text())
    note = "note: All samples are of one group, which says nothing about other groups. Measure on 10 groups or more."
    assert note in str(run.scores.text())
    assert "inf" not in (run.folder / "README.md").read_text()
    assert " inf" not in (run.folder / "report.html").read_text()
    strict(visus_command("evaluate", run.folder, "--json").out)
    exported = run.export(tmp_path / "bundle", formats=["onnx"], progress=False)
    shown = dict(exported.text()[1].rows)
    written = interval.removeprefix("95 % interval ")
    of = {"single-label": "accuracy of the run", "multi-label": "mean average precision of the run"}
    assert f"({written}) on 20 samples" in shown[of.get(task, "mean absolute error of the run")]
    facts = strict((tmp_path / "bundle" / "bundle.json").read_text())["facts"]
    assert facts["num_groups"] == 1
    model = strict((tmp_path / "bundle" / "sbom.json").read_text())["metadata"]["component"]
    (measured,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert ("confidenceInterval" in measured) == (task != "regression")
    assert f"({written}) on 20 samples" in repr(visus.open_bundle(tmp_path / "bundle"))


def test_a_comparison_over_one_group_has_no_interval_of_an_error_and_says_so(
    train_task: Callable[..., visus.Run], visus_command: Call
) -> None:
    runs = [train_task("regression", "a"), train_task("regression", "b", seed=1, learning_rate=0.1)]
    compared = visus.compare(*runs, progress=False)
    told = strict(visus_command("compare", *(run.folder for run in runs), "--json").out)
    assert told["pairs"][0]["targets"][0]["difference_low"] is None
    said = str(compared.text())
    assert "(no interval: all samples are of one group; paired bootstrap p = 1); the difference is not significant" in said
    assert group_notes(1)[0] in said
    assert "inf" not in said


def test_a_difference_over_one_group_has_the_whole_range(train_task: Callable[..., visus.Run], visus_command: Call) -> None:
    first, second = train_task("multi-label", "a"), train_task("multi-label", "b", seed=1, learning_rate=0.1)
    compared = visus.compare(first, second, progress=False)
    strict(visus_command("compare", first.folder, second.folder, "--json").out)
    assert "(95 % interval -100.0 to 100.0 over 1 group; paired bootstrap p = 1)" in str(compared.text())


@pytest.mark.parametrize("task", TASKS)
def test_an_out_of_fold_score_over_few_groups_has_a_note(
    task: str, train_task: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train_task(task, "folds", num_speakers=6, call=visus.cross_validate, folds=3, progress=True)
    note = (
        "The 95 % intervals are over 6 groups. Over fewer than 10, they are too narrow; over 2 or 3, far too narrow. "
        "Measure on more groups."
    )
    assert f"note: {note}" in str(found.text())
    assert "Over fewer than 10, they are too narrow" in (found.folder / "report.html").read_text()
    assert " ".join(capsys.readouterr().err.split()).count(note) >= 1
    strict((found.folder / "summary.json").read_text())
    assert "mean mean" not in found.spread_sentence()


def test_a_fold_of_one_group_has_no_interval_of_an_error(train_task: Callable[..., Any]) -> None:
    found = train_task("regression", "folds", num_speakers=3, call=visus.cross_validate, folds=3)
    assert [(each.low, each.high) for each in found.folds] == [(None, None)] * 3
    assert str(found.text()).count("no interval: all samples are of one group") == 3
    strict((found.folder / "summary.json").read_text())


def test_the_note_stands_below_the_result_of_a_training(
    train_task: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    train_task("regression", "run", progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "(no interval: all samples are of one group) on 20 test signals; always predicting the training mean has" in said
    assert f"note {group_notes(1)[0]}" in said
    assert "% of new signals of the same groups lie within" in said
