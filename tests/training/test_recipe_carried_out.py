"""The recipe from the door: what it asks for happens, is told in the run's files, goes on exactly after a stop, and is refused where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import visus
from visus.data.opened import open_data
from visus.errors import RecipeError, UsageError
from visus.evaluation.calibration import UNCALIBRATED
from visus.evaluation.predictions import predict_logits
from visus.training.recipe import Recipe
from visus.workbench.train.events import Prepared

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = (
    "whiten(2), gelu, conv(6, 3, padding=1, bias=False), maxpool(2), norm, gelu, conv(6, 3, padding=1), norm, gelu, "
    'globalpool("max"), linear(classes)'
)


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 color images of 12 x 12 in three classes: which channel is bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = rng.integers(0, 120, (150, 12, 12, 3), dtype=np.uint8)
    images[np.arange(150), 3:9, 3:9, labels] += 100
    file = tmp_path_factory.mktemp("data") / "colored.npz"
    np.savez(file, x=images, y=labels)
    return file


@pytest.fixture
def whole() -> Recipe:
    """Everything at once, in three epochs."""
    return Recipe(
        epochs=3,
        batch_size=16,
        progressive_resize="0.5, 0.75, 1",
        flip="alternating",
        tta="flip+shift",
        precision="float32",
        device="cpu",
    )


def stop_after(num_steps: int) -> Callable[[], bool]:
    """True from the given number of questions on."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= num_steps


def weights_of(run: visus.Run, name: str) -> dict[str, torch.Tensor]:
    """All tensors of a run's weights."""
    return safetensors.torch.load_file(run.folder / "weights" / f"{name}.safetensors")


@pytest.mark.parametrize("num_steps", [9, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 20))])
@pytest.mark.long
def test_everything_at_once_goes_on_with_the_same_bits_after_a_stop(
    colored: Path, whole: Recipe, tmp_path: Path, num_steps: int
) -> None:
    unbroken = visus.train(colored, NETWORK, whole, output=tmp_path, name="unbroken")
    visus.train(colored, NETWORK, whole, output=tmp_path, name="stopped", should_stop=stop_after(num_steps))
    resumed = visus.resume(tmp_path / "stopped")
    for name in ("best", "last"):
        first, second = weights_of(unbroken, name), weights_of(resumed, name)
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert resumed.scores == unbroken.scores


def noisy(batch: torch.Tensor) -> torch.Tensor:
    """A person's own transform with random numbers of PyTorch and NumPy."""
    return batch + 0.1 * torch.randn_like(batch) + 0.1 * float(np.random.rand())


@pytest.mark.long
def test_every_augmentation_at_once_goes_on_with_the_same_bits_after_a_stop(
    colored: Path, whole: Recipe, tmp_path: Path
) -> None:
    recipe = whole.replace(
        vertical_flip="random",
        rotate90="random",
        rotate=10,
        crop=0.5,
        color=0.2,
        policy="2x9",
        mixup=0.2,
        cutmix=1.0,
        cutout=0.2,
        transform=noisy,
        tta="flip",
        progressive_resize="1",
    )
    unbroken = visus.train(colored, NETWORK, recipe, output=tmp_path, name="unbroken")
    visus.train(colored, NETWORK, recipe, output=tmp_path, name="stopped", should_stop=stop_after(9))
    resumed = visus.resume(tmp_path / "stopped")
    for name in ("best", "last"):
        first, second = weights_of(unbroken, name), weights_of(resumed, name)
        assert all(torch.equal(first[key], second[key]) for key in first)
    other = visus.train(colored, NETWORK, recipe.replace(mixup=0.4), output=tmp_path, name="other")
    assert not torch.equal(weights_of(other, "last")["conv1.weight"], weights_of(unbroken, "last")["conv1.weight"])


def narrower(batch: torch.Tensor) -> torch.Tensor:
    """A transform with a mistake: it changes the shape."""
    return batch[..., 1:]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (narrower, "it returned a shape of 64 x 3 x 12 x 11, at "),
        ("no_such_module:changed", "no_such_module:changed: the module no_such_module cannot be imported: "),
    ],
)
def test_a_transform_that_fails_ends_the_training_and_leaves_no_run(
    colored: Path, whole: Recipe, tmp_path: Path, transform: object, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        visus.train(colored, NETWORK, whole.replace(transform=transform), output=tmp_path / "runs", progress=False)
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


def test_what_was_done_is_reported_in_the_files_of_the_run(colored: Path, whole: Recipe, tmp_path: Path) -> None:
    told: list[Prepared] = []
    run = visus.train(
        colored,
        NETWORK,
        whole,
        output=tmp_path,
        on_event=lambda event: told.append(event) if isinstance(event, Prepared) else None,
    )
    assert told[0].changes[0] == "mirrored left to right (each in every second epoch)"
    assert told[0].changes[-1] == "seen at 6 x 6 for 33 % of the training, then 9 x 9 for 33 %, then 12 x 12 for 33 %"
    views = "Each prediction is the mean over 6 copies of the image: unchanged (half of the weight), and shifted a little both ways along all axes; "
    assert any(
        "mean over 6 copies of the image" in note for note in json.loads((run.folder / "scores.json").read_text())["notes"]
    )
    computed = json.loads((run.folder / "whitening.json").read_text())
    assert [(each["path"], each["num_filters"], each["num_samples"]) for each in computed] == [("whiten1", 24, 108)]
    sentence = computed[0]["sentence"]
    assert sentence.startswith("The 24 filters of whiten1 were computed from ")
    assert sentence.endswith(" patches of 108 training samples, and are not trained.")
    for name in ("report.html", "README.md"):
        page = (run.folder / name).read_text()
        assert sentence in page
        assert "mean over 6 copies of the image" in page
    assert views in (run.folder / "report.html").read_text()


@pytest.mark.long
def test_whitening_is_what_the_data_says_and_is_not_trained(colored: Path, whole: Recipe, tmp_path: Path) -> None:
    first = visus.train(colored, NETWORK, whole, output=tmp_path)
    other = visus.train(colored, NETWORK, whole.replace(epochs=1, learning_rate=0.01), output=tmp_path)
    assert torch.equal(weights_of(first, "last")["whiten1.weight"], weights_of(other, "best")["whiten1.weight"])


def test_answers_of_a_run_use_the_views_of_its_recipe(colored: Path, whole: Recipe, tmp_path: Path) -> None:
    run = visus.train(colored, NETWORK, whole, output=tmp_path)
    data = open_data(colored)
    part = data.split("test")
    samples = run.preprocessing.scaled(part.rows(np.arange(len(part))))
    averaged = predict_logits(run.module, [samples], tta="flip+shift")
    assert torch.allclose(run.logits([samples]), averaged, atol=1e-6)
    assert not torch.allclose(run.logits([samples]), predict_logits(run.module, [samples]), atol=1e-6)
    stored = np.asarray(part.rows(np.arange(len(part))))
    told = [answer.probability for answer in run.predict([stored])]
    assert told == pytest.approx(UNCALIBRATED(averaged).max(1).values.tolist(), abs=1e-5)
    assert run.evaluate().accuracy == float((averaged.argmax(1).numpy() == part.labels).mean())


def test_settings_that_this_data_or_network_cannot_have_are_refused_together(
    colored: Path, whole: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        visus.train(colored, "flatten, linear(classes)", whole.replace(flip="none"), output=tmp_path)
    assert str(caught.value) == (
        "2 mistakes:\n"
        "  - progressive_resize needs a network that also accepts smaller samples, for example one with globalpool. This one does not. Leave it out.\n"
        "  - tta=flip+shift mirrors samples, and this training does not (flip=none). Leave it out, or train with flips."
    )


def test_shuffled_samples_are_seen_whole_and_once(colored: Path, tmp_path: Path) -> None:
    import dataclasses

    plain = open_data(colored)
    mixed = open_data(colored, preprocessing=dataclasses.replace(plain.preprocessing, shuffle_seed=0))
    recipe = Recipe(epochs=1, batch_size=16, precision="float32")
    run = visus.train(mixed, NETWORK, recipe, output=tmp_path)
    assert (run.recipe.tta, run.recipe.sides) == ("none", (1.0,))
    with pytest.raises(RecipeError) as caught:
        visus.train(mixed, NETWORK, recipe.replace(tta="shift"), output=tmp_path)
    assert str(caught.value) == "tta=shift needs samples whose positions are in order, and these are shuffled. Leave it out."


def test_a_network_of_one_size_is_trained_at_the_whole_size_where_nothing_is_asked(colored: Path, tmp_path: Path) -> None:
    told: list[Prepared] = []
    recipe = Recipe(epochs=1, batch_size=16, precision="float32")
    run = visus.train(
        colored,
        "conv(4, 3), norm, relu, flatten, linear(classes)",
        recipe,
        output=tmp_path,
        on_event=lambda event: told.append(event) if isinstance(event, Prepared) else None,
    )
    assert (run.recipe.optimizer, run.recipe.sides) == ("muon", (1.0,))
    assert told[0].changes[-1] == "at full size throughout (the network accepts no other size)"
