"""``visus look`` and ``visus.look``: one page, one table, and every mistake in words."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import Call
from torch import nn

import visus
from visus.errors import DesignError, ImageError, RunError, UsageError
from visus.tables import Table
from visus.workbench.look.looking import Look, LookRequest, measure_look
from visus.workbench.look.map_methods import occlusion_windows
from visus.workbench.look.opening import open_look

LAYERS = ["conv1", "norm1", "relu1", "globalpool1", "linear1"]


@pytest.fixture(scope="session")
def found(run: Path) -> Look:
    """A look at a held-out image."""
    return visus.look(run, "test:1", object_px=4)


@pytest.fixture
def image(photos: Path) -> Path:
    """One of the images."""
    return photos / "dark" / "03.png"


def _heading(lines: list[str]) -> str:
    """The heading of the table of layers."""
    return next(line for line in lines if line.split()[:2] == ["layer", "shape"])


def test_the_command_writes_a_page_next_to_the_run_and_prints_a_row_for_each_layer(
    visus_command: Call, run: Path, image: Path
) -> None:
    answer = visus_command("look", run, image, "--no-templates", "-v")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert re.fullmatch(r"next: visus look .+ --layer conv1 --channel \d", lines[-1])
    page = Path(lines[-2].removeprefix("page: "))
    assert page == run / "look-03.html"
    assert [line.split()[0] for line in lines[lines.index(_heading(lines)) + 1 :][: len(LAYERS)]] == LAYERS
    assert "<h1>03.png</h1>" in page.read_text("utf-8")
    again = visus_command("look", run, image, "--no-templates", "--quiet")
    assert again.out == f"{run / 'look-03-2.html'}\n"
    assert page.read_text("utf-8") == Path(again.out.strip()).read_text("utf-8")


def test_measures_are_one_json_value(visus_command: Call, run: Path, tmp_path: Path) -> None:
    answer = visus_command("look", run, "test:1", "--json", "-o", tmp_path / "a.html", "--layer", "conv1", "--at", "2,3")
    facts = json.loads(answer.out)
    assert facts["page"] == str(tmp_path / "a.html")
    assert [layer["path"] for layer in facts["layers"]] == LAYERS
    assert facts["layers"][0]["fields"] == [{"size": 3, "stride": "1"}] * 2
    assert facts["unit"]["position"] == [2, 3]
    assert facts["unit"]["box"] == [[2, 4], [3, 5]]
    assert facts["sum"]["num_terms"] == 27
    assert facts["sum"]["sum"] == pytest.approx(facts["sum"]["value"], rel=1e-4, abs=1e-6)
    assert facts["answer"]["label"] in ("dark", "light")


def test_what_is_open_is_measured_again_for_another_request_and_another_sample(run: Path) -> None:
    opened = open_look(run, "test:1")
    first = measure_look(opened, LookRequest(layer="conv1", at=(2, 3), templates=False))
    again = measure_look(opened, LookRequest(layer="norm1", templates=False))
    assert [found.facts.unit.unit.layer for found in (first, again) if found.facts.unit] == ["conv1", "norm1"]
    other = opened.with_sample("test:2")
    assert (other.module, other.pool) == (opened.module, opened.pool)
    assert (opened.item.facts.name[:6], other.item.facts.name[:6]) == ("test:1", "test:2")
    found = measure_look(other, LookRequest(templates=False))
    assert found.to_json() == visus.look(run, "test:2", templates=False).to_json()


def test_a_look_is_measured_on_the_run_s_own_network(found: Look, run: Path) -> None:
    loaded = visus.load(run, device="cpu")
    data = loaded.open_data()
    x = loaded.preprocessing.scaled(data.split("test").rows(np.array([1])))
    with torch.no_grad():
        first = loaded.module.get_submodule("conv1")(x)[0].numpy()
    assert np.allclose(found.layers[0].maps, first, atol=1e-6)
    answer = found.facts.answer
    assert answer is not None
    with torch.no_grad():
        assert np.allclose(answer.probabilities, torch.softmax(loaded.module(x)[0], 0).numpy(), atol=1e-6)
    assert found.facts.sample.truth == data.classes[int(data.split("test").labels[1])]
    assert np.allclose(found.facts.sample.values, data.split("test").rows(np.array([1]))[0].numpy(), atol=1e-3)


def test_templates_are_patches_of_the_training_split(found: Look, run: Path) -> None:
    part = visus.load(run, device="cpu").open_data().split("train")
    (layer,) = found.facts.patches
    assert layer.path == "conv1"
    assert found.facts.patches_of == f"all {len(part)} samples of the training split"
    for _, patches in layer.channels:
        assert [each.value for each in patches] == sorted((each.value for each in patches), reverse=True)
        for patch in patches:
            row = part.rows(np.array([part.names.index(patch.sample)]))[0].numpy()
            (top, bottom), (left, right) = patch.box or ()
            assert np.allclose(patch.pixels, row[:, top : bottom + 1, left : right + 1], atol=1e-2)


def test_effective_fields_lie_in_the_box_before_and_after_training(found: Look) -> None:
    unit = found.facts.unit
    assert unit is not None
    assert unit.now is not None
    assert unit.before is not None
    (top, bottom), (left, right) = unit.box or ()
    for field in (unit.now, unit.before):
        outside = field.strength.copy()
        outside[top : bottom + 1, left : right + 1] = 0
        assert not outside.any()
    assert not np.allclose(unit.now.strength, unit.before.strength)


def test_the_same_look_is_the_same_page(found: Look, run: Path) -> None:
    assert visus.look(run, "test:1", object_px=4).page() == found.page()


def test_a_run_whose_data_is_gone_is_looked_at_without_templates(run: Path, image: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    facts = json.loads((moved / "data.json").read_text())
    (moved / "data.json").write_text(json.dumps({**facts, "path": str(tmp_path / "gone")}))
    looked = visus.look(moved, image)
    assert looked.facts.patches == ()
    assert looked.facts.missing["patches"].startswith(
        "The run's data could not be opened, so no patches were looked for in it: "
    )
    assert looked.facts.unit is not None
    assert looked.facts.unit.how == (
        "It comes from one backward pass with statistics measured on noise, since there is no data: it is only a rough estimate."
    )


def test_a_design_is_looked_at_untrained_and_says_so(visus_command: Call, image: Path, tmp_path: Path) -> None:
    answer = visus_command(
        "look", "conv(4, 3), relu, globalpool, linear(classes)", image, "--input", "3,10,10", "--classes", "3",
        "-o", tmp_path / "page.html",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.err == (
        "warning: This network is untrained: everything here shows its initial weights, and its predictions mean nothing.\n"
    )
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "not trained: its weights are random" in page
    assert "With all weights random" not in page


def test_other_data_names_samples_and_returns_templates(
    visus_command: Call, run: Path, photos: Path, tmp_path: Path
) -> None:
    answer = visus_command("look", run, "test:5", "--data", photos, "-o", tmp_path / "a.html", "--json")
    assert json.loads(answer.out)["sample"]["truth"] == "dark"


@pytest.mark.parametrize("shape", [(2, 40), (1, 8, 9), (3, 8, 8), (1, 6, 7, 8)])
def test_signals_images_and_volumes_have_a_page(shape: tuple[int, ...]) -> None:
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
    pool = torch.rand(12, *shape, generator=torch.Generator().manual_seed(1))
    network = "conv(4, 3, padding=1), relu, maxpool(2), conv(5, 2), relu, globalpool, linear(classes)"
    looked = visus.look(network, noise, data=pool, num_classes=3)
    page = looked.page()
    noun = {1: "signal", 2: "image", 3: "volume"}[len(shape) - 1]
    assert f"The {noun} and the prediction" in page
    assert looked.facts.patches[0].path == "conv2"
    assert looked.facts.patches_of == "all 12 samples of the samples given"
    assert ("<svg" in page and "<img" not in page) == (len(shape) == 2)


def test_a_module_without_classes_or_maps_has_a_page_that_says_so() -> None:
    features = visus.look(nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 2)), torch.rand(1, 4, 5))
    tried = (*features.facts.methods, *features.facts.hidden)
    assert {each.saliency.method for each in tried} == {"gradient", "integrated gradients", "occlusion"}
    assert features.facts.missing["methods"] == (
        "There is no Grad-CAM: Grad-CAM needs a layer whose map has more than one position, and there is none here. Use gradient_saliency."
    )
    maps = visus.look(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.rand(1, 6, 6))
    assert maps.facts.answer is None
    assert "This network does not return one value per class, so it has no class prediction." in maps.page()


def speaks_against_every_class() -> nn.Module:
    """Maps above 0 whose weights to every class are below 0: Grad-CAM is 0 everywhere."""
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    with torch.no_grad():
        for values in (module[0].weight, module[0].bias):
            values.abs_()
        module[3].weight.abs_().neg_()
    return module


def test_an_empty_map_is_shown_on_request_alone_and_says_so() -> None:
    sample = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = visus.look(speaks_against_every_class(), sample)
    assert "Grad-CAM" not in [each.saliency.method for each in plain.facts.methods]
    assert "Grad-CAM at '1'" in unescape(plain.page())
    assert "--saliency all shows every map with its checks." in plain.page()
    found = visus.look(speaks_against_every_class(), sample, saliency="grad-cam")
    (empty,) = found.facts.methods
    assert "on request" in found.facts.reason
    with pytest.raises(UsageError) as told:
        visus.look(speaks_against_every_class(), sample, saliency="gradcam")
    assert str(told.value) == (
        "unknown saliency method 'gradcam'. Did you mean 'grad-cam'? Known: all, grad-cam, gradient, integrated-gradients, occlusion."
    )
    assert empty.curves is not None
    assert empty.curves.is_better_than_random is None
    assert "This map does not pass deletion and insertion." in found.page()
    page = found.page()
    assert '<li class="open"><b>Undecided.</b> The map is constant' in page
    assert "A removed pixel is 0 after normalization" in page


def test_the_module_comes_back_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2))
    before = {name: values.clone() for name, values in module.state_dict().items()}
    state = torch.random.get_rng_state()
    visus.look(module.train(), torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)))
    assert module.training
    assert module[2].inplace
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_sample_may_come_as_a_batch_of_one() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    sample = torch.rand(1, 3, 6, 6)
    assert np.array_equal(visus.look(module, sample).layers[0].maps, visus.look(module, sample[0]).layers[0].maps)


def rows_of_recordings(folder: Path) -> Path:
    """An NPY file of five signals of two channels."""
    path = folder / "five.npy"
    np.save(path, np.random.default_rng(0).normal(size=(5, 2, 30)).astype(np.float32))
    return path


def test_a_row_of_an_array_file_is_named_by_its_number(tmp_path: Path) -> None:
    path = rows_of_recordings(tmp_path)
    network = "conv(4, 3), relu, globalpool, linear(classes)"
    looked = visus.look(network, f"{path}:3", input_shape=(2, 30), num_classes=2)
    assert np.allclose(looked.facts.sample.values, np.load(path)[3], atol=1e-5)
    assert looked.facts.sample.name == f"{path}[3]"


NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"


def test_mistakes_in_the_sample_are_reported_in_words(run: Path, tmp_path: Path) -> None:
    rows = rows_of_recordings(tmp_path)
    image = tmp_path / "broken.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("RGB", (12, 12)).save(tmp_path / "fine.png")
    with pytest.raises(ImageError) as absent:
        visus.look(run, "absent.png")
    assert str(absent.value) == (
        "absent.png: there is no such file. Name an image, FILE:17 for a row of an array file, or test:17."
    )
    with pytest.raises(ImageError) as broken:
        visus.look(run, image)
    assert str(broken.value) == (
        "broken.png: the PNG file is truncated or damaged in its header. Copy or export it again, or remove it."
    )
    with pytest.raises(UsageError) as outside:
        visus.look(run, "test:900")
    assert str(outside.value) == "test:900: the test split has 12 samples, counted from 0, and number 900 was requested."
    with pytest.raises(UsageError) as several:
        visus.look(NETWORK, rows, input_shape=(2, 30))
    assert str(several.value) == f"{rows}: this file holds 5 samples: say which, from {rows}:0 to {rows}:4."
    with pytest.raises(UsageError) as beyond:
        visus.look(NETWORK, f"{rows}:5", input_shape=(2, 30))
    assert str(beyond.value) == f"{rows}: this file holds 5 samples, counted from 0, and number 5 was requested."
    with pytest.raises(UsageError) as numbered:
        visus.look(run, f"{tmp_path / 'fine.png'}:0")
    assert (
        str(numbered.value)
        == f"{tmp_path / 'fine.png'}: this is not an array file, so it has no numbered rows. Give the file without a number."
    )
    with pytest.raises(ImageError) as no_image:
        visus.look(NETWORK, tmp_path / "fine.png", input_shape=(2, 30))
    assert str(no_image.value) == (
        f"{tmp_path / 'fine.png'}: this network reads signals of 2 x 30 from NPZ or NPY files, and this is an image."
    )
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    with pytest.raises(ImageError) as sound:
        visus.look(NETWORK, tmp_path / "sound.wav", input_shape=(2, 30))
    assert str(sound.value) == (
        f"{tmp_path / 'sound.wav'}: this network reads signals of 2 x 30 from NPZ or NPY files, and this is neither."
    )
    with pytest.raises(ImageError) as short:
        visus.look(NETWORK, f"{rows}:1", input_shape=(2, 40))
    assert str(short.value) == (
        f"{rows}[1]: a sample of 30 is smaller than this network's input of 40; visus enlarges only 8-bit images, of gray or color. Resize the arrays first."
    )
    with pytest.raises(UsageError) as without:
        visus.look(NETWORK, "test:3", input_shape=(3, 10, 10))
    assert str(without.value) == "test:3: a sample of a split needs data. Give the data with --data, or give a file."
    with pytest.raises(UsageError) as flat:
        visus.look(NETWORK, np.zeros(4))
    assert str(flat.value) == "one sample of (channels, *spatial) is needed, and this has the shape 4."
    with pytest.raises(ImageError) as infinite:
        visus.look(NETWORK, np.full((1, 8, 8), np.inf))
    assert str(infinite.value) == "the sample given: a value is not a finite number. Repair the sample, or give another one."
    with pytest.raises(UsageError) as sizeless:
        visus.look(NETWORK, tmp_path / "fine.png")
    assert str(sizeless.value) == (
        "a file is read at the size of the network's input. Give it, such as input_shape=(3, 224, 224), or --input 3,224,224."
    )
    with pytest.raises(UsageError) as axes:
        visus.look(NETWORK, tmp_path / "fine.png", input_shape=(3,))
    assert str(axes.value) == "an input has channels and one to three lengths, such as 3,224,224, and not (3,)."


def test_mistakes_in_the_unit_the_class_and_the_network_are_reported_in_words(run: Path) -> None:
    for options, sentence in (
        (
            {"layer": "conv2"},
            "unknown layer 'conv2'. Did you mean 'conv1'? Known: conv1, globalpool1, linear1, norm1, relu1.",
        ),
        (
            {"layer": "relu1", "channel": 4},
            "relu1: there are 4 channels, counted from 0; channel 4 does not exist.",
        ),
        (
            {"layer": "relu1", "at": (9, 0)},
            "relu1: the feature map has the size (8, 8); position (9, 0) does not exist.",
        ),
        (
            {"layer": "linear1", "at": (0, 0)},
            "linear1: this layer has no feature map, so its units have no position. Leave it out.",
        ),
        ({"channel": 2}, "a channel and a position need a layer. Give it with --layer."),
        ({"target": "dork"}, "unknown class 'dork'. Did you mean 'dark'? Known: dark, light."),
        ({"target": 2}, "there are 2 classes, counted from 0; class 2 does not exist."),
        ({"object_px": 0}, "the size of objects must be at least 1, not 0."),
        ({"input_shape": (3, 8, 8)}, "a run has its own input shape and classes. Leave input_shape and classes out."),
        ({"data": torch.zeros(1, 3, 8, 8)}, "the data of a run must be a folder, a file or opened data, not a tensor."),
    ):
        with pytest.raises(UsageError) as mistake:
            visus.look(run, "test:0", **options)  # type: ignore[arg-type]
        assert str(mistake.value) == sentence
    with pytest.raises(UsageError) as many:
        visus.look(NETWORK, torch.rand(1, 8, 8), num_classes=30, target="cat")
    assert str(many.value) == "unknown class 'cat'. There are 30, from 0 to 29."
    with pytest.raises(UsageError) as classless:
        visus.look(nn.Conv2d(1, 2, 3), torch.rand(1, 8, 8), target=0)
    assert str(classless.value) == "this network does not return one value per class, so no class can be explained."
    with pytest.raises(UsageError) as channels:
        visus.look(nn.Conv2d(3, 2, 3), torch.rand(1, 8, 8))
    assert str(channels.value).startswith("Conv2d: this module cannot take a sample of (1, 8, 8): ")
    with pytest.raises(UsageError) as number:
        visus.look(5, torch.rand(1, 8, 8))  # type: ignore[arg-type]
    assert (
        str(number.value) == "a network is a run or its folder, a module, a design or the name of a callable, and not int."
    )
    with pytest.raises(RunError, match="there is no such run folder"):
        visus.look("runs/of/nobody", "a.png")


def test_a_number_of_classes_next_to_data_is_refused_where_it_is_another(photos: Path, image: Path) -> None:
    network = "conv(4, 3), relu, globalpool, linear(classes)"
    with pytest.raises(UsageError) as told:
        visus.look(network, "test:0", data=photos, num_classes=7)
    assert str(told.value) == "7 classes were requested, and 2 are in the data. Leave the number out."
    with pytest.raises(UsageError) as named:
        visus.look(network, image, input_shape=(3, 8, 8), classes=["a", "b", "c"], num_classes=2)
    assert str(named.value) == "2 classes were requested, and 3 are named. Leave the number out."
    assert visus.look(network, "test:0", data=photos, num_classes=2, templates=False).facts.answer is not None


def test_an_sample_of_a_split_without_data_and_a_misspelled_design_are_reported_first(image: Path) -> None:
    with pytest.raises(UsageError) as told:
        visus.look("resnet(18)", "test:0")
    assert str(told.value) == "test:0: a sample of a split needs data. Give the data with --data, or name a file."
    for sample in ("test:0", image):
        with pytest.raises(DesignError) as misspelled:
            visus.look("conv(8", sample)
        assert str(misspelled.value) == "line 1, column 5: '(' is never closed."


def test_the_next_command_has_every_option_that_it_needs(
    visus_command: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = "conv(4, 3), relu, globalpool, linear(classes)"
    told = visus_command("look", network, "test:0", "--data", photos, "--classes", "2", "--no-templates")
    assert told.code == 0, told.err
    following = told.out.partition("next: visus ")[2].split("\n")[0]
    assert f"test:0 --data {photos} --classes 2 --layer conv1 --channel " in following
    again = visus_command(*shlex.split(following), "--no-templates", "-q")
    assert again.code == 0, again.err


def test_a_layer_that_is_the_whole_module_has_a_name(
    visus_command: Call, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rootly.py").write_text(
        "import torch\n\n\nclass Root(torch.nn.Module):\n    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.ones(num_classes, 3, 5, 5))\n\n    def forward(self, x):\n"
        "        return torch.nn.functional.conv2d(x, self.weight).mean((2, 3))\n"
    )
    told = visus_command("look", "rootly:Root", image, "--input", "3,10,10", "--classes", "3")
    assert told.code == 0, told.err
    assert "(the module)" in told.out
    assert "--input 3,10,10 --classes 3 --layer '' --channel " in told.out


class Functional(nn.Module):
    """An activation that is no layer, and a layer with parts of its own that are not called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.bias[1] = -100.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = torch.relu(self.conv(x)).flatten(2).mT
        found: torch.Tensor = self.head(self.attention(tokens, tokens, tokens)[0].mean(1))
        return found


def test_none_dead_and_not_known_are_distinguished_and_what_is_left_out_is_named() -> None:
    torch.manual_seed(0)
    found = visus.look(Functional(), torch.randn(1, 8, 8))
    conv = next(each for each in found.layers if each.path == "conv")
    assert (conv.num_dead, conv.dead) == ("\u2013", ())
    assert 1 in conv.never_positive
    page = found.page()
    assert "Never positive on this image: 1 filter (1); after a ReLU they would be dead." in page
    assert found.facts.dash in page
    left = (
        "Not among the layers: attention (MultiheadAttention), attention.out_proj (NonDynamicallyQuantizableLinear). They have weights, but the network "
        "does not call them as leaf modules, so their maps are unknown."
    )
    assert found.facts.missing["layers"] == left
    assert left in page
    positive = visus.look(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), torch.rand(1, 8, 8))
    relu = positive.layers[1]
    assert relu.is_rectified
    assert relu.num_dead == str(len(relu.dead))
    assert "layers" not in positive.facts.missing


def test_a_signal_has_samples_and_a_layer_without_a_bias_has_none() -> None:
    page = visus.look(nn.Sequential(nn.Conv1d(2, 3, 5, bias=False), nn.ReLU(), nn.Conv1d(3, 2, 3)), torch.rand(2, 40)).page()
    assert not re.search(r"\d px", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
    assert "Receptive field, points / stride" in page
    assert "10 products, 2 input channels of 5; there is no bias." in page
    assert "3 products and a bias" not in page


def test_options_that_play_no_part_are_refused(visus_command: Call, run: Path) -> None:
    answer = visus_command("look", run, "test:0", "--input", "3,8,8", "--classes", "4")
    assert (answer.code, answer.err) == (2, "error: --input, --classes cannot be given with a run. Leave it out.\n")
    answer = visus_command("look", run, "test:0", "--layer", "conv1", "--at", "middle")
    assert (answer.code, answer.err) == (2, "error: --at takes whole numbers such as 12,20, not 'middle'.\n")


def test_a_page_goes_into_a_folder_that_is_there_and_no_other_is_waited_for(
    visus_command: Call, run: Path, tmp_path: Path
) -> None:
    answer = visus_command("look", run, "test:0", "--no-templates", "-q", "-o", tmp_path)
    assert answer == (0, f"{tmp_path / 'look-test-0.html'}\n", "")
    absent = tmp_path / "pages"
    assert visus_command("look", run, "test:0", "-o", absent / "page.html") == (
        2, "", f"error: --output: there is no folder {absent}. Make it, or name another place.\n",
    )  # fmt: skip


def test_a_page_written_into_a_folder_is_named_after_its_sample(found: Look, tmp_path: Path) -> None:
    place = found.write(tmp_path)
    assert place == tmp_path / "look-08.html"


def test_a_folder_is_no_sample(run: Path, photos: Path) -> None:
    with pytest.raises(ImageError) as caught:
        visus.look(run, photos / "dark")
    assert str(caught.value) == f"{photos / 'dark'}: this is a folder, and a look needs one sample. Give one of its files."


def test_a_callable_without_a_number_of_classes_is_taken_as_it_is(
    visus_command: Call, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asitis.py").write_text(
        "from torch import nn\n\n\ndef seven():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(256, 7))\n\n\n"
        "def maps():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    for name in ("asitis:seven", "asitis:maps"):
        answer = visus_command("look", name, image, "--input", "3,10,10", "-q")
        assert answer.code == 0, answer.err
    with pytest.raises(UsageError) as caught:
        visus.look("asitis:seven", image, input_shape=(3, 10, 10), num_classes=5)
    assert str(caught.value) == (
        "asitis:seven: this module gives 2 x 7 for 2 samples, and 2 x 5 is needed: one number for each of the 5 classes."
    )


def test_classes_of_a_module_must_be_those_that_it_returns() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(UsageError) as caught:
        visus.look(module, torch.rand(1, 8, 8), num_classes=0)
    assert str(caught.value) == "the number of classes must be at least 1, not 0."
    for given in ({"num_classes": 5}, {"classes": ["a", "b", "c", "d", "e"]}):
        with pytest.raises(UsageError) as caught:
            visus.look(module, torch.rand(1, 8, 8), **given)  # type: ignore[arg-type]
        assert str(caught.value) == (
            "this module gives 2 numbers for a sample, and 5 classes were requested. Name 2, or leave them out."
        )
    with pytest.raises(UsageError) as caught:
        visus.look(module[:2], torch.rand(1, 8, 8), num_classes=2)
    assert str(caught.value) == (
        "this module does not return one value per class, and 2 classes were requested. Leave them out."
    )
    assert visus.look(module, torch.rand(1, 8, 8), classes=["cat", "dog"]).facts.answer.classes == ("cat", "dog")  # type: ignore[union-attr]
    assert visus.look(module, torch.rand(1, 8, 8), num_classes=2).facts.answer.classes == ("0", "1")  # type: ignore[union-attr]


def test_a_page_that_is_there_is_never_overwritten(found: Look, tmp_path: Path) -> None:
    places = [found.write(tmp_path / "page.html") for _ in range(3)]
    assert [place.name for place in places] == ["page.html", "page-2.html", "page-3.html"]


def test_a_page_is_not_written_under_the_name_of_another_kind(
    found: Look, visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = "look.png: the page of a look is an HTML file. Name it with .html at the end."
    with pytest.raises(UsageError) as caught:
        found.write("look.png")
    assert str(caught.value) == message
    answer = visus_command("look", NETWORK, "absent.png", "-o", "look.png")  # before the image is read
    assert (answer.code, answer.out, answer.err) == (2, "", f"error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_a_volume_is_occluded_in_no_more_than_64_windows() -> None:
    windows, steps = occlusion_windows((24, 40, 33), False)
    assert windows == steps == (6, 10, 9)


def test_a_look_is_frozen(found: Look) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.facts = found.facts  # type: ignore[misc]


def test_a_look_at_a_run_that_averages_views_says_that_it_looks_at_one(
    visus_command: Call, run: Path, tmp_path: Path
) -> None:
    told = (
        "This page is about the unchanged image. In a prediction: Unsure predictions are the mean over 2 copies of the image: "
        "unchanged and mirrored (test-time augmentation)."
    )
    answer = visus_command("look", run, "test:0", "--no-templates", "-o", tmp_path / "page.html")
    assert told in " ".join(answer.out.split())
    assert told in html.unescape((tmp_path / "page.html").read_text("utf-8"))


# ---- in Python ----


def test_a_layer_of_a_look_is_found_by_its_path(found: Look) -> None:
    assert found["conv1"] is found.layer("conv1") is found.layers[0]
    assert found["conv1"].maps.shape == found["conv1"].shape
    with pytest.raises(UsageError) as caught:
        found["conv2"]
    assert (
        str(caught.value) == "unknown layer 'conv2'. Did you mean 'conv1'? Known: conv1, globalpool1, linear1, norm1, relu1."
    )


def test_a_notebook_shows_the_first_saliency_map_and_the_first_filters(found: Look) -> None:
    shown = found._repr_html_()
    assert shown.startswith("<table><caption>Look at ")
    num_maps, num_filters = min(1, len(found.facts.methods)), len(found.facts.kernels.kernels)
    assert shown.count("<img") == shown.count("data:image/png;base64,") == num_maps + num_filters
    assert "Filters of conv1." in shown
    forced = dataclasses.replace(found.facts, methods=(found.facts.methods + found.facts.hidden)[:1])
    with_map = Look(forced)._repr_html_()
    assert f"{forced.methods[0].saliency.method} over the image: red where it matters most" in with_map
    assert with_map.count("<img") == 1 + num_filters
    without = Look(dataclasses.replace(found.facts, methods=(), kernels=None))._repr_html_()
    assert "<img" not in without


def test_a_map_that_fails_its_check_says_so_in_a_notebook(found: Look) -> None:
    method = dataclasses.replace((found.facts.methods + found.facts.hidden)[0], curves=None)
    shown = Look(dataclasses.replace(found.facts, methods=(method,)))._repr_html_()
    assert "this map does not pass deletion and insertion" in shown


def test_a_notebook_shows_no_drawing_of_a_signal() -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(56, 2))
    facts = visus.look(module, torch.rand(1, 16)).facts
    forced = dataclasses.replace(facts, methods=(facts.methods + facts.hidden)[:1])
    assert len(forced.methods) == 1
    assert "<figure" not in Look(forced)._repr_html_()


class Block(nn.Module):
    """A convolution around which its input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv(x))


def test_an_operation_outside_of_layers_is_looked_at_by_its_path_in_the_account() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = visus.look(network, torch.rand(1, 12, 12), layer="1.add", progress=False)
    assert [each.path for each in found.layers] == ["0", "1.conv", "1.add", "2", "3", "4"]
    assert (found.layer("1.add").shape, found.layer("1.add").field) == ((4, 10, 10), "5/1")
    assert found.facts.unit is not None
    assert found.facts.unit.unit.layer == "1.add"
    assert "1.add is add and has no kernel" in found.facts.missing["sum"]
    assert "1.add" in found.page()


def test_layers_that_the_table_leaves_out_are_counted_with_the_reason(image: Path) -> None:
    looked = visus.look("conv(4, 3), norm, norm, globalpool, linear(classes)", image, input_shape=(3, 10, 10))
    short, full = looked.text(), looked.text(verbose=True)
    (few,), (every,) = ([each for each in text if isinstance(each, Table)] for text in (short, full))
    num_hidden = len(every.rows) - len(few.rows)
    assert num_hidden > 0
    note = f"{num_hidden} of {len(every.rows)} layers are not shown: each has the figures of the next row; -v shows all"
    assert note in list(short)
    assert note not in list(full)
