"""``visus compare``: runs on the samples that all held out, or any runs trained on one dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from visus.caller import option, train_call
from visus.data.batches import Part
from visus.data.opened import Data
from visus.data.reading import Reading, one_column
from visus.data.store import MAX_UNREADABLE
from visus.errors import DataError, UsageError
from visus.evaluation.paired import holm
from visus.progress import SILENT, Monitor, OnEvent, ShouldStop
from visus.tables import listed
from visus.training.recipe import FIELDS
from visus.training.runs import RunFolder, is_run_folder
from visus.units import with_article, write_number_of, write_shape
from visus.workbench.compare.comparison import Comparison, RunPair
from visus.workbench.compare.scoring import Entry, compare_entries
from visus.workbench.live_line import following
from visus.workbench.runs.own_command import near_path
from visus.workbench.runs.own_data import common_tested, open_own_data, reading_of
from visus.workbench.runs.saved import SavedRun, read_run
from visus.workbench.runs.scoring import notes_on, views_sentence


def compare(
    *runs: SavedRun | str | Path | Sequence[SavedRun | str | Path],
    data: Any = None,
    split: str | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    skip_missing: bool = False,
    class_depth: int | None = None,
    layout: str | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    device: str = "auto",
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Compare runs on the same samples: the scores of each, and each with the first, sample by sample.

    Each pair has its difference with an interval and McNemar's test. Of sets of classes, it is the difference of the mean average precision, by the paired
    bootstrap, and that of the exact match, by McNemar's test; of numbers, that of the mean absolute error of each target, by the paired bootstrap. Samples with
    groups have the paired bootstrap of groups in place of McNemar's test. With
    more than two runs, the p-values are corrected by Holm's method, those of each metric by themselves.

    Args:
        runs: two runs or more, or their folders, or one list of them. They may differ in network, recipe, seed and size of the samples.
        data: other data for all: a path, a dataset of PyTorch or Hugging Face, or opened data if all runs read samples alike; default: the samples that all runs held out.
        split: ``train``, ``val`` or ``test``; default: the held-out one.
        path_column, label_column, skip_missing, class_depth, layout, max_unreadable: as for ``Run.open_data``, and for the path of other data only.
        device: device for runs that are given as folders; see ``Recipe.device``.
        cache_dir: another folder for the decoded samples.
        progress: False shows nothing on stderr.
        on_event: receives a ``Progress`` for each batch.
        should_stop: called after each batch; True raises ``CanceledError``.

    Raises:
        RunError: a folder is not a run, or a file of it is missing or damaged.
        UsageError: fewer than two runs are given, they have different tasks or classes, or opened data does not suit them or has further options.
        DataError: the runs were trained on different data and none was given, or no sample is held out by all.

    >>> import visus
    >>> comparison = visus.compare(run, run.folder)
    >>> comparison.pairs[0].answers.differing
    ()
    """
    is_list = len(runs) == 1 and isinstance(runs[0], (list, tuple))
    given = cast("Sequence[SavedRun | str | Path]", runs[0] if is_list else runs)
    _check_runs(given)
    opened = [each if isinstance(each, SavedRun) else read_run(SavedRun, each, device=device) for each in given]
    reading = Reading(path_column, one_column(label_column), skip_missing, class_depth, layout)
    options = {**reading.to_json(), **({} if max_unreadable == MAX_UNREADABLE else {"max_unreadable": max_unreadable})}
    with following("comparing", Monitor(on_event, should_stop), progress) as monitor:
        return compare_runs(*opened, data=data, split=split, options=options, cache_dir=cache_dir, **monitor.keywords)


def compare_runs(
    *runs: SavedRun,
    data: Any = None,
    split: str | None = None,
    options: Mapping[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Runs on the same samples, each compared with the first, sample by sample.

    Without ``data``, the samples are those that all runs held out; each run reads them with its own size and scaling.

    Args:
        runs: two runs or more; they may differ in network, recipe, seed and size of the samples.
        data: other data; None for the runs' own.
        split: ``train``, ``val`` or ``test``; None for the held-out one.
        options: further arguments of ``SavedRun.open_data``, for the path of other data.
        cache_dir: another folder for the decoded samples.
        on_event, should_stop: as for ``Run.compare``.

    Raises:
        UsageError: fewer than two runs are given, or they have different tasks or classes.
        DataError: the runs were trained on different data and none was given, or no sample is held out by all.
    """
    _check_runs(runs)
    _refuse_run_as_data(data)
    monitor = Monitor(on_event, should_stop)
    first, *others = runs
    for other in others:
        _check_pair(first, other, has_data=data is not None)
    opened = _opened(runs, data, options or {}, cache_dir, monitor)
    chosen = split or opened[0].scored_split
    parts = [each.split(chosen) for each in opened]
    shared = set(parts[0].names).intersection(*(part.names for part in parts[1:]))
    if not shared:
        raise DataError(
            f"no sample is in the {chosen} split of {_all_of(runs)}. Name another with {option('split')}, or give data with {option('data')}."
        )
    own_notes = [notes_on(run, each, chosen) for run, each in zip(runs, opened, strict=True)]
    notes = [note for note in own_notes[0] if all(note in own for own in own_notes)]
    for run, own in zip(runs, own_notes, strict=True):
        notes += [f"{run.name}: {note}" for note in own if note not in notes]
    left_out = len(parts[0]) - len(shared)
    if left_out:
        other_splits = f"that of {others[0].name}" if len(others) == 1 else "those of all other runs"
        notes.append(
            f"{left_out:,} of the {len(parts[0]):,} samples in the {chosen} split of {first.name} are not in {other_splits}, and are dropped."
        )
    if len(others) > 1:
        notes.append(
            f"{len(others)} runs are tested against {first.name} at once, so each p-value is corrected by Holm's method: one below 0.05 is "
            f"significant. The intervals are those of single pairs."
        )
    shown = "all" if opened[0].is_whole else chosen
    entries: list[Entry] = [
        (run, "network", _only(part, shared), each) for run, part, each in zip(runs, parts, opened, strict=True)
    ]
    found = compare_entries(entries, shown, opened[0].noun, notes, monitor=monitor)
    return dataclasses.replace(found, pairs=_corrected(found.pairs), settings=_differing_settings(runs))


def _opened(
    runs: Sequence[SavedRun],
    data: str | Path | Data | None,
    options: Mapping[str, Any],
    cache_dir: str | Path | None,
    monitor: Monitor,
) -> list[Data]:
    """The data as each run reads it.

    Raises:
        UsageError: opened data has options, or is not as the runs read it; or options are given without data.
    """
    if not isinstance(data, Data):
        return [run.open_data(data, cache_dir=cache_dir, **options, **monitor.keywords) for run in runs]
    if options:
        raise UsageError(f"{', '.join(options)} cannot be given with opened data. Give its path, or leave it out.")
    for run in runs:
        if data.preprocessing != run.preprocessing or data.classes != run.classes:
            raise UsageError(
                f"{run.name} reads samples in another way than this opened data, or has other classes. Give the path of the data: each run opens it for itself."
            )
    return [data] * len(runs)


def _check_runs(runs: Sequence[object]) -> None:
    """Refuse fewer than two runs, and what is no run.

    Raises:
        UsageError: there are fewer than two runs, or one of several is a list, data or something else.
    """
    for each in runs:
        if not isinstance(each, (SavedRun, str, Path)):
            what = "a list of runs" if isinstance(each, (list, tuple)) else with_article(type(each).__name__)
            raise UsageError(
                f"compare takes runs or their folders, one by one or all in one list, and {what} stands among them."
            )
    for each in runs[2:]:
        if isinstance(each, (str, Path)) and Path(each).exists() and not is_run_folder(Path(each)):
            raise UsageError(
                f"{each} is no run folder. Name runs only; data to compare them on goes to --data, in Python to data=."
            )
    if len(runs) < 2:
        raise UsageError(f"compare needs at least two runs, and {'one' if runs else 'none'} is given. Name another run.")


def _refuse_run_as_data(data: object) -> None:
    """Refuse a run in the place of data.

    Raises:
        UsageError: it is a run or its folder.
    """
    is_folder = isinstance(data, (str, Path)) and is_run_folder(Path(data))
    if isinstance(data, SavedRun) or is_folder:
        name = data.name if isinstance(data, SavedRun) else data
        raise UsageError(f"{name} is a run, and data is needed here. Name all runs before: compare takes two or more.")


def _check_pair(first: SavedRun, other: SavedRun, *, has_data: bool) -> None:
    """Refuse two runs that cannot be compared.

    Raises:
        UsageError: they have different tasks, or know different classes.
        DataError: they were trained on different data, and no other is given.
    """
    if first.task.name != other.task.name:
        raise UsageError(
            f"{first.name} and {other.name} cannot be compared: one predicts {first.task.name}, the other {other.task.name}. Give runs of one task."
        )
    if set(first.classes) != set(other.classes):
        unknown = sorted(set(first.classes) ^ set(other.classes))
        raise UsageError(
            f"{first.name} and {other.name} cannot be compared: only one of them knows {', '.join(unknown)}. Give runs with the same classes."
        )
    facts = [RunFolder.open(run.folder).read_json("data.json") for run in (first, other)]
    if not has_data and facts[0]["fingerprint"] != facts[1]["fingerprint"]:
        raise _other_data(first, other, facts)


def _all_of(runs: Sequence[SavedRun]) -> str:
    """The names of runs in a sentence: both, or all."""
    names = [run.name for run in runs]
    return f"both {names[0]} and {names[1]}" if len(runs) == 2 else f"all of {listed(names)}"


def _corrected(pairs: Sequence[RunPair]) -> tuple[RunPair, ...]:
    """The pairs; with p-values after Holm's correction, metric by metric, if there are several."""
    if len(pairs) < 2:
        return tuple(pairs)
    by_metric = [holm(values) for values in zip(*(pair.answers.p_values for pair in pairs), strict=True)]
    return tuple(
        dataclasses.replace(pair, holm_p_values=values)
        for pair, values in zip(pairs, zip(*by_metric, strict=True), strict=True)
    )


def _differing_settings(runs: Sequence[SavedRun]) -> tuple[tuple[str, ...], ...]:
    """The settings that are not the same in all runs: name, and the value of each, and the size of the samples."""
    found = [
        {"img_size": write_shape(run.preprocessing.size), **{name: getattr(run.recipe, name) for name in FIELDS}}
        for run in runs
    ]
    return tuple(
        (name, *(_value(each[name]) for each in found))
        for name in found[0]
        if any(each[name] != found[0][name] for each in found)
    )


def _value(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _other_data(left: SavedRun, right: SavedRun, facts: Sequence[dict[str, Any]]) -> DataError:
    """The error for runs of different data, or of one data that changed between their trainings."""
    names, place = [each["name"] for each in facts], facts[1]["path"]
    if names[0] != names[1] or place is None:
        return DataError(
            f"{left.name} was trained on {names[0]} and {right.name} on other data ({names[1]}), so they share no held-out samples. "
            f"Give the data to compare them on with {option('data')}."
        )
    num_common, num_learned = common_tested(left.folder, right.folder)
    samples = write_number_of(num_common, "sample") if num_common else "no sample"
    found = (
        f"{names[0]} changed between the trainings of {left.name} and {right.name}. Their test sets have {samples} in common"
    )
    common = f"; compare them on {'it' if num_common == 1 else 'these'} with {option('data', near_path(place))}"
    learned = f" {right.name} was trained on {num_learned:,} test samples of {left.name}." if num_learned else ""
    again = train_call(near_path(place), near_path(left.folder / "split.csv"), reading_of(facts[1]))
    remedy = (
        f"{learned} To keep the test set of {left.name}, train with its split: {again}" if learned or not num_common else ""
    )
    return DataError(f"{found}{common if num_common else ''}.{remedy}")


def compare_trained(
    runs: Sequence[tuple[SavedRun, str]],
    *,
    notes: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    monitor: Monitor = SILENT,
) -> Comparison:
    """Compare runs trained on one dataset with one split, each with its kind, also under shifts of the samples.

    Shuffled samples cannot be mirrored or shifted. So if one run reads shuffled samples, no run uses test-time augmentation.
    """
    run = runs[0][0]
    first = open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir, **monitor.keywords)
    part = first.split(first.scored_split)
    entries: list[Entry] = [(each, kind, part, first) for each, kind in runs]
    is_plain = any(each.preprocessing.shuffle_seed is not None for each, _ in runs)
    own_notes = notes_on(run, first, first.scored_split)
    if is_plain and views_sentence(run):
        own_notes = [
            f"Each answer is that to the {first.noun} as it is, since shuffled {first.noun}s have no other views: {run.name} may have "
            "another figure in its own report.",
            *(note for note in own_notes if note != views_sentence(run)),
        ]
    whole = [each.name for each, _ in runs[1:] if min(run.recipe.sides) < 1 and min(each.recipe.sides) == 1]
    if whole:
        own_notes.append(
            f"{run.name} began with smaller {first.noun}s; whole ones throughout, since they take no others: {', '.join(whole)}."
        )
    all_notes = [*own_notes, *notes]
    return compare_entries(
        entries, first.scored_split, first.noun, all_notes, shifts=True, is_plain=is_plain, monitor=monitor
    )


def _only(part: Part, samples: set[str]) -> Part:
    """The part's samples that are among ``samples``."""
    chosen = np.array([index for index, sample in enumerate(part.names) if sample in samples], dtype=np.int64)
    return Part(
        part.name, part.pixels, part.indices[chosen], part.labels[chosen], tuple(part.names[index] for index in chosen)
    )
