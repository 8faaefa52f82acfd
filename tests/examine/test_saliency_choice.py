"""The saliency method that is shown is one that names pixels that matter: on networks of which the truth is known."""

from __future__ import annotations

import dataclasses

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visus.examine import Unit, deletion_and_insertion, gradient_saliency
from visus.examine.deletion import areas_under, masked_scores, orders_of, random_orders, step_counts
from visus.examine.saliency_choice import CENTER, best_curves, best_of, check_methods, choice_sentence, student_t
from visus.examine.saliency_types import Saliency

SHAPE = (1, 12, 12)


def looks_at_one_corner() -> nn.Module:
    """Class 1 where the upper left quarter is bright; the rest does not matter."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    weight = torch.zeros(2, 12, 12)
    weight[1, :6, :6] = 0.2
    module[1].weight.data[:] = weight.flatten(1)
    module[1].bias.data[:] = torch.tensor([3.0, 0.0])
    return module


def maps_of(module: nn.Module, samples: Tensor) -> dict[str, Saliency]:
    """A map that is right, its opposite, one of chance and a flat one."""
    right = gradient_saliency(module, samples, 1)
    drawn = {
        "right": right.map,
        "wrong": right.map.max() - right.map,
        "chance": np.random.default_rng(5).random(right.map.shape),
        "flat": np.full_like(right.map, 0.5),
    }
    return {name: dataclasses.replace(right, method=name, map=values) for name, values in drawn.items()}


def test_the_method_that_names_the_corner_passes_and_the_others_do_not() -> None:
    module, samples = looks_at_one_corner(), torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0)) + 0.5
    tested = check_methods(module, samples, list(maps_of(module, samples).values()))
    assert [each.method for each in tested] == ["right", "wrong", "chance", "flat", CENTER]
    assert [each.is_passed for each in tested] == [True, False, False, False, False]
    assert tested[0].share == 1.0
    assert (tested[3].gains == 0).all()
    chosen = best_of(tested)
    assert chosen is tested[0]
    assert choice_sentence(tested, chosen, "image") == (
        "right passes deletion and insertion on held-out images (the 95 % intervals of both gains are above 0), and on more of them than any "
        "other method. Share of 12 held-out images whose map beats random orders in both: right 100 %; wrong 0 %; chance 0 %; flat 0 %. A "
        "Gaussian at the center, the same for every image, passes on 0 %."
    )
    assert best_of(tested[1:]) is None
    assert choice_sentence(tested[1:], None, "image").startswith(
        "No map is shown: no method passes deletion and insertion on held-out images. Share of 12 held-out images"
    )
    facts = tested[0].to_json()
    assert facts["deletion_interval"][0] <= facts["deletion_gain"] <= facts["deletion_interval"][1]


def test_a_center_prior_is_never_chosen() -> None:
    weight = torch.zeros(12, 12)
    weight[4:8, 4:8] = 0.5
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    module[1].weight.data[:] = torch.stack([torch.zeros(144), weight.flatten()])
    module[1].bias.data[:] = torch.tensor([4.0, 0.0])
    samples = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0)) + 0.5
    tested = check_methods(module, samples, [maps_of(module, samples)["chance"]])
    assert tested[1].is_passed
    assert best_of(tested) is None


def test_maps_of_chance_pass_rarely() -> None:
    torch.manual_seed(0)
    module, samples = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), torch.rand(200, *SHAPE)
    right = gradient_saliency(module, samples)
    chance = dataclasses.replace(right, map=np.random.default_rng(1).random(right.map.shape))
    (tested,) = check_methods(module, samples, [chance], num_random=16, center=False)
    assert tested.share <= 0.03
    assert not tested.is_passed


def test_of_one_sample_the_map_that_beats_random_by_most_comes_first() -> None:
    module, samples = looks_at_one_corner(), torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)) + 0.5
    maps = maps_of(module, samples)
    half = maps["right"].map.copy()
    half[:, :3] = 0
    named = [maps["chance"], dataclasses.replace(maps["right"], map=half), maps["right"], maps["wrong"]]
    curves = [deletion_and_insertion(module, samples, each, steps=8) for each in named]
    assert best_curves(curves) == [2, 1]


@pytest.mark.parametrize("shape", [(2, 9), (1, 5, 6), (1, 3, 4, 5)])
def test_scores_while_pixels_go_are_those_of_the_masked_samples(shape: tuple[int, ...]) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)).eval()
    samples, rng = networks.noise(3, *shape), np.random.default_rng(0)
    num_pixels = int(np.prod(shape[1:]))
    counts, target = step_counts(num_pixels, 4), (0, 2, 1)
    orders = [orders_of(rng.random((3, *shape[1:])), rng), random_orders(rng, 3, num_pixels)]
    found = masked_scores(module, samples, target, orders, counts, fill=0.25)
    for place, order in enumerate(orders):
        for step, count in enumerate(counts):
            for sample in range(3):
                for row, gone in enumerate((order[sample, :count], order[sample, count:])):
                    x = samples[sample].clone().reshape(shape[0], -1)
                    x[:, gone] = 0.25
                    with torch.no_grad():
                        score = float(torch.softmax(module(x.reshape(1, *shape)), 1)[0, target[sample]])
                    assert found[place, row, step, sample] == pytest.approx(score, abs=1e-6)
    assert areas_under(np.ones_like(found), counts) == pytest.approx(1.0)


def test_scores_of_a_unit_are_its_values() -> None:
    module, samples = nn.Conv2d(1, 2, 3), networks.noise(2, 1, 5, 5)
    counts = step_counts(25, 2)
    found = masked_scores(module, samples, Unit("", 1, (0, 0)), [random_orders(np.random.default_rng(0), 2, 25)], counts)
    with torch.no_grad():
        np.testing.assert_allclose(found[0, 0, 0], module(samples)[:, 1, 0, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 15, 31, 100])
def test_the_quantile_of_students_t_is_scipys(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_t(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), rel=2e-3)
