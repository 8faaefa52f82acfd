"""Equivariance of every layer: exact in the interior where the trace says so, and the layer that breaks it is named."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.evaluation.equivariance import BROKEN, LayerShift, measure_equivariance
from visus.evaluation.shifts import total_step
from visus.networks.trace import trace

from .moving import designed, halving, images, ring

NETWORKS = [
    ("conv(4, 3, padding=1), norm, relu, maxpool(2), conv(4, 3, stride=2, padding=1), relu, globalpool, linear(classes)", (2, 40, 40)),
    ("conv(4, 5, stride=3), 2 * [residual(conv(4, 3, padding=1), relu), relu], avgpool(2), flatten, linear(classes)", (1, 47, 41)),
    ("conv(4, 3, stride=2), concat([conv(2, 1)], [conv(2, 3, padding=1), relu]), upsample(2), conv(3, 3), globalpool, linear(classes)", (1, 30, 30)),
    ("conv(4, 9, padding=4), relu, maxpool(4), residual(conv(8, 9, stride=2, padding=4), norm), globalpool, linear(classes)", (1, 200)),
    ("conv(2, 3, padding=1), blurpool(3), residual(depthwise(3, padding=1)), globalpool, linear(classes)", (1, 20, 20, 20)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_the_interior_moves_exactly_with_a_shift_by_the_step(text: str, shape: tuple[int, ...]) -> None:
    network = designed(text, *shape)
    step = total_step(trace(network, shape))
    for sign in (1, -1):
        found = measure_equivariance(network, images(2, *shape), [sign * pixels for pixels in step], "zeros")
        maps = [each for each in found.layers if each.step_px]
        assert len(maps) >= 3
        assert all(each.is_whole for each in maps)
        assert sum(each.interior_error is not None for each in maps) >= 2
        assert max(each.interior_error or 0 for each in maps) < 1e-5


def test_every_layer_of_a_ring_moves_with_its_step_border_included() -> None:
    found = measure_equivariance(ring(2), images(2, 2, 16, 16), (4, 4))
    assert max(each.error for each in found.layers) < 1e-6
    assert found.first_broken is None
    assert found.sentence() == "every layer is equivariant to a shift of 4 x 4 px."


def test_no_position_of_a_ring_is_left_out() -> None:
    found = measure_equivariance(ring(1), images(1, 2, 8), (5,))
    assert [each.error is None for each in found.layers] == [False] * len(found.layers)
    cut = measure_equivariance(ring(1), images(1, 2, 8), (5,), "edge")
    assert [each.error is None for each in cut.layers if each.step_px == (4,)] == [True, True]


def test_the_strided_layer_is_named_with_its_step() -> None:
    network = designed("conv(8, 3, padding=1), relu, conv(8, 3, stride=2, padding=1), relu, conv(8, 3, padding=1), globalpool, linear(classes)", 2, 24, 24)  # fmt: skip
    found = measure_equivariance(network, images(3, 2, 24, 24), (1, 1), "edge")
    assert found.first_broken is not None
    assert (found.first_broken.path, found.first_broken.step_px, found.first_broken.is_whole) == ("conv2", (2, 2), False)
    error = f"{100 * found.first_broken.interior_error:.1f} %"
    assert (
        found.sentence()
        == f"apart from the border, conv2 is the first layer that is not equivariant: its stride of 2 x 2 px does not divide a shift of 1 x 1 px; its map "
        f"changes by {error}. At the border, conv1 is the first: the padding does not move with the image."
    )
    assert [each.interior_error < BROKEN for each in found.layers[:2]] == [True, True]


def test_the_border_is_named_where_nothing_else_breaks_it() -> None:
    network = designed("conv(4, 3, padding=1), relu, globalpool, linear(classes)", 1, 12, 12)
    found = measure_equivariance(network, images(2, 1, 12, 12), (0, 2))
    assert found.first_broken is not None
    assert (found.first_broken.path, found.first_broken.interior_error < BROKEN) == ("conv1", True)
    assert found.sentence().startswith(
        "at the border, conv1 is the first layer that is not equivariant to a shift of 0 x 2 px: the padding does not move with the image; its map changes "
        "by "
    )


def test_flatten_is_named_where_it_ties_numbers_to_places() -> None:
    class Ring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv1d(1, 3, 3, padding=1, padding_mode="circular")
            self.flatten, self.head = nn.Flatten(), nn.Linear(36, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.flatten(self.body(x)))
            return out

    torch.manual_seed(0)
    found = measure_equivariance(Ring(), images(2, 1, 12), (1,))
    assert [each.path for each in found.layers] == ["body", "flatten", "head"]
    assert found.sentence().startswith(
        "flatten is the first layer that is not equivariant: each of its outputs belongs to one position of the signal, and a shift of 1 point changes them by "
    )


def test_weights_that_differ_from_place_to_place_are_named_too() -> None:
    class Placed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.linspace(1, 2, x.shape[-1])

    found = measure_equivariance(nn.Sequential(Placed(), nn.AdaptiveAvgPool1d(1), nn.Flatten()), images(2, 1, 12), (1,))
    assert found.first_broken is not None
    assert found.sentence().startswith(
        "0 is the first layer that is not equivariant: it treats positions differently; its map changes by "
    )


def test_a_blurred_map_moves_better_between_its_positions_than_a_strided_one() -> None:
    def error(is_blurred: bool) -> float:
        found = measure_equivariance(halving(0, is_blurred=is_blurred), images(4, 2, 16, 16), (1, 1))
        return [each for each in found.layers if each.step_px == (2, 2)][-1].error

    assert error(True) < 0.5 * error(False)


def test_layers_called_twice_and_sums_have_rows_of_their_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.conv(self.conv(x)).mean(dim=(2, 3)))
            return out

    paths = [each.path for each in measure_equivariance(Twice(), torch.randn(1, 1, 9, 9), (1, 1)).layers]
    assert paths[:2] == ["conv", "conv#2"]
    network = designed("residual(conv(2, 3, padding=1), relu), globalpool, linear(classes)", 2, 9, 9)
    paths = [each.path for each in measure_equivariance(network, torch.randn(1, 2, 9, 9), (1, 1)).layers]
    assert paths == ["residual1.conv1", "residual1.relu1", "residual1.add", "globalpool1", "linear1"]


def test_the_module_comes_back_as_it_was() -> None:
    network = designed("conv(2, 3), norm, relu, globalpool, linear(classes)", 2, 9, 9).train()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    measure_equivariance(network, torch.randn(2, 2, 9, 9), (1, 1))
    assert all(part.training for part in network.modules())
    assert all(not part._forward_hooks for part in network.modules())
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


def test_errors_are_plain_data() -> None:
    facts = json.loads(json.dumps(measure_equivariance(ring(1), images(1, 2, 16), (3,)).to_json()))
    assert facts["first_broken"] == facts["layers"][2]["path"] == "2"
    assert set(facts["layers"][0]) == set(LayerShift.__dataclass_fields__)


def test_a_cropped_image_has_no_counterpart_and_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        measure_equivariance(ring(1), images(1, 2, 16), (1,), "crop")
    assert str(caught.value) == "a cropped sample is enlarged, so its maps have no unshifted counterpart. Use another way."
