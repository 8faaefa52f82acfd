"""Runs a fully specified training: the steps, then the scores, the report and the other files of the run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import torch

from visus.data.opened import Data
from visus.errors import ProcessLostError
from visus.evaluation.tasks.registry import task_of
from visus.networks.machine import Machine
from visus.progress import SILENT, Progress, ShouldStop
from visus.training.distribution import Group
from visus.training.events import Event, Finished, StartScored, StepDone, Stopped
from visus.training.frozen import freeze
from visus.training.inbox import Inbox
from visus.training.loop import TrainingLoop
from visus.training.recipe import CHANGEABLE_ON_RESUME, FIELDS
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.units import split_name
from visus.workbench.modules import BuiltNetwork
from visus.workbench.report.measures import FinishedRun
from visus.workbench.report.reports import fit_calibration
from visus.workbench.runs.run import Run, load
from visus.workbench.runs.scoring import answers_with_plain, with_plain_accuracy
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.ending import PAGE_S, ending_s, remember_ending
from visus.workbench.train.events import Prepared, Scored
from visus.workbench.train.mirroring import read_mirroring
from visus.workbench.train.own_functions import own_loss, own_values, selecting_metric
from visus.workbench.train.preparing import class_weights, prepare, whiten
from visus.workbench.train.processes import share_of
from visus.workbench.train.run_files import write_end
from visus.workbench.train.starts import Start
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.trained_modules import remember_training


@dataclass(frozen=True)
class TrainingJob:
    """A fully specified training.

    Args:
        folder: the run folder.
        data: the opened data.
        network: the network with its initial weights.
        recipe: the recipe.
        machine: device and precision.
        start: the source of the initial weights; None for random ones.
        group: the processes that train it.
        should_stop: stops the training after a step; None never does.
        inbox: answers to the events.
        is_resumed: whether to resume from a checkpoint.
        limit: time limit of the command; None for the earlier one.
        times: how long the parts of the command take.
    """

    folder: RunFolder
    data: Data
    network: BuiltNetwork
    recipe: ResolvedRecipe
    machine: Machine
    start: Start | None
    group: Group
    should_stop: ShouldStop | None = None
    inbox: Inbox = field(default_factory=Inbox)
    is_resumed: bool = False
    limit: TimeLimit | None = None
    times: CommandTimes = field(default_factory=CommandTimes)

    def events(self) -> Generator[object, None, Run]:
        """Train and score, and yield what happens; returns the run. With several processes, all train, and the first one scores and writes."""
        yield self._prepared(self._limit_warnings())
        training, last = yield from self._train()
        self.times.mark("training")
        own = self.network.module if self.network.design is None else None
        if isinstance(last, Stopped) or not self.group.is_first:
            self.group.barrier()  # until the first has written everything
        if isinstance(last, Stopped):
            return load(self.folder.path, network=own, device=self.recipe.device, which="last")
        run = load(self.folder.path, network=own, device=self.recipe.device)
        if not self.group.is_first:
            return run
        assert isinstance(last, Finished), "a training ends with one of two events"
        return (yield from self._score(run, training))

    def _ending_s(self) -> float:
        """Expected seconds for scoring and report; 0 where no limit needs them."""
        is_limited = self.limit is not None and not math.isinf(self.limit.seconds)
        return ending_s(self.data, self.network) if is_limited else 0.0

    def _budget_s(self) -> float | None:
        """Seconds that are left for the steps; None for no limit of this command."""
        return None if self.limit is None else self.limit.left(self._ending_s())

    def _limit_warnings(self) -> list[str]:
        """A warning where no time is left for the steps."""
        return [] if self.limit is None else self.limit.warnings(self._ending_s())

    def _prepared(self, warnings: list[str]) -> Prepared:
        return Prepared(
            self.data,
            self.network,
            self.recipe,
            self.machine,
            self.folder.path,
            (*self.data.warnings, *self.network.warnings, *warnings),
            self.start,
            read_mirroring(self.folder),
        )

    def _train(self) -> Generator[object, None, tuple[TrainingLoop, Event | None]]:
        """Take the steps; returns the training, and its last event."""
        last: Event | None = None
        with OwnRandomNumbers(self.recipe.seed) as random_numbers:
            training = self.make_training()
            with contextlib.closing(training.events(resume=self.is_resumed)) as events:
                for event in events:
                    if self.network.design is None and isinstance(event, (StepDone, StartScored)):
                        remember_training(self.network.module, self.folder.path)
                    with random_numbers.outside():
                        yield event
                    if self.start is not None and isinstance(event, StartScored):
                        facts = self.start.to_json() | {"val_accuracy": event.val_score, "metric": event.metric}
                        self.folder.write_json("start.json", facts)
                    last = event
        return training, last

    def make_training(self) -> TrainingLoop:
        """The training loop, with the module on its device and in the state of the first step."""
        data, recipe, machine = self.data, self.recipe, self.machine
        module, batches = prepare(self.network.module, data, recipe, machine)
        batches = dataclasses.replace(batches, shard=share_of(self.group))
        is_new = not self.is_resumed and self.start is None
        computed = whiten(module, data, recipe.seed, machine) if is_new else ()
        if computed:
            self.folder.write_json("whitening.json", [each.to_json() for each in computed])
        freeze(module, recipe.frozen)
        identity = {
            "design": self.network.text.strip(),
            "dataset": data.fingerprint,
            "recipe": _fixed_settings(recipe),
        } | own_values(recipe, data)
        return TrainingLoop(
            module,
            batches,
            data.split("val"),
            recipe,
            machine,
            self.folder,
            identity,
            class_weights(data).to(machine.device) if recipe.class_weights == "balanced" else None,
            self.should_stop or (lambda: False),
            has_trained_head=self.start is not None and self.start.can_predict,
            group=self.group,
            budget_s=self._budget_s(),
            inbox=self.inbox,
            task=task_of(data),
            metric=selecting_metric(recipe, data.task),
            own_loss=own_loss(recipe),
        )

    def _score(self, run: Run, training: TrainingLoop) -> Generator[object, None, Run]:
        """Calibrate and score the run, and write its report; returns the run."""
        data, started = self.data, time.perf_counter()
        with self.group.all_local_threads():
            yield Progress(f"scoring the {split_name(data.scored_split)} set", 0)
            answers, plain = answers_with_plain(run, data, data.scored_split, SILENT)
            scoring_s = time.perf_counter() - started
            fit_calibration(run, data, answers)
            scores = with_plain_accuracy(run.score(data, data.scored_split, answers), plain)
            self.times.mark("scoring")
            num_epochs, batch_size = len(training.position.history), self.recipe.batch_size
            until = math.inf if self.limit is None else self.limit.end - PAGE_S
            finished = FinishedRun(run, data, self.network, answers, num_epochs, batch_size, scoring_s, until)
            yield Progress("writing the report", 0)
            inside, missing = write_end(self.folder, data, self.network, self.recipe, scores, training, finished, self.times)
            if not finished.is_late:
                remember_ending(data, self.network, time.perf_counter() - started)
        self.group.barrier()
        self.times.mark("report")
        self.times.write(self.folder)
        labels = inside.mistakes.label_counts() if inside.mistakes is not None else ()
        yield Scored(run, scores, missing, labels, self.times)
        return run


class OwnRandomNumbers:
    """A context with random numbers of its own, from ``seed`` on: whatever is drawn within ``outside`` does not change them.

    >>> with OwnRandomNumbers(0) as own:
    ...     with own.outside():
    ...         _ = torch.rand(3)
    ...     first = torch.rand(1)
    >>> bool(first == torch.rand(1, generator=torch.Generator().manual_seed(0)))
    True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> OwnRandomNumbers:
        self._outer = torch.get_rng_state()
        torch.manual_seed(self._seed)
        return self

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self._outer)

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """A block with the random numbers of before."""
        own = torch.get_rng_state()
        torch.set_rng_state(self._outer)
        try:
            yield
        finally:
            self._outer = torch.get_rng_state()
            torch.set_rng_state(own)


class RemovedUnlessBegun:
    """A context that removes the folder of a new run if an error occurs, or its events are left, before the first step.

    Args:
        folder: folder of the new run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._has_steps = False

    def watched(self, events: Generator[object, None, Run]) -> Generator[object, None, Run]:
        """The events, in which the first step, and the end of a training without one, is noticed."""
        with contextlib.closing(events):
            while True:
                try:
                    event = next(events)
                except StopIteration as end:
                    run: Run = end.value
                    return run
                self._has_steps = self._has_steps or isinstance(event, (StepDone, Finished))
                yield event

    def __enter__(self) -> RemovedUnlessBegun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: object) -> None:
        is_lost = isinstance(error, ProcessLostError)  # those are started again, in this folder
        if isinstance(error, (Exception, GeneratorExit)) and not is_lost and not self._has_steps:
            self._folder.remove()


def _fixed_settings(recipe: ResolvedRecipe) -> str:
    """The settings that decide the weights, as text."""
    return ", ".join(f"{name}={getattr(recipe, name)}" for name in FIELDS if name not in CHANGEABLE_ON_RESUME)
