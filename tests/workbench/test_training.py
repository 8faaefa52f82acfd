"""Training: what is refused before the first step, what is reported, and what a resumed run keeps."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import SMALL, Call
from torch import Tensor, nn

import visus
from visus.errors import TrainingError, UsageError
from visus.training.events import Event, StepDone
from visus.workbench.train.events import Prepared, Scored
from visus.workbench.training_lines import ledger_facts

pytestmark = pytest.mark.usefixtures("light_pages")

RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32")
NETWORK = SMALL[1]


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    """Forty images of 8 x 8 as arrays, two classes."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "gray.npz", x=pixels, y=np.arange(40) % 2)
    return tmp_path / "gray.npz"


def test_an_output_that_is_a_file_is_refused_at_once(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path / "runs")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == (
        f"error: {tmp_path / 'runs' / photos.name}: the run folder cannot be created: File exists. Choose another place with --output."
    )


@pytest.mark.parametrize(
    "changes", [{}, {"time_limit_s": 1.0, "epochs": 100_000}, {"patience": 1, "epochs": 200, "learning_rate": 1e-12}]
)
@pytest.mark.long
def test_resuming_a_finished_training_changes_nothing(photos: Path, tmp_path: Path, changes: dict[str, float]) -> None:
    run = visus.train(photos, "flatten, linear(classes)", RECIPE.replace(**changes), output=tmp_path)
    before = {
        name: (run.folder / name).read_bytes()
        for name in ("results.csv", "weights/best.safetensors", "weights/last.safetensors")
    }
    again = visus.resume(run.folder)
    assert {name: (run.folder / name).read_bytes() for name in before} == before
    assert again.scores == run.scores


def test_a_table_next_to_another_is_found_again(photos: Path, tmp_path: Path) -> None:
    rows = [f"{photos / label / f'{number:02}.png'},{label}" for label in ("dark", "light") for number in range(10)]
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("\n".join(["path,label", *rows]) + "\n")
    run = visus.train(tmp_path / "one.csv", NETWORK, RECIPE, output=tmp_path / "runs")
    assert run.name == "one"
    assert visus.load(run.folder).evaluate().num_samples == 4


def test_a_batch_is_never_said_to_be_larger_than_the_training_split(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, NETWORK, RECIPE.replace(batch_size=1000), output=tmp_path)
    assert run.recipe.batch_size == 43


def test_runs_within_the_data_are_not_data(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    run = visus.train(data, NETWORK, RECIPE, output=data / "runs")
    assert run.evaluate().num_samples == 12
    again = visus.open_data(data)
    assert again.classes == ("dark", "light")
    assert again.ledger.examples("left out: hidden or not an image") == ["runs"]


def test_the_ledger_of_a_run_names_every_changed_sample(photos: Path, tmp_path: Path) -> None:
    run = visus.train(visus.open_data(photos, img_size=8), NETWORK, RECIPE, output=tmp_path)
    with (run.folder / "ledger.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["change", "file", "detail"]
    resized = [name for change, name, _ in rows if change == "resized"]
    assert resized == list(visus.open_data(photos, img_size=8).samples.names)
    assert len(resized) == json.loads((run.folder / "ledger.json").read_text())["resized"]["count"] > 10


def test_what_a_warning_says_of_the_data_is_no_line_of_the_ledger_too(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "dirty"
    shutil.copytree(photos, data)
    (data / "dark" / "junk.png").write_text("junk")
    shutil.copy(next((data / "light").iterdir()), data / "dark" / "copy.png")
    opened = visus.open_data(data, img_size=8)
    assert {"conflict", "unreadable", "resized"} <= opened.ledger.counts.keys()
    lines = [sentence for _, sentence in ledger_facts(opened)]
    assert [line for line in lines if "resized" in line]
    assert not [line for line in lines if "could not be read" in line or "another label" in line]
    assert sum("cannot be read" in warning or "another class" in warning for warning in opened.warnings) == 2


def test_a_name_with_folders_is_refused(photos: Path, tmp_path: Path) -> None:
    for name in ("x/y", "x\\y"):
        with pytest.raises(UsageError) as caught:
            visus.train(photos, NETWORK, RECIPE, output=tmp_path / "runs", name=name)
        assert str(caught.value) == (
            f"the name of a run is one word without / and \\, and not {name!r}. Give the folder apart, with output= or --output."
        )
    assert not (tmp_path / "runs").exists()


def test_settings_that_could_only_be_ignored_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32), y=np.arange(40) % 2)
    with pytest.raises(UsageError) as caught:
        visus.train(tmp_path / "r.npz", None, RECIPE.replace(zoom=0.5), output=tmp_path)
    assert str(caught.value) == "zoom stretches a signal, which changes its pitch. Leave it out."
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).normal(size=(4, 1, 16)).astype(np.float32), y=np.arange(4) % 2)
    with pytest.raises(UsageError) as caught:
        visus.train(tmp_path / "few.npz", None, RECIPE.replace(patience=3), output=tmp_path)
    assert str(caught.value) == "patience needs a validation set, and this data has none. Leave it out."
    with pytest.raises(UsageError) as caught:
        visus.open_data(tmp_path / "r.npz", resize_mode="crop")
    assert (
        str(caught.value)
        == f"{tmp_path / 'r.npz'}: the resize mode crop applies to image files, but these are arrays. Omit it."
    )


def test_random_changes_are_reported_in_whole_pixels_and_left_out_samples_are_counted(
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
        "-v",
    )
    lines = answer.err.splitlines()
    (recipe,) = [line for line in lines if line.startswith("recipe    ")]
    assert recipe.endswith(
        "training images are not shifted (0.05 of 8 x 8 rounds to 0), blanked in a box of 2 x 2, "
        "seen at 6 x 6 for 40 % of the training, then 7 x 7 for 40 %, then 8 x 8 for 20 %"
    )
    num_train = len(visus.open_data(gray).split("train"))
    assert num_train % 8 == 5
    assert (
        f"note      {num_train - 5} of {num_train} training images in each epoch, drawn anew, since the last batch would be incomplete"
        in lines
    )


def test_samples_of_one_position_are_reported_as_they_are_seen(visus_command: Call, tmp_path: Path) -> None:
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
    answer = visus_command(*words, "--progressive-resize", "0.75,1", "--flip", "none", "-v", "-o", tmp_path)
    (recipe,) = [line for line in answer.err.splitlines() if line.startswith("recipe    ")]
    assert recipe.endswith(
        "training images are not shifted (0.05 of 1 x 1 rounds to 0), not blanked (0.3 of 1 x 1 rounds to 0), seen at 1 x 1 throughout"
    )
    answer = visus_command(*words, "--tta", "shift", "-o", tmp_path)
    assert (answer.code, answer.err.splitlines()[-1]) == (
        2,
        "error: tta=shift shifts samples, and these have a single position. Leave it out.",
    )


def test_a_norm_over_a_batch_of_one_and_a_step_that_does_not_fit_are_explained(gray: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        visus.train(gray, "globalpool, linear(8), norm, linear(classes)", RECIPE.replace(batch_size=1), output=tmp_path)
    assert str(caught.value) == (
        "epoch 1, step 1 with a batch of 1 failed: a batch norm gets a single value per channel, which has no "
        "variance. Use a larger batch_size, or layernorm in place of norm. "
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
            "it does not fit into memory. Use a smaller batch_size, a smaller img_size or a smaller network.",
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
def test_a_network_that_ends_with_a_softmax_is_reported(gray: Path, tmp_path: Path, network: str) -> None:
    told: list[Prepared] = []

    def keep(event: Event | Prepared | Scored) -> None:
        if isinstance(event, Prepared):
            told.append(event)

    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Softmax(1))
    visus.train(gray, module if network == "a module" else network, RECIPE, output=tmp_path, on_event=keep)
    assert told[0].warnings == (
        "the network ends with a softmax, and the loss applies another one, which slows down learning. Leave it out; predictions are probabilities anyway.",
    )


class _Listed(nn.Module):
    """A layer in a plain list, where PyTorch does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(64, 16)]
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden[0](x.flatten(1))))  # type: ignore[no-any-return]


def test_layers_that_would_be_neither_trained_nor_saved_are_refused_before_a_run_exists(gray: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.train(gray, _Listed(), RECIPE, output=tmp_path / "runs", progress=False)
    assert str(caught.value) == (
        "_Listed: hidden: a plain list holds 1 layer with 1,040 parameters. PyTorch does not see it there: no optimizer updates it, "
        "and no weights file holds it. Use nn.ModuleList instead of the list."
    )
    assert not (tmp_path / "runs").exists()
    module = _Listed()
    module.hidden = nn.ModuleList(module.hidden)  # type: ignore[assignment]
    assert _warnings(gray, module, tmp_path) == ()


class _Careless(nn.Module):
    """A mean over the batch, two linear layers in a row, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head, self.spare = nn.Linear(64, 16), nn.Linear(16, 2), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.head(self.hidden(x - x.mean(0)))


def _warnings(data: Path, network: Any, output: Path) -> tuple[str, ...]:
    """The warnings on a network before its training."""
    told: list[Prepared] = []

    def keep(event: Event | Prepared | Scored) -> None:
        if isinstance(event, Prepared):
            told.append(event)

    visus.train(data, network, RECIPE, output=output, on_event=keep, progress=False)
    return told[0].warnings


def test_mistakes_in_a_network_are_warned_of_before_training(gray: Path, tmp_path: Path) -> None:
    assert _warnings(gray, _Careless(), tmp_path) == (
        "the output of a sample depends on the other samples of its batch: values of several samples meet in forward. "
        "Compute over dimensions from 1 on; dim=0 is the batch.",
        "head: there is no activation between hidden and this layer, so the two linear layers compute no more than one: "
        "64 x 2 = 128 weights instead of 1,024 + 32 = 1,056. Apply an activation between them, such as a ReLU.",
        "spare: the forward pass never calls this layer (Linear(4), 68 parameters). Call it in forward, or remove it.",
    )


def test_a_resumed_training_repeats_the_advice_that_still_matters(gray: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    visus.train(
        gray,
        _Careless(),
        RECIPE,
        output=tmp_path,
        progress=False,
        on_event=seen.append,
        should_stop=lambda: any(isinstance(event, StepDone) for event in seen),
    )
    (begun,) = (event for event in seen if isinstance(event, Prepared))

    def resumed() -> tuple[str, ...]:
        seen.clear()
        visus.resume(begun.folder, network=_Careless(), on_event=seen.append, progress=False)
        (prepared,) = (event for event in seen if isinstance(event, Prepared))
        return prepared.warnings

    assert [warning.partition(":")[0] for warning in begun.warnings] == [
        "the output of a sample depends on the other samples of its batch",
        "head",
        "spare",
    ]
    assert resumed() == begun.warnings[1:]
    (finished,) = resumed()
    assert finished.startswith("this training is finished")


def test_layers_of_a_design_without_an_activation_are_warned_of_before_training(gray: Path, tmp_path: Path) -> None:
    assert _warnings(gray, "flatten, linear(16), linear(classes)", tmp_path) == (
        "linear2: there is no activation between linear1 and this layer, so the two linear layers compute no more than one: "
        "64 x 2 = 128 weights instead of 1,024 + 32 = 1,056. Put relu before linear2: 1.07 k parameters, 1.06 k multiply-adds.",
    )
    assert _warnings(gray, "flatten, linear(16), relu, linear(classes)", tmp_path) == ()


def test_a_training_that_goes_on_elsewhere_reports_both_machines(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, NETWORK, RECIPE, output=tmp_path)
    file = run.folder / "environment.json"
    here = json.loads(file.read_text())
    visus.resume(run.folder)
    assert json.loads(file.read_text()) == here
    file.write_text(json.dumps(here | {"python": "3.0"}))
    visus.resume(run.folder)
    assert json.loads(file.read_text()) == here | {"earlier": [here | {"python": "3.0"}]}


def test_runs_are_looked_for_in_the_usual_place_too(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    visus.train(photos, NETWORK, RECIPE, name="mine")
    with pytest.raises(visus.VisusError) as caught:
        visus.load("mine")
    assert str(caught.value) == "mine: there is no such run folder. Did you mean runs/mine?"
    for typed in ("Mine", "runs/MINE", "runs/mien"):
        with pytest.raises(visus.VisusError) as caught:
            visus.load(typed)
        assert str(caught.value) == f"{typed}: there is no such run folder. Did you mean runs/mine?"
    shutil.copytree("runs/mine", "runs/first/mine")
    with pytest.raises(visus.VisusError) as caught:
        visus.load("first/mine")
    assert str(caught.value) == "first/mine: there is no such run folder. Did you mean runs/first/mine?"
    (tmp_path / "mine").mkdir()  # a folder of that name is no run
    with pytest.raises(visus.VisusError) as caught:
        visus.load("mine")
    assert str(caught.value) == "mine: this is not a run folder of visus: it has no recipe.yaml. Did you mean runs/mine?"
    with pytest.raises(visus.VisusError) as caught:
        visus.load("elephants")
    assert str(caught.value) == "elephants: there is no such run folder. Newest runs in runs: mine."


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


def test_what_a_person_s_own_code_prints_stays_off_stdout(
    visus_command: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talkative.py").write_text(
        "from torch import nn\nprint('imported')\n\ndef net(**options):\n    print('called')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(300, options['num_classes']))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "talkative", raising=False)
    answer = visus_command("train", photos, "-m", "talkative:net", "--epochs", "1", "--name", "t")
    assert (answer.code, answer.out) == (0, "runs/t\n")


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
