"""What people read of signals and volumes never speaks of images, and what is read of a perceptron never of filters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands import Call
from torch import nn

import visus
from visus.units import rank_words, write_size

CONVOLUTIONAL = "conv(4, 3, padding=1), norm, relu, maxpool(2), conv(6, 3, padding=1), relu, flatten, linear(classes)"
SIZES = {1: (2, 40), 3: (1, 8, 8, 8)}
OF_IMAGES = re.compile(r"\bimages?\b|\bpixels?\b|\d px\b", re.IGNORECASE)


def trained(folder: Path, size: tuple[int, ...], design: str) -> Path:
    """A run on noise whose mean tells its three classes apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    values = rng.normal(size=(90, *size)) + labels.reshape(-1, *([1] * len(size)))
    np.savez(folder / "samples.npz", x=values.astype(np.float32), y=labels)
    recipe = visus.Recipe(epochs=2, batch_size=8, precision="float32")
    return visus.train(folder / "samples.npz", design, recipe, output=folder / "runs").folder


def readable(page: str) -> str:
    """The text of a page and what is said of its drawings, without styles and names of classes."""
    return re.sub(r'<style>.*?</style>|class="[^"]*"|--shuffle-pixels|data:image[^"]*', "", page, flags=re.DOTALL)


def told(pattern: re.Pattern[str], text: str) -> list[str]:
    """Each place where the words stand, with what stands around it."""
    return [text[max(0, each.start() - 60) : each.end() + 40] for each in pattern.finditer(text)]


@pytest.mark.parametrize("rank", [each if each == 1 else pytest.param(each, marks=pytest.mark.slow) for each in SIZES])
@pytest.mark.long
def test_signals_and_volumes_are_never_called_images(rank: int, tmp_path: Path, visus_command: Call) -> None:
    folder = trained(tmp_path, SIZES[rank], CONVOLUTIONAL)
    answer = visus_command("evaluate", folder, "--shifts", "--mistakes")
    assert answer.code == 0, answer.err
    page = visus_command("look", folder, "test:0", "--object-size", "3")
    assert page.code == 0, page.err
    shuffled = visus_command("experiment", "shuffle", folder, "-q")
    assert shuffled.code == 0, shuffled.err
    texts = {
        "evaluate": answer.out,
        "look": page.out,
        "compare": shuffled.out,
        "report": readable((folder / "report.html").read_text("utf-8")),
        "page": readable((folder / "look-test-0.html").read_text("utf-8")),
        "shuffled": readable((folder.parent / f"{folder.name}-shuffled" / "report.html").read_text("utf-8")),
    }
    assert {name: found for name, text in texts.items() if (found := told(OF_IMAGES, text))} == {}
    words = rank_words(rank)
    for text in (texts["evaluate"], texts["report"], texts["page"]):
        assert words.sample in text
        assert f" {words.unit}" in text
    assert f"by up to {write_size([each // 8 for each in SIZES[rank][1:]])}, " in texts["evaluate"]


@pytest.mark.long
def test_numbers_of_a_perceptron_are_units_and_no_filters(tmp_path: Path, visus_command: Call) -> None:
    folder = trained(tmp_path, (1, 6, 6), "flatten, linear(5), relu, linear(classes)")
    answer = visus_command("look", folder, "test:0", "--no-templates")
    assert answer.code == 0, answer.err
    report, page = (readable((folder / name).read_text("utf-8")) for name in ("report.html", "look-test-0.html"))
    assert told(re.compile("filter", re.IGNORECASE), answer.out + report + page) == []
    assert re.search(r"^no sparse unit \(over [\d,]+ samples\)$", answer.out, re.MULTILINE)
    assert re.search(r"^zeros: of this image; dead units: over [\d,]+ samples$", answer.out, re.MULTILINE)
    assert "<h3>First layer</h3>" in report
    assert "5 units of 1 x 6 x 6 weights" in page
    tasks = visus_command("experiment", "task", folder, "-q")
    assert tasks.err.endswith(
        "an autoencoder needs a layer with a map, and this layer has none. Name a convolution or a pool.\n"
    )


def test_a_linear_layer_behind_maps_has_units_and_the_maps_have_filters() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        module[0].bias[1] = module[3].bias[2] = -100.0  # type: ignore[index, union-attr]
    found = visus.look(module, torch.rand(1, 8, 8))
    page = found.page()
    assert re.search(r"Dead, never positive on this image: \d filters? \((\d, )*1[,)]", page)
    assert re.search(r"Dead, never positive on this image: \d units? \((\d, )*2[,)]", page)
    assert "dead and sparse filters and units over this image alone" in page
