"""What is worth a look is found as by hand: mistakes by sorting, neighbors by brute force, labels that were flipped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.errors import DataError, UsageError
from visus.examine.mistakes import feature_layer, features, find_mistakes, nearest_samples, suspicious_labels


def made_up(seed: int, num_samples: int = 60, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(num_classes, 0.6), num_samples), rng.integers(num_classes, size=num_samples)


@given(seed=st.integers(0, 10_000))
def test_mistakes_are_those_that_sorting_by_hand_finds(seed: int) -> None:
    chances, labels = made_up(seed)
    found = find_mistakes(chances, labels, limit=5, max_pairs=3)
    rows = [
        (max(row), list(row).index(max(row)), label, place)
        for place, (row, label) in enumerate(zip(chances, labels, strict=True))
    ]
    wrong = sorted((row for row in rows if row[1] != row[2]), key=lambda row: -row[0])
    right = sorted((row for row in rows if row[1] == row[2]), key=lambda row: row[0])
    assert found.num_wrong == len(wrong)
    assert found.confident_wrong == tuple(row[3] for row in wrong[:5])
    assert found.unsure_right == tuple(row[3] for row in right[:5])
    counts = {(row[2], row[1]): sum(other[1:3] == row[1:3] for other in wrong) for row in wrong}
    assert [each.num_samples for each in found.confusions] == sorted(counts.values(), reverse=True)[:3]
    for each in found.confusions:
        assert counts[each.label, each.answer] == each.num_samples
        assert each.places == tuple(row[3] for row in wrong if (row[2], row[1]) == (each.label, each.answer))[:5]


def test_labels_that_were_flipped_are_suspected_first() -> None:
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(3), 100)
    logits = rng.normal(size=(300, 3)) + 5 * np.eye(3)[true]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given_labels, flipped = true.copy(), rng.choice(300, 15, replace=False)
    given_labels[flipped] = (true[flipped] + 1) % 3
    found = suspicious_labels(chances, given_labels)
    # One whose true class is not as probable as it is on average for that class is left out, by the rule.
    assert len(set(flipped) & {each.place for each in found}) >= 13
    assert {each.place for each in found[:12]} <= set(flipped)
    for each in found:
        assert each.suggested != each.label == given_labels[each.place]
        assert each.suggested_probability > each.label_probability
    assert all(each.suggested == true[each.place] for each in found if each.place in flipped)
    assert suspicious_labels(chances, given_labels, limit=4) == found[:4]


def test_a_label_is_not_suspected_for_a_class_that_its_samples_reach_as_well() -> None:
    chances = np.array([[0.6, 0.4], [0.45, 0.55], [0.05, 0.95]])  # the second is below the mean of its suggested class
    assert suspicious_labels(chances, [0, 0, 1]) == ()


def test_a_class_without_samples_is_never_suggested() -> None:
    assert suspicious_labels(np.array([[0.3, 0.2, 0.5], [0.2, 0.3, 0.5]]), [0, 1]) == ()


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), limit=st.integers(1, 4))
def test_neighbors_are_those_of_brute_force(seed: int, sizes: list[int], limit: int) -> None:
    rng = np.random.default_rng(seed)
    wanted, batches = rng.normal(size=(3, 5)), [rng.normal(size=(size, 5)) for size in sizes]
    found = nearest_samples(wanted, batches, limit=limit)
    rows = np.concatenate(batches)
    cosines = torch.nn.functional.cosine_similarity(torch.tensor(wanted)[:, None], torch.tensor(rows)[None], dim=-1).numpy()
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :limit]
    assert found.num_compared == len(rows)
    np.testing.assert_allclose(found.similarity, expected, atol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.places, axis=1), expected, atol=1e-12)


def test_an_sample_is_not_its_own_neighbor() -> None:
    rows = np.eye(3) + 0.1
    assert nearest_samples(rows, [rows[:2], rows[2:]], limit=1).places[:, 0].tolist() == [0, 1, 2]
    assert 0 not in nearest_samples(rows[:1], [rows[:2], rows[2:]], limit=2, skip=[0]).places


class Tokens(nn.Module):
    """Its last layer reads tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.embed(x).flatten(2).transpose(1, 2)).mean(1)
        return out


def test_features_are_what_reaches_the_last_layer() -> None:
    x = torch.randn(7, 3, 8, 8)
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    plain.train()
    assert feature_layer(plain, x) == "5"
    (found,) = features(plain, x, "5")
    assert plain.training
    np.testing.assert_allclose(found, plain.eval()[:5](x).detach().numpy(), rtol=1e-6)
    convolutional = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert feature_layer(convolutional, x) == "1"
    parts = list(features(convolutional, [x[:5], x[5:]], "1"))
    np.testing.assert_allclose(np.concatenate(parts), convolutional[0](x).mean((2, 3)).detach().numpy(), rtol=1e-5)
    tokens = Tokens()
    (found,) = features(tokens, x, feature_layer(tokens, x))
    np.testing.assert_allclose(found, tokens.embed(x).mean((2, 3)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        find_mistakes(np.zeros((0, 2)), [])
    assert str(caught.value) == "there is nothing to look at: no samples were given."
    with pytest.raises(DataError) as caught:
        nearest_samples(np.ones((1, 2)), [])
    assert str(caught.value) == "there is nothing to compare with: no samples were given."
    with pytest.raises(UsageError) as wrong:
        find_mistakes(np.ones((2, 2)), [0])
    assert str(wrong.value) == (
        "probabilities of shape (2, 2) and labels of shape (1,) do not fit together: they need the shapes (samples, classes) and (samples,)."
    )
    with pytest.raises(UsageError) as wrong:
        find_mistakes(np.ones((2, 2)), [0, 1], limit=0)
    assert str(wrong.value) == "the number of samples to show must be at least 1, not 0."
    with pytest.raises(UsageError) as wrong:
        feature_layer(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.ones(1, 2, 4, 4))
    assert str(wrong.value) == (
        "this network has no convolution and no linear layer, so its samples have no features to compare."
    )


def test_a_label_that_is_more_probable_than_any_other_is_not_suspected() -> None:
    chances = np.array(
        [[0.99, 0.01], [0.55, 0.45], [0.6, 0.4]]
    )  # the second lies below its own class's mean and above the other's
    assert [each.place for each in suspicious_labels(chances, [0, 0, 1])] == []


def test_labels_and_features_that_do_not_fit_are_refused() -> None:
    for label in (2, -1):
        with pytest.raises(UsageError) as told:
            find_mistakes(np.array([[0.9, 0.1], [0.3, 0.7]]), [0, label])
        assert str(told.value) == f"label {label} does not exist: there are probabilities of 2 classes, counted from 0."
    with pytest.raises(UsageError) as wide:
        nearest_samples(np.zeros((2, 3)), [np.zeros((5, 4))])
    assert str(wide.value) == (
        "features of shape (2, 3) and (5, 4) cannot be compared: both need the shape (samples, features), with the same "
        "number of features."
    )
    table = np.random.default_rng(0).normal(size=(5, 3))
    assert nearest_samples(table[:2], table, limit=1).places.tolist() == [[0], [1]]
