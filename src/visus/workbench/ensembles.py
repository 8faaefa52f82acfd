"""Ensembles: the mean of the calibrated probabilities of several networks, or of their numbers, for files and for labeled data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.errors import DataError, UsageError
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples, Marks
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.ship.files import is_bundle
from visus.tables import Described, listed
from visus.training.validation import EVALUATION_BATCH
from visus.units import write_number_of
from visus.workbench.keywords import checked_methods
from visus.workbench.live_line import following
from visus.workbench.runs.bulk.predicting import Paths, predict_to
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.bulk.work import BulkPredictor
from visus.workbench.runs.fold_folders import fold_folders, is_folds_folder
from visus.workbench.runs.mean_predictor import MeanPredictor
from visus.workbench.runs.predict import Files, Predictions, RunPredictor, prediction_notes
from visus.workbench.runs.predictions import predict_with
from visus.workbench.runs.run import Run, load
from visus.workbench.runs.saved import opened, run_evaluation
from visus.workbench.runs.scoring import calibration_sentence, known_among, notes_on

if TYPE_CHECKING:
    from visus.workbench.ship.bundle import Bundle


@checked_methods
class Ensemble(Described):
    """Several networks that answer together: the mean of their calibrated probabilities. ``visus.ensemble`` makes one.

    Each network reads and scales a sample in its own way. Classes are matched by name. Of sets of classes, a class is predicted if its mean probability
    reaches the mean of the members' thresholds. Of regression, the answer is the mean of the numbers, without an interval: those of the members hold for
    their own predictions.

    Args:
        members: runs and bundles of one task with the same classes, at least two.

    Raises:
        UsageError: the members cannot be averaged.

    >>> both.classes, len(both.members)
    (('0', '1', '2'), 2)
    """

    def __init__(self, members: Sequence[Run | Bundle]) -> None:
        self._members = tuple(members)
        self._predictor(raw=False)  # refuses members that do not fit

    @property
    def members(self) -> tuple[Run | Bundle, ...]:
        """The runs and bundles, in the order that was given.

        >>> [type(each).__name__ for each in both.members]
        ['Run', 'Run']
        """
        return self._members

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the first member.

        >>> both.classes
        ('0', '1', '2')
        """
        return self._members[0].classes

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        is_regression = self._predictor(raw=False).decision.task == "regression"
        answer = "mean of numbers" if is_regression else "mean of calibrated probabilities"
        rows = [("members", listed([_name(each) for each in self._members])), ("answer", answer)]
        scored = (each._scores() for each in self._members if isinstance(each, Run))
        known = [each.headline for each in scored if each is not None]
        if known:
            values = ", ".join(each.write(each.value) for each in known)
            rows.insert(1, (known[0].metric, f"{values} of the members, each by itself"))
        nouns = ("target",) if is_regression else ("class", "classes")
        title = f"Ensemble of {write_number_of(len(self._members), 'network')}: {write_number_of(len(self.classes), *nouns)}"
        return title, rows

    def predict(
        self,
        files: Files,
        *,
        top: int = 1,
        raw: bool = False,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Predictions:
        """Labels for files, folders of files, images of Pillow, or arrays, as ``Run.predict``: one prediction for each sample, in order.

        A sample that a member cannot read has an ``error``. The ledger names samples that any member learned from.

        Args:
            files: as for ``Run.predict``.
            top: number of classes of each prediction, the most probable first.
            raw: average the networks' own probabilities, not calibrated.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            UsageError: an array does not fit the networks, ``top`` exceeds the number of classes, or ``raw`` is asked of a bundle.
            DataError: none of the paths exists.

        >>> len(list(both.predict(images)))
        6
        """
        long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
        return predict_with(self._predictor(raw=raw), files, self._notes(raw=raw), top=top, **long)  # type: ignore[arg-type]

    def predict_to(
        self,
        files: Paths,
        out: str | Path,
        *,
        top: int = 1,
        probabilities: bool = False,
        raw: bool = False,
        cluster: str | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> BulkPredictions:
        """Write predictions for any number of samples to a table, as ``Run.predict_to``: a stopped or killed call continues.

        Args:
            files, out, top, probabilities, cluster: as for ``Run.predict_to``.
            raw: average the networks' own probabilities, not calibrated.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            UsageError: an argument cannot be used, the table exists, or the parts of an earlier call are of other networks or samples.
            DataError: none of the paths exists.
            StorageError: the disk is full; a further call continues.
            MissingExtraError: pyarrow or ray is not installed.

        >>> both.predict_to(file, folder / "both.csv", progress=False).num_samples
        60
        """
        columns = {"top": top, "probabilities": probabilities, "cluster": cluster}
        long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
        return predict_to(self._predictor(raw=raw), files, out, self._notes(raw=raw), **columns, **long)  # type: ignore[arg-type]

    def evaluate(
        self,
        data: str | Path | Data | None = None,
        *,
        split: str | None = None,
        raw: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> AnyScores:
        """Score the ensemble on the samples that all members hold out, or on other data.

        A note says how many samples were in the training set of a member, and the accuracy on the others.

        Args:
            data: other data: a path, or opened data of the members' size; default: the members' own data.
            split: ``train``, ``val`` or ``test``; default: the held-out one.
            raw: score the networks' own probabilities, not calibrated.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            UsageError: a member is a bundle, which does not know its data; or opened data has another size.
            DataError: no sample is held out by all members, or the data cannot be used.

        >>> both.evaluate().num_samples
        12
        """
        runs = [each for each in self._members if isinstance(each, Run)]
        if others := [_name(each) for each in self._members if not isinstance(each, Run)]:
            raise UsageError(
                f"{listed(others)}: a bundle does not know what its network learned from, so it is not scored here. Give the run that it was "
                "exported from."
            )
        with following("scoring", Monitor(on_event, should_stop), progress) as monitor:
            own = [opened(run, data, cache_dir=cache_dir, monitor=monitor) for run in runs]
            if isinstance(data, Data):
                _check_size(runs, data)
            return score_together(runs, own, split or own[0].scored_split, raw=raw, monitor=monitor)

    def _predictor(self, *, raw: bool) -> MeanPredictor:
        members: list[BulkPredictor] = []
        for each in self._members:
            if isinstance(each, Run):
                members.append(RunPredictor(each, raw=raw))
            elif raw:
                raise UsageError(
                    f"raw: the bundle {_name(each)} has calibrated probabilities only. Leave raw out, or give its run."
                )
            else:
                members.append(each)
        return MeanPredictor(members)

    def _notes(self, *, raw: bool) -> list[str]:
        own = [prediction_notes(each, raw=raw) if isinstance(each, Run) else each._notes() for each in self._members]
        task = self._predictor(raw=raw).decision.task
        if task == "regression":
            own = [
                [note for note in notes if not _is_of_intervals(each, note)]
                for each, notes in zip(self._members, own, strict=True)
            ]
        return [*_mean_notes(self._members, task), *_joint_notes(self._members, own)]


def ensemble(members: Sequence[Run | Bundle | str | Path] | str | Path, *, device: str = "auto") -> Ensemble:
    """Several networks as one: the mean of their calibrated probabilities; of regression, of their numbers.

    Args:
        members: runs and bundles of one task, opened or as paths, with the same classes in any order. The folder of a cross-validation stands for the runs
            of its folds.
        device: device of runs that are given as paths; see ``Recipe.device``.

    Raises:
        UsageError: fewer than two networks are given, one is given twice, or they cannot be averaged.
        RunError: a folder is no run, or a fold is not trained yet.
        BundleError: a bundle is damaged.

    >>> import visus
    >>> again = visus.ensemble([both.members[0], both.members[1].folder])
    >>> [each.label for each in again.predict(images)] == [each.label for each in both.predict(images)]
    True
    """
    given: list[Any] = [members] if isinstance(members, (str, os.PathLike)) else list(members)
    found: list[Run | Bundle] = []
    for each in given:
        is_path = isinstance(each, (str, os.PathLike))
        found += [_open(path, device) for path in _paths(Path(each))] if is_path else [each]
    if len(found) < 2:
        raise UsageError("an ensemble needs at least two networks. Give several runs, or the folder of a cross-validation.")
    for each in found:
        if not isinstance(each, Run) and each.decision.task != "single-label":
            raise UsageError(
                f"an ensemble of bundles is for networks that predict one class for each sample, and this bundle predicts {each.decision.task}. "
                "Give the run that it was exported from.",
                where=str(each.path),
            )
    places = [(each.folder if isinstance(each, Run) else each.path).resolve() for each in found]
    if twice := [str(place) for number, place in enumerate(places) if place in places[:number]]:
        raise UsageError(f"{listed(twice)}: this network is given twice, so it would count twice. Leave one out.")
    return Ensemble(found)


def _paths(path: Path) -> list[Path]:
    """A path, or the runs of a cross-validation."""
    return fold_folders(path) if is_folds_folder(path) else [path]


def _open(path: Path, device: str) -> Run | Bundle:
    if is_bundle(path):
        from visus.workbench.ship.bundle import open_bundle

        return open_bundle(path)
    return load(path, device=device)


def score_together(runs: Sequence[Run], own: Sequence[Data], split: str, *, raw: bool, monitor: Monitor) -> AnyScores:
    """The scores of the mean answers of runs, on the samples that are in this split for all of them.

    Args:
        runs: the runs.
        own: the data as each run reads it.
        split: name of the split.
        raw: average the networks' own probabilities, not calibrated.
        monitor: receives the progress, and can cancel.

    Raises:
        DataError: no sample is in this split for all.
    """
    parts = [data.split(split) for data in own]
    shared = set(parts[0].names).intersection(*(part.names for part in parts[1:]))
    names = [name for name in parts[0].names if name in shared]
    if not names:
        raise DataError(
            f"no sample is in the {split} split of all members: {listed([run.name for run in runs])}. Give other data, or name another split with "
            f"{option('split')}."
        )
    answers, marks, notes = [], [], []
    for run, data, part in zip(runs, own, parts, strict=True):
        places = {name: place for place, name in enumerate(part.names)}
        chosen = _chosen(part, np.array([places[name] for name in names], dtype=np.int64))
        batches = monitor.over(
            batches_in_order(chosen, run.preprocessing, EVALUATION_BATCH), f"scoring {run.name}", len(names)
        )
        answers.append(run.probabilities(run.logits(batches), raw=raw).numpy())
        known, unknown = known_among(run, chosen, data)
        marks.append(known)
        notes.append([*notes_on(run, data, split), *unknown])
    first = _chosen(parts[0], np.flatnonzero(np.isin(parts[0].names, names)))
    all_notes = [*_mean_notes(runs, runs[0].task.name), *_joint_notes(runs, notes)]
    if len(names) < len(parts[0]):
        all_notes.append(
            f"{len(parts[0]) - len(names):,} of the {len(parts[0]):,} samples in the {split} split of {runs[0].name} are not in that of all members, "
            "and are dropped."
        )
    labels = _labels_in_order(first.labels, own[0].classes, runs[0].classes)
    shown, groups = "all" if own[0].is_whole else split, _groups_of(own[0], names)
    samples = LabeledSamples(labels, shown, all_notes, _known_to_any(marks), groups)
    mean = MeanPredictor([RunPredictor(run, raw=raw) for run in runs])
    evaluation = run_evaluation(runs[0], raw=raw)
    found: AnyScores = evaluation.score_means(mean.mean(answers), mean.decision.thresholds, samples)
    return found


def _labels_in_order(labels: NDArray[Any], classes: Sequence[str], order: Sequence[str]) -> NDArray[Any]:
    """Labels of data with these classes, as those of classes in another order."""
    ordered = (
        np.array([order.index(name) for name in classes])[labels]
        if labels.ndim == 1
        else labels[:, [classes.index(name) for name in order]]
    )
    return np.asarray(ordered)


def _chosen(part: Part, places: np.ndarray[Any, np.dtype[np.int64]]) -> Part:
    """Some samples of a part, in this order."""
    names = tuple(part.names[place] for place in places)
    return Part(part.name, part.pixels, part.indices[places], part.labels[places], names)


def _groups_of(data: Data, names: Sequence[str]) -> list[str] | None:
    """The groups of samples; None if the source has no groups."""
    if data.samples.groups is None:
        return None
    group_of = dict(zip(data.samples.names, data.samples.groups, strict=True))
    return [group_of[name] for name in names]


def _known_to_any(marks: Sequence[Marks | None]) -> Marks | None:
    """Whether each sample is in the training set of any run, and whether it is only in a validation set; None if unknown for one."""
    known = [each for each in marks if each is not None]
    if len(known) < len(marks):
        return None
    learned = np.logical_or.reduce([each[0] for each in known])
    return learned, np.logical_or.reduce([each[1] for each in known]) & ~learned


def _check_size(runs: Sequence[Run], data: Data) -> None:
    """Refuse opened data that a run would have to read at another size.

    Raises:
        UsageError: the size differs.
    """
    if odd := [run.name for run in runs if run.preprocessing.input_shape != data.input_shape]:
        raise UsageError(
            f"{listed(odd)}: this data is opened at another size than the run reads. Give its path: each run reads it for itself."
        )


def _joint_notes(members: Sequence[Run | Bundle], own: Sequence[Sequence[str]]) -> list[str]:
    """The notes of all members once, then those of some, with their names."""
    shared = [note for note in own[0] if all(note in notes for notes in own)]
    return [
        *shared,
        *(
            f"{_name(each)}: {note}"
            for each, notes in zip(members, own, strict=True)
            for note in notes
            if note not in shared
        ),
    ]


def _mean_notes(members: Sequence[Run | Bundle], task: str) -> list[str]:
    """What the answers of an ensemble are."""
    what = "Numbers" if task == "regression" else "Probabilities"
    more = {
        "multi-label": ["A class is predicted if its mean probability reaches the mean of the members' thresholds."],
        "regression": ["A mean has no prediction interval: those of the members hold for their own predictions."],
    }
    return [f"{what} are the mean over {_members_phrase(members)}.", *more.get(task, [])]


def _is_of_intervals(member: Run | Bundle, note: str) -> bool:
    """Whether a note of a member is about its prediction intervals, which its mean with others does not have."""
    return isinstance(member, Run) and note == calibration_sentence(member)


def _members_phrase(members: Sequence[Run | Bundle]) -> str:
    return f"{write_number_of(len(members), 'network')}: {listed([_name(each) for each in members])}"


def _name(member: Run | Bundle) -> str:
    return member.name if isinstance(member, Run) else member.manifest.name
