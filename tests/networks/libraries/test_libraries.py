"""A name of another library gives its network, its input and its weights; whatever is missing is one sentence.

timm and torchvision are not needed here: stand-ins have the few functions that visus calls. Where the real packages import, they are tried too.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from visus.errors import MissingExtraError, UsageError
from visus.networks.initial_weights import Normalization
from visus.networks.libraries.library import LibraryInput
from visus.networks.libraries.registry import LIBRARIES, library_network
from visus.workbench.callable_names import is_callable_name

IMAGENET = Normalization.of_shares((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Small(nn.Module):
    """A network with a head named ``fc``."""

    def __init__(self, num_classes: int = 9, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.fc(self.conv(images).mean((2, 3)))
        return answers


def unreachable(*_: Any, **__: Any) -> Any:
    raise URLError("no route")


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for timm with one network, whose weights are of 9 classes."""
    found: Any = types.ModuleType("timm")
    found.calls = []

    def create_model(
        name: str, pretrained: bool = False, num_classes: int = 9, in_chans: int = 3, **settings: Any
    ) -> nn.Module:
        found.calls.append((name, pretrained, num_classes, in_chans, settings))
        if num_classes == 0:
            raise ValueError("no classes. Really")
        return Small(num_classes, in_chans)

    found.create_model = create_model
    found.list_models = lambda: ["small", "large_vit"]
    found.is_model = lambda name: name.split(".")[0] in found.list_models()
    facts = {"input_size": (3, 20, 24), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "has_weights": True}
    found.get_pretrained_cfg = lambda name, **_: types.SimpleNamespace(**facts, fixed_input_size="vit" in name)
    monkeypatch.setitem(sys.modules, "timm", found)
    return found


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for torchvision with one network."""
    found: Any = types.ModuleType("torchvision")
    models: Any = types.ModuleType("torchvision.models")
    seen = types.SimpleNamespace(crop_size=[20], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    entry = types.SimpleNamespace(transforms=lambda: seen, get_state_dict=lambda **_: Small().state_dict())
    models.list_models = lambda module: ["small", "vit_small"]
    models.get_model_weights = lambda name: types.SimpleNamespace(DEFAULT=entry)
    models.get_model = lambda name, weights, num_classes, **settings: Small(num_classes)
    models.entry, found.models = entry, models
    monkeypatch.setitem(sys.modules, "torchvision", found)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network of transformers with its image processor, as ``save_pretrained`` writes it."""
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=7)
    folder = tmp_path_factory.mktemp("hf") / "tiny.net"
    with torch.random.fork_rng():
        transformers.ResNetForImageClassification(config).save_pretrained(folder)
    facts = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.25, 0.2, 0.1],
        "size": {"height": 20, "width": 24},
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def of(name: str) -> Any:
    found = library_network(name)
    assert found is not None
    return found


# ---- names ----


def test_the_prefixes_are_those_that_callable_names_knows() -> None:
    assert all(is_callable_name(f"{prefix}:any/name.v1") for prefix in LIBRARIES)
    assert library_network("mine:Net") is None
    assert library_network(3) is None


def test_a_prefix_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        library_network("timm: ")
    assert str(caught.value) == "timm: needs a name, such as timm:resnet18."


def test_a_damaged_architecture_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        library_network("hf:x\n{")
    assert str(caught.value) == "x: the stored architecture is damaged. Put design.txt back, or train again."


def test_an_unknown_name_gets_the_closest_one(timm: Any, torchvision: Any) -> None:
    with pytest.raises(UsageError) as caught:
        of("timm:smal").make((3, 20, 24), 2)
    assert str(caught.value) == "timm has no network 'smal'. Did you mean timm:small? Its names: timm.list_models()."
    with pytest.raises(UsageError) as caught:
        of("torchvision:xyzzy").read_input()
    assert str(caught.value) == (
        "torchvision has no network 'xyzzy'. Its names: torchvision.models.list_models(module=torchvision.models)."
    )


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18", "hf:folder"])
def test_a_missing_package_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = LIBRARIES[name.split(":")[0]].package
    for each in [module for module in sys.modules if module.split(".")[0] == package] or [package]:
        monkeypatch.delitem(sys.modules, each, raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Without(package), *sys.meta_path])
    with pytest.raises(MissingExtraError) as caught:
        of(name).make((3, 20, 24), 2)
    assert (
        str(caught.value)
        == f"{name} needs the package {package}, which is not installed. Install it with: pip install {package}"
    )


def test_a_package_of_another_pytorch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(
        sys, "meta_path", [_Without("torchvision", RuntimeError("operator nms does not exist.")), *sys.meta_path]
    )
    with pytest.raises(MissingExtraError) as caught:
        of("torchvision:resnet18").make((3, 20, 24), 2)
    assert str(caught.value) == (
        "torchvision:resnet18 needs the package torchvision, which does not load (RuntimeError: operator nms does not exist). Install the build of it, "
        "and of torchvision, that belongs to this PyTorch."
    )


class _Without:
    """A finder for which a package is missing, or does not load."""

    def __init__(self, package: str, error: Exception | None = None) -> None:
        self.package, self.error = package, error

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".")[0] == self.package:
            raise self.error or ModuleNotFoundError(f"No module named {name!r}", name=name)


# ---- timm and torchvision ----


def test_timm_makes_the_network_for_these_samples(timm: Any) -> None:
    module = of("timm:small.tag").make((1, 20, 20), 5)
    assert module(torch.zeros(2, 1, 20, 20)).shape == (2, 5)
    assert of("timm:small").text == "timm:small"
    of("timm:large_vit").make((3, 40, 40), 5)
    assert timm.calls == [("small.tag", False, 5, 1, {}), ("large_vit", False, 5, 3, {"img_size": (40, 40)})]


def test_the_input_is_read_from_the_configuration(timm: Any, torchvision: Any) -> None:
    assert of("timm:small").read_input() == LibraryInput(3, (20, 24), IMAGENET)
    assert of("timm:large_vit").read_input().is_fixed
    assert of("torchvision:small").read_input() == LibraryInput(3, (20, 20), IMAGENET)
    assert of("torchvision:vit_small").has_fixed_size
    assert of("timm:small").read_input().sentence() == (
        "20 x 24 px, 3 channels, mean 0.485, 0.456, 0.406 and standard deviation 0.229, 0.224, 0.225 of values from 0 to 1"
    )
    assert LibraryInput(1, None, None).sentence() == "any size, 1 channel, normalization unknown"


def test_weights_have_the_head_of_their_training(timm: Any, torchvision: Any) -> None:
    for name in ("timm:small", "torchvision:small"):
        assert of(name).read_weights((3, 20, 24))["fc.weight"].shape == (9, 4)


def test_weights_that_cannot_be_reached_are_one_sentence(timm: Any, torchvision: Any) -> None:
    timm.create_model = torchvision.models.entry.get_state_dict = unreachable
    with pytest.raises(UsageError) as caught:
        of("timm:small").read_weights((3, 20, 24))
    assert str(caught.value) == (
        "timm:small: the files of these weights are not on this disk, and timm cannot download them (URLError: <urlopen error no route>). Download them once "
        "where there is a network, with python -c 'import timm; timm.create_model(\"small\", pretrained=True)'; or give a file of them with --weights FILE."
    )
    with pytest.raises(
        UsageError, match="the files of these weights are not on this disk, and torchvision cannot download them"
    ):
        of("torchvision:small").read_weights((3, 20, 24))


def test_a_network_without_weights_says_so(timm: Any) -> None:
    timm.get_pretrained_cfg = lambda name, **_: types.SimpleNamespace(has_weights=False, fixed_input_size=False)
    with pytest.raises(UsageError) as caught:
        of("timm:small").read_weights((3, 20, 24))
    assert str(caught.value) == (
        "timm:small: timm has no pretrained weights for small. Train it from new ones without --pretrained, or give a file with --weights FILE."
    )


def test_a_network_that_cannot_be_made_says_what_it_takes(timm: Any, torchvision: Any) -> None:
    with pytest.raises(UsageError) as caught:
        of("timm:small").make((3, 20, 24), 0)
    assert str(caught.value) == (
        "timm:small: timm cannot make small for samples of 3 x 20 x 24 and 0 classes (ValueError: no classes. Really). Give the size and the channels that it "
        "takes: 20 x 24 px, 3 channels, mean 0.485, 0.456, 0.406 and standard deviation 0.229, 0.224, 0.225 of values from 0 to 1."
    )
    with pytest.raises(UsageError) as caught:
        of("torchvision:small").make((1, 20, 24), 2)
    assert str(caught.value) == (
        "torchvision:small: networks of torchvision take 3 channels, and these samples have 1. Read them in color: channels=3."
    )


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_the_real_libraries_answer_as_their_stand_ins(name: str) -> None:
    library = of(name)
    try:
        library.load()
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert library.make((3, 64, 64), 5).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert library.read_input().channels == 3
    with pytest.raises(UsageError, match="Did you mean"):
        of(f"{name}x").make((3, 64, 64), 5)


# ---- transformers ----


def test_a_folder_of_transformers_is_a_network(saved: Path) -> None:
    library = of(f"hf:{saved}")
    assert library.brings_weights
    module = library.make((3, 20, 24), 4)
    answers = module(torch.zeros(2, 3, 20, 24))
    assert answers.shape == (2, 4), "its other outputs are dropped"
    seen = library.read_input()
    assert (seen.channels, seen.size) == (3, (20, 24))
    assert seen.normalization is not None
    assert seen.normalization.offset == pytest.approx((127.5, 102, 76.5))
    assert seen.normalization.divisor == pytest.approx((63.75, 51, 25.5))
    weights = library.read_weights((3, 20, 24))
    assert weights["classifier.1.weight"].shape == (7, 8)
    assert set(weights) == set(module.state_dict())


def test_its_text_rebuilds_it_without_the_folder(saved: Path) -> None:
    text = of(f"hf:{saved}").text.replace(str(saved), "elsewhere/gone")
    again = of(text)
    assert again.asked == "hf:elsewhere/gone"
    before = of(f"hf:{saved}").make((3, 20, 24), 4).state_dict()
    assert {name: value.shape for name, value in again.make((3, 20, 24), 4).state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }
    assert again.text == text


@pytest.mark.parametrize(
    ("facts", "size", "offset"),
    [
        ({"size": 20}, (20, 20), (0.0, 0.0, 0.0)),
        ({"size": {"shortest_edge": 20}, "do_rescale": False}, (20, 20), (0.0, 0.0, 0.0)),
        (
            {
                "size": {"shortest_edge": 30},
                "crop_size": {"height": 20, "width": 22},
                "do_center_crop": True,
                "image_mean": [0.5] * 3,
                "image_std": [1] * 3,
            },
            (20, 22),
            (127.5,) * 3,
        ),
        ({"image_mean": [0.5] * 3, "image_std": [1] * 3, "do_normalize": False}, None, (0.0, 0.0, 0.0)),
        ({"image_mean": [127.0] * 3, "image_std": [1] * 3, "do_rescale": False}, None, (127.0,) * 3),
    ],
)
def test_an_image_processor_decides_size_and_scaling(
    saved: Path, tmp_path: Path, facts: dict[str, Any], size: Any, offset: tuple[float, ...]
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text((saved / "config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    seen = of(f"hf:{folder}").read_input()
    assert seen.size == size
    assert seen.normalization is not None
    assert seen.normalization.offset == pytest.approx(offset)


def test_without_an_image_processor_the_scaling_is_unknown(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text("[")
    library = of(f"hf:{tmp_path}")
    assert library.read_input().normalization is None
    assert not library.brings_weights
    with pytest.raises(UsageError) as caught:
        library.read_weights((3, 20, 24))
    assert str(caught.value) == (
        f"hf:{tmp_path}: this folder has no weights. Save them with model.save_pretrained(FOLDER), or start from new ones: --no-pretrained."
    )


def test_wrong_folders_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        of(f"hf:{tmp_path}").make((3, 20, 24), 2)
    message = str(caught.value)
    assert message.startswith(f"hf:{tmp_path}: this folder has no config.json that transformers can read (")
    assert message.endswith("). Save the network with model.save_pretrained(FOLDER).")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UsageError) as caught:
        of(f"hf:{tmp_path}").make((3, 20, 24), 2)
    assert str(caught.value) == (
        f"hf:{tmp_path}: bert of transformers has no classifier of images. Give one that has, such as resnet, convnext, vit or swin."
    )
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text((saved / "config.json").read_text())
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError) as caught:
        of(f"hf:{damaged}").read_weights((3, 20, 24))
    assert "transformers cannot read these weights as a classifier of images (" in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("We couldn't connect. Check your connection")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    with pytest.raises(UsageError) as caught:
        of("hf:some/net").make((3, 20, 24), 2)
    assert str(caught.value) == (
        "hf:some/net: the files of these weights are not on this disk, and transformers cannot download them (OSError: We couldn't connect). Download them once "
        "where there is a network, with hf download some/net --local-dir FOLDER; or give a folder that model.save_pretrained(FOLDER) wrote: hf:FOLDER."
    )
