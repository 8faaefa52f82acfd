"""The loops that stand beside visus: what each writes, and that it learns."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peers import pytorch_loop, visus_loop
from peers.entries import PEERS
from peers.process import PROGRAM
from peers.small_networks import classifier_network, example_network
from peers.task import ARRAYS, Arrays, Course, Task

pytestmark = pytest.mark.usefixtures("light_pages")


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Dark and light images of 3 x 16 x 16: 96 to learn from, 32 held out."""
    rng = np.random.default_rng(0)
    for name, number in (("train", 96), ("test", 32)):
        labels = np.arange(number) % 2
        middle = np.where(labels, 180, 70).reshape(-1, 1, 1, 1)
        np.save(
            tmp_path / f"{name}_samples.npy", np.clip(rng.normal(middle, 30, (number, 3, 16, 16)), 0, 255).astype(np.uint8)
        )
        np.save(tmp_path / f"{name}_labels.npy", labels)
    return tmp_path


def task(arrays: Path, peer: str, network: str, **changes: Any) -> Task:
    """Two epochs with seed 0."""
    return dataclasses.replace(Task(peer, network, 2, 0, 2.0, str(arrays), 2, runs=str(arrays / "runs")), **changes)


def check_status(train: Any, given: Task) -> list[dict[str, Any]]:
    """The events of a training in this process."""
    lines = io.StringIO()
    course = Course(given, lines)
    train(given, course)
    course.ended()
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def check_events(events: list[dict[str, Any]], num_evaluations: int) -> None:
    """Ready first, then an evaluation after each epoch, times that grow and hold those of evaluating, then the end."""
    assert [event["event"] for event in events] == ["ready", *["evaluated"] * num_evaluations, "ended"]
    points = events[1:-1]
    assert [point["epoch"] for point in points] == list(range(1, num_evaluations + 1))
    for before, after in itertools.pairwise(points):
        assert before["seconds"] < after["seconds"]
        assert before["evaluation_s"] < after["evaluation_s"]
    assert all(0 < point["evaluation_s"] < point["seconds"] and 0 <= point["accuracy"] <= 1 for point in points)


@pytest.mark.parametrize("network", list(PEERS["pytorch"].epochs))
def test_plain_pytorch_evaluates_after_each_epoch(network: str, arrays: Path) -> None:
    design = "conv(4, 3), norm, relu, globalpool, linear(classes)"
    events = check_status(pytorch_loop.train, task(arrays, "pytorch", network, design=design))
    check_events(events, 2)
    assert events[0]["versions"] == {"torch": torch.__version__}
    assert events[-1]["end"] == "schedule"


def test_plain_pytorch_learns_dark_from_light(arrays: Path) -> None:
    events = check_status(pytorch_loop.train, task(arrays, "pytorch", "small", epochs=8, target=0.9))
    assert events[-2]["accuracy"] >= 0.9
    assert events[-1]["end"] == "settled"
    assert len(events) < 10


@pytest.mark.long
def test_the_same_seed_returns_the_same_accuracies(arrays: Path) -> None:
    labels = np.random.default_rng(1).integers(
        0, 2, 500
    )  # nothing to learn: the accuracy is that of chance, and of the seed
    np.save(arrays / "test_samples.npy", np.random.default_rng(2).integers(0, 256, (500, 3, 16, 16), dtype=np.uint8))
    np.save(arrays / "test_labels.npy", labels)
    twice = [check_status(pytorch_loop.train, task(arrays, "pytorch", "small", seed=3)) for _ in range(2)]
    assert [event.get("accuracy") for event in twice[0]] == [event.get("accuracy") for event in twice[1]]


def test_images_are_scaled_by_the_training_samples(arrays: Path) -> None:
    read = Arrays.read(str(arrays))
    mean, deviation = pytorch_loop.statistics_of(read)
    scaled = (torch.from_numpy(read.train_samples).double() / 255 - mean) / deviation
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-5
    assert (scaled.std((0, 2, 3)) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 17, 24)])
def test_the_small_networks_take_any_size(shape: tuple[int, int, int]) -> None:
    for make in (example_network, classifier_network):
        assert make(shape, 7)(torch.zeros(2, *shape)).shape == (2, 7)


def test_the_small_networks_are_as_large_as_those_of_the_documents() -> None:
    sizes = [
        sum(each.numel() for each in net.parameters())
        for net in (example_network((1, 28, 28), 10), classifier_network((3, 32, 32), 10))
    ]
    assert sizes == [1_199_882, 62_006]


@pytest.mark.parametrize(("is_followed", "epochs"), [(True, [1, 2]), (False, [2])])
def test_visus_is_evaluated_on_the_held_out_samples(is_followed: bool, epochs: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples, labels = rng.integers(0, 256, (400, 3, 10, 10), dtype=np.uint8), rng.integers(0, 2, 400)
    np.savez(tmp_path / "chance.npz", x=samples, y=labels)
    recipe = "batch_size: 8\nprecision: float32\n"
    design = "conv(4, 3), norm, relu, globalpool, linear(classes)"
    given = task(
        tmp_path, "visus", "", data=str(tmp_path / "chance.npz"), design=design, recipe=recipe, is_followed=is_followed
    )
    events = check_status(visus_loop.train, given)
    assert [event["epoch"] for event in events[1:-1]] == epochs
    scores = json.loads((tmp_path / "runs" / "seed-0" / "scores.json").read_text())
    assert events[-2]["accuracy"] == pytest.approx(scores["accuracy"])


def test_the_arrays_are_those_that_a_task_reads(arrays: Path) -> None:
    assert {file.stem for file in arrays.glob("*.npy")} == set(ARRAYS)


@pytest.mark.slow
@pytest.mark.parametrize(("peer", "network"), [(peer, network) for peer, facts in PEERS.items() for network in facts.epochs])
def test_every_installed_peer_trains_in_a_process_of_its_own(peer: str, network: str, arrays: Path) -> None:
    missing = [name for name in PEERS[peer].packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    given = task(arrays, peer, network, design="conv(4, 3), norm, relu, globalpool, linear(classes)")
    (arrays / "task.json").write_text(json.dumps(dataclasses.asdict(given)))
    command = [*PROGRAM, str(arrays / "task.json")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    check_events([json.loads(line) for line in answer.stdout.splitlines()], 2)
