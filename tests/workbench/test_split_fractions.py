"""The fractions of a split: asked for once, kept in the run, and refused where the data or a split.csv decides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.commands import SMALL, Call

import visus
from visus.errors import UsageError

pytestmark = pytest.mark.usefixtures("light_pages")


def sizes(data: visus.Data) -> tuple[int, ...]:
    return tuple(len(data.split(name)) for name in ("train", "val", "test"))


def test_fractions_decide_the_size_of_each_split(photos: Path) -> None:
    assert sizes(visus.open_data(photos)) == (43, 5, 12)
    assert sizes(visus.open_data(photos, val=0.25, test=0.1)) == (
        40,
        14,
        6,
    )  # 54 are left for training, a quarter of each class
    assert sizes(visus.open_data(photos, test=0)) == (54, 6, 0)
    assert sizes(visus.open_data(photos, val=0)) == (48, 0, 12)


@pytest.mark.long
def test_a_run_keeps_its_fractions_and_its_split(photos: Path, tmp_path: Path, visus_command: Call) -> None:
    words = ["--epochs", 1, "--val", "0.2", "--test", "0.4", "-o", tmp_path, "--name", "some", "-q"]
    assert visus_command("train", photos, *SMALL, *words).code == 0
    facts = json.loads((tmp_path / "some" / "data.json").read_text())
    assert (facts["val_fraction"], facts["test_fraction"]) == (0.2, 0.4)
    assert facts["num_samples"] == {"train": 29, "val": 7, "test": 24}
    assert (
        "split as asked: 40.0 % of all samples are the test set, and 20.0 % of the others are the validation set."
        in facts["notes"]
    )
    run = visus.load(tmp_path / "some")
    assert sizes(run.open_data()) == sizes(run.open_data(photos)) == (29, 7, 24)
    assert run.evaluate().num_samples == 24
    again = visus.train(
        visus.open_data(photos), SMALL[1], visus.Recipe(epochs=1), weights=run.folder, output=tmp_path, progress=False
    )
    assert sizes(again.open_data()) == (43, 5, 12)  # opened data keeps the split that it was opened with
    answer = visus_command("train", "--resume", tmp_path / "some", "--val", "0.1", "--test", "0.1")
    assert (answer.code, "--val, --test cannot be given with --resume" in answer.err) == (2, True)


@pytest.mark.long
def test_weights_of_a_run_bring_its_split_unless_a_fraction_asks_for_another(
    photos: Path, run: Path, tmp_path: Path, visus_command: Call
) -> None:
    words = ["--weights", run, "--epochs", 1, "-q", "-o", tmp_path, "--name"]
    assert visus_command("train", photos, *words, "same").code == 0
    assert visus_command("train", photos, "--test", "0.4", *words, "other").code == 0
    assert [visus.load(tmp_path / name).scores.num_samples for name in ("same", "other")] == [12, 24]


def test_without_a_test_set_the_run_says_that_it_is_scored_on_validation(photos: Path, tmp_path: Path) -> None:
    data = visus.open_data(photos, test=0, val=0.2)
    run = visus.train(data, SMALL[1], visus.Recipe(epochs=1, batch_size=8), output=tmp_path, progress=False)
    assert (run.scores.split, run.scores.num_samples) == ("val", 12)
    assert run.scores.notes[-1].startswith("This data has no test split. The validation split was scored")
    assert sizes(run.open_data()) == sizes(data)


def test_without_a_validation_set_the_last_epoch_is_kept(photos: Path, tmp_path: Path) -> None:
    data = visus.open_data(photos, val=0)
    run = visus.train(data, SMALL[1], visus.Recipe(epochs=2, batch_size=8), output=tmp_path, progress=False)
    assert (run.scores.split, run.scores.num_samples) == ("test", 12)
    last = visus.load(run.folder, which="last")
    for best, other in zip(run.module.state_dict().values(), last.module.state_dict().values(), strict=True):
        assert (best == other).all()


def test_check_takes_the_fractions_too(photos: Path, visus_command: Call) -> None:
    found = json.loads(visus_command("check", photos, "--val", "0.25", "--test", "0.1", "--json").out)
    assert found["num_samples"] == {"train": 40, "val": 14, "test": 6}


def test_a_fraction_that_nothing_would_use_is_refused(photos: Path, run: Path, tmp_path: Path, visus_command: Call) -> None:
    with pytest.raises(UsageError) as caught:
        visus.open_data(photos, split=run / "split.csv", test=0.2)
    assert str(caught.value) == (
        "a split.csv defines the whole split, so fractions of it would have no effect. Leave one of them out."
    )
    with pytest.raises(UsageError) as caught:
        visus.open_data(photos, val=0, test=0)
    assert str(caught.value) == (
        f"{photos}: with neither a validation nor a test set, nothing is left to score the network on. "
        "Give one of them a fraction above 0."
    )
    values = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 6, 6), np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "own.npz", x_train=values, y_train=labels, x_test=values + 30, y_test=labels)
    answer = visus_command("check", tmp_path / "own.npz", "--test", "0.3")
    assert answer.code == 2
    assert "--test 0.3: this data defines its own split (training, test), which visus never changes." in " ".join(
        answer.err.split()
    )
    assert sizes(visus.open_data(tmp_path / "own.npz", val=0.2)) == (16, 4, 20)
