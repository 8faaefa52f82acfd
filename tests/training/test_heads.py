"""A head on fixed features: at the minimum of its loss, the same for scaled features, and chosen by the simplest good decay."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visus.errors import RecipeError
from visus.progress import Monitor, Progress
from visus.training.frozen import freeze, keep_statistics
from visus.training.head_losses import CROSS_ENTROPY
from visus.training.heads import NUM_FOLDS, Head, cross_validate, fit_head, set_head


def samples(num_samples: int = 120, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes in eight features, which overlap a little."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % 3
    centers = 1.5 * torch.eye(3, 8)
    return centers[labels] + torch.randn(num_samples, 8, generator=generator), labels


def answers(head: Head, features: torch.Tensor) -> torch.Tensor:
    return features @ head.weight.T + head.bias


def test_the_head_is_where_the_penalised_loss_has_no_slope() -> None:
    features, labels = samples()
    head = fit_head(features[None], labels, 3)
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
    features, labels = samples()
    other = 1000 * features + 50
    plain, moved = fit_head(features[None], labels, 3), fit_head(other[None], labels, 3)
    assert torch.allclose(answers(plain, features), answers(moved, other), atol=0.02)


def test_the_strongest_decay_within_a_standard_error_is_chosen() -> None:
    features, labels = samples()
    told: list[Progress] = []
    judged = cross_validate(features[None], labels, 3, monitor=Monitor(told.append))
    assert [(event.done, event.total) for event in told] == [(done, 25) for done in range(26)]
    assert {event.stage for event in told} == {"cross-validating the last layer"}
    losses = {
        decay: F.cross_entropy(out_of_fold(features, labels, decay), labels, reduction="none")
        for decay in CROSS_ENTROPY.decays
    }
    best = min(losses.values(), key=lambda each: float(each.mean()))
    bound = float(best.mean() + best.std(correction=0) / math.sqrt(len(labels)))
    assert judged.decay == next(decay for decay in CROSS_ENTROPY.decays if float(losses[decay].mean()) <= bound)
    torch.testing.assert_close(judged.logits, out_of_fold(features, labels, judged.decay), atol=2e-2, rtol=0)
    assert judged.places.tolist() == list(range(120))


def out_of_fold(features: torch.Tensor, labels: torch.Tensor, decay: float) -> torch.Tensor:
    """Logits of each sample by a head of the other folds, each fitted alone."""
    folds = folds_of(labels, 3, None, torch.Generator().manual_seed(0), len(labels))
    logits = torch.zeros(len(labels), 3)
    for fold in range(NUM_FOLDS):
        rest = folds != fold
        logits[~rest] = fit_head(features[None, rest], labels[rest], 3, decay).logits(features[~rest])
    return logits


def folds_of(
    labels: torch.Tensor, num_classes: int, groups: list[str] | None, stream: torch.Generator, num_drawn: int
) -> torch.Tensor:
    import visus.training.heads as heads

    torch.randperm(num_drawn, generator=stream)  # which samples are judged
    return heads._folds(labels, num_classes, groups, stream)


def test_folds_hold_every_class_evenly_and_keep_groups_whole() -> None:
    labels = torch.arange(100) % 3
    folds = folds_of(labels, 3, None, torch.Generator().manual_seed(1), 100)
    for label in range(3):
        counts = torch.bincount(folds[labels == label], minlength=NUM_FOLDS)
        assert int(counts.max() - counts.min()) <= 1
    groups = [f"patient {place // 7}" for place in range(100)]
    folds = folds_of(labels, 3, groups, torch.Generator().manual_seed(1), 100)
    by_group = {name: {int(folds[place]) for place in range(100) if groups[place] == name} for name in groups}
    assert {len(found) for found in by_group.values()} == {1}
    assert len(folds.unique()) == NUM_FOLDS  # type: ignore[no-untyped-call]


def test_labels_that_are_noise_are_not_answered_out_of_fold() -> None:
    """In the fold, 300 features for 60 samples answer everything right."""
    stream = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 300, generator=stream), torch.randint(2, (60,), generator=stream)
    assert float((fit_head(features[None], labels, 2, 0.001).logits(features).argmax(1) == labels).float().mean()) == 1
    assert float((cross_validate(features[None], labels, 2).logits.argmax(1) == labels).float().mean()) < 0.75


def test_of_many_samples_some_are_judged_and_all_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.training.heads.MAX_CROSS_VALIDATED", 50)
    features, labels = samples(120)
    judged = cross_validate(features[None], labels, 3)
    assert (judged.logits.shape, len(judged.places)) == ((120, 3), 50)
    assert float((judged.logits.argmax(1) == labels).float().mean()) > 0.6


def test_views_count_as_samples_and_the_same_numbers_give_the_same_head() -> None:
    features, labels = samples()
    views = torch.stack([features, features + 0.1])
    one, two = fit_head(views, labels, 3), fit_head(views, labels, 3)
    assert torch.equal(one.weight, two.weight)
    stacked = fit_head(views.flatten(0, 1)[None], labels.repeat(2), 3)
    assert torch.equal(one.weight, stacked.weight)
    linear = nn.Linear(8, 3)
    set_head(linear, one)
    assert torch.allclose(linear(features), answers(one, features), atol=1e-5)


def test_class_weights_move_the_answers_towards_the_class() -> None:
    features, labels = samples()
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
    assert str(caught.value) == "unknown layer to freeze 'stage2'. Did you mean 'stage1'? Known: head, stage1."
    with pytest.raises(RecipeError) as caught:
        freeze(module, "*")
    assert str(caught.value) == "frozen='*' leaves no weights to train. Name fewer layers."


def test_norms_that_keep_their_statistics_answer_as_in_use() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    batch = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module.train()
    keep_statistics(module)
    before = module[1].running_mean.clone()  # type: ignore[union-attr, operator]
    module(batch)
    assert torch.equal(module[1].running_mean, before)  # type: ignore[arg-type]
    assert module[2].training
