"""Every cell of a map lies at the center of its unit's receptive field: against gradients, which know no rules, and against what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from visus.examine import grad_cam
from visus.examine.layer_calls import Array, TracedFields, output_of
from visus.examine.map_placement import EXACT, IN_ORDER, STRETCHED, MapPlacement, MapPlacements
from visus.examine.saliency_layer import fine_layer
from visus.examine.saliency_types import Saliency


def drawn_at(found: Saliency, axis: int) -> tuple[Array, Array]:
    """The pixel at which each cell along an axis is drawn, read off the map of a ramp over the cells; and whether it lies inside the input."""
    assert found.layer_map is not None
    spatial = found.traced.input_shape[1:]
    placement = MapPlacements(found.traced).of(found.layer, found.layer_map.shape[1:])
    cells = np.arange(len(placement.centers[axis]), dtype=np.float32)
    if placement.tokens is None:
        own = placement.order[axis]
        ramp = np.broadcast_to(
            cells.reshape([-1 if each == own else 1 for each in range(len(found.layer_map.shape) - 1)]),
            found.layer_map.shape[1:],
        )
    else:
        grid = tuple(map(len, placement.centers))
        ramp = np.zeros(found.layer_map.shape[1])
        ramp[placement.tokens] = np.broadcast_to(
            cells.reshape([-1 if each == axis else 1 for each in range(len(grid))]), grid
        ).ravel()
    line = np.moveaxis(placement.spread(ramp[None], spatial)[0], axis, 0).reshape(spatial[axis], -1)[:, 0]
    moving = np.flatnonzero(np.diff(line))
    inside = slice(moving[0], moving[-1] + 2)
    slope = 1.0 if line[-1] > line[0] else -1.0
    at = np.interp(slope * cells, slope * line[inside], np.arange(len(line))[inside])
    return at, (cells > line[inside].min()) & (cells < line[inside].max())


def middle_of_gradient(module: nn.Module, layer: str, shape: tuple[int, ...], position: tuple[int, ...], axis: int) -> float:
    """The middle of the pixels that a unit far from the border reads, by the gradients of many samples."""
    x = networks.noise(64, *shape).requires_grad_(True)
    output = output_of(module, x, layer)
    index = (slice(None), slice(None), *position)
    (gradient,) = torch.autograd.grad(output[index].square().sum(), x)
    other = tuple(each for each in range(gradient.dim()) if each != axis + 2)
    read = np.flatnonzero(gradient.abs().sum(other).numpy())
    return float(read[0] + read[-1]) / 2


KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "unpadded strides": ("conv(6, 3, stride=2), relu, conv(6, 3, stride=2), relu, globalpool, linear(3)", (1, 41, 41)),
    "padded": ("conv(6, 3, padding=1), relu, maxpool(2), conv(6, 3, padding=1), relu, globalpool, linear(3)", (1, 24, 32)),
    "even kernels": ("conv(6, 2), relu, conv(6, 4, stride=2), relu, globalpool, linear(3)", (2, 31, 27)),
    "dilated": ("conv(6, 3, dilation=2), relu, conv(6, 3, stride=2, dilation=2), relu, globalpool, linear(3)", (1, 40, 40)),
    "signal": ("conv(6, 5, stride=3), relu, conv(6, 3, stride=2), relu, globalpool, linear(3)", (2, 150)),
    "volume": ("conv(4, 3, stride=2), relu, conv(4, 2), relu, globalpool, linear(3)", (1, 17, 19, 21)),
    "residual": (
        "conv(6, 3, stride=2, padding=1), relu, residual(conv(6, 3, padding=1), norm, relu, conv(6, 3, padding=1), norm), relu, globalpool, "
        "linear(3)",
        (1, 40, 40),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_drawn_where_its_unit_reads(kind: str) -> None:
    text, shape = KINDS[kind]
    module = networks.designed(text, shape)
    found = grad_cam(module, networks.noise(1, *shape))
    assert found.notes == ()
    assert found.layer_map is not None
    for axis in range(len(shape) - 1):
        at, is_inside = drawn_at(found, axis)
        middle = tuple(length // 2 for length in found.layer_map.shape[1:])
        assert is_inside[middle[axis]]
        expected = middle_of_gradient(module, found.layer, shape, middle, axis)
        assert abs(at[middle[axis]] - expected) <= 0.5
        steps = np.diff(at[is_inside])
        np.testing.assert_allclose(steps, steps[0], atol=1e-3)


class Asymmetric(nn.Module):
    """More padding before than after, as for causal signals; activations are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(1, 4, 5), nn.Conv1d(4, 4, 3, stride=2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(F.pad(x, (4, 0))))
        return self.head(F.relu(self.second(F.pad(x, (2, 0)))).mean(2))


def test_asymmetric_padding_shifts_the_cells_and_an_activation_function_counts_as_one() -> None:
    torch.manual_seed(0)
    module = Asymmetric().eval()
    found = grad_cam(module, networks.noise(1, 1, 40))
    assert found.layer == "second + relu"
    at, is_inside = drawn_at(found, 0)
    expected = middle_of_gradient(module, "second", (1, 40), (10,), 0)
    assert is_inside[10]
    assert abs(at[10] - expected) <= 0.5
    again = grad_cam(module, networks.noise(1, 1, 40), found.target, layer=found.layer)
    np.testing.assert_array_equal(again.map, found.map)
    before = grad_cam(module, networks.noise(1, 1, 40), found.target, layer="second")
    assert before.notes == ()
    assert not np.array_equal(before.layer_map, found.layer_map)  # type: ignore[arg-type]


class Turned(nn.Module):
    """Mirrored, then with rows and columns exchanged."""

    def __init__(self, axes: str) -> None:
        super().__init__()
        self.axes, self.first, self.second, self.head = (
            axes,
            nn.Conv2d(1, 4, 3, stride=2),
            nn.Conv2d(4, 4, 3),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x.flip(3) if self.axes == "flip" else x.transpose(2, 3)
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


@pytest.mark.parametrize("axes", ["flip", "transpose"])
def test_mirrored_and_exchanged_axes_are_followed(axes: str) -> None:
    torch.manual_seed(1)
    module, shape = Turned(axes).eval(), (1, 21, 31)
    found = grad_cam(module, networks.noise(1, *shape))
    for axis in (0, 1):
        at, is_inside = drawn_at(found, axis)
        cells = found.layer_map.shape[1:]  # type: ignore[union-attr]
        place = [2, 2]
        own = 1 - axis if axes == "transpose" else axis
        expected = middle_of_gradient(module, "second", shape, tuple(place), axis)
        assert len(at) == cells[own]
        assert is_inside[2]
        assert abs(at[2] - expected) <= 0.5


def test_a_map_of_one_cell_along_an_axis_fills_it() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, (16, 3)), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    found = grad_cam(module.eval(), networks.noise(1, 1, 16, 20))
    assert (found.layer, found.map.shape) == ("4", (1, 16, 20))
    assert (found.map == found.map[:, :1]).all()
    at, _ = drawn_at(found, 1)
    np.testing.assert_allclose(at, np.arange(16) + 2.0, atol=1e-5)


def test_upsampled_cells_lie_on_what_they_were_made_of() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2))
    placement = MapPlacements(TracedFields(module, (1, 8, 8))).of("2", (8, 8))
    assert placement.quality == EXACT
    np.testing.assert_array_equal(placement.centers[0], [0.5, 0.5, 2.5, 2.5, 4.5, 4.5, 6.5, 6.5])
    cells = np.arange(8.0).repeat(8).reshape(1, 8, 8)
    assert placement.spread(cells, (8, 8))[0, 0, 0] == pytest.approx(0.5), "cells at one center share it"


class Odd(nn.Module):
    """Its forward cannot be traced: it leaves torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor or x.device.type == "meta" or len(x) != 2:
            raise RuntimeError("two real samples are needed")
        return self.head(self.act(self.conv(x)).mean((2, 3)))


def test_where_no_field_is_known_the_map_is_stretched_and_says_so() -> None:
    found = grad_cam(Odd().eval(), networks.noise(2, 1, 9, 9))
    assert found.layer == "act"
    assert found.notes == (
        "The map of 'act' is stretched over the image, because the receptive fields could not be computed (Odd fails on an input of shape "
        f"(1, 9, 9): RuntimeError: two real samples are needed, at {__file__}, line {Odd.forward.__code__.co_firstlineno + 2}. "
        "Give another input shape, or mend that line): its positions are not exact.",
    )
    placement = MapPlacements(found.traced).of("act", (7, 7))
    assert placement.quality == STRETCHED
    np.testing.assert_allclose(placement.centers[0], (np.arange(7) + 0.5) * 9 / 7 - 0.5)


def test_cells_that_read_everything_are_placed_as_those_before_them() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.steps, self.head = nn.Conv1d(1, 8, 3, stride=2), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.steps(torch.relu(self.conv(x)).transpose(1, 2))[0].mean(1))

    module = Recurrent().eval()
    assert grad_cam(module, networks.noise(2, 1, 33)).layer == "conv + relu"
    found = grad_cam(module, networks.noise(2, 1, 33), layer="steps")
    assert found.layer_map is not None
    assert found.layer_map.shape == (2, 16)
    placement = MapPlacements(found.traced).of("steps", (16,))
    assert placement.quality == IN_ORDER
    np.testing.assert_array_equal(placement.centers[0], 2.0 * np.arange(16) + 1)
    assert found.notes == (
        "Each cell of 'steps' reads the whole signal; the cells are placed like those of 'conv', the last layer before it whose cells "
        "have receptive fields of their own.",
    )


class Attention(nn.Module):
    """A block of a vision transformer, written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mix, self.act, self.back = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return x + self.back(self.act(self.mix(x)))


class Transformer(nn.Module):
    """Patches of 4 x 4 pixels as tokens, with or without a class token."""

    def __init__(self, *, has_class: bool, patches: int = 24, rank: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if rank == 2 else nn.Conv1d
        self.patch = conv(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if has_class else None
        self.place = nn.Parameter(torch.randn(1, patches + has_class, 16))
        self.blocks, self.norm, self.head = nn.Sequential(Attention(16), Attention(16)), nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.place))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


@pytest.mark.parametrize("has_class", [False, True])
def test_tokens_are_laid_out_as_the_grid_of_their_patches(has_class: bool) -> None:
    torch.manual_seed(0)
    module = Transformer(has_class=has_class).eval()
    found = grad_cam(module, networks.noise(2, 3, 16, 24))
    assert found.layer.startswith("blocks.")
    assert (found.map.max((1, 2)) > 0).any(), (
        "a class token alone goes on behind the last attention: an earlier layer is taken"
    )
    placement = MapPlacements(found.traced).of(found.layer, (24 + has_class,))
    assert [each.tolist() for each in placement.centers] == [[1.5, 5.5, 9.5, 13.5], [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]]
    assert placement.tokens is not None
    assert placement.tokens.tolist() == list(range(has_class, 24 + has_class))
    left = ", 1 of 25 tokens (such as a class token) dropped" if has_class else ""
    assert found.notes == (
        f"The cells of '{found.layer}' are tokens, laid out as the grid of 4 x 6 patches that '{'cat' if has_class else 'add'}' reads{left}.",
    )
    cells = np.zeros((1, 24 + has_class))
    cells[0, has_class + 7] = 1.0
    row, column = np.unravel_index(placement.spread(cells, (16, 24))[0].argmax(), (16, 24))
    assert (row, column) in {(5, 5), (5, 6), (6, 5), (6, 6)}, "patch 7 is in the second row and the second column"


def test_tokens_of_a_signal_behind_a_class_token_are_not_one_off() -> None:
    torch.manual_seed(0)
    module = Transformer(has_class=True, patches=10, rank=1).eval()
    found = grad_cam(module, networks.noise(1, 3, 40))
    placement = MapPlacements(found.traced).of(found.layer, (11,))
    assert placement.tokens is not None
    assert placement.tokens.tolist() == list(range(1, 11))
    np.testing.assert_array_equal(placement.centers[0], 4.0 * np.arange(10) + 1.5)


@given(st.lists(st.floats(-5, 25), min_size=1, max_size=6, unique=True), st.integers(1, 20), st.integers(0, 99))
def test_spreading_interpolates_between_centers_and_keeps_the_ends(centers: list[float], length: int, seed: int) -> None:
    values = np.random.default_rng(seed).random((2, len(centers)))
    found = MapPlacement((np.array(centers),), (0,), EXACT).spread(values, (length,))
    order = np.argsort(centers)
    for row in (0, 1):
        expected = np.interp(np.arange(length), np.array(centers)[order], values[row][order])
        np.testing.assert_allclose(found[row], expected, atol=1e-4 / max(1e-3, np.diff(np.sort(centers)).min(initial=1.0)))


@pytest.mark.parametrize(
    ("make", "shape", "layer"),
    [
        (networks.small_compact, (1, 28, 28), "stage2.gelu2"),
        (networks.small_resnet, (3, 32, 32), "stage3.block2.relu1"),
    ],
)
def test_the_fine_layer_is_behind_its_activation(make: Callable[[], nn.Module], shape: tuple[int, ...], layer: str) -> None:
    found = fine_layer(make(), networks.noise(1, *shape))
    assert found is not None
    assert found[0] == layer
    assert found[1].startswith(f"'{layer}' is the last layer after an activation whose map (")
