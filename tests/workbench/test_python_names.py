"""The names that Python shares with the command line: check, solve, diff, cached_data and the experiments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visus
from visus.errors import UsageError


def test_solve_takes_any_unknown_and_checks_all_five() -> None:
    assert visus.solve(input_size=224, kernel_size=7, padding=3, stride=2).minimum == 112
    assert [each.stride for each in visus.solve(input_size=32, kernel_size=3, padding=1, output_size=16)] == [2]
    assert not visus.solve(input_size=2, kernel_size=5, padding=0, stride=1)
    right = visus.solve(input_size=224, kernel_size=7, padding=3, stride=2, output_size=112)
    assert right.is_right
    assert repr(right).splitlines()[0] == "Size equation: right"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"field": 20, "stride": 2, "dilation": 2}, "stride, dilation cannot be given with field. Leave them out."),
        ({"network": "lenet5", "stride": 2}, "network cannot be given with the numbers of a window. Leave it out."),
        ({"field": 0}, "the receptive field must be at least 1 px, not 0."),
        (
            {"field": 20, "network": "torch.nn:ReLU"},
            "torch.nn:ReLU: ways to a receptive field need a design, and this is the name of a Python callable.",
        ),
    ],
)
def test_solve_refuses_what_plays_no_part(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        visus.solve(**given)
    assert str(caught.value) == said


def test_check_takes_opened_data_and_paths(photos: Path) -> None:
    data = visus.open_data(photos, img_size=8)
    opened, of_path = visus.check(data).to_json(), visus.check(photos, img_size=8).to_json()
    assert of_path["begins"].startswith("a training would start from a new network. ImageNet weights are not used")
    assert opened == of_path
    with pytest.raises(UsageError) as caught:
        visus.check(data, img_size=8, pretrained=False)
    assert str(caught.value) == "img_size, pretrained cannot be given with opened data. Give its path, or leave it out."


def test_diff_names_the_networks_and_their_totals() -> None:
    found = visus.diff("lenet5", "resnet18", (3, 32, 32), 10)
    assert found.names == ("lenet5", "resnet18")
    assert (found.left.num_parameters, found.right.num_parameters) == (62_006, 11_173_962)
    assert found.to_json()["right"]["num_parameters"] == 11_173_962
    long = ", ".join(["conv(8, 3, padding=1), relu"] * 4)
    assert visus.diff(long, "relu", (3, 32, 32)).names == ("the first network", "relu")


def test_cached_data_lists_and_removes(photos: Path, tmp_path: Path) -> None:
    visus.open_data(photos, cache_dir=tmp_path)
    found = visus.cached_data(cache_dir=tmp_path)
    assert [entry.source for entry in found.entries] == [str(photos)]
    assert found.num_bytes == sum(file.stat().st_size for file in found.entries[0].folder.iterdir())
    assert visus.cached_data(older_than="1h", cache_dir=tmp_path).entries == ()
    assert visus.cached_data(gone=True, cache_dir=tmp_path).entries == ()


def test_compare_and_experiments_take_folders(run: Path, tmp_path: Path) -> None:
    assert visus.compare(run, run).pairs[0].answers.differing == ()
    found = visus.experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10)
    assert [each.kind for each in found] == ["the design", "equal width", "equal output", "equal parameters"]
    with pytest.raises(UsageError) as caught:
        visus.experiment.mlp(run, num_classes=3)
    assert str(caught.value) == "num_classes cannot be given with a run. Leave it out."
    with pytest.raises(UsageError) as caught:
        visus.experiment.mlp("lenet5", device="cpu")
    assert str(caught.value) == "device cannot be given with a network. Leave it out."
    with pytest.raises(UsageError) as caught:
        visus.experiment.antialias(str(run))
    assert str(caught.value).endswith(
        "this network has no flatten and no stride to change, or is not a design: there is nothing to train."
    )


def test_a_check_prints_what_is_on_the_ledger(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(12):
            pixels = np.random.default_rng([number, len(name), name == "cat"]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    for copy in ("one.png", "two.png"):
        shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "cat" / copy)
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    (tmp_path / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    found = visus.check(tmp_path, max_unreadable=0.2)
    counts = found.data.ledger.counts
    assert {"unreadable", "duplicate"} <= counts.keys()
    line = next(line for line in repr(found).splitlines() if line.strip().startswith("ledger"))
    assert line.split(maxsplit=1)[1].startswith(f"{sum(counts.values())} entries: ")
    for action, count in counts.items():
        assert f"{action} ({count})" in line
