"""One trial of a search: a training with some settings, which is validated and neither scored nor reported."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from visus.errors import RecipeError, TrainingError
from visus.networks.own_code import copied
from visus.progress import Monitor, Progress
from visus.training.distribution import ALONE
from visus.training.events import EpochDone, Event, Started, StartScored, Stopped
from visus.training.facts import StartFacts
from visus.training.fine_tuning import plan
from visus.training.recipe import Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.workbench.train.job import TrainingJob
from visus.workbench.train.planning import NewTraining
from visus.workbench.train.preparing import resolved
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.tune.trial import FAILED, FINISHED, PRUNED, Trial, upward

IsBehind = Callable[[int, float], bool]


def recipe_of(planned: NewTraining, given: Recipe, settings: dict[str, Any]) -> ResolvedRecipe:
    """The recipe of a trial, decided as ``train`` decides it.

    Args:
        planned: the prepared training.
        given: the recipe as given.
        settings: the settings of the trial.

    Raises:
        RecipeError: the settings contradict each other.
    """
    data, start = planned.data, planned.start
    own = given.replace(**settings)
    facts: StartFacts | None = None
    if start is not None:
        facts = plan(own, start.head, len(data.split("val")), len(data.split("train")))
    return resolved(own, data, planned.network.module, planned.mirrors, facts, planned.network.design)


def training_s(planned: NewTraining, recipe: ResolvedRecipe, folder: Path) -> float:
    """Forecast of the duration of a training, in seconds, from timed steps; NaN if they failed."""
    job = _job(planned, recipe, folder, copied(planned.network.module), lambda: False)
    with torch.random.fork_rng(devices=[]), contextlib.closing(_events(job)) as events:
        for event in events:
            if isinstance(event, Started):
                return event.seconds_left
    return math.nan


def run_trial(
    planned: NewTraining,
    given: Recipe,
    number: int,
    settings: dict[str, Any],
    folder: Path,
    is_behind: IsBehind,
    end: float,
    monitor: Monitor,
) -> Trial | None:
    """Train with the settings of a trial, as ``train`` would, on a copy of the network.

    Args:
        planned: the prepared training; it does not change.
        given: the recipe as given.
        number: number of the trial.
        settings: its settings.
        folder: folder of the search, which keeps the choices of kernels.
        is_behind: called after each epoch with percentage and ``upward`` of the metric; True ends the trial.
        end: value of ``time.perf_counter`` at which the trial ends.
        monitor: receives a ``Progress`` for each epoch, and can cancel.

    Returns:
        The trial; None if it was canceled.
    """
    began = time.perf_counter()
    num_validation = len(planned.data.split("val"))
    kept = last = (math.nan, math.nan)
    course: list[tuple[int, float]] = []
    state, reason, percent, metric = FINISHED, "", 0, planned.recipe.select

    def is_over() -> bool:
        return time.perf_counter() >= end or (monitor.should_stop is not None and monitor.should_stop())

    try:
        recipe = recipe_of(planned, given, settings)
        job = _job(planned, recipe, folder, copied(planned.network.module), is_over)
        monitor.emit(Progress(f"trial {number}", 0, recipe.epochs))
        with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
            torch.manual_seed(recipe.seed)
            for event in stack.enter_context(contextlib.closing(_events(job))):
                if isinstance(event, StartScored):
                    kept = last = event.val_score, event.fair_loss
                elif isinstance(event, EpochDone):
                    last = event.row["val_score"], event.fair_loss
                    kept = last if event.is_best else kept
                    percent = round(100 * (event.epoch + 1) / recipe.epochs)
                    course.append((percent, upward(metric, last[0])))
                    monitor.emit(Progress(f"trial {number}", event.epoch + 1, recipe.epochs))
                    if is_behind(*course[-1]) and percent < 100:
                        state, reason = PRUNED, f"behind the median after {percent} %"
                        break
                elif isinstance(event, Stopped):
                    if time.perf_counter() < end:
                        return None
                    state, reason = PRUNED, "no time left"
    except (RecipeError, TrainingError) as error:
        state, reason = FAILED, f"{error.message.partition('. ')[0].rstrip('.')}."
    value, loss = kept if state == FINISHED else last
    seconds = time.perf_counter() - began
    return Trial(number, settings, state, value, loss, len(course), seconds, num_validation, reason, tuple(course), metric)


def _events(job: TrainingJob) -> Generator[Event, None, None]:
    """The events of a training; closing it ends the training."""
    yield from job.make_training().events()


def _job(
    planned: NewTraining, recipe: ResolvedRecipe, folder: Path, module: torch.nn.Module, is_over: Callable[[], bool]
) -> TrainingJob:
    """The training of a trial, which writes neither weights nor checkpoints."""
    return TrainingJob(
        RunFolder(folder, {}, is_ours=False),
        planned.data,
        dataclasses.replace(planned.network, module=module),
        recipe,
        planned.machine,
        planned.start,
        ALONE,
        is_over,
        limit=TimeLimit(math.inf, time.perf_counter()),
    )
