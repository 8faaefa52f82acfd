"""Decides whether a training mirrors its samples, from the samples, if the recipe does not set it."""

from __future__ import annotations

import dataclasses

from visus.data.mirrors import MirrorTest, mirror_test
from visus.data.opened import Data
from visus.training.distribution import Group
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder

FILE = "mirrors.json"


def ask_mirroring(recipe: Recipe, data: Data, group: Group) -> MirrorTest | None:
    """The test of mirroring by nearest neighbors; all processes use the result of the first.

    None if the recipe decides, or if samples cannot be mirrored.
    """
    if recipe.flip is not None or data.preprocessing.shuffle_seed is not None:
        return None
    own = mirror_test(data.split("train"), recipe.seed, data.groups_of("train"))
    if own is None:
        return None
    num_samples, plain, mirrored, chance, low, high, num_copied = group.broadcast(dataclasses.astuple(own))
    return MirrorTest(int(num_samples), plain, mirrored, chance, low, high, int(num_copied))


def write_mirroring(folder: RunFolder, found: MirrorTest, noun: str) -> None:
    """Save the reason for the decision in the run."""
    facts = {name: None if value != value else value for name, value in dataclasses.asdict(found).items()}  # JSON has no NaN
    folder.write_json(FILE, facts | {"kept": found.kept, "sentence": found.sentence(noun)})


def read_mirroring(folder: RunFolder) -> str:
    """The saved reason of a run; empty if no test was made."""
    return str(folder.read_json(FILE)["sentence"]) if (folder.path / FILE).is_file() else ""
