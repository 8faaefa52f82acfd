"""Raw probabilities of networks that predict sets of classes: the labels are those of calibrated ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands import Call
from tests.workbench.conftest import TaskRuns, open_task, task_arrays

import visus
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples
from visus.workbench.compare.answers import answered

TEMPERATURE, THRESHOLDS = 8.0, [0.492, 0.501]


@pytest.fixture
def run(task_runs: TaskRuns, tmp_path: Path) -> Any:
    """A run whose calibration has a high temperature, and thresholds that its own probabilities reach in other samples."""
    folder = shutil.copytree(task_runs("multi-label")[0].folder, tmp_path / "copy")
    file = folder / "calibration.json"
    facts = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(facts | {"temperature": TEMPERATURE, "thresholds": THRESHOLDS, "reason": ""}), "utf-8")
    return visus.load(folder)


def test_raw_predictions_of_sets_have_the_labels_of_calibrated_ones(run: Any) -> None:
    x, _, _ = task_arrays(3, 60)
    calibrated, raw = (list(run.predict(x, raw=raw, progress=False)) for raw in (False, True))
    logits = run.logits(run.preprocessing.scaled(torch.from_numpy(x[:, None]))).double()
    calibrated_shares, raw_shares = torch.sigmoid(logits / TEMPERATURE).numpy(), torch.sigmoid(logits).numpy()
    assert (
        (raw_shares >= THRESHOLDS) != (calibrated_shares >= THRESHOLDS)
    ).any()  # the thresholds of one are not those of the other
    assert [set(each.labels) for each in raw] == [set(each.labels) for each in calibrated]
    shares = np.array([[each.class_probabilities[name] for name in run.classes] for each in raw])
    assert shares == pytest.approx(raw_shares, abs=1e-6)


def test_raw_scores_of_sets_have_the_predictions_of_calibrated_ones(run: Any) -> None:
    calibrated, raw = (run.evaluate(split="train", raw=raw, progress=False) for raw in (False, True))
    assert raw.loss != calibrated.loss
    assert (raw.exact_match, raw.label_accuracy, raw.macro_f1) == (
        calibrated.exact_match,
        calibrated.label_accuracy,
        calibrated.macro_f1,
    )
    odds = [(each / (1 - each)) ** TEMPERATURE for each in THRESHOLDS]  # a logit of T logit(threshold)
    assert [each.threshold for each in raw.per_class] == pytest.approx([each / (1 + each) for each in odds])


def test_compared_raw_sets_are_those_of_calibrated_probabilities_in_any_order_of_the_classes(
    run: Any, tmp_path: Path
) -> None:
    data = open_task("multi-label", tmp_path)
    part = data.split("train")
    outputs = run.answers(data, "train")
    turned = LabeledSamples(part.labels[:, ::-1].copy(), "train")
    calibrated, raw = (answered(run, outputs, run.classes[::-1], turned, None, raw=raw) for raw in (False, True))
    assert (raw.answers.predicted == calibrated.answers.predicted).all()
    assert raw.scores.exact_match == run.evaluate(split="train", progress=False).exact_match  # type: ignore[union-attr]


def test_the_command_prints_the_thresholds_of_raw_probabilities(run: Any, visus_command: Call) -> None:
    found = json.loads(visus_command("evaluate", run.folder, "--raw", "--json").out)
    assert found["calibration"]["temperature"] == 1.0
    assert found["calibration"]["thresholds"] == pytest.approx([each["threshold"] for each in found["per_class"]])
