"""Whether a training mirrors its samples: asked of the samples themselves, where the recipe leaves it open."""

from __future__ import annotations

import dataclasses

from visus.data.mirrors import MirrorTest, mirror_test
from visus.data.opened import Data
from visus.training.distribution import Group
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder

FILE = "mirrors.json"


def ask_mirroring(recipe: Recipe, data: Data, group: Group) -> MirrorTest | None:
    """What the nearest neighbors say about mirroring; the first process's answer holds for all.

    None where the recipe decides it, and where samples have no mirror image.
    """
    if recipe.flip is not None or data.preprocessing.shuffle_seed is not None:
        return None
    own = mirror_test(data.split("train"), recipe.seed, data.groups_of("train"))
    if own is None:
        return None
    num_samples, plain, mirrored, chance, low, high, num_copied = group.numbers(dataclasses.astuple(own))
    return MirrorTest(int(num_samples), plain, mirrored, chance, low, high, int(num_copied))


def write_mirroring(folder: RunFolder, found: MirrorTest, noun: str) -> None:
    """Keep what decided it in the run."""
    facts = {name: None if value != value else value for name, value in dataclasses.asdict(found).items()}  # JSON has no NaN
    folder.write_json(FILE, facts | {"kept": found.kept, "sentence": found.sentence(noun)})


def read_mirroring(folder: RunFolder) -> str:
    """The sentence that a run keeps; empty where nothing was asked."""
    return str(folder.read_json(FILE)["sentence"]) if (folder.path / FILE).is_file() else ""
