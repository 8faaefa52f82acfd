"""Cross-entropy with label smoothing and class weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class Loss:
    """Mean smoothed cross-entropy, weighted by the class of each sample.

    PyTorch's ``cross_entropy`` also weights the smoothed targets, so a large weight draws every sample toward a rare class. With 99 samples to 1 and
    a smoothing of 0.1, its minimum predicts the rare class always (pytorch#104776). Here the weight belongs to the sample, so the best prediction
    for a sample does not depend on the weights.

    Args:
        smoothing: probability spread over all classes in the target, 0 to 1.
        class_weights: (classes,) weight of the samples of each class; None for equal weights.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> weighted = Loss(class_weights=torch.tensor([1.0, 3.0]))
    >>> [round(float(value), 4) for value in (*weighted.per_sample(logits, labels), weighted.mean(logits, labels))]
    [0.1269, 0.3133, 0.2667]
    """

    smoothing: float = 0.0
    class_weights: torch.Tensor | None = None

    def per_sample(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Smoothed cross-entropy (N,) of each sample, without class weights."""
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)

    def mean(self, logits: torch.Tensor, labels: torch.Tensor, all_labels: torch.Tensor | None = None) -> torch.Tensor:
        """The weighted mean over the samples.

        Args:
            logits: (N, classes).
            labels: (N,) class indices.
            all_labels: labels of the whole batch if these samples are a slice of it; the result is then their part of the batch's mean.
        """
        losses, whole = self.per_sample(logits, labels), labels if all_labels is None else all_labels
        if self.class_weights is None:
            return losses.sum() / len(whole)
        weights = self.class_weights.to(labels.device)
        return (losses * weights[labels]).sum() / weights[whole].sum()


TEMPERATURES = tuple(2.0 ** (step / 4) for step in range(-10, 11))


def calibrated_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (N,) of each sample after temperature scaling; the temperature (0.18 to 5.7) minimizes the mean.

    This compares two networks independently of their confidence, which is lower for equal predictions after label smoothing.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])
    >>> bool(torch.allclose(calibrated_losses(logits, labels), calibrated_losses(2 * logits, labels)))
    True
    """
    losses = [F.cross_entropy(logits / temperature, labels, reduction="none") for temperature in TEMPERATURES]
    return min(losses, key=lambda loss: float(loss.mean()))
