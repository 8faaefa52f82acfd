"""Checks that say when a map is not to be believed: on networks and maps of which the truth is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.errors import UsageError
from visus.examine import Unit, deletion_and_insertion, gradient_saliency, weight_randomization
from visus.examine.layer_calls import TracedFields
from visus.examine.saliency_checks import rank_correlation
from visus.examine.saliency_types import Saliency, Target

SHAPE = (1, 12, 12)


def looks_at_one_corner() -> nn.Module:
    """Class 1 where the upper left quarter is bright, class 0 where it is not; the rest does not matter."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    weight = torch.zeros(2, 12, 12)
    weight[1, :6, :6] = torch.linspace(0.2, 0.4, 36).reshape(6, 6)
    module[1].weight.data[:] = weight.flatten(1)
    module[1].bias.data[:] = torch.tensor([3.0, 0.0])
    return module


def edges(module: nn.Module, inputs: Any, target: Target) -> Saliency:
    """A map that shows the sample's edges, whatever the weights."""
    found = gradient_saliency(module, inputs, target)
    rows = np.abs(np.gradient(torch.as_tensor(inputs).numpy()[:, 0], axis=1))
    return Saliency("edges", found.target, found.scores, rows, None, TracedFields(module, SHAPE))


def test_random_weights_destroy_a_gradient_and_leave_edges() -> None:
    module, samples = looks_at_one_corner(), torch.rand(4, *SHAPE) + 0.5
    found = weight_randomization(module, samples, 1)
    assert found.layers == ("1",)
    assert found.is_sensitive
    assert found.sentence == (
        f"With random weights, the map changes (rank correlation {found.similarity[-1]:.2f}): it depends on what the network learned."
    )
    fooled = weight_randomization(module, samples, 1, method=edges)
    assert not fooled.is_sensitive
    assert fooled.similarity[-1] == pytest.approx(1.0)
    assert fooled.sentence == (
        "With random weights, the map stays almost the same (rank correlation 1.00): it shows edges of the sample or the architecture, "
        "not what the network learned. Do not trust it."
    )


def test_weights_become_random_from_the_last_layer_to_the_first_and_the_module_is_left_alone() -> None:
    module = networks.designed("conv(6, 3), norm, relu, se(2), conv(6, 3), relu, globalpool, linear(3)", (2, 10, 10))
    before = {name: values.clone() for name, values in module.state_dict().items()}
    state = torch.get_rng_state()
    samples = networks.noise(2, 2, 10, 10)
    found = weight_randomization(module, samples)
    assert found.layers == ("linear1", "conv2", "se1", "norm1", "conv1")
    assert len(found.similarity) == 5
    assert all(torch.equal(before[name], values) for name, values in module.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(found.similarity, weight_randomization(module, samples).similarity)
    assert not np.array_equal(found.similarity, weight_randomization(module, samples, seed=1).similarity)
    assert weight_randomization(module, samples, layers=["conv1"]).layers == ("conv1",)


def test_comparing_once_returns_the_last_of_all_steps() -> None:
    module = networks.designed("conv(4, 3), relu, conv(4, 3), relu, globalpool, linear(classes)", SHAPE)
    samples = networks.noise(2, *SHAPE)
    each, once = (weight_randomization(module, samples, only_last=last) for last in (False, True))
    assert once.layers == each.layers[-1:]
    assert once.similarity.tolist() == each.similarity[-1:].tolist()


def test_curves_fall_and_rise_where_the_map_is_right_and_not_where_it_is_wrong() -> None:
    module, samples = looks_at_one_corner(), torch.rand(3, *SHAPE) + 0.5
    right = gradient_saliency(module, samples, 1)
    found = deletion_and_insertion(module, samples, right, steps=8)
    assert (found.shares[0], found.shares[-1], len(found.shares)) == (0.0, 1.0, 9)
    with torch.no_grad():
        ends = [float(torch.softmax(module(each), 1)[:, 1].mean()) for each in (samples, torch.zeros_like(samples))]
    assert [found.deletion[0], found.insertion[-1]] == pytest.approx([ends[0]] * 2)
    assert [found.deletion[-1], found.insertion[0]] == pytest.approx([ends[1]] * 2)
    assert (np.diff(found.deletion) <= 1e-6).all()
    assert (np.diff(found.insertion) >= -1e-6).all()
    assert found.is_better_than_random
    assert found.sentence.startswith("The pixels that the map marks matter more than others: deletion 0.")
    wrong = Saliency("wrong", right.target, right.scores, right.map.max() - right.map, None, TracedFields(module, SHAPE))
    misled = deletion_and_insertion(module, samples, wrong, steps=8)
    assert misled.deletion_area > found.deletion_area
    assert misled.is_better_than_random is False
    assert misled.sentence.startswith("The pixels that the map marks matter less than others: deletion ")
    assert misled.sentence.endswith("Do not trust it.")


def test_a_constant_map_is_undecided() -> None:
    module, samples = looks_at_one_corner(), torch.rand(1, *SHAPE) + 0.5
    right = gradient_saliency(module, samples, 1)
    for value in (0.0, 0.3):
        flat = Saliency(
            "flat", right.target, right.scores, np.full_like(right.map, value), None, TracedFields(module, SHAPE)
        )
        curves = deletion_and_insertion(module, samples, flat, steps=8)
        assert curves.is_better_than_random is None
        assert curves.sentence == "The map is constant, so it ranks no pixel above another."
        weights = weight_randomization(module, samples, method=lambda *_, flat=flat: flat)
        assert weights.is_sensitive is None
        assert weights.sentence == "The map is constant, so there is nothing to compare."
    maps = iter([right, flat])
    emptied = weight_randomization(module, samples, method=lambda *_: next(maps), only_last=True)
    assert emptied.is_sensitive is None
    assert emptied.sentence == "With random weights, the map is constant, so there is nothing to compare."


def test_a_random_map_is_undecided() -> None:
    torch.manual_seed(0)
    module, samples = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), torch.rand(1, *SHAPE)
    right = gradient_saliency(module, samples)
    for seed in range(5):
        chance = np.random.default_rng(seed + 50).random(right.map.shape)
        drawn = Saliency("chance", right.target, right.scores, chance, None, TracedFields(module, SHAPE))
        found = deletion_and_insertion(module, samples, drawn, steps=8)
        assert found.is_better_than_random is not True
    one = dataclasses.replace(found, deletion=found.random_deletion, insertion=found.random_insertion)
    assert one.gains == (0.0, 0.0)
    assert one.is_better_than_random is None
    assert one.sentence.startswith("Whether the pixels that the map marks matter more than others is undecided: deletion ")


def test_equal_pixels_come_in_random_order_and_not_row_by_row() -> None:
    """Half of the pixels are named alike: those of them that come first must not be those of the upper rows."""
    module, samples = looks_at_one_corner(), torch.rand(1, *SHAPE) + 0.5
    right = gradient_saliency(module, samples, 1)
    one, other = (
        deletion_and_insertion(
            module,
            samples,
            Saliency("equal", right.target, right.scores, np.full_like(right.map, 0.5), None, TracedFields(module, SHAPE)),
            steps=8,
            seed=seed,
        )
        for seed in (0, 1)
    )
    assert not np.array_equal(one.deletion, other.deletion)


def test_random_orders_can_be_shared_by_maps_of_the_same_samples() -> None:
    module, samples = looks_at_one_corner(), torch.rand(1, *SHAPE) + 0.5
    right = gradient_saliency(module, samples, 1)
    first = deletion_and_insertion(module, samples, right, steps=8)
    again = deletion_and_insertion(module, samples, right, steps=8, seed=5, random_from=first)
    assert again.random_areas is first.random_areas
    assert np.array_equal(again.random_deletion, first.random_deletion)
    assert deletion_and_insertion(module, samples, right, steps=4, random_from=first).random_areas is not first.random_areas


def test_curves_of_a_unit_are_of_its_value() -> None:
    module, samples = nn.Conv2d(1, 2, 3), networks.noise(2, 1, 6, 6)
    found = deletion_and_insertion(module, samples, gradient_saliency(module, samples, Unit("", 1, (0, 0))), steps=4)
    with torch.no_grad():
        assert found.deletion[0] == pytest.approx(float(module(samples)[:, 1, 0, 0].mean()), abs=1e-6)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.integers(0, 99))
def test_rank_correlation_is_that_of_ranks_with_ties(values: list[int], seed: int) -> None:
    one = np.array(values, dtype=float)
    other = np.random.default_rng(seed).integers(0, 4, len(values)).astype(float)

    def ranks(each: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([(each < value).sum() + ((each == value).sum() - 1) / 2 for value in each])

    expected = 0.0 if np.ptp(one) == 0 or np.ptp(other) == 0 else np.corrcoef(ranks(one), ranks(other))[0, 1]
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-9)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(0.0 if np.ptp(one) == 0 else 1.0)


def test_mistakes_are_reported() -> None:
    module, samples = looks_at_one_corner(), torch.rand(2, *SHAPE)
    right = gradient_saliency(module, samples)
    for call, sentence in (
        (lambda: deletion_and_insertion(module, samples, right, steps=0), "curves need at least 1 step, not 0."),
        (
            lambda: deletion_and_insertion(module, samples[:1], right),
            "the map has the shape (2, 12, 12) and the samples (1, 1, 12, 12): give the samples of the map.",
        ),
        (lambda: weight_randomization(nn.Flatten(), samples), "there is no layer with weights to randomize."),
        (
            lambda: weight_randomization(module, samples, gradient_saliency),
            "the target is a class, and not the function gradient_saliency. Give the method by its name: method=gradient_saliency.",
        ),
    ):
        with pytest.raises(UsageError) as told:
            call()
        assert str(told.value) == sentence


def test_curves_that_disagree_are_no_verdict() -> None:
    module, samples = looks_at_one_corner(), torch.rand(2, *SHAPE) + 0.5
    found = deletion_and_insertion(module, samples, gradient_saliency(module, samples, 1), steps=8)
    wrong = dataclasses.replace(found, deletion=np.ones_like(found.deletion))
    assert wrong.gains[0] < -wrong.margins[0]
    assert wrong.gains[1] > wrong.margins[1]
    assert wrong.is_contradictory
    assert wrong.is_better_than_random is None
    assert wrong.sentence.startswith(
        "Deletion and insertion disagree on whether the pixels that the map marks matter more than others: deletion 1.000 (in random"
    )
    assert not found.is_contradictory
