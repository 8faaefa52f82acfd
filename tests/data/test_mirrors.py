"""Mirroring: the items themselves say whether it keeps their class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.data.batches import Part
from visus.data.mirrors import CHUNK, MirrorTest, mirror_test

NUM_EACH = 60


def part(items: np.ndarray, labels: np.ndarray) -> Part:
    """A split of these items."""
    return Part("train", items, np.arange(len(items)), labels.astype(np.int64), ("",) * len(items))


def shapes(seed: int, *, is_turned: bool, rank: int = 2) -> Part:
    """Noisy bars: of class 0 on the left, of class 1 on the right, or, where that means nothing, at the top and at the bottom."""
    random = np.random.default_rng(seed)
    items = random.integers(0, 60, (2 * NUM_EACH, 1, *[12] * rank))
    labels = np.arange(2 * NUM_EACH) % 2
    for item, label in zip(items, labels, strict=True):
        axis = item.ndim - 1 if is_turned else 1
        item[(slice(None),) * axis + (slice(0, 4) if label == 0 else slice(8, 12),)] += 150
    return part(items.astype(np.uint8), labels)


@pytest.mark.parametrize("rank", [2, 3])
def test_left_and_right_are_told_from_top_and_bottom(rank: int) -> None:
    told = mirror_test(shapes(0, is_turned=True, rank=rank), seed=0)
    assert told is not None
    assert (told.plain, told.mirrored, told.keeps_class) == (1.0, 0.0, False)
    told = mirror_test(shapes(0, is_turned=False, rank=rank), seed=0)
    assert told is not None
    assert (told.plain, told.mirrored, told.keeps_class) == (1.0, 1.0, True)


@given(st.integers(0, 1000))
def test_items_that_are_their_own_mirror_image_lose_nothing(seed: int) -> None:
    half = np.random.default_rng(seed).integers(0, 256, (40, 2, 5, 3)).astype(np.uint8)
    found = mirror_test(part(np.concatenate([half, half[..., ::-1]], axis=-1), np.arange(40) % 4), seed)
    assert found is not None
    assert found.mirrored == found.plain


def test_noise_tells_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8)).astype(np.uint8)
    found = mirror_test(part(noise, np.arange(200) % 2), seed=0)
    assert found is not None
    assert found.kept is None
    assert found.keeps_class is None
    assert found.chance == 0.5


def test_what_is_kept_is_counted_above_chance() -> None:
    assert MirrorTest(1000, plain=0.8, mirrored=0.45, chance=0.1).kept == pytest.approx(0.5)
    assert MirrorTest(1000, plain=0.95, mirrored=0.05, chance=0.5).keeps_class is False  # b and d
    assert MirrorTest(1000, plain=0.51, mirrored=0.5, chance=0.5).keeps_class is None


def test_recordings_and_narrow_or_single_items_have_no_answer() -> None:
    recordings = np.zeros((10, 1, 50), np.int16)
    narrow = np.zeros((10, 1, 8, 1), np.uint8)
    for items in (recordings, narrow, np.zeros((1, 1, 8, 8), np.uint8)):
        assert mirror_test(part(items, np.zeros(len(items))), seed=0) is None


def test_it_is_the_same_again_and_draws_nothing_from_the_common_random_numbers() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    items = np.random.default_rng(1).integers(0, 256, (CHUNK + 40, 3, 9, 7)).astype(np.uint8)
    data = part(items, np.arange(len(items)) % 3)
    assert mirror_test(data, seed=5) == mirror_test(data, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
