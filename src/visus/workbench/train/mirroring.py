"""Decides whether a training mirrors its samples, from the samples, if the recipe does not set it; and warns of motions that change their class."""

from __future__ import annotations

import dataclasses

from visus.caller import option
from visus.data.motions import MOTIONS, MotionTest, motion_test
from visus.data.opened import Data
from visus.training.distribution import Group
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder

FILE = "mirrors.json"


def ask_mirroring(recipe: Recipe, data: Data, group: Group) -> MotionTest | None:
    """The test of mirroring by nearest neighbors; all processes use the result of the first.

    None if the recipe decides, or if samples cannot be mirrored.
    """
    if recipe.flip is not None or data.preprocessing.shuffle_seed is not None:
        return None
    own = motion_test(data.split("train"), recipe.seed, data.groups_of("train"))
    if own is None:
        return None
    num_samples, plain, moved, chance, low, high, num_copied = group.broadcast(dataclasses.astuple(own)[:-1])
    return MotionTest(int(num_samples), plain, moved, chance, low, high, int(num_copied))


def motion_warnings(recipe: Recipe, data: Data) -> tuple[str, ...]:
    """A warning for each flip or turn that the recipe asks for and that changes the class of the training samples, by nearest neighbors."""
    if data.preprocessing.shuffle_seed is not None:
        return ()
    asked = {name: getattr(recipe, name) for name in MOTIONS}
    tests = {
        name: motion_test(data.split("train"), recipe.seed, data.groups_of("train"), motion=MOTIONS[name])
        for name, value in asked.items()
        if value not in (None, "none")
    }
    return tuple(
        f"{option(name, asked[name])}: {found.sentence(data.noun)}. The network learns these samples with their old class."
        for name, found in tests.items()
        if found is not None and found.keeps_class is False
    )


def write_mirroring(folder: RunFolder, found: MotionTest, noun: str) -> None:
    """Save the reason for the decision in the run."""
    facts = {name: None if value != value else value for name, value in dataclasses.asdict(found).items()}  # JSON has no NaN
    folder.write_json(FILE, facts | {"kept": found.kept, "sentence": found.sentence(noun)})


def read_mirroring(folder: RunFolder) -> str:
    """The saved reason of a run; empty if no test was made."""
    return str(folder.read_json(FILE)["sentence"]) if (folder.path / FILE).is_file() else ""
