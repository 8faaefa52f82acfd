"""Several networks that answer together: the mean of their calibrated probabilities, with classes matched by name."""

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
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.data.ledger import Ledger
from visus.data.opened import open_data
from visus.errors import DataError, RunError, UsageError
from visus.workbench.runs.fold_folders import fold_folders
from visus.workbench.runs.mean_predictor import mean_probabilities

pytestmark = pytest.mark.usefixtures("light_pages")


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs on the same photos: another seed, and another size and number of channels."""
    root = tmp_path_factory.mktemp("members")
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 0.02}
    made = []
    for name, seed, options in (("one", 0, {}), ("two", 1, {}), ("small", 2, {"img_size": 7, "channels": 1})):
        data = open_data(photos, **options)
        run = visus.train(data, SMALL[1], visus.Recipe(seed=seed, **recipe), output=root, name=name, progress=False)
        made.append(run.folder)
    return made


def shares(predictions: Any, classes: tuple[str, ...]) -> np.ndarray[Any, Any]:
    return np.array(
        [[dict(zip(each.labels, each.probabilities, strict=True))[name] for name in classes] for each in predictions]
    )


def test_the_answer_is_the_mean_of_the_calibrated_answers(runs: list[Path], photos: Path) -> None:
    together = visus.ensemble(runs)
    own = [shares(visus.load(run).predict(photos, top=2), together.classes) for run in runs]
    found = shares(together.predict(photos, top=2), together.classes)
    assert np.allclose(found, np.mean(own, axis=0), atol=2e-7)
    assert np.ptp(own, axis=0).max() > 0.01  # the members differ
    raw = shares(together.predict(photos, top=2, raw=True), together.classes)
    assert np.allclose(
        raw,
        np.mean([shares(visus.load(run).predict(photos, top=2, raw=True), together.classes) for run in runs], axis=0),
        atol=2e-7,
    )


def test_the_order_of_the_members_does_not_matter(runs: list[Path], photos: Path) -> None:
    one, other = visus.ensemble(runs), visus.ensemble(runs[::-1])
    assert np.array_equal(shares(one.predict(photos, top=2), one.classes), shares(other.predict(photos, top=2), one.classes))


@given(st.permutations(range(4)), st.integers(0, 99), st.integers(1, 4))
def test_columns_are_matched_by_name(order: list[int], seed: int, num_members: int) -> None:
    """A member with its columns in another order is the same member."""
    names = ("a", "b", "c", "d")
    answers = np.random.default_rng(seed).dirichlet(np.ones(4), (num_members, 5)).astype(np.float32)
    same = mean_probabilities(list(answers), [names] * num_members)
    other = mean_probabilities(
        [answers[0], *(each[:, order] for each in answers[1:])],
        [names, *[tuple(names[p] for p in order)] * (num_members - 1)],
    )
    assert np.array_equal(same, other)
    assert np.allclose(same.sum(1), 1)
    assert np.array_equal(mean_probabilities([answers[0]] * num_members, [names] * num_members), answers[0])


@pytest.mark.long
def test_members_with_their_classes_in_another_order_answer_alike(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    is_light = np.array([file.parent.name == "light" for file in files])
    members = []
    for name, classes in (("straight", ("dark", "light")), ("turned", ("light", "dark"))):
        np.savez(tmp_path / f"{name}.npz", x=pixels, y=is_light ^ (name == "turned"), classes=list(classes))
        recipe = visus.Recipe(epochs=4, batch_size=8, precision="float32", learning_rate=0.02)
        members.append(visus.train(tmp_path / f"{name}.npz", SMALL[1], recipe, output=tmp_path / "runs", progress=False))
        assert members[-1].classes == classes
    names = ("dark", "light")
    own = [shares(each.predict(pixels, top=2), names) for each in members]
    together = visus.ensemble(members)
    assert np.allclose(shares(together.predict(pixels, top=2), names), np.mean(own, axis=0), atol=2e-7)
    scores = visus.ensemble(members[::-1]).evaluate(tmp_path / "straight.npz")
    assert scores.classes == ("light", "dark")
    assert scores.accuracy > 0.9
    with pytest.raises(UsageError) as caught:
        visus.ensemble([runs[0], members[1]])
    assert str(caught.value) == (
        "the run one and the run turned cannot be averaged: one reads files of 3 x 10 x 10, the other arrays of 3 x 10 x 10. "
        "Give networks for one kind of data."
    )


def test_networks_that_cannot_be_averaged_are_refused(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "dark", tmp_path / "cats" / "dark")
    shutil.copytree(photos / "light", tmp_path / "cats" / "bright")
    other = visus.train(tmp_path / "cats", SMALL[1], visus.Recipe(epochs=1), output=tmp_path / "runs", progress=False)
    with pytest.raises(UsageError) as caught:
        visus.ensemble([runs[0], other])
    assert str(caught.value) == (
        "the run one and the run cats cannot be averaged: only one of them knows light, bright. Give networks with the same 2 classes."
    )
    with pytest.raises(UsageError) as caught:
        visus.ensemble([runs[0]])
    assert str(caught.value) == (
        "an ensemble needs at least two networks. Give several runs, or the folder of a cross-validation."
    )
    with pytest.raises(UsageError) as caught:
        visus.ensemble([*runs, visus.load(runs[0])])
    assert str(caught.value) == f"{runs[0]}: this network is given twice, so it would count twice. Leave one out."


def test_the_command_averages_all_runs_before_the_files(runs: list[Path], photos: Path, visus_command: Call) -> None:
    answer = visus_command("predict", *runs, photos / "dark", photos / "light" / "03.png", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert len(found) == 31
    expected = list(visus.ensemble(runs).predict([photos / "dark", photos / "light" / "03.png"]))
    assert [(each["label"], each["probability"]) for each in found] == [(each.label, each.probability) for each in expected]
    assert "Probabilities are the mean over 3 networks: one, two, small." in " ".join(answer.err.split())
    words = visus_command("predict", *runs)
    assert words.code == 2
    assert "are runs or bundles, whose answers are averaged. Name the files behind them." in " ".join(words.err.split())
    refused = visus_command("predict", *runs, photos, "--engine", "openvino")
    assert (refused.code, "--engine cannot be given with a run" in refused.err) == (2, True)


def test_a_table_and_folders_are_written_by_an_ensemble_too(
    runs: list[Path], photos: Path, tmp_path: Path, visus_command: Call
) -> None:
    assert visus_command("predict", *runs, photos, "-o", tmp_path / "all.csv", "--probabilities", "-q").code == 0
    with open(tmp_path / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = list(visus.ensemble(runs).predict(photos))
    assert [row["label"] for row in rows] == [each.label for each in expected]
    assert [float(row["probability"]) for row in rows] == pytest.approx([each.probability for each in expected], abs=1e-6)
    assert visus_command("predict", *runs, photos, "--sort-into", tmp_path / "sorted", "-q").code == 0
    assert sum(1 for file in (tmp_path / "sorted").rglob("*.png")) == 60


def test_a_change_is_on_the_ledger_once_however_many_members_make_it(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "dark" / "00.png").resize((20, 20)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    predictions = visus.ensemble(runs).predict(
        [tmp_path / "large.png", tmp_path / "broken.png", photos / "light" / "01.png"]
    )
    answers = list(predictions)
    assert [each.label is None for each in answers] == [False, True, False]
    assert answers[1].error
    counts = predictions.ledger.counts
    assert counts["unreadable"] == 1
    assert counts["resized"] == 2  # the small member shrinks both, and the others one of them
    assert counts["color made gray"] == 2
    assert isinstance(predictions.ledger, Ledger)


def test_evaluation_scores_what_all_members_hold_out(runs: list[Path], photos: Path) -> None:
    together = visus.ensemble(runs)
    scores = together.evaluate()
    own = [visus.load(run).evaluate() for run in runs]
    assert (scores.num_samples, scores.split, scores.num_learned) == (12, "test", 0)
    assert scores.loss <= np.mean([each.loss for each in own]) + 1e-6  # the cross-entropy is convex
    assert scores.notes[0] == "Probabilities are the mean over 3 networks: one, two, small."
    moved = together.evaluate(photos)
    assert moved.num_samples == 12
    assert together.evaluate(split="train").num_learned == 43


def test_a_sample_that_any_member_learned_from_is_said(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    """A member of another split learned from test samples of the first."""
    data = visus.open_data(photos, split_seed=5)
    other = visus.train(data, SMALL[1], visus.Recipe(epochs=1), output=tmp_path, name="other", progress=False)
    copies = tmp_path / "copies"
    shutil.copytree(photos, copies)
    for number, file in enumerate(sorted(copies.rglob("*.png"))):
        file.rename(file.with_name(f"copy-{number}.png"))
    with open(other.folder / "split.csv", newline="") as file:
        learned = {row["sample"] for row in csv.DictReader(file) if row["split"] == "train"}
    with open(runs[0] / "split.csv", newline="") as file:
        test = {row["sample"] for row in csv.DictReader(file) if row["split"] == "test"}
    scores = visus.ensemble([runs[0], other]).evaluate()
    assert 0 < scores.num_samples < 12
    assert "are not in that of all members, and are dropped." in scores.notes[-1]
    predictions = visus.ensemble([runs[0], other]).predict([photos / sample for sample in sorted(learned & test)])
    assert len(list(predictions)) == len(learned & test)
    assert predictions.ledger.counts["learned from"] == len(learned & test)


def test_members_without_a_common_held_out_sample_are_refused(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    with open(runs[0] / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    turned = {"test": "train", "train": "test", "val": "val"}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "split": turned[row["split"]]} for row in rows)
    (tmp_path / "split.csv").write_text(text.getvalue())
    other = visus.train(
        visus.open_data(photos, split=tmp_path / "split.csv"),
        SMALL[1],
        visus.Recipe(epochs=1),
        output=tmp_path,
        name="other",
        progress=False,
    )
    with pytest.raises(DataError) as caught:
        visus.ensemble([runs[0], other]).evaluate()
    assert str(caught.value) == (
        "no sample is in the test split of all members: one, other. Give other data, or name another split with split."
    )
    with pytest.raises(UsageError) as caught:
        visus.ensemble([runs[0], runs[2]]).evaluate(visus.open_data(photos))
    assert str(caught.value) == (
        "small: this data is opened at another size than the run reads. Give its path: each run reads it for itself."
    )


@pytest.mark.slow
def test_a_bundle_is_a_member(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    bundle = visus.load(runs[1]).export(tmp_path / "two", formats=["onnx"], progress=False).path
    together = visus.ensemble([runs[0], bundle])
    expected = visus.ensemble(runs[:2])
    found = shares(together.predict(photos, top=2), together.classes)
    assert np.allclose(found, shares(expected.predict(photos, top=2), together.classes), atol=1e-4)
    with pytest.raises(UsageError) as caught:
        together.evaluate()
    assert str(caught.value) == (
        "two: a bundle does not know what its network learned from, so it is not scored here. Give the run that it was exported from."
    )
    with pytest.raises(UsageError) as caught:
        together.predict(photos, raw=True)
    assert str(caught.value) == ("raw: the bundle two has calibrated probabilities only. Leave raw out, or give its run.")


def test_a_folder_of_folds_that_is_not_complete_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text('{"num_folds": 3}')
    (tmp_path / "fold2").mkdir()
    for name in ("scores.json", "README.md"):
        (tmp_path / "fold2" / name).write_text("{}")
    with pytest.raises(RunError) as caught:
        fold_folders(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: this cross-validation was stopped before its end: fold1, fold3 of 3 folds are not trained. "
        f"Go on with: visus.resume('{tmp_path}')"
    )
    (tmp_path / "folds.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        fold_folders(tmp_path)
    assert str(caught.value) == f"{tmp_path}: folds.json is missing or damaged. Put it back, or train the folds again."
