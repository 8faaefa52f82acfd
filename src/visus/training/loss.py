"""The training loss: that of the task with label smoothing and class weights, or a person's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from visus.errors import UsageError
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.networks.own_code import place_in_code
from visus.units import write_shape

OwnLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From outputs (N, K) and labels to the loss of each sample (N,), or to their mean. Of regression, both are standardized."""


@dataclass(frozen=True, eq=False)
class Loss:
    """The mean loss of a batch, weighted by the class of each sample.

    PyTorch's ``cross_entropy`` also weights the smoothed targets, so a large weight draws every sample toward a rare class. With 99 samples to 1 and
    a smoothing of 0.1, its minimum predicts the rare class always (pytorch#104776). Here the weight belongs to the sample, so the best prediction
    for a sample does not depend on the weights.

    Args:
        smoothing: probability spread over all classes in the target, 0 to 1.
        class_weights: (classes,) weight of the samples of each class; None for equal weights.
        task: the task, whose loss it is.
        own: a person's own loss, in place of that of the task; smoothing and class weights do not apply.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> weighted = Loss(class_weights=torch.tensor([1.0, 3.0]))
    >>> [round(float(value), 4) for value in (*weighted.per_sample(logits, labels), weighted.mean(logits, labels))]
    [0.1269, 0.3133, 0.2667]
    """

    smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    task: Task = field(default_factory=lambda: SingleLabel(()))
    own: OwnLoss | None = None

    def per_sample(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """The loss (N,) of each sample, without class weights; None if an own loss returns one number for all of them.

        Raises:
            UsageError: an own loss returns something else, or what has no gradient.
        """
        found = self._losses(outputs, labels)
        return found if found.ndim else None

    def _losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss (N,) of each sample; or of an own loss one number ()."""
        if self.own is None:
            return self.task.losses(outputs, labels, self.smoothing)
        try:
            compared = self.task.standardized(labels)
            found = self.own(outputs, compared.to(outputs.dtype) if compared.is_floating_point() else compared)
        except Exception as error:  # whatever a person's own code raises
            raise UsageError(f"the own loss failed with {type(error).__name__}: {error}{place_in_code(error)}.") from error
        if not isinstance(found, torch.Tensor) or found.shape not in ((), (len(labels),)):
            what = write_shape(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
            raise UsageError(
                f"the own loss returned {what} for {len(labels)} samples. Return a tensor with the loss of each sample, ({len(labels)},), or their mean, ()."
            )
        if outputs.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
            raise UsageError(
                "the own loss returned numbers without a gradient, so nothing can be learned from them. Compute it from the outputs with "
                "operations of PyTorch that have one: no detach, item, numpy or argmax."
            )
        return found

    def mean(
        self,
        outputs: torch.Tensor,
        labels: torch.Tensor,
        all_labels: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The weighted mean over the samples.

        Args:
            outputs: (N, K).
            labels: the labels, as in ``visus.data.tasks``.
            all_labels: labels of the whole batch if these samples are a slice of it; the result is then their part of the batch's mean.
            share: (N,) factor of each sample's loss, for samples that are mixed with others (``Batch.mean_loss``); None for 1.

        Raises:
            UsageError: an own loss returns something else, or one number for samples that are mixed.
        """
        losses, whole = self._losses(outputs, labels), labels if all_labels is None else all_labels
        if not losses.ndim and share is not None:
            raise UsageError(
                "mixup and cutmix weight the loss of each sample by its own share, and the own loss returned one number for "
                f"{len(labels)} samples. Return the loss of each sample, ({len(labels)},), or leave mixup and cutmix out."
            )
        if not losses.ndim:
            return losses * (len(labels) / len(whole))
        losses = losses if share is None else share * losses
        if self.class_weights is None:
            return losses.sum() / len(whole)
        weights = self.class_weights.to(labels.device)
        return (losses * weights[labels]).sum() / weights[whole].sum()
