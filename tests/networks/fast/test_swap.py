"""A network that is sped up is PyTorch's wherever somebody looks: numbers that are none, types, parts, transforms, files."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as modules
from torch.utils.checkpoint import checkpoint

import visus
from visus.networks.fast import (
    Autotuner,
    Plan,
    autotuner,
    eligibility,
    fusion,
    is_sped_up,
    slow_down,
    speed_up,
)
from visus.networks.fast import compiler as compiler_room
from visus.networks.fast import layers as layers_room
from visus.networks.fast import norms as norms_room
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.fast.convolutions import winograd_backward, winograd_forward
from visus.networks.fast.norms import activate
from visus.networks.fast.windows import TapGeometry
from visus.networks.trace import trace

pytestmark = pytest.mark.usefixtures("compiled_kernels")
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Always(Autotuner):
    """A memory that has every convolution computed by Winograd where it can be, and its pooling with it."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/choices.json"))
        self.asked: list[ConvProblem] = []

    def plan(self, case: ConvProblem) -> Plan:
        self.asked.append(case)
        name = "winograd"
        return Plan(name, name, name, is_pooled=case.is_pooled) if case.supports_winograd else Plan()


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps are taken too."""
    monkeypatch.setattr(eligibility, "MIN_VALUES", 1)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed otherwise than by PyTorch, call by call."""
    calls: list[str] = []

    def counted(room: Any, name: str, say: Callable[..., str]) -> None:
        real = getattr(room, name)
        monkeypatch.setattr(room, name, lambda *given: (calls.append(say(*given)), real(*given))[1])

    counted(layers_room, "convolve", lambda *given: "conv, pool" if given[3].is_pooled else "conv")
    counted(layers_room, "activate", lambda *given: given[1])
    counted(fusion, "norm_and_activation", lambda *given: f"norm, {given[4]}")
    return calls


def stack(activation: str = "gelu", inplace: bool = False) -> nn.Sequential:
    """Two convolutions, one of them pooled, norms and activations: parts of every kind."""
    torch.manual_seed(0)
    act = (lambda: nn.ReLU(inplace)) if activation == "relu" else ACTIVATIONS[activation]
    network = nn.Sequential(
        *(nn.Conv2d(5, 16, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(16), act()),
        *(nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), act(), nn.Conv2d(24, 3, 1), act()),
    )
    return network.to(memory_format=torch.channels_last)


def batch(seed: int = 1) -> torch.Tensor:
    images = torch.randn(4, 5, 12, 12, generator=torch.Generator().manual_seed(seed))
    return images.contiguous(memory_format=torch.channels_last)


def twins(network: nn.Module) -> tuple[Any, Any]:
    """The network as it is, and a copy that is sped up."""
    return network, speed_up(copy.deepcopy(network), Always())


def in_bfloat16() -> contextlib.AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """In the same type and shape, and the same but for a few roundings of bfloat16, which may move the largest of four."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    mine, theirs = found.detach().double().flatten(), expected.detach().double().flatten()
    assert float(F.cosine_similarity(mine, theirs, 0)) > 0.98
    assert float(mine.norm()) == pytest.approx(float(theirs.norm()), rel=0.05)


# ---------------------------------------------------------------------------------------------- infinite, and not a number


def learned(network: nn.Module, images: torch.Tensor, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, gradients and stored statistics of one batch."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with in_bfloat16():
        out = network(images)
    out.backward(gradient.to(out.dtype))
    found = {"output": out.detach(), "images": images.grad, **dict(network.named_buffers())}
    return found | {name: weight.grad for name, weight in network.named_parameters()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["images", "gradient", "0.weight", "0.bias", "2.weight", "2.bias", "4.weight"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_what_is_infinite_or_no_number_comes_out_wherever_pytorch_s_does(activation: str, place: str, value: float) -> None:
    usual, fast = twins(stack(activation))
    images, gradient = batch(), torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    for network in (usual, fast):
        weights = dict(network.named_parameters())
        if place in weights:
            with torch.no_grad():
                weights[place][(0, 3, 1, 1) if weights[place].ndim == 4 else 3] = value
    if place in ("images", "gradient"):
        {"images": images, "gradient": gradient}[place][1, 2, 3, 4] = value
    expected, found = learned(usual, images, gradient), learned(fast, images, gradient)
    assert activation == "relu" or any(not each.isfinite().all() for each in expected.values())  # a shut ReLU holds it back
    for name, theirs in expected.items():
        lost = ~theirs.isfinite() & found[name].isfinite()
        assert not lost.any(), f"{name}: {int(lost.sum())} of {int((~theirs.isfinite()).sum())} are finite"


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_number_that_is_none_spreads_no_further_than_two_positions(is_pooled: bool, padding: int) -> None:
    torch.manual_seed(0)
    weight, images = torch.randn(7, 5, 3, 3), batch().bfloat16()
    images[2, 1, 6, 5] = float("nan")
    out, _ = winograd_forward(images, weight, padding, is_pooled)
    true = F.conv2d(images.double(), weight.double(), padding=padding)
    if is_pooled:
        true = F.max_pool2d(true, 2)
    theirs, mine = true.isnan(), out.isnan()
    assert (mine >= theirs).all()
    reach = F.max_pool2d(theirs.double(), 3 if is_pooled else 5, 1, 1 if is_pooled else 2)
    assert (mine <= reach.bool()).all()
    _, of_weight = winograd_backward(batch(2).bfloat16()[:, :1].expand(4, 7, 12, 12).contiguous(
        memory_format=torch.channels_last), images, weight, 1)  # fmt: skip
    assert of_weight is not None
    assert of_weight.isnan().any(dim=(0, 2, 3)).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_an_activation_alone_is_pytorch_s_for_every_number_of_bfloat16(activation: str) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every.reshape(1, 256, 16, 16).contiguous(memory_format=torch.channels_last)
    gradients = (torch.ones_like(every), torch.full_like(every, float("nan")))
    act = getattr(F, activation)
    for gradient in gradients:
        mine, theirs = (every.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
        found, expected = activate(mine, activation), act(theirs)
        found.backward(gradient)
        expected.backward(gradient)
        assert mine.grad is not None
        assert theirs.grad is not None
        for one, other in ((found.detach(), expected.detach()), (mine.grad, theirs.grad)):
            torch.testing.assert_close(one, other, rtol=2**-7, atol=2e-6, equal_nan=True)


def test_a_relu_that_works_in_place_does() -> None:
    maps = batch().bfloat16()
    out = speed_up(nn.ReLU(inplace=True), Always())(maps)
    assert out is maps
    assert float(maps.detach().min()) == 0


# ------------------------------------------------------------------------------------------------------- types and defaults


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "default",
    [lambda: default_dtype(torch.float64), lambda: default_dtype(torch.bfloat16), lambda: torch.device("meta")],
    ids=["float64", "bfloat16", "meta"],
)
def test_the_default_type_and_device_of_new_tensors_change_nothing(default: Callable[[], Any], computed: list[str]) -> None:
    _, fast = twins(stack())
    other = copy.deepcopy(fast)
    gradient = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    expected = learned(fast, batch(), gradient)
    assert {"conv, pool", "conv", "norm, gelu", "gelu"} == set(computed)
    images = batch()
    with default():
        found = learned(other, images, gradient)
    assert len(computed) == 2 * len(computed[: len(computed) // 2])
    for name, theirs in expected.items():
        assert torch.equal(found[name], theirs), name


@pytest.mark.parametrize(
    "default", [lambda: default_dtype(torch.bfloat16), lambda: torch.device("meta")], ids=["type", "device"]
)
@pytest.mark.parametrize("is_learned", [False, True])
def test_a_shape_is_measured_whatever_the_defaults_are(
    is_learned: bool, default: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotuner, "MIN_MACS", 1)
    network, images = speed_up(stack(), Autotuner(tmp_path / "choices.json")), batch()
    with default(), in_bfloat16(), torch.set_grad_enabled(is_learned):
        assert network(images).device.type == "cpu"


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("is_training", [False, True])
def test_a_norm_of_float32_maps_is_pytorch_s_to_the_bit(is_training: bool, autocast: bool) -> None:
    usual, fast = twins(nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()).train(is_training))
    images = batch() + 200
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, found = usual(images), fast(images)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(fast[0].running_var, usual[0].running_var)


def test_float64_is_left_alone_in_autocast() -> None:
    usual, fast = twins(stack().double())
    with in_bfloat16():
        expected, found = usual(batch().double()), fast(batch().double())
    assert found.dtype == torch.float64
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "images",
    [batch().bfloat16(), batch()[:, :4], batch()[0, :4], batch()[0, 0], batch()[:, :, :2, :2], torch.zeros(0, 5, 8, 8)],
    ids=["another type", "channels", "channels of one sample", "axes", "too small", "no samples"],
)
def test_what_pytorch_refuses_is_refused_and_what_it_returns_is_given(images: torch.Tensor) -> None:
    usual, fast = twins(nn.Sequential(nn.Conv2d(5, 4, 3), nn.MaxPool2d(2), nn.ReLU()))
    images = images.requires_grad_()

    def said(network: nn.Module) -> str:
        try:
            return str(network(images).shape)
        except (RuntimeError, ValueError) as error:
            return str(error)

    assert said(fast) == said(usual)


def test_a_norm_of_other_channels_is_refused() -> None:
    _, fast = twins(nn.Sequential(nn.BatchNorm2d(9), nn.ReLU()))
    with pytest.raises(RuntimeError, match="running_mean should contain 5 elements not 9"):
        fast(batch().bfloat16())


@pytest.mark.parametrize("autocast", [False, True])
def test_one_sample_without_a_batch_is_pytorch_s(autocast: bool) -> None:
    usual, fast = twins(stack().eval() if autocast else stack().bfloat16().eval())
    usual, fast = usual[:2], fast[:2]
    image = batch()[0] if autocast else batch()[0].bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(fast(image), usual(image))


# ------------------------------------------------------------------------------------------------------- what stands between


def each_part(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    found = [images]
    for part in network:
        found.append(part(found[-1]))
    return found


def hooked(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """What hooks see that were added after all else."""
    seen: list[torch.Tensor] = []
    for part in network:
        part.register_forward_hook(lambda _part, _given, out: seen.append(out.detach().clone()))
        part.register_forward_pre_hook(lambda _part, given: seen.append(given[0].detach().clone()))
    return [network(images), *seen]


def hooked_for_all(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    handle = modules.register_module_forward_hook(lambda _part, _given, out: seen.append(out.detach().clone()))
    try:
        return [network(images), *seen]
    finally:
        handle.remove()


def hooked_backwards(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    for part in network[:3]:
        part.register_full_backward_hook(lambda _part, _of, gradient: seen.append(gradient[0].clone()))
    out = network(images.requires_grad_())
    out.float().square().sum().backward()
    return [out, *seen]


def exchanged(index: int, make: Callable[[], nn.Module]) -> Callable[[Any, torch.Tensor], list[torch.Tensor]]:
    def look(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(5)
        network[index] = make()
        return [network(images)]

    return look


def override(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    network[1].forward = lambda maps: F.avg_pool2d(maps, 2)
    return [network(images)]


LOOKS: dict[str, Callable[[Any, torch.Tensor], list[torch.Tensor]]] = {
    "slices": lambda network, images: [network[:stop](images) for stop in range(1, 10)],
    "one part": lambda network, images: [network[0](images)],
    "each part": each_part,
    "sums of rows": lambda network, images: [(network[:1] + network[1:4])(images)],
    "hooks": hooked,
    "hooks for all modules": hooked_for_all,
    "backward hooks": hooked_backwards,
    "a norm of groups": exchanged(2, lambda: nn.GroupNorm(4, 16)),
    "no norm": exchanged(2, nn.Identity),
    "no pooling": exchanged(1, nn.Identity),
    "another convolution": exchanged(0, lambda: nn.Conv2d(5, 16, 5, padding=2)),
    "another activation": exchanged(3, nn.Tanh),
    "another forward": override,
    "norms of all processes": lambda network, images: [nn.SyncBatchNorm.convert_sync_batchnorm(network).eval()(images)],
    "a copy": lambda network, images: [copy.deepcopy(network)(images), copy.copy(network)(images)],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_for_anyone_who_looks_between_the_parts_sees_what_each_of_them_says(look: Callable[..., list[torch.Tensor]]) -> None:
    usual, fast = twins(stack())
    with in_bfloat16():
        expected, found = look(usual, batch()), look(fast, batch())
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs)


def test_a_part_in_two_places_is_computed_in_both() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 5, 3, padding=1)
    usual, fast = twins(nn.Sequential(conv, nn.MaxPool2d(2), conv, nn.ReLU(), conv))
    with in_bfloat16():
        assert_close(fast(batch()), usual(batch()))


def test_parts_may_have_any_names() -> None:
    named = nn.ModuleDict({name: nn.ReLU() for name in ("plain", "plan", "name")})
    network = nn.Sequential()
    for name, part in named.items():
        network.add_module(name, part)
    speed_up(network, Always())
    assert [network.plain, network.plan, network.name] == list(network)


def test_files_and_copies_of_a_network_are_those_of_pytorch() -> None:
    usual, fast = twins(stack())
    assert repr(fast) == repr(usual)
    assert [type(part).__name__ for part in fast.modules()] == [type(part).__name__ for part in usual.modules()]
    assert trace(fast, (5, 12, 12)) == trace(usual, (5, 12, 12))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        written = pickle.dumps(fast, protocol)
        assert b"visus" not in written
        again = pickle.loads(written)
        assert [type(part) for part in again.modules()] == [type(part) for part in usual.modules()]
        assert torch.equal(again(batch()), copy.deepcopy(usual)(batch()))
    file = io.BytesIO()
    torch.save(fast, file)
    assert b"visus" not in file.getvalue()
    assert is_sped_up(copy.deepcopy(fast))
    assert not is_sped_up(copy.copy(nn.Sequential(*copy.deepcopy(usual))))
    assert list(fast.state_dict()) == list(usual.state_dict())


def test_a_weight_that_is_computed_from_others_is_read_anew_and_can_be_slowed_down() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    usual, fast = twins(stack())
    for network in (usual, fast):
        nn.utils.parametrize.register_parametrization(network[0], "weight", Doubled())
    with in_bfloat16():
        assert_close(fast(batch()), usual(batch()))
        slow_down(fast)
        assert torch.equal(fast[0](batch()), usual[0](batch()))


# ---------------------------------------------------------------------------------------------------------------- still fast


def test_the_usual_network_has_its_parts_computed_together(computed: list[str]) -> None:
    network = visus.network("compact", (3, 32, 32), 10).to(memory_format=torch.channels_last)
    speed_up(network, Always())
    images = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with in_bfloat16():
        network(images)
    stage = ["conv, pool", "norm, gelu", "conv", "norm, gelu"]
    assert computed == ["gelu", *stage * 3]


def test_a_residual_has_its_body_computed_together(computed: list[str]) -> None:
    text = "residual(conv(8, 3, padding=1), norm, relu, conv(8, 3, padding=1), norm), relu, globalpool, linear(classes)"
    network = visus.network(text, (8, 12, 12), 3).to(memory_format=torch.channels_last)
    usual, fast = twins(network)
    images = torch.randn(3, 8, 12, 12).bfloat16().contiguous(memory_format=torch.channels_last)
    with in_bfloat16():
        assert_close(fast(images), usual(images))
    assert computed == ["conv", "norm, relu", "conv", "relu"]


# ------------------------------------------------------------------------------------- gradients of gradients and transforms


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_have_the_gradients_of_pytorch_s(activation: str, computed: list[str]) -> None:
    def twice(network: nn.Module) -> list[torch.Tensor]:
        images = batch().requires_grad_()
        with in_bfloat16():
            loss = network(images).float().square().mean()
        (of_images,) = torch.autograd.grad(loss, images, create_graph=True)
        of_images.square().sum().mul(1e6).backward()
        return [of_images.detach(), images.grad, *(each.grad for each in network.parameters())]  # type: ignore[list-sample]

    torch.manual_seed(0)
    layers = (nn.Conv2d(5, 16, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(16), ACTIVATIONS[activation]())
    network = nn.Sequential(*layers, nn.Conv2d(16, 8, 3, padding=1), ACTIVATIONS[activation]())
    usual, fast = twins(network.to(memory_format=torch.channels_last))
    expected, found = twice(usual), twice(fast)
    assert computed == ["conv, pool", f"norm, {activation}", "conv", activation]
    for mine, theirs in zip(found, expected, strict=True):
        if float(theirs.norm()) > 1e-3 * max(float(each.norm()) for each in expected):
            assert float(F.cosine_similarity(mine.flatten(), theirs.flatten(), 0)) > 0.98


def by_func_grad(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return torch.func.grad(lambda each: torch.func.functional_call(network, each, (images,)).float().mean())(weights)[
        "0.weight"
    ]


def by_jvp(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.func.jvp(network, (images,), (torch.ones_like(images),))[1]


def by_forward_mode(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autograd.forward_ad.dual_level(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dual = torch.autograd.forward_ad.make_dual(images, torch.ones_like(images))
        return torch.autograd.forward_ad.unpack_dual(network(dual)).tangent  # type: ignore[return-value]


def by_vmap(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.vmap(network)(torch.stack([images, 2 * images]))


def by_trace(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network, images, check_trace=False)(2 * images)  # type: ignore[no-any-return]


def by_script(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(network)(images)  # type: ignore[no-any-return]


def by_export(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.export.export(network, (images,)).module()(2 * images)  # type: ignore[no-any-return]


def by_fx(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.fx.symbolic_trace(network)(images)  # type: ignore[no-any-return]


def by_make_fx(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(network)(images)(2 * images)  # type: ignore[no-any-return]


def by_watching(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(images)
    return torch.tensor(float(counter.get_total_flops()))


def by_subclass(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    class Mine(torch.Tensor):
        pass

    out = network(images.as_subclass(Mine))
    assert type(out) is Mine
    return out.as_subclass(torch.Tensor)


WAYS = (
    by_func_grad,
    by_jvp,
    by_forward_mode,
    by_vmap,
    by_trace,
    by_script,
    by_export,
    by_fx,
    by_make_fx,
    by_watching,
    by_subclass,
)


@pytest.mark.parametrize("way", WAYS)
def test_what_follows_operations_gets_those_of_pytorch(way: Callable[..., torch.Tensor], computed: list[str]) -> None:
    usual, fast = twins(stack().bfloat16().eval())
    with torch.no_grad():
        fast(batch().bfloat16())
    assert computed == ["conv, pool", "gelu", "conv", "gelu", "gelu"]
    computed.clear()
    with torch.set_grad_enabled(way in (by_func_grad, by_jvp, by_forward_mode)):
        expected, found = way(usual, batch().bfloat16()), way(fast, batch().bfloat16())
    if way is not by_fx:  # what it gives is a network of its own, of the layers that were there
        assert computed == []
    assert_close(found, expected)


def test_a_whole_jacobian_is_that_of_pytorch() -> None:
    usual, fast = twins(nn.Sequential(nn.Conv2d(5, 4, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.GELU()))
    found = []
    for network in (usual.bfloat16(), fast.bfloat16()):
        network[2].float()
        out = network(
            images := batch().bfloat16()[:2, :, :4, :4].contiguous(memory_format=torch.channels_last).requires_grad_()
        )
        every = torch.eye(out.numel()).bfloat16().reshape(-1, *out.shape)
        found.append(torch.autograd.grad(out, images, every, is_grads_batched=True)[0])
    assert_close(found[1], found[0])


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_a_checkpoint_holds_on_the_first_batch_of_a_shape(
    is_reentrant: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotuner, "MIN_MACS", 1)
    network = speed_up(stack(), Autotuner(tmp_path / "choices.json"))
    with in_bfloat16():
        out = checkpoint(network, batch().requires_grad_(), use_reentrant=is_reentrant)
    out.float().sum().backward()
    assert network[0].weight.grad is not None


# ---------------------------------------------------------------------------------------------------------- what is measured


def wide(side: int, is_learned: bool = True) -> ConvProblem:
    return ConvProblem((64, 32, side, side), (32, 32, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1, is_learned)


def test_without_gradients_the_forward_alone_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuner, "measured", lambda case: pytest.fail("gradients were measured"))
    monkeypatch.setattr(autotuner, "MIN_MACS", 1)
    network = speed_up(stack(), Autotuner(tmp_path / "choices.json"))
    with torch.inference_mode(), in_bfloat16():
        network(batch())
    network.requires_grad_(False)
    with in_bfloat16():
        network(batch())
    with in_bfloat16(), pytest.raises(pytest.fail.Exception, match="gradients were measured"):
        network(batch().requires_grad_())


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_measured_forward_can_be_carried_out(is_pooled: bool) -> None:
    case = ConvProblem((16, 32, 16, 16), (32, 32, 3, 3), TapGeometry((1, 1), (1, 1)), is_pooled, 1, False)
    found = autotuner.measured_forward(case)
    assert found in (Plan(), Plan("winograd"), Plan("winograd", "winograd", "winograd", is_pooled=True))
    assert found.is_pooled <= is_pooled


def test_after_so_many_shapes_nothing_is_measured_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ConvProblem] = []
    monkeypatch.setattr(autotuner, "measured", lambda case: (asked.append(case), Plan(weight_gradient="taps"))[1])
    record = tmp_path / "arithmetic.json"
    memory = Autotuner(tmp_path / "choices.json", record)
    most = autotuner.MAX_SHAPES
    plans = [memory.plan(wide(32 + side)) for side in range(most + 3)]
    assert plans == [Plan(weight_gradient="taps")] * most + [Plan()] * 3
    assert len(asked) == most
    again = Autotuner(tmp_path / "others.json", record)  # a training that goes on knows how many there were
    assert [again.plan(wide(32 + side)) for side in range(most + 3)] == plans
    assert len(asked) == most
    other = ConvProblem((64, 32, 32, 32), (16, 32, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1)
    assert memory.plan(other) == Plan(weight_gradient="taps")


def test_a_map_on_which_no_tap_fits_has_no_sums() -> None:
    assert ConvProblem((64, 32, 1, 1), (32, 32, 5, 5), TapGeometry((1, 1), (0, 0)), False, 1).macs == 0


# -------------------------------------------------------------------------------------------------------------------- memory


def test_a_kernel_without_memory_is_an_error_as_of_pytorch() -> None:
    library = compiler_room.kernels()
    assert library is not None
    nothing, many = (
        ctypes.c_void_p(None),
        2**24,
    )  # so many channels that the room for their sums is larger than the address space
    somewhere = ctypes.c_void_p(torch.empty(64).data_ptr())
    status = library.visus_winograd_backward(
        *(nothing, nothing, nothing, nothing, nothing, somewhere), *(0, 4, 4, many, many, 1, 4, 4, 0), 1
    )
    assert status == 1
    with pytest.raises(torch.OutOfMemoryError) as caught:
        compiler_room.check_status(status)
    assert str(caught.value) == "a compiled kernel could not allocate memory; use smaller batches or fewer threads"
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    "name",
    [
        "visus_norm_sums",
        "visus_norm_forward",
        "visus_norm_backward_sums",
        "visus_norm_backward",
        "visus_activation",
    ],
)
def test_what_a_kernel_returns_back_is_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiler_room.kernels()

    class Lacking:
        def __getattr__(self, asked: str) -> Any:
            return (lambda *_: 1) if asked == name else getattr(library, asked)

    monkeypatch.setattr(norms_room, "kernels", Lacking)
    network = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()) if "norm" in name else nn.Sequential(nn.ReLU())
    speed_up(network, Always())
    with pytest.raises(torch.OutOfMemoryError):
        network(batch().bfloat16().requires_grad_()).float().sum().backward()


def test_much_memory_is_not_kept() -> None:
    library = compiler_room.kernels()
    assert library is not None
    library.visus_held_bytes.restype = ctypes.c_size_t
    maps = torch.randn(1, 64, 160, 160).bfloat16().contiguous(memory_format=torch.channels_last)
    winograd_backward(maps, maps, torch.randn(64, 64, 3, 3), 1)
    assert library.visus_held_bytes() <= 2**26
    assert not ConvProblem((1, 64, 768, 768), (64, 64, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1).supports_winograd
    assert ConvProblem((1, 64, 160, 160), (64, 64, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1).supports_winograd
