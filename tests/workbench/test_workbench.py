"""The workbench: networks of every kind, runs that are loaded, scored and used from Python."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import visus
from visus.errors import DataError, RunError, StorageError, UsageError
from visus.networks import weights
from visus.training.runs import RunFolder
from visus.workbench.modules import count_macs, make_network

pytestmark = pytest.mark.usefixtures("light_pages")


class Own(nn.Module):
    """A network of a person's own."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(images)
        return out


@pytest.fixture
def own_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An importable module ``mynets`` with things that are and are not networks."""
    module = ModuleType("mynets")
    module.__dict__.update(Own=Own, ready=Own(), number=3, text=lambda: "words", narrow=lambda num_classes: nn.Flatten())
    monkeypatch.setitem(__import__("sys").modules, "mynets", module)


RECIPE = visus.Recipe(epochs=2, batch_size=8, precision="float32")


def test_a_callable_by_name_is_trained_and_loaded_again(own_package: None, photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, "mynets:Own", RECIPE, output=tmp_path)
    assert (run.folder / "design.txt").read_text() == "mynets:Own\n"
    assert visus.load(run.folder).evaluate() == run.evaluate()


def test_a_module_object_is_trained_and_asked_for_again(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, Own(), RECIPE, output=tmp_path)
    assert visus.load(run.folder, network=Own()).evaluate() == run.evaluate()
    with pytest.raises(UsageError) as caught:
        visus.load(run.folder)
    assert str(caught.value) == (
        f"this network was given as a Python object ({Own.__module__}.Own) and cannot be made from its name. "
        "Give the same object: visus.load(folder, network=...), or visus.resume(folder, network=...) to go on with a training."
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("mynets:none", "mynets:none: mynets has no none."),
        ("mynets:number", "mynets:number: number is neither a torch.nn.Module nor a callable that makes one."),
        ("mynets:text", "mynets:text: text gave str, and a torch.nn.Module is needed."),
        (
            "mynets:narrow",
            "mynets:narrow: this module gives 2 x 192 for 2 samples, and 2 x 2 is needed: one number for each of the 2 classes.",
        ),
    ],
)
def test_what_is_no_network_is_refused(own_package: None, network: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_network(network, (3, 8, 8), 2)
    assert str(caught.value) == message


def test_a_module_for_another_input_is_refused_with_what_torch_says() -> None:
    with pytest.raises(UsageError) as caught:
        make_network(Own(in_channels=1), (3, 8, 8), 2)
    assert str(caught.value).startswith(
        "Own: this module cannot take an input of 2 x 3 x 8 x 8: RuntimeError: Given groups=1, weight of size [4, 1, 3, 3]"
    )


def test_initial_weights_follow_from_the_seed_alone(own_package: None) -> None:
    first, second, other = (make_network("mynets:Own", (3, 8, 8), 2, seed=seed).module.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["body.0.weight"], other["body.0.weight"])


def test_macs_of_a_module_are_those_of_its_design() -> None:
    made = make_network("resnet(18)", (3, 32, 32), 10)
    assert made.design is not None
    from visus.design import account

    assert count_macs(made.module, (3, 32, 32)) == account(made.design, (3, 32, 32), 10).macs


def test_a_network_from_a_design_file(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("conv(4, 3),\nglobalpool, linear(classes)\n")
    assert visus.network(str(tmp_path / "net.txt"), (1, 8, 8), 5)(torch.zeros(1, 1, 8, 8)).shape == (1, 5)


def test_predict_returns_what_evaluate_counts(run: Path, photos: Path) -> None:
    loaded = visus.load(run)
    data = loaded.open_data()
    answers = list(loaded.predict([photos / sample for sample in data.split("test").names]))
    right = sum(
        answer.label == loaded.classes[label] for answer, label in zip(answers, data.split("test").labels, strict=True)
    )
    assert right / len(answers) == loaded.evaluate().accuracy


def test_predict_takes_arrays(run: Path) -> None:
    values = np.full((3, 3, 10, 10), 60, dtype=np.uint8)
    answers = list(visus.load(run).predict([values]))
    assert [answer.file for answer in answers] == ["array 1[0]", "array 1[1]", "array 1[2]"]
    assert {answer.label for answer in answers} == {"dark"}


def test_predict_reports_why_an_sample_has_no_answer(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    answer = next(iter(visus.load(run).predict([tmp_path / "a.png"])))
    assert answer.label is None
    assert math.isnan(answer.probability)
    assert answer.error


def test_predict_names_what_holds_no_sample_and_goes_on(run: Path, tmp_path: Path) -> None:
    loaded = visus.load(run)
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    (tmp_path / "bad.npy").write_text("text")
    named = [
        tmp_path / "empty",
        tmp_path / "other.npz",
        tmp_path / "bad.npy",
        tmp_path / "none.png",
        np.zeros((3, 10, 10), np.uint8),
    ]
    empty, *others, answer = loaded.predict(named)
    assert (empty.file, empty.labels) == (str(tmp_path / "empty"), ())
    assert empty.error.startswith("this folder has no file that this network reads (.")
    assert [(each.file, each.error) for each in others] == [
        (str(tmp_path / "other.npz"), "this file has no array x, images, x_test or test_images; it has z."),
        (str(tmp_path / "bad.npy"), "this is not a readable NumPy file of plain numbers."),
        (str(tmp_path / "none.png"), "there is no such file or folder."),
    ]
    assert (answer.file, answer.error, len(answer.labels)) == ("array 5", None, 1)
    with pytest.raises(UsageError) as caught:
        list(loaded.predict([np.zeros((3, 10))]))
    assert str(caught.value) == "array 1: an array of 3 x 10 does not fit a network for 3 x 10 x 10."


def test_a_image_for_a_network_of_volumes_is_answered_with_the_reason(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "v.npz",
        x=np.random.default_rng(0).integers(0, 255, (20, 1, 6, 6, 6), dtype=np.uint8),
        y=np.arange(20) % 2,
    )
    run = visus.train(tmp_path / "v.npz", None, RECIPE.replace(epochs=1), output=tmp_path)
    Image.new("L", (6, 6)).save(tmp_path / "a.png")
    answer = next(iter(run.predict([tmp_path / "a.png"])))
    assert answer.error == "this network reads volumes of 1 x 6 x 6 x 6 from NPZ or NPY files, and this is an image."


def test_evaluating_an_empty_split_says_which_option_to_use(other_photos: Path, run: Path) -> None:
    loaded = visus.load(run)
    with pytest.raises(DataError) as caught:
        loaded.evaluate(other_photos, split="train")
    assert str(caught.value) == f"{other_photos}: the train split of this data is empty. Choose another with split."


def test_a_validation_score_says_that_it_also_chose_the_weights(photos: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / "data" / split)
    run = visus.train(tmp_path / "data", "conv(4, 3), relu, globalpool, linear(classes)", RECIPE, output=tmp_path)
    assert run.scores.split == "val"
    assert run.scores.notes == (
        "Unsure predictions are the mean over 2 copies of the image: unchanged and mirrored (test-time augmentation).",
        "This data has no test split. The validation split was scored, which also selected the weights: expect slightly lower accuracy on new data.",
    )


@pytest.mark.long
def test_a_run_of_the_head_alone_is_whole_and_without_a_warning(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with whole pages
    told: list[Any] = []
    made = visus.train(
        photos,
        visus.load(run).module,
        visus.Recipe(epochs=0),
        weights=run / "weights" / "best.safetensors",
        output=tmp_path,
        on_event=told.append,
    )
    assert not [event for event in told if "missing" in str(event)]
    assert (made.folder / "report.html").is_file()
    assert (made.folder / "confusion.png").is_file()
    assert not (made.folder / "curves.png").exists()


def test_foreign_weights_are_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    tensors, _ = weights.load(run / "weights" / "best.safetensors")
    file = copy / "weights" / "best.safetensors"
    weights.save(tensors, file)
    with pytest.raises(RunError) as caught:
        visus.load(copy)
    assert str(caught.value) == f"{file}: these weights were not written by a training of visus."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "scores.json is missing or unreadable. Put it back, or train again with visus.train."),
        ("{", "scores.json is damaged. Put it back, or train again with visus.train."),
    ],
)
def test_missing_or_damaged_scores_are_reported(run: Path, tmp_path: Path, content: str | None, message: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "scores.json").unlink()
    if content:
        (copy / "scores.json").write_text(content)
    with pytest.raises(RunError) as caught:
        _ = visus.load(copy).scores
    assert str(caught.value) == f"{copy}: {message}"


def test_a_run_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError) as caught:
        RunFolder.create(tmp_path / "runs", "a", {})
    assert (
        str(caught.value)
        == f"{tmp_path / 'runs' / 'a'}: the run folder cannot be created: File exists. Choose another place with --output."
    )


def test_weights_hold_all_that_is_needed_to_use_them(run: Path) -> None:
    _, metadata = weights.load(run / "weights" / "best.safetensors")
    facts = json.loads(metadata["visus"])
    assert facts["classes"] == ["dark", "light"]
    assert facts["preprocessing"]["size"] == [10, 10]
    assert visus.parse(facts["design"])
    state = safetensors.torch.load_file(run / "weights" / "best.safetensors")
    assert state.keys() == visus.load(run).module.state_dict().keys()
