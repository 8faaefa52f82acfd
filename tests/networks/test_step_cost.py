"""What a step costs is measured once and remembered, and measuring changes nothing.

It must not assume how fast the machine is.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from visus.networks import step_cost as prices_room
from visus.networks.fast import Plan
from visus.networks.fast import autotuner as choices_room
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.machine import Machine
from visus.networks.step_cost import MAX_SAMPLES, StepConfig, StepCost, StepCosts, measured

CPU = Machine(torch.device("cpu"), "float32", False, "float32: asked for")
FAST = Machine(torch.device("cpu"), "bfloat16", True, "bfloat16: asked for")


def work(**changes: Any) -> StepConfig:
    settings: dict[str, Any] = {
        "network": "conv(8, 3),\n globalpool, linear(3)",
        "input_shape": (3, 12, 12),
        "batch_size": 16,
        "sides": (0.5, 1.0),
        "machine": CPU,
        "optimizer": "sgd",
        "is_sped_up": False,
    }
    return StepConfig(**(settings | changes))


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return module, torch.optim.SGD(module.parameters(), lr=0.1)


def never() -> tuple[nn.Module, torch.optim.Optimizer]:
    pytest.fail("measured again")


def test_a_price_is_measured_at_each_side_and_is_a_time() -> None:
    found = measured(work(), *made())
    assert len(found.sample_s) == 2
    assert all(0 < seconds < 1 for seconds in (*found.sample_s, found.update_s))


def test_steps_cost_their_samples_at_the_mean_of_the_sides_and_an_update_each() -> None:
    price = StepCost((1.0, 2.0, 6.0), 10.0)
    assert price.steps_s(1, 1) == 13
    assert price.steps_s(7, 5) == 7 * (5 * 3 + 10)


def test_the_network_is_seen_at_each_side_with_at_most_so_many_samples() -> None:
    seen = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            assert self.training
            seen.append((*maps.shape, maps.is_contiguous(memory_format=torch.channels_last)))
            return self.linear(maps.mean((2, 3)))  # type: ignore[no-any-return]

    for batch_size, machine in ((4, CPU), (1_000, FAST)):
        module = Watched()
        measured(work(batch_size=batch_size, machine=machine), module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert set(seen) == {
        *((4, 3, 6, 6, False), (4, 3, 12, 12, False)),
        *((MAX_SAMPLES, 3, 6, 6, True), (MAX_SAMPLES, 3, 12, 12, True)),
    }


def test_convolutions_are_those_that_the_training_will_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[ConvProblem] = []

    def plan(case: ConvProblem) -> Plan:
        cases.append(case)
        return Plan(weight_gradient="taps")

    monkeypatch.setenv("VISUS_CACHE", str(tmp_path))
    monkeypatch.setattr(choices_room, "measured", plan)
    for is_sped_up, num_filters in ((True, 32), (False, 40)):  # a shape that was measured is remembered
        module = nn.Sequential(nn.Conv2d(3, num_filters, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        measured(work(batch_size=2_000, machine=FAST, is_sped_up=is_sped_up, sides=(1.0,)), module, optimizer)
    assert [case.maps for case in cases] == [(2_000, 3, 12, 12)]


def test_a_deadline_ends_a_measurement_with_estimates_that_are_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late_s, seen = time.perf_counter, [0.0], list[int]()

    class Slow(nn.Linear):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            seen.append(len(maps))
            late_s[0] += 0.1 * len(maps)
            return super().forward(maps.mean((2, 3)))

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = Slow(3, 2)
        return module, torch.optim.SGD(module.parameters(), lr=0.1)

    monkeypatch.setattr(time, "perf_counter", lambda: real() + late_s[0])
    file, slow = tmp_path / "prices.json", work(batch_size=100)
    # the few fit, then whole batches at the smaller size
    for seconds, samples in ((20.0, [8, 8]), (32.0, [8, 8, 100, 100])):
        seen.clear()
        found = StepCosts(file).cost(slow, make, time.perf_counter() + seconds)
        assert seen == samples
        assert found.is_rough
        assert found.sample_s == pytest.approx((0.1, 0.4), rel=0.2)  # the larger size has four times the values
        assert not file.exists()
    assert not StepCosts(file).cost(slow, make, time.perf_counter() + 1e4).is_rough
    assert file.exists()


def test_a_price_is_remembered_on_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "prices.json"
    first = StepCosts(file).cost(work(), made)
    assert StepCosts(file).cost(work(), never) == first
    assert list(json.loads(file.read_text())) == [
        "3x12x12; batches of 16; sides 0.5, 1; cpu float32 channels first; 1 threads; sgd; PyTorch's convolutions; "
        "conv(8, 3), globalpool, linear(3)"
    ]


def test_prices_lie_next_to_the_choices_of_the_same_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_CACHE", str(tmp_path))
    assert StepCosts().file.name == choices_room.Autotuner().file.name.replace("choices", "prices")
    assert StepCosts().file.parent == choices_room.Autotuner().file.parent


@pytest.mark.parametrize(
    "change",
    [
        *({"network": "conv(9, 3)"}, {"input_shape": (3, 12, 13)}, {"batch_size": 17}, {"sides": (1.0,)}),
        *({"machine": FAST}, {"machine": dataclasses.replace(CPU, channels_last=True)}),
        *({"optimizer": "muon"}, {"is_sped_up": True}, {"threads": 2}),
    ],
)
def test_other_work_has_a_price_of_its_own(change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter((StepCost((1.0,), 1.0), StepCost((2.0,), 2.0)))
    monkeypatch.setattr(prices_room, "measured", lambda *_: next(found))
    costs = StepCosts(tmp_path / "prices.json")
    costs.cost(work(), made)
    if "threads" in change:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        change = {}
    assert costs.cost(work(**change), made) == StepCost((2.0,), 2.0)
    assert len(json.loads(costs.file.read_text())) == 2


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", '{"KEY": 1}', '{"KEY": {"sample_s": [], "update_s": 1}}', '{"KEY": {"sample_s": [1]}}', "\xff"),
        *('{"KEY": {"sample_s": ["fast"], "update_s": 1}}', '{"KEY": {"sample_s": [NaN], "update_s": 1}}'),
        '{"KEY": {"sample_s": [1], "update_s": -1}}',
    ],
)
def test_a_spoilt_list_is_measured_anew(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_room, "measured", lambda *_: StepCost((1.0,), 2.0))
    file = tmp_path / "prices.json"
    file.write_text(content.replace("KEY", str(work())), encoding="latin-1")
    assert StepCosts(file).cost(work(), made) == StepCost((1.0,), 2.0)
    assert StepCosts(file).cost(work(), never) == StepCost((1.0,), 2.0)


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert math.isfinite(StepCosts(tmp_path / "file" / "prices.json").cost(work(), made).update_s)


def test_measuring_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    StepCosts(tmp_path / "prices.json").cost(work(), made)
    assert torch.equal(torch.rand(2), expected)
