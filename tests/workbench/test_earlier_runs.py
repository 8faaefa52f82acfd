"""Trainings from the weights of a run: its network, image size and split, and what is said of them."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.data.splits import read_split_csv
from visus.errors import RunError, UsageError, WeightsError
from visus.workbench.train.events import DataOpened, Planned
from visus.workbench.train.training import train

pytestmark = pytest.mark.usefixtures("light_pages")

DESIGN = SMALL[1]
RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw")


class _EnoughError(Exception):
    pass


def planned(data: Any, tmp_path: Path, **named: Any) -> tuple[DataOpened, Planned]:
    """What a training opens and decides, without its steps."""
    found: dict[type, Any] = {}

    def look(event: object) -> None:
        found[type(event)] = event
        if isinstance(event, Planned):
            raise _EnoughError

    with pytest.raises(_EnoughError):
        train(data, recipe=RECIPE, output=tmp_path, on_event=look, progress=False, **named)
    return found[DataOpened], found[Planned]


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 20 x 20 pixels in two classes, the second brighter."""
    root = tmp_path_factory.mktemp("images") / "shades"
    rng = np.random.default_rng(1)
    for label, mean in (("dark", 60), ("light", 190)):
        (root / label).mkdir(parents=True)
        for number in range(24):
            values = np.clip(mean + rng.normal(0, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / label / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def small_run(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at 12 x 16 pixels, with a split of its own."""
    data = visus.open_data(shades, img_size=(12, 16), resize_mode="crop", split_seed=3, progress=False)
    return train(data, DESIGN, RECIPE, output=tmp_path_factory.mktemp("runs"), name="small", progress=False).folder


@pytest.mark.parametrize("given", ["folder", "file", "copy"])
def test_weights_of_a_run_bring_its_network_size_and_split(
    given: str, shades: Path, small_run: Path, tmp_path: Path
) -> None:
    file = small_run / "weights" / "best.safetensors"
    copy = Path(shutil.copy(file, tmp_path / "copy.safetensors"))
    opened, plan = planned(shades, tmp_path, weights={"folder": small_run, "file": file, "copy": copy}[given])
    assert plan.network.text == (small_run / "design.txt").read_text()
    own = visus.load(small_run).preprocessing
    now = opened.data.preprocessing
    assert (now.size, now.resize_mode, now.offset, now.divisor) == (own.size, own.resize_mode, own.offset, own.divisor)
    splits = {row.sample: row.split for row in read_split_csv(small_run / "split.csv")}
    here = dict(zip(opened.data.samples.names, opened.data.samples.splits.tolist(), strict=True))
    assert (here == splits) == (given != "copy"), "a file outside its run has no split"
    assert opened.data.split_seed == (3 if given != "copy" else 0)
    name = "the run that wrote these weights" if given == "copy" else "the run small"
    assert (
        opened.note == f"from {name}: the network {DESIGN}, the size of 12 x 16 px{', the split' if given != 'copy' else ''}"
    )
    assert opened.warnings == ()
    assert opened.start is not None
    assert opened.start.file == str(copy if given == "copy" else file)


def test_another_size_and_held_out_samples_that_were_learned_are_warnings(
    shades: Path, small_run: Path, tmp_path: Path
) -> None:
    opened, _ = planned(visus.open_data(shades, progress=False), tmp_path, weights=small_run)
    learned = {row.sample for row in read_split_csv(small_run / "split.csv") if row.split in ("train", "val")}
    held_out = opened.data.split("test").names
    number = len(learned & set(held_out))
    trained = {row.sample for row in read_split_csv(small_run / "split.csv") if row.split == "train"}
    validation = opened.data.split("val").names
    num_chosen = len(trained & set(validation))
    assert number > 0
    assert num_chosen > 0
    assert opened.note == f"from the run small: the network {DESIGN}"
    assert list(opened.warnings) == [
        "the run small read its images at 12 x 16 px, and these are read at 20 x 20 px. For the same size, give the path of the data without "
        "an image size, or visus.open_data(path, img_size=(12, 16)).",
        f"{number} of {len(held_out)} test images were training or validation images of the run small, so the accuracy will be too high. "
        f"Its split is {small_run / 'split.csv'}: visus.open_data(path, split=...), or --split-file.",
        f"{num_chosen} of {len(validation)} validation images were training images of the run small, so the validation scores will be too high, and with "
        "them the choice of epoch and head.",
    ]


def test_other_images_are_read_at_the_size_of_the_run(photos: Path, small_run: Path, tmp_path: Path) -> None:
    opened, plan = planned(photos, tmp_path, weights=small_run, network=DESIGN)
    assert (opened.data.input_shape, plan.network.asked) == ((3, 12, 16), DESIGN)
    assert opened.note == "from the run small: the size of 12 x 16 px"
    assert opened.warnings == ()


@pytest.mark.long
def test_the_command_takes_a_run_folder_and_keeps_what_options_ask_for(
    shades: Path, small_run: Path, tmp_path: Path, visus_command: Call
) -> None:
    words = ["--weights", small_run, "--epochs", "0", "-b", "8", "-o", tmp_path]
    taken = visus_command("train", shades, *words, "--name", "taken")
    assert taken.code == 0, taken.err
    assert f"note      from the run small: the network {DESIGN}," in taken.err
    facts = json.loads((tmp_path / "taken" / "data.json").read_text())
    assert (facts["preprocessing"]["size"], facts["preprocessing"]["resize_mode"], facts["split_seed"]) == (
        [12, 16],
        "crop",
        3,
    )
    assert facts["network"] == DESIGN
    options = ["--img-size", "10", "--resize-mode", "pad", "--split-seed", "3", "--name", "asked"]
    asked = visus_command("train", shades, *words, *options)
    assert asked.code == 0, asked.err
    facts = json.loads((tmp_path / "asked" / "data.json").read_text())
    assert (facts["preprocessing"]["size"], facts["preprocessing"]["resize_mode"], facts["split_seed"]) == (
        [10, 10],
        "pad",
        3,
    )


def test_weights_of_another_network_name_theirs(photos: Path, small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        train(photos, "conv(4, 3), relu, globalpool, linear(classes)", RECIPE, weights=small_run, output=tmp_path)
    assert str(caught.value).endswith(
        f"They are the weights of {DESIGN}, of the run small: leave the network out, or give this one."
    )


def test_weights_of_signals_are_refused_for_images_with_the_cause(shades: Path, tmp_path: Path) -> None:
    signals = np.random.default_rng(0).normal(size=(40, 1, 32)).astype(np.float32)
    signals[::2] += 2
    np.savez(tmp_path / "signals.npz", x=signals, y=np.arange(40) % 2)
    made = train(tmp_path / "signals.npz", DESIGN, RECIPE, output=tmp_path, name="snd", progress=False)
    for network in (None, DESIGN):
        with pytest.raises(WeightsError) as caught:
            train(shades, network, RECIPE, weights=made.folder, output=tmp_path, progress=False)
        assert str(caught.value) == (
            f"{made.folder / 'weights' / 'best.safetensors'}: the run snd reads signals of 1 x 32, and this data has images of 3 x 20 x 20: the weights "
            "fit no network for them. Leave the weights out, or give weights of a run on such data."
        )


def test_a_run_of_a_python_object_needs_it(shades: Path, tmp_path: Path) -> None:
    module = visus.network(DESIGN, (3, 20, 20), 2)
    made = train(shades, module, RECIPE, output=tmp_path, name="object", progress=False)
    with pytest.raises(UsageError) as caught:
        train(shades, recipe=RECIPE, weights=made.folder, output=tmp_path)
    assert str(caught.value) == (
        f"{made.folder / 'weights' / 'best.safetensors'}: these weights are of the Python object torch.nn.modules.container.Sequential, which no file "
        "can make again. Give such a module as the network."
    )
    opened, _ = planned(shades, tmp_path, weights=made.folder, network=visus.network(DESIGN, (3, 20, 20), 2))
    assert opened.note == "from the run object: the size of 20 x 20 px, the split"


def error_of(call: Any, *given: Any, **named: Any) -> RunError:
    """The error of a call."""
    with pytest.raises(RunError) as caught:
        call(*given, **named)
    return caught.value


def test_a_folder_that_is_no_run_is_refused_as_weights_as_everywhere(small_run: Path, shades: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds"
    folds.mkdir()
    (folds / "folds.json").write_text("{}")
    for folder in (folds, tmp_path):
        found = {str(error_of(visus.load, folder))}
        for call in (visus.train, partial(visus.tune, trials=1)):
            found |= {str(error_of(call, shades, weights=folder, output=tmp_path / "runs", progress=False))}
        assert len(found) == 1
    assert not (tmp_path / "runs").exists()
    opened, _ = planned(shades, tmp_path / "runs", weights=small_run / "weights")
    assert opened.data.input_shape == (3, 12, 16)
