"""The out-of-fold predictions of a run: they stay in its folder, show wrong labels of the training set, and calibrate where little is held out."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.commands import Call
from torch import nn

import visus
from visus.errors import RunError
from visus.evaluation.calibration import choose_temperature
from visus.examine import suspicious_labels
from visus.networks import weights
from visus.training.heads import cross_validate
from visus.training.runs import RunFolder
from visus.workbench.runs.mistakes import _too_poor
from visus.workbench.runs.out_of_fold import FILE, OutOfFold, network_digest, read_out_of_fold, write_out_of_fold

pytestmark = pytest.mark.usefixtures("light_pages")

SIDE, CLASSES = 8, 3
DESIGN = "conv(6, 3), relu, globalpool, linear(classes)"
PLANTED = (5, 16, 27, 38, 49, 60)
"""Places of training samples with a wrong label."""
PLANTED_IN_VALIDATION = 7


def tinted(path: Path) -> Path:
    """Images that are red, green or blue: an npz file with its own splits, six wrong training labels and a wrong validation label."""
    rng, parts = np.random.default_rng(0), {}
    for name, count in (("train", 240), ("val", 12), ("test", 30)):
        labels = np.arange(count) % CLASSES
        values = rng.normal(90, 30, (count, SIDE, SIDE, 3))
        values[np.arange(count), :, :, labels] += 60
        wrong = {"train": list(PLANTED), "val": [PLANTED_IN_VALIDATION], "test": []}[name]
        labels[wrong] = (labels[wrong] + 1) % CLASSES
        parts |= {f"{name}_images": np.clip(values, 0, 255).astype(np.uint8), f"{name}_labels": labels}
    np.savez(path, **parts)
    return path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the head alone, on the features of a network for five other classes."""
    root = tmp_path_factory.mktemp("out-of-fold")
    torch.manual_seed(0)
    weights.save(visus.network(DESIGN, (3, SIDE, SIDE), 5), root / "five.safetensors")
    recipe = visus.Recipe(epochs=0, precision="float32")
    made = visus.train(
        tinted(root / "tinted.npz"),
        DESIGN,
        recipe,
        weights=root / "five.safetensors",
        output=root / "runs",
        progress=False,
    )
    return made.folder


def kept_of(folder: Path) -> OutOfFold:
    found = read_out_of_fold(RunFolder.open(folder))
    assert found is not None
    return found


def test_the_predictions_are_those_of_the_cross_validation(begun: Path) -> None:
    run = visus.load(begun)
    data, kept = run.open_data(), kept_of(begun)
    part = data.split("train")
    assert torch.equal(kept.labels, torch.from_numpy(part.labels))
    _, head = weights.head_of(run.module) or ("", nn.Linear(1, 1))
    views: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda layer, inputs, output: views.append(inputs[0].detach()))
    scaled = run.preprocessing.scaled(part.rows(np.arange(len(part))))
    turns = [scaled, scaled.flip(-1)][: 1 if run.recipe.flip == "none" else 2]
    with torch.no_grad():
        for turn in turns:
            run.module(turn)
    hook.remove()
    again = cross_validate(torch.stack(views), kept.labels, CLASSES, seed=run.recipe.seed)
    assert torch.allclose(kept.logits, again.logits, atol=1e-3)
    assert kept.are_of(run.module)


def test_planted_labels_of_the_training_set_are_listed_whatever_the_split(begun: Path) -> None:
    run = visus.load(begun)
    data, kept = run.open_data(), kept_of(begun)
    names = [data.split("train").names[place] for place in PLANTED]
    by_rule = suspicious_labels(torch.softmax(kept.logits.double(), 1), kept.labels)
    for split in ("test", "val", "train"):
        found = run.mistakes(data, split=split, limit=10)
        assert found.training_labels is not None
        assert found.training_labels.num_suspicious == len(by_rule)
        assert [each.place for each in found.training_labels.suspicious] == [each.place for each in by_rule[:10]]
        assert set(names) <= {each.sample for each in found.training_labels.suspicious}
        assert found.unexamined == ""
    assert found.suspicious == found.training_labels.suspicious  # of the training set, the out-of-fold list is the only one
    assert "found out-of-fold." in found.notes[0]
    assert "in the training set" in repr(found)


def test_the_list_stands_in_the_command_the_report_and_the_files(begun: Path, visus_command: Call) -> None:
    answer = visus_command("evaluate", begun, "--mistakes")
    sentence = f"training set, out-of-fold: {len(PLANTED)} of 240 labels may be wrong"
    assert f"{sentence} (by the same rule; each sample predicted by a head that was fitted without it)" in answer.out
    trained = visus_command("evaluate", begun, "--mistakes", "--split", "train").out
    assert trained.count("labels may be wrong") == 1, "one list for the training set"
    assert "that may be wrong: " not in trained
    page = (begun / "report.html").read_text()
    assert f"Training set, out-of-fold: {len(PLANTED)} of 240 labels may be wrong." in page
    assert len(re.findall(r'alt="training image [^"]*\?"', page)) == len(PLANTED)
    assert json.loads((begun / "inside.json").read_text())["mistakes"]["training_labels"]["num_suspicious"] == len(PLANTED)


def test_the_validation_set_is_examined_beside_the_test_set(begun: Path, visus_command: Call) -> None:
    run = visus.load(begun)
    data = run.open_data()
    found, own = run.mistakes(data).validation_labels, run.mistakes(data, split="val")
    assert found is not None
    assert [each.place for each in found.suspicious] == [PLANTED_IN_VALIDATION]
    assert (found.split, found.num_samples, found.num_wrong) == ("val", own.num_samples, own.num_wrong)
    assert (found.suspicious, found.num_suspicious) == (
        tuple(dataclasses.replace(each, alike=()) for each in own.suspicious),
        own.num_suspicious,
    )
    assert own.validation_labels is None
    assert run.mistakes(data, split="train").validation_labels is None
    answer = visus_command("evaluate", begun, "--mistakes").out
    name = data.split("val").names[PLANTED_IN_VALIDATION]
    assert re.search(
        rf"validation set: 1 of 12 labels may be wrong \(by the same rule\)\n.*suggested.*\n\s*{re.escape(name)} ", answer
    )


def test_a_network_that_judges_no_labels_says_so_once(begun: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(begun, copy)
    run = visus.load(copy)
    with torch.no_grad():
        _, head = weights.head_of(run.module) or ("", nn.Linear(1, 1))
        for value in head.parameters():
            value.copy_(value.roll(1, 0))  # each class is predicted as the next one
    found = run.mistakes()
    assert found.validation_labels is None
    assert sum(note.startswith("Labels that may be wrong are not listed") for note in found.notes) == 1


def test_a_training_prints_how_many_labels_may_be_wrong(begun: Path, tmp_path: Path, visus_command: Call) -> None:
    answer = visus_command("train", begun.parents[1] / "tinted.npz", "-m", DESIGN, "--weights", begun.parents[1] / "five.safetensors",
                           "--epochs", "0", "-o", tmp_path, "--name", "again")  # fmt: skip
    assert answer.code == 0, answer.err
    told = " ".join(answer.err.split())
    listed = visus.load(tmp_path / "again").mistakes()
    whole = len(PLANTED) + listed.num_suspicious
    assert f"labels {whole} may be wrong: {len(PLANTED)} of 240 in the training set (out-of-fold)" in told
    if listed.num_suspicious:
        assert (
            f"(out-of-fold), {listed.num_suspicious} of {listed.num_samples} in the test set; list them: visus evaluate"
            in told
        )
    fit = visus.load(tmp_path / "again").calibration
    assert fit.is_used
    fitted = "240 images of the training set, out-of-fold, and 12 images of the validation set"
    assert re.search(rf"trust calibrated: probabilities are off by \S+ points on average, not \S+ \({fitted}\)", told)
    assert f"fitted on {fitted}." in (tmp_path / "again" / "report.html").read_text()


def test_a_small_validation_set_is_joined_by_the_out_of_fold_predictions(begun: Path, tmp_path: Path) -> None:
    run, kept = visus.load(begun), kept_of(begun)
    data = run.open_data()
    held = run.answers(data, "val"), torch.from_numpy(data.split("val").labels)
    expected = choose_temperature(*held, "val", 0.0, out_of_fold=(kept.logits, kept.labels))
    fit = run.calibration
    assert (fit.fitted_on, fit.num_samples, fit.num_out_of_fold) == ("train", 252, 240)
    assert (fit.is_used, fit.temperature) == (expected.is_used, pytest.approx(expected.temperature, rel=1e-6))
    told = json.loads((begun / "inside.json").read_text())["calibration"]
    assert (told["fitted_on"], told["num_fitted"], told["num_out_of_fold"]) == ("train", 252, 240)
    copy = tmp_path / "run"
    shutil.copytree(begun, copy)
    (copy / "calibration.json").unlink()
    visus.load(copy).report()
    assert visus.load(copy).calibration == fit


@pytest.mark.long
def test_other_weights_than_those_of_the_head_are_not_calibrated_by_it(begun: Path, tmp_path: Path) -> None:
    root = begun.parents[1]
    recipe = visus.Recipe(epochs=1, precision="float32", optimizer="adamw", learning_rate=0.01, batch_size=16, ema_decay=0.0)
    run = visus.train(
        root / "tinted.npz", DESIGN, recipe, weights=root / "five.safetensors", output=tmp_path, progress=False
    )
    kept = kept_of(run.folder)
    trained = visus.load(run.folder, which="last")
    assert kept.network
    assert not kept.are_of(trained.module)
    assert run.calibration.num_out_of_fold == (240 if kept.are_of(run.module) else 0)
    own = visus.train(
        root / "tinted.npz",
        DESIGN,
        recipe,
        weights=run.folder / "weights" / "last.safetensors",
        output=tmp_path,
        progress=False,
    )
    assert kept_of(own.folder).network == "", "weights with a head for these classes may know these labels"
    assert own.calibration.num_out_of_fold == 0
    found = own.mistakes().training_labels
    assert found is not None
    assert found.notes == (
        "The weights that the training started from may have been trained on these samples: then the list has only some of the wrong labels.",
    )


def test_without_a_head_one_sentence_says_what_was_not_examined(run: Path, other_photos: Path) -> None:
    loaded = visus.load(run)
    found = loaded.mistakes()
    assert found.training_labels is None
    assert found.unexamined == (
        "Only the 12 test images and 5 validation images were examined for wrong labels. To examine the training set, train on another split "
        "(split_seed=1), or train from pretrained weights (pretrained=True, epochs=0)."
    )
    assert f"note: {found.unexamined}" in str(found.text())
    assert loaded.mistakes(split="train").unexamined == ""
    other = loaded.mistakes(other_photos)
    assert (other.training_labels, other.unexamined) == (None, "")


def test_samples_of_data_that_changed_are_not_judged(begun: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(begun, copy)
    facts = json.loads((copy / "data.json").read_text())
    data = visus.load(begun).open_data()
    (copy / "data.json").write_text(json.dumps(facts | {"fingerprint": "0" * 64}))
    assert visus.load(copy).mistakes(data).training_labels is None


def test_a_head_that_knows_little_judges_no_labels(begun: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(begun, copy)
    kept = kept_of(begun)
    random = torch.randn(kept.logits.shape, generator=torch.Generator().manual_seed(0))
    write_out_of_fold(RunFolder.open(copy), OutOfFold(random, kept.labels))
    found = visus.load(copy).mistakes().training_labels
    assert found is not None
    assert (found.suspicious, found.num_suspicious, found.notes) == ((), 0, ())
    assert found.sentence().startswith(
        "training set, out-of-fold: labels that may be wrong are not listed, since this network is too inaccurate to judge them: it predicts the "
    )


def test_a_head_that_errs_on_more_than_a_fifth_suspects_no_more_than_a_twentieth() -> None:
    labels = np.arange(144) % 3
    said = _too_poor(labels, "image", 32, 19, is_head=True)
    assert said == (
        "Labels that may be wrong are not listed, since this network is too inaccurate to judge them: it predicts the label of 112 of 144 images, and "
        "would suspect 19 labels, more than a twentieth, though a fifth of its answers is wrong."
    )
    assert _too_poor(labels, "image", 32, 7, is_head=True) == ""
    assert _too_poor(labels, "image", 28, 19, is_head=True) == ""
    assert _too_poor(labels, "image", 32, 19) == ""


@settings(max_examples=30, deadline=None)
@given(
    num_samples=st.integers(0, 40),
    num_classes=st.integers(1, 5),
    network=st.sampled_from(["", "0" * 32]),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read_bit_for_bit(
    num_samples: int, num_classes: int, network: str, seed: int, begun: Path
) -> None:
    folder = RunFolder.open(begun)
    before = (begun / FILE).read_bytes()
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_samples, num_classes, generator=generator)
    labels = torch.randint(0, num_classes, (num_samples,), generator=generator)
    try:
        write_out_of_fold(folder, OutOfFold(logits, labels, network))
        found = kept_of(begun)
    finally:
        (begun / FILE).write_bytes(before)
    assert torch.equal(found.logits, logits)
    assert torch.equal(found.labels, labels)
    assert found.network == network


def test_a_damaged_file_is_reported_and_too_many_values_are_not_kept(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(begun, copy)
    (copy / FILE).write_bytes(b"PK broken")
    with pytest.raises(RunError) as caught:
        read_out_of_fold(RunFolder.open(copy))
    assert str(caught.value) == (
        f"{copy}: {FILE} is damaged. Remove it: then only held-out samples are examined for wrong labels."
    )
    (copy / FILE).unlink()
    assert read_out_of_fold(RunFolder.open(copy)) is None
    monkeypatch.setattr("visus.workbench.runs.out_of_fold.MAX_VALUES", 8)
    write_out_of_fold(RunFolder.open(copy), OutOfFold(torch.zeros(3, 3), torch.zeros(3, dtype=torch.long)))
    assert not (copy / FILE).exists()


def test_a_digest_depends_on_values_and_not_on_the_memory_format() -> None:
    module: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    first = network_digest(module)
    assert network_digest(module.to(memory_format=torch.channels_last)) == first
    with torch.no_grad():
        module[1].running_mean[2] += 1e-3
    assert network_digest(module) != first
