"""A training that is resumed: from its last checkpoint, or from before its first step."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError
from visus.networks.fast.compiler import allow_compiling
from visus.networks.libraries.registry import library_network
from visus.networks.machine import Machine, choose, suited
from visus.networks.pretrained import backbone_of
from visus.progress import Monitor
from visus.training.arithmetic import uses_kernels
from visus.training.checkpoints import Position, read_position
from visus.training.distribution import Group, join_group
from visus.training.inbox import Inbox
from visus.training.recipe import CHANGEABLE_ON_RESUME
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.run_lock import training_lock
from visus.training.runs import RunFolder
from visus.units import write_number_of
from visus.workbench.modules import BuiltNetwork, make_network
from visus.workbench.running_command import running_command
from visus.workbench.runs.own_command import own_command
from visus.workbench.runs.own_data import open_own_data, remember_place
from visus.workbench.runs.run import Run
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.events import DataOpened, Planned
from visus.workbench.train.head_probe import refit
from visus.workbench.train.job import TrainingJob
from visus.workbench.train.kernels_in_time import compile_in_time, compile_kernels
from visus.workbench.train.left_events import end_events
from visus.workbench.train.mirroring import read_mirroring
from visus.workbench.train.network_advice import RESUMED_KINDS, advised
from visus.workbench.train.planning import tried, with_warning
from visus.workbench.train.preparing import (
    augmentation,
    training_part,
)
from visus.workbench.train.processes import refuse_too_many
from visus.workbench.train.run_files import metadata, renew_environment
from visus.workbench.train.starts import (
    Start,
    begin,
    known_weights,
)
from visus.workbench.train.time_limit import TimeLimit

FURTHER_EPOCHS: Final = 5
"""Epochs of the command that trains a fitted head further."""


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
            made = with_warning(made, compile_in_time(limit, group, monitor, times, is_used=is_used, can_skip=False))
        elif is_used and not is_over:
            compile_kernels(group, monitor, can_skip=False)
        if start is not None and not has_steps:
            _start_again(start, opened, made, network, recipe, machine)
        refuse_too_many(group, recipe, machine)
        augmentation(recipe, opened)
        with group.local_first():
            training_part(opened, recipe, monitor)
        made = made if is_over else tried(made, opened, recipe, machine)
        made = with_warning(with_warning(made, warning), renew_environment(run, recipe, machine))
        run = dataclasses.replace(run, metadata=metadata(opened, made))
        if is_over:
            made = with_warning(made, _finished(run, preprocessing, recipe))
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
