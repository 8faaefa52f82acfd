"""``visus experiment task RUN``: the same network for another task, its filters and layers held against the run's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands import Call
from torch import nn

import visus
from visus.errors import TrainingError, UsageError
from visus.examine.similarity import LayerSimilarity, Matching
from visus.networks.autoencoder import Autoencoder
from visus.pages.tasks import OtherNetwork, TaskFacts
from visus.training.reconstruction import reconstruct
from visus.workbench.experiment.task import compare_tasks, first_filters

pytestmark = pytest.mark.usefixtures("light_pages")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on arrays whose two classes are bright at the top or at the bottom; a second labeling tells left from right."""
    root = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)
    y, side = rng.integers(0, 2, 120), rng.integers(0, 2, 120)
    x = rng.normal(0, 0.3, (120, 1, 8, 8)).astype(np.float32)
    for index in range(120):
        x[index, 0, 4 * y[index] : 4 * y[index] + 4] += 1
        x[index, 0, :, 4 * side[index] : 4 * side[index] + 4] += 1
    np.savez(root / "squares.npz", x=x, y=y)
    recipe = visus.Recipe(epochs=4, batch_size=16, precision="float32", learning_rate=0.01)
    design = "conv(6, 3, padding=1), relu, maxpool(2), flatten, linear(classes)"
    run = visus.train(root / "squares.npz", design, recipe, output=root / "runs")
    samples = run.open_data().samples.names
    numbers = [int(sample[sample.index("[") + 1 : -1]) for sample in samples]
    rows = [f'"{sample}",{"left" if side[number] else "right"}' for sample, number in zip(samples, numbers, strict=True)]
    (root / "sides.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return run.folder


def test_the_same_network_returns_the_samples_back(learned: Path) -> None:
    found = compare_tasks(visus.load(learned), "reconstruction")
    facts = found.facts
    assert [other.name for other in facts.others] == [
        "reconstruction of the samples", "the same labels from another start", "no training at all",
    ]  # fmt: skip
    assert [folder.name for folder in found.runs] == ["squares-reconstruction", "squares-seed-1"]
    assert facts.layer == "conv1"
    for other in facts.others:
        assert sorted(other.matching.partners) == list(range(6))
        # What stands behind the map that the samples are drawn from was not trained, so nothing is said of it.
        trained = ["conv1", "relu1", "pool1", *([] if other is facts.others[0] else ["flatten1", "linear1"])]
        assert [layer.path for layer in other.layers] == trained
    history = json.loads((found.runs[0] / "reconstruction.json").read_text())["history"]
    assert len(history) == 4
    assert history[-1]["explained"] > max(0, history[0]["explained"])
    page = found.page.read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "CKA with the run" in page
    assert json.loads(found.page.with_suffix(".json").read_text())["others"][0]["filters"]["mean_cosine"] == pytest.approx(
        facts.others[0].matching.mean
    )


@pytest.mark.slow
def test_another_task_parts_the_last_layers_and_the_same_task_does_not(learned: Path, visus_command: Call) -> None:
    answer = visus_command("experiment", "task", learned, "--task", learned.parent.parent / "sides.csv", "--quiet", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    other, control, fresh = found["others"]
    assert other["name"] == "the labels sides.csv"
    assert other["layers"]["linear1"] < 0.3 < 0.8 < control["layers"]["linear1"]
    assert fresh["result"] == ""
    assert found["sentences"][-1].startswith("The tasks differ most in ")
    told = visus_command("experiment", "task", learned, "--task", "reconstruction", "--no-control", "--quiet")
    assert told.code == 0
    assert "same labels from another start" not in told.out
    assert told.out.rstrip().splitlines()[-1].startswith("page: ")
    for text in ("conv1, CKA", "CKA: centered kernel alignment of the layers' outputs for "):
        assert text in told.out


def test_mistakes_are_reported(learned: Path, visus_command: Call, tmp_path: Path) -> None:
    answer = visus_command("experiment", "task", learned, "--task", "reconstuction")
    assert answer.code == 1
    assert answer.err.strip().endswith("'reconstuction' is neither a file nor a column of this data. Known columns: none.")
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 1, 8, 8))
    data = learned.parent.parent / "squares.npz"
    run = visus.train(data, module, visus.Recipe(epochs=1, precision="float32"), output=tmp_path)
    with pytest.raises(UsageError) as caught:
        compare_tasks(run, "reconstruction")
    assert str(caught.value) == (
        f"{run.folder}: another task needs the design of the network, and this run was trained with a Python object."
    )
    with pytest.raises(UsageError) as caught:
        first_filters(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(1, 1, 4, 4))
    assert str(caught.value) == "this network has no layer with filters, so there is nothing to compare."
    for stack in (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 2, 1))):
        with pytest.raises(UsageError) as caught:
            Autoencoder(stack, None, (1, 4, 4), 0)
        assert str(caught.value) == (
            "an autoencoder needs a layer with a map, and this layer has none. Name a convolution or a pool."
        )


@pytest.mark.parametrize("shape", [(2, 20), (3, 9, 7), (1, 6, 7, 8)])
def test_a_head_draws_samples_of_every_rank_and_begins_with_the_mean(shape: tuple[int, ...]) -> None:
    network = visus.network("conv(4, 3), relu, maxpool(2), globalpool, linear(classes)", shape, 3)
    drawing = Autoencoder(network, None, shape, seed=0)
    assert drawing.layer == "pool1"
    assert not drawing(torch.randn(2, *shape)).any()
    assert drawing(torch.randn(2, *shape)).shape == (2, *shape)


def test_a_loss_that_is_no_number_ends_the_training(learned: Path) -> None:
    from visus.workbench.train.preparing import prepare

    run = visus.load(learned)
    data = run.open_data()
    network = visus.network("conv(2, 3), globalpool, linear(classes)", (1, 8, 8), 2)
    drawing = Autoencoder(network, None, (1, 8, 8), seed=0)
    drawing.near_sample.bias.data.fill_(float("nan"))
    module, batches = prepare(drawing, data, run.recipe, run.machine)
    with pytest.raises(TrainingError) as caught:
        list(reconstruct(module, batches, data.split("val"), run.recipe, run.machine))
    assert str(caught.value) == (
        "the loss became nan in epoch 1 of the autoencoder's training. "
        "Train the run with a lower learning rate, and compare again."
    )


def test_layers_that_hardly_differ_are_told_with_the_least_difference_and_the_largest() -> None:
    cosines = Matching((0,), np.ones(1))

    def network(name: str, cka: float) -> OtherNetwork:
        return OtherNetwork(name, "", np.ones((1, 1, 3, 3)), cosines, (LayerSimilarity("conv1", cka),))

    def last_sentence(cka: float) -> str:
        others = (network("other", cka), network("same", 1.0), network("fresh", 0.1))
        return TaskFacts("run", "own", "", "conv1", np.ones((1, 1, 3, 3)), others, 9, "image").sentences()[-1]

    assert last_sentence(0.98) == (
        "No layer differs between the two tasks by 0.05 or more: each is about as similar to the run as after a second training for the same "
        "task. The largest difference is that of conv1, 0.98 against 1.00."
    )
    assert last_sentence(0.9) == "The tasks differ most in conv1: its CKA with the run is 0.90 for other and 1.00 for same."
