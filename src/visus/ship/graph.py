"""The network as it is exported: from stored samples, such as uint8 images of the network's size, to logits and calibrated probabilities.

Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visus.data.preprocessing import WIDE, Preprocessing
from visus.evaluation.label_smoothing import TRANSITION


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


class Deployed(nn.Module):
    """A network between its normalization and its calibration.

    Args:
        network: maps normalized samples to logits; in evaluation mode.
        preprocessing: of its samples.
        temperature, smoothing: its calibration.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, temperature: float, smoothing: float) -> None:
        super().__init__()
        self.normalization = Normalization(preprocessing)
        self.network = network
        self.calibration = Calibration(temperature, smoothing)
        self.eval()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities (N, classes) for stored samples (N, C, *)."""
        logits = self.network(self.normalization(samples)).float()
        return logits, self.calibration(logits)
