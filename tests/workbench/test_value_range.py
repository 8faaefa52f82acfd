"""Arrays whose values lie far outside those of the training samples are warned of, and one-hot labels are classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import visus
from visus.workbench.runs.value_range import range_warning

DESIGN = "flatten, linear(classes)"
SCALED = "If they are scaled differently, scale them as the training samples were."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> visus.Run:
    """A run of signals between 0 and 1."""
    root = tmp_path_factory.mktemp("range")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.uniform(0, 0.6, (60, 1, 8)).astype(np.float32) + 0.4 * y[:, None, None].astype(np.float32)
    data = visus.open_data(x=x, y=y, keep_in=root / "kept", layout="NCL", progress=False)
    recipe = visus.Recipe(epochs=1, batch_size=8, optimizer="adamw", precision="float32")
    return visus.train(data, DESIGN, recipe, output=root / "runs", progress=False)


@pytest.mark.usefixtures("light_pages")
def test_values_of_another_scale_are_warned_of(run: visus.Run) -> None:
    x = np.linspace(0, 1, 80, dtype=np.float32).reshape(10, 1, 8)
    y = np.arange(10) % 2
    assert not any(SCALED in note for note in run.evaluate((x, y)).notes)
    (warning,) = [note for note in run.evaluate((255 * x, y)).notes if SCALED in note]
    assert warning.startswith("These values lie between 0 and 255, and those of the training samples mostly between -0.")
    assert warning in run.predict(255 * x).notes
    assert not any(SCALED in note for note in run.predict(x).notes)


@pytest.mark.usefixtures("light_pages")
def test_samples_of_files_and_lists_that_lie_far_off_are_on_the_ledger(run: visus.Run, tmp_path: Path) -> None:
    x = np.linspace(0, 1, 80, dtype=np.float32).reshape(10, 1, 8)
    np.save(tmp_path / "new.npy", 255 * x)
    far = "samples have values far from those of the training samples (at least 50 times their spread); if their scale differs, scale them as the training samples were"
    for files in (tmp_path / "new.npy", list(255 * x)):
        predictions = run.predict(files)
        assert len(list(predictions)) == 10
        (sentence,) = [each for each in predictions.sentences() if far in each]
        assert sentence.startswith("ledger: ")
    for files in (x, list(x)):
        predictions = run.predict(files)
        assert len(list(predictions)) == 10
        assert not any(far in each for each in predictions.sentences())


@pytest.mark.usefixtures("light_pages")
def test_an_array_of_another_scale_gets_one_note(run: visus.Run) -> None:
    predictions = run.predict(255 * np.linspace(0, 1, 80, dtype=np.float32).reshape(10, 1, 8))
    assert len(list(predictions)) == 10
    assert len([each for each in predictions.sentences() if "scale" in each]) == 1


@pytest.mark.usefixtures("light_pages")
def test_data_of_another_scale_is_scored_with_a_note(run: visus.Run, tmp_path: Path) -> None:
    x = np.linspace(0, 1, 80, dtype=np.float32).reshape(10, 1, 8)
    y = np.arange(10) % 2
    np.savez(tmp_path / "new.npz", x=255 * x, y=y)
    assert [SCALED in note for note in run.evaluate(tmp_path / "new.npz").notes].count(True) == 1
    assert not any(SCALED in note for note in run.evaluate().notes)


def test_values_that_spread_much_less_are_warned_of_and_peaks_are_not(run: visus.Run) -> None:
    of_bytes = dataclasses.replace(run.preprocessing, offset=(120.0,), divisor=(70.0,))
    x = np.linspace(0, 1, 8000, dtype=np.float32).reshape(1000, 1, 8)
    assert SCALED in range_warning(x, of_bytes)
    assert range_warning(255 * x, of_bytes) == ""
    x[3, 0, 2] = 1000.0
    assert range_warning(x, run.preprocessing) == ""
    assert range_warning(np.full(3, np.nan, np.float32), run.preprocessing) == ""


def test_one_hot_labels_of_arrays_are_read_as_classes(run: visus.Run) -> None:
    x = np.linspace(0, 1, 80, dtype=np.float32).reshape(10, 1, 8)
    y = np.arange(10) % 2
    hot = run.evaluate((x, np.eye(2)[y]))
    assert hot.accuracy == run.evaluate((x, y)).accuracy
    assert "The labels are one-hot: read as 2 classes." in hot.notes


def test_integers_and_empty_arrays_are_not_warned_of(run: visus.Run) -> None:
    assert range_warning(np.array([9999]), run.preprocessing) == ""
    assert range_warning(np.zeros((0, 8)), run.preprocessing) == ""
