"""Mixup and CutMix: shares of labels are shares of pixels, and any number of processes mixes alike."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from visus.data.augment import Augmentation, BatchRandom, SampleFacts
from visus.data.augment.mixing import CutMix, Mixup, draw_pairs
from visus.data.batches import Batch, Batches, BatchShard, Part, random_stream
from visus.data.preprocessing import Preprocessing

SIZES = st.sampled_from([(9,), (8, 7), (5, 6, 7)])


def whole(seed: int, count: int = 12) -> BatchRandom:
    """Random numbers of a whole batch."""
    return BatchRandom(random_stream(seed), count, slice(None))


def one_hot_samples(count: int, size: tuple[int, ...]) -> torch.Tensor:
    """Samples whose channel i is 1 in sample i and 0 elsewhere, so that a channel's mean is the sample's share of the pixels."""
    return torch.eye(count).reshape(count, count, *[1] * len(size)).expand(count, count, *size)


@given(SIZES, st.integers(0, 1000), st.sampled_from([Mixup(0.2), Mixup(1.0), CutMix(1.0), CutMix(0.3)]))
def test_the_share_of_each_label_is_its_share_of_the_pixels(
    size: tuple[int, ...], seed: int, mixing: Mixup | CutMix
) -> None:
    pairs = mixing.draw(whole(seed), size)
    samples = one_hot_samples(12, size)
    shares = pairs.mix(samples, samples[pairs.other]).flatten(2).mean(2)
    expected = pairs.share[:, None] * torch.eye(12) + (1 - pairs.share[:, None]) * torch.eye(12)[pairs.other]
    assert torch.allclose(shares, expected, atol=1e-5)
    assert sorted(pairs.other.tolist()) == list(range(12)), "every sample is the other one of exactly one"
    assert ((pairs.share >= 0) & (pairs.share <= 1)).all()


@given(SIZES, st.integers(0, 1000))
def test_cutmix_copies_one_box_unchanged(size: tuple[int, ...], seed: int) -> None:
    pairs = CutMix(1.0).draw(whole(seed), size)
    own = torch.rand(12, 2, *size, generator=random_stream(seed))
    other = own[pairs.other] + 10
    mixed = pairs.mix(own, other)
    is_other = mixed >= 10
    assert torch.equal(mixed, torch.where(is_other, other, own))
    for sample in is_other[:, 0]:
        places = sample.nonzero()
        if len(places):
            assert int((places.amax(0) - places.amin(0) + 1).prod()) == len(places)


def test_shares_follow_the_asked_distribution() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)); mixup takes the larger share, CutMix loses what lies beyond the edges."""
    for alpha in (0.2, 1.0, 4.0):
        share = Mixup(alpha).draw(whole(0, 20_000), (4,)).share
        assert float(share.min()) >= 0.5
        assert abs(float((share - 0.5).square().mean()) - 1 / (4 * (2 * alpha + 1))) < 0.01
        cut = CutMix(alpha).draw(whole(0, 20_000), (400,)).share
        assert 0.5 < float(cut.mean()) < 0.75
        assert float(cut.min()) < 0.3


def test_each_batch_uses_one_of_two_mixings() -> None:
    kinds = [bool(draw_pairs((Mixup(1.0), CutMix(1.0)), whole(seed), (8, 8)).firsts) for seed in range(200)]
    assert 70 < sum(kinds) < 130


PIXELS = np.random.default_rng(0).integers(0, 255, (40, 3, 12, 12), dtype=np.uint8)
PLAN = Preprocessing("array", 3, (12, 12), "squash", "uint8", "mean-deviation", (128.0,) * 3, (60.0,) * 3)


def batches(**settings: Any) -> Batches:
    """Batches of 16 color images with an augmentation."""
    split = Part("train", PIXELS, np.arange(40), np.arange(40) % 7, tuple(map(str, range(40))))
    augmentation = Augmentation.of(settings, SampleFacts((12, 12)))
    return Batches(split, PLAN, 16, 0, augmentation, torch.device("cpu"), False)


def noisy(batch: torch.Tensor) -> torch.Tensor:
    """A person's transform with random numbers of PyTorch and NumPy."""
    return batch + 0.1 * torch.randn_like(batch) + 0.01 * float(np.random.rand())


ALL = {
    "flip": "alternating",
    "translate": 0.1,
    "rotate90": "random",
    "rotate": 10.0,
    "crop": 0.5,
    "color": 0.3,
    "policy": "2x9",
}


@pytest.mark.parametrize("num_slices", [2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.4},
        {"cutmix": 1.0},
        {"mixup": 0.4, "cutmix": 1.0, **ALL},
        {"transform": noisy},
        {"transform": noisy, "cutmix": 1.0},
    ],
    ids=["mixup", "cutmix", "all", "own", "own and cutmix"],
)
def test_slices_of_several_processes_put_together_are_the_batch_of_one(settings: dict[str, Any], num_slices: int) -> None:
    from visus.own_callables import FunctionName

    given = {name: FunctionName.of(value) if callable(value) else value for name, value in settings.items()}
    one = batches(**given)
    slices = [dataclasses.replace(one, shard=BatchShard(index, num_slices)) for index in range(num_slices)]
    for batch, *parts in zip(one.epoch(1), *(each.epoch(1) for each in slices), strict=True):
        assert torch.allclose(torch.cat([part.inputs for part in parts]), batch.inputs, atol=1e-5)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        if batch.share is not None and batch.other_labels is not None:
            assert torch.equal(torch.cat([part.share for part in parts if part.share is not None]), batch.share)
            others = [part.other_labels for part in parts if part.other_labels is not None]
            assert torch.equal(torch.cat(others), batch.other_labels)


def test_an_epoch_entered_at_any_step_has_the_same_batches() -> None:
    from visus.own_callables import FunctionName

    settings = {**ALL, "mixup": 0.4, "cutmix": 1.0, "cutout": 0.2, "transform": FunctionName.of(noisy)}
    whole_epoch = list(batches(**settings).epoch(2))
    torch.rand(7), np.random.rand(3)  # what else draws random numbers in between
    (second,) = batches(**settings).epoch(2, first_step=1)
    assert torch.equal(second.inputs, whole_epoch[1].inputs)
    assert torch.equal(second.share, whole_epoch[1].share)  # type: ignore[arg-type]


def test_mixing_changes_no_other_random_number() -> None:
    for plain, mixed in zip(batches(**ALL).epoch(0), batches(**ALL, mixup=0.4).epoch(0), strict=True):
        assert mixed.share is not None
        is_plain = mixed.share > 0.9999
        assert torch.allclose(mixed.inputs[is_plain], plain.inputs[is_plain], atol=1e-2)
        assert torch.equal(mixed.labels, plain.labels)


def test_samples_without_mixing_have_no_other_labels() -> None:
    batch = next(batches(**ALL).epoch(0))
    assert (batch.other_labels, batch.share) == (None, None)
    assert batch.main_labels is batch.labels


@given(st.integers(0, 1000))
def test_the_loss_of_mixed_samples_is_that_of_mixed_targets(seed: int) -> None:
    """Cross-entropy is linear in the target, so PyTorch's loss of probabilities is the oracle."""
    generator = random_stream(seed)
    logits, labels = torch.randn(6, 4, generator=generator), torch.randint(4, (6,), generator=generator)
    others, share = torch.randint(4, (6,), generator=generator), torch.rand(6, generator=generator)
    batch = Batch(logits, labels, 0, None, others, share)

    def loss(wanted: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        assert weight is not None
        return (F.cross_entropy(logits, wanted, reduction="none", label_smoothing=0.1) * weight).mean()

    target = share[:, None] * F.one_hot(labels, 4) + (1 - share[:, None]) * F.one_hot(others, 4)
    assert torch.allclose(batch.mean_loss(loss), F.cross_entropy(logits, target, label_smoothing=0.1), atol=1e-6)


def test_the_main_label_has_the_larger_share_for_classes_and_for_rows_of_numbers() -> None:
    share = torch.tensor([0.7, 0.2, 0.5])
    classes = Batch(torch.zeros(3, 1), torch.tensor([0, 1, 2]), 0, None, torch.tensor([5, 6, 7]), share)
    assert classes.main_labels.tolist() == [0, 6, 2]
    rows = Batch(torch.zeros(3, 1), torch.zeros(3, 2), 0, None, torch.ones(3, 2), share)
    assert rows.main_labels.tolist() == [[0, 0], [1, 1], [0, 0]]
