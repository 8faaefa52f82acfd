"""The memory of any module: the same as that of the design it was built from, and what the allocator hands out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visus.design import account, parse
from visus.errors import UsageError
from visus.networks.build import build
from visus.networks.trace import trace

SAME = (
    "conv(8, 3, padding=1), norm, relu, maxpool(2), 2 * [residual(conv(8, 3, padding=1), norm, relu, conv(8, 1), norm), relu], "
    "residual(conv(16, 3, stride=2, padding=1), norm), relu, globalpool, dropout(0.5), linear(classes)",
    "conv(16, 4, stride=4), layernorm, 2 * [residual(depthwise(7, padding=3), layernorm, conv(64, 1), gelu, conv(16, 1), scale)], "
    "layernorm, conv(32, 2, stride=2), globalpool, layernorm, linear(classes)",
    "conv(8, 3, padding=1), 3 * [concat([], [norm, relu, conv(4, 3, padding=1)])], norm, se(4), silu, avgpool(2), flatten, linear(classes)",
    "conv(8, 3, padding=1), relu, transposed(4, 4, stride=2, padding=1), gelu, conv(classes, 1)",
    "gelu, norm, flatten, linear(classes)",
    "whiten(2, padding=1), gelu, conv(8, 3, padding=1), norm, gelu, globalpool, linear(classes)",
    "depthwise(5, padding=1, stride=2), transposed(4, 3, stride=3), blurpool(5), flatten, linear(16), relu, linear(classes)",
    "blurpool(5), conv(16, 3), relu, blurpool(3), upsample(2), conv(6, 3, groups=2), globalpool, linear(classes)",
)


class Gated(nn.Module):
    """Functional calls, writes in place, attention and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Linear(16, 48)
        self.heads = nn.ModuleList([nn.Linear(16, 5), nn.Linear(16, 3)])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens = torch.relu_(self.stem(x)).flatten(2).transpose(1, 2)
        queries, keys, values = self.mix(tokens).chunk(3, dim=-1)
        seen = (queries @ keys.transpose(1, 2)).softmax(-1) @ values
        return tuple(head(seen.mean(1)) for head in self.heads)


class Drawing(nn.Module):
    """It draws from every generator."""

    def forward(self, x: Tensor) -> Tensor:
        return x * random.random() * float(np.random.rand()) * torch.rand_like(x)


class Looking(nn.Module):
    """Its way depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("text", SAME)
def test_design_and_module_give_the_same(text: str) -> None:
    shape = (3, 32, 32)
    counted = account(parse(text), shape, 10)
    traced = trace(build(parse(text), shape, 10), shape)
    assert traced.bytes_saved(4) == counted.bytes_saved(4)
    assert traced.bytes_standing("sgd") == counted.bytes_standing("sgd")
    assert traced.bytes_training(16) == pytest.approx(counted.bytes_training(16), rel=0.005)
    assert traced.bytes_inference(16) == pytest.approx(counted.bytes_inference(16), rel=0.005)


def test_any_module_is_followed_to_what_the_allocator_hands_out(highest_total: Callable[[Callable[[], Any]], int]) -> None:
    module, shape, num_samples = Gated(), (3, 32, 32), 16
    costs = trace(module, shape)
    update = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        x = torch.rand(num_samples, *shape)
        outputs = module(x)
        sum(output.log_softmax(1).mean() for output in outputs).backward()
        update.step()

    step()
    update.zero_grad(set_to_none=True)
    measured = costs.bytes_standing() + highest_total(step)
    assert costs.bytes_training(num_samples) == pytest.approx(measured, rel=0.02)


def test_frozen_weights_need_neither_gradients_nor_the_optimizers_numbers() -> None:
    module = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 2))
    before = trace(module, (100,)).bytes_training(2)
    module[0].requires_grad_(False)
    frozen = trace(module, (100,))
    assert frozen.bytes_standing() == 4 * (101_000 + 3 * 2002)
    assert frozen.bytes_training(2) < before / 3


def test_shared_weights_count_once() -> None:
    shared = nn.Linear(50, 50)
    assert trace(nn.Sequential(shared, nn.ReLU(), shared), (50,)).bytes_standing("none") == 4 * 2550


def test_a_module_comes_back_untouched() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), Drawing(), nn.Flatten(), nn.Linear(144, 2)
    ).eval()
    module[1].train()
    values = {name: value.clone() for name, value in module.state_dict().items()}
    costs = trace(module, (3, 8, 8))
    states = torch.get_rng_state(), random.getstate(), float(np.random.get_state()[1].sum()), np.random.get_state()[2]
    asked = costs.bytes_training(4), costs.bytes_inference(4), costs.bytes_saved(4)
    assert asked == (costs.bytes_training(4), costs.bytes_inference(4), costs.bytes_saved(4))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), float(np.random.get_state()[1].sum()), np.random.get_state()[2]) == states[1:]
    assert [each.training for each in module] == [False, True, False, False, False, False]
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())
    assert all(value.grad is None and not value.is_meta for value in module.parameters())


def test_a_module_that_looks_at_values_has_no_memory_that_is_known() -> None:
    costs = trace(Looking(), (3,))
    with pytest.raises(UsageError) as caught:
        costs.bytes_training(4)
    text = str(caught.value)
    assert text.startswith("the memory of this module is not known, for it fails on tensors without data: ")
    assert text.endswith(". Ask for the other figures only, or measure it with torch.profiler.")
