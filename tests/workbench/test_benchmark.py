"""``visus.benchmark``: real times of every way to compute, in turns, with outputs beside those of plain PyTorch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import Call
from torch import Tensor, nn

import visus
from visus import timing
from visus.errors import UsageError
from visus.networks.machine import Machine
from visus.timing import take_turns
from visus.workbench.benchmark import modules, ways
from visus.workbench.benchmark.result import PLAIN, PREDICTION, TRAINING, Agreement, Benchmark, Timing

NETWORK = "conv(4, 3), norm, relu, globalpool, linear(classes)"
BFLOAT16 = Machine(torch.device("cpu"), "bfloat16", True, "bfloat16: for this test")


def measured(network: Any = NETWORK, shape: Any = (3, 8, 8), num_classes: int | None = 3, **options: Any) -> Benchmark:
    return visus.benchmark(network, shape, num_classes, **{"batch_size": 8, "rounds": 2, "device": "cpu", **options})


# ---- turns ----


def test_works_take_turns_and_every_second_round_goes_the_other_way() -> None:
    said: list[str] = []
    seconds = take_turns([lambda: said.append("a"), lambda: said.append("b")], rounds=3, calls=[1, 2])
    assert "".join(said) == "abb" + "bba" + "abb"
    assert [len(each) for each in seconds] == [3, 3]


def test_the_time_limit_ends_the_rounds_and_one_is_measured_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    assert [len(each) for each in take_turns([int], until=-1.0)] == [1]
    assert [len(each) for each in take_turns([int], until=-1.0, min_rounds=3)] == [3]


def test_a_round_counts_the_median_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 5.0, 5.0, 6.0, 6.0, 8.0])  # calls of 5, 1 and 2 seconds
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    assert take_turns([int], rounds=1, calls=[3]) == [[2.0]]


# ---- results ----


def test_every_way_is_measured_for_one_sample_a_batch_and_a_training_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "suited", lambda *_: BFLOAT16)
    monkeypatch.setattr(ways, "why_no_kernels", lambda: "they are turned off")
    found = measured()
    assert found.works == ((PREDICTION, 1), (PREDICTION, 8), (TRAINING, 8))
    names = [PLAIN, "PyTorch, bfloat16, channels last"]
    assert [(each.way, each.work, each.batch_size) for each in found.timings] == [
        (way, *work) for work in found.works for way in names
    ]
    assert all(len(each.seconds) == found.num_rounds == 2 and min(each.seconds) > 0 for each in found.timings)
    assert found.left_out == (("kernels of visus, bfloat16", "they are turned off"),)
    assert found.num_parameters == 131
    assert found.samples == "256 random samples of a normal distribution"


def test_outputs_are_compared_with_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "suited", lambda *_: BFLOAT16)
    monkeypatch.setattr(ways, "why_no_kernels", lambda: "they are turned off")
    plain, rounded = measured().agreements
    assert plain == Agreement(PLAIN, 0.0, plain.largest_output, 1.0)
    assert 0 < rounded.relative_difference < 0.05  # bfloat16 has 8 bits
    assert rounded.same_labels is not None
    assert rounded.same_labels > 0.8


def test_a_wrong_way_is_seen_in_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Negated(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            return -self.module(x)

    find = ways.find_ways

    def with_wrong(*given: Any, **options: Any) -> Any:
        found, left_out = find(*given, **options)
        return [*found[:1], ways.Way("wrong", found[0].machine, Negated)], left_out

    monkeypatch.setattr(modules, "find_ways", with_wrong)
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), num_classes=None)
    wrong = found.agreements[1]
    assert wrong.relative_difference == pytest.approx(2.0, abs=0.01)
    assert wrong.same_labels == 0.0
    assert "the same label for 0.0 % of the samples" in repr(found)


def test_a_network_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    measured(module, num_classes=None)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert all(value.grad is None for value in module.parameters())


@pytest.mark.long
def test_threads_are_set_for_the_measurement_alone() -> None:
    before = torch.get_num_threads()
    assert measured(threads=2).threads == 2
    assert torch.get_num_threads() == before


def test_what_fails_is_left_out_with_the_reason() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    found = measured(module, num_classes=None, batch_size=1)
    assert [each.work for each in found.timings if each.way == PLAIN] == [PREDICTION]
    failed = dict(found.left_out)[f"{TRAINING}, batch 1, {PLAIN}"]
    assert failed.startswith("ValueError: Expected more than 1 value per channel when training")
    assert f"not measured: {TRAINING}, batch 1, {PLAIN}: {failed}" in found.text()


def test_maps_are_measured_without_labels() -> None:
    found = measured(nn.Conv2d(3, 4, 3), num_classes=None)
    assert [each.work for each in found.timings if each.way == PLAIN] == [PREDICTION, PREDICTION]
    assert found.agreements[0].same_labels is None


def test_a_run_is_measured_on_its_held_out_samples(run: Path) -> None:
    found = visus.benchmark(run, batch_size=4, rounds=1, device="cpu", engines=())
    assert found.samples == "12 held-out images"
    assert (found.name, found.notes) == (run.name, ())
    assert found.input_shape == (3, 10, 10)


def test_a_run_whose_data_is_gone_is_measured_on_random_samples(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise visus.VisusError("it is gone.")

    monkeypatch.setattr(visus.Run, "open_data", gone)
    found = visus.benchmark(visus.load(run, device="cpu"), batch_size=4, rounds=1, device="cpu", engines=())
    assert found.samples == "256 random samples of a normal distribution"
    assert found.notes == ("The run's data could not be opened, so random samples were used: it is gone.",)


def test_the_time_limit_counts_the_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(rounds=50, time_limit_s=1e-6).num_rounds == 1


def test_rates_and_differences_are_as_computed() -> None:
    each = Timing(PLAIN, PREDICTION, 10, (1.0, 2.0, 5.0))
    assert (each.samples_per_second, each.spread) == (5.0, (2.0, 10.0))
    assert Agreement("other", 0.5, 0.0, None).relative_difference == math.inf
    assert Agreement("other", math.nan, 1.0, 0.5).to_json()["largest_difference"] is None


def benchmark_of(**seconds: tuple[float, ...]) -> Benchmark:
    """A result with these seconds of predictions, by way; ``plain`` is eager PyTorch."""
    timings = tuple(Timing(PLAIN if way == "plain" else way, PREDICTION, 8, each) for way, each in seconds.items())
    agreements = tuple(Agreement(each.way, 0.0, 1.0, 1.0) for each in timings)
    machine = {"processor": "a processor", "packages": {"torch": "2"}}
    rounds = len(timings[0].seconds)
    return Benchmark("net", (3, 8, 8), 1, "cpu", 1, rounds, timings, agreements, "samples", (), machine)


@pytest.mark.parametrize(
    ("seconds", "said", "row"),
    [
        (
            {"plain": (4.0, 4.0, 4.0), "other": (1.0, 2.0, 3.0)},
            "prediction, batch 8: other is the fastest, 2 times as fast as eager PyTorch in float32 (samples per second, medians of 3 rounds)",
            "4 samples/s: other, 2 times as fast as eager PyTorch in float32",
        ),
        (
            {"plain": (4.0, 4.0, 2.0), "other": (1.0, 2.0, 3.0)},
            "prediction, batch 8: no way is faster than eager PyTorch in float32 in every round",
            "4 samples/s: other",
        ),
        (
            {"plain": (4.0,), "other": (1.0,)},
            "1 round: no ranking, which needs at least 3 rounds",
            "2 samples/s: PyTorch, float32 (1 round: no ranking)",
        ),
    ],
)
def test_ways_are_ranked_after_several_rounds_only(seconds: dict[str, tuple[float, ...]], said: str, row: str) -> None:
    found = benchmark_of(**seconds)
    assert said in [str(line) for line in found.text()]
    assert f"prediction, batch 8  {row}\n" in repr(found)


# ---- mistakes ----


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (NETWORK, {"batch_size": 0}, "batch_size must be at least 1, not 0."),
        (NETWORK, {"rounds": 0}, "rounds must be at least 1, not 0."),
        (NETWORK, {"threads": -1}, "threads must be at least 1, not -1."),
        (NETWORK, {"time_limit_s": 0.0}, "time_limit_s must be above 0, not 0."),
        (
            nn.Flatten(),
            {"num_classes": 3},
            "num_classes cannot be given with a module, which has its own. Leave it out.",
        ),
        (
            TwoOutputs(),
            {"num_classes": None},
            "TwoOutputs: a benchmark needs a network that returns one tensor (samples, ...) of numbers, and this one returns a tuple.",
        ),
        (
            nn.Linear(4, 2),
            {"num_classes": None},
            "Linear: this network cannot take samples of 3 x 8 x 8: RuntimeError: mat1 and mat2 shapes cannot be multiplied (48x8 and 4x2).",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(network: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        measured(network, **options)
    assert str(caught.value) == said


def test_a_run_has_its_own_shape(run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.benchmark(run, (3, 8, 8))
    assert str(caught.value) == "input_shape cannot be given with a run, which has its own. Leave it out."


# ---- engines ----


@pytest.mark.slow
def test_a_run_is_exported_and_measured_in_every_engine(run: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = visus.benchmark(run, batch_size=4, threads=1, rounds=1, device="cpu", engines=["onnxruntime", "torch-program"])
    assert found.engines is not None
    assert [(each.engine, each.threads, each.batch_size) for each in found.engines.times] == [
        (name, 1, size) for size in (1, 4) for name in ("onnxruntime", "torch-program")
    ]
    assert all(each.is_within for each in found.engines.scores)
    assert {each.work for each in found.timings} == {PREDICTION, TRAINING}
    assert "engines: samples per second, latency in milliseconds" in found._repr_html_()


def test_a_run_without_the_packages_for_an_export_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.workbench.benchmark.measuring._EXPORT_PACKAGES", ("no_such_package",))
    found = visus.benchmark(run, batch_size=4, rounds=1, device="cpu")
    assert found.engines is None
    assert found.left_out[-1] == (
        "engines",
        "they need an export: pip install 'onnx>=1.18' 'onnxscript>=0.5' 'onnxruntime>=1.20'",
    )


@pytest.mark.slow
def test_the_command_measures_a_bundle(visus_command: Call) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from tests.ship import tiny_bundles

    words = ["benchmark", tiny_bundles.bundle(), "--threads", "1", "-b", "2", "--rounds", "1", "--engine", "onnxruntime"]
    answer = visus_command(*words)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0] == "tiny: engines, samples of 3 x 8 x 8"
    facts = json.loads(visus_command(*words, "--json").out)
    assert [each["batch_size"] for each in facts["engines"]["times"]] == [1, 2]
    refused = visus_command("benchmark", tiny_bundles.bundle(), "--input", "3,8,8")
    assert (refused.code, refused.err) == (2, "error: --input cannot be given with a bundle. Leave it out.\n")


# ---- the command ----


@pytest.mark.long
def test_the_command_prints_the_table_and_json(visus_command: Call, run: Path) -> None:
    words = ["benchmark", NETWORK, "--input", "3,8,8", "--classes", "3", "-b", "4", "--rounds", "1", "--device", "cpu"]
    answer = visus_command(*words)
    assert answer.code == 0
    assert answer.out.splitlines()[0] == f"{NETWORK}: 131 parameters, samples of 3 x 8 x 8"
    assert "prediction, batch 4" in answer.out.splitlines()[1]
    facts = json.loads(visus_command(*words, "--json").out)
    assert [each["batch_size"] for each in facts["timings"] if each["way"] == PLAIN] == [1, 4, 4]
    both = visus_command("benchmark", run, "--engine", "openvino", "--no-engines")
    assert (both.code, both.err) == (2, "error: --engine and --no-engines exclude each other. Use one of them.\n")
    refused = visus_command("benchmark", run, "--input", "3,8,8")
    assert (refused.code, refused.err) == (2, "error: --input cannot be given with a run. Leave it out.\n")


@pytest.mark.long
def test_it_prints_in_a_few_lines() -> None:
    found = measured()
    assert repr(found).count("\n") <= 7
    assert found._repr_html_().count("<table>") == 2
    assert [row[0] for row in found.text()[1].rows] == [each.way for each in found.agreements]  # type: ignore[union-attr]
