"""Trains another network with the data, split, recipe and seed of a run; all experiments use it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from visus.data.opened import Data
from visus.design import Design
from visus.errors import CanceledError, UsageError
from visus.networks.roles import accepts
from visus.progress import Monitor
from visus.training.recipe import Recipe
from visus.training.resolve import for_new_network
from visus.workbench.modules import Network, make_network
from visus.workbench.runs.own_data import open_own_data
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import SavedRun
from visus.workbench.runs.shift_remedies import own_design
from visus.workbench.train.training import train

SHUFFLE_SEED: Final = 0
SHUFFLE_NOTE: Final = (
    f"shuffled: the positions of all samples are in one random order (seed {SHUFFLE_SEED}), after all other changes. The order means "
    "nothing to a perceptron: if its accuracy changes, that is chance, from other random initial weights."
)


@dataclass(frozen=True)
class Retraining:
    """A run whose data, split, recipe and seed train other networks.

    Args:
        run: the run.
        output: parent folder of the new runs; default: that of the run.
        cache_dir: another folder for the decoded samples.
        monitor: receives the progress, and can cancel.
    """

    run: SavedRun
    output: Path | None
    cache_dir: str | Path | None
    monitor: Monitor

    def train_design(self, network: Design, word: str, *, shuffle_seed: int | None = None) -> Run:
        """Train another design, in a run folder named after the run and ``word``.

        Two settings of the recipe are dropped if they do not apply: progressive resizing for a network that accepts one size
        only, and test-time augmentation for shuffled samples.

        Args:
            shuffle_seed: fixes the order of the positions of all samples (``Preprocessing``); None for samples as they are.
        """
        preprocessing = dataclasses.replace(self.run.preprocessing, shuffle_seed=shuffle_seed)
        data = open_own_data(self.run.folder, preprocessing, cache_dir=self.cache_dir, **self.monitor.keywords)
        recipe = usable_recipe(for_new_network(self.run.recipe), network, data)
        return self.train(data, network, recipe, f"{self.run.name}-{word}")

    def train(self, data: Data, network: Network, recipe: Recipe, name: str) -> Run:
        """Train a network.

        Raises:
            CanceledError: the training was stopped; its run can be resumed.
        """
        output = self.output or self.run.folder.parent
        trained = train(data, network, recipe, output=output, name=name, **self.monitor.keywords)
        if not (trained.folder / "scores.json").is_file():
            raise CanceledError(f"canceled while training {trained.name}, which can be resumed.", where=str(trained.folder))
        return trained


def usable_recipe(recipe: Recipe, network: Design, data: Data) -> Recipe:
    """A run's recipe for another network: without progressive resizing if the network accepts one size only, and without
    test-time augmentation for shuffled samples."""
    is_shuffled = data.preprocessing.shuffle_seed is not None
    if is_shuffled:
        recipe = recipe.replace(tta="none")
    sides = [side for side in recipe.sides if side < 1]
    if not sides:
        return recipe
    channels, *size = data.input_shape
    module = make_network(network, data.input_shape, len(data.classes), seed=recipe.seed).module
    shapes = [(channels, *(max(1, round(side * length)) for length in size)) for side in sides]
    if is_shuffled or not all(accepts(module, shape) for shape in shapes):
        recipe = recipe.replace(progressive_resize="1")
    return recipe


def design_of_run(run: SavedRun, purpose: str) -> Design:
    """The design of a run, which an experiment changes or trains again.

    Raises:
        UsageError: the run was trained on shuffled samples, or its network is not a design.
    """
    if run.preprocessing.shuffle_seed is not None:
        raise UsageError(
            f"this run was trained on shuffled {run.preprocessing.noun}s itself. Give the run that it was made from.",
            where=str(run.folder),
        )
    design = own_design(run)
    if design is None:
        raise UsageError(f"{purpose}, and this run's network is a Python object or callable.", where=str(run.folder))
    return design
