"""The fixed shuffle of positions: a permutation, the same for all samples, on the ledger, invisible to a perceptron."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.data.augment import Augmentation, Cutout, Flip, Shift
from visus.data.batches import Batches, Part, batches_in_order
from visus.data.opened import open_data, open_scoring_data
from visus.data.preprocessing import Preprocessing, pixel_order

PLAIN = Preprocessing("array", 2, (4, 6), "squash", "float32", "mean-deviation", (0.0, 1.0), (2.0, 3.0))
MIXED = dataclasses.replace(PLAIN, shuffle_seed=7)


@given(st.integers(1, 300), st.integers(0, 10**9))
def test_every_position_has_one_place(num_positions: int, seed: int) -> None:
    order = pixel_order(num_positions, seed)
    assert sorted(order.tolist()) == list(range(num_positions))


def test_the_order_follows_from_the_seed_alone() -> None:
    assert pixel_order(6, 0).tolist() == [1, 0, 4, 3, 5, 2]
    assert len({tuple(pixel_order(50, seed).tolist()) for seed in range(20)}) == 20


@given(st.sampled_from([(12,), (3, 5), (2, 3, 4)]), st.integers(0, 99))
def test_all_samples_and_channels_are_shuffled_alike(size: tuple[int, ...], seed: int) -> None:
    mixed = Preprocessing("array", 2, size, "squash", "float32", "min-max", (0.0, 0.0), (1.0, 1.0), shuffle_seed=seed)
    rows = torch.randn(3, 2, *size)
    after = mixed.scaled(rows)
    assert after.shape == rows.shape
    assert torch.equal(after.flatten(2), rows.flatten(2)[..., pixel_order(int(np.prod(size)), seed)])
    assert torch.equal(dataclasses.replace(mixed, shuffle_seed=None).scaled(rows), rows)


def test_the_plain_data_of_a_shuffle_comes_back_and_that_of_older_runs_has_none() -> None:
    assert Preprocessing.from_dict(MIXED.to_dict()) == MIXED
    older = PLAIN.to_dict()
    del older["shuffle_seed"]
    assert Preprocessing.from_dict(older) == PLAIN


def test_a_perceptron_with_its_first_weights_shuffled_alike_answers_the_same() -> None:
    torch.manual_seed(0)
    first, other, last = nn.Linear(48, 9), nn.Linear(48, 9), nn.Linear(9, 3)
    order = pixel_order(24, 7)
    with torch.no_grad():
        other.weight.copy_(first.weight.reshape(9, 2, 24)[:, :, order].reshape(9, 48))
        other.bias.copy_(first.bias)
    rows = torch.randn(5, 2, 4, 6)
    plain = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)(PLAIN.scaled(rows))
    mixed = nn.Sequential(nn.Flatten(), other, nn.ReLU(), last)(MIXED.scaled(rows))
    torch.testing.assert_close(mixed, plain)


def test_training_samples_are_shuffled_after_all_other_changes() -> None:
    pixels = np.random.default_rng(0).normal(size=(8, 2, 4, 6)).astype(np.float32)
    part = Part("train", pixels, np.arange(8), np.arange(8), tuple("abcdefgh"))
    changes = Augmentation((Flip("random"), Shift(0.3), Cutout(0.4)))
    of = {each: Batches(part, each, 4, 0, changes, torch.device("cpu"), False) for each in (PLAIN, MIXED)}
    for plain, mixed in zip(of[PLAIN].epoch(0), of[MIXED].epoch(0), strict=True):
        assert torch.equal(MIXED.shuffled(plain.inputs), mixed.inputs)
        assert not torch.equal(plain.inputs, mixed.inputs)


def test_scored_samples_are_shuffled_too() -> None:
    pixels = np.random.default_rng(0).normal(size=(3, 2, 4, 6)).astype(np.float32)
    part = Part("test", pixels, np.arange(3), np.arange(3), tuple("abc"))
    plain, mixed = (torch.cat(list(batches_in_order(part, each, 2))) for each in (PLAIN, MIXED))
    assert torch.equal(MIXED.shuffled(plain), mixed)


def test_the_ledger_counts_every_shuffled_sample(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=rng.normal(size=(40, 1, 6)).astype(np.float32), y=np.arange(40) % 2)
    plain = open_data(tmp_path / "rows.npz")
    mixed = open_data(tmp_path / "rows.npz", preprocessing=dataclasses.replace(plain.preprocessing, shuffle_seed=0))
    assert "shuffled" not in plain.ledger.counts
    assert mixed.ledger.counts["shuffled"] == 40
    assert mixed.ledger.sentences()[-1].startswith("40 samples had their positions shuffled into one fixed random order (")
    assert mixed.store.folder == plain.store.folder
    scored = open_scoring_data(tmp_path / "rows.npz", mixed.preprocessing, mixed.classes)
    assert scored.ledger.counts["shuffled"] == 40
