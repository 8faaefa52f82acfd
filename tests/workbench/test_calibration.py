"""A run's probabilities are calibrated wherever they are given; --raw gives the network's own; labels never change."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands import Call

import visus
from visus.errors import RunError, UsageError
from visus.evaluation.calibration import UNCALIBRATED, Calibrator, choose_temperature
from visus.training.runs import RunFolder
from visus.workbench.runs.scoring import calibration_sentence

SIDE = 6


def blobs(path: Path, num_each: dict[str, int]) -> Path:
    """Noisy images, those of class 1 brighter on the left half: an npz file with its own splits."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, count in num_each.items():
        labels = np.arange(count) % 2
        values = rng.normal(110, 25, (count, SIDE, SIDE))
        values[labels == 1, :, : SIDE // 2] += 30
        parts |= {f"{name}_images": np.clip(values, 0, 255).astype(np.uint8), f"{name}_labels": labels}
    np.savez(path, **parts)
    return path


@pytest.fixture(scope="module")
def smoothed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose labels were smoothed so much that it is far less confident than right."""
    root = tmp_path_factory.mktemp("calibrated")
    data = blobs(root / "blobs.npz", {"train": 96, "val": 80, "test": 60})
    recipe = visus.Recipe(
        epochs=6, batch_size=16, precision="float32", learning_rate=0.05, optimizer="adamw", label_smoothing=0.6
    )
    return visus.train(data, "flatten, linear(classes)", recipe, output=root / "runs").folder


def test_a_training_keeps_the_temperature_of_its_answers_for_validation(smoothed: Path) -> None:
    run = visus.load(smoothed)
    data = run.open_data()
    kept = json.loads((smoothed / "calibration.json").read_text())
    found = choose_temperature(run.answers(data, "val"), torch.from_numpy(data.split("val").labels), "val", 0.6)
    assert found.smoothing == kept["smoothing"] == 0.6
    assert run.calibration == dataclasses.replace(found, temperature=kept["temperature"])
    assert kept["temperature"] == pytest.approx(found.temperature, rel=1e-6)
    assert found.temperature < 0.5
    assert found.error_before is not None
    assert kept["error_after"] < 0.7 * found.error_before


def test_all_probabilities_have_the_temperature_and_raw_ones_have_not(smoothed: Path) -> None:
    run = visus.load(smoothed)
    data = run.open_data()
    answers, labels = run.answers(data, "test"), torch.from_numpy(data.split("test").labels)
    rows = data.split("test").rows(np.arange(60)).numpy()
    for raw, calibrator in ((False, Calibrator(run.calibration.temperature, 0.6)), (True, UNCALIBRATED)):
        chances = calibrator(answers)
        assert torch.equal(run.probabilities(answers, raw=raw), chances)
        scores = run.evaluate(raw=raw)
        assert scores.confidence == pytest.approx(float(chances.max(1).values.mean()), abs=1e-6)
        assert [each.probability for each in run.predict([rows], raw=raw)] == pytest.approx(
            chances.max(1).values.tolist(), abs=1e-5
        )
        wrong = run.mistakes(raw=raw)
        sure = chances.max(1).values[chances.argmax(1) != labels].max()
        assert wrong.confident_wrong[0].probability == pytest.approx(float(sure), abs=1e-6)
        seen = visus.look(run, "test:0", templates=False, raw=raw).facts.answer
        assert seen is not None
        assert seen.probabilities == pytest.approx(chances[0].numpy(), abs=1e-5)
    assert [each.label for each in run.predict([rows])] == [each.label for each in run.predict([rows], raw=True)]
    assert run.evaluate().accuracy == run.evaluate(raw=True).accuracy
    assert run.evaluate().loss < run.evaluate(raw=True).loss
    assert run.evaluate() == run.scores


@pytest.mark.long
def test_the_commands_say_which_probabilities_they_give(smoothed: Path, visus_command: Call) -> None:
    sample = smoothed.parent.parent / "blobs.npz"
    np.save(smoothed.parent / "rows.npy", np.load(sample)["test_images"])
    calibrated, raw = (
        visus_command("predict", smoothed, smoothed.parent / "rows.npy", *words) for words in ((), ("--raw",))
    )
    temperature = visus.load(smoothed).calibration.temperature
    told = (
        f"the logits are divided by a temperature of {temperature:.3g}, and the label smoothing of 0.6 is "
        "inverted, fitted on 80 images of the validation set."
    )
    assert f"note: Probabilities are calibrated: {told}\n" in calibrated.err
    assert "note: Probabilities are the network's own (raw), not calibrated.\n" in raw.err
    first, second = ([row["label"] for row in csv.DictReader(io.StringIO(answer.out))] for answer in (calibrated, raw))
    assert first == second
    assert calibrated.out != raw.out
    assert f"note: Probabilities are calibrated: {told}" in visus_command("evaluate", smoothed).out.replace(
        "\n", " "
    ).replace("  ", " ")
    assert (
        "note: Probabilities are the network's own (raw), not calibrated."
        in visus_command("evaluate", smoothed, "--raw").out
    )
    assert json.loads(visus_command("evaluate", smoothed, "--json").out)["temperature"] == temperature
    assert json.loads(visus_command("evaluate", smoothed, "--json").out)["smoothing"] == 0.6
    assert json.loads(visus_command("evaluate", smoothed, "--json", "--raw").out)["temperature"] == 1
    shown = visus_command("look", smoothed, "test:0", "--no-templates", "-o", smoothed.parent / "a.html")
    assert "Probabilities are calibrated: " in shown.out
    assert "Probabilities are calibrated: " in (smoothed.parent / "a.html").read_text("utf-8")
    report = (smoothed / "report.html").read_text("utf-8")
    assert "These probabilities are calibrated: the logits are divided by a temperature of " in report
    assert "These probabilities are calibrated: " in (smoothed / "README.md").read_text("utf-8")


def test_a_run_without_a_temperature_of_its_own_speaks_for_itself(smoothed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(smoothed, copy)
    renew = f"visus.load({str(copy)!r}).report() fits one"
    last = visus.load(copy, which="last").calibration
    assert last.is_used  # the last epoch is the best one here
    recipe = (copy / "recipe.yaml").read_text()
    tta = visus.load(copy).recipe.tta
    assert f"tta: {tta}" in recipe
    (copy / "recipe.yaml").write_text(recipe.replace(f"tta: {tta}", "tta: shift"))
    found = visus.load(copy).calibration
    assert (found.temperature, found.reason) == (
        1.0,
        f"the temperature was fitted with tta {tta}, and this run now has shift ({renew})",
    )
    (copy / "recipe.yaml").write_text(recipe)
    run = visus.load(copy)
    with torch.no_grad():
        run.module.get_parameter("linear1.bias").add_(1)
    RunFolder.open(copy).write_weights("last", run.module)
    assert visus.load(copy).calibration.is_used
    (copy / "weights" / "last.safetensors").replace(copy / "weights" / "best.safetensors")
    assert run.calibration.reason == f"the temperature was fitted for other weights than these ({renew})"
    (copy / "calibration.json").unlink()
    assert run.calibration.reason == f"this run keeps no temperature ({renew})"
    assert calibration_sentence(run) == f"Probabilities are not calibrated: this run keeps no temperature ({renew})."


def test_a_run_with_too_few_validation_samples_is_not_told_to_fit_a_temperature(smoothed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(smoothed, tmp_path / "run")
    (copy / "calibration.json").unlink()
    rows = (copy / "split.csv").read_text().splitlines()
    others, validation = ([row for row in rows if (",val," in row) == is_val] for is_val in (False, True))
    for count, reason in (
        (49, "this run keeps no temperature, and 49 validation samples are too few to fit one: 50 are needed"),
        (1, "this run keeps no temperature, and 1 validation sample is too few to fit one: 50 are needed"),
        (50, f"this run keeps no temperature (visus.load({str(copy)!r}).report() fits one)"),
    ):
        (copy / "split.csv").write_text("\n".join([*others, *validation[:count]]) + "\n")
        assert visus.load(copy).calibration.reason == reason


def test_a_report_written_anew_fits_the_temperature_anew(smoothed: Path, tmp_path: Path, visus_command: Call) -> None:
    copy = tmp_path / "run"
    shutil.copytree(smoothed, copy)
    (copy / "calibration.json").unlink()
    scores = json.loads((copy / "scores.json").read_text())
    (copy / "scores.json").write_text(json.dumps(scores | {"loss": 9.0, "confidence": 0.5, "calibration_error": 0.4}))
    answer = visus_command("report", copy, "--json")
    assert answer.code == 0, answer.err
    fitted, before = (json.loads((folder / "calibration.json").read_text()) for folder in (copy, smoothed))
    assert fitted["temperature"] == pytest.approx(before["temperature"], rel=1e-6)
    anew = json.loads((copy / "scores.json").read_text())
    assert anew == scores | {
        name: pytest.approx(scores[name], abs=1e-6) for name in ("loss", "confidence", "calibration_error")
    }
    assert "These probabilities are calibrated: " in (copy / "report.html").read_text("utf-8")


def test_a_damaged_calibration_is_named(smoothed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(smoothed, copy)
    facts = json.loads((copy / "calibration.json").read_text())
    for text in ("[]", json.dumps({name: value for name, value in facts.items() if name != "belongs_to"})):
        (copy / "calibration.json").write_text(text)
        with pytest.raises(RunError) as caught:
            visus.load(copy).evaluate()
        assert str(caught.value) == f"{copy}: calibration.json is damaged. Renew it with: visus.load({str(copy)!r}).report()"
    (copy / "calibration.json").write_text(json.dumps(facts | {"temperature": "hot"}))
    with pytest.raises(RunError) as caught:
        visus.load(copy).evaluate()
    assert str(caught.value).startswith(f"{copy / 'calibration.json'}: this calibration is not of this version of visus (")


def test_raw_is_for_runs() -> None:
    with pytest.raises(UsageError) as caught:
        visus.look(torch.nn.Flatten(), torch.rand(1, 4, 4), raw=True)
    assert str(caught.value) == "raw is for runs: only a run has a calibration to skip. Leave it out."
