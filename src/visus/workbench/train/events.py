"""The events of ``train`` and ``resume`` before and after the training itself: data opened, run prepared, network scored."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from visus.data.opened import Data
from visus.evaluation.tasks.all_scores import AnyScores
from visus.examine.mistake_report import LabelCount
from visus.networks.machine import Machine
from visus.training.recipe import Recipe
from visus.training.resolve import PROGRESSIVE_SIZES
from visus.training.resolved_recipe import ResolvedRecipe
from visus.units import write_shape
from visus.workbench.modules import BuiltNetwork
from visus.workbench.runs.run import Run
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.preparing import augmentation, num_skipped, takes_smaller
from visus.workbench.train.starts import Start


@dataclass(frozen=True)
class DataOpened:
    """The data is opened and the network is built. ``resumed_at``: where a resumed training goes on; empty for one without a step."""

    data: Data
    network: BuiltNetwork
    warnings: tuple[str, ...]
    start: Start | None = None
    note: str = ""
    resumed_at: str = ""


@dataclass(frozen=True)
class _Plan:
    """What was decided for a training."""

    data: Data
    network: BuiltNetwork
    recipe: ResolvedRecipe
    machine: Machine

    @property
    def short_changes(self) -> list[str]:
        """The augmentation of the training samples, a word for each change."""
        return augmentation(self.recipe, self.data).words(self.data.input_shape[1:])

    @property
    def changes(self) -> list[str]:
        """The augmentation of the training samples, in whole pixels."""
        changes = augmentation(self.recipe, self.data).sentences(self.data.input_shape[1:])
        sides = self.recipe.sides
        if min(sides) < 1:
            sizes = [write_shape(max(1, round(side * length)) for length in self.data.input_shape[1:]) for side in sides]
            shares = [(size, len(list(equal)) / len(sizes)) for size, equal in itertools.groupby(sizes)]
            (first, share), *later = shares
            sizes_in_words = [
                f"{first} for {share:.0%} of the training",
                *(f"{size} for {share:.0%}" for size, share in later),
            ]
            changes.append(
                f"seen at {', then '.join(sizes_in_words)}".replace("%", " %") if later else f"seen at {first} throughout"
            )
        elif self.recipe.optimizer == "muon" and not takes_smaller(
            self.network.module, self.data, Recipe(progressive_resize=PROGRESSIVE_SIZES)
        ):
            changes.append("at full size throughout (the network accepts no other size)")
        return changes

    @property
    def num_left_out(self) -> int:
        """Number of training samples that each epoch skips because they do not fill a batch; different ones each time."""
        return num_skipped(len(self.data.split("train")), self.recipe)


@dataclass(frozen=True)
class Planned(_Plan):
    """Everything is decided; there is no run folder yet."""

    start: Start | None = None
    mirroring: str = ""
    note: str = ""


@dataclass(frozen=True)
class FirstLoss:
    """The loss and accuracy of a new network on its first batch, before any step."""

    loss: float
    accuracy: float
    num_samples: int


@dataclass(frozen=True)
class Prepared(_Plan):
    """The run folder exists, and the training begins."""

    folder: Path
    warnings: tuple[str, ...]
    start: Start | None = None
    mirroring: str = ""


@dataclass(frozen=True)
class Tracked:
    """A tracker wrote its last line: ``place`` says where the run is. ``problem`` says why it stopped, if it did; then there is no place."""

    tracker: str
    place: str
    problem: str = ""


@dataclass(frozen=True)
class FoldsBegun:
    """The folder of a cross-validation exists, or it is resumed. ``num_done``: folds that are trained already."""

    folder: Path
    num_folds: int
    notes: tuple[str, ...] = ()
    num_done: int = 0


@dataclass(frozen=True)
class FoldBegun:
    """The training of a fold begins. ``share``: its part of the time limit, in words; empty without one."""

    number: int
    num_folds: int
    share: str = ""


@dataclass(frozen=True)
class FoldsScored:
    """All folds are trained and scored; the last event of a cross-validation, with its result in words and the notes on its intervals."""

    folder: Path
    result: str
    spread: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """The trained network was scored; the last event of a training. ``labels``: how many labels may be wrong."""

    run: Run
    scores: AnyScores
    warnings: tuple[str, ...] = ()
    labels: tuple[LabelCount, ...] = ()
    times: CommandTimes | None = None
