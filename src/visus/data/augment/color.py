"""Color jitter: brightness, contrast, saturation and hue of a sample as one matrix and one offset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor

from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values

HUE: Final = 0.1  # maximum turn of the hue, as a fraction of a full turn, for a strength of 1
_LUMA: Final = (0.299, 0.587, 0.114)  # of ITU-R BT.601
_TO_YIQ: Final = (_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue of images; of gray images and volumes, brightness and contrast.

    All four are linear in the color of a pixel (hue is turned in the color space YIQ), so one matrix product does them: a tenth of the time of
    functions that convert to HSV and back.

    Args:
        strength: maximum change of brightness, contrast and saturation, as a fraction; the hue turns by up to a tenth of it.
        is_8_bit: whether values end at 0 and 1.
    """

    strength: float
    is_8_bit: bool = True
    settings: ClassVar = ("color",)
    num_axes: ClassVar = (2, 3)
    values: ClassVar = Values.UNIT

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls(settings["color"], samples.is_8_bit) if settings.get("color") else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return [f"recolored (brightness, contrast, saturation by up to {self.strength:.0%}; hue)".replace("%", " %")]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return (self.strength * (2 * random.uniform(4) - 1),)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        change = drawn[0].to(batch.device)
        brightness, contrast, saturation = (1 + change[:, :3]).unbind(1)
        colored = recolor(batch, brightness, contrast, saturation, 2 * math.pi * HUE * change[:, 3])
        return colored.clamp_(0, 1) if self.is_8_bit else colored


def recolor(batch: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor | None = None) -> Tensor:
    """The batch (N, C, *) of values from 0 to 1 with other brightness, contrast, saturation and hue; not cut at 0 and 1.

    Args:
        batch: (N, C, *); with other than 3 channels, saturation and hue change nothing.
        brightness: (N,) factors of the values.
        contrast: (N,) factors of the distance from the mean luma of the sample.
        saturation: (N,) factors of the distance of a color from its luma.
        hue: (N,) turns of the hue in radians; None for no turn.
    """
    flat = batch.flatten(2)
    gain = brightness * contrast
    if batch.shape[1] != 3:
        mean = flat.flatten(1).mean(1)
        values = flat * gain[:, None, None] + ((1 - contrast) * brightness * mean)[:, None, None]
        return values.reshape(batch.shape)
    luma = torch.tensor(_LUMA, device=batch.device)
    gray = luma.expand(3, 3)
    matrix = saturation[:, None, None] * torch.eye(3, device=batch.device) + (1 - saturation)[:, None, None] * gray
    if hue is not None:
        matrix = matrix @ _hue_turns(hue)
    mean = (flat.mean(2) * luma).sum(1)
    offset = ((1 - contrast) * brightness * mean)[:, None, None]
    return torch.baddbmm(offset, gain[:, None, None] * matrix, flat).reshape(batch.shape)


def _hue_turns(angle: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that turn the hue of RGB colors and keep their luma."""
    to_yiq = torch.tensor(_TO_YIQ, dtype=torch.float64, device=angle.device)
    to_yiq[1:] -= to_yiq[1:].mean(1, keepdim=True)  # so that gray has exactly no color
    cosine, sine = angle.double().cos(), angle.double().sin()
    turn = torch.zeros(len(angle), 3, 3, dtype=torch.float64, device=angle.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine
    turns: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return turns.float()
