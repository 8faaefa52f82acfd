"""What a training sees: crops come from images that are stored larger, and a setting becomes the transform of its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visus
from visus.data.augment import Augmentation
from visus.networks.machine import choose
from visus.training.facts import NetworkFacts
from visus.training.resolve import resolve
from visus.training.resolved_recipe import ResolvedRecipe
from visus.workbench.train.preparing import augmentation, data_facts, prepare, stored_size, training_part


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory) -> visus.Data:
    """40 photos of 64 x 64 with stripes one pixel wide, opened at 16 x 16, where the stripes are gray."""
    folder = tmp_path_factory.mktemp("photos")
    for place in range(40):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, place % 4 // 2 :: 4 if place % 2 else 2] = 200
        stripes[0, 0] = place
        (folder / "ab"[place % 2]).mkdir(exist_ok=True)
        Image.fromarray(stripes).save(folder / "ab"[place % 2] / f"{place}.png")
    return visus.open_data(folder, img_size=16, cache_dir=folder.parent / "cache")


def recipe_of(data: visus.Data, **settings: object) -> ResolvedRecipe:
    """A recipe for some network with random weights."""
    return resolve(visus.Recipe(device="cpu", **settings), data_facts(data), NetworkFacts())  # type: ignore[arg-type]


def test_crops_come_from_images_that_are_stored_larger(detailed: visus.Data) -> None:
    cropping, plain = recipe_of(detailed, crop=0.25), recipe_of(detailed)
    assert (stored_size(detailed, cropping), stored_size(detailed, plain)) == ((32, 32), (16, 16))
    assert training_part(detailed, plain) is detailed.split("train")
    part = training_part(detailed, cropping)
    assert part.pixels.shape[2:] == (32, 32)
    assert part.names == detailed.split("train").names
    small = np.stack([detailed.store.pixels[row] for row in part.indices]).astype(float)
    large = np.stack([part.pixels[row] for row in part.indices]).astype(float)
    means = large.reshape(len(large), 3, 16, 2, 16, 2).mean((3, 5))
    assert np.abs(means - small)[:, :, 1:-1, 1:-1].mean() < 3, "the same images, at twice the side"
    assert large.std((1, 2, 3)).mean() > 1.3 * small.std((1, 2, 3)).mean(), "with more detail"
    _, batches = prepare(torch.nn.Flatten(), detailed, cropping, choose("cpu", "float32"))
    assert next(batches.epoch(0)).inputs.shape[2:] == (16, 16)
    assert augmentation(cropping, detailed).sentences((16, 16))[0] == "cropped to 25 % to 100 % of the area, from 32 x 32"


@pytest.mark.long
def test_a_training_with_crops_uses_and_reports_the_larger_images(detailed: visus.Data, tmp_path: Path) -> None:
    planned: list[list[str]] = []
    recipe = visus.Recipe(epochs=1, batch_size=8, crop=0.5, device="cpu")
    visus.train(
        detailed,
        "conv(4, 3), relu, globalpool, linear(classes)",
        recipe,
        output=tmp_path,
        progress=False,
        on_event=lambda event: planned.append(event.changes) if hasattr(event, "changes") else None,
    )
    assert planned[0][0] == "cropped to 50 % to 100 % of the area, from 23 x 23"


@pytest.mark.long
def test_a_training_with_crops_goes_on_with_the_same_bits_after_a_stop(detailed: visus.Data, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=2, batch_size=8, crop=0.5, cutmix=1.0, device="cpu", precision="float32")
    network, steps = "conv(4, 3), relu, globalpool, linear(classes)", iter(range(100))
    whole = visus.train(detailed, network, recipe, output=tmp_path, name="whole", progress=False)
    visus.train(detailed, network, recipe, output=tmp_path, name="cut", progress=False, should_stop=lambda: next(steps) > 2)
    resumed = visus.resume(tmp_path / "cut", cache_dir=detailed.store.folder.parent, progress=False)
    first, second = ((run.folder / "weights" / "last.safetensors").read_bytes() for run in (whole, resumed))
    assert first == second


def test_arrays_are_cropped_as_they_are_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", x=pixels, y=np.arange(60) % 2)
    data = visus.open_data(tmp_path / "arrays.npz", img_size=16)
    recipe = recipe_of(data, crop=0.25)
    assert stored_size(data, recipe) == (16, 16)
    assert augmentation(recipe, data).sentences((16, 16))[0] == "cropped to 25 % to 100 % of the area"


def test_every_setting_becomes_its_transform(detailed: visus.Data) -> None:
    everything = {
        "vertical_flip": "random",
        "rotate90": "random",
        "rotate": 5.0,
        "color": 0.2,
        "policy": "1x5",
        "mixup": 0.1,
    }
    found = augmentation(recipe_of(detailed, flip="random", cutmix=0.5, **everything), detailed)
    assert [type(each).__name__ for each in (*found.transforms, *found.mixings)] == [
        *("Flip", "Shift", "VerticalFlip", "QuarterTurns", "Rotation", "ColorJitter", "RandomPolicy", "Mixup", "CutMix"),
    ]
    off = recipe_of(detailed, flip="none", translate=0.0, zoom=0.0, cutout=0.0)
    assert augmentation(off, detailed) == Augmentation()
