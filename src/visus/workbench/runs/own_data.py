"""Opens the data that a run was trained on with its original split, or explains how it has changed."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from visus.caller import evaluate_call, for_caller, train_call
from visus.data.earlier_split import CONTENTS_FILE, contents_text, digits_of, known_splits, parse_contents
from visus.data.ledger import Ledger
from visus.data.listed_names import write_names
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.data.resplit import in_splits
from visus.data.samples import Samples
from visus.data.sources import read_source
from visus.data.splits import FoldRows, SplitRow, read_split_csv
from visus.errors import DataError, StorageError, UsageError
from visus.progress import OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.units import with_article, write_number_of
from visus.workbench.runs.own_command import near_path

_MIN_SHARE: Final = (
    0.5  # of the samples here, and of the run's, that both have, for data that was edited since to count as its own
)


def write_contents(folder: RunFolder, samples: Samples) -> None:
    """Save a hash of each sample's bytes: the first 16 digits of the SHA-256."""
    folder.write_text(CONTENTS_FILE, contents_text(samples))


def open_own_data(
    folder: Path,
    preprocessing: Preprocessing,
    place: str | Path | None = None,
    *,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Data:
    """The data that a run was trained on, with its original split.

    Args:
        folder: the run folder.
        preprocessing: preprocessing of the run.
        place: current path of the data; default: the last known path.
        cache_dir: another folder for the decoded samples.
        num_workers, on_event, should_stop: as for ``visus.open_data``.

    Raises:
        DataError: the data has changed or is missing.
    """
    run = RunFolder.open(folder)
    facts = run.read_json("data.json")
    try:
        data = open_under_labels(
            run.path,
            preprocessing,
            facts.get("labels"),
            place,
            cache_dir=cache_dir,
            num_workers=num_workers,
            on_event=on_event,
            should_stop=should_stop,
        )
    except DataError as error:
        if changes := _changes(run, facts, place):
            raise _changed(run, facts, place, changes) from error
        raise
    if data.fingerprint != facts["fingerprint"]:
        raise _changed(run, facts, place, _changes(run, facts, place))
    return data


def open_under_labels(
    folder: Path,
    preprocessing: Preprocessing,
    labels: str | None,
    place: str | Path | None = None,
    *,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Data:
    """The samples that a run was trained on, with their original split and other labels as for ``open_data``; None for the
    original labels.

    Raises:
        DataError: the data or its label file is missing.
    """
    facts = RunFolder.open(folder).read_json("data.json")
    there = facts["path"] if place is None else place
    if place is None and there is not None and not os.path.exists(there):
        quoted, again = shlex.quote(str(folder)), f"visus.load({str(folder)!r})"
        command = f"visus evaluate {quoted} NEWPATH, or visus train NEWPATH --resume {quoted}. visus predict needs no data."
        python = f"{again}.evaluate(new_path), or visus.resume({str(folder)!r}, new_path). {again}.predict needs no data."
        raise DataError(
            f"the data that the run {folder.name} was trained on is no longer there. If it was moved, name its new place once: "
            f"{for_caller(command, python)}",
            where=str(there),
        )
    return open_data(
        there,
        preprocessing=preprocessing,
        labels=_labels_at(labels, facts["path"], there),
        split=_rows_of(folder, facts),
        max_unreadable=facts["max_unreadable"],
        cache_dir=cache_dir,
        num_workers=num_workers,
        on_event=on_event,
        should_stop=should_stop,
        **Reading.from_json(facts.get("reading")).to_json(),
    )


def refuse_no_path(data: object) -> None:
    """Raise an error for other data that is no path, such as a ``DataLoader``.

    Raises:
        UsageError: it is no path.
    """
    if not isinstance(data, (str, os.PathLike)):
        remedy = "Give loader.dataset" if hasattr(data, "dataset") else "Give its folder or file"
        raise UsageError(
            f"other data for a run must be a path, opened data, a table of pandas or a dataset with a length, and not {with_article(type(data).__name__)}. {remedy}; run.evaluate takes a "
            "pair of arrays too: (samples, labels)."
        )


def reading_of(facts: dict[str, Any]) -> dict[str, object]:
    """The arguments of ``visus.open_data`` with which the data of a run was read, from its ``data.json``."""
    labels = {"labels": facts["labels"]} if facts.get("labels") else {}
    return {**Reading.from_json(facts.get("reading")).to_json(), **labels}


def _rows_of(folder: Path, facts: dict[str, Any]) -> Sequence[SplitRow]:
    """The rows of a run's ``split.csv``; those of a fold may contradict the split that the data itself defines."""
    rows = read_split_csv(folder / "split.csv")
    return FoldRows(rows) if facts.get("fold") else rows


def as_own(folder: Path, data: Data) -> Data | None:
    """Opened data with the run's original split, if it is the run's own data; else None.

    It is the run's own if its fingerprint is the same at any path, or if the samples with equal bytes are at least half of
    this data and half of the run's. Renamed samples keep their split by their bytes, edited samples by their name. New
    samples are dropped.
    """
    run = RunFolder.open(folder)
    rows, contents = {row.sample: row for row in read_split_csv(run.path / "split.csv")}, _read_contents(run)
    table = data.table
    if is_own(run.path, data):
        splits: list[str | None] = [rows[sample].split for sample in table.names]
        return in_splits(data, splits, ())
    by_content = {content: rows[sample].split for sample, content in contents.items() if sample in rows}
    own = digits_of(table)
    known = [content in by_content for content in own]
    if not own or sum(known) < _MIN_SHARE * max(len(own), len(rows)):
        return None
    edited = [sample in rows and not is_known for sample, is_known in zip(table.names, known, strict=True)]
    splits = known_splits(table, list(rows.values()), contents)
    if not {"val", "test"} & set(splits):
        return None
    new = [sample for sample, split in zip(table.names, splits, strict=True) if split is None]
    contents_here = set(own)
    there = {*table.names, *(sample for sample, content in contents.items() if content in contents_here)}
    missing = [sample for sample in rows if sample not in there]
    lines = [f"this is the data of the run {run.path.name}, changed since its training; it is split as it was."]
    if any(edited):
        names = [sample for sample, is_edited in zip(table.names, edited, strict=True) if is_edited]
        lines.append(
            f"{write_number_of(len(names), 'sample')} with other content than in the training: {write_names(names)}."
        )
    if new:
        lines.append(f"{write_number_of(len(new), 'sample')} that the run does not know, dropped: {write_names(new)}.")
    if missing:
        lines.append(f"{write_number_of(len(missing), 'sample')} of the run not here: {write_names(missing)}.")
    return in_splits(data, splits, tuple(lines))


def is_own(folder: Path, data: Data) -> bool:
    """Whether the data is the unchanged training data of a run."""
    return bool(data.fingerprint == RunFolder.open(folder).read_json("data.json")["fingerprint"])


def in_own_split(folder: Path, data: Data) -> Data:
    """The unchanged training data of a run, in the run's split and with the scaling that was measured on it."""
    run = RunFolder.open(folder)
    facts, rows = run.read_json("data.json"), {row.sample: row.split for row in read_split_csv(run.path / "split.csv")}
    splits = [rows[sample] for sample in data.table.names]
    if splits == data.table.splits.tolist():
        return data
    plan, own = data.preprocessing, Preprocessing.from_dict(facts["preprocessing"])
    if plan.normalize == own.normalize and plan.input_shape == own.input_shape:
        plan = dataclasses.replace(plan, offset=own.offset, divisor=own.divisor)
    return dataclasses.replace(in_splits(data, splits, ()), preprocessing=plan, **_asked_split(facts))


def _asked_split(facts: dict[str, Any]) -> dict[str, Any]:
    """What was asked for the split of a run: fields of ``Data``."""
    return {name: facts.get(name) for name in ("split_seed", "val_fraction", "test_fraction")}


def num_learned(folder: Path, data: Data) -> dict[str, int]:
    """Number of validation and of test samples of this data with the bytes of a training sample of a run, or for test samples of a validation sample."""
    run = RunFolder.open(folder)
    splits = {row.sample: row.split for row in read_split_csv(run.path / "split.csv")}
    chosen: set[str] = set()
    learned: set[str] = set()
    for sample, content in _read_contents(run).items():
        if splits.get(sample) == "val":
            chosen.add(content)
        elif splits.get(sample) == "train":
            learned.add(content)
    known = {"val": learned - chosen, "test": learned | chosen}  # the run's own validation samples may be scored again
    counts = dict.fromkeys(known, 0)
    for content, split in zip(digits_of(data.samples), data.samples.splits.tolist(), strict=False):
        if content in known.get(split, ()):
            counts[split] += 1
    return counts


def common_tested(left: Path, right: Path) -> tuple[int, int]:
    """How many test samples of one run are test samples of another too, and how many are training or validation samples there."""
    here, there = (RunFolder.open(each) for each in (left, right))
    before = {each: row.split for each, row in zip(*_known_rows(here), strict=True)}
    after = {each: row.split for each, row in zip(*_known_rows(there), strict=True)}
    splits = [after.get(each) for each, split in before.items() if split == "test"]
    return splits.count("test"), splits.count("train") + splits.count("val")


def _known_rows(run: RunFolder) -> tuple[list[str], list[SplitRow]]:
    """The content of each sample of a run, or its name where the content is unknown, and its row."""
    contents, rows = _read_contents(run), list(read_split_csv(run.path / "split.csv"))
    return [contents.get(row.sample, row.sample) for row in rows], rows


def remember_place(folder: Path, data: Data) -> str:
    """Save the new path of a run's data if it was moved; returns a sentence on the change, or an empty string.

    Only data with the same fingerprint counts; a read-only run does not change.
    """
    run = RunFolder.open(folder)
    facts = run.read_json("data.json")
    known = facts["path"]
    if data.given is None or data.fingerprint != facts["fingerprint"] or known is None or os.path.exists(known):
        return ""
    labels = _labels_at(facts.get("labels"), known, data.given)
    try:
        run.write_json("data.json", {**facts, "path": str(data.given), "labels": labels})
    except StorageError:
        return ""
    return f"the run {run.path.name} now looks for its data at {data.given}; it was at {known}."


def _labels_at(labels: str | None, before: str | None, now: str | Path | None) -> str | None:
    """Where the file of the labels is, if it is one and moved with the data.

    Raises:
        DataError: it is gone.
    """
    if labels is None or not os.path.isabs(labels) or os.path.isfile(labels):
        return labels
    if before is not None and now is not None and Path(labels).is_relative_to(before):
        moved = Path(now).resolve() / Path(labels).relative_to(before)
        if moved.is_file():
            return str(moved)
    raise DataError("the label file that this run was trained with is missing. Put it back.", where=labels)


def _read_contents(run: RunFolder) -> dict[str, str]:
    """Sample and digits; nothing for a run from before they were kept."""
    return parse_contents(run.read_text(CONTENTS_FILE)) if (run.path / CONTENTS_FILE).is_file() else {}


def _changes(run: RunFolder, facts: dict[str, Any], place: str | Path | None) -> list[str]:
    """What differs between the data as it is and as it was trained on; empty if it cannot be lines."""
    there = facts["path"] if place is None else place
    contents = _read_contents(run)
    try:
        reading = Reading.from_json(facts.get("reading"))
        labels_there = _labels_at(facts.get("labels"), facts["path"], there)
        now = read_source(there, Ledger(), labels=labels_there, reading=reading)
    except DataError:
        return []
    digests = dict(zip(now.names, digits_of(now), strict=False))
    rows = {row.sample: row for row in read_split_csv(run.path / "split.csv")}
    labels = dict(zip(now.names, now.label_texts(), strict=True))
    parts = {
        "missing": [sample for sample in rows if sample not in digests],
        "new": [sample for sample in digests if sample not in rows],
        "of other content": [sample for sample, was in contents.items() if sample in digests and digests[sample] != was],
        "under another label": [sample for sample, row in rows.items() if sample in labels and labels[sample] != row.label],
    }
    return [
        f"{write_number_of(len(samples), 'sample')} {kind}: {write_names(samples)}."
        for kind, samples in parts.items()
        if samples
    ]


def _changed(run: RunFolder, facts: dict[str, Any], place: str | Path | None, changes: Sequence[str]) -> DataError:
    there = str(facts["path"] if place is None else place)
    listed = f" {' '.join(changes)}" if changes else ""
    folder, data, split = (near_path(path) for path in (run.path, there, run.path / "split.csv"))
    read = reading_of(facts)
    scored = {name: value for name, value in read.items() if name not in ("task", "labels")}  # the run has its task
    return DataError(
        f"this data has changed since the run {run.path.name} was trained on it.{listed} To evaluate the run on the samples that it "
        f"knows, also moved ones: {evaluate_call(folder, data, scored)}. To train on the data as it is now, with known samples in their splits: "
        f"{train_call(data, split, read)}",
        where=there,
    )
