"""Small volumes are convolved in float32 inside bfloat16: their gradients are numbers, and right."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from visus.design import parse
from visus.networks import build
from visus.networks.blocks import PaddedConv3d
from visus.networks.float32_layers import Float32SmallConv3d, Float32SmallPaddedConv3d, float32_small_volumes


def dirty_memory() -> None:
    """Fill freed memory with numbers that are none, so that what is left unwritten shows."""
    held = [torch.full((size,), float("nan")) for size in (64, 1024, 16384, 65536) for _ in range(20)]
    del held


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(2, 3, 1), (1, 3, 2), (3, 5, 1), (4, 5, 1), (1, 5, 1), (4, 5, 2), (5, 3, 1), (8, 3, 1)]
)
def test_gradients_of_weights_on_small_maps_are_those_of_float32(side: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(16, 16, kernel, padding=kernel // 2, stride=stride).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    other = copy.deepcopy(plain)
    float32_small_volumes(other)
    x = torch.randn(8, 16, side, side, side).contiguous(memory_format=torch.channels_last_3d)
    for _ in range(4):
        plain.zero_grad()
        other.zero_grad()
        dirty_memory()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = other(x)
        assert made.dtype == torch.bfloat16
        made.float().sum().backward()
        plain(x).sum().backward()
        for own, right in zip(other.parameters(), plain.parameters(), strict=True):
            assert own.grad is not None
            assert right.grad is not None
            assert torch.allclose(own.grad, right.grad, rtol=0.05, atol=0.05 * float(right.grad.abs().max()))


def test_names_and_outputs_outside_autocast_stay() -> None:
    plain = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv2d(4, 4, 3))
    other = copy.deepcopy(plain)
    float32_small_volumes(other)
    assert [type(layer) for layer in other] == [Float32SmallConv3d, nn.Conv2d]
    assert other.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 1, 4, 4, 4)
    assert torch.equal(other[0](x), plain[0](x))


def test_padded_convolutions_are_covered_too() -> None:
    network = build(parse('conv(4, 2, padding="same"), relu, globalpool, linear(classes)'), (1, 4, 4, 4), 2)
    float32_small_volumes(network)
    kinds = [type(part) for part in network.modules()]
    assert PaddedConv3d not in kinds
    assert Float32SmallPaddedConv3d in kinds or Float32SmallConv3d in kinds
