"""The fastest exact algorithm for a convolution: the sums against float64, the network unchanged, the choice remembered."""

from __future__ import annotations

import copy
import functools
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visus.networks.fast import (
    Autotuner,
    Plan,
    autotuner,
    compiler,
    eligibility,
    slow_down,
    speed_up,
    unoptimized,
    why_no_kernels,
)
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.fast.convolutions import convolve, taps_weight_gradient, winograd_backward, winograd_forward
from visus.networks.fast.norms import activate, norm_and_activation
from visus.networks.fast.windows import TapGeometry

needs_kernels = pytest.mark.usefixtures("compiled_kernels")
WINOGRAD = Plan("winograd", "winograd", "winograd")


def relative(found: torch.Tensor, true: torch.Tensor) -> float:
    """Norm of the error by the norm of the truth."""
    return float((found.detach().double() - true).norm() / true.norm())


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return maps.contiguous(memory_format=torch.channels_last)


def truth(maps: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """Output and both gradients in float64."""
    maps, weight = maps.double().requires_grad_(), weight.double().requires_grad_()
    out = F.conv2d(maps, weight, padding=padding)
    return [out.detach(), *torch.autograd.grad(out, (maps, weight), gradient.double())]


def by_pytorch(maps: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """The same in bfloat16, as PyTorch computes it."""
    maps, weight = maps.detach().requires_grad_(), weight.bfloat16().requires_grad_()
    out = F.conv2d(maps, weight, padding=padding)
    return [out.detach(), *torch.autograd.grad(out, (maps, weight), gradient)]


@needs_kernels
@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 5),
    channels=st.integers(1, 70),
    filters=st.integers(1, 70),
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    padding=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_winograd_is_the_convolution_to_three_times_the_rounding_of_bfloat16(
    samples: int, channels: int, filters: int, height: int, width: int, padding: int, seed: int
) -> None:
    maps = random_maps(samples, channels, height, width, seed=seed)
    weight = torch.randn(filters, channels, 3, 3, generator=torch.Generator().manual_seed(seed + 1))
    gradient = random_maps(samples, filters, height + 2 * padding - 2, width + 2 * padding - 2, seed=seed + 2)
    true = truth(maps, weight, gradient, padding)
    out, _ = winograd_forward(maps, weight, padding)
    found = [out, *winograd_backward(gradient, maps, weight, padding)]
    for name, mine, exact in zip(("output", "maps", "weight"), found, true, strict=True):
        assert mine is not None
        assert mine.shape == exact.shape
        # Sums of few terms may nearly cancel; then both ways are off by the rounding of the terms, which this bound knows.
        terms = {"output": 9 * channels, "maps": 9 * filters, "weight": exact.numel()}[name]
        assert relative(mine, exact) < 3 * 2**-8 * (1 if terms > 64 else 4), name


@needs_kernels
def test_winograd_errs_at_most_three_times_as_much_as_pytorch_in_bfloat16() -> None:
    for channels, filters, side in ((24, 64, 15), (64, 32, 8), (128, 96, 4)):
        maps, gradient = random_maps(4, channels, side, side), random_maps(4, filters, side, side, seed=1)
        weight = torch.randn(filters, channels, 3, 3, generator=torch.Generator().manual_seed(2))
        true, theirs = truth(maps, weight, gradient, 1), by_pytorch(maps, weight, gradient, 1)
        out, _ = winograd_forward(maps, weight, 1)
        mine = [out, *winograd_backward(gradient, maps, weight, 1)]
        for found, other, exact in zip(mine, theirs, true, strict=True):
            assert found is not None
            assert relative(found, exact) < 3 * relative(other, exact)


@needs_kernels
@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 40),
    filters=st.integers(1, 40),
    height=st.integers(4, 11),
    width=st.integers(4, 11),
    seed=st.integers(0, 99),
)
def test_a_pooled_convolution_returns_the_largest_of_each_four_and_its_gradient_goes_there(
    channels: int, filters: int, height: int, width: int, seed: int
) -> None:
    maps = random_maps(3, channels, height, width, seed=seed)
    weight = torch.randn(filters, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    whole, _ = winograd_forward(maps, weight, 1)
    pooled, argmax = winograd_forward(maps, weight, 1, is_pooled=True)
    assert argmax is not None
    assert torch.equal(pooled, F.max_pool2d(whole, 2))
    fours = F.unfold(whole.float().reshape(-1, 1, height, width)[..., : height // 2 * 2, : width // 2 * 2], 2, stride=2)
    fours = fours.reshape(*whole.shape[:2], 4, *pooled.shape[2:])
    assert torch.equal(fours.gather(2, argmax.long().unsqueeze(2)).squeeze(2).bfloat16(), pooled)
    gradient = random_maps(*pooled.shape, seed=seed + 1)
    spread = torch.zeros(whole.shape).reshape(*whole.shape[:2], height, width)
    for place in range(4):
        part = torch.where(argmax == place, gradient.float(), 0.0)
        spread[:, :, place // 2 : height // 2 * 2 : 2, place % 2 : width // 2 * 2 : 2] = part
    spread = spread.bfloat16().contiguous(memory_format=torch.channels_last)
    for fused, apart in zip(
        winograd_backward(gradient, maps, weight, 1, argmax=argmax), winograd_backward(spread, maps, weight, 1), strict=True
    ):
        assert fused is not None
        assert apart is not None
        torch.testing.assert_close(fused.float(), apart.float(), rtol=0.02, atol=0.02 * float(apart.float().abs().max()))


@needs_kernels
def test_winograd_returns_the_same_bits_again_and_the_same_sums_with_another_number_of_threads() -> None:
    maps, gradient = random_maps(9, 33, 9, 7), random_maps(9, 50, 9, 7, seed=1)
    weight = torch.randn(50, 33, 3, 3, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 1, 2, 2):
            torch.set_num_threads(threads)
            out, _ = winograd_forward(maps, weight, 1)
            found.append([out, *winograd_backward(gradient, maps, weight, 1)])
    finally:
        torch.set_num_threads(before)
    for first, again, two, twice in zip(*found, strict=True):
        assert torch.equal(first, again)
        assert torch.equal(two, twice)
        torch.testing.assert_close(first.float(), two.float(), rtol=1e-4, atol=1e-4 * float(first.float().abs().max()))


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 3), taps=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 2), length=st.integers(3, 7),
    channels=st.integers(1, 4), filters=st.integers(1, 4),
)  # fmt: skip
def test_the_gradient_by_taps_is_the_gradient_for_any_number_of_axes(
    rank: int, taps: int, stride: int, padding: int, length: int, channels: int, filters: int
) -> None:
    by_torch = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, channels, *range(length, length + rank), generator=generator, dtype=torch.float64)
    weight = torch.randn(filters, channels, *[taps] * rank, generator=generator, dtype=torch.float64).requires_grad_()
    out = by_torch(maps, weight, stride=stride, padding=padding)
    gradient = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (true,) = torch.autograd.grad(out, weight, gradient)
    found = taps_weight_gradient(gradient, maps, weight.shape, TapGeometry((stride,) * rank, (padding,) * rank))
    torch.testing.assert_close(found, true)


@pytest.mark.parametrize("name", ["onednn", "taps"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_planned_convolution_has_the_gradients_of_pytorch(rank: int, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, *[9] * rank, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(7, 5, *[3] * rank, generator=generator, requires_grad=True)
    by_torch = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    true = by_torch(maps.float(), weight, stride=2, padding=1)
    out = convolve(maps, weight, TapGeometry((2,) * rank, (1,) * rank), Plan(weight_gradient=name))
    assert relative(out, true.detach().double()) < 0.01
    for found, exact in zip(
        torch.autograd.grad(out, (maps, weight), torch.ones_like(out)),
        torch.autograd.grad(true, (maps, weight), torch.ones_like(true)),
        strict=True,
    ):
        assert found.dtype == exact.dtype
        assert relative(found, exact.double()) < 0.01


@needs_kernels
@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(2, 5),
    channels=st.integers(1, 70),
    side=st.integers(2, 9),
    activation=st.sampled_from(["none", "relu", "gelu", "silu"]),
    offset=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_a_norm_with_its_activation_is_as_exact_as_the_two_of_pytorch(
    samples: int, channels: int, side: int, activation: str, offset: float, seed: int
) -> None:
    maps = random_maps(samples, channels, side, side, seed=seed).add_(offset)
    gradient = random_maps(samples, channels, side, side, seed=seed + 1)
    generator = torch.Generator().manual_seed(seed)
    gain, shift = torch.rand(channels, generator=generator) + 0.5, torch.randn(channels, generator=generator)
    act = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu, "silu": F.silu}[activation]

    def by_pytorch(kind: torch.dtype) -> list[torch.Tensor]:
        weights = torch.float64 if kind == torch.float64 else torch.float32
        given = [each.to(to).requires_grad_() for each, to in ((maps, kind), (gain, weights), (shift, weights))]
        out = act(F.batch_norm(given[0], None, None, *given[1:], training=True))
        return [out.detach(), *torch.autograd.grad(out, given, gradient.to(kind))]

    given = [each.detach().clone().requires_grad_() for each in (maps, gain, shift)]
    out, mean, variance = norm_and_activation(*given, 1e-5, activation)
    found = [out.detach(), *torch.autograd.grad(out, given, gradient)]
    true = by_pytorch(torch.float64)
    torch.testing.assert_close(mean.double(), maps.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), maps.double().var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    for mine, theirs, exact in zip(found, by_pytorch(torch.bfloat16), true, strict=True):
        size = float(exact.norm()) + 1e-3 * float(
            gradient.double().norm()
        )  # a gradient that cancels is as exact as its terms
        error, other = float((mine.double() - exact).norm()), float((theirs.double() - exact).norm())
        assert error <= max(1.5 * other, 3e-3 * size)


@needs_kernels
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_an_activation_alone_is_that_of_float64_over_all_numbers_of_bfloat16(activation: str) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every[every.abs() < 1e4].reshape(1, -1, 1, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    act = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[activation]
    exact_in = every.detach().double().requires_grad_()
    exact = act(exact_in)
    (slope,) = torch.autograd.grad(exact.sum(), exact_in)
    out = activate(every, activation)
    (found,) = torch.autograd.grad(out.sum(), every)
    torch.testing.assert_close(out.detach().double(), exact.detach(), rtol=2**-8, atol=2e-6)
    torch.testing.assert_close(found.double(), slope, rtol=2**-8, atol=2e-6)


# ------------------------------------------------------------------------------------------------------------------ networks


class Fixed(Autotuner):
    """A memory that gives every convolution that can be computed so one plan."""

    def __init__(self, tmp_path: Path, plan: Plan = WINOGRAD) -> None:
        super().__init__(tmp_path / "choices.json")
        self.chosen = plan
        self.asked: list[ConvProblem] = []

    def plan(self, case: ConvProblem) -> Plan:
        self.asked.append(case)
        if not case.supports_winograd:
            return Plan()
        return copy.copy(self.chosen) if not case.is_pooled else Plan("winograd", "winograd", "winograd", is_pooled=True)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(24, 32, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.GELU())
    network = nn.Sequential(nn.Conv2d(3, 24, 2), nn.GELU(), block, nn.Conv2d(32, 40, 3, padding=1, bias=False), nn.ReLU())
    return (
        network.append(nn.AdaptiveAvgPool2d(1))
        .append(nn.Flatten())
        .append(nn.Linear(40, 5))
        .to(memory_format=torch.channels_last)
    )


def step(network: nn.Module) -> list[torch.Tensor]:
    """Loss and gradients of one batch in bfloat16."""
    network.zero_grad()
    inputs = torch.randn(8, 3, 17, 17, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(network(inputs).float(), torch.arange(8) % 5)
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None)]


@needs_kernels
def test_a_network_that_is_sped_up_learns_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "MIN_VALUES", 1)
    network, memory = small_network(), Fixed(tmp_path)
    usual = copy.deepcopy(network)
    before = step(usual)
    fast = speed_up(copy.deepcopy(network), memory)
    after = step(fast)
    assert type(fast[2][3]) is not nn.GELU
    for (name, mine), theirs in zip(fast.named_buffers(), usual.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.005, msg=name)
    assert {case.is_pooled for case in memory.asked} == {True, False}
    assert len(before) == len(after)
    for first, second in zip(before, after, strict=True):
        if first.ndim > 1:
            assert float(F.cosine_similarity(first.flatten(), second.flatten(), 0)) > 0.995
    torch.testing.assert_close(after[0], before[0], rtol=0.01, atol=0.01)


def test_speed_up_leaves_names_parameters_and_float32_alone(tmp_path: Path) -> None:
    network = small_network()
    inputs = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(0))
    expected, names = network.eval()(inputs), list(network.state_dict())
    fast = speed_up(network, Fixed(tmp_path))
    assert fast is network
    assert list(fast.state_dict()) == names
    assert isinstance(fast[0], nn.Conv2d)
    assert torch.equal(fast(inputs), expected)
    with torch.autocast("cpu", torch.bfloat16):  # a norm that does not learn its statistics is PyTorch's own
        close = fast(inputs.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(close.float(), expected, rtol=0.05, atol=0.02)


def test_plain_returns_pytorchs_own_layers_for_a_while_and_slow_down_for_good(tmp_path: Path) -> None:
    network = speed_up(small_network(), Fixed(tmp_path))
    kinds = [type(part) for part in network.modules()]
    with unoptimized(network) as same:
        assert same is network
        assert {type(part) for part in network.modules() if isinstance(part, nn.Conv2d)} == {nn.Conv2d}
        assert type(network[2][1]) is nn.MaxPool2d
        assert (type(network[2][2]), type(network[2][3]), type(network[4])) == (nn.BatchNorm2d, nn.GELU, nn.ReLU)
    assert [type(part) for part in network.modules()] == kinds
    slow_down(network)
    assert type(network[2][1]) is nn.MaxPool2d
    assert not any("_visus_autotuner" in part.__dict__ for part in network.modules())


def test_a_copy_asks_the_same_memory(tmp_path: Path) -> None:
    network = speed_up(small_network(), Fixed(tmp_path))
    assert copy.deepcopy(network)[0]._visus_autotuner is network[0]._visus_autotuner


@needs_kernels
@pytest.mark.parametrize(
    "pair",
    [
        (nn.Conv2d(3, 4, 3), nn.MaxPool2d(3)),
        (nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, stride=1)),
        (nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)),
        (nn.Conv2d(3, 4, 3, stride=2), nn.MaxPool2d(2)),
        (nn.Conv2d(4, 4, 3, groups=2), nn.MaxPool2d(2)),
        (nn.Conv2d(3, 4, 3, dilation=2), nn.MaxPool2d(2)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.MaxPool2d(2)),
        (nn.Conv2d(3, 4, 3, padding="same"), nn.MaxPool2d(2)),
    ],
    ids=lambda pair: f"{pair[0]}, {pair[1]}",
)
def test_only_a_plain_halving_behind_a_plain_convolution_is_computed_with_it(
    pair: tuple[nn.Module, ...], tmp_path: Path
) -> None:
    maps, memory = random_maps(2, pair[0].in_channels, 9, 9), Fixed(tmp_path)  # type: ignore[arg-type]
    network = nn.Sequential(*pair).bfloat16()
    expected = network(maps)
    found = speed_up(network, memory)(maps)
    assert not any(case.is_pooled for case in memory.asked)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


# -------------------------------------------------------------------------------------------------------------------- memory


def case(**changes: Any) -> ConvProblem:
    settings: dict[str, Any] = {
        "maps": (16, 32, 16, 16),
        "weight": (32, 32, 3, 3),
        "window": TapGeometry((1, 1), (1, 1)),
        "is_pooled": False,
        "threads": 1,
    }
    return ConvProblem(**(settings | changes))


def test_a_case_knows_its_size_and_its_multiply_adds() -> None:
    assert case().size == (16, 16)
    assert case().macs == 16 * 32 * 32 * 9 * 16 * 16
    strided = case(window=TapGeometry((2, 2), (0, 0)))
    assert strided.size == (7, 7)
    assert not strided.supports_winograd


def test_what_was_measured_is_remembered_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, calls = tmp_path / "deep" / "choices.json", []

    def measure(case: ConvProblem) -> Plan:
        calls.append(case)
        return Plan(weight_gradient="taps")

    monkeypatch.setattr(autotuner, "measured", measure)
    assert Autotuner(file).plan(case()) == Plan(weight_gradient="taps")
    assert Autotuner(file).plan(case()) == Plan(weight_gradient="taps")
    assert len(calls) == 1
    assert list(json.loads(file.read_text())) == ["16x32x16x16 32x32x3x3 1x1 1x1 whole 1 threads"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"forward": "magic"}}', '{"a": {"speed": 3}}'])
def test_a_spoilt_memory_is_measured_anew(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan())
    file = tmp_path / "choices.json"
    file.write_text(content)
    assert Autotuner(file).plan(case()) == Plan()
    assert "16x32" in file.read_text()


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan(weight_gradient="taps"))
    (tmp_path / "file").write_text("")
    assert Autotuner(tmp_path / "file" / "choices.json").plan(case()) == Plan(weight_gradient="taps")


def test_a_training_goes_on_with_the_choices_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan(weight_gradient="taps"))
    record = tmp_path / "run" / "arithmetic.json"
    assert Autotuner(tmp_path / "machine.json", record).plan(case()) == Plan(weight_gradient="taps")
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan())
    assert Autotuner(tmp_path / "other.json", record).plan(case()) == Plan(weight_gradient="taps")
    assert Autotuner(tmp_path / "other.json").plan(case()) == Plan()


def test_after_the_deadline_nothing_is_measured_and_the_run_keeps_pytorchs_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, record = tmp_path / "machine.json", tmp_path / "run" / "arithmetic.json"
    assert Autotuner(machine, record, until=time.perf_counter()).plan(case()) == Plan()
    assert not machine.exists()
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan(weight_gradient="taps"))
    assert Autotuner(machine, record).plan(case()) == Plan()
    assert Autotuner(machine).plan(case()) == Plan(weight_gradient="taps")


def test_a_deadline_ends_a_measurement_between_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, late_s, runs = time.perf_counter, [0.0], []

    def slow(*given: Any) -> torch.Tensor:
        late_s[0] += 1.0
        runs.append(given)
        return torch.zeros(1)

    monkeypatch.setattr(time, "perf_counter", lambda: real() + late_s[0])
    monkeypatch.setattr(autotuner, "convolve", slow)
    began = time.perf_counter()
    assert Autotuner(tmp_path / "machine.json", until=began + 3.5).plan(case()) == Plan()
    assert len(runs) <= 8  # two directions are set up before the first is timed
    assert not (tmp_path / "machine.json").exists()


def test_a_recorded_choice_that_this_machine_cannot_carry_out_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: WINOGRAD)
    record = tmp_path / "arithmetic.json"
    Autotuner(tmp_path / "machine.json", record).plan(case())
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan())
    monkeypatch.setattr(autotuner, "kernels", lambda: None)
    assert Autotuner(tmp_path / "other.json", record).plan(case()) == Plan()


def test_small_sums_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: pytest.fail("measured"))
    assert Autotuner(tmp_path / "choices.json").plan(case(maps=(1, 32, 16, 16))) == Plan()


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_measurement_returns_a_plan_that_can_be_carried_out(is_pooled: bool) -> None:
    found = autotuner.measured(case(is_pooled=is_pooled))
    maps, weight = random_maps(8, 32, 16, 16), torch.randn(32, 32, 3, 3)
    out = convolve(maps, weight, TapGeometry((1, 1), (1, 1)), found)
    assert out.shape[-1] == (8 if found.is_pooled else 16)
    assert found.is_pooled <= is_pooled


def test_measuring_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    autotuner.measured(case(maps=(2, 8, 8, 8), weight=(8, 8, 3, 3)))
    assert torch.equal(torch.rand(2), expected)


# ------------------------------------------------------------------------------------------------------------------ compiler


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The compiler asked anew, with an empty cache folder."""
    monkeypatch.setenv("VISUS_CACHE", str(tmp_path))
    monkeypatch.delenv("VISUS_KERNELS", raising=False)
    monkeypatch.setattr(compiler, "_library", compiler._library.__wrapped__)
    monkeypatch.setattr(compiler, "_has_instructions", lambda: True)
    monkeypatch.setattr(compiler.platform, "machine", lambda: "x86_64")
    return tmp_path


def test_without_the_instructions_the_reason_is_said(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_has_instructions", lambda: False)
    assert why_no_kernels() == "this processor has no AVX-512 BF16"
    assert compiler.kernels() is None


def test_without_a_compiler_it_is_said_what_is_missing(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    assert why_no_kernels() == "there is no C++ compiler (c++, g++ or clang++); install one, or set CXX"


def test_kernels_can_be_switched_off(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_KERNELS", "off")
    assert why_no_kernels() == "the environment variable VISUS_KERNELS turns them off"


def test_compiling_ends_with_its_time_and_is_tried_again_with_more(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = forgetful / "slow"
    slow.write_text('#!/bin/sh\necho begun >> "$0.log"\nexec sleep 20\n')
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setattr(compiler, "_library", functools.cache(compiler._library))
    monkeypatch.setattr(compiler._Allowed, "seconds", 1.0)
    compiler.allow_compiling(0.0)
    assert why_no_kernels() == compiler.TOO_LATE
    assert not (forgetful / "slow.log").exists()
    compiler.allow_compiling(0.3)
    began = time.perf_counter()
    assert why_no_kernels() == compiler.TOO_LATE
    assert time.perf_counter() - began < 10
    assert (forgetful / "slow.log").exists()
    slow.write_text("#!/bin/sh\nexit 1\n")
    compiler.allow_compiling()
    assert why_no_kernels().startswith(f"{slow} could not compile them")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = forgetful / "failing"
    failing.write_text("#!/bin/sh\necho 'kernels.cpp:1: error: no such thing' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    assert why_no_kernels() == f"{failing} could not compile them: kernels.cpp:1: error: no such thing"
    assert not list((forgetful / "kernels").iterdir())


@needs_kernels
@pytest.mark.long
def test_kernels_are_compiled_once(forgetful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_kernels() == ""
    (library,) = (forgetful / "kernels").glob("*.so")
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compiler.kernels() is not None
    assert math.isfinite(library.stat().st_mtime)
