"""A contact sheet of augmented training samples: what a training would see, with the settings that it would use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from visus.data.augment import SETTINGS, Augmentation, BatchRandom, Pairs
from visus.data.batches import Part, random_stream, unit_scale
from visus.data.contact_sheet import Captioned, label_caption, spread
from visus.data.opened import Data
from visus.data.picture_table import draw_table
from visus.data.tasks import strata
from visus.errors import UsageError
from visus.files import write_file
from visus.progress import Monitor
from visus.training.distribution import ALONE
from visus.training.facts import NetworkFacts, StartFacts
from visus.training.recipe import Recipe
from visus.training.resolve import resolve
from visus.training.resolved_recipe import ResolvedRecipe
from visus.workbench.train.mirroring import ask_mirroring, motion_warnings
from visus.workbench.train.preparing import augmentation, data_facts, training_part

SHEET: Final = "augmentation.png"
NUM_SAMPLES: Final = 6
NUM_VERSIONS: Final = 6


@dataclass(frozen=True)
class AugmentedSamples:
    """A contact sheet of augmented training samples.

    Args:
        file: the PNG file: a row for each sample, with the original first.
        settings: the settings of the augmentation that are on, by name.
        changes: what they do to the samples, as phrases.
        warnings: a sentence for each flip or turn that changes the class of the training samples.
    """

    file: Path
    settings: dict[str, Any]
    changes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The changes and the file, as a sentence."""
        return f"augmentation: {', '.join(self.changes) or 'none'}; {NUM_VERSIONS} versions of each sample in {self.file}"

    def to_json(self) -> dict[str, Any]:
        """The settings, the changes and the file as plain data."""
        return {
            "file": str(self.file),
            "settings": self.settings,
            "changes": list(self.changes),
            "warnings": list(self.warnings),
        }


def draw_augmented(
    data: Data, recipe: Recipe, file: Path, *, is_pretrained: bool = False, monitor: Monitor
) -> AugmentedSamples:
    """Augment some training samples as a training would, and write them as a PNG file.

    Args:
        data: opened data.
        recipe: settings that are given; the others are those that a training of ``compact`` or of pretrained weights would use.
        file: the PNG file; a file of this name is replaced.
        is_pretrained: whether the training would start from pretrained weights.
        monitor: receives the progress, and can cancel.

    Raises:
        RecipeError: a setting does not suit the data.
        UsageError: the file is not named as a PNG file.
    """
    if file.suffix.lower() != ".png":
        raise UsageError("the contact sheet is a PNG file. Name it with .png at the end.", where=str(file))
    mirrors = ask_mirroring(recipe, data, ALONE)
    start = StartFacts() if is_pretrained else None
    resolved = resolve(recipe, data_facts(data, mirrors), NetworkFacts(), start)
    changes = augmentation(resolved, data)
    part = training_part(data, resolved, monitor)
    places = spread(strata(part.labels), NUM_SAMPLES)
    columns = [_version(data, part, places, changes, resolved.seed, number) for number in range(NUM_VERSIONS)]
    scaled = data.preprocessing.scaled(data.split("train").rows(places))
    originals = [
        Captioned(values, label, part.names[place])
        for place, label, values in zip(places, _labels(data, part, places), _shown(data, scaled), strict=True)
    ]
    settings = settings_on(resolved)
    sentences = tuple(changes.sentences(data.input_shape[1:]))
    heading = [
        f"{data.name}: {len(places)} training {data.noun}s, the original first",
        f"settings: {', '.join(f'{name}={value}' for name, value in settings.items()) or 'none'}",
        *([f"{data.noun}s are {', '.join(sentences)}"] if sentences else []),
    ]
    rows = [[original, *(column[row] for column in columns)] for row, original in enumerate(originals)]
    write_file(file, draw_table(heading, rows))
    return AugmentedSamples(file, settings, sentences, motion_warnings(recipe, data))


def settings_on(recipe: ResolvedRecipe) -> dict[str, Any]:
    """The settings of the augmentation that are on."""
    values = {name: getattr(recipe, name) for name in SETTINGS}
    return {name: value for name, value in values.items() if value not in (0, "", "none")}


def _version(
    data: Data, part: Part, places: np.ndarray[Any, np.dtype[np.int64]], changes: Augmentation, seed: int, number: int
) -> list[Captioned]:
    """One augmented version of each sample."""
    plan, num_samples = data.preprocessing, len(places)
    mirrored = torch.tensor([(place + number) % 2 == 0 for place in range(num_samples)]) if changes.alternates else None
    stream = BatchRandom(random_stream(seed, "augmentation", number), num_samples, slice(None))
    inputs = changes(part.rows(places), stream, scale=plan.scale_values, mirrored=mirrored, unit=unit_scale(plan))
    pairs = changes.pairs(random_stream(seed, "mixing", number), num_samples, plan.size)
    if pairs is not None:
        inputs = pairs.mix(inputs, inputs[pairs.other])
    captions = _captions(_labels(data, part, places), pairs)
    return [
        Captioned(values, caption, part.names[place])
        for place, caption, values in zip(places, captions, _shown(data, plan.shuffled(inputs)), strict=True)
    ]


def _labels(data: Data, part: Part, places: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    """The label of each sample as text."""
    return [label_caption(label, data.task, data.classes) for label in part.labels[places]]


def _captions(names: Sequence[str], pairs: Pairs | None) -> list[str]:
    """The label of each sample; of one that is mixed with a sample of another label, both labels with their shares."""
    if pairs is None:
        return list(names)
    mixed = zip(names, pairs.other.tolist(), pairs.share.tolist(), strict=True)
    return [
        name if names[other] == name else f"{share:.2f} {name}, {1 - share:.2f} {names[other]}"
        for name, other, share in mixed
    ]


def _shown(data: Data, inputs: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """Normalized samples as values from 0 (black) to 1 (white)."""
    return list(unit_scale(data.preprocessing).unit_values(inputs).clamp(0, 1).numpy())
