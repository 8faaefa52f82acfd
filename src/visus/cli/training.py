"""``visus train``: options -> workbench, events -> a progress bar or plain lines.

This file knows how a training is told on a screen. It must not know how it is carried out.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from visus.cli.show import scaling
from visus.cli.stop_on_signal import StopOnSignal
from visus.cli.stopping import CODE, told_when_stopped
from visus.cli.streams import print_json
from visus.data.opened import Data, Rule, open_data
from visus.data.preprocessing import Scale
from visus.data.store import MAX_UNREADABLE
from visus.data.survey import Suit
from visus.errors import RecipeError, UsageError
from visus.networks.fast import why_no_kernels
from visus.networks.machine import keep_freed_memory
from visus.training.distribution import Group, join, one_voice
from visus.training.events import (
    CheckpointWritten,
    Deepened,
    EpochDone,
    Event,
    FeaturesDone,
    Finished,
    HeadFitted,
    Pricing,
    Started,
    StartScored,
    StepDone,
    Stopped,
)
from visus.training.recipe import Recipe
from visus.units import write_bytes, write_count, write_duration, write_number_of, write_shape, write_share
from visus.workbench.pretrained import choice_of
from visus.workbench.tasks import Drawn
from visus.workbench.training import Prepared, Scored, resume, train

OPTIONS = {"learning_rate": "--lr", "time_limit_s": "--time-limit"}  # settings whose option has another name
MOST_WORDS = 60  # a longer design is not repeated on the screen


@dataclass(frozen=True)
class DataOptions:
    """What the options say about the data; the arguments of ``open_data``."""

    path: Path | None
    img_size: tuple[int, ...] | int | None
    channels: int | None
    rule: str | None
    scale: str | None
    labels: str | None
    split: Path | None
    max_unreadable: float | None
    cache_dir: Path | None
    num_workers: int

    def open(self, seed: int, screen: Screen, suit: Suit | None = None) -> Data:
        """Open the data, telling how decoding goes; ``suit`` as for ``open_data``."""
        rule: Rule = self.rule or "squash"  # type: ignore[assignment]  # open_data refuses other words
        scale: Scale = self.scale or "mean-deviation"  # type: ignore[assignment]
        return open_data(
            self.path,
            img_size=self.img_size,
            channels=self.channels,
            rule=rule,
            scale=scale,
            labels=self.labels,
            split=self.split,
            seed=seed,
            max_unreadable=MAX_UNREADABLE if self.max_unreadable is None else self.max_unreadable,
            cache_dir=self.cache_dir,
            num_workers=self.num_workers,
            suit=suit,
            on_progress=screen.decoding,
        )


@dataclass(frozen=True)
class Begun:
    """What the options say about the weights that a training begins with; the arguments of ``train``."""

    pretrained: bool | None = None
    weights: Path | None = None


def train_and_tell(
    options: DataOptions,
    model: str | None,
    begun: Begun,
    given: dict[str, Any],
    config: Path | None,
    resumed: Path | None,
    output: Path | None,
    name: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train or go on; print the run folder, or with ``as_json`` its scores.

    Raises:
        UsageError: options that do not go together.
        typer.Exit: with code 130 after Ctrl-C.
    """
    if name is not None and not name.strip():
        raise UsageError("--name is empty. Give a word, or leave it out for the name of the data.")
    keep_freed_memory()
    stop = StopOnSignal(resumed)
    # What a person's own module prints is talk: stdout is for the run folder alone.
    group = join()
    told = told_when_stopped(stop.sentence if group.is_first else str)
    screen = Screen(quiet or not group.is_first)
    with told, one_voice(group), contextlib.redirect_stdout(sys.stderr), screen, stop:

        def tell(event: Event | Prepared | Scored) -> None:
            stop.follow(event)
            screen.tell(event)

        if resumed is not None:
            _refuse_with_resume(options, model, begun, config, name, output)
            run = resume(
                resumed,
                options.path,
                changes=given,
                cache_dir=options.cache_dir,
                num_workers=options.num_workers,
                on_event=tell,
                should_stop=stop,
            )
        else:
            recipe = _recipe(config, given)
            choice = choice_of(
                begun.pretrained, network=model, file=begun.weights, channels=options.channels, scale=options.scale
            )
            with group.first_here():
                data = options.open(recipe.seed, screen, choice)
            if choice is not None and choice.note:
                screen.say(f"note: {choice.note}")
            run = train(
                data,
                model,
                recipe,
                pretrained=begun.pretrained,
                weights=begun.weights,
                output=output or Path("runs"),
                name=name,
                on_event=tell,
                should_stop=stop,
                command=shlex.join([*_launched(group), "visus", *sys.argv[1:]]),
            )
    if not group.is_first:
        return
    if stop.is_asked:
        raise typer.Exit(CODE)
    if as_json:
        print_json({"run": str(run.folder)} | run.scores.to_json())
    else:
        print(run.folder)


def _epochs(event: Finished) -> str:
    """How many epochs were trained; one that was cut is told as a part."""
    if event.epochs_trained == event.num_epochs:
        return write_number_of(event.num_epochs, "epoch")
    return f"{event.epochs_trained:.{1 if event.epochs_trained >= 0.1 else 3}f} epochs"


def _launched(group: Group) -> list[str]:
    """What was typed before the name of the command, where there are several processes."""
    return [] if group.is_alone else ["torchrun", "--nproc-per-node", str(group.local_size), "-m"]


def _recipe(config: Path | None, given: dict[str, Any]) -> Recipe:
    """The recipe of a file and of the options, which win; a mistake in an option is told by the option's name."""
    recipe = Recipe.read(config) if config else Recipe()
    try:
        return recipe.replace(**given)
    except RecipeError as error:
        for setting in given:
            option = OPTIONS.get(setting, f"--{setting.replace('_', '-')}")
            error.message = error.message.replace(f"{setting} must", f"{option} must")
        raise


def _refuse_with_resume(
    options: DataOptions, model: str | None, begun: Begun, config: Path | None, name: str | None, output: Path | None
) -> None:
    """No setting is ever silently ignored: what a run already has cannot be given again."""
    words = {
        "--model": model,
        "--pretrained": begun.pretrained,
        "--weights": begun.weights,
        "--config": config,
        "--name": name,
        "--img-size": options.img_size,
        "--channels": options.channels,
        "--labels": options.labels,
        "--split": options.split,
        "--rule": options.rule,
        "--scale": options.scale,
        "--max-unreadable": options.max_unreadable,
        "--output": output,
    }
    given = [word for word, value in words.items() if value is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot be given with --resume: the run has its own. Leave it out, or start a new run."
        )


class Screen:
    """Tells a training on stderr: a progress bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.is_live = self.console.is_terminal and not quiet
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._num_epochs = 0
        self._said_at = time.monotonic()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_bar()

    def say(self, text: str, style: str = "") -> None:
        """One line of talk."""
        self.console.print(text, style=style or None, markup=False)

    def decoding(self, done: int, total: int) -> None:
        """Items decoded so far; told every few seconds."""
        now = time.monotonic()
        if done < total and now - self._said_at > 3:
            self._said_at = now
            self.say(f"decoding: {done:,} of {total:,}")

    def drawn(self, event: Drawn) -> None:
        """An epoch of a training that gives the items back."""
        done = event.epoch
        explained = (
            "" if done.explained is None else f", explains {write_share(done.explained)} of the validation items' variance"
        )
        self.say(f"epoch {done.epoch}/{event.num_epochs}: squared error {done.loss:.3g}{explained}")

    def tell(self, event: Event | Prepared | Scored) -> None:
        """One event of the training."""
        match event:
            case Pricing():
                self.say(f"measuring, once: what {event.network} costs on this machine")
            case Prepared():
                self._tell_prepared(event)
            case FeaturesDone():
                self._tell_features(event)
            case HeadFitted():
                self.say(
                    f"head: fitted on the features of {write_number_of(event.num_views, 'view')} of each training item, "
                    f"decay {event.decay:g}; {write_duration(event.seconds)}"
                )
            case Deepened():
                answered = f"the head alone answers {write_share(event.val_accuracy)} of the validation items right"
                self.say(
                    f"fine-tuning: {answered}, so all layers are trained, for {write_number_of(event.num_epochs, 'epoch')}"
                )
            case Started():
                self._tell_started(event)
            case StartScored():
                self._tell_start_scored(event)
            case StepDone():
                self._tell_step(event)
            case EpochDone():
                self._tell_epoch(event)
            case CheckpointWritten():
                pass
            case Stopped():
                self._close_bar()
                self.say(f"stopped in epoch {event.epoch + 1} after step {event.step}; everything up to here is safe.")
                self.say(f"next: visus train --resume {shlex.quote(str(event.path.parent.parent))}")
            case Finished():
                self._tell_finished(event)
            case Scored():
                self._tell_scored(event)

    def _tell_prepared(self, event: Prepared) -> None:
        data, recipe = event.data, event.recipe
        parts = ", ".join(f"{len(data.split(name)):,} {name}" for name in ("train", "val", "test") if len(data.split(name)))
        self.say(f"data: {data.name}: {write_number_of(len(data.classes), 'class', 'classes')}; {data.noun}s: {parts}")
        pixels = data.store.pixels
        self.say(
            f"input: {write_shape(data.input_shape)}, {scaling(data)}; "
            f"decoded {'before' if data.store.was_there else 'now'} into {write_bytes(pixels.nbytes)} at {data.store.folder}"
        )
        if data.preprocessing.shuffle_seed is not None:
            self.say(
                f"shuffled: the positions of every {data.noun} are in one fixed random order (seed {data.preprocessing.shuffle_seed}), "
                "after all other changes"
            )
        for note in data.samples.notes:
            self.say(f"note: {note}")
        for sentence in data.ledger.sentences():
            self.say(f"ledger: {sentence}")
        for warning in event.warnings:
            self.say(f"warning: {warning}", "yellow")
        for sentence in event.beginning.sentences() if event.beginning else ():
            self.say(f"weights: {sentence}")
        made = event.network
        asked = made.asked if len(made.asked) <= MOST_WORDS and "\n" not in made.asked else "a design of its own"
        self.say(f"network: {asked}, {write_count(made.num_parameters)} parameters; {event.machine.reason}")
        if made.reason:
            self.say(f"width: {made.reason}")
        if recipe.convolutions == "auto" and (event.machine.device.type, event.machine.precision) == ("cpu", "bfloat16"):
            missing = why_no_kernels()
            self.say(
                f"kernels: PyTorch's own{f', since {missing}' if missing else ' and those of visus, the faster for each shape'}"
            )
        self.say(
            f"recipe: {write_number_of(recipe.epochs or 0, 'epoch')}, batches of {recipe.batch_size}, {recipe.optimizer} at {recipe.learning_rate:g}, seed {recipe.seed}; "
            f"training {data.noun}s are {', '.join(event.changes) or 'not changed'}"
        )
        if event.mirroring:
            self.say(f"mirroring: {event.mirroring}")
        if event.num_left_out:
            self.say(
                f"note: {write_number_of(event.num_left_out, data.noun)} of the training split would not fill a batch: "
                "so many sit out each epoch, others each time"
            )
        self.say(f"run: {event.folder}")

    def _tell_features(self, event: FeaturesDone) -> None:
        """Items looked at so far; told every few seconds."""
        now = time.monotonic()
        if event.done < event.total and now - self._said_at > 3:
            self._said_at = now
            self.say(f"features: {event.done:,} of {event.total:,}")

    def _tell_start_scored(self, event: StartScored) -> None:
        if event.val_loss == event.val_loss:
            self.say(f"before the first step: val_loss {event.val_loss:.4f}  val_accuracy {write_share(event.val_accuracy)}")

    def _tell_started(self, event: Started) -> None:
        self._num_epochs = event.num_epochs
        if event.is_resumed:
            self.say(f"going on in epoch {event.epoch + 1} after step {event.step}")
        if self.is_live:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[facts]}"),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(f"epoch {event.epoch + 1}/{event.num_epochs}", total=1.0, facts="")
            self._bar.start()

    def _tell_step(self, event: StepDone) -> None:
        if self._bar is not None:
            facts = (
                f"loss {event.loss:.3f}  accuracy {write_share(event.accuracy)}  {event.items_per_second:,.0f}/s  "
                f"{write_duration(event.seconds_left)} left"
            )
            self._bar.update(
                self._task, completed=event.progress, description=f"epoch {event.epoch + 1}/{self._num_epochs}", facts=facts
            )

    def _tell_epoch(self, event: EpochDone) -> None:
        row = event.row
        validated = (
            f"  val_loss {row['val_loss']:.4f}  val_accuracy {write_share(row['val_accuracy'])}"
            if row["val_loss"] == row["val_loss"]
            else ""
        )
        self.say(
            f"epoch {event.epoch + 1:>3}/{self._num_epochs}  loss {row['train_loss']:.4f}  accuracy {write_share(row['train_accuracy'])}"
            f"{validated}  {row['pictures_per_second']:,.0f}/s  {write_duration(row['seconds'])}{'  best' if event.is_best else ''}"
        )

    def _tell_finished(self, event: Finished) -> None:
        self._close_bar()
        self.say(
            f"trained for {write_duration(event.seconds)}, {_epochs(event)} ({event.reason}); "
            f"kept: {f'the weights of epoch {event.best_epoch}' if event.best_epoch else 'the weights that it began with'}"
        )

    def _tell_scored(self, event: Scored) -> None:
        scores = event.scores
        held_out = {"test": "held-out test", "val": "validation (there is no test split, and this one chose the weights)"}
        self.say(
            f"accuracy on the {scores.num_items:,} {held_out.get(scores.split, scores.split)} items: {write_share(scores.accuracy)} "
            f"(95 % interval {write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)}; "
            f"always guessing {scores.baseline_class}: {write_share(scores.baseline)})",
            "bold",
        )
        folder = event.run.folder
        self.say(f"report: {folder / 'report.html'}")
        quoted = shlex.quote(str(folder))
        self.say(f"next: visus predict {quoted} FILES...   or: visus evaluate {quoted}")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
