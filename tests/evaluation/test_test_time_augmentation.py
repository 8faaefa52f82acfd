"""Views of a sample: weights add up to 1, answers are their mean, and a plain view changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visus.errors import UsageError
from visus.evaluation.predictions import predict_logits
from visus.evaluation.test_time_augmentation import SURE, VIEWS, describe_views, num_views, stages, unsure, views

OF_ALL = [kind for kind in VIEWS if not kind.startswith("unsure:")]
OF_UNSURE = [kind for kind in VIEWS if kind.startswith("unsure:")]
SHAPES = [(3, 2, 40), (3, 1, 9, 70), (2, 1, 4, 5, 6), (2, 1, 1, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", OF_ALL)
def test_weights_of_views_add_up_to_one_and_the_sample_itself_is_the_first(shape: tuple[int, ...], kind: str) -> None:
    batch = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = list(views(batch, kind))
    assert len(found) == num_views(kind)
    assert sum(weight for _, weight in found) == 1
    assert torch.equal(found[0][0], batch)
    assert all(view.shape == batch.shape for view, _ in found)


def test_moved_views_are_shifted_by_a_32nd_of_each_side_both_ways() -> None:
    image = torch.arange(64.0 * 96).reshape(1, 1, 64, 96)
    (_, one), (there, two), (back, three) = views(image, "shift")
    assert (one, two, three) == (0.5, 0.25, 0.25)
    assert torch.equal(there[..., 2:, 3:], image[..., :-2, :-3])
    assert torch.equal(back[..., :-2, :-3], image[..., 2:, 3:])
    assert torch.equal(there[..., 1, :], there[..., 3, :])  # what enters is reflected


def test_mirrored_views_are_mirrored_along_the_last_axis_alone() -> None:
    image = torch.randn(2, 3, 5, 7)
    found = [view for view, _ in views(image, "flip")]
    assert torch.equal(found[1], image.flip(-1))


@pytest.mark.parametrize("kind", OF_ALL)
def test_answers_are_the_mean_over_the_views(kind: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    samples = torch.randn(7, 1, 10, 10)
    found = predict_logits(network, samples.split(4), tta=kind)
    expected = sum(weight * network(view) for view, weight in views(samples, kind)).detach()
    assert torch.allclose(found, expected, atol=1e-6)
    if kind == "none":
        assert torch.equal(found, predict_logits(network, samples.split(4)))


def test_unknown_views_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        predict_logits(nn.Flatten(), [torch.zeros(1, 2)], tta="flips")
    assert str(caught.value) == (
        "unknown tta 'flips'. Did you mean 'flip'? Known: flip, flip+shift, none, shift, unsure:flip, unsure:flip+shift, unsure:shift."
    )


class Noted(nn.Module):
    """Logits by the mean of a sample, between sure and unsure; notes how many samples it is given each time."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        self.lengths.append(len(samples))
        weights = torch.linspace(0, 0.3, samples[0].numel())
        return torch.stack([samples.flatten(1) @ weights, torch.zeros(len(samples))], dim=1)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    kind=st.sampled_from(OF_UNSURE),
    seed=st.integers(0, 1000),
)
def test_unsure_samples_alone_get_the_mean_over_views_wherever_they_stand(lengths: list[int], kind: str, seed: int) -> None:
    samples = torch.randn(sum(lengths), 1, 6, 5, generator=torch.Generator().manual_seed(seed))
    one = predict_logits(Noted(), samples.split(lengths))
    several = predict_logits(Noted(), samples.split(lengths), tta=kind.removeprefix("unsure:"))
    first: list[torch.Tensor] = []
    found = predict_logits(Noted(), samples.split(lengths), tta=kind, on_first_pass=first.append)
    assert torch.equal(first[0], one)
    expected = torch.where(unsure(one)[:, None], several, one)
    assert torch.allclose(found, expected, atol=1e-5)


def test_views_of_unsure_samples_are_asked_for_in_batches_of_such_samples() -> None:
    network, samples = Noted(), torch.zeros(20, 1, 6, 5)
    samples[::4] = 10.0  # five of them are sure
    predict_logits(network, samples.split(8), tta="unsure:flip")
    assert network.lengths == [8, 8, *(8, 8), *(4, 4), 4, *(3, 3)]


def test_an_answer_is_unsure_where_the_next_class_is_less_than_half_behind() -> None:
    shares = torch.tensor([[0.75, 0.25], [0.74, 0.26], [0.5, 0.5], [1.0, 0.0]])
    assert unsure(shares.log()).tolist() == [False, True, True, False]
    assert SURE == 0.5
    assert unsure(torch.zeros(3, 1)).tolist() == [False] * 3  # a single class


def test_a_reader_is_reported_the_views_where_there_are_several() -> None:
    assert describe_views("none") == ""
    assert describe_views("flip", "volume", in_full=True) == (
        "Each prediction is the mean over 2 copies of the volume: unchanged, and mirrored left to right (test-time augmentation)."
    )
    assert describe_views("unsure:shift", "image", in_full=True) == (
        "Where the top two probabilities (before calibration) are within 0.5 of each other, the prediction is the mean over 3 copies of the image: unchanged (half of the "
        "weight), and shifted a little both ways along all axes (test-time augmentation)."
    )
    assert describe_views("unsure:shift", "image") == (
        "Unsure predictions are the mean over 3 copies of the image: unchanged and shifted (test-time augmentation)."
    )
    for kind in VIEWS:
        for in_full in (False, True):
            assert (f"over {num_views(kind)} copies" in describe_views(kind, in_full=in_full)) == (kind != "none")
        assert stages(kind) in [(kind, None), ("none", kind.removeprefix("unsure:"))]


def test_samples_of_one_position_have_no_moved_views() -> None:
    samples = torch.randn(4, 3, 1, 1)
    assert [weight for _, weight in views(samples, "shift")] == [1.0]
    assert [weight for _, weight in views(samples, "flip+shift")] == [0.5, 0.5]
    assert len(list(views(torch.randn(4, 3, 1, 5), "shift"))) == 3
