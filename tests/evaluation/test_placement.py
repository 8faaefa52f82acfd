"""Heat maps over place and size: every place is scored once, and a network that looks in one place is found out."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from visus.errors import DataError, UsageError
from visus.evaluation.placement import measure_placement
from visus.evaluation.predictions import predict_logits


class Corner(nn.Module):
    """Says class 1 where there is light in the first half of every axis."""

    def forward(self, x: Tensor) -> Tensor:
        for axis in range(2, x.dim()):
            x = x.narrow(axis, 0, x.shape[axis] // 2)
        light = x.flatten(1).sum(1)
        return torch.stack([torch.full_like(light, 0.5), light], 1)


class Anywhere(nn.Module):
    """Says class 1 where there is light anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        light = x.flatten(1).sum(1)
        return torch.stack([torch.full_like(light, 0.5), light], 1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_network_that_looks_into_one_corner_is_right_there_alone(rank: int) -> None:
    samples, labels = torch.ones(3, 1, *[8] * rank), torch.ones(3, dtype=torch.long)
    found = measure_placement(Corner(), samples, labels, sizes=(0.5,), num_places=3)
    (placed,) = found.sizes
    assert (placed.object_px, placed.starts_px, placed.shape) == ((4,) * rank, ((0, 2, 4),) * rank, (3,) * rank)
    seen = torch.tensor(placed.accuracy).reshape(placed.shape)
    assert (placed.lowest, placed.highest) == (0.0, 1.0)
    assert seen[(2,) * rank] == 0.0
    assert seen[(1,) * rank] == 1.0
    assert torch.equal(
        seen, torch.where(torch.stack(torch.meshgrid(*[torch.arange(3)] * rank, indexing="ij")).amax(0) < 2, 1.0, 0.0)
    )
    everywhere = measure_placement(Anywhere(), samples, labels, sizes=(0.5,), num_places=3)
    assert everywhere.sizes[0].lowest == 1.0


def test_the_full_size_on_its_own_canvas_is_the_plain_accuracy() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    samples, labels = torch.randn(20, 1, 6, 6), torch.arange(20) % 3
    placed = measure_placement(network, samples, labels, sizes=(1.0,)).sizes[0]
    plain = (predict_logits(network, [samples]).argmax(1) == labels).double().mean()
    assert (placed.starts_px, placed.accuracy) == (((0,), (0,)), (float(plain),))


def test_the_canvas_is_the_background_around_the_object() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return torch.zeros(len(x), 2)

    found = measure_placement(Watching(), torch.full((2, 2, 3, 3), 7.0), torch.zeros(2, dtype=torch.long),
                              canvas_px=(5, 4), sizes=(1.0,), num_places=2, background=torch.tensor([1.0, -1.0]))  # fmt: skip
    assert (found.canvas_px, found.sizes[0].starts_px) == ((5, 4), ((0, 2), (0, 1)))
    assert [tuple(each.shape) for each in seen] == [(2, 2, 5, 4)] * 4
    last = seen[-1][0]
    assert torch.equal(last[:, 2:, 1:], torch.full((2, 3, 3), 7.0))
    assert (last[:, 0, 0].tolist(), int((last == 7).sum())) == ([1.0, -1.0], 18)


def test_heat_maps_are_plain_data() -> None:
    found = measure_placement(Anywhere(), torch.ones(2, 1, 8, 8), torch.tensor([1, 0]))
    facts = json.loads(json.dumps(found.to_json()))
    assert [each["object_px"] for each in facts["sizes"]] == [[4, 4], [6, 6], [8, 8]]
    assert facts["sizes"][0]["accuracy"] == [[0.5] * 5] * 5
    assert facts["sizes"][1]["starts_px"] == [[0, 1, 2], [0, 1, 2]]


def test_what_cannot_be_pasted_is_refused_in_words() -> None:
    samples, labels = torch.ones(2, 1, 8, 8), torch.ones(2, dtype=torch.long)
    with pytest.raises(UsageError) as caught:
        measure_placement(Anywhere(), samples, labels, canvas_px=(8, 6))
    assert str(caught.value) == (
        "an object of 8 x 8 px does not fit on a canvas of 8 x 6 px. Use a larger canvas or smaller sizes."
    )
    with pytest.raises(DataError) as caught_data:
        measure_placement(Anywhere(), samples[:0], labels[:0])
    assert str(caught_data.value) == "there is nothing to paste: no samples were given."
