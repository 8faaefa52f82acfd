"""A head for features that stay as they are: logistic regression, its decay chosen on the validation split.

This file knows features, labels and one linear layer. It must not know pictures, files or how features are made.

Shape letters: V views of an item, N items, F features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAYS = (0.1, 0.03, 0.01, 0.003, 0.001)
DEFAULT_DECAY = 0.01
MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted head.

    Args:
        weight: (C, F), for features as they come.
        bias: (C,).
        decay: half the penalty on the squared weights, of features that were centred and brought to a deviation of about 1.
        val_loss, val_accuracy: of the validation items; not numbers where there are none.
    """

    weight: Tensor
    bias: Tensor
    decay: float
    val_loss: float
    val_accuracy: float


def fit_head(
    views: Tensor,
    labels: Tensor,
    num_classes: int,
    validation: tuple[Tensor, Tensor] | None = None,
    class_weights: Tensor | None = None,
) -> Head:
    """Multinomial logistic regression with a squared penalty, by L-BFGS; each view of an item counts as an item.

    Decays are tried from the strongest down, each fit beginning with the last. The strongest one whose validation loss is within one standard
    error of the lowest is kept, since training goes on best from small weights. The features are centred and divided by one number, the root of their mean variance, so that a decay means the same for any network.

    Args:
        views: (V, N, F) features.
        labels: (N,) class indices.
        num_classes: C.
        validation: features (N', F) and labels (N',) of items that chose nothing yet; without them the decay is 0.01.
        class_weights: (C,) weights in the loss.

    Returns:
        The head for features as they came; the same numbers give the same head.

    >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> head = fit_head(features[None], torch.tensor([0, 0, 1, 1]), 2)
    >>> (features @ head.weight.T + head.bias).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    rows, targets = views.flatten(0, 1).float(), labels.repeat(len(views))
    middle = rows.mean(0)
    size = float((rows - middle).square().mean().sqrt().clamp_min(1e-12))
    rows = (rows - middle) / size
    judged = None if validation is None else ((validation[0].float() - middle) / size, validation[1])
    path = [torch.zeros(num_classes, rows.shape[1] + 1)]
    decays = DECAYS if judged else (DEFAULT_DECAY,)
    for decay in decays:
        path.append(_fit(rows, targets, path[-1], decay, class_weights))
    chosen, loss = _simplest_good([_losses(*judged, fitted) for fitted in path[1:]]) if judged else (0, math.nan)
    fitted = path[1 + chosen]
    accuracy = float((_answers(judged[0], fitted).argmax(1) == judged[1]).float().mean()) if judged else math.nan
    weight = fitted[:, :-1] / size
    return Head(weight, fitted[:, -1] - weight @ middle, decays[chosen], loss, accuracy)


def _losses(rows: Tensor, labels: Tensor, fitted: Tensor) -> Tensor:
    """Cross-entropy of each item."""
    return F.cross_entropy(_answers(rows, fitted), labels, reduction="none")


def _simplest_good(losses: Sequence[Tensor]) -> tuple[int, float]:
    """Place and mean loss of the first whose mean loss is within one standard error of the lowest (Breiman et al. 1984, section 3.4.3)."""
    best = min(losses, key=lambda each: float(each.mean()))
    bound = float(best.mean() + best.std(correction=0) / math.sqrt(len(best)))
    place = next(place for place, each in enumerate(losses) if float(each.mean()) <= bound)
    return place, float(losses[place].mean())


@torch.no_grad()
def set_head(linear: nn.Linear, head: Head) -> None:
    """Give a linear layer the numbers of a head, in place."""
    linear.weight.copy_(head.weight)
    if linear.bias is not None:
        linear.bias.copy_(head.bias)


def _answers(rows: Tensor, fitted: Tensor) -> Tensor:
    """Logits of rows (N, F) for weights with their bias in the last column (C, F + 1)."""
    return torch.addmm(fitted[:, -1], rows, fitted[:, :-1].T)


def _fit(rows: Tensor, targets: Tensor, start: Tensor, decay: float, class_weights: Tensor | None) -> Tensor:
    """Weights and biases (C, F + 1) where the loss with its penalty is lowest, from a start."""
    fitted = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [fitted], max_iter=MAX_ITERATIONS, history_size=10, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def measure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(_answers(rows, fitted), targets, class_weights)
        loss = loss + decay / 2 * fitted[:, :-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(measure)  # type: ignore[no-untyped-call]
    return fitted.detach()
