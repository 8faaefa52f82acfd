"""The contact sheet of augmented samples: the settings of a training, drawn into one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visus
from visus.data.augment import Pairs
from visus.errors import RecipeError, UsageError
from visus.workbench.augmented_samples import NUM_SAMPLES, NUM_VERSIONS, _captions


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> visus.Data:
    """90 color images of 16 x 16 in three classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (90, 16, 16, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("data") / "colored.npz"
    np.savez(file, x=images, y=np.arange(90) % 3)
    return visus.open_data(file)


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> visus.Data:
    """240 gray images of 12 x 12: bright at the top, or at the bottom."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 60, (240, 12, 12)), np.arange(240) % 2
    images[labels == 0, :4] += 150
    images[labels == 1, 8:] += 150
    file = tmp_path_factory.mktemp("data") / "upright.npz"
    np.savez(file, x=images.astype(np.uint8), y=labels)
    return visus.open_data(file)


def test_a_motion_that_changes_the_class_is_warned_of_before_and_in_a_training(
    upright: visus.Data, tmp_path: Path, light_pages: None
) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=32, vertical_flip="random", flip="random")
    found = visus.check(upright, augment=recipe, output=tmp_path / "sheet.png")
    (warning,) = found.warnings
    assert warning.startswith(
        "vertical_flip='random': images upside down change their class: the nearest neighbor has the same class for 0 % of 173 images upside down (upright 100 %, chance"
    )
    assert warning.endswith(" of the accuracy above chance is kept. The network learns these samples with their old class.")
    assert str(found.text()).startswith("1 warning: ")
    assert found.to_json()["augmentation"]["warnings"] == [warning]
    assert warning in found.to_json()["warnings"]
    seen: list[object] = []
    visus.train(
        upright,
        "conv(4, 3), relu, globalpool, linear(classes)",
        recipe,
        output=tmp_path,
        progress=False,
        on_event=seen.append,
    )
    assert warning in next(event for event in seen if isinstance(event, visus.events.DataOpened)).network.warnings
    mirrored = visus.check(upright, augment=visus.Recipe(flip="random"), output=tmp_path / "sheet.png")
    assert mirrored.warnings == ()


@pytest.mark.long
def test_a_sheet_has_a_row_for_each_sample_and_the_settings_of_a_training(colored: visus.Data, tmp_path: Path) -> None:
    recipe = visus.Recipe(mixup=0.4, color=0.3, rotate=10, seed=3, flip="random")
    found = visus.check(colored, augment=recipe, output=tmp_path / "sheet.png")
    sheet = found.augmented
    assert sheet is not None
    assert sheet.settings == {"flip": "random", "translate": 0.05, "rotate": 10, "color": 0.3, "cutout": 0.3, "mixup": 0.4}
    assert sheet.sentence in str(found.text())
    assert found.to_json()["augmentation"] == {
        "file": str(tmp_path / "sheet.png"),
        "settings": sheet.settings,
        "changes": list(sheet.changes),
        "warnings": [],
    }
    with Image.open(sheet.file) as image:
        assert image.width > (NUM_VERSIONS + 1) * 144
        assert image.height > NUM_SAMPLES * 144
    first = sheet.file.read_bytes()
    visus.check(colored, augment=recipe, output=tmp_path / "sheet.png")
    assert sheet.file.read_bytes() == first, "it is seeded"
    visus.check(colored, augment=recipe.replace(seed=4), output=tmp_path / "sheet.png")
    assert sheet.file.read_bytes() != first


def test_a_sheet_is_written_for_signals_and_volumes_too(tmp_path: Path) -> None:
    for number, shape in enumerate([(60, 1, 50), (60, 1, 6, 8, 8)]):
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.savez(tmp_path / f"{number}.npz", x=values, y=np.arange(60) % 2)
        layout = "NCL" if number == 0 else "NCDHW"
        found = visus.check(
            tmp_path / f"{number}.npz",
            layout=layout,
            augment=visus.Recipe(cutmix=1.0, translate=0.1),
            output=tmp_path / f"{number}.png",
        )
        assert found.augmented is not None
        assert found.augmented.file.stat().st_size > 1000


def test_without_a_sheet_nothing_is_written_and_its_file_is_refused(
    colored: visus.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert visus.check(colored).augmented is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError) as caught:
        visus.check(colored, output="a.png")
    assert (
        str(caught.value)
        == "output is the file of the contact sheet of augmented samples. Give augment=True too, or leave it out."
    )
    with pytest.raises(UsageError) as caught:
        visus.check(colored, augment=True, output="a.jpg")
    assert str(caught.value) == "a.jpg: the contact sheet is a PNG file. Name it with .png at the end."
    visus.check(colored, augment=True)
    assert [each.name for each in tmp_path.iterdir()] == ["augmentation.png"]


def test_settings_that_do_not_suit_the_data_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "signals.npz", x=np.random.default_rng(0).normal(size=(60, 1, 50)), y=np.arange(60) % 2)
    with pytest.raises(RecipeError, match=r"^rotate=10 turns samples in a plane"):
        visus.check(tmp_path / "signals.npz", layout="NCL", augment=visus.Recipe(rotate=10), output=tmp_path / "a.png")


def test_a_sample_that_is_mixed_with_one_of_its_class_has_one_label() -> None:
    share = torch.tensor([0.98, 0.5, 0.25])
    pairs = Pairs(torch.tensor([1, 0, 0]), share)
    assert _captions(["cat", "cat", "dog"], pairs) == ["cat", "cat", "0.25 dog, 0.75 cat"]
