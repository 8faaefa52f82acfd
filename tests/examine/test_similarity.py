"""Filters matched and layers compared: laws of the cosine, the assignment and the centered kernel alignment."""

from __future__ import annotations

import itertools
import sys

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.errors import MissingExtraError, UsageError
from visus.examine import layer_similarity, match_filters
from visus.examine.similarity import centered_kernel_alignment

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 5))
def test_no_other_assignment_has_a_larger_sum_of_cosines(seed: int, num_filters: int) -> None:
    one, other = np.random.default_rng(seed).normal(size=(2, num_filters, 2, 3))
    found = match_filters(one, other)
    cosines = np.array([[np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b) for b in other] for a in one])
    best = max(
        sum(cosines[row, column] for row, column in enumerate(order)) for order in itertools.permutations(range(num_filters))
    )
    assert sorted(found.partners) == list(range(num_filters))
    assert found.cosines.sum() == pytest.approx(best)
    np.testing.assert_allclose(found.cosines, cosines[range(num_filters), found.partners])


@given(seeds)
def test_shuffled_filters_of_other_contrast_are_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, order = rng.normal(size=(6, 3, 5, 5)), rng.permutation(6)
    found = match_filters(one, (one * rng.uniform(0.1, 9, (6, 1, 1, 1)))[order])
    assert [int(order[partner]) for partner in found.partners] == list(range(6))
    assert found.mean == pytest.approx(1.0)


def test_a_filter_of_zeros_is_like_none() -> None:
    found = match_filters(np.zeros((2, 1, 3)), np.ones((2, 1, 3)))
    assert found.mean == 0.0


def test_layers_of_different_shapes_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        match_filters(np.ones((4, 1, 3, 3)), np.ones((4, 3, 3, 3)))
    assert str(caught.value) == (
        "filters are matched one to one and need the same shape; these have (4, 1, 3, 3) and (4, 3, 3, 3)."
    )


def test_without_scipy_the_pip_line_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError) as caught:
        match_filters(np.eye(2), np.eye(2))
    assert str(caught.value) == (
        "matched filters need the package scipy, which is not installed. Install it with: pip install 'captum>=0.8' 'scipy>=1.13'"
    )


@given(seeds)
def test_alignment_does_not_change_with_turning_and_scaling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 20, 4))
    turned = other @ np.linalg.qr(rng.normal(size=(4, 4)))[0] * 3.0
    kernels = [values @ values.T for values in (one, other, turned)]
    assert centered_kernel_alignment(kernels[0], kernels[2]) == pytest.approx(
        centered_kernel_alignment(kernels[0], kernels[1])
    )
    assert centered_kernel_alignment(kernels[1], kernels[2]) == pytest.approx(1.0)


def test_the_alignment_of_unrelated_samples_is_0_in_the_mean_however_few() -> None:
    rng = np.random.default_rng(0)
    found = [centered_kernel_alignment(*(values @ values.T for values in rng.normal(size=(2, 8, 5)))) for _ in range(2000)]
    known = [value for value in found if value is not None]
    assert abs(float(np.mean(known))) < 0.03  # the biased estimator gives about 0.4 here


def test_the_dependence_is_the_mean_over_all_draws_of_four_samples() -> None:
    """Song et al. 2012: the estimator is the U-statistic of four different samples."""
    from visus.examine.similarity import _hsic

    rng = np.random.default_rng(1)
    left, right = (values @ values.T for values in rng.normal(size=(2, 6, 3)))
    terms = [
        left[i, j] * (right[i, j] + right[q, r] - 2 * right[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    assert _hsic(left, right) == pytest.approx(float(np.mean(terms)))


def test_a_network_is_like_itself_in_every_layer_and_its_filters_may_be_shuffled() -> None:
    module = networks.small_compact()
    samples = networks.noise(12, 1, 28, 28)
    same = layer_similarity(module, module, samples)
    assert next(layer.path for layer in same) == "stem.whiten1"
    assert all(layer.cka == pytest.approx(1.0) for layer in same if layer.cka is not None)
    plain = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
    shuffled = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled[0].weight.data[:] = plain[0].weight.data[order]
    shuffled[0].bias.data[:] = plain[0].bias.data[order]
    assert [layer.cka for layer in layer_similarity(plain, shuffled, samples)] == pytest.approx([1.0, 1.0])


def test_a_layer_that_reports_no_sample_from_another_has_no_figure() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    module[0].weight.data.zero_()
    assert [layer.cka for layer in layer_similarity(module, module, networks.noise(5, 1, 6, 6))] == [None, None]


@pytest.mark.long
def test_a_part_of_the_features_at_a_time_returns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = networks.small_compact(), networks.u_net()
    samples = networks.noise(6, 1, 28, 28)
    whole = layer_similarity(one, one, samples)
    monkeypatch.setattr("visus.examine.similarity._MAX_VALUES", 100)
    assert [layer.cka for layer in layer_similarity(one, one, samples)] == pytest.approx([layer.cka for layer in whole])
    assert layer_similarity(one, other, samples) == ()


def test_too_few_samples_are_refused() -> None:
    module = networks.u_net()
    with pytest.raises(UsageError) as caught:
        layer_similarity(module, module, networks.noise(3, 1, 8, 8))
    assert str(caught.value) == "comparing layers needs at least 4 samples, and there are 3."
