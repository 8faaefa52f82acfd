"""The figures on the page of benchmarks are those of the result files that it names."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def result(name: str) -> Any:
    """A result file, which the page names."""
    assert f"`{name}.json`" in PAGE
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def cells(first: str) -> list[str]:
    """The cells of the row that begins with ``first``."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def check_command(row: list[str], found: dict[str, Any]) -> None:
    """A row of whole commands against the runs of its result file."""
    accuracies = [run["accuracy"] for run in found["runs"]]
    seconds = [run["wall_s"] for run in found["runs"]]
    mean, low, high = (f"{100 * value:.1f} %" for value in (statistics.mean(accuracies), min(accuracies), max(accuracies)))
    several = len(accuracies) > 1
    assert row[1] == (f"{mean} ({low} to {high})" if several else mean)
    assert row[2] == (f"{min(seconds):,.0f} to {max(seconds):,.0f}" if several else f"{seconds[0]:,.0f}")
    assert row[3] == str(len(accuracies))


def test_whole_commands() -> None:
    check_command(cells("Fashion-MNIST"), result("2026-11-23-fashion_mnist")["results"][0])
    photos = {each["data"]: each for each in result("2026-11-23-pretrained")["results"]}
    check_command(cells("1,120 photos"), photos["photos_dog_cat"])
    check_command(cells("1,650 photos"), photos["photos_sign_digits"])
    check_command(cells("CIFAR-10"), result("2026-11-29-cifar10")["results"][0])


def test_images_per_second() -> None:
    found = {each["network"]: each["ways"] for each in result("2026-11-23-throughput")["results"] if each["threads"] == 2}
    for first, name in (("airbench94", "airbench94"), ("ResNet-18", "resnet18")):
        rates = [f"{way['pictures_per_second']:,.0f}" for way in found[name]]
        times = [f"{way['median_times_plain']:.1f} x" for way in found[name]]
        assert cells(first)[1:] == [rates[0], f"{rates[1]} ({times[1]})", f"{rates[2]} ({times[2]})"]


def test_beside_others() -> None:
    race = result("2026-11-23-time_to_accuracy-fashion-seeds0")
    row = cells("seconds to 93 %")
    assert row[0] == f"seconds to {100 * race['target']:.0f} % on Fashion-MNIST, limit {race['time_limit_s']:.0f} s"
    assert (row[1], row[3]) == (f"{race['verdict']['visus_s']:.0f}", str(len(race["seeds"])))
    others = [each for each in race["contestants"] if each["peer"] != "visus"]
    assert {each["peer"] for each in others} == {"pytorch", "fastai", "keras"}
    assert [each["reached"] for each in others] == [None] * len(others)
    means = result("2026-11-29-photos_clothing")["means"]
    ours, theirs = (
        f"{100 * means[name]['accuracy']['mean']:.1f} % in {means[name]['seconds']['mean']:.0f} s"
        for name in ("visus", "fastai")
    )
    assert cells("photos of clothes")[1:4] == [ours, f"fastai, one epoch: {theirs}", "1"]


def test_exactness() -> None:
    killed = result("2026-11-29-killed_and_resumed")
    assert killed["equal_bit_for_bit"]
    assert f"killed {killed['kills']} times" in cells("Does a training that was killed")[0]
    bulk = result("2026-11-30-bulk_prediction")
    assert f"{bulk['images']:,} predictions" in cells("Does a table of")[0]
    assert (bulk["tables_are_identical"], bulk["each_once"]) == (True, True)
    assert len(bulk["killed"]) == len(bulk["cluster"]) == 3
    zoo = result("2026-11-22-trace_zoo")
    assert zoo["num_failed"] == 0
    assert cells("How many of the")[1] == f"{zoo['num_traced']:,}"
    assert cells("For how many of them")[1] == f"{zoo['num_macs_equal']:,}"


def test_machines_and_versions() -> None:
    said = re.search(r"two cores of an (.*) processor with (.*), with Python (.*) and torch (\S*)\.\n", PAGE)
    assert said
    for name in ("2026-11-23-fashion_mnist", "2026-11-23-pretrained", "2026-11-29-cifar10", "2026-11-23-throughput"):
        found = result(name)
        assert (found["processor"], found["cores"], found["versions"]["python"]) == (said[1], 2, said[3])
        assert said[2] in found["features"]
        assert found["versions"]["torch"].partition("+")[0] == said[4]


def test_every_result_file_has_its_command() -> None:
    names = re.findall(r"`(2026-[\w-]+)\.json`", PAGE)
    assert len(names) > 5
    assert all(result(name)["command"] for name in names)
