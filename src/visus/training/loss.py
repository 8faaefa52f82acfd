"""The loss of a classifier: cross-entropy with smoothed labels and weights of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class Loss:
    """The smoothed cross-entropy of each sample times the weight of its class, divided by the sum of these weights.

    PyTorch's own ``cross_entropy`` weights the smoothing too: each *target* class by its weight. A rare class with a large weight then draws
    every sample toward itself, and with 99 samples to 1 and a smoothing of 0.1 the smallest loss is to answer the rare class always
    (pytorch#104776). Here the weight belongs to the sample, so the best answer for a sample is the same with and without weights.

    Args:
        smoothing: probability that is spread over all classes in the target.
        class_weights: (classes,) weight of the samples of each class; None for equal weights.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> weighted = Loss(class_weights=torch.tensor([1.0, 3.0]))
    >>> [round(float(value), 4) for value in (*weighted.of_each(logits, labels), weighted.mean(logits, labels))]
    [0.1269, 0.3133, 0.2667]
    """

    smoothing: float = 0.0
    class_weights: torch.Tensor | None = None

    def of_each(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Smoothed cross-entropy (N,) of each sample, without its weight."""
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)

    def mean(self, logits: torch.Tensor, labels: torch.Tensor, all_labels: torch.Tensor | None = None) -> torch.Tensor:
        """The weighted mean over the samples.

        Args:
            logits: (N, classes).
            labels: (N,) class indices.
            all_labels: labels of the whole batch where these samples are a slice of it; the result is then their part of the mean over all.
        """
        losses, whole = self.of_each(logits, labels), labels if all_labels is None else all_labels
        if self.class_weights is None:
            return losses.sum() / len(whole)
        weights = self.class_weights.to(labels.device)
        return (losses * weights[labels]).sum() / weights[whole].sum()


TEMPERATURES = tuple(2.0 ** (step / 4) for step in range(-10, 11))


def calibrated_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (N,) of each sample, after the temperature of 0.18 to 5.7 that makes its mean the least.

    Two networks are compared by what they know, and not by how sure they are: one that learned from smoothed labels is less sure of the same answers.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])
    >>> bool(torch.allclose(calibrated_losses(logits, labels), calibrated_losses(2 * logits, labels)))
    True
    """
    losses = [F.cross_entropy(logits / temperature, labels, reduction="none") for temperature in TEMPERATURES]
    return min(losses, key=lambda each: float(each.mean()))
