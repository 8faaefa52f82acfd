"""Runs that predict sets of classes or numbers are exported: their bundles answer as the runs do, in Python and on the command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.bundles_of_tasks import TASKS, Shipped, blots
from tests.commands import Call

import visus
from visus.errors import UsageError, VisusError
from visus.ship.files import BundleFiles
from visus.workbench.runs.predict import RunPredictor
from visus.workbench.ship.exporting import task_of_bundle

Ship = Callable[[str], Shipped]
X = blots(1, 60)[0]
CHILD = """
import json, sys
for name in ("torch", "simplejpeg", "platformdirs", "yaml", "rich", "safetensors", "matplotlib"):
    sys.modules[name] = None
import numpy as np
import visus
bundle = visus.open_bundle(sys.argv[1], threads=1)
checks = bundle.verify(engines=["onnxruntime"], progress=False).checks
found = bundle.predict(np.load(sys.argv[2]), progress=False)
print(json.dumps([[each.agreement for each in checks], [each.facts(bundle.decision.task) for each in found], repr(bundle)]))
"""


def values_of(answers: Any) -> Any:
    """The probabilities or numbers of predictions, with the ends of intervals."""
    found = [value for each in answers for value in each.probabilities]
    return [*found, *(end for each in answers for number in each.numbers for end in (number.value, number.low, number.high))]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_a_bundle_answers_as_its_run(shipped: Ship, task: str) -> None:
    run, bundle = visus.load(shipped(task).run, device="cpu"), visus.open_bundle(shipped(task).bundle)
    expected, found = list(run.predict(X, progress=False)), list(bundle.predict(X, progress=False))
    assert [(each.file, each.labels) for each in found] == [(each.file, each.labels) for each in expected]
    np.testing.assert_allclose(values_of(found), values_of(expected), rtol=1e-6, atol=1e-4)
    assert bundle.decision == RunPredictor(run, raw=False).decision
    assert bundle.classes == run.classes
    if task == "multi-label":
        assert len({each.labels for each in found}) > 1, "the network tells samples apart"
    else:
        assert np.ptp([each.numbers[1].value for each in found]) > 1e4


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_a_bundle_answers_without_the_packages_of_a_training(shipped: Ship, task: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X[:5])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    command = [sys.executable, "-W", "error", "-c", CHILD, str(shipped(task).bundle), str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    agreements, found, text = json.loads(done.stdout)
    assert agreements == [1.0, 1.0]
    here = visus.open_bundle(shipped(task).bundle, threads=1)
    assert found == [each.facts(task) for each in here.predict(X[:5], progress=False)]
    heading, metric = {
        "multi-label": ("Bundle multi-label: 2 classes", "mean average precision"),
        "regression": ("Bundle regression: 2 targets", "mean absolute error"),
    }[task]
    assert text.startswith(heading)
    assert metric in text


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_the_commands_treat_a_bundle_as_its_run(shipped: Ship, task: str, tmp_path: Path, visus_command: Call) -> None:
    for place, image in enumerate(X[:3]):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    files = [tmp_path / f"{place}.png" for place in range(3)]
    of_run, of_bundle = (
        [visus_command("predict", path, *files, "-q", *more).out for more in ((), ("--json",))] for path in shipped(task)
    )
    assert of_bundle[0].splitlines()[0] == of_run[0].splitlines()[0], "the columns"
    for one, other in zip(json.loads(of_bundle[1]), json.loads(of_run[1]), strict=True):
        assert list(one) == list(other)
        assert [list(each) for each in one.get("labels", one.get("numbers"))] == [
            list(each) for each in other.get("labels", other.get("numbers"))
        ]
    verified = visus_command("verify", shipped(task).bundle)
    assert verified.code == 0
    assert "it answers as the run did" in verified.out + verified.err
    heading = {"multi-label": "same set", "regression": "same numbers"}[task]
    assert heading in verified.out + verified.err


@pytest.mark.parametrize("task", TASKS)
def test_a_tampered_bundle_is_refused(shipped: Ship, task: str, tmp_path: Path) -> None:
    files = BundleFiles(shipped(task).bundle)
    with zipfile.ZipFile(shipped(task).bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    plain = json.loads(contents["bundle.json"])
    field = {"multi-label": "thresholds", "regression": "half_widths"}[task]
    plain["task"][field][0] /= 2
    contents["bundle.json"] = json.dumps(plain).encode()
    with zipfile.ZipFile(tmp_path / "forged.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    assert getattr(files.manifest.task, field) == getattr(task_of_bundle(visus.load(shipped(task).run)), field)
    with pytest.raises(VisusError) as caught:
        visus.open_bundle(tmp_path / "forged.zip")
    assert "SHA-256" in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_a_table_of_a_bundle_is_that_of_its_run(shipped: Ship, task: str, tmp_path: Path) -> None:
    for number, image in enumerate(X[:3]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    bundle, run = visus.open_bundle(shipped(task).bundle), visus.load(shipped(task).run)
    for name, source in (("bundle", bundle), ("run", run)):
        source.predict_to(sorted(tmp_path.glob("*.png")), tmp_path / f"{name}.csv", progress=False)
    ours, theirs = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text("utf-8").splitlines())) for name in ("bundle", "run")
    )
    assert list(ours[0]) == list(theirs[0])
    for one, other in zip(ours, theirs, strict=True):
        for column, value in one.items():
            try:
                assert float(value) == pytest.approx(float(other[column]), rel=1e-3, abs=1e-3)
            except ValueError:
                assert value == other[column]


@pytest.mark.parametrize("task", TASKS)
def test_what_a_bundle_of_another_task_cannot_do_says_so(shipped: Ship, task: str, tmp_path: Path) -> None:
    bundle = visus.open_bundle(shipped(task).bundle)
    with pytest.raises(UsageError) as caught:
        visus.ensemble([bundle, bundle])
    assert str(caught.value) == (
        f"{bundle.path}: an ensemble of bundles is for networks that predict one class for each sample, and this bundle predicts {task}. "
        "Give the run that it was exported from."
    )
    with pytest.raises(UsageError) as caught:
        bundle.predict(X[:2], top=2)
    all_of = "all numbers" if task == "regression" else "all classes that reach their threshold"
    assert str(caught.value) == f"a prediction of {task} has {all_of}, so top has no effect. Leave it out."
    with pytest.raises(UsageError) as caught:
        bundle.predict(X[:2], progress=False).sort_into(tmp_path / "sorted")
    assert str(caught.value) == f"a folder for each label needs one class for each sample, and this network predicts {task}."


@pytest.mark.parametrize("task", TASKS)
def test_the_model_card_has_the_metrics_of_the_run(shipped: Ship, task: str) -> None:
    run, files = visus.load(shipped(task).run), BundleFiles(shipped(task).bundle)
    card, found = files.read("README.md").decode(), run.scores.headline
    assert (
        f": {found.write(found.value)} (95 % confidence interval {found.write(found.low)} to {found.write(found.high)})."
        in card
    )
    sentences = {
        "multi-label": "It predicts for an image each of 2 classes that it shows: one, several or none: “column”, “row”.",
        "regression": "It predicts 2 numbers for an image: “label 1”, “label 2”.",
    }
    assert sentences[task] in card
    for name in run.classes:
        assert f"| {name} |" in card
    materials = json.loads(files.read("sbom.json"))
    facts = materials["metadata"]["component"]["modelCard"]
    assert (
        facts["modelParameters"]["task"] == {"multi-label": "multi-label classification", "regression": "regression"}[task]
    )
    (metric,) = facts["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], float(metric["value"])) == (files.manifest.task.metric, found.value)


def test_a_run_in_bfloat16_says_how_its_bundle_differs(shipped: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from visus.ship.proof import read_proof
    from visus.workbench.ship import exporting

    bundle = shipped("regression").bundle
    files = BundleFiles(bundle)
    answers = read_proof(files).answers + 0.02 * np.array(files.manifest.task.std)  # type: ignore[attr-defined]

    class InBfloat16:
        machine = type("Machine", (), {"precision": "bfloat16"})
        preprocessing = files.manifest.preprocessing

        def logits(self, batches: Any) -> Any:
            return torch.cat(batches)

        def probabilities(self, logits: Any) -> Any:
            return torch.from_numpy(answers)

    assert exporting._run_difference(InBfloat16(), bundle) == (  # type: ignore[arg-type]
        "computes in bfloat16 on this machine, and the bundle in float32: 0.0 % of the numbers; numbers differ by up to 2.0e-02 standard deviations"
    )
