"""Effective fields: sampled ones are gradients, those of one pass are held against the sampled, and none leaves the unit's box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visus
from visus.design import parse
from visus.errors import UsageError
from visus.examine import effective_field, effective_field_sampled, measure_derivatives
from visus.examine.effective_fields import EffectiveField
from visus.networks import build

CHAIN = (
    "conv(16, 3, padding=1), norm, relu, residual(conv(16, 3, padding=1), norm, relu, conv(16, 3, padding=1), norm), relu, "
    "residual(conv(32, 3, stride=2, padding=1), norm, relu, conv(32, 3, padding=1), norm), relu"
)
POOLED = "conv(12, 5, padding=2), relu, maxpool(2), conv(24, 3, padding=1), relu, avgpool(2), conv(32, 3, padding=1), gelu"


def open_gates(network: nn.Module) -> nn.Module:
    """Norms at 1, so that no residual is closed."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.weight.data.fill_(1.0)
    return network.eval()


class Functional(nn.Module):
    """A network whose own code does what others do by layers: a gate, a mean, an enlargement, a write in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(1, 24, 3, padding=1)
        self.squeeze = nn.Linear(24, 24)
        self.second = nn.Conv2d(24, 24, 3, padding=1)
        self.third = nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        y = y * torch.sigmoid(self.squeeze(y.mean((2, 3))))[:, :, None, None]
        fine = 2.0 * F.leaky_relu(self.second(y), 0.2) - y
        torch.relu_(fine)
        small = F.interpolate(F.max_pool2d(fine, 2), scale_factor=2, mode="bilinear")
        return self.third((small - 1.0) / 3.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape", "layer"),
    [
        (lambda: open_gates(build(parse(CHAIN), (3, 24, 24), 2)), (3, 24, 24), "relu3"),
        (lambda: open_gates(build(parse(POOLED), (1, 24, 24), 2)), (1, 24, 24), "gelu1"),
        (lambda: open_gates(build(parse(POOLED), (1, 60), 2)), (1, 60), "conv3"),
        (Functional, (1, 12, 12), "third"),
    ],
    ids=["residual", "pooled", "signal", "functional"],
)
def test_one_pass_agrees_with_many_samples_in_new_networks(
    make: Callable[[], nn.Module], shape: tuple[int, ...], layer: str
) -> None:
    module = make()
    samples = networks.noise(300, *shape)
    rates = measure_derivatives(module, samples)
    sampled = effective_field_sampled(module, samples.split(100), layer)
    passed = effective_field(module, rates, layer)
    assert sampled.num_samples == 300
    assert passed.cosine(sampled) > 0.99
    np.testing.assert_allclose(passed.deviation_px, sampled.deviation_px, rtol=0.05)
    assert np.linalg.norm(passed.strength) == pytest.approx(np.linalg.norm(sampled.strength), rel=0.35)


def test_one_channel_takes_along_what_all_samples_agree_on() -> None:
    module = open_gates(build(parse(POOLED), (1, 24, 24), 2))
    samples = networks.noise(300, 1, 24, 24) + 1.0
    sampled = effective_field_sampled(module, samples, "conv2", channel=5)
    assert effective_field(module, samples, "conv2", channel=5).cosine(sampled) > 0.99


def test_a_linear_network_has_its_gradient_exactly() -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 2, 3)
    )
    samples = networks.noise(2, 2, 12, 12)
    x = samples[:1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(x)[0, 1, 3, 3], x)
    expected = gradient[0].square().sum(0).sqrt().double().numpy()
    for found in (
        effective_field(module, samples, "3", (3, 3), 1),
        effective_field_sampled(module, samples, "3", (3, 3), 1),
    ):
        np.testing.assert_allclose(found.strength, expected, atol=1e-6)


def test_a_single_convolution_has_the_root_of_its_squared_kernel() -> None:
    module = nn.Conv1d(2, 4, 5)
    found = effective_field(module, (2, 11), "", (3,))
    expected = np.zeros(11)
    expected[3:8] = module.weight.detach().square().sum((0, 1)).sqrt().numpy()
    np.testing.assert_allclose(found.strength, expected, rtol=1e-5)
    assert found.box == ((3, 7),)


class Step(nn.Module):
    """One function as a layer."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x)


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "mean over one axis": lambda x: x.mean(2, keepdim=True),
    "sum": lambda x: x.sum((2, 3)),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "differences": lambda x: x[:, :, 1:] - x[:, :, :-1],
    "negative": lambda x: 1.0 - x - 3.0 * x.roll(1, 2),
    "divided": lambda x: x / 4.0,
    "products with constants": lambda x: x.flatten(2) @ torch.arange(49.0).reshape(49, 1),
    "transposed": lambda x: F.conv_transpose2d(x, torch.arange(9.0).reshape(1, 1, 3, 3), stride=2),
    "padded": lambda x: F.pad(x, (1, 2, 3, 0), mode="constant", value=7.0),
    "tanh of one place": lambda x: torch.tanh(x),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_single_step_has_the_size_of_its_gradient(name: str) -> None:
    module = Step(STEPS[name])
    sample = networks.noise(1, 1, 7, 7)
    passed = effective_field(module, sample, "")
    x = sample.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(x)[(0, 0, *passed.position)], x)
    np.testing.assert_allclose(passed.strength, gradient[0, 0].abs().double().numpy(), atol=1e-6)
    assert passed.strength.any()


@pytest.mark.parametrize(
    ("how", "num_taps"),
    [
        (lambda x: F.max_pool2d(x, 3, 2), 9),
        (lambda x: F.max_pool2d(x, (2, 3), 2, dilation=2), 6),
        (lambda x: x.amax((2, 3)), 49),
        (lambda x: x.max(2)[0], 7),
        (lambda x: F.adaptive_max_pool2d(x, 1), 49),
    ],
)
def test_a_maximum_passes_each_of_its_taps_on_equally_often(how: Callable[[Tensor], Tensor], num_taps: int) -> None:
    for channel in (None, 0):
        strength = effective_field(Step(how), (1, 7, 7), "", channel=channel).strength
        np.testing.assert_allclose(strength[strength > 0], np.full(num_taps, num_taps**-0.5), rtol=1e-5)


def test_what_is_written_over_counts_as_it_was_written() -> None:
    def written(x: Tensor) -> Tensor:
        y = x * 2.0
        torch.relu_(y)
        return y

    samples = networks.noise(20, 1, 5, 5)
    one = effective_field(Step(written), samples, "").strength
    np.testing.assert_allclose(one, effective_field(Step(lambda x: torch.relu(2.0 * x)), samples, "").strength)
    assert one.max() == pytest.approx(2.0 * float((samples[:, 0, 2, 2] > 0).float().mean()) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (networks.small_compact, (1, 28, 28)),
        (networks.u_net, (1, 16, 16)),
        (lambda: networks.designed(networks.SQUEEZED, (2, 20, 15)), (2, 20, 15)),
        (
            lambda: networks.designed("conv(3, 3), norm, relu, maxpool(2), conv(3, 3, padding=1), relu", (1, 9, 8, 7)),
            (1, 9, 8, 7),
        ),
    ],
)
def test_no_field_leaves_the_box_that_its_unit_reads(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    module = make()
    samples = networks.noise(2, *shape)
    rates = measure_derivatives(module, samples)
    for layer in [path for path, part in module.named_modules() if isinstance(part, (nn.ReLU, nn.modules.conv._ConvNd))]:
        fields: list[EffectiveField] = [effective_field_sampled(module, samples, layer, channel=0)]
        fields += [effective_field(module, rates, layer), effective_field(module, rates, layer, channel=0)]
        for found in fields:
            assert found.box is not None
            outside = found.strength.copy()
            outside[tuple(slice(first, last + 1) for first, last in found.box)] = 0
            assert not outside.any()


def test_sampling_stops_where_its_halves_agree() -> None:
    module = open_gates(build(parse(POOLED), (1, 24, 24), 2))
    samples = networks.noise(400, 1, 24, 24)
    loose = effective_field_sampled(module, samples, "conv2", until=0.9)
    tight = effective_field_sampled(module, samples, "conv2", until=0.98)
    whole = effective_field_sampled(module, samples, "conv2")
    assert loose.agreement is not None
    assert tight.agreement is not None
    assert loose.num_samples < tight.num_samples < 400
    assert (loose.agreement >= 0.9, tight.agreement >= 0.98) == (True, True)
    assert tight.cosine(whole) > tight.agreement - 0.005
    assert effective_field_sampled(module, samples[:7], "conv2").agreement is None
    np.testing.assert_allclose(effective_field_sampled(module, samples.split(37), "conv2", channel=1).strength,
                               effective_field_sampled(module, samples, "conv2", channel=1).strength, rtol=1e-4, atol=1e-9)  # fmt: skip


def test_center_and_deviation_are_those_of_the_squared_strength() -> None:
    module = nn.Conv1d(1, 1, 2, bias=False)
    module.weight.data[:] = torch.tensor([3.0, 4.0])
    found = effective_field(module, (1, 6), "", (2,))
    assert found.center_px == pytest.approx((2 * 9 / 25 + 3 * 16 / 25,))
    assert found.deviation_px == pytest.approx(((9 / 25 * 16 / 25) ** 0.5,))


def test_measuring_leaves_the_module_as_it_was() -> None:
    module = networks.u_net().train()
    before = {name: values.clone() for name, values in module.state_dict().items()}
    effective_field(module, (1, 8, 8), "last", channel=0)
    assert module.training
    assert all(torch.equal(before[name], values) for name, values in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cut, self.after = nn.Conv2d(1, 4, 4, stride=4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cut(x).flatten(2).transpose(1, 2)
        return self.after(F.scaled_dot_product_attention(y, y, y).mean(1))


def test_mistakes_are_reported() -> None:
    module, samples = networks.u_net(), networks.noise(1, 1, 8, 8)
    for call, sentence in (
        (lambda: effective_field(module, samples, "coarce.1"), "unknown layer 'coarce.1'. Did you mean 'coarse.1'?"),
        (
            lambda: effective_field(module, samples, "up", (8, 0)),
            "up: the feature map has the size (8, 8); position (8, 0) does not exist.",
        ),
        (lambda: effective_field(module, [], "up"), "measuring derivatives needs at least one sample, and there is none."),
        (
            lambda: effective_field_sampled(module, [], "up"),
            "sampling an effective field needs at least one sample, and there is none.",
        ),
        (
            lambda: effective_field_sampled(module, samples, "up", until=1.0),
            "until must be a cosine between 0 and 1, such as 0.99, not 1.0.",
        ),
        (
            lambda: effective_field(Attention(), samples, "after"),
            "the module calls scaled_dot_product_attention, which has no rule for squared gradients. "
            "Use effective_field_sampled, which needs no rules.",
        ),
    ):
        with pytest.raises(UsageError) as told:
            call()
        assert str(told.value).startswith(sentence)
    assert effective_field(Attention(), samples, "cut").strength.sum() > 0, "what lies before an unknown function is known"


@pytest.mark.slow
def test_one_pass_is_near_the_samples_in_trained_networks_and_sampling_until_they_agree_is_nearer(tmp_path: Path) -> None:
    """Independent gates are not enough for trained networks: 0.99 is reached by sampling, with fewer samples than 200."""
    from visus.training.recipe import Recipe

    data = visus.open_data()
    part = data.split("train")
    rng = np.random.default_rng(0)
    designs = {
        "plain": (f"{POOLED}, globalpool, linear(classes)", "gelu1"),
        "residual": (f"{CHAIN}, globalpool, linear(classes)", "relu3"),
        "strided": (
            "conv(16, 3, padding=1), norm, relu, conv(32, 3, stride=2, padding=1), norm, relu, conv(32, 3, stride=2, padding=1), norm, relu, "
            "globalpool, linear(classes)",
            "relu3",
        ),
    }
    for name, (text, layer) in designs.items():
        run = visus.train(data, text, Recipe(epochs=2, precision="float32", device="cpu"), output=tmp_path, name=name)
        chosen = rng.permutation(len(part))
        samples = run.preprocessing.scaled(part.rows(chosen[:200]))
        others = run.preprocessing.scaled(part.rows(chosen[200:1000]))
        sampled = effective_field_sampled(run.module, samples, layer)
        assert effective_field(run.module, others[:200], layer).cosine(sampled) > 0.9, name
        agreed = effective_field_sampled(run.module, others, layer, until=0.99)
        assert agreed.cosine(sampled) > 0.985, name


class HalfAfterScale(nn.Module):
    """Its first parameter is float32 and its first layer float16, which is what it reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.ones(()))
        self.conv = nn.Conv2d(3, 8, 3).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).float() * self.scale


def test_a_module_that_reads_float16_next_to_float32_weights_has_an_effective_field() -> None:
    field = effective_field(HalfAfterScale(), torch.rand(4, 3, 8, 8), "conv", channel=0)
    assert field.box == ((3, 5), (3, 5))
    assert field.strength[3:6, 3:6].min() > 0
