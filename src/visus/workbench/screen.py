"""Shows the events of a training on stderr: lines, a live bar in a terminal, one updated line in a notebook."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from visus.data.opened import Data
from visus.evaluation.calibration import TemperatureFit
from visus.networks.fast import why_no_kernels
from visus.progress import Monitor, Progress
from visus.training.events import (
    CheckpointWritten,
    EpochDone,
    Finished,
    HeadFitted,
    Pricing,
    ReconstructionEpochDone,
    Started,
    StartScored,
    StepDone,
    Stopped,
)
from visus.units import write_bytes, write_count, write_duration, write_number_of, write_shape, write_share
from visus.workbench.progress_display import notebook_line, speaks
from visus.workbench.runs.reuse import reuse_sentence
from visus.workbench.train.events import DataOpened, Prepared, Scored

MAX_WORDS = 60  # a longer design is not repeated on the screen
_STAGE_S = 3.0  # between two lines of a stage such as decoding
_CELL_S = 0.2  # between two changes of a line in a notebook


@contextlib.contextmanager
def showing(monitor: Monitor, progress: bool | None, *, is_first: bool) -> Iterator[Monitor]:
    """A context that shows a training; its monitor shows each event and passes it on.

    Args:
        monitor: monitor of the caller.
        progress: False shows nothing; None shows it unless ``speaks`` is False.
        is_first: whether this is the process that prints.
    """
    is_shown = is_first and (speaks.get() if progress is None else progress)
    token = speaks.set(False)
    try:
        with Screen(not is_shown) as screen:

            def show_and_pass_on(event: object) -> None:
                screen.show(event)
                monitor.emit(event)

            yield Monitor(show_and_pass_on, monitor.should_stop)
    finally:
        speaks.reset(token)


def scaling(data: Data) -> str:
    """A short description of how values are normalized."""
    plan = data.preprocessing
    if plan.normalize == "fixed":
        return "normalized like the training data of its weights"
    by = "minimum and maximum" if plan.normalize == "min-max" else "mean and standard deviation"
    return f"normalized by {by} of the training set"


def _epochs(event: Finished) -> str:
    """How many epochs were trained; an epoch that was cut counts as a part."""
    if event.epochs_trained == event.num_epochs:
        return write_number_of(event.num_epochs, "epoch")
    return f"{event.epochs_trained:.{1 if event.epochs_trained >= 0.1 else 3}f} epochs"


class Screen:
    """Shows a training on stderr: a live line in a terminal and in a notebook, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, force_jupyter=False)
        self.is_live = self.console.is_terminal and not quiet
        self._cell = None if quiet else notebook_line()
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._num_epochs = 0
        self._said_at = time.monotonic()
        self._shown_at = 0.0
        self._warned: set[str] = set()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_bar()

    def say(self, text: str, style: str = "") -> None:
        """Print one line."""
        self.console.print(text, style=style or None, markup=False)

    def show(self, event: object) -> None:
        """Show one event of a long operation."""
        match event:
            case Pricing():
                self.say(f"measuring once how long {event.network} takes on this machine")
            case Progress():
                self._show_progress(event)
            case DataOpened():
                self._show_opened(event)
            case Prepared():
                self._show_prepared(event)
            case Scored():
                self._show_scored(event)
                self._warn(event.warnings)
            case ReconstructionEpochDone():
                self._show_reconstruction(event)
            case HeadFitted():
                self._show_head(event)
            case Started():
                self._show_started(event)
            case StartScored():
                self._show_start_scored(event)
            case StepDone():
                self._show_step(event)
            case EpochDone():
                self._show_epoch(event)
            case CheckpointWritten():
                pass
            case Stopped():
                self._close_bar()
                self.say(f"stopped in epoch {event.epoch + 1} after step {event.step}; everything up to here is safe.")
                self.say(f"next: visus train --resume {shlex.quote(str(event.path.parent.parent))}")
            case Finished():
                self._show_finished(event)

    def _show_head(self, event: HeadFitted) -> None:
        fitted = (
            "its own is kept, since it is at least as good as a fitted one"
            if event.keeps_own
            else (f"fitted on {write_number_of(event.num_views, 'view')} of each training sample")
        )
        self.say(
            f"head: {fitted}; its accuracy on {event.num_samples:,} samples that it was not fitted on is {write_share(event.accuracy)} "
            f"(after {write_duration(event.seconds)})"
        )

    def _show_opened(self, event: DataOpened) -> None:
        data = event.data
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
        self._warn(event.warnings)
        for sentence in event.start.sentences() if event.start else ():
            self.say(f"weights: {sentence}")

    def _show_prepared(self, event: Prepared) -> None:
        data, recipe = event.data, event.recipe
        made = event.network
        asked = made.asked if len(made.asked) <= MAX_WORDS and "\n" not in made.asked else "a design of its own"
        self.say(f"network: {asked}, {write_count(made.num_parameters)} parameters; {event.machine.reason}")
        if made.reason:
            self.say(f"width: {made.reason}")
        if recipe.kernels == "auto" and (event.machine.device.type, event.machine.precision) == ("cpu", "bfloat16"):
            missing = why_no_kernels()
            self.say(
                f"kernels: PyTorch's own{f', since {missing}' if missing else ' and those of visus, the faster for each shape'}"
            )
        if recipe.epochs:
            all_of_them = " (as many as there are)" if recipe.batch_size == len(data.split("train")) else ""
            self.say(
                f"recipe: {write_number_of(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}{all_of_them}, {recipe.optimizer} at {recipe.learning_rate:g}, seed {recipe.seed}; "
                f"training {data.noun}s are {', '.join(event.changes) or 'not changed'}"
            )
        if event.start is not None:
            self.say(f"fine-tuning: {'none: ' if not recipe.epochs else ''}{recipe.reasons.get('epochs', 'as asked')}")
        if event.mirroring:
            self.say(f"mirroring: {event.mirroring}")
        if event.num_left_out:
            self.say(
                f"note: {write_number_of(event.num_left_out, data.noun)} of the training split would not fill a batch: "
                "each epoch skips that many, different ones each time"
            )
        self._warn(event.warnings)
        self.say(f"run: {event.folder}")

    def _warn(self, warnings: Sequence[str]) -> None:
        """Print each warning once."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.say(f"warning: {warning}", "yellow")

    def _show_progress(self, event: Progress) -> None:
        """A stage that takes longer than a few seconds, in a line now and then."""
        now = time.monotonic()
        if not event.is_done and event.done and now - self._said_at > _STAGE_S:
            self._said_at = now
            self.say(f"{event.stage}: {event.done:,}{'' if event.total is None else f' of {event.total:,}'}")

    def _show_reconstruction(self, event: ReconstructionEpochDone) -> None:
        share = "" if event.explained is None else write_share(event.explained)
        explained = f", explains {share} of the validation samples' variance" if share else ""
        self.say(f"epoch {event.epoch}/{event.num_epochs}: squared error {event.loss:.3g}{explained}")

    def _show_start_scored(self, event: StartScored) -> None:
        if event.val_loss == event.val_loss:
            self.say(
                f"before the first step: val_loss {event.val_loss:.4f}  val_accuracy {write_share(event.val_accuracy)}; "
                f"kept unless an epoch is significantly better, and on Ctrl-C"
            )

    def _show_started(self, event: Started) -> None:
        self._num_epochs = event.num_epochs
        if event.is_resumed and event.epoch < event.num_epochs:
            self.say(f"resumed in epoch {event.epoch + 1} after step {event.step}")
        if event.num_epochs and event.seconds_left == event.seconds_left:
            fewer = event.epochs_expected < event.num_epochs - 0.05
            fits = (
                f"; about {event.epochs_expected:.1f} of {write_number_of(event.num_epochs, 'epoch')} fit into the time limit"
                if fewer
                else ""
            )
            self.say(f"time: about {write_duration(event.seconds_left)} for the training{fits}")
        if self.is_live:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[facts]}"),
            )
            self._bar = Bar(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(f"epoch {event.epoch + 1}/{event.num_epochs}", total=1.0, facts="")
            self._bar.start()

    def _show_step(self, event: StepDone) -> None:
        facts = (
            f"loss {event.loss:.3f}  accuracy {write_share(event.accuracy)}  {event.samples_per_second:,.0f}/s  "
            f"{write_duration(event.seconds_left)} left"
        )
        now = time.monotonic()
        if self._cell is not None and now - self._shown_at > _CELL_S:
            self._shown_at = now
            self._cell(f"epoch {event.epoch + 1}/{self._num_epochs}  {event.progress:.0%}  {facts}")
        if self._bar is not None:
            self._bar.update(
                self._task, completed=event.progress, description=f"epoch {event.epoch + 1}/{self._num_epochs}", facts=facts
            )

    def _show_epoch(self, event: EpochDone) -> None:
        row = event.row
        validated = (
            f"  val_loss {row['val_loss']:.4f}  val_accuracy {write_share(row['val_accuracy'])}"
            if row["val_loss"] == row["val_loss"]
            else ""
        )
        self.say(
            f"epoch {event.epoch + 1:>3}/{self._num_epochs}  loss {row['train_loss']:.4f}  accuracy {write_share(row['train_accuracy'])}"
            f"{validated}  {row['img_size']:.0f} px  {row['samples_per_second']:,.0f}/s  {write_duration(row['seconds'])}"
            f"{f', {write_duration(event.seconds_left)} left' if event.seconds_left > 0 else ''}{'  kept' if event.is_best else ''}"
        )

    def _show_finished(self, event: Finished) -> None:
        self._close_bar()
        if not event.num_epochs:
            return
        self.say(
            f"trained for {write_duration(event.seconds)}, {_epochs(event)} ({event.reason}); "
            f"kept: {f'the weights of epoch {event.best_epoch}' if event.best_epoch else 'the initial weights'}"
        )

    def _show_scored(self, event: Scored) -> None:
        scores = event.scores
        held_out = {"test": "held-out test", "val": "validation (there is no test split, and this one chose the weights)"}
        self.say(
            f"accuracy on the {scores.num_samples:,} {held_out.get(scores.split, scores.split)} samples: {write_share(scores.accuracy)} "
            f"(95 % interval {write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)}; "
            f"always guessing {scores.baseline_class}: {write_share(scores.baseline)})",
            "bold",
        )
        if reuse := reuse_sentence(event.run.folder, event.run.preprocessing.noun):
            self.say(f"note: {reuse}")
        self.say(f"calibration: {_calibration(event.run.calibration, event.run.preprocessing.noun)}")
        folder = event.run.folder
        self.say(f"report: {folder / 'report.html'}")
        quoted = shlex.quote(str(folder))
        self.say(f"next: visus predict {quoted} FILES...   or: visus evaluate {quoted}")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _calibration(fit: TemperatureFit, noun: str) -> str:
    """What the temperature does, in one line."""
    if not fit.is_used or fit.error_before is None or fit.error_after is None:
        return f"none: {fit.reason}"
    back = f" and the label smoothing of {fit.smoothing:g} inverted" if fit.smoothing else ""
    return (
        f"temperature {fit.temperature:.3g}{back}, fitted on {write_number_of(fit.num_samples, f'validation {noun}')}: expected calibration error there "
        f"{100 * fit.error_after:.1f} points instead of {100 * fit.error_before:.1f} (cross-validated)"
    )
