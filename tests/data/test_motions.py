"""The nearest-neighbor test of whether mirroring keeps the class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.data import motions
from visus.data.batches import Part
from visus.data.motions import CHUNK, MOTIONS, MotionTest, motion_test

NUM_EACH = 60


def part(samples: np.ndarray, labels: np.ndarray) -> Part:
    """A split of these samples."""
    return Part("train", samples, np.arange(len(samples)), labels.astype(np.int64), ("",) * len(samples))


def shapes(seed: int, *, is_channels_last: bool, rank: int = 2) -> Part:
    """Noisy bars: on the left for class 0 and on the right for class 1, or else at the top and at the bottom."""
    random = np.random.default_rng(seed)
    samples = random.integers(0, 60, (2 * NUM_EACH, 1, *[12] * rank))
    labels = np.arange(2 * NUM_EACH) % 2
    for sample, label in zip(samples, labels, strict=True):
        axis = sample.ndim - 1 if is_channels_last else 1
        sample[(slice(None),) * axis + (slice(0, 4) if label == 0 else slice(8, 12),)] += 150
    return part(samples.astype(np.uint8), labels)


@pytest.mark.parametrize("rank", [2, 3])
def test_left_and_right_are_distinguished_from_top_and_bottom(rank: int) -> None:
    result = motion_test(shapes(0, is_channels_last=True, rank=rank), seed=0)
    assert result is not None
    assert (result.plain, result.moved, result.keeps_class) == (1.0, 0.0, False)
    result = motion_test(shapes(0, is_channels_last=False, rank=rank), seed=0)
    assert result is not None
    assert (result.plain, result.moved, result.keeps_class) == (1.0, 1.0, True)


@pytest.mark.parametrize("rank", [2, 3])
def test_what_is_upside_down_is_told_from_what_is_mirrored(rank: int) -> None:
    for is_channels_last, kept in ((True, 1.0), (False, 0.0 if rank == 2 else 1.0)):  # bars of volumes lie along the depth
        found = motion_test(shapes(0, is_channels_last=is_channels_last, rank=rank), seed=0, motion=MOTIONS["vertical_flip"])
        assert found is not None
        assert (found.plain, found.moved) == (1.0, kept)


def test_turns_are_judged_by_the_mean_of_all_three() -> None:
    found = motion_test(shapes(0, is_channels_last=True), seed=0, motion=MOTIONS["rotate90"])
    assert found is not None
    assert found.plain == 1.0
    assert 0.0 < found.moved < 0.7  # a half turn swaps the classes, and a quarter turn shows a bar that neither has
    assert found.setting == "rotate90"
    assert motion_test(part(np.zeros((4, 1, 8, 9), np.uint8), np.arange(4) % 2), seed=0, motion=MOTIONS["rotate90"]) is None


@given(st.integers(0, 3))
def test_samples_that_have_every_symmetry_lose_nothing_by_turns(seed: int) -> None:
    quarter = np.random.default_rng(seed).integers(0, 256, (40, 1, 4, 4)).astype(np.uint8)
    whole = np.maximum.reduce(
        [np.rot90(np.pad(quarter, ((0, 0), (0, 0), (0, 4), (0, 4))), turns, (2, 3)) for turns in range(4)]
    )
    found = motion_test(part(whole, np.arange(40) % 4), seed, motion=MOTIONS["rotate90"])
    assert found is not None
    assert found.moved == pytest.approx(found.plain)


@pytest.mark.parametrize(
    ("setting", "start"),
    [
        (
            "flip",
            "mirrored images change their class: the nearest neighbor has the same class for 20 % of 100 mirrored images (unmirrored 90 %",
        ),
        (
            "vertical_flip",
            "images upside down change their class: the nearest neighbor has the same class for 20 % of 100 images upside down (upright 90 %",
        ),
        (
            "rotate90",
            "images turned by 90, 180 and 270 degrees change their class: the nearest neighbor has the same class for 20 % of 100 images turned by 90, 180 and 270 degrees (unturned 90 %",
        ),
    ],
)
def test_the_sentence_names_the_motion(setting: str, start: str) -> None:
    found = MotionTest(100, 0.9, 0.2, 0.1, low=0.05, high=0.2, setting=setting)
    assert found.sentence("image").startswith(start)
    unknown = MotionTest(100, 0.11, 0.1, 0.1, setting=setting).sentence("image")
    assert unknown.endswith("too close to chance." if setting != "flip" else "set flip to random or none.")


@given(st.integers(0, 1000))
def test_samples_that_are_their_own_mirror_image_lose_nothing(seed: int) -> None:
    half = np.random.default_rng(seed).integers(0, 256, (40, 2, 5, 3)).astype(np.uint8)
    found = motion_test(part(np.concatenate([half, half[..., ::-1]], axis=-1), np.arange(40) % 4), seed)
    assert found is not None
    assert found.moved == found.plain


def test_noise_has_no_result() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8)).astype(np.uint8)
    found = motion_test(part(noise, np.arange(200) % 2), seed=0)
    assert found is not None
    assert found.kept is None
    assert found.keeps_class is None
    assert found.chance == pytest.approx(0.5, abs=0.01)


def test_what_is_kept_is_counted_above_chance() -> None:
    assert MotionTest(1000, plain=0.8, moved=0.45, chance=0.1, low=0.4, high=0.6).kept == pytest.approx(0.5)
    assert MotionTest(1000, plain=0.51, moved=0.5, chance=0.5, low=0.9, high=1.1).keeps_class is None  # too close to chance


@pytest.mark.parametrize(
    ("low", "high", "answer"), [(0.5, 0.9, True), (0.1, 0.49, False), (0.49, 0.9, None), (0.1, 0.5, None)]
)
def test_the_whole_interval_must_lie_on_one_side(low: float, high: float, answer: bool | None) -> None:
    found = MotionTest(1000, plain=0.8, moved=0.45, chance=0.1, low=low, high=high)
    assert found.keeps_class is answer
    result = found.sentence("image")
    assert ("do not show whether" in result) == (answer is None)
    assert (", and 50 % lies within this interval. Color images" in result) == (answer is None)
    assert result.endswith("set flip to random or none.") == (answer is None)
    assert f"(95 % interval {100 * low:.0f} % to {100 * high:.0f} %)" in result


def test_the_interval_is_that_of_a_bootstrap() -> None:
    random = torch.Generator().manual_seed(0)
    plain = (torch.rand(800, generator=random) < 0.6).double() - 0.1
    mirrored = torch.where(
        torch.rand(800, generator=random) < 0.8, plain, (torch.rand(800, generator=random) < 0.3).double() - 0.1
    )
    found = motions._kept_interval(plain, mirrored, torch.arange(800))
    draws = [torch.randint(800, (800,), generator=random) for _ in range(2000)]
    ratios = torch.stack([mirrored[draw].mean() / plain[draw].mean() for draw in draws])
    assert found == pytest.approx(
        torch.quantile(ratios, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist(), abs=0.02
    )
    twice = motions._kept_interval(plain.repeat(2), mirrored.repeat(2), torch.arange(800).repeat(2))
    assert twice == pytest.approx(found)  # copies are no further evidence


def asymmetric(seed: int, strength: int = 22) -> Part:
    """Bars on the left or on the right, fainter than the noise around them: neighbors usually have the same class."""
    random = np.random.default_rng(seed)
    samples = random.normal(110, 30, (240, 1, 12, 12))
    labels = np.arange(240) % 2
    samples[labels == 0, :, :, :4] += strength
    samples[labels == 1, :, :, 8:] += strength
    return part(np.clip(samples, 0, 255).astype(np.uint8), labels)


def symmetric(seed: int, strength: int = 22) -> Part:
    """The same with bars at the top and at the bottom."""
    found = asymmetric(seed, strength)
    return part(np.ascontiguousarray(found.pixels.swapaxes(-1, -2)), found.labels)


def brighter(samples: np.ndarray) -> np.ndarray:
    return np.clip(samples.astype(int) + 8, 0, 255).astype(np.uint8)


def noisier(samples: np.ndarray) -> np.ndarray:
    return np.clip(samples + np.random.default_rng(9).normal(0, 2, samples.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("copy", [np.copy, brighter, noisier])
@pytest.mark.parametrize(("make", "answer"), [(symmetric, True), (asymmetric, False)])
def test_copies_change_no_decision(
    make: Callable[[int], Part], answer: bool, copy: Callable[[np.ndarray], np.ndarray]
) -> None:
    once = make(1)
    found = motion_test(once, 0)
    both = part(np.concatenate([once.pixels, copy(np.asarray(once.pixels))]), np.concatenate([once.labels, once.labels]))
    doubled = motion_test(both, 0)
    assert found is not None
    assert doubled is not None
    assert (found.keeps_class, doubled.keeps_class) == (answer, answer)
    assert (found.num_copied, doubled.num_copied) == (0, 480)
    assert doubled.plain == pytest.approx(found.plain, abs=0.03)
    assert doubled.moved == pytest.approx(found.moved, abs=0.03)
    assert doubled.high - doubled.low == pytest.approx(found.high - found.low, rel=0.2, abs=0.06)
    assert "; copies and images of the same group, which 480 of them have, are excluded)" in doubled.sentence("image")


def test_a_mirrored_copy_is_no_neighbor() -> None:
    once = symmetric(2)
    found = motion_test(once, 0)
    flipped = motion_test(part(np.concatenate([once.pixels, once.pixels[..., ::-1]]), np.tile(once.labels, 2)), 0)
    assert found is not None
    assert flipped is not None
    assert flipped.num_copied == 480
    assert flipped.plain < 1
    assert flipped.moved == pytest.approx(flipped.plain, abs=0.01)


def test_samples_of_one_group_are_no_neighbors() -> None:
    """Five frames of each scene: without groups, the nearest neighbor of a frame is of its scene, that of its mirror image is not."""
    random, once = np.random.default_rng(0), symmetric(3, 8)
    frames = np.clip(np.repeat(once.pixels, 5, axis=0) + random.normal(0, 12, (1200, 1, 12, 12)), 0, 255).astype(np.uint8)
    labels, groups = np.repeat(once.labels, 5), [f"scene {number // 5}" for number in range(1200)]
    alone, grouped = motion_test(part(frames, labels), 0), motion_test(part(frames, labels), 0, groups)
    assert alone is not None
    assert grouped is not None
    assert (alone.plain, grouped.plain < 0.97) == (1.0, True)
    assert grouped.num_copied == grouped.num_samples == 1200
    assert (alone.keeps_class, grouped.keeps_class) == (False, None)
    assert grouped.chance < 0.5  # the own scene is no candidate
    one = motion_test(part(frames, labels), 0, ["all"] * 1200)
    assert one is None
    none = motion_test(part(frames, labels), 0, [""] * 1200)
    assert none == alone


def test_signals_and_narrow_or_single_samples_have_no_answer() -> None:
    signals = np.zeros((10, 1, 50), np.int16)
    narrow = np.zeros((10, 1, 8, 1), np.uint8)
    for samples in (signals, narrow, np.zeros((1, 1, 8, 8), np.uint8)):
        assert motion_test(part(samples, np.zeros(len(samples))), seed=0) is None


def test_it_is_the_same_again_and_draws_nothing_from_the_common_random_numbers() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    samples = np.random.default_rng(1).integers(0, 256, (CHUNK + 40, 3, 9, 7)).astype(np.uint8)
    data = part(samples, np.arange(len(samples)) % 3)
    assert motion_test(data, seed=5) == motion_test(data, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
