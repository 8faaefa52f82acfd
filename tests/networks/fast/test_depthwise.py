"""Convolutions of single channels and norms by stored statistics: the sums against float64, the bits the same again, PyTorch's wherever somebody looks."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import visus
from visus.networks.fast import Autotuner, Plan, autotuner, compiler, eligibility, fusion, speed_up
from visus.networks.fast import stored_norms as stored_norms_room
from visus.networks.fast.autotuner import ConvProblem, is_supported
from visus.networks.fast.convolutions import convolve, forward_by_plan
from visus.networks.fast.depthwise import depthwise_forward, depthwise_input_gradient, depthwise_weight_gradient
from visus.networks.fast.stored_norms import StoredNorm, convolve_and_normalize, stored_norm_and_activation
from visus.networks.fast.windows import TapGeometry

pytestmark = pytest.mark.usefixtures("compiled_kernels")
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda maps: maps,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
LAYERS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "none": nn.Identity,
}
DEPTHWISE = Plan("depthwise", "depthwise", "depthwise")


class Always(Autotuner):
    """A memory that has every convolution of single channels computed by the kernels."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/choices.json"))
        self.asked: list[ConvProblem] = []

    def plan(self, case: ConvProblem) -> Plan:
        self.asked.append(case)
        return DEPTHWISE if case.supports_depthwise else Plan()


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps are taken too."""
    monkeypatch.setattr(eligibility, "MIN_VALUES", 1)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed together, call by call."""
    calls: list[str] = []

    def counted(name: str, say: Callable[..., str]) -> None:
        real = getattr(fusion, name)
        monkeypatch.setattr(fusion, name, lambda *given: (calls.append(say(*given)), real(*given))[1])

    counted("stored_norm_and_activation", lambda *given: f"norm, {given[2]}")
    counted("convolve_and_normalize", lambda *given: f"conv, norm, {given[5]}")
    return calls


def maps_of(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random maps in bfloat16, channels last whatever their shape."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.empty(shape, dtype=torch.bfloat16, memory_format=torch.channels_last).copy_(numbers)


def relative(found: torch.Tensor, true: torch.Tensor) -> float:
    """Norm of the error by the norm of the truth."""
    return float((found.detach().double() - true.detach()).norm() / true.detach().norm().clamp_min(1e-30))


def each_way(maps: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, window: TapGeometry) -> list[torch.Tensor]:
    """Output and both gradients by the kernels."""
    return [
        depthwise_forward(maps, weight, window),
        depthwise_input_gradient(gradient, maps, weight, window),
        depthwise_weight_gradient(gradient, maps, weight, window),
    ]


def by_pytorch(
    kind: torch.dtype, maps: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, window: TapGeometry
) -> list[torch.Tensor]:
    """The same by PyTorch in another type."""
    given = [each.to(kind).requires_grad_() for each in (maps.detach(), weight.detach())]
    out = F.conv2d(*given, stride=window.stride, padding=window.padding, groups=maps.shape[1])
    return [out.detach(), *torch.autograd.grad(out, given, gradient.to(kind))]


# ------------------------------------------------------------------------------------------------------------- depthwise


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 40, 48, 70]),
    taps=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    more=st.tuples(st.integers(0, 20), st.integers(0, 40)),
    seed=st.integers(0, 99),
)
def test_a_depthwise_convolution_is_that_of_float64_to_the_rounding_of_bfloat16(
    samples: int, channels: int, taps: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    more: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    size = [max(1, num - 2 * pad) + extra for num, pad, extra in zip(taps, padding, more, strict=True)]
    window = TapGeometry(stride, padding)
    maps = maps_of(samples, channels, *size, seed=seed)
    weight = torch.randn(channels, 1, *taps, generator=torch.Generator().manual_seed(seed + 1))
    out = [(side + 2 * pad - num) // by + 1 for side, pad, num, by in zip(size, padding, taps, stride, strict=True)]
    gradient = maps_of(samples, channels, *out, seed=seed + 2)
    true = by_pytorch(torch.float64, maps, weight, gradient, window)
    found = each_way(maps, weight, gradient, window)
    for name, mine, exact, bound in zip(("output", "maps", "weight"), found, true, (2**-8, 2**-8, 1e-5), strict=True):
        assert mine.shape == exact.shape
        assert relative(mine, exact) <= bound, name


@pytest.mark.parametrize(("channels", "side", "taps", "stride"), [(40, 15, 3, 2), (96, 14, 5, 1), (48, 12, 7, 2)])
def test_a_depthwise_convolution_errs_no_more_than_pytorch_in_bfloat16(
    channels: int, side: int, taps: int, stride: int
) -> None:
    window = TapGeometry((stride, stride), (taps // 2, taps // 2))
    maps, weight = maps_of(4, channels, side, side), torch.randn(channels, 1, taps, taps)
    gradient = maps_of(4, channels, *[-(-side // stride)] * 2, seed=1)
    true, theirs = (by_pytorch(kind, maps, weight, gradient, window) for kind in (torch.float64, torch.bfloat16))
    for mine, other, exact in zip(each_way(maps, weight, gradient, window), theirs, true, strict=True):
        assert relative(mine, exact) <= 1.05 * relative(other, exact)


def test_a_large_map_is_cut_into_bands_that_fit_together() -> None:
    for window in (TapGeometry((1, 1), (2, 2)), TapGeometry((2, 2), (2, 2))):
        maps, weight = maps_of(1, 33, 130, 130), torch.randn(33, 1, 5, 5)
        gradient = maps_of(1, 33, *[130 // window.stride[0]] * 2, seed=1)
        true = by_pytorch(torch.float64, maps, weight, gradient, window)
        for mine, exact, bound in zip(each_way(maps, weight, gradient, window), true, (2**-8, 2**-8, 1e-5), strict=True):
            assert relative(mine, exact) <= bound


def test_the_bits_are_the_same_again_and_with_any_number_of_threads() -> None:
    maps, weight = maps_of(5, 80, 33, 31), torch.randn(80, 1, 5, 5)
    window, gradient = TapGeometry((2, 2), (2, 2)), maps_of(5, 80, 17, 16, seed=1)
    stored = stored_of(80)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 1, 2, 3):
            torch.set_num_threads(threads)
            norm = [each.detach().clone().requires_grad_() for each in (maps, stored.weight, stored.bias)]
            out = stored_norm_and_activation(
                norm[0], StoredNorm(norm[1], norm[2], stored.mean, stored.variance, 1e-3), "relu6"
            )
            of_norm = torch.autograd.grad(out, norm, maps)
            found.append([*each_way(maps, weight, gradient, window), out.detach(), *of_norm])
    finally:
        torch.set_num_threads(before)
    for first, *others in zip(*found, strict=True):
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["maps", "gradient", "weight"])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_infinite_or_nan_comes_out_where_pytorch_s_does(stride: int, place: str, value: float) -> None:
    window = TapGeometry((stride, stride), (2, 2))
    given = {
        "maps": maps_of(2, 37, 13, 13),
        "weight": torch.randn(37, 1, 5, 5),
        "gradient": maps_of(2, 37, *[-(-13 // stride)] * 2, seed=1),
    }
    given[place][(3, 0, 1, 2) if place == "weight" else (1, 3, 4, 4)] = value
    maps, weight, gradient = given["maps"], given["weight"], given["gradient"]
    true = by_pytorch(torch.float32, maps, weight, gradient, window)
    for name, mine, theirs in zip(("output", "maps", "weight"), each_way(maps, weight, gradient, window), true, strict=True):
        lost = ~theirs.isfinite() & mine.isfinite()
        assert not lost.any(), name
        if place != "weight":  # a tap that is NaN reaches the zeros around the map too
            assert torch.equal(mine.isfinite(), theirs.isfinite()), name


def test_a_planned_depthwise_convolution_has_gradients_of_gradients() -> None:
    maps = maps_of(2, 6, 9, 9).requires_grad_()
    weight = torch.randn(6, 1, 3, 3, requires_grad=True)
    window = TapGeometry((2, 2), (1, 1))

    def twice(out: torch.Tensor) -> list[torch.Tensor]:
        (first,) = torch.autograd.grad(out.float().square().sum(), maps, create_graph=True)
        return [first.detach(), *torch.autograd.grad(first.float().square().sum(), (maps, weight))]

    found = twice(convolve(maps, weight, window, DEPTHWISE))
    exact = twice(F.conv2d(maps.float(), weight, stride=2, padding=1, groups=6))
    for mine, true in zip(found, exact, strict=True):
        assert relative(mine, true.double()) < 0.02


# ---------------------------------------------------------------------------------------------------------- stored norms


def stored_of(channels: int, seed: int = 0, eps: float = 1e-3) -> StoredNorm:
    """A norm with random gains, shifts and statistics."""
    generator = torch.Generator().manual_seed(seed)
    gain, variance = (torch.rand(channels, generator=generator) + 0.5 for _ in range(2))
    shift, mean = (torch.randn(channels, generator=generator) for _ in range(2))
    return StoredNorm(gain, shift, mean, variance, eps)


def norm_by_pytorch(
    kind: torch.dtype, maps: torch.Tensor, stored: StoredNorm, activation: str, gradient: torch.Tensor
) -> list[Any]:
    """Output and gradients of the maps, gains and shifts by PyTorch in another type."""
    weights = torch.float64 if kind == torch.float64 else torch.float32
    given = [
        maps.detach().to(kind).requires_grad_(),
        *(each.detach().to(weights).requires_grad_() for each in stored.tensors[:2]),
    ]
    statistics = [each.to(weights) for each in stored.tensors[2:]]
    out = StoredNorm(given[1], given[2], statistics[0], statistics[1], stored.eps).by_pytorch(given[0], activation)
    return [out.detach(), *torch.autograd.grad(out, given, gradient.to(kind))]


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 4),
    channels=st.integers(1, 70),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 99),
)
def test_a_stored_norm_with_its_activation_is_as_exact_as_the_two_of_pytorch(
    samples: int, channels: int, size: tuple[int, int], activation: str, seed: int
) -> None:
    maps, gradient = (maps_of(samples, channels, *size, seed=seed + each) for each in range(2))
    stored = stored_of(channels, seed)
    given = [each.detach().clone().requires_grad_() for each in (maps, *stored.tensors[:2])]
    out = stored_norm_and_activation(
        given[0], StoredNorm(given[1], given[2], stored.mean, stored.variance, stored.eps), activation
    )
    found = [out.detach(), *torch.autograd.grad(out, given, gradient)]
    true, theirs = (norm_by_pytorch(kind, maps, stored, activation, gradient) for kind in (torch.float64, torch.bfloat16))
    for mine, other, exact in zip(found, theirs, true, strict=True):
        assert mine.shape == exact.shape
        error, least = (
            float((mine.double() - exact).norm()),
            2**-8 * float(exact.norm()) + 1e-5 * float(gradient.double().norm()),
        )
        assert error <= max(1.5 * float((other.double() - exact).norm()), least)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("taps", [1, 5])
@pytest.mark.parametrize("is_steep", [False, True])
def test_behind_a_convolution_a_stored_norm_has_the_gradients_of_pytorch(taps: int, activation: str, is_steep: bool) -> None:
    stored, channels = stored_of(40), 40
    if is_steep:  # a shift that hides what was before the norm, and a gain of none
        stored.bias[3], stored.weight[3], stored.weight[5] = 1.0, 1e-4, 0.0
    weight = torch.randn(channels, 1 if taps > 1 else channels, taps, taps, generator=torch.Generator().manual_seed(0)) / 5
    maps, window, plan = maps_of(4, 40, 14, 14), TapGeometry((1, 1), (taps // 2,) * 2), DEPTHWISE if taps > 1 else Plan()
    gradient = maps_of(4, 40, 14, 14, seed=1)

    def learned(function: Callable[..., torch.Tensor], kind: torch.dtype) -> list[torch.Tensor]:
        wide = torch.float64 if kind == torch.float64 else torch.float32
        given = [
            maps.detach().to(kind).requires_grad_(),
            *(each.detach().to(wide).requires_grad_() for each in (weight, *stored.tensors[:2])),
        ]
        statistics = [each.to(wide) for each in stored.tensors[2:]]
        out = function(given[0], given[1], StoredNorm(given[2], given[3], statistics[0], statistics[1], stored.eps))
        return [out.detach(), *torch.autograd.grad(out, given, gradient.to(kind))]

    def apart(maps: torch.Tensor, weight: torch.Tensor, stored: StoredNorm) -> torch.Tensor:
        between = F.conv2d(maps, weight.to(maps.dtype), padding=window.padding, groups=40 // weight.shape[1])
        return stored.by_pytorch(between, activation)

    def together(maps: torch.Tensor, weight: torch.Tensor, stored: StoredNorm) -> torch.Tensor:
        return convolve_and_normalize(maps, weight, window, plan, stored, activation)

    true, theirs = learned(apart, torch.float64), learned(apart, torch.bfloat16)
    for mine, other, exact in zip(learned(together, torch.bfloat16), theirs, true, strict=True):
        assert relative(mine, exact) <= max(1.5 * relative(other, exact), 0.01)


def test_behind_a_convolution_one_map_is_kept() -> None:
    kept: list[torch.Tensor] = []
    maps, stored = maps_of(2, 8, 6, 6).requires_grad_(), stored_of(8)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: (kept.append(each), each)[1], lambda each: each):
        out = convolve_and_normalize(maps, torch.randn(8, 1, 3, 3), TapGeometry((1, 1), (1, 1)), DEPTHWISE, stored, "relu6")
    assert {each.data_ptr() for each in kept if each.ndim == 4 and each.numel() == out.numel()} == {
        maps.data_ptr(),
        out.data_ptr(),
    }


def test_a_frozen_norm_behind_a_frozen_convolution_passes_the_gradient_alone() -> None:
    maps, stored, weight = maps_of(2, 8, 6, 6).requires_grad_(), stored_of(8), torch.randn(8, 1, 3, 3)
    out = convolve_and_normalize(maps, weight, TapGeometry((1, 1), (1, 1)), DEPTHWISE, stored, "relu6")
    (found,) = torch.autograd.grad(out, maps, torch.ones_like(out))
    true = maps.detach().double().requires_grad_()
    wide = StoredNorm(*(each.double() for each in stored.tensors), eps=stored.eps)  # type: ignore[misc]
    exact = wide.by_pytorch(F.conv2d(true, weight.double(), padding=1, groups=8), "relu6")
    assert relative(found, torch.autograd.grad(exact.sum(), true)[0]) < 0.15  # few numbers, some of them at an edge


# --------------------------------------------------------------------------------------------------------------- networks


def stack(activation: str = "relu6", bias: bool = False) -> nn.Sequential:
    """A block as those of EfficientNet-Lite, its norms by what they have stored."""
    torch.manual_seed(0)
    act = LAYERS[activation]
    network = nn.Sequential(
        *(nn.Conv2d(3, 40, 1, bias=bias), nn.BatchNorm2d(40), act()),
        *(nn.Conv2d(40, 40, 5, stride=2, padding=2, groups=40, bias=bias), nn.BatchNorm2d(40), act()),
        *(nn.Conv2d(40, 17, 1, bias=bias), nn.BatchNorm2d(17)),
    )
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            stored = stored_of(part.num_features, part.num_features)
            part.weight.data, part.bias.data, part.running_mean, part.running_var = stored.tensors
            part.eval()
    return network.to(memory_format=torch.channels_last)


def images(seed: int = 1) -> torch.Tensor:
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed)).contiguous(
        memory_format=torch.channels_last
    )


def twins(network: nn.Module) -> tuple[Any, Any]:
    """The network as it is, and a copy that is sped up."""
    return network, speed_up(copy.deepcopy(network), Always())


def in_bfloat16() -> contextlib.AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def learned(
    network: nn.Module, given: torch.Tensor, gradient: torch.Tensor, *, autocast: bool = True
) -> dict[str, torch.Tensor]:
    """Output, gradients and stored statistics of one batch."""
    given = given.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = network(given)
    out.backward(gradient.to(out.dtype))
    found = {"output": out.detach(), "images": given.grad, **dict(network.named_buffers())}
    return found | {name: weight.grad for name, weight in network.named_parameters()}


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """In the same type and shape, and the same but for a few roundings of bfloat16."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert relative(found, expected.double()) < 0.15


@pytest.mark.parametrize("activation", sorted(LAYERS))
@pytest.mark.parametrize("bias", [False, True])
def test_a_row_is_computed_together_and_learns_as_before(bias: bool, activation: str, joined: list[str]) -> None:
    usual, fast = twins(stack(activation, bias))
    gradient = torch.randn(4, 17, 6, 6, generator=torch.Generator().manual_seed(3))
    expected, found = learned(usual, images(), gradient), learned(fast, images(), gradient)
    start = "norm" if bias else "conv, norm"
    assert joined == [f"{start}, {activation}"] * 2 + [f"{start}, none"]
    for name, theirs in expected.items():
        assert_close(found[name], theirs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["images", "gradient", "0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "7.bias"])
@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "hardswish"])
def test_what_is_infinite_or_nan_comes_out_of_a_row_where_pytorch_s_does(activation: str, place: str, value: float) -> None:
    usual, fast = twins(stack(activation))
    given, gradient = images(), torch.randn(4, 17, 6, 6, generator=torch.Generator().manual_seed(3))
    for network in (usual, fast):
        weights = dict(network.named_parameters())
        if place in weights:
            with torch.no_grad():
                weights[place].flatten()[2] = value
    if place in ("images", "gradient"):
        {"images": given, "gradient": gradient}[place][1, 2, 3, 4] = value
    # PyTorch's own bfloat16 spreads what is NaN to positions that never read it, so its float32 is asked.
    expected, found = learned(usual, given, gradient, autocast=False), learned(fast, given, gradient)
    for name, theirs in expected.items():
        lost = ~theirs.isfinite() & found[name].isfinite()
        assert not lost.any(), f"{name}: {int(lost.sum())} of {int((~theirs.isfinite()).sum())} are finite"


def hooked(network: nn.Sequential, given: torch.Tensor) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    for part in (network[1], network[3], network[7]):
        part.register_forward_hook(lambda part, given, out: seen.append(out.detach().clone()))
    return [network(given), *seen]


LOOKS: dict[str, Callable[[Any, torch.Tensor], list[torch.Tensor]]] = {
    "hooks": hooked,
    "slices": lambda network, given: [network[:1](given), network[:2](given), network[:4](given), network[:5](given)],
    "parts": lambda network, given: [network[1](network[0](given))],
    "training": lambda network, given: [network.train()(given), network[1].running_mean],
    "a copy": lambda network, given: [copy.deepcopy(network)(given), copy.copy(network)(given)],
    "a file": lambda network, given: [pickle.loads(pickle.dumps(network))(given)],
    "no gradients": lambda network, given: [torch.no_grad()(network)(given), torch.inference_mode()(network)(given)],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_for_anyone_who_looks_into_the_row_sees_what_each_part_says(look: Callable[..., list[torch.Tensor]]) -> None:
    usual, fast = twins(stack())
    with in_bfloat16():
        expected, found = look(usual, images()), look(fast, images())
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs)


def test_a_row_has_gradients_of_gradients() -> None:
    def twice(network: nn.Module) -> list[torch.Tensor]:
        given = images().requires_grad_()
        with in_bfloat16():
            loss = network(given).float().square().mean()
        (first,) = torch.autograd.grad(loss, given, create_graph=True)
        first.square().sum().mul(1e4).backward()
        return [first.detach(), *(each.grad for each in network.parameters() if each.grad is not None)]

    usual, fast = twins(stack("silu"))
    for mine, theirs in zip(twice(fast), twice(usual), strict=True):
        assert float(F.cosine_similarity(mine.flatten(), theirs.flatten(), 0)) > 0.98


def test_a_norm_that_learns_its_statistics_goes_by_the_batch_with_relu6_and_hardswish_too() -> None:
    for activation in ("relu6", "hardswish"):
        usual, fast = twins(stack(activation).train())
        gradient = torch.randn(4, 17, 6, 6, generator=torch.Generator().manual_seed(3))
        expected, found = learned(usual, images(), gradient), learned(fast, images(), gradient)
        for name, theirs in expected.items():
            if name.startswith(("output", "7", "6")) or "running" in name:
                assert_close(found[name].float(), theirs.float())


def test_efficientnet_lite_has_its_blocks_computed_together(joined: list[str]) -> None:
    network = visus.network("efficientnet_lite(0)", (3, 32, 32), 10).eval().to(memory_format=torch.channels_last)
    memory = Always()
    speed_up(network, memory)
    with in_bfloat16(), torch.no_grad():
        network(torch.randn(1, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    num_norms = sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert len(joined) == num_norms
    assert set(joined) == {"conv, norm, relu6", "conv, norm, none"}


# ----------------------------------------------------------------------------------------------------------------- choices


def case(**changes: Any) -> ConvProblem:
    settings: dict[str, Any] = {
        "maps": (8, 48, 14, 14),
        "weight": (48, 1, 5, 5),
        "window": TapGeometry((2, 2), (2, 2)),
        "is_pooled": False,
        "threads": 1,
    }
    return ConvProblem(**(settings | changes))


def test_a_measurement_chooses_among_what_agrees_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert case().macs == 8 * 48 * 25 * 49
    found = autotuner.measured(case())
    assert found.weight_gradient == "depthwise"  # many times faster
    monkeypatch.setattr(autotuner, "_MAX_DEPTHWISE_ERROR", 0.0)
    assert autotuner.measured(case()) == Plan()
    assert autotuner.measured_forward(case(is_learned=False)) == Plan()


def test_without_kernels_everything_is_pytorch_s(monkeypatch: pytest.MonkeyPatch, joined: list[str]) -> None:
    for room in (autotuner, fusion, stored_norms_room):
        monkeypatch.setattr(room, "kernels", lambda: None)
    usual, fast = twins(stack())
    assert not case().supports_depthwise
    assert not is_supported(DEPTHWISE, case())
    with in_bfloat16():
        assert_close(fast(images()), usual(images()))
    assert joined == []


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": (48, 1, 9, 9)},
        {"weight": (96, 1, 3, 3)},
        {"weight": (48, 48, 3, 3)},
        {"maps": (8, 48, 1, 1), "weight": (48, 1, 7, 7), "window": TapGeometry((1, 1), (0, 0))},
    ],
)
def test_other_convolutions_are_left_to_others(changes: dict[str, Any]) -> None:
    assert not case(**changes).supports_depthwise


def test_a_choice_of_a_training_is_kept_by_name(tmp_path: Path) -> None:
    record = tmp_path / "arithmetic.json"
    asked = case(maps=(32, 48, 14, 14))
    chosen = Autotuner(tmp_path / "choices.json", record).plan(asked)
    assert chosen.weight_gradient == "depthwise"
    assert json.loads(record.read_text())["32x48x14x14 48x1x5x5 2x2 2x2 whole 1 threads"]["weight_gradient"] == "depthwise"
    assert Autotuner(tmp_path / "others.json", record).plan(asked) == chosen


def test_the_library_takes_its_name_from_all_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = compiler.source()
    for name in (*compiler._HEADERS, *compiler._UNITS):
        assert (compiler._FOLDER / name).read_bytes() in before
    assert sorted(path.name for path in compiler._FOLDER.iterdir() if path.suffix in (".cpp", ".h")) == sorted(
        (*compiler._HEADERS, *compiler._UNITS)
    )


@pytest.mark.parametrize(
    "run",
    [
        lambda: forward_by_plan(maps_of(1, 4, 5, 5), torch.ones(4, 1, 3, 3), TapGeometry((1, 1), (1, 1)), DEPTHWISE),
        lambda: stored_norm_and_activation(maps_of(1, 4, 5, 5), stored_of(4), "relu6"),
    ],
    ids=["depthwise", "norm"],
)
def test_a_kernel_without_memory_is_an_error_as_of_pytorch(
    run: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lacking:
        def __getattr__(self, asked: str) -> Any:
            return lambda *_: 1

    from visus.networks.fast import depthwise as depthwise_room

    for room in (depthwise_room, stored_norms_room):
        monkeypatch.setattr(room, "kernels", Lacking)
    with pytest.raises(torch.OutOfMemoryError, match="a compiled kernel could not allocate memory"):
        run()
