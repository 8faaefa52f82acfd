"""A module that is trained twice goes on from its weights, and the second training says so; tensors that are given to a run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import visus
from visus.errors import RunError, UsageError
from visus.workbench.train.events import DataOpened

pytestmark = pytest.mark.usefixtures("light_pages")
RECIPE = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw")


def plain() -> nn.Module:
    """A network without norms, so that its weights alone do not show a training."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def trained(photos: Path, module: nn.Module, tmp_path: Path, name: str, **named: Any) -> tuple[visus.Run, DataOpened]:
    events: list[Any] = []
    run = visus.train(photos, module, RECIPE, output=tmp_path, name=name, progress=False, on_event=events.append, **named)
    return run, next(event for event in events if isinstance(event, DataOpened))


@pytest.mark.long
def test_a_module_that_is_trained_again_says_that_it_goes_on(photos: Path, tmp_path: Path) -> None:
    module = plain()
    untouched = copy.deepcopy(module)
    first, opened = trained(photos, module, tmp_path, "first")
    assert (opened.start, opened.note) == (None, "")
    again, opened = trained(photos, module, tmp_path, "again")
    assert opened.start is not None
    assert opened.start.sentences() == [f"starts from this module's weights, trained in {first.folder}"]
    assert opened.note == (
        f"this module was trained before, in {first.folder}, and this training goes on from its weights. For new weights, make the module again "
        "for each training, or train copies: visus.train(data, copy.deepcopy(module))"
    )
    assert opened.warnings == ()
    assert opened.data.preprocessing.offset == first.preprocessing.offset
    assert json.loads((again.folder / "start.json").read_text())["source"] == opened.start.source
    _, opened = trained(photos, untouched, tmp_path, "copy")
    assert (opened.start, opened.note) == (None, "")


@pytest.mark.long
def test_a_stopped_module_and_the_module_of_a_run_go_on_too(photos: Path, tmp_path: Path) -> None:
    module = plain()
    stopped, _ = trained(photos, module, tmp_path, "stopped", should_stop=lambda: True)
    for given in (module, stopped.module):
        _, opened = trained(photos, given, tmp_path, "next", should_stop=lambda: False)
        assert opened.start is not None
        assert opened.start.source == f"this module's weights, trained in {stopped.folder}"


def test_a_stopped_run_without_scores_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    stopped, _ = trained(photos, plain(), tmp_path, "stopped", should_stop=lambda: True)
    with pytest.raises(RunError) as caught:
        stopped.scores  # noqa: B018
    assert str(caught.value) == (
        f"{stopped.folder}: this training was stopped before its end, so it has no scores. Resume it with "
        f"visus.resume({str(stopped.folder)!r}), or score it as it is with run.evaluate()."
    )


def test_images_in_the_place_of_logits_are_refused(run: Path) -> None:
    loaded = visus.load(run)
    num_classes = len(loaded.classes)
    images = torch.zeros(2, *loaded.preprocessing.input_shape)
    shown = " x ".join(map(str, images.shape))
    for given in (images, torch.zeros(4, num_classes + 1), torch.zeros(num_classes)):
        with pytest.raises(UsageError) as caught:
            loaded.probabilities(given)
        assert str(caught.value) == (
            f"probabilities takes logits, (samples, {num_classes} classes), as run.logits and run.answers return them, and this is "
            f"{' x '.join(map(str, given.shape))}. For the probabilities of images: run.predict."
        )
    assert loaded.probabilities(loaded.logits(images)).shape == (2, num_classes)
    assert torch.equal(loaded.logits(images), loaded.logits([images]))
    with pytest.raises(UsageError) as caught:
        loaded.logits(images[0])
    assert str(caught.value) == (
        f"a batch is (samples, {', '.join(map(str, images.shape[1:]))}), and this tensor is {shown.partition(' x ')[2]}. For one sample, add "
        "the first axis: batch[None]."
    )
