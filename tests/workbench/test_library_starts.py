"""A network of another library is trained by its name, read as its weights need it, and found again without the library's hub or the folder."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import Call
from torch import nn

import visus
from visus.errors import UsageError

pytestmark = pytest.mark.usefixtures("light_pages")
RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32", device="cpu")


class Small(nn.Module):
    """A network as timm makes it."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.fc(self.norm(self.conv(images)).relu().mean((2, 3)))
        return answers


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for timm; ``small`` takes any size and ``small_vit`` one."""
    found: Any = types.ModuleType("timm")

    def create_model(name: str, pretrained: bool = False, num_classes: int = 9, in_chans: int = 3, **_: Any) -> nn.Module:
        if not pretrained:
            return Small(num_classes, in_chans)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return Small(num_classes, in_chans)

    found.create_model, found.list_models = create_model, lambda: ["small", "small_vit"]
    found.is_model = lambda name: name in found.list_models()
    facts = {"input_size": (3, 16, 16), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "has_weights": True}
    found.get_pretrained_cfg = lambda name, **_: types.SimpleNamespace(**facts, fixed_input_size="vit" in name)
    monkeypatch.setitem(sys.modules, "timm", found)
    return found


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty color images of 20 x 24 px, dark and light."""
    root = tmp_path_factory.mktemp("shades")
    generator = np.random.default_rng(0)
    for name, level in (("dark", 0), ("light", 120)):
        (root / name).mkdir()
        for number in range(20):
            values = generator.integers(0, 100, (20, 24, 3)) + level
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A tiny network of transformers with its image processor."""
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=7)
    with torch.random.fork_rng():
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    facts = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 16, "width": 16}}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(facts))
    return tmp_path / "net"


def train(data: Any, network: str | None, output: Path, **keywords: Any) -> Any:
    return visus.train(data, network, keywords.pop("recipe", RECIPE), output=output, progress=False, **keywords)


def test_pretrained_weights_bring_their_input(shades: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    run = train(shades, "timm:small", tmp_path, pretrained=True, on_event=events.append)
    assert run.preprocessing.input_shape == (3, 16, 16)
    assert (run.preprocessing.offset, run.preprocessing.divisor) == ((127.5,) * 3, (63.75,) * 3)
    (opened,) = (each for each in events if type(each).__name__ == "DataOpened")
    assert opened.note == (
        "read as the weights of timm:small need it: 16 x 16 px, 3 channels, mean 0.5, 0.5, 0.5 and standard deviation 0.25, 0.25, 0.25 of values from 0 to 1"
    )
    start = json.loads((run.folder / "start.json").read_text())
    assert (start["source"], start["left_new"]) == ("the pretrained weights of timm:small", ["fc.weight", "fc.bias"])


def test_new_weights_leave_the_data_as_it_is_and_say_where_others_are(shades: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    run = train(shades, "timm:small", tmp_path, on_event=events.append)
    assert run.preprocessing.input_shape == (3, 20, 24)
    assert not (run.folder / "start.json").exists()
    (opened,) = (each for each in events if type(each).__name__ == "DataOpened")
    assert opened.note == "timm:small starts from random weights. With those that timm has for it: pretrained=True"


def test_a_network_of_one_size_gets_it_with_new_weights_too(shades: Path, tmp_path: Path) -> None:
    run = train(shades, "timm:small_vit", tmp_path, pretrained=False)
    assert run.preprocessing.input_shape == (3, 16, 16)
    assert run.preprocessing.normalize == "mean-deviation"


@pytest.mark.long
def test_a_file_of_weights_is_read_with_the_input_of_its_network(shades: Path, tmp_path: Path) -> None:
    given = Small(9, 3)
    torch.save({"state_dict": {f"model.{name}": value for name, value in given.state_dict().items()}}, tmp_path / "w.pt")
    run = train(shades, "timm:small", tmp_path / "runs", weights=tmp_path / "w.pt", recipe=visus.Recipe(epochs=0))
    assert run.preprocessing.offset == (127.5,) * 3
    assert torch.equal(run.module.state_dict()["conv.weight"], given.conv.weight)
    start = json.loads((run.folder / "start.json").read_text())
    assert start["source"] == "the weights in w.pt (names without their prefix model.)"
    again = train(shades, None, tmp_path / "runs", weights=run.folder)
    assert again.preprocessing.input_shape == (3, 16, 16)


@pytest.mark.slow
def test_a_folder_brings_its_weights_and_the_run_needs_it_no_more(shades: Path, saved: Path, tmp_path: Path) -> None:
    run = train(shades, f"hf:{saved}", tmp_path / "runs")
    assert (run.folder / "start.json").is_file()
    shutil.rmtree(saved)
    again = visus.load(run.folder)
    assert again.evaluate(progress=False).accuracy == run.scores.accuracy
    assert next(each.label for each in again.predict(shades / "dark", progress=False)) in ("dark", "light")
    assert visus.summary(str(run.folder), (3, 16, 16), 2).num_parameters > 0
    further = train(shades, None, tmp_path / "runs", weights=run.folder)
    assert further.preprocessing.input_shape == (3, 16, 16)


@pytest.mark.slow
def test_a_stopped_training_resumes_without_the_folder_bit_by_bit(shades: Path, saved: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace(epochs=2)
    whole = train(shades, f"hf:{saved}", tmp_path / "whole", recipe=recipe)
    steps: list[Any] = []

    def follow(event: Any) -> None:
        steps.extend([event] if type(event).__name__ == "StepDone" else [])

    stopped = train(
        shades, f"hf:{saved}", tmp_path / "cut", recipe=recipe, on_event=follow, should_stop=lambda: len(steps) > 4
    )
    shutil.rmtree(saved)
    visus.resume(stopped.folder, progress=False)
    one, other = ((each.folder / "weights" / "last.safetensors").read_bytes() for each in (whole, stopped))
    assert one == other


@pytest.mark.slow
def test_without_weights_a_folder_trains_anew(shades: Path, saved: Path, tmp_path: Path) -> None:
    run = train(shades, f"hf:{saved}", tmp_path / "runs", pretrained=False)
    assert not (run.folder / "start.json").exists()


@pytest.mark.long
def test_unknown_scaling_is_warned_of(shades: Path, saved: Path, tmp_path: Path) -> None:
    (saved / "preprocessor_config.json").unlink()
    events: list[Any] = []
    train(shades, f"hf:{saved}", tmp_path / "runs", on_event=events.append)
    (opened,) = (each for each in events if type(each).__name__ == "DataOpened")
    assert (
        f"the pretrained weights of hf:{saved} come without the scaling that they were trained with, so inputs are scaled by the training set. "
        "Put the preprocessor_config.json of their training into the folder."
    ) in opened.warnings


def test_opened_data_gets_the_scaling(shades: Path, tmp_path: Path) -> None:
    data = visus.open_data(shades, progress=False)
    events: list[Any] = []
    run = train(data, "timm:small", tmp_path, pretrained=True, on_event=events.append)
    assert (run.preprocessing.input_shape, run.preprocessing.offset) == ((3, 20, 24), (127.5,) * 3)
    (opened,) = (each for each in events if type(each).__name__ == "DataOpened")
    assert opened.note.endswith("of values from 0 to 1; this data was opened at 20 x 24 px")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"pretrained": True, "weights": "w.pt"},
            "the pretrained weights of timm:small and other weights exclude each other. Leave one of the two out.",
        ),
    ],
)
def test_contradictions_are_refused(shades: Path, tmp_path: Path, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        train(shades, "timm:small", tmp_path, **keywords)
    assert str(caught.value) == message


def test_data_of_other_channels_is_refused(shades: Path, tmp_path: Path) -> None:
    data = visus.open_data(shades, channels=1, progress=False)
    with pytest.raises(UsageError) as caught:
        train(data, "timm:small", tmp_path, pretrained=True)
    assert str(caught.value) == (
        "the weights of timm:small need images of 3 channels with values from 0 to 255, and these are images with 1 channel of uint8. Give channels=3, or "
        "train from new weights: pretrained=False."
    )


def test_the_channels_of_arrays_are_not_to_be_changed(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "gray.npz", x=x, y=np.arange(20) % 2)
    with pytest.raises(UsageError) as caught:
        train(visus.open_data(tmp_path / "gray.npz", progress=False), "timm:small", tmp_path, pretrained=True)
    assert str(caught.value) == (
        "the weights of timm:small need images of 3 channels with values from 0 to 255, and these are images with 1 channel of uint8. "
        "Train from new weights: pretrained=False."
    )


def test_the_command_line_reads_the_input_too(visus_command: Call, shades: Path, tmp_path: Path) -> None:
    words = ["train", shades, "-m", "timm:small", "--pretrained", "--epochs", 1, "-b", 8, "-o", tmp_path, "--device", "cpu"]
    done = visus_command(*words, "--img-size", 12)
    assert done.code == 0, done.err
    assert "of values from 0 to 1; here at 12 x 12 px, as asked for" in " ".join(done.err.split())
    assert "starts from the pretrained weights of timm:small" in done.err
    for option, message in (
        (["--channels", 1], "the weights of timm:small need 3 channels, and not 1. Leave --channels out."),
        (
            ["--normalize", "min-max"],
            "the weights of timm:small have their own scaling, so normalize=min-max cannot be used. Leave it out.",
        ),
    ):
        refused = visus_command(*words, *option)
        assert (refused.code, refused.err.splitlines()[-1]) == (2, f"error: {message}")


@pytest.mark.slow
def test_a_run_is_a_network_for_other_commands(shades: Path, saved: Path, tmp_path: Path) -> None:
    run = train(shades, f"hf:{saved}", tmp_path / "runs")
    design = run.folder / "design.txt"
    anew = train(shades, str(design), tmp_path / "runs")
    assert type(anew.module) is type(run.module)
