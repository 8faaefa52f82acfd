"""A policy after RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few random operations of one magnitude for each sample, on whole batches.

The operations that move pixels are one affine sampling for all samples of a round, and those on colors one matrix product (``color``), which is exact and
faster than a call for each. kornia computes the rest: sharpness, posterize, solarize and equalize, each with its parameter for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor

from visus.data.augment.color import recolor
from visus.data.augment.moves import sampled
from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values
from visus.data.augment.turns import plane_rotation
from visus.data.policy_text import MAX_MAGNITUDE, read_policy
from visus.errors import MissingExtraError

MOVES: Final = ("rotate", "shear x", "shear y", "translate x", "translate y")
COLORS: Final = ("brightness", "contrast", "saturation")
OTHERS: Final = ("sharpness", "posterize", "solarize", "autocontrast", "equalize")
OPERATIONS: Final = ("identity", *MOVES, *COLORS, *OTHERS)


def require_kornia() -> None:
    """Raise an error if kornia cannot be imported.

    Raises:
        MissingExtraError: it is not installed, or does not load.
    """
    try:
        import kornia.enhance  # noqa: F401
    except Exception as error:  # a damaged package may raise anything
        raise MissingExtraError.because(error, "kornia", "augment", "random policies") from error


@dataclass(frozen=True)
class RandomPolicy(Transform):
    """Apply ``num_operations`` random operations of one magnitude to each sample; directions are random.

    Args:
        num_operations: operations for each sample.
        magnitude: strength, 0 to 30.
    """

    num_operations: int
    magnitude: int
    settings: ClassVar = ("policy",)
    num_axes: ClassVar = (2,)
    values: ClassVar = Values.UNIT

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        found = read_policy(settings.get("policy") or "")
        if found is None:
            return None
        require_kornia()
        return cls(*found)

    def sentences(self, size: Sequence[int]) -> list[str]:
        operations = "operation" if self.num_operations == 1 else "operations"
        return [f"changed by {self.num_operations} random {operations} of magnitude {self.magnitude} of {MAX_MAGNITUDE}"]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return random.integers(len(OPERATIONS), self.num_operations), random.integers(2, self.num_operations)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        chosen, signs = drawn
        for turn in range(self.num_operations):
            batch = self._turn(batch, chosen[:, turn], 1.0 - 2.0 * signs[:, turn])
        return batch

    def _turn(self, batch: Tensor, chosen: Tensor, signs: Tensor) -> Tensor:
        """One operation for each sample: ``chosen`` (N,) in the direction of ``signs`` (N,)."""
        share = self.magnitude / MAX_MAGNITUDE
        changed = batch.clone()
        for names, change in ((MOVES, _moved), (COLORS, _recolored), *(((name,), _OTHERS[name]) for name in OTHERS)):
            places = torch.isin(chosen, torch.tensor([OPERATIONS.index(name) for name in names])).nonzero()[:, 0]
            if len(places):
                rows = places.to(batch.device)
                changed[rows] = change(batch[rows], chosen[places], share * signs[places]).clamp(0, 1)
        return changed


def _moved(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """The batch rotated, sheared or translated; new pixels are reflected at the edges."""
    is_kind = {name: (chosen == OPERATIONS.index(name)).float() * strength for name in MOVES}
    affine = torch.zeros(len(batch), 2, 3)
    affine[:, :2, :2] = plane_rotation(math.radians(30) * is_kind["rotate"], batch.shape[-2] / batch.shape[-1])
    affine[:, 0, 1] += 0.3 * is_kind["shear x"]
    affine[:, 1, 0] += 0.3 * is_kind["shear y"]
    affine[:, 0, 2] = 0.9 * is_kind["translate x"]  # of half the side
    affine[:, 1, 2] = 0.9 * is_kind["translate y"]
    return sampled(batch, affine)


def _recolored(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    factors = (1 + 0.9 * (chosen == OPERATIONS.index(name)).float() * strength for name in COLORS)
    return recolor(batch, *(each.to(batch.device) for each in factors))


def _sharpened(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    from kornia.enhance import sharpness

    return _checked(sharpness(batch, (1 + 0.9 * strength).to(batch.device)))


def _posterized(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    from kornia.enhance import posterize

    bits = (8 - 4 * strength.abs()).round().long()
    return _checked(posterize(batch, bits.to(batch.device)))


def _solarized(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    from kornia.enhance import solarize

    return _checked(solarize(batch, (1 - strength.abs()).to(batch.device)))


def _autocontrasted(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """The values of each channel stretched to 0 to 1."""
    low, high = batch.amin((2, 3), keepdim=True), batch.amax((2, 3), keepdim=True)
    return torch.where(high > low, (batch - low) / (high - low).clamp(min=1e-6), batch)


def _equalized(batch: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    from kornia.enhance import equalize

    return _checked(equalize(batch))


def _checked(result: Any) -> Tensor:
    assert isinstance(result, Tensor), "kornia returns a tensor for a tensor"
    return result


_OTHERS: Final[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "sharpness": _sharpened,
    "posterize": _posterized,
    "solarize": _solarized,
    "autocontrast": _autocontrasted,
    "equalize": _equalized,
}
