"""``visus.cross_validate``: trains a network for each fold, and predicts every sample by the network that did not learn from it."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.folds import APART, fold_data
from visus.data.opened import Data
from visus.errors import UsageError
from visus.files import remove_parts
from visus.progress import Monitor, OnEvent, Progress, ShouldStop
from visus.training.distribution import join_group
from visus.training.recipe import CHANGEABLE_ON_RESUME, Recipe
from visus.training.runs import RunFolder, new_folder
from visus.units import write_duration
from visus.workbench.folds.ending import write_result
from visus.workbench.folds.plan import FoldsPlan, reopen, without_former_warnings
from visus.workbench.folds.result import CrossValidation
from visus.workbench.modules import Network
from visus.workbench.running_command import running, running_command
from visus.workbench.runs.fold_folders import is_trained
from visus.workbench.runs.saved import apart_from_runs
from visus.workbench.screen import showing
from visus.workbench.train.earlier_runs import EarlierRun
from visus.workbench.train.events import FoldBegun, FoldsBegun
from visus.workbench.train.planning import open_for, scaled_for
from visus.workbench.train.starts import choice_of
from visus.workbench.train.stop_on_signal import stopping_on_signal
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.train.training import resume, train

_SHARE_OF_ENDING: Final = 0.03
"""Of a time limit, for the out-of-fold predictions and the report."""


def cross_validate(
    data: Data | str | Path | None = None,
    network: Network | None = None,
    recipe: Recipe | None = None,
    *,
    folds: int = 5,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    output: str | Path = "runs",
    name: str | None = None,
    track: str | Sequence[str] = (),
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    progress: bool | None = None,
) -> CrossValidation:
    """Train a network for each fold of the data, and predict every sample by the network that did not learn from it.

    The samples of the training and validation set are divided into folds: stratified, with groups and copies together, by the seed of the split. For
    each fold, a network is trained on the other folds as by ``visus.train``, with normalization and validation set of its own; the validation set is
    cut from these other folds, and chooses the weights that are kept. A test set that the data defines, or that ``test`` of ``visus.open_data``
    asked for, is in no fold: the mean of the networks is scored on it once, at the end. Without one, every sample is in a fold. Sets of classes and
    numbers have folds too, with mean average precision or mean absolute error instead of accuracy.

    The samples are decoded once. After a kill at any time, ``visus.resume(folder)`` goes on: finished folds are kept, and on the same processor the
    result is the same as without the kill.

    Args:
        data, network, recipe, pretrained, weights, output, name: as for ``visus.train``. Each fold trains a copy of a module. A time limit is
            divided among the folds.
        folds: number of folds, at least 2.
        track: refused, since a tracker follows one training.
        on_event: receives every event of the trainings, and ``FoldsBegun`` and ``FoldBegun`` of ``visus.workbench.train.events``.
        should_stop: called after each step; True ends the fold with a checkpoint, and returns the cross-validation without result.
        progress: False shows nothing on stderr.

    Returns:
        The out-of-fold scores, mean and spread over the folds, and the networks.

    Raises:
        DataError, DesignError, RecipeError: an argument is invalid.
        UsageError: there are more folds than samples that can be apart, or an argument contradicts another.
        TrainingError: a training diverged.
        StorageError: the disk is full.
        KeyboardInterrupt: Ctrl-C was pressed; the message says how to resume.

    >>> import visus
    >>> recipe = visus.Recipe(epochs=1, batch_size=16)
    >>> network = "conv(4, 3), relu, globalpool, linear(classes)"
    >>> found = visus.cross_validate(data, network, recipe, folds=2, output=folder, progress=False)
    >>> found.scores.num_samples, len(found.folds)
    (60, 2)
    """
    began = running_command().start()
    if recipe is not None and not isinstance(recipe, Recipe):
        raise UsageError(
            f"the recipe must be a visus.Recipe, and not a {type(recipe).__name__}. Write visus.Recipe(epochs=3)."
        )
    refuse_tracking(track)
    _refuse_several_processes()
    with (
        stopping_on_signal(Monitor(on_event, should_stop)) as stoppable,
        showing(stoppable, progress, is_first=True, has_next=False) as monitor,
    ):
        opened = without_former_warnings(_opened(data, network, pretrained, weights, monitor))
        plan = FoldsPlan.of(opened, folds, apart_from_runs(network), recipe or Recipe(), pretrained, weights)
        numbers = plan.assign(opened)
        for number in range(1, folds + 1):
            fold_data(opened, numbers, number, plan.seed)  # refused before anything is trained
        folder = new_folder(Path(output), name or opened.short_name)
        plan.write(folder, opened, numbers)
        hint = () if (numbers == APART).any() else (f"{option('test', 0.2)} keeps a test set apart.",)
        monitor.emit(FoldsBegun(folder, folds, (*plan.notes(opened, numbers), *hint)))
        return _Work(folder, plan, opened, numbers, TimeLimit.of(recipe, began), monitor).carry_out()


def refuse_tracking(track: str | Sequence[str]) -> None:
    """Refuse trackers.

    Raises:
        UsageError: there are some.
    """
    if track:
        raise UsageError(
            f"a tracker follows one training, and folds are several. Leave {option('track')} or {option('folds')} out; results.csv of each fold has its epochs."
        )


def resume_folds(
    folder: Path,
    place: str | Path | None,
    *,
    network: Network | None,
    changes: dict[str, Any],
    cache_dir: str | Path | None,
    num_workers: int,
    monitor: Monitor,
    progress: bool | None,
) -> CrossValidation:
    """Go on with a cross-validation: finished folds are kept, and the interrupted one resumes.

    Args:
        folder: its folder.
        place: new path of its data, if it was moved.
        network: the module, where the network is a Python object.
        changes, cache_dir, num_workers, progress: as for ``visus.resume``.
        monitor: monitor of the caller.

    Raises:
        RunError, DataError, UsageError: as ``visus.resume``.
    """
    began = running_command().start()
    _refuse_several_processes()
    if fixed := [name for name in changes if name not in CHANGEABLE_ON_RESUME]:
        raise UsageError(
            f"{', '.join(fixed)} cannot change in a resumed cross-validation, whose folds have one recipe. Leave it out, or start a new one.",
            where=str(folder),
        )
    plan = FoldsPlan.read(folder, network)
    plan = dataclasses.replace(plan, recipe=plan.recipe.replace(**changes))
    with (
        stopping_on_signal(monitor, folder) as stoppable,
        showing(stoppable, progress, is_first=True, has_next=False) as followed,
    ):
        remove_parts(folder)
        followed.emit(FoldsBegun(folder, plan.num_folds, (), num_done=_num_done(folder, plan)))
        opened, numbers = reopen(folder, place, cache_dir, num_workers, followed)
        limit = TimeLimit.of(plan.recipe, began)
        if (
            "time_limit_s" not in changes and plan.recipe.time_limit_s is not None
        ):  # the shares of the finished folds are spent
            left = plan.num_folds - _num_done(folder, plan)
            limit = dataclasses.replace(limit, seconds=limit.seconds * left / plan.num_folds)
        return _Work(folder, plan, opened, numbers, limit, followed, place, changes).carry_out()


@dataclass(frozen=True, eq=False)
class _Work:
    """The folds of a cross-validation, one after the other.

    Args:
        folder: the folder of the cross-validation.
        plan: what was asked.
        data: the opened data.
        folds: the fold of each sample of ``data.table``.
        limit: the time limit of the whole.
        monitor: receives the events, and can stop.
        place: new path of the data, for runs that are resumed.
        changes: changed settings of a resumed one.
    """

    folder: Path
    plan: FoldsPlan
    data: Data
    folds: NDArray[np.int64]
    limit: TimeLimit
    monitor: Monitor
    place: str | Path | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def carry_out(self) -> CrossValidation:
        """Train what is not trained, and write the result; without it where the training was stopped."""
        left = [number for number in range(1, self.plan.num_folds + 1) if not is_trained(self._fold(number))]
        for place, number in enumerate(left):
            share_s = self._share_s(len(left) - place)
            said = "" if share_s is None else f"{write_duration(share_s)} of the time limit"
            self.monitor.emit(FoldBegun(number, self.plan.num_folds, said))
            with running(self.plan.command):  # the time limit of a fold counts from its own start
                folder = self._train(number, share_s)
            if folder.is_unfinished:
                return CrossValidation(self.folder)
        self.monitor.emit(Progress("predicting the samples of each fold", 0))
        result = CrossValidation(self.folder)
        write_result(result, self.data, self.folds, self.plan, self.monitor)
        return result

    def _fold(self, number: int) -> Path:
        return self.folder / f"fold{number}"

    def _share_s(self, num_left: int) -> float | None:
        """Seconds for the next of the folds that are left; None without a time limit."""
        if math.isinf(self.limit.seconds):
            return None
        left = self.limit.seconds * (1 - _SHARE_OF_ENDING) - (time.perf_counter() - self.limit.began)
        return max(1.0, left / num_left)

    def _train(self, number: int, share_s: float | None) -> RunFolder:
        """Train a fold, or go on with it."""
        folder, plan = self._fold(number), self.plan
        network = plan.fold_network(self._fold(1))
        follow: dict[str, Any] = {**self.monitor.keywords, "progress": False}
        if (folder / "checkpoint" / "last.safetensors").is_file():
            changes = self.changes | ({"time_limit_s": share_s} if "time_limit_s" in self.changes else {})
            own = network if plan.module is not None else None
            cache = self.data.store.folder.parent
            resume(folder, self.place, network=own, changes=changes, cache_dir=cache, **follow)  # type: ignore[arg-type]
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a run before its first step
            train(
                fold_data(self.data, self.folds, number, plan.seed),
                network,
                plan.recipe.replace(time_limit_s=share_s),
                pretrained=plan.pretrained,
                weights=plan.weights,
                output=self.folder,
                name=folder.name,
                **follow,
            )
        return RunFolder.open(folder)


def _opened(
    data: Data | str | Path | None,
    network: Network | None,
    pretrained: bool | None,
    weights: str | Path | None,
    monitor: Monitor,
) -> Data:
    """The opened data, read for pretrained weights as ``visus.train`` reads it."""
    choice = choice_of(pretrained, network=network, file=weights)
    if not isinstance(data, Data):
        monitor.emit(Progress("opening the data", 0))
    found = open_for(data, choice, EarlierRun.of(weights), monitor)
    return scaled_for(found, choice, is_pretrained=bool(pretrained))


def _num_done(folder: Path, plan: FoldsPlan) -> int:
    return sum(is_trained(folder / f"fold{number}") for number in range(1, plan.num_folds + 1))


def _refuse_several_processes() -> None:
    """Refuse torchrun.

    Raises:
        UsageError: there are several processes.
    """
    if not join_group().is_alone:
        raise UsageError(
            "folds are trained by one process, one after the other. Start it without torchrun, or train without folds."
        )
