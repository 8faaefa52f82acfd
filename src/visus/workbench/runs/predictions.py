"""Labels for files, folders and arrays: one prediction for each sample, in order, computed in chunks. Works without PyTorch.

Shape letters: N samples, C channels, K classes, * the spatial axes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from visus.data.contact_sheet import MAX_SAMPLES, Captioned, contact_sheet
from visus.data.ledger import FAR_OFF, Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import ImageError, UsageError, VisusError, printable
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Table, Text, write_html_rows, write_rows
from visus.units import write_shape, write_share
from visus.workbench.runs.predict_inputs import (
    LABELED,
    ArraySample,
    ImageSample,
    PillowSample,
    Sample,
    Source,
    UnreadSample,
    find_samples,
    is_array,
    refuse_missing,
)
from visus.workbench.runs.prediction import ClassProbabilities, Decision, Prediction
from visus.workbench.runs.sorting import SortedFiles, refuse_probability, sort_files
from visus.workbench.runs.value_range import SCALED

if TYPE_CHECKING:  # a bundle is used where rich may be missing
    from visus.workbench.live_line import LiveLine


class Predictor(Protocol):
    """What predicts: a run or a bundle."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How every sample is converted."""

    @property
    def decision(self) -> Decision:
        """How the numbers that it answers become a prediction."""

    @property
    def chunk(self) -> int:
        """Samples that are read and predicted together."""

    @property
    def num_threads(self) -> int:
        """Threads that read the samples, and threads of one prediction."""

    def probabilities(self, samples: Pixels) -> npt.NDArray[Any]:
        """Calibrated probabilities (N, K) for stored samples (N, C, *); of regression the numbers."""

    def learned(self, samples: Pixels) -> Iterable[int]:
        """Places of the samples with the content of one that the network learned from."""


Files: TypeAlias = "Source | Iterable[Source]"


_LABEL_COLUMNS: Final = ("file", "label", "probability")
_SET_COLUMNS: Final = ("file", "labels", "probability")
_MAX_PRINTED: Final = 10
"""Predictions that ``print`` shows."""

_USE: Final = "iterate over them, list(predictions) or print(predictions); .ledger has the changes made to the samples"

_Drawn = tuple[Prediction, Pixels | None, Sample]
"""A prediction, the stored values of its sample (None where it cannot be read), and the sample."""


class Predictions(Iterator[Prediction]):
    """An iterator over predictions in the order of the samples, computed lazily in chunks of some hundred.

    ``print`` shows the first ten as a table, and a notebook the first ones with their samples; iterating then still starts with the first.

    Args:
        found: the predictions with their samples.
        ledger: changes made to the samples; complete after the last prediction.
        notes: remarks on the probabilities.
        classes: the classes of the network.
        task: what the network predicts.
        line: shows the progress; None shows nothing.
        count: counts the samples without predicting them; None where they can be read only once.

    >>> predictions = run.predict(images)
    >>> predictions
    Predictions
      next  iterate over them, list(predictions) or print(predictions); .ledger has the changes made to the samples
    >>> len(list(predictions)) == len(images)
    True
    """

    def __init__(
        self,
        found: Iterator[_Drawn],
        ledger: Ledger,
        notes: Sequence[str],
        classes: Sequence[str],
        line: LiveLine | None = None,
        count: Callable[[], int] | None = None,
        task: str = "single-label",
    ) -> None:
        self.classes, self.task = tuple(classes), task
        self._count, self._num_taken = count, 0
        self._found, self.ledger, self.notes, self._line = found, ledger, tuple(notes), line
        self._shown: deque[_Drawn] = deque()  # computed to be shown, and not yet returned
        self._failed: VisusError | None = None  # raised while showing, and not yet by iterating

    def __repr__(self) -> str:
        return write_rows("Predictions", [("next", _USE)])

    def __str__(self) -> str:
        return str(self.text())

    def text(self) -> Text:
        """The next ten predictions as a table, and the number of those after them. Iterating then still starts with the first.

        >>> print(run.predict(images[:1]).text()[0].headings)
        ('file', 'label', 'probability')
        """
        self._compute_shown(_MAX_PRINTED)
        shown = [answer for answer, _, _ in itertools.islice(self._shown, _MAX_PRINTED)]
        heads, numbers = self._headings()
        rows = tuple((printable(each.file), *self._cells(each)) for each in shown)
        error = (f"error: {self._failed}",) if self._failed is not None else ()
        if not rows:
            return Text(error or ("no predictions are left",))
        more = self._words_of_more() if len(self._shown) > len(rows) else ""
        return Text((Table(rows, heads, numbers), *([more] if more else []), *error))

    def _headings(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The headings of the printed table, and the places of its columns of numbers."""
        if self.task == "regression":
            headings = ("90 % interval",)
            every = ("file", *(head for name in self.classes for head in (name, *headings)))
            return every, tuple(range(1, len(every)))
        if self.task == "multi-label":
            return _SET_COLUMNS, ()
        return _LABEL_COLUMNS, (2,)

    def _cells(self, answer: Prediction) -> tuple[str, ...]:
        """The cells of a prediction behind its file."""
        if answer.error is not None:
            return (f"no prediction: {answer.error}", *([""] * (len(self._headings()[0]) - 2)))
        if self.task == "regression":
            return tuple(
                cell
                for each in answer.numbers
                for cell in (
                    f"{each.value:.4g}",
                    "-" if each.low is None or each.high is None else f"{each.low:.4g} to {each.high:.4g}",
                )
            )
        if self.task == "multi-label":
            return ", ".join(answer.labels) or "-", ", ".join(map(write_share, answer.probabilities))
        return str(answer.label), write_share(answer.probability)

    def _words_of_more(self) -> str:
        """How many predictions follow those that are printed."""
        if self._count is not None:
            with contextlib.suppress(VisusError):  # of a later sample, which iterating raises
                return f"... and {self._count() - self._num_taken - _MAX_PRINTED:,} more"
        return "... and more"

    def _repr_html_(self) -> str:
        self._compute_shown(MAX_SAMPLES)
        drawn = list(self._shown)[:MAX_SAMPLES]
        samples = [Captioned(pixels, answer._words(), answer.file) for answer, pixels, _ in drawn]
        title = f"the first {len(drawn)} predictions" if len(self._shown) > len(drawn) else "predictions"
        rows = [("next", _USE), *([("error", str(self._failed))] if self._failed else [])]
        return write_html_rows("Predictions", rows) + contact_sheet(title, samples)

    def _compute_shown(self, limit: int) -> None:
        """Compute the predictions that are shown, and one more if there are more."""
        try:
            while len(self._shown) <= limit and self._failed is None:
                self._shown.append(self._compute())
        except StopIteration:
            pass
        except VisusError as error:
            self._failed = error

    def __iter__(self) -> Predictions:
        return self

    def __next__(self) -> Prediction:
        return self._take()[0]

    def _take(self) -> _Drawn:
        """The next prediction: one that was shown, or a computed one."""
        if self._shown:
            self._num_taken += 1
            return self._shown.popleft()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        found = self._compute()
        self._num_taken += 1
        return found

    def sort_into(self, folder: str | Path, at_least: float | None = None) -> SortedFiles:
        """Copy each file into a folder of its label: ``folder/cat/1.jpg``. This computes the predictions that are left.

        Originals stay where they are, and no file is ever overwritten: a second ``1.jpg`` becomes ``1 (2).jpg``. A file that is there
        already, with the same name and content, is counted and not copied again, so a sorting can be repeated.

        Args:
            folder: where the folders are made; not within a folder that is predicted.
            at_least: the lowest probability; files below it go to ``folder/unsure``. Default: each goes to its label. Unreadable
                files go to ``folder/unreadable``.

        Returns:
            The number of files in each folder.

        Raises:
            UsageError: the probability is not between 0 and 1, the folder cannot be used, or a sample is no file but an array.
            StorageError: a copy cannot be written.

        >>> sorting = run.predict([]).sort_into("sorted", at_least=0.9)
        >>> sorting.folders
        ()
        """
        if self.task != "single-label":
            raise UsageError(
                f"a folder for each label needs one class for each sample, and this network predicts {self.task}."
            )
        refuse_probability(at_least)
        return sort_files(self._with_files(), folder, self.classes, at_least)

    def _with_files(self) -> Iterator[tuple[Prediction, Path | None, Path | None]]:
        """Each prediction with its file, and with the folder that was given for it."""
        while True:
            try:
                answer, _, sample = self._take()
            except StopIteration:
                return
            yield answer, *((sample.path, sample.folder) if isinstance(sample, ImageSample) else (None, None))

    def _compute(self) -> _Drawn:
        """The next prediction with its sample."""
        try:
            found = next(self._found)
        except BaseException as error:
            self._close(is_done=isinstance(error, StopIteration))
            raise
        if self._line is not None:
            self._line.hide()  # whoever iterates may print
        return found

    def __getitem__(self, place: object) -> Never:
        """Raise an error that names the remedy: predictions are computed one after the other."""
        raise UsageError(
            f"predictions are computed one after the other, and have no place {place!r}. Make a list first: list(predictions)[0]."
        )

    def _close(self, *, is_done: bool) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close(is_done=is_done)

    def sentences(self) -> list[str]:
        """The notes, and the changes made to the samples so far. Unreadable samples are reported in their own
        predictions.

        >>> predictions = run.predict(images)
        >>> all(sentence.startswith(("note: ", "ledger: ")) for sentence in predictions.sentences())
        True
        """
        known = {"unreadable", *([FAR_OFF] if any(SCALED in note for note in self.notes) else [])}
        done = [facts["sentence"] for action, facts in self.ledger.as_dict().items() if action not in known]
        return [*(f"note: {note}" for note in self.notes), *(f"ledger: {sentence}" for sentence in done)]


def predict_with(
    predictor: Predictor,
    files: Files,
    notes: Sequence[str],
    *,
    top: int = 1,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Predictions:
    """Labels for files, folders of files, or arrays; the arguments are those of ``Run.predict``.

    Raises:
        UsageError: an array does not fit the network, no array can be used, or ``top`` exceeds the number of classes.
        DataError: none of the paths exists.
    """
    refuse_top(top, predictor.classes, predictor.decision.task)
    is_single = isinstance(files, (str, os.PathLike, Image.Image)) or is_array(files)
    if hasattr(files, "columns") and not is_single:
        raise UsageError(
            f"files are paths, arrays or images of Pillow, and not a {type(files).__name__}. Give the column of its paths as a list, such as list(table['path'])."
        )
    given = cast("Iterable[Source]", [files] if is_single else files)
    if not isinstance(given, Iterable):
        remedy = LABELED if hasattr(files, "__getitem__") else "Give one of these, or a list of them."
        raise UsageError(f"files are paths, arrays or images of Pillow, and not a {type(files).__name__}. {remedy}")
    paths = [files] if isinstance(files, (str, os.PathLike)) else files if isinstance(files, (list, tuple)) else []
    if paths and all(isinstance(each, (str, os.PathLike)) for each in paths):
        refuse_missing(list(map(str, paths)))
    ledger = Ledger()
    monitor = Monitor(on_event, should_stop)
    line = _live_line(progress)
    followed = monitor if line is None else line.followed(monitor)
    found = _predict(predictor, given, top, ledger, followed)
    count = functools.partial(_num_samples, given, predictor.preprocessing) if isinstance(given, (list, tuple)) else None
    return Predictions(found, ledger, notes, predictor.classes, line, count, predictor.decision.task)


def refuse_top(top: int, classes: Sequence[str], task: str = "single-label") -> None:
    """Raise an error for a number of classes that no prediction can have.

    Raises:
        UsageError: it is below 1, or exceeds the number of classes.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}.")
    if top > 1 and task != "single-label":
        all_of = "all numbers" if task == "regression" else "all classes that reach their threshold"
        raise UsageError(f"a prediction of {task} has {all_of}, so top has no effect. Leave it out.")
    if top > len(classes):
        raise UsageError(f"top is {top}, and this network has {len(classes)} classes.")


def _live_line(progress: bool | None) -> LiveLine | None:
    """The line that shows the progress; None where it is turned off, or where rich is not installed."""
    try:
        from visus.workbench.live_line import LiveLine, error_console, is_shown
    except ImportError:
        return None
    return LiveLine(error_console(), "predicting") if is_shown(progress) else None


def _num_samples(files: Iterable[Source], preprocessing: Preprocessing) -> int:
    """The number of samples; no image is decoded."""
    return sum(1 for _ in find_samples(files, preprocessing, Ledger()))


def _predict(predictor: Predictor, files: Iterable[Source], top: int, ledger: Ledger, monitor: Monitor) -> Iterator[_Drawn]:
    """The predictions; an error where only arrays are given and none can be used."""
    are_arrays = isinstance(files, (list, tuple)) and all(map(is_array, files))
    found = _predict_all(predictor, files, top, ledger, monitor)
    failed: list[_Drawn] = []  # those before the first answer
    for each in found if are_arrays else ():
        if each[0].error is None:
            yield from (*failed, each)
            failed = []
            break
        failed.append(each)
    if failed:
        more = f" None of the {len(failed):,} samples can be used." if len(failed) > 1 else ""
        raise UsageError(f"{failed[0][0].error}{more}", where=failed[0][0].file)
    yield from found


def _predict_all(
    predictor: Predictor, files: Iterable[Source], top: int, ledger: Ledger, monitor: Monitor
) -> Iterator[_Drawn]:
    samples = find_samples(files, predictor.preprocessing, ledger)
    chunks = iter(lambda: list(islice(samples, predictor.chunk)), [])
    for chunk in monitor.over(chunks, "predicting"):
        yield from _predict_chunk(predictor, chunk, top, ledger)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers for a chunk of samples.

    Args:
        rows: the stored values (C, *) of each sample that can be read.
        outcomes: for each sample its place in ``rows``, or why it cannot be read.
        probabilities: calibrated probabilities (len(rows), K); None without rows.
    """

    rows: list[Pixels]
    outcomes: list[int | str]
    probabilities: npt.NDArray[Any] | None


@runtime_checkable
class AnswersChunks(Protocol):
    """A predictor that reads the samples by itself, since they are read in several ways."""

    def answer(self, chunk: Sequence[Sample], ledger: Ledger) -> Answers:
        """The answers for a chunk of samples."""


def answer_chunk(predictor: Predictor, chunk: Sequence[Sample], ledger: Ledger) -> Answers:
    """Read and predict a chunk of samples; what cannot be read becomes a reason in its place."""
    if isinstance(predictor, AnswersChunks):
        return predictor.answer(chunk, ledger)
    rows, outcomes = read_chunk(predictor, chunk, ledger)
    if not rows:
        return Answers(rows, outcomes, None)
    batch = np.stack(rows)
    names = [sample.name for sample, outcome in zip(chunk, outcomes, strict=True) if not isinstance(outcome, str)]
    for place in predictor.learned(batch):
        ledger.note("learned from", names[place])
    return Answers(rows, outcomes, predictor.probabilities(batch))


def read_chunk(predictor: Predictor, chunk: Sequence[Sample], ledger: Ledger) -> tuple[list[Pixels], list[int | str]]:
    """The stored values of the samples that can be read, and for each sample its place among them, or why it cannot be read."""
    rows: list[Pixels] = []
    outcomes: list[int | str] = []
    for found, notes in _read_all(predictor, chunk):
        ledger.merge(notes)
        if isinstance(found, str):
            outcomes.append(found)
        else:
            outcomes.append(len(rows))
            rows.append(found)
    return rows, outcomes


def _read_all(predictor: Predictor, chunk: Sequence[Sample]) -> Iterator[tuple[Pixels | str, Ledger]]:
    """The stored values of each sample in order, or why it cannot be read, with its changes. Decoders release the GIL, so threads help."""

    def read(sample: Sample) -> tuple[Pixels | str, Ledger]:
        notes = Ledger()
        try:
            pixels = read_sample(sample, predictor.preprocessing, notes)
        except ImageError as error:
            reason = error.message
        except MemoryError:
            reason = "this cannot be read (there is not enough memory)."
        except OSError as error:
            reason = f"this cannot be read ({error.strerror or error})."
        else:
            if predictor.preprocessing.shuffle_seed is not None:
                notes.note("shuffled", sample.name)
            return pixels, notes
        notes.note("unreadable", sample.name, reason)
        return reason, notes

    num_readers = min(predictor.num_threads, len(chunk))
    if num_readers < 2:
        yield from map(read, chunk)
        return
    with ThreadPoolExecutor(num_readers) as pool:
        yield from pool.map(read, chunk)


def _predict_chunk(predictor: Predictor, chunk: Sequence[Sample], top: int, ledger: Ledger) -> Iterator[_Drawn]:
    found = answer_chunk(predictor, chunk, ledger)
    rows, decision, classes = found.rows, predictor.decision, predictor.classes
    answers: list[list[tuple[str, float]]] = []
    places = {name: place for place, name in enumerate(classes)}
    if found.probabilities is not None and decision.task == "single-label":
        answers = top_k(found.probabilities, classes, top)
    for sample, outcome in zip(chunk, found.outcomes, strict=True):
        if isinstance(outcome, str):
            yield Prediction(sample.name, error=outcome), None, sample
        elif decision.task != "single-label":
            assert found.probabilities is not None, "there are rows"
            answers_of = found.probabilities[outcome].tolist()
            yield decision.prediction_of(sample.name, answers_of, classes), rows[outcome], sample
        else:
            labels, probabilities = zip(*answers[outcome], strict=True)
            assert found.probabilities is not None, "there are rows"
            every = ClassProbabilities(places, found.probabilities[outcome])
            yield Prediction(sample.name, labels, probabilities, class_probabilities=every), rows[outcome], sample


def ranked(probabilities: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Columns of the ``k`` largest probabilities of each sample, the largest first, and these probabilities, both (N, k).

    Equal probabilities keep the order of the columns.
    """
    values = np.asarray(probabilities, dtype=np.float32)
    if k == 1 and np.isfinite(values).all():
        places = values.argmax(axis=1, keepdims=True)
    else:
        places = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(values, places, axis=1)


def top_k(probabilities: npt.NDArray[Any], classes: Sequence[str], k: int = 1) -> list[list[tuple[str, float]]]:
    """The ``k`` most probable classes of each sample, the most probable first; all classes if there are fewer.

    Equal probabilities keep the order of ``classes``.

    Args:
        probabilities: (N, K).
        classes: name of each column.
        k: number of classes per sample, at least 1.

    >>> top_k(np.array([[0.1, 0.7, 0.2]]), ["bag", "boot", "coat"], k=2)
    [[('boot', 0.7), ('coat', 0.2)]]
    """
    places, chosen = ranked(probabilities, k)
    # float32 holds seven digits: 0.7 prints as 0.7.
    return [
        [(classes[place], round(value, 7)) for place, value in zip(*row, strict=True)]
        for row in zip(places.tolist(), chosen.tolist(), strict=True)
    ]


def read_sample(sample: Sample, preprocessing: Preprocessing, ledger: Ledger) -> Pixels:
    """The stored values (C, *) of a sample.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(sample, UnreadSample):
        raise ImageError(sample.problem, where=sample.name)
    if isinstance(sample, ArraySample):
        row = preprocessing.fit_row(sample.row, ledger, sample.name)
        if preprocessing.is_far_off(row):
            ledger.note(FAR_OFF, sample.name)
        return row
    if preprocessing.kind == "array" and not preprocessing.is_image_like:
        raise ImageError(
            f"this network reads {preprocessing.noun}s of {write_shape(preprocessing.input_shape)} from NPZ or NPY files, "
            f"and this is an image."
        )
    source = sample.image if isinstance(sample, PillowSample) else sample.path
    pixels = preprocessing.read_image(source, ledger, name=sample.name)
    if preprocessing.looks_inverted(pixels):
        ledger.note("looks inverted", sample.name)
    return pixels
