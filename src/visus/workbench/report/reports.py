"""The report of a run: its facts, collected at the end of training, or later from its folder and data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from visus.caller import called_by_command, for_caller, resume_call
from visus.data.ledger import Ledger
from visus.data.opened import Data
from visus.data.reading import Reading, check_call
from visus.data.samples import SPLITS
from visus.errors import RunError, UsageError, VisusError
from visus.evaluation.calibration import ENOUGH_SAMPLES
from visus.evaluation.cluster_bootstrap import count_groups
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ReportMeasurements
from visus.pages.report.page import write_report
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described
from visus.training.checkpoints import Position, read_position
from visus.training.recipe import FIELDS
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder, training_seconds
from visus.units import write_number_of
from visus.workbench.modules import OBJECT_PREFIX, BuiltNetwork, count_macs
from visus.workbench.report.measures import FinishedRun, measure_inside
from visus.workbench.runs.calibration import read_calibration, write_calibration
from visus.workbench.runs.out_of_fold import read_out_of_fold
from visus.workbench.runs.own_command import exact_command, near_path, typed_command
from visus.workbench.runs.own_data import is_own, open_own_data
from visus.workbench.runs.saved import SavedRun, opened
from visus.workbench.runs.scoring import answers_of, answers_with_plain, score_split, with_plain_accuracy
from visus.workbench.runs.shift_remedies import own_design
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.mirroring import read_mirroring

MAX_CHANGES_TOLD: Final = 6


@dataclass(frozen=True)
class Course:
    """The course of a training.

    Args:
        history: its epochs, one row of ``results.csv`` each.
        seconds: its duration.
        best_epoch: epoch of the kept weights, from 1; None if unknown.
        interruptions: sentences on its end before all epochs, its resumes and what was changed while it ran; empty for a training without.
        is_cut: whether a time limit ended it, or an epoch of it.
        is_changed: whether anything was changed while it ran.
    """

    history: Sequence[Mapping[str, float]]
    seconds: float
    best_epoch: int | None
    interruptions: str = ""
    is_cut: bool = False
    is_changed: bool = False

    @classmethod
    def of(cls, position: Position, history: Sequence[Mapping[str, float]], num_epochs: float) -> Course:
        """The course of a training that ended at a position.

        Args:
            position: its last one.
            history: its epochs.
            num_epochs: epochs of the recipe.
        """
        best = position.best_epoch + 1
        is_cut = position.ended == "time limit" or 0 < position.epochs_trained < position.epoch
        interruptions = " ".join(filter(None, (_interruptions(position, num_epochs), _changes(position))))
        return cls(history, position.elapsed_s, best if best > 0 else None, interruptions, is_cut, bool(position.changes))


@called_by_command()  # a page names commands, whoever has it written
def report_facts(
    folder: RunFolder,
    data: Data,
    made: BuiltNetwork,
    recipe: ResolvedRecipe,
    scores: AnyScores,
    course: Course,
    inside: ReportMeasurements,
) -> ReportFacts:
    """All facts of a report, from the run's files and measurements.

    Args:
        folder: the run folder, with the files written before the first step.
        data: its data.
        made: its network.
        recipe: recipe of the training.
        scores: scores on the held-out samples.
        course: course of the training.
        inside: measurements beyond the scores.

    Raises:
        RunError: a file is missing or damaged.
    """
    started, environment = folder.read_json("data.json"), folder.read_json("environment.json")
    times = CommandTimes.read(folder)
    changes, routine = Ledger.from_dict(folder.read_json("ledger.json")).ranked_sentences()
    return ReportFacts(
        name=folder.path.name,
        created=started["created"].replace("T", " ")[:16],
        command=typed_command(started["command"]),
        exact_command=exact_command(folder, data.preprocessing),
        data_name=data.name,
        result=scores,
        task=data.task,
        fit_sentence=read_calibration(folder, "best", recipe.tta, data.task).sentence(data.noun),
        num_samples={name: len(data.split(name)) for name in SPLITS},
        classes=data.classes,
        class_counts={name: list(data.class_counts(name).values()) for name in SPLITS},
        input_shape=data.input_shape,
        num_parameters=made.num_parameters,
        macs=_macs(made, data),
        history=course.history,
        seconds=course.seconds,
        data={"Kind": data.samples.kind, "Fingerprint": data.fingerprint[:16]},
        ledger_sentences=changes,
        routine_sentences=routine,
        warnings=started["warnings"],
        design_text=made.design.text if made.design else "",
        network=started["network"],
        network_reason=started.get("network_reason", ""),
        times="" if times is None else times.sentence(),
        preprocessing=data.preprocessing.to_dict(),
        recipe={name: getattr(recipe.request, name) for name in FIELDS},
        machine=environment["machine"],
        environment=environment,
        best_epoch=course.best_epoch,
        interruptions=course.interruptions,
        is_cut=course.is_cut,
        is_changed=course.is_changed,
        noun=data.noun,
        measured=inside,
        start=folder.read_json("start.json") if (folder.path / "start.json").is_file() else {},
        computed=_computed(folder),
        folder="" if made.text.startswith(OBJECT_PREFIX) else near_path(folder.path),
        check_command=_check_command(started),
    )


def _check_command(started: dict[str, Any]) -> str:
    """The command that checks the data of a run, read as it was; empty for data in memory and the images that come with visus."""
    if not started.get("path"):
        return ""
    with called_by_command():
        return check_call(
            near_path(started["path"]), Reading.from_json(started.get("reading")), labels=started.get("labels")
        )


def _macs(made: BuiltNetwork, data: Data) -> int | None:
    """Multiply-adds of one sample; None for a person's own module that PyTorch's counter cannot follow."""
    try:
        return count_macs(made.module, data.input_shape)
    except Exception:  # whatever a person's own code raises; the report says what is missing
        return None


def _computed(folder: RunFolder) -> list[str]:
    """Sentences on what was computed from the training samples before the first step."""
    filters = folder.read_json("whitening.json") if (folder.path / "whitening.json").is_file() else []
    mirroring = read_mirroring(folder)
    return [str(each["sentence"]) for each in filters] + (
        [f"{mirroring[0].upper()}{mirroring[1:].rstrip('.')}."] if mirroring else []
    )


def fit_calibration(run: SavedRun, data: Data, answers: Tensor) -> None:
    """Fit the temperature of a run on its validation split, and save it in its folder.

    Where that split is small, the out-of-fold predictions for the training set are added, if the network is the one whose head they tested.

    Args:
        run: the run with its best weights.
        data: its own data.
        answers: its logits (samples, classes) for the scored split.
    """
    part = data.split("val")
    logits = answers if data.scored_split == "val" else answers_of(run, data, "val") if len(part) else answers[:0]
    labels, recipe, folder = torch.from_numpy(part.labels), run.recipe, RunFolder.open(run.folder)
    kept = read_out_of_fold(folder) if len(part) < ENOUGH_SAMPLES else None
    out_of_fold = (kept.logits, kept.labels) if kept is not None and kept.are_of(run.module) else None
    smoothing = recipe.label_smoothing or 0.0
    has_groups = count_groups(data.groups_of("val")) is not None
    more: dict[str, Any] = {"smoothing": smoothing, "out_of_fold": out_of_fold, "has_groups": has_groups}
    write_calibration(folder, run.task, logits, labels, tta=recipe.tta or "none", **more)


@dataclass(frozen=True, repr=False)
class Report(Described):
    """The report of a run, and its path.

    Args:
        path: path of ``report.html``.
        facts: all facts in it.

    >>> run.report().path.name
    'report.html'
    """

    path: Path
    facts: ReportFacts

    def __fspath__(self) -> str:
        return str(self.path)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("result", self.facts.result.sentence(self.facts.noun)), ("file", str(self.path))]
        return f"Report of {self.facts.name}", [*rows, ("next", "open the file in a browser; .facts has all that it shows")]

    def to_json(self) -> dict[str, Any]:
        """Its path as plain data; the measurements are in ``inside.json`` and ``scores.json`` in the same folder.

        >>> list(run.report().to_json())
        ['report']
        """
        return {"report": str(self.path)}


def rewrite_report(
    run: SavedRun,
    data: str | Path | Data | None = None,
    *,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Report:
    """Rewrite ``report.html``, ``inside.json`` and ``calibration.json`` of a finished run.

    The scores do not change, except the three that depend on the calibration: loss, confidence and calibration error.

    Args:
        run: the run.
        data: its own data, opened or as a new path; default: the last known path.
        cache_dir: another folder for the decoded samples.
        on_event, should_stop: as for ``Run.report``.

    Raises:
        RunError: the training was not finished, or a file is missing or damaged.
        DataError: the data has changed since the training.
        UsageError: the data is not the run's own.
    """
    monitor = Monitor(on_event, should_stop)
    folder = RunFolder.open(run.folder)
    if not (run.folder / "scores.json").is_file() and folder.checkpoint.is_file():
        raise RunError(
            "this training was stopped before its end, so there is nothing to report yet. Go on with: "
            f"{resume_call(run.folder)}",
            where=str(run.folder),
        )
    scores, course = run.scores, _course(folder, run.recipe.epochs or 0)
    samples = _own_samples(run, data, cache_dir, monitor)
    asked = folder.read_json("data.json")["network"]
    made = BuiltNetwork(run.module, folder.read_text("design.txt"), asked, own_design(run))
    began = time.perf_counter()
    answers, plain = answers_with_plain(run, samples, samples.scored_split, monitor)
    scoring_s = time.perf_counter() - began
    fit_calibration(run, samples, answers)
    scores = with_plain_accuracy(_recalibrated(scores, score_split(run, samples, samples.scored_split, answers)), plain)
    folder.write_json("scores.json", scores.to_json())
    num_epochs, batch_size = len(course.history), run.recipe.batch_size or 1
    finished = FinishedRun(run, samples, made, answers, num_epochs, batch_size, scoring_s)
    inside = measure_inside(finished, monitor)
    facts = report_facts(folder, samples, made, ResolvedRecipe.of(run.recipe), scores, course, inside)
    folder.write_json("inside.json", inside.to_json())
    write_report(run.folder / "report.html", facts)
    return Report(run.folder / "report.html", facts)


def _own_samples(run: SavedRun, data: str | Path | Data | None, cache_dir: str | Path | None, monitor: Monitor) -> Data:
    if data is None:
        return open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir, **monitor.keywords)
    samples = opened(run, data, cache_dir=cache_dir, monitor=monitor)
    if not is_own(run.folder, samples):
        raise UsageError(
            "a report needs the run's own held-out samples, and this is other data. To score it: "
            f"{for_caller('visus evaluate RUN DATA', 'run.evaluate(data)')}",
            where=str(data if isinstance(data, (str, Path)) else samples.samples.root),
        )
    return samples


def _recalibrated(scores: AnyScores, anew: AnyScores) -> AnyScores:
    """Scores with the figures of calibrated probabilities, and the counts of known samples, taken from new ones."""
    if not isinstance(scores, Scores):
        return anew
    renewed = ("loss", "confidence", "calibration_error", "num_learned", "num_chose", "num_right_new")
    return dataclasses.replace(scores, **{name: getattr(anew, name) for name in renewed})


def _course(folder: RunFolder, num_epochs: float) -> Course:
    """From ``results.csv``, and what it does not hold from the checkpoint, where there is one that can be read."""
    history = folder.read_results()
    try:
        position = read_position(folder.checkpoint)
    except VisusError:
        return Course(history, training_seconds(history), None)
    return Course.of(position, history, num_epochs)


def _interruptions(position: Position, num_epochs: float) -> str:
    """A sentence on what ended a training before its last epoch, and how often it was resumed; empty for neither."""
    trained = f"{position.epochs_trained:,.1f} of {num_epochs:,.0f} epochs"
    endings = {
        "time limit": f"stopped by the time limit after {trained}",
        "no better validation accuracy": f"stopped after {trained}, without a better validation accuracy",  # of earlier runs
        "no better validation score": f"stopped after {trained}, without a better validation score",
        "on request": f"ended on request after {trained}",
    }
    facts = [endings[position.ended]] if position.ended in endings else []
    if not facts and 0 < position.epochs_trained < position.epoch:
        facts.append(f"cut by an earlier time limit: {trained} were trained")
    if position.num_skipped:
        skipped = write_number_of(position.num_skipped, "step")
        facts.append(f"computed in float16, with {skipped} skipped because gradients were infinite")
    if position.num_resumed:
        facts.append(f"resumed {write_number_of(position.num_resumed, 'time')}")
    return f"The training was {'; '.join(facts)}." if facts else ""


def _changes(position: Position) -> str:
    """A sentence on what was changed while the training ran; empty for nothing."""
    told = [f"{change['what']} {change['place']}" for change in position.changes]
    more = [f"{len(told) - MAX_CHANGES_TOLD:,} more"] if len(told) > MAX_CHANGES_TOLD else []
    return f"Changed while it ran (changes.json): {'; '.join([*told[:MAX_CHANGES_TOLD], *more])}." if told else ""
