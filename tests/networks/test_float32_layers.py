"""Filters of single channels in float32 say what they say in plain float32, and keep their names."""

from __future__ import annotations

import copy

import torch
from torch import nn

from visus.networks.float32_layers import float32_depthwise


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, groups=4), nn.Conv2d(4, 8, 5, padding=2, groups=4, bias=False))


def test_values_and_gradients_are_those_of_float32_rounded_at_the_ends() -> None:
    plain, other = layers(), layers()
    float32_depthwise(other)
    assert other.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 16, 16).bfloat16().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = other(x)
    assert made.dtype == torch.bfloat16
    between = plain[0](x).bfloat16().float()
    wanted = plain[1](between)
    assert torch.equal(made, wanted.bfloat16())
    made.float().square().sum().backward()
    wanted.bfloat16().float().square().sum().backward()
    for own, right in zip(other[1].parameters(), plain[1].parameters(), strict=True):
        assert own.grad is not None
        assert right.grad is not None
        assert torch.allclose(own.grad, right.grad, rtol=0.02, atol=0.02 * float(right.grad.abs().max()))


def test_outside_autocast_and_in_a_copy_nothing_differs() -> None:
    plain, other = layers(), layers()
    float32_depthwise(other)
    x = torch.randn(2, 4, 16, 16)
    assert torch.equal(copy.deepcopy(other)(x), plain(x))
