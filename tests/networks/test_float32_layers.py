"""Convolutions whose bfloat16 gradients PyTorch computes wrongly or slowly are computed in float32 while a network is trained, and only then."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from visus.design import parse
from visus.networks import build
from visus.networks.fast import speed_up
from visus.networks.float32_layers import float32_where_needed, is_slow_in_bfloat16, is_wrong_in_bfloat16


class OwnConv(nn.Conv2d):
    """A convolution that a person has derived from PyTorch's, with a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def dirty_memory() -> None:
    """Fill freed memory with NaN, so that what is left unwritten shows."""
    held = [torch.full((size,), float("nan")) for size in (64, 1024, 16384, 65536) for _ in range(20)]
    del held


def small_cases() -> list[Any]:
    volumes = [(6, 3, 7), (5, 2, 6), (2, 3, 1), (1, 3, 2), (3, 5, 1), (4, 5, 1), (1, 5, 1), (4, 5, 2), (5, 3, 1), (8, 3, 1)]
    cases = [(nn.Conv3d, side, kernel, stride, kernel // 2) for side, kernel, stride in volumes]
    cases += [
        (kind, side, kernel, stride, kernel // 2)
        for kind in (nn.Conv1d, nn.Conv2d, OwnConv)
        for side, kernel, stride in [(1, 3, 2), (2, 5, 3), (1, 2, 2), (3, 3, 2)]
    ]
    cases += [(nn.ConvTranspose2d, 1, 3, 2, 1), (nn.ConvTranspose3d, 2, 3, 1, 1), (nn.ConvTranspose2d, 4, 2, 2, 0)]
    return [pytest.param(*each, id=f"{each[0].__name__}-side{each[1]}-kernel{each[2]}-stride{each[3]}") for each in cases]


@pytest.mark.parametrize("is_sped_up", [False, True], ids=["plain", "sped up"])
@pytest.mark.parametrize(("kind", "side", "kernel", "stride", "padding"), small_cases())
def test_gradients_of_weights_on_small_maps_are_those_of_float32(
    kind: Any, side: int, kernel: int, stride: int, padding: int, is_sped_up: bool
) -> None:
    torch.manual_seed(0)
    rank = 2 if kind is OwnConv else int(kind.__name__[-2])
    layout = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}[rank]
    plain = kind(16, 16, kernel, padding=padding, stride=stride).to(memory_format=layout)
    other = copy.deepcopy(plain)
    network = nn.Sequential(other)
    if is_sped_up:
        speed_up(network)
    x = torch.randn(8, 16, *[side] * rank).contiguous(memory_format=layout)
    for _ in range(4):
        plain.zero_grad()
        other.zero_grad()
        with float32_where_needed(network):
            dirty_memory()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                made = network(x)
            assert made.dtype == torch.bfloat16
            made.float().sum().backward()
        plain(x).sum().backward()
        for own, right in zip(other.parameters(), plain.parameters(), strict=True):
            assert own.grad is not None
            assert right.grad is not None
            assert torch.allclose(own.grad, right.grad, rtol=0.05, atol=0.05 * float(right.grad.abs().max()))


def depthwise() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, groups=4), nn.Conv2d(4, 8, 5, padding=2, groups=4, bias=False))


def test_depthwise_values_and_gradients_are_those_of_float32_rounded_at_the_ends() -> None:
    plain, other = depthwise(), depthwise()
    x = torch.randn(2, 4, 16, 16).bfloat16().float()
    with float32_where_needed(other):
        assert other.state_dict().keys() == plain.state_dict().keys()
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


def test_outside_autocast_in_a_copy_in_a_pickle_and_in_print_nothing_differs() -> None:
    plain, other = depthwise(), depthwise()
    x = torch.randn(2, 4, 16, 16)
    with float32_where_needed(other):
        assert repr(other) == repr(plain)
        assert [type(layer) for layer in other] == [nn.Conv2d, nn.Conv2d]
        copied, stored = copy.deepcopy(other), pickle.loads(pickle.dumps(other))
        assert torch.equal(other(x), plain(x))
    for each in (copied, stored, other):
        assert torch.equal(each(x), plain(x))


def test_a_copy_made_inside_is_protected_too() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2))
    with float32_where_needed(network):
        copied = copy.deepcopy(network)
        kept = copied[0].__dict__["forward"]
        assert kept.layer is copied[0]
        assert kept is not network[0].__dict__["forward"]


def test_afterwards_no_layer_has_a_forward_of_its_own_even_after_an_error() -> None:
    network = nn.Sequential(OwnConv(1, 1, 3), nn.Conv3d(1, 1, 3), nn.ConvTranspose1d(1, 1, 3), nn.Linear(2, 2))
    with float32_where_needed(network), float32_where_needed(network):
        assert ["forward" in layer.__dict__ for layer in network] == [True, True, True, False]
    assert not any("forward" in layer.__dict__ for layer in network)
    with pytest.raises(ZeroDivisionError), float32_where_needed(network):
        raise ZeroDivisionError
    assert not any("forward" in layer.__dict__ for layer in network)


def test_nothing_is_done_where_the_precision_is_another_or_a_forward_was_put_there() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3))
    with float32_where_needed(network, "float32"):
        assert "forward" not in network[0].__dict__
    own = network[0].__dict__["forward"] = network[0].forward
    with float32_where_needed(network):
        assert network[0].__dict__["forward"] is own
    assert network[0].__dict__["forward"] is own


class Pair(nn.Conv2d):
    """Gives two tensors, reads a mask, and asks for its own class."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        assert type(self) is Pair
        found = super(type(self), self).forward(x)
        return found if mask is None else (found * mask, mask)


def test_layers_with_masks_tuples_and_classes_that_ask_for_themselves_work() -> None:
    layer = Pair(2, 2, 3, stride=2, padding=1)
    x = torch.randn(1, 2, 1, 1)
    with float32_where_needed(layer), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        found, mask = layer(x, mask=torch.ones(1, dtype=torch.bfloat16))
    assert (found.dtype, mask.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
@pytest.mark.parametrize("is_sped_up", [False, True], ids=["plain", "sped up"])
def test_weights_of_another_type_are_left_to_autocast(dtype: torch.dtype, is_sped_up: bool) -> None:
    network, x = nn.Sequential(nn.Conv2d(2, 2, 3, stride=2, padding=1)).to(dtype), torch.randn(1, 2, 1, 1, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = network(x)
        if is_sped_up:
            speed_up(network)
        with float32_where_needed(network):
            found = network(x)
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


def test_padded_convolutions_of_a_design_are_covered_too() -> None:
    network = build(parse('conv(4, 2, padding="same"), relu, globalpool, linear(classes)'), (1, 4, 4, 4), 2)
    with float32_where_needed(network):
        changed = [type(part).__name__ for part in network.modules() if "forward" in part.__dict__]
    assert changed == ["PaddedConv3d"]


def test_on_another_device_nothing_is_computed_in_float32() -> None:
    elsewhere = torch.empty(2, 4, 1, 1, device="meta")
    for layer in depthwise():
        assert not is_slow_in_bfloat16(layer, elsewhere)
        assert not is_wrong_in_bfloat16(layer, elsewhere)
        assert is_slow_in_bfloat16(layer, torch.empty(2, 4, 1, 1))
