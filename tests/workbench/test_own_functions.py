"""A person's own loss, metric and transform are tried before the training: what can be learned from is taken, a normalization is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

import visus
from visus.errors import UsageError
from visus.own_callables import FunctionName
from visus.training.events import EpochDone
from visus.training.resolved_recipe import ResolvedRecipe
from visus.workbench.train.own_functions import own_values, try_loss, try_transform

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"


@pytest.fixture(scope="module")
def sorted_images(tmp_path_factory: pytest.TempPathFactory) -> visus.Data:
    """Ninety gray images from black to white, sorted by their three classes."""
    y = np.arange(90) // 30
    x = np.random.default_rng(0).integers(0, 256, (90, 8, 8)).astype(np.uint8)
    return visus.open_data(x=x, y=y, keep_in=tmp_path_factory.mktemp("kept"), progress=False)


def recipe(data: visus.Data, tmp_path: Path, **settings: Any) -> ResolvedRecipe:
    """A resolved recipe with functions."""
    plain = visus.train(data, NETWORK, visus.Recipe(epochs=1, batch_size=16), output=tmp_path, progress=False).recipe
    return plain.replace(**{name: FunctionName.of(function) for name, function in settings.items()})


def without_a_class(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, ignore_index=0, reduction="none")


def ranking(outputs: Tensor, labels: Tensor) -> Tensor:
    """Samples of the first class below the others; 0 if a batch has one of them alone."""
    first, others = outputs[labels == 0, 0], outputs[labels != 0, 0]
    return F.softplus(others[:, None] - first[None]).sum() / max(1, len(first) * len(others)) + 0 * outputs.sum()


def with_a_margin(outputs: Tensor, labels: Tensor) -> Tensor:
    outputs[torch.arange(len(labels)), labels] -= 0.35
    return F.cross_entropy(outputs, labels, reduction="none")


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.multi_margin_loss(outputs, labels, reduction="none")


def with_dropout(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.dropout(outputs, 0.5), labels, reduction="none")


def sometimes(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, reduction="none") * (2 if random.random() < 0.5 else 1)


@pytest.mark.usefixtures("light_pages")
@pytest.mark.parametrize("loss", [without_a_class, ranking, with_a_margin, hinge, with_dropout, sometimes])
def test_losses_that_can_be_learned_from_are_taken_and_have_one_value(
    sorted_images: visus.Data, tmp_path: Path, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    found = recipe(sorted_images, tmp_path, loss=loss)
    state = torch.get_rng_state().clone(), random.getstate()
    try_loss(found, sorted_images)
    values = [own_values(found, sorted_images)["own loss"] for _ in range(5)]
    assert len(set(values)) == 1
    assert values[0].endswith(f" for fixed outputs, {__name__}:{loss.__name__}")
    assert (torch.equal(torch.get_rng_state(), state[0]), random.getstate()) == (True, state[1])


@pytest.mark.usefixtures("light_pages")
def test_objects_have_no_value_as_it_may_depend_on_earlier_calls(sorted_images: visus.Data, tmp_path: Path) -> None:
    assert own_values(recipe(sorted_images, tmp_path, loss=torch.nn.CrossEntropyLoss()), sorted_images) == {}


@pytest.mark.usefixtures("light_pages")
def test_a_checkpoint_without_the_value_of_the_loss_is_resumed(sorted_images: visus.Data, tmp_path: Path) -> None:
    settings = visus.Recipe(epochs=3, batch_size=16, loss=hinge)  # type: ignore[arg-type]
    run = visus.train(
        sorted_images,
        NETWORK,
        settings,
        output=tmp_path,
        progress=False,
        on_event=lambda event: visus.events.Stop() if isinstance(event, EpochDone) else None,
    )
    file = run.folder / "checkpoint" / "last.safetensors"
    with safetensors.safe_open(file, "pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    (key,) = (key for key, text in metadata.items() if "own loss" in text)
    header = json.loads(metadata[key])
    del header["identity"]["own loss"]
    safetensors.torch.save_file(tensors, file, metadata | {key: json.dumps(header)})
    assert visus.resume(run.folder, progress=False).history["epoch"] == (1, 2, 3)


def contrast(images: Tensor) -> Tensor:
    return (images - 0.5) * random.uniform(0.5, 1.8) + 0.5


def brightness(images: Tensor) -> Tensor:
    return images + random.uniform(-0.5, 0.5)


def negative_at_times(images: Tensor) -> Tensor:
    return 1 - images if random.random() < 0.5 else images


def seldom(images: Tensor) -> Tensor:
    return images.flip(-1) if random.random() < 0.01 else images


def noise(images: Tensor) -> Tensor:
    return images + 0.2 * torch.randn_like(images)


@pytest.mark.usefixtures("light_pages")
@pytest.mark.parametrize("transform", [contrast, brightness, negative_at_times, seldom, noise])
def test_transforms_that_vary_are_taken(
    sorted_images: visus.Data, tmp_path: Path, transform: Callable[[Tensor], Tensor]
) -> None:
    try_transform(recipe(sorted_images, tmp_path, transform=transform), sorted_images)


def of_imagenet(images: Tensor) -> Tensor:
    return (images - 0.45) / 0.225


def gentle(images: Tensor) -> Tensor:
    return 0.5 * images + 0.4


def each_by_itself(images: Tensor) -> Tensor:
    mean, deviation = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), keepdim=True)
    return (images - mean) / deviation


@pytest.mark.parametrize(
    ("transform", "values"),
    [(of_imagenet, "-2 to 2.44"), (gentle, "0.4 to 0.9"), (each_by_itself, r"-\d\.\d\d? to \d\.\d\d?")],
)
def test_transforms_that_normalize_are_refused_before_a_run_is_made(
    sorted_images: visus.Data, tmp_path: Path, transform: Callable[[Tensor], Tensor], values: str
) -> None:
    settings = visus.Recipe(epochs=1, batch_size=16, transform=transform)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=values) as caught:
        visus.train(sorted_images, NETWORK, settings, output=tmp_path / "runs", progress=False)
    name, _, text = str(caught.value).partition(": ")
    assert name == f"{__name__}:{transform.__name__}"
    assert text.startswith("in each of 5 trials it makes values from ")
    assert text.endswith(
        " of values from 0 (black) to 1 (white), as a normalization does, and the transform must return values from 0 to 1. Leave a normalization out: visus "
        "normalizes after the transform, and the same in predictions. A strong change of brightness needs clamp(0, 1)."
    )
    assert not (tmp_path / "runs").exists()
