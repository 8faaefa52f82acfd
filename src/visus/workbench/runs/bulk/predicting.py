"""Predict any number of samples into a table: list them, predict the parts that are not finished, join all parts."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from visus.caller import option
from visus.data.ledger import Ledger
from visus.errors import StorageError, UsageError
from visus.files import write_chunks, write_file
from visus.progress import Monitor, OnEvent, Progress, ShouldStop
from visus.units import write_number_of
from visus.workbench.runs.bulk.cluster import predict_on_ray
from visus.workbench.runs.bulk.inputs import Chunk, read_chunks, write_list
from visus.workbench.runs.bulk.parts import PartsFolder, Plan, Totals, refuse_taken
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.bulk.rows import Columns
from visus.workbench.runs.bulk.tables import ParquetTable, table_format
from visus.workbench.runs.bulk.work import BulkPredictor, Job, Schedule, predict_here
from visus.workbench.runs.predict_inputs import find_samples, refuse_missing
from visus.workbench.runs.predictions import refuse_top

PART_SIZE: Final = 512
"""Samples of a part, at least; a whole number of batches."""
_WINDOW_S: Final = 60.0  # the speed is that of the last minute

Paths = str | Path | Sequence[str | Path]


def predict_to(
    predictor: BulkPredictor,
    files: Paths,
    out: str | Path,
    notes: Sequence[str] = (),
    *,
    top: int = 1,
    probabilities: bool = False,
    cluster: str | None = None,
    schedule: Schedule | None = None,
    part_size: int | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> BulkPredictions:
    """Write predictions to a table; the arguments are those of ``Run.predict_to``.

    Args:
        predictor: predicts.
        files: files, folders, patterns and tables.
        out: the table.
        notes: remarks on the probabilities.
        top: number of classes of each prediction.
        probabilities: add a column for each class.
        cluster: ``local``, or the address of a Ray cluster; None computes in this process.
        schedule: distributes the parts; default: as ``cluster`` says.
        part_size: samples of a part, at least; default: ``PART_SIZE``.
        progress, on_event, should_stop: as for ``Run.predict_to``.

    Raises:
        UsageError: an argument cannot be used, the table exists, or the parts of an earlier call are of another network or other samples.
        DataError: none of the paths exists.
        StorageError: the disk is full; a further call continues.
        MissingExtraError: pyarrow or ray is not installed.
        CanceledError: ``should_stop`` returned True; a further call continues.
    """
    columns = _columns(predictor, top, probabilities=probabilities)
    if hasattr(files, "columns"):
        raise UsageError(
            f"predict_to takes paths, and not a {type(files).__name__}. Give the column of its paths as a list, such as list(table['path'])."
        )
    paths = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if odd := [each for each in paths if not isinstance(each, (str, os.PathLike))]:
        raise UsageError(
            f"predict_to takes paths, and not a {type(odd[0]).__name__}: a stopped call could not find it again. Save it as a file, or use predict."
        )
    refuse_missing([str(path) for path in paths])
    table = table_format(Path(out), columns)
    size = predictor.chunk * -(-(part_size or PART_SIZE) // predictor.chunk)
    plan = Plan(predictor.identity, predictor.name, (type(table).__name__, *table.columns.names), size)
    job = Job(Path(os.path.abspath(out)), plan, table)
    if schedule is None:
        schedule = predict_here if cluster is None else predict_on_ray(cluster)
    line = _live_line(progress)
    monitor = Monitor(on_event, should_stop)
    if line is None:
        return _Writer(job, predictor, tuple(notes), monitor).write(paths, schedule)
    with line:
        return _Writer(job, predictor, tuple(notes), line.followed(monitor)).write(paths, schedule)


def _columns(predictor: BulkPredictor, top: int, *, probabilities: bool) -> Columns:
    """The columns of the table of a network.

    Raises:
        UsageError: an argument has no effect for its task, or exceeds the number of classes.
    """
    task, classes = predictor.decision.task, predictor.classes
    refuse_top(top, classes, task)
    if probabilities and task != "single-label":
        has = "no probabilities" if task == "regression" else "the probability of each class anyway"
        raise UsageError(f"a table of {task} has {has}, so {option('probabilities')} has no effect. Leave it out.")
    return Columns(top, classes if probabilities or task != "single-label" else (), task)


def _live_line(progress: bool | None) -> Any:
    """The line that shows the progress; None where it is turned off, or where rich is not installed."""
    try:
        from visus.workbench.live_line import LiveLine, error_console, is_shown
    except ImportError:
        return None
    return LiveLine(error_console()) if is_shown(progress) else None


class _Writer:
    """Writes one table."""

    def __init__(self, job: Job, predictor: BulkPredictor, notes: tuple[str, ...], monitor: Monitor) -> None:
        self._job, self._predictor, self._notes, self._monitor = job, predictor, notes, monitor
        self._folder = PartsFolder(job.out)
        self._seconds, self._num_kept, self._num_done, self._total = 0.0, 0, 0, 0

    def write(self, paths: Sequence[str | Path], schedule: Schedule) -> BulkPredictions:
        """Predict what is not finished, and join all parts."""
        if not self._folder.path.exists():
            refuse_taken(self._folder)
        with self._folder.locked():
            if (facts := self._folder.published()) is not None:
                self._folder.remove()
                return self._result(Totals(**facts["totals"]), num_kept=facts["totals"]["num_samples"])
            if os.path.lexists(self._job.out):
                if not self._folder.has_plan:
                    self._folder.remove()
                refuse_taken(self._folder)
            self._folder.forget_unfinished()
            self._folder.refuse_other(self._job.plan)
            try:
                ledger = self._list(paths)
                chunks = read_chunks(self._folder.list, self._job.plan.part_size)
                self._predict(chunks, schedule)
                totals = Totals()
                totals.add_ledger(ledger)
                self._join(chunks, totals)
            except StorageError as error:
                raise StorageError(
                    f"{error.message} {self._num_done:,} of {write_number_of(self._total, 'sample')} are predicted and kept; the same call continues.",
                    where=error.where,
                ) from error
        return self._result(totals, num_kept=self._num_kept)

    def _list(self, paths: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
        """Write the list of samples, or compare it with that of an earlier call; returns the changes that the search noted."""
        ledger = Ledger()
        write_list(find_samples(paths, self._predictor.preprocessing, ledger), self._folder.new_list, self._monitor)
        try:
            self._folder.begin(self._job.plan)
        finally:
            self._folder.new_list.unlink(missing_ok=True)
        return ledger.as_dict()

    def _predict(self, chunks: Sequence[Chunk], schedule: Schedule) -> None:
        finished = self._folder.finished(self._job.plan, chunks)
        self._total = sum(chunk.num_samples for chunk in chunks)
        self._num_kept = self._num_done = sum(chunk.num_samples for chunk in chunks if chunk.number in finished)
        left = [chunk for chunk in chunks if chunk.number not in finished]
        meter = _Meter(self._monitor, self._num_kept, self._total)
        for facts in schedule(self._job, self._predictor, left, meter.add) if left else ():
            self._num_done += facts.num_samples
        self._seconds = meter.seconds

    def _join(self, chunks: Sequence[Chunk], totals: Totals) -> None:
        """Join the parts to the table, and move it to its place."""
        table, out = self._job.table, self._folder.table
        parts = self._folder.rows(self._job.plan, chunks, totals)
        followed = self._monitor.over(parts, "joining the parts", len(chunks), count=lambda _: 1)
        if isinstance(table, ParquetTable) and not self._job.out.suffix:
            out.mkdir()
            for number, content in enumerate(table.files(followed)):
                write_file(out / f"part-{number:05d}.parquet", content)
        else:
            write_chunks(out, table.join(followed))
        self._folder.publish({"totals": vars(totals)})

    def _result(self, totals: Totals, num_kept: int) -> BulkPredictions:
        labels = dict(sorted(totals.labels.items(), key=lambda each: (-each[1], each[0])))
        return BulkPredictions(
            self._job.out, totals.num_samples, totals.num_errors, labels, num_kept, self._seconds, totals.ledger, self._notes
        )


class _Meter:
    """Reports how many samples are predicted, and how many per second."""

    def __init__(self, monitor: Monitor, done: int, total: int) -> None:
        self._monitor, self._done, self._total = monitor, done, total
        self._began = self._now = time.monotonic()
        self._times: deque[tuple[float, int]] = deque([(self._began, done)])
        self._report()

    @property
    def seconds(self) -> float:
        """Seconds until the last samples."""
        return self._now - self._began

    def add(self, number: int) -> None:
        """Count predicted samples.

        Raises:
            CanceledError: the caller asked to stop.
        """
        self._done += number
        self._now = time.monotonic()
        self._times.append((self._now, self._done))
        while len(self._times) > 2 and self._now - self._times[1][0] > _WINDOW_S:
            self._times.popleft()
        self._report()

    def _report(self) -> None:
        (began, before), (now, done) = self._times[0], self._times[-1]
        rate = (done - before) / (now - began) if now > began else None
        self._monitor.emit(Progress("predicting", self._done, self._total, per_second=rate))
        if self._done < self._total:
            self._monitor.check("predicting", self._done, self._total)
