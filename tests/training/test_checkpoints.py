"""Stopped anywhere, a training goes on as if it never had been; and the same training gives the same weights twice."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import visus
from visus.errors import DataError, RunError, StorageError, UsageError, WeightsError
from visus.training.checkpoints import read_checkpoint
from visus.training.events import CheckpointWritten, StepDone
from visus.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("light_pages")

TINY_NETWORK = "conv(4, 3, padding=1), norm, relu, dropout(0.2), globalpool, linear(classes)"


def weights_of(run: visus.Run, name: str = "last") -> dict[str, torch.Tensor]:
    """All tensors of a run's weights."""
    return safetensors.torch.load_file(run.folder / "weights" / f"{name}.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all bits are equal."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stop_after(num_steps: int) -> Callable[[], bool]:
    """True from the given number of questions on."""
    asked = 0

    def answer() -> bool:
        nonlocal asked
        asked += 1
        return asked >= num_steps

    return answer


@pytest.mark.long
def test_the_same_seed_returns_the_same_weights_twice_and_another_seed_others(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    runs = [visus.train(squares, TINY_NETWORK, quick, output=tmp_path) for _ in range(2)]
    other = visus.train(squares, TINY_NETWORK, quick.replace(seed=1), output=tmp_path)
    assert same(weights_of(runs[0]), weights_of(runs[1]))
    assert not same(weights_of(runs[0]), weights_of(other))


def test_global_random_state_has_no_influence_and_is_left_alone(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    assert same(weights_of(first), weights_of(second))
    assert torch.equal(before, torch.get_rng_state())


_FIRST_STOPS = {("adamw", 13), ("muon", 5), ("sgd", 1)}


@pytest.mark.parametrize(
    ("optimizer", "num_steps"),
    [
        pytest.param(*each, marks=() if each in _FIRST_STOPS else pytest.mark.slow)
        for each in itertools.product(["adamw", "muon", "sgd"], [1, 5, 6, 13])
    ],
)
def test_stopped_after_any_step_and_resumed_ends_with_the_same_bits(
    squares: Path, quick: Recipe, tmp_path: Path, num_steps: int, optimizer: str
) -> None:
    recipe = quick.replace(optimizer=optimizer)
    whole = visus.train(squares, TINY_NETWORK, recipe, output=tmp_path, name="whole")
    visus.train(squares, TINY_NETWORK, recipe, output=tmp_path, name="stopped", should_stop=stop_after(num_steps))
    resumed = visus.resume(tmp_path / "stopped")
    for name in ("best", "last"):
        assert same(weights_of(whole, name), weights_of(resumed, name))
    rows = [(run.folder / "results.csv").read_text().splitlines() for run in (whole, resumed)]
    assert [row.split(",")[:6] for row in rows[0]] == [row.split(",")[:6] for row in rows[1]]
    assert resumed.scores == whole.scores
    cards = [
        (run.folder / "README.md").read_text().replace(str(run.folder), "RUN").replace(run.name, "RUN")
        for run in (whole, resumed)
    ]
    assert cards[1].count("- The training was resumed 1 time.\n") == 1
    assert _without_time(cards[0]) == _without_time(cards[1].replace("- The training was resumed 1 time.\n", ""))


def _without_time(text: str) -> str:
    """A card without what differs between any two trainings: times of day and durations."""
    text = re.sub(r"(?m)^- Command until this report: .*\n", "", text)  # names the parts that take a tenth of a second
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|[\d.]+ s\b|per second: [\d,]+", "", text)


def test_stopped_within_the_first_epoch_leaves_usable_weights(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path, should_stop=stop_after(2))
    assert not (run.folder / "scores.json").exists()
    assert run.evaluate().num_samples == 24


def test_checkpoint_inside_an_epoch_is_written_as_often_as_asked(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    events: list[object] = []
    visus.train(squares, TINY_NETWORK, quick.replace(checkpoint_every_s=0.0), output=tmp_path, on_event=events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert len([event for event in events if isinstance(event, CheckpointWritten)]) == 1 + len(steps)


@pytest.mark.long
def test_no_file_of_a_finished_run_is_a_left_over_part(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with whole pages
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    found = sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())
    assert found == [
        "README.md",
        "calibration.json",
        "checkpoint/last.safetensors",
        "classes.txt",
        "confusion.csv",
        "confusion.png",
        "contents.csv",
        "contents.npz",
        "curves.png",
        "data.json",
        "design.txt",
        "environment.json",
        "inside.json",
        "ledger.csv",
        "ledger.json",
        "mirrors.json",
        "recipe.yaml",
        "report.html",
        "results.csv",
        "scores.json",
        "split.csv",
        "times.json",
        "weights/best.safetensors",
        "weights/last.safetensors",
    ]


def test_resuming_without_a_checkpoint_says_so(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    (run.folder / "checkpoint" / "last.safetensors").unlink()
    with pytest.raises(RunError) as caught:
        visus.resume(run.folder)
    assert str(caught.value) == (
        f"{run.folder / 'checkpoint' / 'last.safetensors'}: there is no checkpoint here, so this training cannot resume. "
        f"Start it again without --resume."
    )


def test_a_damaged_checkpoint_is_refused(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    file = run.folder / "checkpoint" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError) as caught:
        visus.resume(run.folder)
    assert (
        str(caught.value)
        == f"{file}: this is not a complete checkpoint of visus. Start the training again without --resume."
    )


def test_a_checkpoint_of_another_design_is_refused(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    (run.folder / "design.txt").write_text("conv(5, 3), relu, globalpool, linear(classes)\n")
    with pytest.raises(WeightsError) as caught:
        visus.resume(run.folder)
    assert str(caught.value) == (
        f"{run.folder / 'checkpoint' / 'last.safetensors'}: this checkpoint belongs to another design: "
        f"'conv(4, 3, padding=1), norm, relu, dropout(0.2), globalpo...', not 'conv(5, 3), relu, globalpool, linear(classes)'. "
        f"Continue with the same design, or start a new run without --resume."
    )


def test_a_recipe_that_was_edited_is_refused_with_the_setting(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick.replace(mixup=0.2), output=tmp_path)
    recipe = run.folder / "recipe.yaml"
    edited = re.sub(r"^mixup: 0.2", "mixup: 0.3", recipe.read_text(), flags=re.MULTILINE)
    recipe.write_text(re.sub(r"^weight_decay: [\d.]+", "weight_decay: 0.5", edited, flags=re.MULTILINE))
    with pytest.raises(WeightsError) as caught:
        visus.resume(run.folder)
    assert str(caught.value) == (
        f"{run.folder / 'checkpoint' / 'last.safetensors'}: this checkpoint belongs to another recipe: "
        f"'weight_decay={run.recipe.weight_decay}, mixup=0.2', not 'weight_decay=0.5, mixup=0.3'. "
        f"Continue with the same recipe, or start a new run without --resume."
    )


def test_a_checkpoint_with_other_tensors_is_refused(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    module = visus.network(TINY_NETWORK.replace("conv(4", "conv(6"), (1, 8, 8), 3)
    checkpoint = run.folder / "checkpoint" / "last.safetensors"
    with safetensors.safe_open(checkpoint, framework="pt") as file:
        identity = json.loads(file.metadata()["visus"])["identity"]
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(checkpoint, module, None, torch.optim.AdamW(module.parameters()), identity)
    assert str(caught.value) == (
        f"{checkpoint}: this checkpoint belongs to another network: conv1.weight, linear1.weight, norm1.bias, ... do not match. "
        f"Continue with the same network, or start a new run without --resume."
    )


def test_settings_of_a_run_cannot_change_while_it_goes_on(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    with pytest.raises(UsageError) as caught:
        visus.resume(run.folder, changes={"epochs": 9, "seed": 1})
    assert str(caught.value) == (
        f"{run.folder}: epochs, seed cannot change in a resumed training: the run keeps its recipe. Leave them out, or start a new run."
    )


def test_changed_data_is_refused(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    shutil.copy(squares, copy)
    run = visus.train(copy, TINY_NETWORK, quick, output=tmp_path)
    arrays = dict(np.load(copy))
    arrays["x"][5] += 1
    np.savez(copy, **arrays)
    with pytest.raises(DataError) as caught:
        visus.resume(run.folder)
    assert str(caught.value) == (
        f"{copy}: this data has changed since the run copy was trained on it. 1 sample of other content: x[5]. "
        f"To evaluate the run on the samples that it knows, also moved ones: visus.load({str(run.folder)!r}).evaluate({str(copy)!r}). To train on the data as it "
        f"is now, with known samples in their splits: visus.train(visus.open_data({str(copy)!r}, split={str(run.folder / 'split.csv')!r}))"
    )


@pytest.mark.long
def test_a_full_disk_keeps_the_checkpoint_before_and_says_what_to_do(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the second checkpoint on, as the system itself tells it."""
    whole = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    flush, done = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal done
        done += os.readlink(f"/proc/self/fd/{handle}").find("/checkpoint/.") > 0
        if done > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        visus.train(squares, TINY_NETWORK, quick, output=tmp_path, name="full")
    folder = tmp_path / "full"
    text = re.sub(r"[\d.]+ (KiB|MiB|GiB|bytes)", "N bytes", str(caught.value))
    assert text == (
        f"{folder / 'checkpoint' / 'last.safetensors'}: N bytes could not be written: No space left on device; N bytes free there. "
        f"Free some space or choose another folder. The previous checkpoint is intact; continue with: visus.resume({str(folder)!r})"
    )
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["last.safetensors"]
    monkeypatch.undo()
    assert same(weights_of(visus.resume(folder)), weights_of(whole))


def test_a_checkpoint_of_another_dataset_is_refused(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    run = visus.train(squares, TINY_NETWORK, quick, output=tmp_path)
    file = run.folder / "checkpoint" / "last.safetensors"
    with safetensors.safe_open(file, "pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    fingerprint = run.open_data().fingerprint
    assert sum(text.count(fingerprint) for text in metadata.values()) == 1
    safetensors.torch.save_file(
        tensors, file, {name: text.replace(fingerprint, "another") for name, text in metadata.items()}
    )
    with pytest.raises(WeightsError) as caught:
        visus.resume(run.folder)
    assert str(caught.value).startswith(f"{file}: this checkpoint belongs to another dataset: 'another', not '")
    assert str(caught.value).endswith("Continue with the same dataset, or start a new run without --resume.")
