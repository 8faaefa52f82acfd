"""Batches: every sample once per epoch, the same order for the same seed, and a start at any step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.data import batches as batches_room
from visus.data.augment import Augmentation, Cutout, Flip, Shift, Zoom
from visus.data.batches import Batches, BatchShard, Part, batches_in_order, in_memory_format, random_stream
from visus.data.preprocessing import Preprocessing

PLAIN = Preprocessing("array", 1, (2,), "squash", "float32", "mean-deviation", (0.0,), (1.0,))


def part(num_samples: int) -> Part:
    """Samples whose values are their own number; every second row of the store belongs to the split."""
    pixels = np.repeat(np.arange(2 * num_samples, dtype=np.float32)[:, None, None], 2, axis=2)
    indices = np.arange(0, 2 * num_samples, 2)
    return Part("train", pixels, indices, np.arange(num_samples), tuple(map(str, range(num_samples))))


def batches(num_samples: int, batch_size: int, seed: int = 0) -> Batches:
    """Unaugmented batches."""
    return Batches(part(num_samples), PLAIN, batch_size, seed, Augmentation(), torch.device("cpu"), False)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_has_full_batches_of_distinct_samples(num_samples: int, batch_size: int, epoch: int) -> None:
    batch_size = min(batch_size, num_samples)
    found = list(batches(num_samples, batch_size).epoch(epoch))
    labels = torch.cat([batch.labels for batch in found])
    assert len(found) == max(1, num_samples // batch_size)
    assert {len(batch.labels) for batch in found} == {batch_size}
    assert len(set(labels.tolist())) == len(labels)
    for batch in found:
        assert torch.equal(batch.inputs[:, 0, 0], 2.0 * batch.labels)


@given(st.integers(5, 40), st.integers(0, 3), st.integers(0, 100))
def test_an_epoch_can_be_entered_at_any_step(num_samples: int, epoch: int, seed: int) -> None:
    all_batches = list(batches(num_samples, 2, seed).epoch(epoch))
    for first in range(len(all_batches)):
        rest = list(batches(num_samples, 2, seed).epoch(epoch, first))
        assert [batch.labels.tolist() for batch in rest] == [batch.labels.tolist() for batch in all_batches[first:]]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([batch.labels for batch in batches(40, 4, seed).epoch(epoch)]).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@given(st.integers(1, 50), st.integers(1, 20))
def test_scoring_takes_every_sample_once_in_order(num_samples: int, batch_size: int) -> None:
    values = torch.cat(list(batches_in_order(part(num_samples), PLAIN, batch_size)))
    assert values[:, 0, 0].tolist() == [2.0 * number for number in range(num_samples)]


def test_random_streams_differ_by_purpose_only() -> None:
    draws = {
        torch.randint(2**40, (1,), generator=random_stream(0, *words)).item()
        for words in [("a",), ("b",), ("a", 1), ("a", 1, 2)]
    }
    assert len(draws) == 4
    assert torch.equal(torch.rand(3, generator=random_stream(7, "x")), torch.rand(3, generator=random_stream(7, "x")))


def test_channels_last_changes_the_layout_and_not_the_values() -> None:
    batch = torch.randn(2, 3, 4, 5)
    laid = in_memory_format(batch, channels_last=True)
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid, batch)


def test_alternating_flips_show_every_sample_both_ways_in_two_epochs() -> None:
    """About half of the samples are mirrored in the first epoch; the others are in the next."""
    pixels = np.arange(60, dtype=np.uint8).reshape(30, 1, 2)
    split = Part("train", pixels, np.arange(30), np.arange(30), tuple(map(str, range(30))))
    plain = Preprocessing("array", 1, (2,), "squash", "uint8", "mean-deviation", (0.0,), (1.0,))
    order = Batches(split, plain, 10, 0, Augmentation((Flip("alternating"),)), torch.device("cpu"), False)

    def mirrored(epoch: int) -> list[bool]:
        found = {
            int(label): bool(sample[0, 0] > sample[0, 1])
            for each in order.epoch(epoch)
            for label, sample in zip(each.labels, each.inputs, strict=True)
        }
        return [found[sample] for sample in range(30)]

    epochs = [mirrored(epoch) for epoch in range(4)]
    assert epochs[0] == epochs[2] == [not each for each in epochs[1]] == [not each for each in epochs[3]]
    assert 5 < sum(epochs[0]) < 25


def test_the_side_is_requested_for_each_batch() -> None:
    sides = iter([0.5, 0.75, 1.0])
    split = Part("train", np.zeros((6, 1, 8, 8), np.uint8), np.arange(6), np.arange(6), tuple("abcdef"))
    plain = Preprocessing("array", 1, (8, 8), "squash", "uint8", "mean-deviation", (0.0,), (1.0,))
    order = Batches(split, plain, 2, 0, Augmentation((Shift(0.2),)), torch.device("cpu"), True)
    found = list(order.epoch(0, side=lambda: next(sides)))
    assert [each.inputs.shape[2:] for each in found] == [(4, 4), (6, 6), (8, 8)]
    assert all(each.inputs.is_contiguous(memory_format=torch.channels_last) for each in found)


@pytest.mark.parametrize("num_slices", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        Augmentation((Flip("random"), Shift(0.2), Cutout(0.4))),
        Augmentation((Flip("alternating"), Zoom(0.3, 0.1), Cutout(0.3))),
        Augmentation(),
    ],
)
def test_slices_of_several_processes_put_together_are_the_batch_of_one(changes: Augmentation, num_slices: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 1, 6, 6), dtype=np.uint8)
    split = Part("train", pixels, np.arange(40), np.arange(40) % 7, tuple(map(str, range(40))))
    plan = Preprocessing("array", 1, (6, 6), "squash", "uint8", "mean-deviation", (128.0,), (60.0,))
    whole = Batches(split, plan, 16, 0, changes, torch.device("cpu"), False)
    slices = [dataclasses.replace(whole, shard=BatchShard(index, num_slices)) for index in range(num_slices)]
    for epoch in (0, 1):
        for batch, *parts in zip(whole.epoch(epoch), *(each.epoch(epoch) for each in slices), strict=True):
            assert batch.all_labels is None
            assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
            assert all(torch.equal(part.all_labels, batch.labels) and part.num_samples == 16 for part in parts)
            together = torch.cat([part.inputs for part in parts])
            assert torch.allclose(together, batch.inputs, atol=1e-6), "the same samples, changed by the same numbers"
            assert max(len(part.labels) for part in parts) - min(len(part.labels) for part in parts) <= 1


@given(num_samples=st.integers(0, 100), count=st.integers(1, 9))
def test_shares_take_each_place_once_in_order(num_samples: int, count: int) -> None:
    taken = [place for index in range(count) for place in range(num_samples)[BatchShard(index, count).of(num_samples)]]
    assert taken == list(range(num_samples))


def test_samples_kept_on_the_device_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from_store = [batch.inputs for batch in batches(20, 6).epoch(1)]
    asked: list[torch.device] = []
    monkeypatch.setattr(batches_room, "free_bytes", lambda device: asked.append(device) or 4 * 20 * 2 * 4)
    there = batches(20, 6)
    assert [torch.equal(one, batch.inputs) for one, batch in zip(from_store, there.epoch(1), strict=True)] == [True] * 3
    assert asked == [torch.device("cpu")]
    assert there._resident_samples is not None
    assert len(there._resident_samples) == 20


def test_samples_that_would_fill_the_device_come_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_room, "free_bytes", lambda device: 4 * 20 * 2 * 4 - 1)
    assert batches(20, 6)._resident_samples is None
    monkeypatch.undo()
    assert batches_room.free_bytes(torch.device("cpu")) == 0
