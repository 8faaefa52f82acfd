"""``Augmentation``: the random changes of a training as a tuple of transforms, applied to whole batches on their device.

Shape letters: N samples, C channels, * the spatial axes; the last one is the width (or the length of a signal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visus.data.augment.color import ColorJitter
from visus.data.augment.crop import RandomCrop
from visus.data.augment.cutout import Cutout
from visus.data.augment.mixing import MIXINGS, Mixing, Pairs, draw_pairs
from visus.data.augment.moves import Flip, Shift, Zoom
from visus.data.augment.own import OwnTransform
from visus.data.augment.policy import RandomPolicy
from visus.data.augment.random_numbers import BatchRandom, batch_random
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values
from visus.data.augment.turns import QuarterTurns, Rotation, VerticalFlip

TRANSFORMS: Final[tuple[type[Transform], ...]] = (
    *(RandomCrop, Flip, Zoom, Shift, VerticalFlip, QuarterTurns, Rotation),
    *(ColorJitter, RandomPolicy, OwnTransform, Cutout),
)
"""Every transform, in the order in which they are applied."""
_NAMES: Final = [*(kind.settings for kind in TRANSFORMS), *(kind.settings for kind in MIXINGS)]
SETTINGS: Final = tuple(dict.fromkeys(name for names in _NAMES for name in names))
"""The settings of a recipe that decide the augmentation."""
_PADDABLE = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)
_EXACT_IN_FLOAT32 = (torch.uint8, torch.int8, torch.int16, torch.float16, torch.float32)
_WORDS: Final = {
    "blanked": "partly covered",
    "changed": "randomly changed",
    "partly": "partly replaced",
    "upside": "upside down",
}


@dataclass(frozen=True, eq=False)
class UnitScale:
    """How normalized values become values from 0 (black) to 1 (white): ``factor * value + offset``.

    Args:
        factor, offset: one number for each channel, or one for all.
    """

    factor: Tensor
    offset: Tensor

    def unit_values(self, inputs: Tensor) -> Tensor:
        """Normalized values (N, C, *) as values from 0 to 1; a new tensor."""
        factor, offset = self._by_channel(inputs)
        return torch.addcmul(offset, inputs, factor)

    def inputs(self, values: Tensor) -> Tensor:
        """The inverse of ``unit_values``."""
        factor, offset = self._by_channel(values)
        return (values - offset) / factor

    def _by_channel(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, *[1] * (batch.ndim - 2))
        factor, offset = (each.to(batch.device, batch.dtype).reshape(shape) for each in (self.factor, self.offset))
        return factor, offset


OF_DEVIATIONS: Final = UnitScale(torch.tensor(0.25), torch.tensor(0.5))
"""Values without black and white: two standard deviations below the mean are 0, and two above it are 1."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the label, drawn for every sample of every batch, and the ways of mixing that do not.

    Args:
        transforms: the changes, in the order in which they are applied.
        mixings: the ways of mixing samples; one is drawn for each batch.

    >>> Augmentation.of({"translate": 0.05, "flip": "random"}, SampleFacts((28, 28))).transforms
    (Flip(how='random'), Shift(fraction=0.05))
    """

    transforms: tuple[Transform, ...] = ()
    mixings: tuple[Mixing, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Augmentation:
        """The augmentation that a recipe asks for.

        Args:
            settings: settings of a recipe by name; missing ones are off.
            samples: facts about the samples.

        Raises:
            UsageError: a person's own transform cannot be imported, or a package is missing.
        """
        transforms = (kind.of(settings, samples) for kind in TRANSFORMS)
        mixings = (kind.of(settings) for kind in MIXINGS)
        return cls(tuple(each for each in transforms if each), tuple(each for each in mixings if each))

    @property
    def alternates(self) -> bool:
        """Whether samples are mirrored in every second epoch."""
        return Flip("alternating") in self.transforms

    @property
    def needs_whole_batch(self) -> bool:
        """Whether a transform gets the whole batch in each process, because its code is not known."""
        return any(isinstance(each, OwnTransform) for each in self.transforms)

    def __call__(
        self,
        batch: Tensor,
        generator: torch.Generator | BatchRandom,
        *,
        scale: Callable[[Tensor], Tensor] | None = None,
        mirrored: Tensor | None = None,
        unit: UnitScale = OF_DEVIATIONS,
    ) -> Tensor:
        """Augment a batch (N, C, *). Samples are not mixed: see ``pairs``.

        Args:
            batch: stored values; normalized values if ``scale`` is None.
            generator: random generator on the CPU, so that all devices get the same numbers; a ``BatchRandom`` for a shard of a batch.
            scale: function that normalizes stored values into a new tensor. It is called as late as possible, since stored values have a
                quarter of the bytes, and moving them is exact.
            mirrored: which samples are mirrored (N,), on the CPU, if flips alternate.
            unit: how normalized values become values from 0 to 1, for the transforms of colors.

        Returns:
            The augmented batch; ``batch`` itself if nothing changes.
        """
        drawn = self.draw(batch, generator, mirrored)
        values, marked = _BatchValues(batch, scale, unit), None
        for place, (change, numbers) in enumerate(zip(self.transforms, drawn, strict=True)):
            follower = self.transforms[place + 1] if place + 1 < len(self.transforms) else None
            if isinstance(change, Flip) and isinstance(follower, Shift):
                marked = numbers[0] if numbers else None  # a single copy mirrors and shifts
            elif isinstance(change, Shift):
                values.set(change.apply(values.of(change.values), numbers, marked))
            else:
                values.set(change.apply(values.of(change.values), numbers))
        return values.of(Values.INPUTS)

    def draw(
        self, batch: Tensor, generator: torch.Generator | BatchRandom, mirrored: Tensor | None = None
    ) -> tuple[Drawn, ...]:
        """The random numbers of every transform for a batch (N, C, *), as ``__call__`` draws them."""
        random = batch_random(generator, batch)
        random = BatchRandom(random.generator, random.num_samples, random.shard, mirrored)
        size, found = tuple(batch.shape[2:]), list[Drawn]()
        for change in self.transforms:
            found.append(change.draw(random, size))
            size = change.size_after(size)
        return tuple(found)

    def move_boxes(self, boxes: Tensor, drawn: Sequence[Drawn], size: Sequence[int]) -> Tensor:
        """The boxes of augmented samples.

        Args:
            boxes: (N, M, 2, D), the first and the last edge along each spatial axis, in pixels.
            drawn: the numbers that moved the pixels.
            size: lengths of the spatial axes before the augmentation.
        """
        for change, numbers in zip(self.transforms, drawn, strict=True):
            boxes, size = change.move_boxes(boxes, numbers, size), change.size_after(size)
        return boxes

    def pairs(self, generator: torch.Generator, num_samples: int, size: Sequence[int]) -> Pairs | None:
        """How the samples of a whole batch are mixed; None if they are not."""
        if not self.mixings:
            return None
        return draw_pairs(self.mixings, BatchRandom(generator, num_samples, slice(None)), size)

    def sentences(self, size: Sequence[int]) -> list[str]:
        """The changes to samples of this size, in whole pixels, as phrases; including those that round to zero.

        >>> Augmentation((Flip("random"), Shift(0.05), Cutout(0.3))).sentences((28, 28))
        ['mirrored left to right (half of them)', 'shifted by up to 1 x 1', 'blanked in a box of 8 x 8']
        >>> Augmentation((Shift(0.05),)).sentences((9,))
        ['not shifted (0.05 of 9 rounds to 0)']
        >>> Augmentation((Cutout(0.3),)).sentences((1, 40))
        ['not blanked (0.3 of 1 x 40 rounds to 0 along one axis of 1)']
        """
        phrases = [phrase for each in self.transforms for phrase in each.sentences(size)]
        return phrases + [each.sentence() for each in self.mixings]

    def words(self, size: Sequence[int]) -> list[str]:
        """The changes to samples of this size, a word or two for each; without those that round to zero.

        >>> Augmentation((Flip("random"), Shift(0.05), Cutout(0.3))).words((28, 28))
        ['mirrored', 'shifted', 'partly covered']
        >>> Augmentation((Shift(0.05),)).words((9,))
        []
        """
        first = [phrase.split()[0] for phrase in self.sentences(size)]
        return [_WORDS.get(word, word) for word in first if word != "not"]


class _BatchValues:
    """A batch while it is augmented: its values as stored, normalized, or from 0 to 1, converted as late as possible."""

    def __init__(self, batch: Tensor, scale: Callable[[Tensor], Tensor] | None, unit: UnitScale) -> None:
        self.batch, self.scale, self.unit = batch, scale, unit
        self.is_unit = False

    def set(self, batch: Tensor) -> None:
        """The values after a change, of the same kind."""
        self.batch = batch

    def of(self, wanted: Values) -> Tensor:
        """The values as a transform works on them."""
        is_stored = self.scale is not None
        if is_stored and wanted is Values.STORED and self.batch.dtype in _PADDABLE:
            return self.batch
        if is_stored and wanted is Values.STORED_FLOAT and self.batch.dtype in _EXACT_IN_FLOAT32:
            return self.batch
        if self.scale is not None:
            self.batch, self.scale = self.scale(self.batch), None
        if self.is_unit and wanted is Values.INPUTS:
            self.batch, self.is_unit = self.unit.inputs(self.batch), False
        elif not self.is_unit and wanted is Values.UNIT:
            self.batch, self.is_unit = self.unit.unit_values(self.batch), True
        return self.batch
