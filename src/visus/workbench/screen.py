"""Shows the events of a training on stderr: short facts, a row for each epoch, and a live line in a terminal and in a notebook."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from visus.caller import is_command, recipe_setting, resume_call
from visus.data.tasks import num_targets
from visus.evaluation.cluster_bootstrap import group_notes
from visus.progress import Monitor, Progress
from visus.training.events import (
    Answered,
    CheckpointWritten,
    EpochDone,
    Finished,
    HeadFitted,
    Pricing,
    ReconstructionEpochDone,
    Started,
    StartScored,
    StepDivided,
    StepDone,
    Stopped,
)
from visus.units import rank_words, write_duration, write_share
from visus.workbench import training_lines as lines
from visus.workbench.epoch_table import EpochTable
from visus.workbench.live_line import LiveLine, counted, error_console, is_shown, speaks
from visus.workbench.runs.reuse import reuse_sentence
from visus.workbench.train.events import (
    DataOpened,
    FirstLoss,
    FoldBegun,
    FoldsBegun,
    FoldsScored,
    Planned,
    Prepared,
    Scored,
    Tracked,
)
from visus.workbench.tune.events import SearchStarted, TrialDone
from visus.workbench.wrapping import LABEL_WIDTH, labeled, wrapped

_BAR_WIDTH = 20


@contextlib.contextmanager
def showing(monitor: Monitor, progress: bool | None, *, is_first: bool, has_next: bool = True) -> Iterator[Monitor]:
    """A context that shows a training; its monitor shows each event and passes it on.

    Args:
        monitor: monitor of the caller.
        progress: False shows nothing; None shows it unless ``speaks`` is False.
        is_first: whether this is the process that prints.
        has_next: whether a training ends with what to type next.
    """
    is_quiet = not (is_first and is_shown(progress))
    token = speaks.set(False)
    try:
        with Screen(is_quiet, has_next=has_next) as screen:

            def show_and_pass_on(event: object) -> object:
                screen.show(event)
                return monitor.emit(event)

            yield Monitor(show_and_pass_on, monitor.should_stop)
    finally:
        speaks.reset(token)


class Screen:
    """Shows trainings on stderr; a context.

    Args:
        quiet: shows nothing.
        verbose: also prints details.
        has_next: whether a training ends with what to type next.
    """

    def __init__(self, quiet: bool, *, verbose: bool = False, has_next: bool = True) -> None:
        self.console = error_console(quiet=quiet)
        self.is_verbose, self._has_next = verbose, has_next
        self._live = LiveLine(self.console, indent=LABEL_WIDTH)
        self._plan: Planned | None = None
        self._table: EpochTable | None = None
        self._num_epochs = 0
        self._is_over = False  # the training that is resumed had ended
        self._first_loss = ""
        self._warned: set[str] = set()
        self._folds: Path | None = None  # the cross-validation that is shown

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._live.close(is_done=kind is None)

    def say(self, label: str, text: str, style: str = "") -> None:
        """Print a fact with its label, in aligned lines."""
        self._print(labeled(label, text, self._live.width, is_command=label == "next" and is_command()), style)

    def _print(self, text: str, style: str = "") -> None:
        self._live.print(text, style=style or None)

    def _say_all(self, facts: Sequence[lines.Fact]) -> None:
        for label, text in facts:
            self.say(label, text)

    def show(self, event: object) -> None:
        """Show one event of a long operation."""
        match event:
            case Pricing():
                self.say("measuring", f"once how long {event.network} takes on this machine")
            case Progress():
                self._show_progress(event)
            case DataOpened():
                self._show_opened(event)
            case Planned():
                self._show_planned(event)
            case FirstLoss():
                self._show_first_loss(event)
            case Prepared():
                self._show_prepared(event)
            case HeadFitted():
                self.say(*lines.head_fact(event))
            case Started():
                self._show_started(event)
            case StartScored():
                self._show_start_scored(event)
            case StepDone():
                self._show_step(event)
            case EpochDone():
                self._show_epoch(event)
            case ReconstructionEpochDone():
                self._show_reconstruction(event)
            case CheckpointWritten():
                pass
            case Answered():
                self.say("answer", f"{event.answer.sentence}, {event.place}")
            case Stopped():
                self.say("stopped", f"in epoch {event.epoch + 1} after step {event.step}; everything up to here is safe")
                self.say("next", resume_call(self._folds or event.path.parent.parent))
            case Finished():
                if event.num_epochs:
                    self.say(*lines.finished_fact(event, was_over=self._is_over))
            case StepDivided():
                self._warn([event.sentence])
            case Tracked():
                if event.problem:
                    self._warn([event.problem])
                else:
                    self.say("tracked", f"{event.tracker}: {event.place}")
            case Scored():
                self._show_scored(event)
            case FoldsBegun():
                self._show_folds(event)
            case FoldBegun():
                self.say("fold", f"{event.number} of {event.num_folds}{f': {event.share}' if event.share else ''}", "bold")
            case FoldsScored():
                self._show_folds_scored(event)
            case SearchStarted() | TrialDone():
                self._say_all(event.facts())

    def _show_opened(self, event: DataOpened) -> None:
        self._plan, self._table, self._first_loss = None, None, ""
        data = event.data
        self.say(*lines.data_fact(data))
        if self.is_verbose:
            self._say_all(lines.input_facts(event))
        for note in (*data.samples.notes, *([event.note] if event.note else [])):
            self.say("note", note)
        self._say_all(
            [("ledger", each) for each in data.ledger.sentences()] if self.is_verbose else lines.ledger_facts(data)
        )
        self._warn(event.warnings)
        self._say_all(lines.weights_facts(event))
        self._live.stage("preparing the training")

    def _show_planned(self, event: Planned) -> None:
        self._plan = event
        self.say(*lines.network_fact(event))
        if event.network.reason:
            self.say("width", event.network.reason)
        if event.note:
            self.say("note", event.note)
        if self.is_verbose:
            self._say_all(lines.plan_details(event))
        self._live.stage("the first batch")

    def _show_first_loss(self, event: FirstLoss) -> None:
        self._first_loss = f"loss {event.loss:.3f} before the first step"
        if self.is_verbose:
            right = "" if math.isnan(event.accuracy) else f", {write_share(event.accuracy)} of them correct"
            self.say("start", f"{self._first_loss}, on the first {event.num_samples:,} training samples{right}")
        self._live.show([self._first_loss])
        self._live.refresh()

    def _show_prepared(self, event: Prepared) -> None:
        if self.is_verbose and self._plan is not None and (kernels := lines.kernels_fact(self._plan)):
            self.say(*kernels)
        self._warn(event.warnings)
        self.say("run", str(event.folder))

    def _warn(self, warnings: Sequence[str]) -> None:
        """Print each warning once."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.say("warning", warning, "yellow")

    def _show_progress(self, event: Progress) -> None:
        hint = f"{recipe_setting(*event.skipped_by)} skips this" if event.skipped_by else ""
        self._live.show([event.stage, counted(event.done, event.total), self._first_loss], is_timed=True, hint=hint)

    def _show_started(self, event: Started) -> None:
        self._num_epochs, self._is_over = event.num_epochs, event.is_over
        if event.is_resumed and not event.is_over:
            self.say("resumed", f"in epoch {event.epoch + 1} after step {event.step}")
        plan = self._plan
        if plan is None:
            return
        if not event.is_over:
            self.say(*lines.training_fact(plan, event))
            self._say_all([fact] if (fact := lines.left_out_fact(plan)) else [])
        data = plan.data
        self._table = EpochTable(
            event.num_epochs,
            data.noun,
            rank_words(len(data.input_shape) - 1).unit if len(data.input_shape) > 1 else "values",
            is_augmented=bool(plan.short_changes),
            width=self._live.width,
            metric=plan.recipe.select,
            num_targets=num_targets(data.task, data.classes),
        )
        if event.num_epochs and not event.is_over:
            self.say("columns", self._table.legend(has_validation=bool(len(data.split("val")))))
        if not event.is_over:
            self._live.show([f"epoch {event.epoch + 1}/{event.num_epochs}", self._first_loss], is_timed=True)

    def _show_start_scored(self, event: StartScored) -> None:
        if not math.isnan(event.val_loss):
            self.say(*lines.start_fact(event))

    def _show_step(self, event: StepDone) -> None:
        self._first_loss = ""
        full = round(_BAR_WIDTH * event.progress)
        bar = f"[{'#' * full}{'.' * (_BAR_WIDTH - full)}]"
        self._live.show(
            [
                f"epoch {event.epoch + 1}/{self._num_epochs}",
                f"{event.progress:.0%} of the training".replace("%", " %"),
                f"loss {event.loss:.3f}",
                *([] if math.isnan(event.accuracy) else [f"accuracy {write_share(event.accuracy)}"]),
                f"{write_duration(event.seconds_left)} left",
                f"{event.samples_per_second:,.0f}/s",
                bar,
            ]
        )

    def _show_epoch(self, event: EpochDone) -> None:
        if self._table is not None:
            for line in self._table.lines(event):
                self._print(wrapped(line, self._live.width))

    def _show_reconstruction(self, event: ReconstructionEpochDone) -> None:
        share = (
            ""
            if event.explained is None
            else f"; {write_share(event.explained)} of the validation samples' variance explained"
        )
        name = f"{event.epoch}/{event.num_epochs}"
        self._print(wrapped(f"epoch {name:<9} squared error {event.loss:.3g}{share}", self._live.width, 16))

    def _show_folds(self, event: FoldsBegun) -> None:
        self._folds = event.folder
        done = f"; {event.num_done} of {event.num_folds} folds are trained already" if event.num_done else ""
        self.say("folds", f"{event.folder}{done}")
        for note in event.notes:
            self.say("", note)

    def _show_folds_scored(self, event: FoldsScored) -> None:
        self.say("result", f"out of fold: {event.result}", "bold")
        self.say("folds", event.spread)
        for note in event.notes:
            self.say("note", note)
        self.say("report", str(event.folder / "report.html"))

    def _show_scored(self, event: Scored) -> None:
        noun = event.run.preprocessing.noun
        self.say(*lines.result_fact(event.scores, noun), "bold")
        for note in group_notes(event.scores.num_groups):
            self.say("note", note)
        if reuse := reuse_sentence(event.run.folder, noun, event.scores.num_samples):
            self.say("note", reuse)
        self.say(*lines.trust_fact(event.run.calibration, noun))
        if self.is_verbose and (calibration := lines.calibration_fact(event.run.calibration, noun)):
            self.say(*calibration)
        if labels := lines.labels_fact(event.labels, event.run.folder):
            self.say(*labels)
        self._warn(event.warnings)
        folder = event.run.folder
        if event.times is not None:
            self.say("time", event.times.sentence())
        self.say("report", str(folder / "report.html"))
        if self._has_next:
            self.say(*lines.next_fact(folder))
