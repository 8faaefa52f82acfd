"""The benchmark beside peers: who takes part, in which order, what is written, and what is refused. Trainings are stood in for by made-up curves."""

from __future__ import annotations

import dataclasses
import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import Call

import visus
from peers import benchmark as benchmarking
from peers import entries as benchmark_entries
from peers import visus_loop
from peers.benchmark import Plan, benchmark
from peers.curves import Curve, Point
from peers.entries import PEERS, Contestant, read_contestants
from peers.task import Task
from visus.errors import DataError, StorageError, UsageError
from visus.networks import pretrained


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every peer were installed."""
    monkeypatch.setattr(benchmark_entries.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The tasks that would be carried out; visus is at 0.9 after 2 s, everybody else after 20 s and a second for each seed."""
    tasks: list[dict[str, Any]] = []

    def timed_run(task: dict[str, Any], limits: Any, scratch: Path, tell: Any) -> tuple[Curve, dict[str, str]]:
        tasks.append(
            {
                **task,
                "arrays": {
                    name: np.load(scratch / f"{name}.npy") for name in ("train_samples", "test_samples", "train_labels")
                },
            }
        )
        seconds = 2.0 if task["peer"] == "visus" else 20.0 + task["seed"]
        points = (Point(1, seconds / 2, 0.1, 0.5), Point(2, seconds, 0.2, 0.9))
        for point in points:
            tell(point)
        return Curve(task["seed"], 1.0, seconds + 2, "schedule", points), {"torch": "1"}

    monkeypatch.setattr(benchmarking, "timed_run", timed_run)
    return tasks


# ---- who takes part ----


def test_visus_comes_first_whether_it_is_named_or_not() -> None:
    assert [one.title for one in read_contestants("keras")] == ["visus", "keras"]
    assert [one.title for one in read_contestants("keras, visus:3")] == ["visus, 3 epochs", "keras"]


def test_epochs_are_those_of_the_documentation_unless_they_are_named() -> None:
    assert read_contestants("fastai/small,fastai:1,torchvision")[1:] == (
        Contestant("fastai", "small", 5),
        Contestant("fastai", "resnet18", 1, is_given=True),
        Contestant("torchvision", "resnet18", 90),
    )
    assert read_contestants("fastai:1")[1].title == "fastai, 1 epoch"


def test_the_default_names_only_what_exists() -> None:
    assert {one.peer for one in read_contestants(None)} == {"visus", *PEERS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kears", "--with: unknown peer 'kears'. Did you mean 'keras'? Known: fastai, keras, pytorch, torchvision, visus."),
        ("pytorch/smal", "--with: unknown network 'smal'. Did you mean 'small'? Known: classifier, same, small."),
        ("visus/small", "--with: visus takes its network from --model, not from a word after a stroke."),
        ("keras:many", "--with: 'keras:many' does not end with a number of epochs. Write it as keras:5."),
        ("keras:0", "--with: 'keras:0' does not end with a number of epochs. Write it as keras:5."),
        ("keras,keras", "--with: keras is named twice. Name each once."),
        (
            "kears,keras:x",
            "--with: 2 mistakes:\n  - unknown peer 'kears'. Did you mean 'keras'? Known: fastai, keras, pytorch, torchvision, visus.\n"
            "  - 'keras:x' does not end with a number of epochs. Write it as keras:5.",
        ),
    ],
)
def test_names_that_cannot_be_used_are_refused_together(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_contestants(text)
    assert str(error.value) == message


def test_a_plan_that_cannot_be_used_is_refused_whole() -> None:
    with pytest.raises(UsageError) as error:
        Plan(93, (), seeds=(1, 1), device="mps")
    assert str(error.value) == (
        "3 mistakes:\n  - the target is a share of the held-out samples above 0 and up to 1, such as 0.93, not 93.\n"
        "  - seeds are different whole numbers from 0 on, such as 0,1,2.\n"
        "  - a benchmark runs on auto, cpu or cuda, not on 'mps'."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        Plan(0.9, (), device="cuda")
    assert str(error.value) == "there is no CUDA device here. Use --device cpu, or leave it out."


# ---- what is done ----


@pytest.mark.usefixtures("all_installed")
def test_trainings_are_interleaved_by_seed(told: list[dict[str, Any]], photos: Path, tmp_path: Path) -> None:
    plan = Plan(0.9, read_contestants("pytorch,keras"), seeds=(0, 7))
    benchmark(photos, plan, output=tmp_path)
    order = [(task["peer"], task["seed"]) for task in told]
    assert order == [("visus", 0), ("pytorch", 0), ("keras", 0), ("visus", 7), ("pytorch", 7), ("keras", 7)]


def test_peers_get_all_samples_that_visus_does_not_hold_out(
    told: list[dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    data = visus.open_data(photos)
    benchmark(data, Plan(0.9, read_contestants("pytorch"), seeds=(0,)), output=tmp_path)
    arrays = told[0]["arrays"]
    assert len(arrays["train_samples"]) == len(data.split("train")) + len(data.split("val"))
    assert arrays["test_samples"].shape == (len(data.split("test")), *data.input_shape)
    test = data.split("test")
    assert (arrays["test_samples"] == test.pixels[test.indices]).all()
    rows = {sample.tobytes() for sample in arrays["train_samples"]}
    assert not rows & {sample.tobytes() for sample in arrays["test_samples"]}


@pytest.mark.usefixtures("all_installed", "told")
def test_the_result_reports_machine_command_times_and_ratios(photos: Path, tmp_path: Path) -> None:
    plan = Plan(0.9, read_contestants("pytorch"), seeds=(0, 2), threads=1, device="cpu")
    result = benchmark(photos, plan, output=tmp_path, command="python benchmarks/peer_benchmark.py photos")
    facts = json.loads((result.folder / "benchmark.json").read_text())
    assert facts == json.loads(json.dumps(result.to_json()))
    assert (facts["command"], facts["device"], facts["threads"]) == ("python benchmarks/peer_benchmark.py photos", "cpu", 1)
    assert facts["machine"]["packages"]["torch"] == torch.__version__
    own, other = facts["contestants"]
    assert (own["name"], own["reached"]["seconds"], own["reached"]["from_start_s"], own["times_visus"]) == (
        "visus",
        2.0,
        3.0,
        1.0,
    )
    assert (other["reached"]["seconds"], other["reached"]["seconds_low"], other["reached"]["seconds_high"]) == (
        21.0,
        20.0,
        22.0,
    )
    assert other["times_visus"] == pytest.approx(10.5)
    assert [len(row["runs"]) for row in facts["contestants"]] == [2, 2]
    with Image.open(result.folder / "accuracy.png") as image:
        assert min(image.size) > 400


@pytest.mark.usefixtures("told")
def test_a_result_is_never_overwritten(photos: Path, tmp_path: Path) -> None:
    folders = [benchmark(photos, Plan(0.9, read_contestants("visus"), seeds=(0,)), output=tmp_path).folder for _ in range(2)]
    assert [folder.name for folder in folders] == [f"benchmark-{photos.name}", f"benchmark-{photos.name}-2"]


def test_the_result_is_on_disk_after_each_training(told: list[dict[str, Any]], photos: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def look(event: object) -> None:
        if isinstance(event, benchmarking.RunDone):
            facts = json.loads((tmp_path / f"benchmark-{photos.name}" / "benchmark.json").read_text())
            seen.append(len(facts["contestants"][0]["runs"]))

    benchmark(photos, Plan(0.9, read_contestants("visus"), seeds=(0, 1, 2)), output=tmp_path, tell=look)
    assert seen == [1, 2, 3]


def test_a_failed_training_reaches_nothing_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    def timed_run(task: dict[str, Any], *_: object) -> tuple[Curve, dict[str, str]]:
        points = (Point(1, 2.0, 0.1, 0.95),)
        if task["peer"] == "visus" or task["seed"] == 0:
            return Curve(task["seed"], 1.0, 4.0, "schedule", points), {}
        return Curve(task["seed"], 1.0, 4.0, "failed", points, "no paper"), {}

    monkeypatch.setattr(benchmarking, "timed_run", timed_run)
    result = benchmark(photos, Plan(0.9, read_contestants("pytorch"), seeds=(0, 1)), output=tmp_path)
    assert [one.reached(0.9) is not None for one in result.raced] == [True, False]
    assert result.to_json()["contestants"][1]["runs"][1]["problem"] == "no paper"


def test_signals_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "sounds.npz", x=rng.normal(size=(40, 1, 50)).astype(np.float32), y=np.arange(40) % 2)
    with pytest.raises(DataError) as error:
        benchmark(tmp_path / "sounds.npz", Plan(0.9, read_contestants("visus")), output=tmp_path)
    assert error.value.message == (
        "a benchmark needs images of 8 bits, and this data holds float32 signals of 1 x 50: "
        "what the peers' documents train is made for images."
    )


def test_a_place_that_cannot_be_written_is_reported(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        benchmark(photos, Plan(0.9, read_contestants("visus")), output=tmp_path / "file")
    assert error.value.message == "the folder for the result cannot be made: File exists. Name another place with --output."


def test_data_that_was_opened_is_trained_on_as_it_was_opened(
    told: list[dict[str, Any]], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    stand_in = benchmarking.timed_run
    monkeypatch.setattr(
        benchmarking,
        "timed_run",
        lambda task, *rest: (seen.append(visus_loop.open_as_told(Task(**task))), stand_in(task, *rest))[1],
    )
    data = dataclasses.replace(
        visus.open_data(photos, img_size=7, channels=1, resize_mode="pad", split_seed=5), is_varied=True
    )
    benchmark(data, Plan(0.9, read_contestants("visus"), seeds=(0,)), output=tmp_path)
    (again,) = seen
    assert again.preprocessing == data.preprocessing
    assert (again.fingerprint, again.is_varied) == (data.fingerprint, True)
    for name in ("train", "val", "test"):
        assert again.split(name).names == data.split(name).names
    test = again.split("test")
    assert (told[0]["arrays"]["test_samples"] == test.pixels[test.indices]).all()


def test_data_that_is_scored_whole_is_refused(run: Path, other_photos: Path, tmp_path: Path) -> None:
    whole = visus.load(run).open_data(other_photos)
    with pytest.raises(DataError) as error:
        benchmark(whole, Plan(0.9, read_contestants("visus")), output=tmp_path)
    assert error.value.message == (
        "this data was opened to be scored whole, and a benchmark trains. Open it with visus.open_data, or give its path."
    )


@pytest.mark.usefixtures("told")
def test_the_result_says_that_everybody_begins_with_new_weights(
    peer_benchmark: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--target", 0.9, "--with", "visus", "--seeds", "0", "-o", tmp_path, "-q")
    small = peer_benchmark(photos, *words).out
    assert "everybody begins with new weights and has the same images of 3 x 10 x 10.\n" in small
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: Path("weights.pth"))
    for label in ("one", "two"):
        (tmp_path / "large" / label).mkdir(parents=True)
        for number in range(12):
            values = np.full((130, 140, 3), 10 * number + (label == "two"), np.uint8)
            Image.fromarray(values).save(tmp_path / "large" / label / f"{number}.png")
    large = peer_benchmark(tmp_path / "large", *words).out
    told = (
        "everybody begins with new weights and has the same images of 3 x 96 x 96; "
        "visus train alone would begin with the ImageNet weights of EfficientNet-Lite0 on this data, at 160 x 160."
    )
    assert f"{told}\n" in large
    assert json.loads((tmp_path / "benchmark-large" / "benchmark.json").read_text())["weights"] == told


# ---- the command ----


@pytest.mark.usefixtures("told")
def test_the_command_prints_a_row_for_each_and_names_what_is_left_out(
    peer_benchmark: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        benchmark_entries.importlib.util, "find_spec", lambda name: None if name == "keras" else ModuleSpec(name, None)
    )
    answer = peer_benchmark(
        photos, "--target", 0.9, "--with", "pytorch,keras", "--seeds", "0,1", "--threads", 1, "-o", tmp_path
    )
    assert answer.code == 0
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert lines[0].startswith("time to 90.0 % on the held-out test samples of")
    assert lines[0].endswith("mean of 2 seeds, 1 thread, cpu")
    assert lines[2] == "visus 2 s 2 s to 2 s 0.2 s 3 s 1.00 90.0 %"
    assert lines[3] == "pytorch 20 s 20 s to 21 s 0.2 s 22 s 10.25 90.0 %"
    assert "left out: keras is not installed. Install it with: pip install keras" in lines
    assert lines[-1].startswith("result: ")
    assert "[4/4] pytorch, seed 1: its epochs are done" in answer.err
    assert "visus, seed 0: 90.0 % after epoch 2, 2 s (evaluating: 0.2 s)" in answer.err


@pytest.mark.usefixtures("told")
def test_the_command_is_silent_when_quiet_and_prints_one_object_as_json(
    peer_benchmark: Call, photos: Path, tmp_path: Path
) -> None:
    answer = peer_benchmark(photos, "--target", 0.95, "--with", "visus", "-q", "--json", "-o", tmp_path)
    facts = json.loads(answer.out)
    assert answer.err == ""
    assert facts["contestants"][0]["reached"] is None
    assert facts["contestants"][0]["best_accuracy"] == 0.9


@pytest.mark.usefixtures("told")
def test_what_was_not_reached_is_said(peer_benchmark: Call, photos: Path, tmp_path: Path) -> None:
    answer = peer_benchmark(photos, "--target", 0.95, "--with", "visus", "-q", "-o", tmp_path)
    assert ["visus", "not", "reached", "90.0", "%"] in [line.split() for line in answer.out.splitlines()]


def test_data_of_ones_own_needs_a_target(peer_benchmark: Call, photos: Path) -> None:
    answer = peer_benchmark(photos)
    assert (answer.code, answer.err) == (
        2,
        "error: --target is needed for data of your own: the accuracy to reach on the held-out samples, such as 0.93.\n",
    )


def test_the_command_hands_recipe_and_network_to_visus(
    peer_benchmark: Call, told: list[dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text("epochs: 3\n")
    words = [
        "--recipe",
        tmp_path / "recipe.yaml",
        "--model",
        "mlp(8)",
        "--device",
        "cpu",
        "--seeds",
        "4",
        "-o",
        tmp_path,
        "-q",
    ]
    peer_benchmark(photos, "--target", 0.9, "--with", "visus", *words)
    assert told[0]["design"] == "mlp(8)"
    assert visus.Recipe.from_yaml(told[0]["recipe"]) == visus.Recipe(epochs=3)
    assert (told[0]["seed"], told[0]["device"]) == (4, "cpu")


@pytest.mark.slow
def test_visus_and_pytorch_are_trained_for_true(peer_benchmark: Call, photos: Path, tmp_path: Path) -> None:
    answer = peer_benchmark(photos, "--target", 0.6, "--with", "visus:3,pytorch:3", "--seeds", "0", "-o", tmp_path, "--json")
    facts = json.loads(answer.out)
    assert [(row["name"], row["runs"][0]["problem"]) for row in facts["contestants"]] == [
        ("visus, 3 epochs", ""),
        ("pytorch, 3 epochs", ""),
    ]
    assert all(row["runs"][0]["points"] for row in facts["contestants"])


@pytest.mark.parametrize("num_done", [0, 1])
def test_a_benchmark_says_what_it_has(
    num_done: int, photos: Path, tmp_path: Path, peer_benchmark: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(num_done))

    def timed_run(task: dict[str, Any], *_: Any) -> tuple[Curve, dict[str, str]]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return Curve(task["seed"], 1.0, 4.0, "schedule", ()), {}

    monkeypatch.setattr("peers.benchmark.timed_run", timed_run)
    answer = peer_benchmark(photos, "--target", 0.9, "--with", "visus", "-q", "-o", tmp_path)
    told = (
        f"stopped; 1 of 3 trainings were done, and are in the newest folder benchmark-... in {tmp_path}. A benchmark cannot be gone on "
        "with: run the command again."
    )
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == (
        told if num_done else "stopped before a training was done: nothing is lost. Run the command again."
    )
