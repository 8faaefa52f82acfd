"""Samples that were learned from are found by content, a test set that chooses is warned of, the split has a seed of its own, times are true."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.errors import RunError, UsageError
from visus.training.runs import RunFolder
from visus.workbench.compare.runs import compare_runs
from visus.workbench.runs.reuse import reuse_sentence

pytestmark = pytest.mark.usefixtures("light_pages")

RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32")


def samples_of(run: Path, split: str) -> list[tuple[str, str]]:
    with open(run / "split.csv", newline="") as file:
        return [(row["sample"], row["label"]) for row in csv.DictReader(file) if row["split"] == split]


@pytest.fixture
def moved(run: Path, photos: Path, tmp_path: Path) -> Path:
    """Ten training images, two validation images and eight test images under other names, half of them saved as BMP."""
    chosen = samples_of(run, "train")[::4][:10] + samples_of(run, "val")[:2] + samples_of(run, "test")[:8]
    for number, (sample, label) in enumerate(chosen):
        place = tmp_path / "moved" / label
        place.mkdir(parents=True, exist_ok=True)
        if number % 2:
            shutil.copy(photos / sample, place / f"new-{number}.png")
        else:
            Image.open(photos / sample).save(place / f"new-{number}.bmp")
    return tmp_path / "moved"


@pytest.mark.long
def test_scoring_on_what_was_learned_from_is_said_in_the_first_line(run: Path, moved: Path, visus_command: Call) -> None:
    scores = visus.load(run).evaluate(moved)
    assert (scores.num_samples, scores.num_learned, scores.num_chose) == (20, 10, 2)
    assert scores.num_right_new is not None
    told = (
        f"10 of 20 samples were in the training set and 2 more were in the validation set, so the metrics are too good; accuracy on the 8 new samples: "
        f"{100 * scores.num_right_new / 8:.1f} % (95 % interval "
    )
    assert visus_command("evaluate", run, moved).out.startswith(told)
    assert scores.learned_sentence("image").startswith(
        "10 of 20 images were in the training set and 2 more were in the validation set, "
    )
    assert json.loads(visus_command("evaluate", run, moved, "--json").out)["num_learned"] == 10
    wrong = visus.load(run).mistakes(moved)
    assert wrong.notes[0] == "10 of 20 images were in the training set: the network has memorized many of their labels."
    answer = visus_command("predict", run, moved)
    assert (
        "ledger: 10 samples have the same content as a sample that the network learned from, so their prediction says little about new data.\n"
        in answer.err
    )
    left, right = (visus.load(run), dataclasses.replace(visus.load(run)))
    assert [each.scores.num_learned for each in compare_runs(left, right, data=moved).contenders] == [10, 10]
    answer = visus_command("compare", run, run, "--data", moved)
    assert answer.out.startswith(
        f"{run}: 10 of 20 images were in the training set and 2 more were in the validation set, so the metrics are too good; "
    )


def test_all_samples_can_be_known_and_a_held_out_split_is_new(run: Path, visus_command: Call) -> None:
    assert visus_command("evaluate", run, "--split", "train").out.startswith(
        "43 of 43 samples were in the training set: these metrics say nothing about new samples.\n"
    )
    held_out = visus.load(run).evaluate()
    assert (held_out.num_learned, held_out.num_chose, held_out.num_right_new) == (0, 0, held_out.num_right)
    assert held_out.learned_sentence() == ""
    validated = visus.load(run).evaluate(split="val")
    assert validated.learned_sentence() == ""
    assert "The validation split also selected the weights: expect slightly lower accuracy on new data." in validated.notes


def test_a_run_from_before_asks_its_own_data(run: Path, moved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "contents.npz").unlink()
    assert visus.load(copy).evaluate(moved).num_learned == 10
    assert visus.load(copy).evaluate().num_learned == 0
    facts = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps(facts | {"path": str(tmp_path / "gone")}))
    scores = visus.load(copy).evaluate(moved)
    assert (scores.num_learned, scores.learned_sentence()) == (None, "")
    assert scores.notes[-1] == (
        f"Whether these images were learned from is not known: {tmp_path / 'gone'}: the data that the run run was trained on is no longer "
        f"there. If it was moved, name its new place once: visus.load({str(copy)!r}).evaluate(new_path), or "
        f"visus.resume({str(copy)!r}, new_path). visus.load({str(copy)!r}).predict needs no data."
    )
    (copy / "contents.npz").write_bytes(b"no archive")
    with pytest.raises(RunError) as caught:
        visus.load(copy).evaluate(moved)
    assert str(caught.value) == f"{copy}: contents.npz is damaged. Remove it: the run's own data is then asked."


def test_choosing_by_the_test_split_is_warned_of(run: Path, photos: Path, other_photos: Path, tmp_path: Path) -> None:
    def variant(number: int, **changes: object) -> Path:
        copy = tmp_path / f"run-{number}"
        shutil.copytree(run, copy)
        recipe = visus.Recipe.read(copy / "recipe.yaml").replace(**changes)
        (copy / "recipe.yaml").write_text(recipe.to_yaml())
        return copy

    first = variant(1)
    variant(2, seed=4)  # another seed is no other setting
    variant(3, weight_decay=0.3)
    assert reuse_sentence(first, "image", 12) == ""
    assert not visus.load(first).evaluate().notes[1:]
    unfinished = variant(4, weight_decay=0.7)
    (unfinished / "scores.json").unlink()
    broken = variant(5, weight_decay=0.8)
    (broken / "data.json").write_text("{")
    shuffled, experiment, other = (variant(number, weight_decay=0.1 * number) for number in (6, 7, 8))
    for folder, changes in (
        (shuffled, {"preprocessing": {"shuffle_seed": 0}}),
        (experiment, {"command": "visus experiment mlp a"}),
        (other, {"fingerprint": "0"}),
    ):
        facts = json.loads((folder / "data.json").read_text())
        (folder / "data.json").write_text(json.dumps(facts | changes))
    assert reuse_sentence(first, "image", 12) == ""
    assert reuse_sentence(experiment, "image", 12) == ""
    variant(9, learning_rate=0.5)
    told = (
        f"3 different settings were scored on these 12 test images so far (runs in {tmp_path}). The best of them by this figure probably looks "
        "better here than it is: choose by the validation split."
    )
    assert reuse_sentence(first, "image", 12) == told
    assert "on these 11 test images so far" in reuse_sentence(first, "image", 11)  # one of split.csv cannot be read
    assert told.replace("images", "images") in visus.load(first).evaluate().notes
    assert not any("different settings" in note for note in visus.load(first).evaluate(split="val").notes)
    assert (
        told.replace("images", "images") in visus.load(first).evaluate(photos).notes
    )  # the same 12, at the place of the data
    assert not any("different settings" in note for note in visus.load(first).evaluate(other_photos).notes)


@pytest.mark.long
def test_the_seed_of_a_training_changes_no_split(photos: Path, tmp_path: Path, visus_command: Call) -> None:
    def splits(name: str) -> list[tuple[str, str]]:
        return samples_of(tmp_path / name, "test")

    for name, words in (("a", ["--seed", 0]), ("b", ["--seed", 3]), ("c", ["--split-seed", 3])):
        assert visus_command("train", photos, *SMALL, "--epochs", 1, *words, "-o", tmp_path, "--name", name, "-q").code == 0
    assert splits("a") == splits("b") != splits("c")
    assert [json.loads((tmp_path / name / "data.json").read_text())["split_seed"] for name in "abc"] == [0, 0, 3]
    assert visus.open_data(photos, split_seed=3).fingerprint == visus.open_data(photos).fingerprint
    answer = visus_command("train", "--resume", tmp_path / "a", "--split-seed", 1)
    assert (answer.code, "--split-seed cannot be given with --resume" in answer.err) == (2, True)


def test_a_split_seed_that_would_change_nothing_is_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.open_data(photos, split=run / "split.csv", split_seed=1)
    assert str(caught.value) == (
        "a split.csv defines the whole split, so a split seed would have no effect. Omit one of them."
    )
    values, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    values[:] = np.arange(20)[:, None, None]
    parts = {
        f"{name}_{what}": each
        for name in ("train", "val", "test")
        for what, each in (("images", values), ("labels", labels))
    }
    np.savez(tmp_path / "own.npz", **parts)
    with pytest.raises(UsageError) as caught:
        visus.open_data(tmp_path / "own.npz", split_seed=1)
    assert str(caught.value) == (
        f"{tmp_path / 'own.npz'}: this data defines its own splits, including validation, so a split seed would have no effect. Omit it."
    )
    assert visus.open_data(tmp_path / "own.npz").split_seed is None
    assert visus.open_data(photos, split=run / "split.csv").split_seed is None


def test_a_comparison_reports_what_a_training_took(run: Path, tmp_path: Path) -> None:
    found = compare_runs(visus.load(run), visus.load(run)).contenders[0]
    history = RunFolder.open(run).read_results()
    seconds = [row["elapsed_seconds"] for row in history]
    assert seconds == sorted(seconds)  # they are counted from the start of the training
    assert found.seconds == seconds[-1]
    from visus.training.checkpoints import read_position

    assert found.seconds == pytest.approx(read_position(RunFolder.open(run).checkpoint).elapsed_s, rel=1e-4)
