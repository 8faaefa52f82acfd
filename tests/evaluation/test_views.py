"""Views of an item: weights add up to 1, answers are their mean, and a plain view changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visus.errors import UsageError
from visus.evaluation.predictions import predict_logits
from visus.evaluation.views import VIEWS, describe_views, num_views, views

SHAPES = [(3, 2, 40), (3, 1, 9, 70), (2, 1, 4, 5, 6), (2, 1, 1, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", VIEWS)
def test_weights_of_views_add_up_to_one_and_the_item_itself_is_the_first(shape: tuple[int, ...], kind: str) -> None:
    batch = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = list(views(batch, kind))
    assert len(found) == num_views(kind)
    assert sum(weight for _, weight in found) == 1
    assert torch.equal(found[0][0], batch)
    assert all(view.shape == batch.shape for view, _ in found)


def test_moved_views_are_shifted_by_a_32nd_of_each_side_both_ways() -> None:
    picture = torch.arange(64.0 * 96).reshape(1, 1, 64, 96)
    (_, one), (there, two), (back, three) = views(picture, "shift")
    assert (one, two, three) == (0.5, 0.25, 0.25)
    assert torch.equal(there[..., 2:, 3:], picture[..., :-2, :-3])
    assert torch.equal(back[..., :-2, :-3], picture[..., 2:, 3:])
    assert torch.equal(there[..., 1, :], there[..., 3, :])  # what enters is reflected


def test_mirrored_views_are_mirrored_along_the_last_axis_alone() -> None:
    picture = torch.randn(2, 3, 5, 7)
    found = [view for view, _ in views(picture, "flip")]
    assert torch.equal(found[1], picture.flip(-1))


@pytest.mark.parametrize("kind", VIEWS)
def test_answers_are_the_mean_over_the_views(kind: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    items = torch.randn(7, 1, 10, 10)
    found = predict_logits(network, items.split(4), tta=kind)
    expected = sum(weight * network(view) for view, weight in views(items, kind)).detach()
    assert torch.allclose(found, expected, atol=1e-6)
    if kind == "none":
        assert torch.equal(found, predict_logits(network, items.split(4)))


def test_unknown_views_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        predict_logits(nn.Flatten(), [torch.zeros(1, 2)], tta="flips")
    assert str(caught.value) == "unknown tta 'flips'. Did you mean 'flip'? Known: flip, flip+shift, none, shift."


def test_a_reader_is_told_the_views_where_there_are_several() -> None:
    assert describe_views("none") == ""
    assert describe_views("flip", "volume") == (
        "Each answer is the mean over 2 views: the volume as it is, and mirrored left to right."
    )
    for kind in VIEWS[:-2]:
        assert f"over {num_views(kind)} views" in describe_views(kind)
