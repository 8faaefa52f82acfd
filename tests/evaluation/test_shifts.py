"""Shifts: what moves how, what must not change at all, and which network changes less."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from visus.errors import DataError, UsageError
from visus.evaluation.shifts import (
    WAYS,
    canvas,
    choose_shifts,
    logit_changes,
    measure_phases,
    measure_shifts,
    moved,
    total_step,
)
from visus.networks.trace import trace

from .moving import designed, eighths, halving, images, ring

SIDE = {1: (16,), 2: (16, 16), 3: (8, 8, 8)}


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=3), st.sampled_from(sorted(WAYS)))
def test_what_stays_in_the_image_moves_by_whole_pixels(shift: list[int], way: str) -> None:
    batch = torch.randn(2, 3, *[6] * len(shift), generator=torch.Generator().manual_seed(0))
    after = moved(batch, shift, way)
    assert after.shape == batch.shape
    if way == "roll":
        assert torch.equal(after, batch.roll(shift, tuple(range(2, batch.dim()))))
    elif way != "crop":
        here = tuple(slice(max(0, pixels), 6 + min(0, pixels)) for pixels in shift)
        there = tuple(slice(max(0, -pixels), 6 + min(0, -pixels)) for pixels in shift)
        assert torch.equal(after[(..., *here)], batch[(..., *there)])
    if not any(shift):
        assert torch.equal(after, batch)


def test_each_way_fills_what_enters_as_it_says() -> None:
    row = torch.arange(1.0, 6.0).reshape(1, 1, 5)
    entered = {way: moved(row, (2,), way)[0, 0, :2].tolist() for way in WAYS if way != "crop"}
    assert entered == {"roll": [4.0, 5.0], "zeros": [0.0, 0.0], "edge": [1.0, 1.0], "reflect": [3.0, 2.0]}


def test_a_crop_is_a_window_of_the_enlarged_image() -> None:
    row = torch.arange(8.0).reshape(1, 1, 8)
    enlarged = torch.nn.functional.interpolate(row, size=12, mode="linear", align_corners=False)
    assert torch.equal(canvas(row, (2,), "crop"), enlarged)
    assert torch.equal(moved(row, (2,), "crop"), enlarged[..., 0:8])
    assert torch.equal(moved(row, (-2,), "crop"), enlarged[..., 4:12])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_ring_of_windows_with_a_global_pool_is_exactly_unchanged_by_its_step(rank: int) -> None:
    network, batch = eighths(ring(rank)), images(3, 2, *SIDE[rank])
    step = total_step(trace(network, batch.shape[1:]))
    assert step == (4,) * rank
    with torch.no_grad():
        logits = torch.stack([network(moved(batch, shift)) for shift in ([0] * rank, [4] * rank, [4] + [0] * (rank - 1))])
    assert (logits[1:] - logits[0]).abs().max() == 0.0
    assert logit_changes(logits).tolist() == [0.0, 0.0, 0.0]


def test_only_the_shifts_up_to_the_step_need_computing() -> None:
    network, batch = eighths(ring(2)), images(2, 2, 16, 16)
    phases = measure_phases(network, batch, (4, 4))
    for shift in ((5, 2), (-3, 8), (7, -5)):
        with torch.no_grad():
            logits = torch.stack([network(batch), network(moved(batch, shift))])
        place = (shift[0] % 4) * 4 + shift[1] % 4
        assert float(logit_changes(logits)[1]) == phases.logit_change[place]


def test_the_first_phase_is_no_shift_and_others_change_something() -> None:
    pattern = measure_phases(ring(2), images(4, 2, 16, 16), (4, 4))
    assert (pattern.logit_change[0], pattern.kept[0], len(pattern.kept)) == (0.0, 1.0, 16)
    assert pattern.mean_logit_change > 0.01
    facts = json.loads(json.dumps(pattern.to_json()))
    assert [len(row) for row in facts["logit_change"]] == [4, 4, 4, 4]
    assert facts["kept"][1][2] == pattern.kept[6]


@pytest.mark.parametrize("seed", range(5))
def test_a_blurred_network_changes_less_than_a_strided_one(seed: int) -> None:
    batch = images(16, 2, 16, 16, seed=seed)
    plain, smooth = (
        measure_phases(halving(seed, is_blurred=is_blurred), batch, (4, 4)).mean_logit_change for is_blurred in (False, True)
    )
    assert smooth < 0.6 * plain


def test_a_flattening_network_changes_by_tens_of_percent_and_a_pooled_one_does_not() -> None:
    batch = images(16, 2, 16, 16)
    body = "conv(16, 3, padding=1), relu, conv(16, 3, padding=1), relu"
    change = {
        ending: measure_shifts(
            designed(f"{body}, {ending}, linear(classes)", 2, 16, 16), batch, (2, 2), "zeros"
        ).logit_change
        for ending in ("flatten", "globalpool")
    }
    assert change["flatten"] > 0.3
    assert change["globalpool"] < 0.2


def test_consistency_is_the_share_of_all_pairs_of_shifts_that_agree() -> None:
    network, batch = designed("conv(8, 3), relu, flatten, linear(classes)", 1, 9, 9), torch.randn(6, 1, 9, 9)
    found = measure_shifts(network, batch, (1, 1), "edge")
    with torch.no_grad():
        labels = torch.stack([network.eval()(moved(batch, shift, "edge")).argmax(1) for shift in choose_shifts((1, 1))])
    pairs = (labels[:, None] == labels[None]).double().sum() - labels.numel()  # a shift is no pair with itself
    assert found.consistency == pytest.approx(float(pairs) / (9 * 8 * 6))
    assert found.kept == pytest.approx(float((labels[1:] == labels[0]).double().mean()))
    assert found.always == pytest.approx(float((labels == labels[0]).all(0).double().mean()))
    assert (found.num_shifts, found.is_every_shift, found.num_samples) == (9, True, 6)
    assert found.always <= found.kept <= 1
    assert found.consistency_low <= found.consistency <= found.consistency_high
    assert json.loads(json.dumps(found.to_json()))["reach_px"] == [1, 1]


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_way_works_on_every_rank(way: str, rank: int) -> None:
    found = measure_shifts(ring(rank), images(2, 2, *SIDE[rank]), (1,) * rank, way, limit=5)
    assert (found.way, found.num_shifts, found.is_every_shift) == (way, 5 if rank > 1 else 3, rank == 1)
    assert found.largest_logit_change >= found.logit_change >= 0


def test_a_constant_network_never_changes() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_tensor([0.0, 0.0, 0.0]).expand(len(x), 3)

    found = measure_shifts(Constant(), torch.randn(3, 1, 5), (1,))
    assert (found.consistency, found.always, found.logit_change, found.largest_logit_change) == (1.0, 1.0, 0.0, 0.0)
    still = measure_shifts(designed("flatten, linear(classes)", 1, 5), torch.randn(3, 1, 5), (0,))
    assert (still.num_shifts, still.kept, still.logit_change) == (1, 1.0, 0.0)


def test_shifts_are_drawn_alike_for_one_seed_and_each_once() -> None:
    drawn = choose_shifts((5, 5), 20, seed=3)
    assert drawn == choose_shifts((5, 5), 20, seed=3) != choose_shifts((5, 5), 20, seed=4)
    assert (len(set(drawn)), drawn[0]) == (20, (0, 0))
    assert all(abs(pixels) <= 5 for shift in drawn for pixels in shift)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("conv(4, 3), maxpool(2), conv(4, 3, stride=3), globalpool, linear(classes)", (6, 6)),
        ("conv(4, 3, stride=2), upsample(2), conv(4, 3), globalpool, linear(classes)", (2, 2)),
        ("conv(4, 3, stride=(2, 1)), flatten, linear(classes)", (2, 1)),
        ("flatten, linear(classes)", (1, 1)),
        ("concat([conv(4, 3, stride=2), globalpool], [conv(4, 3, stride=3), globalpool]), linear(classes)", (6, 6)),
        ("conv(4, 3, stride=2), conv(4, 3, stride=2), conv(4, 3, stride=2, padding=1), conv(4, 1, stride=3), globalpool, linear(classes)", (20, 20)),
    ],
)  # fmt: skip
def test_the_total_step_is_that_by_which_every_map_moves_whole(text: str, step: tuple[int, int]) -> None:
    assert total_step(trace(designed(text, 1, 20, 20), (1, 20, 20))) == step


def test_all_phases_of_one_image_cost_as_many_forward_passes() -> None:
    network, image = designed("conv(16, 3), relu, maxpool(2), conv(32, 3), relu, maxpool(2), globalpool, linear(classes)", 3, 64, 64), torch.randn(1, 3, 64, 64)  # fmt: skip
    network.eval()
    num_samples: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: num_samples.append(len(inputs[0])))
    measure_phases(network, image, (4, 4))
    assert sum(num_samples) == 16


def test_what_cannot_be_moved_is_refused_in_words() -> None:
    network, batch = designed("flatten, linear(classes)", 1, 5, 5), torch.zeros(2, 1, 5, 5)
    cases = [
        (lambda: moved(batch, (1, 1), "rol"), UsageError, "unknown way to shift an image 'rol'. Did you mean 'roll'? Known: crop, edge, reflect, roll, zeros."),
        (lambda: moved(batch, (5, 1)), UsageError, "a shift must be shorter than each axis: samples of 5 x 5 px cannot shift by 5 x 1 px."),
        (lambda: moved(batch, (1,)), UsageError, "a shift must be shorter than each axis: samples of 5 x 5 px cannot shift by 1 px."),
        (lambda: measure_shifts(network, batch[:0], (1, 1)), DataError, "there is nothing to shift: no samples were given."),
        (lambda: measure_phases(network, batch[:0], (1, 1)), DataError, "there is nothing to shift: no samples were given."),
    ]  # fmt: skip
    for call, kind, text in cases:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == text
