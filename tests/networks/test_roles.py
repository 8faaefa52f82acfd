"""Roles of weights: what a norm follows is seen in the graph, and is true: the answers do not change with the size of such a filter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visus.design import densenet, mobilenet, parse, resnet
from visus.networks import build
from visus.networks.blocks import LayerNorm
from visus.networks.roles import weight_roles

DESIGNS = [
    ("conv(8, 3, bias=True), relu, norm, relu, conv(8, 3), norm, relu, globalpool, linear(classes)", (3, 12, 12)),
    ("conv(8, 3, bias=False), maxpool(2), norm, gelu, conv(8, 3), norm, relu, globalpool, linear(classes)", (3, 16, 16)),
    ("conv(8, 3), relu, conv(8, 3), gelu, norm, flatten, linear(20), relu, linear(classes)", (1, 12, 12)),
    (
        "conv(8, 9), norm, relu, residual(conv(8, 3, padding=1), norm, relu, depthwise(3, padding=1), norm), globalpool, linear(classes)",
        (1, 40),
    ),
    (
        "conv(8, 3, bias=False), relu, avgpool(2), groupnorm(2), relu6, conv(4, 1, bias=False), relu6, norm, conv(classes, 1), globalpool",
        (1, 9, 9, 9),
    ),
]


class Own(nn.Module):
    """A person's own forward pass: one filter is normed, one is normed and read elsewhere too, one stands alone; the last layer is not last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.normed, self.shared, self.alone = (nn.Conv1d(channels, 4, 3, padding=1, bias=False) for channels in (1, 4, 4))
        self.gain = nn.Parameter(torch.ones(4, 1))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = nn.functional.batch_norm(self.normed(x), None, None, training=True)
        made = self.shared(x)
        x = nn.functional.batch_norm(made, None, None, training=True) + made
        out: torch.Tensor = self.head((self.alone(x) * self.gain).amax(2))
        return out


@pytest.mark.parametrize(("text", "shape"), DESIGNS)
def test_a_filter_said_to_be_free_of_scale_is(text: str, shape: tuple[int, ...]) -> None:
    module = build(parse(text), shape, 3).double()
    for name, values in module.named_parameters():
        if name.endswith("bias"):
            values.data.normal_(generator=torch.Generator().manual_seed(len(name)))
    samples = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = module(samples).detach()
    for name, role in weight_roles(module, shape).items():
        if role.kind != "filter":
            continue
        weight = module.get_parameter(name)
        with torch.no_grad():
            weight.mul_(3)
            is_free = float((module(samples) - answers).abs().max()) < 0.02 * float(answers.std(0).max())
            weight.div_(3)
        assert role.is_scale_invariant == is_free, name


def test_the_head_is_what_the_answers_are_made_from_and_a_norm_is_found_in_own_code() -> None:
    module = Own()
    roles = weight_roles(module, (1, 8))
    assert {name: (role.kind, role.is_scale_invariant) for name, role in roles.items()} == {
        "gain": ("other", False),
        "head.weight": ("head", False),
        "head.bias": ("other", False),
        "normed.weight": ("filter", True),
        "shared.weight": ("filter", False),
        "alone.weight": ("filter", False),
    }
    assert (module.calls, module.training) == (0, True)


def test_a_convolution_can_be_the_head() -> None:
    roles = weight_roles(build(parse("conv(4, 3), norm, relu, conv(classes, 1), globalpool"), (1, 8, 8), 3), (1, 8, 8))
    assert roles["conv2.weight"].kind == "head"


@pytest.mark.slow
@pytest.mark.parametrize("design", [resnet(18), densenet(121), mobilenet(2)])
def test_known_networks_have_one_head_and_filters_before_norms(design: object) -> None:
    module = build(design, (3, 64, 64), 10)  # type: ignore[arg-type]
    roles = weight_roles(module, (3, 64, 64))
    assert [name for name, role in roles.items() if role.kind == "head"] == ["linear1.weight"]
    assert sum(role.is_scale_invariant for role in roles.values()) >= 20
    depthwise = [role.num_groups for name, role in roles.items() if "depthwise" in name and role.kind == "filter"]
    assert all(num_groups > 1 for num_groups in depthwise)


class Steered(nn.Module):
    """The gain of a norm is made by a filter, whose size so means something."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain = self.gain(torch.ones(4, device=x.device))
        out: torch.Tensor = self.last(nn.functional.layer_norm(x, (4,), gain))
        return out


def test_a_filter_that_makes_the_gain_of_a_norm_is_not_free_of_scale() -> None:
    roles = weight_roles(Steered(), (4,))
    assert (roles["gain.weight"].kind, roles["gain.weight"].is_scale_invariant) == ("filter", False)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.InstanceNorm1d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm([4, 6]),
        nn.RMSNorm([4, 6]),
        LayerNorm(4),
    ],
)
def test_gains_of_norms_of_all_kinds_are_known(norm: nn.Module) -> None:
    roles = weight_roles(nn.Sequential(nn.Conv1d(1, 4, 3), norm, nn.Flatten(), nn.Linear(24, 2)), (1, 8))
    assert roles["1.weight"].kind == "gain"
    assert all(role.kind != "gain" for name, role in roles.items() if name != "1.weight")


class NeedsValues(nn.Module):
    """Cannot run without data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 0:
            x = -x
        out: torch.Tensor = self.last(self.norm(self.conv(x)).mean(2))
        return out


def test_where_the_graph_cannot_be_had_the_last_layer_is_the_head_and_nothing_is_free_of_scale() -> None:
    for roles in (weight_roles(NeedsValues(), (1, 8)), weight_roles(NeedsValues())):
        assert {name: role.kind for name, role in roles.items() if role.kind != "other"} == {
            "conv.weight": "filter",
            "norm.weight": "gain",
            "last.weight": "head",
        }
        assert not any(role.is_scale_invariant for role in roles.values())


def test_frozen_tensors_have_no_role() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 3).requires_grad_(False), nn.Flatten(), nn.Linear(12, 2))
    assert set(weight_roles(module, (1, 8))) == {"2.weight", "2.bias"}
