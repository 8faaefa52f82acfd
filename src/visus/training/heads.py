"""Linear probe: a head on fixed features (logistic regression, for numbers ridge regression), with a weight decay chosen by cross-validation.

Shape letters: V augmented views of a sample, N samples, F features, C outputs (classes or numbers).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visus.progress import SILENT, Monitor, one
from visus.training.head_losses import CROSS_ENTROPY, HeadLoss

NUM_FOLDS = 5
CROSS_VALIDATING = "cross-validating the last layer"
MAX_CROSS_VALIDATED = 4_000
"""Maximum number of samples in the folds; a larger set is subsampled."""
MAX_ITERATIONS = 100
TOLERANCE, FOLD_TOLERANCE = 1e-4, 1e-3
"""Largest gradient component at which a fit ends: of the final head, and of the heads of the folds. On the features of 3,068 photos, 1e-3 took a fifth
of the steps of 1e-5, with the same accuracy (87.2 and 87.1 %) and a 0.3 % higher loss."""


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted head.

    Args:
        weight: (C, F), for unscaled features.
        bias: (C,).
        decay: coefficient of half the squared weights in the loss, for features with mean 0 and a standard deviation of about 1.
    """

    weight: Tensor
    bias: Tensor
    decay: float

    def logits(self, features: Tensor) -> Tensor:
        """Map features (N, F) to logits (N, C)."""
        return torch.addmm(self.bias, features.float(), self.weight.T)


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """Predictions of heads for samples that they were not fitted on.

    Args:
        decay: the strongest decay whose loss is within one standard error of the lowest (Breiman et al. 1984, section 3.4.3), since training
            continues best from small weights.
        logits: (N, C) for each sample, by the head of the other folds; beyond ``MAX_CROSS_VALIDATED`` samples, by a head of all folds.
        places: (n,) the cross-validated samples, in ascending order.
    """

    decay: float
    logits: Tensor
    places: Tensor


def cross_validate(
    views: Tensor,
    targets: Tensor,
    num_outputs: int,
    class_weights: Tensor | None = None,
    *,
    loss: HeadLoss = CROSS_ENTROPY,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    monitor: Monitor = SILENT,
) -> CrossValidated:
    """Five-fold cross-validation of a head, with every decay of the loss.

    Args:
        views: (V, N, F) features; heads are fitted on all views, and predict the first one.
        targets: (N,) class indices, or (N, C) values, as ``loss.targets`` makes them.
        num_outputs: C.
        class_weights: (C,) weights in the loss of class indices.
        loss: what the heads minimize.
        groups: group name of each sample; a group is never split between folds.
        seed: seed of the folds.
        monitor: receives the number of fitted heads, and can cancel.

    >>> features = torch.arange(20.0)[:, None]
    >>> validated = cross_validate(features[None], (torch.arange(20) > 9).long(), 2)
    >>> float((validated.logits.argmax(1) == (torch.arange(20) > 9)).float().mean()) >= 0.9
    True
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(targets), generator=generator)[:MAX_CROSS_VALIDATED].sort().values
    drawn_views, drawn_targets = views[:, drawn], targets[drawn]
    chosen_groups = None if groups is None else [groups[place] for place in drawn.tolist()]
    folds = _folds(drawn_targets, num_outputs, chosen_groups, generator)
    decays = loss.decays
    logits = {decay: torch.zeros(len(drawn), num_outputs) for decay in decays}
    numbers = sorted(set(folds.tolist()))
    fits = monitor.over(itertools.product(numbers, decays), CROSS_VALIDATING, len(numbers) * len(decays), one)
    for fold, turns in itertools.groupby(fits, key=lambda turn: turn[0]):
        is_fitted = folds != fold
        rows = drawn_views[:, is_fitted].flatten(0, 1)
        scaling = _Scaling.of(rows)
        rows, repeated = scaling(rows), _repeated(drawn_targets[is_fitted], len(views))
        fitted = torch.zeros(num_outputs, views.shape[2] + 1)
        for _, decay in turns:
            fitted = _fit(rows, repeated, fitted, decay, loss, class_weights, FOLD_TOLERANCE)
            logits[decay][~is_fitted] = _logits(scaling(drawn_views[0, ~is_fitted]), fitted)
    best = _one_standard_error_decay({decay: loss.losses_and_slopes(logits[decay], drawn_targets)[0] for decay in decays})
    all_logits = torch.empty(len(targets), num_outputs)
    if len(drawn) < len(targets):
        all_logits = fit_head(drawn_views, drawn_targets, num_outputs, best, class_weights, loss=loss).logits(views[0])
    all_logits[drawn] = logits[best]
    return CrossValidated(best, all_logits, drawn)


def fit_head(
    views: Tensor,
    targets: Tensor,
    num_outputs: int,
    decay: float = 0.01,
    class_weights: Tensor | None = None,
    *,
    loss: HeadLoss = CROSS_ENTROPY,
) -> Head:
    """The minimum of a loss with an L2 penalty, by L-BFGS; each view of a sample counts as a sample.

    The features are centered and divided by the square root of their mean variance, so that a decay means the same for every network.

    Args:
        views: (V, N, F) features.
        targets: (N,) class indices, or (N, C) values, as ``loss.targets`` makes them.
        num_outputs: C.
        decay: coefficient of half the squared weights in the loss.
        class_weights: (C,) weights in the loss of class indices.
        loss: what is minimized; with class indices, a multinomial logistic regression.

    Returns:
        The head for unscaled features; equal inputs give an equal head.

    >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> fit_head(features[None], torch.tensor([0, 0, 1, 1]), 2).logits(features).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    rows, repeated = views.flatten(0, 1).float(), _repeated(targets, len(views))
    scaling, start = _Scaling.of(rows), torch.zeros(num_outputs, rows.shape[1] + 1)
    fitted = _fit(scaling(rows), repeated, start, decay, loss, class_weights, TOLERANCE)
    weight = fitted[:, :-1] / scaling.deviation
    return Head(weight, fitted[:, -1] - weight @ scaling.mean, decay)


@dataclass(frozen=True, eq=False)
class _Scaling:
    """Centers features (mean (F,)) and divides them by one standard deviation."""

    mean: Tensor
    deviation: float

    @classmethod
    def of(cls, rows: Tensor) -> _Scaling:
        mean = rows.float().mean(0)
        return cls(mean, float((rows - mean).square().mean().sqrt().clamp_min(1e-12)))

    def __call__(self, rows: Tensor) -> Tensor:
        return (rows.float() - self.mean) / self.deviation


def _repeated(targets: Tensor, times: int) -> Tensor:
    """The targets of all samples, once for each view."""
    return torch.cat([targets] * times)


def _folds(labels: Tensor, num_classes: int, groups: Sequence[str] | None, generator: torch.Generator) -> Tensor:
    """(N,) fold of each sample: whole groups, or stratified by class, or of other targets at random."""
    folds = torch.zeros(len(labels), dtype=torch.long)
    if groups is not None:
        names = sorted(set(groups))
        order = torch.randperm(len(names), generator=generator).tolist()
        numbers = {name: order[place] % NUM_FOLDS for place, name in enumerate(names)}
        return torch.tensor([numbers[name] for name in groups])
    if labels.ndim > 1:
        folds[torch.randperm(len(labels), generator=generator)] = torch.arange(len(labels)) % NUM_FOLDS
        return folds
    first = 0
    for label in range(num_classes):
        places = (labels == label).nonzero().flatten()
        folds[places[torch.randperm(len(places), generator=generator)]] = (torch.arange(len(places)) + first) % NUM_FOLDS
        first += len(places)
    return folds


def _one_standard_error_decay(losses: dict[float, Tensor]) -> float:
    """The first decay whose mean loss is within one standard error of the lowest (one-standard-error rule)."""
    best = min(losses.values(), key=lambda each: float(each.mean()))
    bound = float(best.mean() + best.std(correction=0) / math.sqrt(len(best)))
    return next(decay for decay, each in losses.items() if float(each.mean()) <= bound)


@torch.no_grad()
def set_head(linear: nn.Linear, head: Head) -> None:
    """Copy a head's weight and bias into a linear layer."""
    linear.weight.copy_(head.weight)
    if linear.bias is not None:
        linear.bias.copy_(head.bias)


def _logits(rows: Tensor, fitted: Tensor) -> Tensor:
    """Logits (N, C) of rows (N, F), for weights (C, F + 1) with the bias in the last column."""
    return torch.addmm(fitted[:, -1], rows, fitted[:, :-1].T)


def _fit(
    rows: Tensor,
    targets: Tensor,
    start: Tensor,
    decay: float,
    loss: HeadLoss,
    class_weights: Tensor | None,
    tolerance: float,
) -> Tensor:
    """Weights with bias (C, F + 1) that minimize the penalized loss: no gradient component exceeds ``tolerance``. ``start`` is the initial value."""
    fitted = start.clone()
    weights = torch.ones(len(targets)) if class_weights is None else class_weights.to(rows)[targets]
    weights = weights / weights.sum()
    optimizer = torch.optim.LBFGS(
        [fitted], max_iter=MAX_ITERATIONS, history_size=10, tolerance_grad=tolerance, line_search_fn="strong_wolfe"
    )

    def measure() -> Tensor:
        """Loss, with an explicit gradient: autograd would read the rows once more, in a stride order that takes twice as long."""
        losses, slopes = loss.losses_and_slopes(_logits(rows, fitted), targets)
        slopes.mul_(weights[:, None])
        weight = fitted[:, :-1]
        fitted.grad = torch.cat([slopes.T.contiguous() @ rows + decay * weight, slopes.sum(0)[:, None]], 1)
        return decay / 2 * weight.square().sum() + (losses * weights).sum()

    optimizer.step(measure)  # type: ignore[no-untyped-call]
    return fitted
