"""A head on fixed features: at the minimum of its loss, the same for scaled features, and chosen by the simplest good decay."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visus.errors import RecipeError
from visus.training.fine_tuning import SETTINGS, deepened, fine_tuning
from visus.training.frozen import freeze, keep_statistics
from visus.training.heads import DECAYS, DEFAULT_DECAY, Head, fit_head, set_head
from visus.training.recipe import FIELDS, Recipe


def items(num_items: int = 120, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes in eight features, which overlap a little."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_items) % 3
    centres = 1.5 * torch.eye(3, 8)
    return centres[labels] + torch.randn(num_items, 8, generator=generator), labels


def answers(head: Head, features: torch.Tensor) -> torch.Tensor:
    return features @ head.weight.T + head.bias


def test_the_head_is_where_the_penalised_loss_has_no_slope() -> None:
    features, labels = items()
    head = fit_head(features[None], labels, 3)
    assert (head.decay, math.isnan(head.val_loss), math.isnan(head.val_accuracy)) == (DEFAULT_DECAY, True, True)
    size = float((features - features.mean(0)).square().mean().sqrt())
    weight = (head.weight * size).double().requires_grad_()
    bias = answers(head, features.mean(0, keepdim=True))[0].double().requires_grad_()
    rows = ((features - features.mean(0)) / size).double()
    loss = F.cross_entropy(rows @ weight.T + bias, labels) + head.decay / 2 * weight.square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for slope in (weight.grad, bias.grad):
        assert slope is not None
        assert float(slope.abs().max()) < 1e-3


def test_a_head_answers_the_same_for_features_moved_and_scaled() -> None:
    features, labels = items()
    other = 1000 * features + 50
    plain, moved = fit_head(features[None], labels, 3), fit_head(other[None], labels, 3)
    assert torch.allclose(answers(plain, features), answers(moved, other), atol=0.02)


def test_the_strongest_decay_within_a_standard_error_is_chosen() -> None:
    features, labels = items()
    others = items(60, seed=1)
    head = fit_head(features[None], labels, 3, others)
    losses = {}
    for decay in DECAYS:
        alone = fit_one(features, labels, decay)
        losses[decay] = F.cross_entropy(answers(alone, others[0]), others[1], reduction="none")
    best = min(losses.values(), key=lambda each: float(each.mean()))
    bound = float(best.mean() + best.std(correction=0) / math.sqrt(60))
    assert head.decay == next(decay for decay in DECAYS if float(losses[decay].mean()) <= bound)
    assert head.val_loss == pytest.approx(float(losses[head.decay].mean()), abs=1e-3)


def fit_one(features: torch.Tensor, labels: torch.Tensor, decay: float) -> Head:
    """A head with one decay alone."""
    import visus.training.heads as heads

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "DEFAULT_DECAY", decay)
        return heads.fit_head(features[None], labels, 3)


def test_views_count_as_items_and_the_same_numbers_give_the_same_head() -> None:
    features, labels = items()
    views = torch.stack([features, features + 0.1])
    one, two = fit_head(views, labels, 3), fit_head(views, labels, 3)
    assert torch.equal(one.weight, two.weight)
    stacked = fit_head(views.flatten(0, 1)[None], labels.repeat(2), 3)
    assert torch.equal(one.weight, stacked.weight)
    linear = nn.Linear(8, 3)
    set_head(linear, one)
    assert torch.allclose(linear(features), answers(one, features), atol=1e-5)


def test_class_weights_move_the_answers_towards_the_class() -> None:
    features, labels = items()
    plain = fit_head(features[None], labels, 3)
    heavy = fit_head(features[None], labels, 3, class_weights=torch.tensor([10.0, 1.0, 1.0]))
    counts = [int((answers(head, features).argmax(1) == 0).sum()) for head in (plain, heavy)]
    assert counts[1] > counts[0]


def test_frozen_layers_are_named_by_path_and_pattern() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    freeze(module, "0, *.bias")
    assert [name for name, values in module.named_parameters() if values.requires_grad] == ["1.weight", "2.weight"]


def test_a_pattern_that_names_nothing_and_one_that_names_all_are_refused() -> None:
    module = nn.Sequential()
    module.add_module("stage1", nn.Linear(2, 2))
    module.add_module("head", nn.Linear(2, 2))
    with pytest.raises(RecipeError) as caught:
        freeze(module, "stage2")
    assert str(caught.value) == "unknown layer to be frozen 'stage2'. Did you mean 'stage1'? Known: head, stage1."
    with pytest.raises(RecipeError) as caught:
        freeze(module, "*")
    assert str(caught.value) == "frozen='*' leaves no weights to be trained. Name fewer layers."


def test_norms_that_keep_their_statistics_answer_as_in_use() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    batch = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module.train()
    keep_statistics(module)
    before = module[1].running_mean.clone()  # type: ignore[union-attr, operator]
    module(batch)
    assert torch.equal(module[1].running_mean, before)  # type: ignore[arg-type]
    assert module[2].training


def test_fine_tuning_decides_only_what_is_open() -> None:
    asked = Recipe(epochs=2, zoom=0.0, frozen="")
    tuned = fine_tuning(asked, 1_000, "stage1")
    assert (tuned.epochs, tuned.zoom, tuned.frozen, tuned.norm_statistics) == (2, 0.0, "", "stored")
    assert set(SETTINGS) <= set(FIELDS)
    assert all(getattr(Recipe(), name) is None for name in SETTINGS), "a setting with a default would never be decided"


def test_weak_features_are_trained_too_unless_somebody_decided() -> None:
    tuned = fine_tuning(Recipe(), 1_000, "stage1")
    everything = ("epochs", "frozen", "learning_rate", "tta")
    assert deepened(tuned, 0.97, everything) == tuned
    assert deepened(tuned, 0.96, everything) == tuned.replace(frozen="", epochs=12, learning_rate=0.001, tta="none")
    assert deepened(tuned, math.nan, ("epochs",)) == tuned.replace(epochs=12)
    assert deepened(tuned, 0.5, ()) == tuned
