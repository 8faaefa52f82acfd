"""Vertical flip, quarter turns and rotation, with PyTorch as the oracle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.data.augment import BatchRandom
from visus.data.augment.turns import QuarterTurns, Rotation, VerticalFlip
from visus.data.batches import random_stream

SHAPES = st.sampled_from([(5, 2, 7, 7), (5, 1, 3, 6, 6)])


def whole(seed: int, count: int) -> BatchRandom:
    """Random numbers of a whole batch."""
    return BatchRandom(random_stream(seed), count, slice(None))


@given(SHAPES, st.integers(0, 1000))
def test_quarter_turns_are_those_of_rot90(shape: tuple[int, ...], seed: int) -> None:
    batch = torch.randint(0, 255, shape, dtype=torch.uint8, generator=random_stream(seed))
    (turns,) = QuarterTurns().draw(whole(seed, shape[0]), shape[2:])
    turned = QuarterTurns().apply(batch, (turns,))
    for before, after, num_turns in zip(batch, turned, turns.tolist(), strict=True):
        assert torch.equal(after, torch.rot90(before, num_turns, (-2, -1)))


@given(SHAPES, st.integers(0, 1000))
def test_a_vertical_flip_mirrors_the_second_last_axis_of_the_marked(shape: tuple[int, ...], seed: int) -> None:
    batch = torch.randint(0, 255, shape, dtype=torch.uint8, generator=random_stream(seed))
    (marked,) = VerticalFlip().draw(whole(seed, shape[0]), shape[2:])
    for before, after, is_marked in zip(batch, VerticalFlip().apply(batch, (marked,)), marked, strict=True):
        assert torch.equal(after, before.flip(-2) if is_marked else before)


def test_all_turns_and_flips_occur_equally_often() -> None:
    (turns,) = QuarterTurns().draw(whole(0, 4000), (8, 8))
    assert all(900 < int((turns == number).sum()) < 1100 for number in range(4))
    (marked,) = VerticalFlip().draw(whole(0, 4000), (8, 8))
    assert 1850 < int(marked.sum()) < 2150


@pytest.mark.parametrize("shape", [(2, 1, 12, 12), (2, 1, 3, 12, 12)])
def test_a_rotation_by_90_degrees_is_a_quarter_turn(shape: tuple[int, ...]) -> None:
    batch = torch.rand(shape, generator=random_stream(0))
    for sign in (1, -1):
        turned = Rotation(90).apply(batch, (torch.full((2,), sign * math.pi / 2),))
        assert torch.allclose(turned, torch.rot90(batch, sign, (-2, -1)), atol=1e-4)


def test_a_rotation_keeps_lengths_on_samples_that_are_not_square() -> None:
    """A disc stays a disc of the same area."""
    rows, columns = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    disc = (rows**2 + columns**2 < 15**2).float().expand(6, 1, 40, 80)
    rotated = Rotation(180).apply(disc, Rotation(180).draw(whole(1, 6), (40, 80)))
    is_near = rows**2 + columns**2 < 18**2  # farther out, reflection at the edges shows it again
    assert float((rotated - disc).abs()[:, :, is_near].sum()) < 0.06 * float(disc.sum())


def test_rotations_are_uniform_up_to_the_angle() -> None:
    (angle,) = Rotation(30).draw(whole(0, 4000), (8, 8))
    assert float(angle.abs().max()) <= math.radians(30)
    assert abs(float(angle.mean())) < 0.02
    assert abs(float(angle.abs().mean()) - math.radians(15)) < 0.02
