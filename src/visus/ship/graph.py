"""The network as it is exported: from stored samples, such as uint8 images of the network's size, to logits and to what its task returns.

Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visus.data.preprocessing import WIDE, Preprocessing
from visus.evaluation.label_smoothing import TRANSITION
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.registry import SINGLE_LABEL
from visus.ship.tasks.regression import RegressionBundle
from visus.ship.tasks.task import BundleTask


class Normalization(nn.Module):
    """``(samples - offset) / divisor`` for each channel, as ``Preprocessing.scale_values``: the same operations in the same precision."""

    offset: Tensor
    divisor: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.precision = torch.float64 if preprocessing.dtype in WIDE else torch.float32
        shape = (1, preprocessing.channels, *([1] * len(preprocessing.size)))
        self.register_buffer("offset", torch.tensor(preprocessing.offset, dtype=self.precision).reshape(shape))
        self.register_buffer("divisor", torch.tensor(preprocessing.divisor, dtype=self.precision).reshape(shape))

    def forward(self, samples: Tensor) -> Tensor:
        """Normalized values (N, C, *) in float32."""
        return ((samples.to(self.precision) - self.offset) / self.divisor).to(torch.float32)


class Calibration(nn.Module):
    """Logits to calibrated probabilities in float32: ``evaluation.calibration.Calibrator``."""

    def __init__(self, temperature: float, smoothing: float) -> None:
        super().__init__()
        self.temperature, self.smoothing = temperature, smoothing

    def forward(self, logits: Tensor) -> Tensor:
        """Probabilities (N, classes)."""
        probabilities = torch.softmax(logits / self.temperature, dim=-1)
        if not self.smoothing:
            return probabilities
        smallest = self.smoothing / probabilities.shape[-1]
        difference = probabilities - smallest
        positive = (difference + (difference * difference + (TRANSITION * smallest) ** 2).sqrt()) / 2
        return positive / positive.sum(dim=-1, keepdim=True)


class SigmoidCalibration(nn.Module):
    """Logits to the calibrated probability of each class in float32: ``evaluation.tasks.label_thresholds.Sigmoid``."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        """Probabilities (N, classes)."""
        return torch.sigmoid(logits / self.temperature)


class Units(nn.Module):
    """Standardized outputs to numbers in the units of the labels in float64, since float32 has too few digits for large numbers of a small spread."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64))

    def forward(self, logits: Tensor) -> Tensor:
        """Numbers (N, targets)."""
        return logits.to(torch.float64) * self.std + self.mean


def last_step(task: BundleTask, temperature: float, smoothing: float) -> nn.Module:
    """The module that maps the logits of a task to its answers."""
    if isinstance(task, RegressionBundle):
        return Units(task.mean, task.std)
    if isinstance(task, MultiLabelBundle):
        return SigmoidCalibration(temperature)
    return Calibration(temperature, smoothing)


class Deployed(nn.Module):
    """A network between its normalization and its calibration.

    Args:
        network: maps normalized samples to logits; in evaluation mode.
        preprocessing: of its samples.
        temperature, smoothing: its calibration.
        task: what its outputs mean.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        temperature: float,
        smoothing: float,
        task: BundleTask = SINGLE_LABEL,
    ) -> None:
        super().__init__()
        self.normalization = Normalization(preprocessing)
        self.network = network
        self.calibration = last_step(task, temperature, smoothing)
        self.eval()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and answers (N, classes) for stored samples (N, C, *): probabilities, or the numbers of regression."""
        logits = self.network(self.normalization(samples)).float()
        return logits, self.calibration(logits)
