"""More of what once went wrong in a reader's hands: settings that did something else in silence, and names that were hard to find."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import visus
from visus.data.splits import SplitRow, apply_split
from visus.errors import DataError, TrainingError
from visus.training.events import Event
from visus.workbench.train.training import Prepared, Scored

from .conftest import SMALL, Call

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = SMALL[1]
RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32")


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    """Forty images of 8 x 8 as arrays, two classes."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "gray.npz", x=pixels, y=np.arange(40) % 2)
    return tmp_path / "gray.npz"


def test_random_changes_are_told_in_whole_pixels_and_left_out_samples_are_counted(
    visus_command: Call, gray: Path, tmp_path: Path
) -> None:
    answer = visus_command(
        "train",
        gray,
        *SMALL,
        "--cutout",
        "0.3",
        "--progressive-resize",
        "0.75, 0.75, 0.875, 0.875, 1",
        "--output",
        tmp_path / "runs",
    )
    lines = answer.err.splitlines()
    (recipe,) = [line for line in lines if line.startswith("recipe: ")]
    assert recipe.endswith(
        "training images are not shifted (0.05 of 8 x 8 rounds to none), blanked in a box of 2 x 2, "
        "seen at 6 x 6 for 40 % of the training, then 7 x 7 for 40 %, then 8 x 8 for 20 %"
    )
    num_train = len(visus.open_data(gray).split("train"))
    assert num_train % 8 == 5
    assert (
        "note: 5 images of the training split would not fill a batch: so many sit out each epoch, others each time" in lines
    )


def test_samples_of_one_position_are_told_as_they_are_seen(visus_command: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 3, 1, 1), dtype=np.uint8)
    np.savez(tmp_path / "dots.npz", x=pixels, y=np.arange(40) % 2)
    words = (
        "train",
        tmp_path / "dots.npz",
        "--layout",
        "NCHW",
        "-m",
        "conv(4, 1), relu, globalpool, linear(classes)",
        "--epochs",
        "1",
    )
    answer = visus_command(*words, "--progressive-resize", "0.75,1", "--flip", "none", "-o", tmp_path)
    (recipe,) = [line for line in answer.err.splitlines() if line.startswith("recipe: ")]
    assert recipe.endswith(
        "training images are not shifted (0.05 of 1 x 1 rounds to none), not blanked (0.3 of 1 x 1 rounds to none), seen at 1 x 1 throughout"
    )
    answer = visus_command(*words, "--tta", "shift", "-o", tmp_path)
    assert (answer.code, answer.err.splitlines()[-1]) == (
        2,
        "error: tta=shift shifts samples, and these have a single position. Leave it out.",
    )


def test_a_split_that_overrides_the_data_or_parts_copies_is_told(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 4, 4), np.uint8)
    pixels[1] = pixels[0]
    np.savez(tmp_path / "x.npz", x=pixels, y=np.arange(12) % 2 * 0 + np.repeat([0, 1], 6))
    data = visus.open_data(tmp_path / "x.npz", layout="NHW")
    names = [data.classes[label] for label in data.samples.labels]
    sides = ["test", "train", "train", "train", "val", "train"] * 2
    rows = [SplitRow(sample, name, side, "") for sample, name, side in zip(data.samples.names, names, sides, strict=True)]
    table = data.samples.select(np.arange(12))
    (moved, parted) = apply_split(table, rows).warnings[-2:]
    assert moved.startswith(
        f"{sum((table.splits != sides) & ~((table.splits == 'train') & (np.array(sides) == 'val')))} samples"
    )
    assert moved.partition(": ")[0].endswith("in another split by split.csv than the data itself says")
    assert parted == (
        "2 samples that are copies or of one group stand on several sides of split.csv, so figures on them flatter: x[0], x[1]."
    )


def test_a_norm_over_a_batch_of_one_and_a_step_that_does_not_fit_are_explained(gray: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        visus.train(gray, "globalpool, linear(8), norm, linear(classes)", RECIPE.replace(batch_size=1), output=tmp_path)
    assert str(caught.value) == (
        "epoch 1, step 1 with a batch of 1 failed: a batch norm gets a single value per channel, which has no "
        "variance. Use a larger --batch-size, or layernorm in place of norm. "
        "No run was created."
    )


class Failing(nn.Module):
    """A linear classifier that fails in training."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2)
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise self.error
        logits: torch.Tensor = self.linear(x.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "it does not fit into memory. Use a smaller --batch-size, a smaller --img-size or a smaller network.",
        ),
    ],
)
def test_a_first_step_that_fails_names_its_place_and_leaves_no_run(
    gray: Path, tmp_path: Path, error: Exception, said: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        visus.train(gray, Failing(error), RECIPE, output=tmp_path)
    assert str(caught.value) == (f"epoch 1, step 1 with a batch of 8 failed: {said} No run was created.")


@pytest.mark.parametrize("network", ["globalpool, linear(classes), softmax", "a module"])
def test_a_network_that_ends_with_a_softmax_is_told(gray: Path, tmp_path: Path, network: str) -> None:
    told: list[Prepared] = []

    def keep(event: Event | Prepared | Scored) -> None:
        if isinstance(event, Prepared):
            told.append(event)

    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Softmax(1))
    visus.train(gray, module if network == "a module" else network, RECIPE, output=tmp_path, on_event=keep)
    assert told[0].warnings == (
        "the network ends with a softmax, and the loss applies one itself: twice, it learns slowly and is never sure. "
        "Leave it out; visus predict gives probabilities all the same.",
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--name", " "], "error: --name is empty. Give a word, or leave it out for the name of the data."),
        (["--lr", "-3"], "error: --lr must be between 1e-12 and 100, not -3."),
        (["--label-smoothing", "2"], "error: --label-smoothing must be between 0 and 0.9, not 2."),
        (
            ["-m", "models.Net"],
            "error: models.Net: a class or function of a Python module is written with a colon: models:Net.",
        ),
        (
            ["-m", "./nets/models.py:Net"],
            "error: ./nets/models.py:Net: a class or function of a Python module is written with a colon: nets.models:Net.",
        ),
        (
            ["-m", "torch.nn:Sequentail"],
            "error: torch.nn:Sequentail: torch.nn has no Sequentail. Did you mean 'Sequential'?",
        ),
    ],
)
def test_options_are_named_as_they_are_typed(visus_command: Call, gray: Path, words: list[str], line: str) -> None:
    answer = visus_command("train", gray, *words)
    assert (answer.code, answer.err.splitlines()[-1]) == (2, line)


def test_more_classes_than_there_are_cannot_be_told(visus_command: Call, run: Path, photos: Path) -> None:
    answer = visus_command("predict", run, photos, "-k", "5")
    assert (answer.code, answer.err) == (2, "error: 5 classes were asked for, and this network has 2.\n")


def test_file_names_that_are_not_utf_8_are_trained_on_and_answered(visus_command: Call, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "odd")
    random = np.random.default_rng(0)
    for label in (b"a", b"b"):
        os.makedirs(os.path.join(folder, label))
        for number in range(8):
            with open(os.path.join(folder, label, b"\xff%d.png" % number), "wb") as file:
                Image.fromarray(random.integers(0, 255, (8, 8), dtype=np.uint8)).save(file, "png")
    trained = visus_command("train", tmp_path / "odd", *SMALL, "--output", tmp_path / "runs")
    assert trained.code == 0, trained.err
    run = visus.load(tmp_path / "runs" / "odd")
    assert run.evaluate().num_samples == run.scores.num_samples
    assert os.fsencode(next(run.predict([tmp_path / "odd"])).file).endswith(b"odd/a/\xff0.png")


def test_a_class_name_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    for label in (b"a", b"b\xe9"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), label))
        with open(os.path.join(os.fsencode(tmp_path), label, b"0.png"), "wb") as file:
            Image.new("L", (8, 8)).save(file, "png")
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the class name 'b\\udce9' is empty, holds a control character or is not UTF-8. Rename that class."
    )


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="long doubles are plain doubles here")
def test_numbers_longer_than_64_bits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "long.npz", x=np.zeros((8, 8, 8), np.longdouble), y=np.arange(8) % 2)
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "long.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'long.npz'}: the array x has the type {np.dtype(np.longdouble)}; "
        "needed are whole or floating-point numbers of at most 64 bits."
    )


def test_what_a_module_prints_in_training_and_prediction_stays_off_stdout(
    visus_command: Call, gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.linear = nn.Linear(64, num_classes)\n\n    def forward(self, x):\n        print('hello')\n"
        "        return self.linear(x.flatten(1))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "chatty", raising=False)
    assert visus_command("train", gray, "-m", "chatty:Net", "--epochs", "1").out == f"runs/gray{os.linesep}"
    assert "hello" not in visus_command("predict", "runs/gray", gray).out
    assert "hello" not in visus_command("evaluate", "runs/gray", "--json").out


def test_runs_are_looked_for_in_the_usual_place_too(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    visus.train(photos, NETWORK, RECIPE, name="mine")
    with pytest.raises(visus.VisusError) as caught:
        visus.load("mine")
    assert str(caught.value) == "mine: there is no such run folder. Newest runs in runs: mine."


def test_a_training_that_goes_on_elsewhere_tells_both_machines(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, NETWORK, RECIPE, output=tmp_path)
    file = run.folder / "environment.json"
    here = json.loads(file.read_text())
    visus.resume(run.folder)
    assert json.loads(file.read_text()) == here
    file.write_text(json.dumps(here | {"python": "3.0"}))
    visus.resume(run.folder)
    assert json.loads(file.read_text()) == here | {"earlier": [here | {"python": "3.0"}]}


def test_check_takes_the_options_of_the_data(visus_command: Call, photos: Path) -> None:
    answer = visus_command("check", photos, "--channels", "1", "--resize-mode", "crop", "--img-size", "8", "-j", "1")
    assert answer.code == 0
    assert "60 images of 1 x 8 x 8" in answer.out
    wrong = visus_command("check", photos, "--resize-mode", "corp")
    assert wrong.err == "error: unknown rule 'corp'. Did you mean 'crop'? Known: crop, pad, squash.\n"
