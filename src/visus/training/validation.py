"""The validation of a network during its training: loss, the result of each sample, and the metric that selects the epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from visus.data.augment import shrink
from visus.data.batches import BatchShard, Part, batches_in_order
from visus.data.preprocessing import Preprocessing
from visus.evaluation.metrics import Metric, jackknife_error
from visus.evaluation.predictions import predict_logits
from visus.networks.fast import unoptimized
from visus.networks.machine import Machine
from visus.training.distribution import Group
from visus.training.loss import Loss
from visus.training.selection import SampleResults

EVALUATION_BATCH = 256


@dataclass(frozen=True, eq=False)
class Validation:
    """Validates networks on one validation set, which may be empty.

    Args:
        samples: the validation set.
        preprocessing: the scaling of its samples.
        loss: the training loss.
        metric: the metric that selects the epoch.
        machine: device and precision.
        group: the processes of the training; each computes a slice of the set.
        shard: this process's slice.
    """

    samples: Part
    preprocessing: Preprocessing
    loss: Loss
    metric: Metric
    machine: Machine
    group: Group
    shard: BatchShard

    def validate(self, module: nn.Module, size: float) -> tuple[float, SampleResults]:
        """The training loss on the validation set, and the result of each sample; NaN and no results if the set is empty.

        Args:
            module: the network.
            size: input size as a fraction of the full size.
        """
        num_samples = len(self.samples)
        if not num_samples:
            return math.nan, SampleResults((), ())
        machine = self.machine
        shard = self.shard if num_samples >= self.group.size else BatchShard()
        inputs = batches_in_order(self.samples.slice(shard.of(num_samples)), self.preprocessing, EVALUATION_BATCH)
        with unoptimized(module):  # every evaluation uses PyTorch's own kernels
            logits = predict_logits(
                module,
                (shrink(batch, size) if size < 1 else batch for batch in inputs),
                device=machine.device,
                precision=machine.precision,
                channels_last=machine.channels_last,
            )
        if shard.count > 1:
            logits = self.group.all_gather(logits, shard.of(num_samples), num_samples)
        labels = torch.from_numpy(self.samples.labels)
        return float(self.loss.mean(logits, labels)), self._results(logits, labels)

    def score(self, results: SampleResults) -> float:
        """The metric that selects the epoch, in its own direction."""
        return -results.selected if self.metric.is_error else results.selected

    def _results(self, outputs: torch.Tensor, labels: torch.Tensor) -> SampleResults:
        """The result of each validation sample, and the score that selects the epoch."""
        task, metric = self.loss.task, self.metric
        is_right = task.is_right(outputs, labels)
        found = () if is_right is None else tuple(is_right.tolist())
        losses = self._sample_losses(outputs, labels, has_right=is_right is not None)
        if metric.name == "accuracy":
            return SampleResults(found, losses)
        value, error = metric.compute(task, outputs, labels), jackknife_error(metric, task, outputs, labels)
        return SampleResults(found, losses, -value if metric.is_error else value, error)

    def _sample_losses(self, outputs: torch.Tensor, labels: torch.Tensor, *, has_right: bool) -> tuple[float, ...]:
        """The loss of each validation sample for paired tests.

        An own loss that returns one number has none: right predictions are compared then, or where there are none (regression), the losses of the task.
        """
        found = self.loss.per_sample(outputs, labels) if self.loss.own else None
        if self.loss.own and found is None and has_right:
            return ()
        return tuple((self.loss.task.fair_losses(outputs, labels) if found is None else found).tolist())
