"""Labels for files, folders and arrays: one prediction for each sample, in order, computed in chunks."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Never

import numpy as np
import torch

from visus.data.batches import MAX_VALUES
from visus.data.contact_sheet import MAX_SAMPLES, Captioned, contact_sheet
from visus.data.contents import hash_rows
from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import ImageError, UsageError, VisusError, printable
from visus.evaluation.calibration import Calibrator
from visus.evaluation.predictions import top_k
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import write_html_rows, write_rows
from visus.training.loop import EVALUATION_BATCH
from visus.training.runs import RunFolder
from visus.units import write_shape, write_share
from visus.workbench.live_line import LiveLine, error_console, is_shown
from visus.workbench.runs.learned_samples import Known, read_known
from visus.workbench.runs.predict_inputs import ArraySample, Sample, UnreadSample, find_samples, refuse_missing
from visus.workbench.runs.saved import SavedRun, calibration_sentence, views_sentence

Files = str | Path | Pixels | torch.Tensor | Iterable[str | Path | Pixels | torch.Tensor]


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one sample.

    Args:
        file: the file, with the row in brackets if it has several samples.
        labels: class names, the most probable first; empty if there is no prediction.
        probabilities: their probabilities, 0 to 1.
        error: why there is no prediction; None if there is one.

    >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1))
    Prediction(new.jpg: cat, 90.0 %; dog, 10.0 %)
    >>> Prediction("old.jpg", error="there is no such file or folder.")
    Prediction(old.jpg: no prediction: there is no such file or folder.)
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None

    def __repr__(self) -> str:
        return f"Prediction({printable(self.file)}: {self._words()})"

    def _words(self) -> str:
        """The most probable classes with their probabilities, or why there are none."""
        if not self.labels:
            return f"no prediction: {self.error}"
        pairs = list(zip(self.labels, self.probabilities, strict=True))
        words = [f"{label}, {write_share(probability)}" for label, probability in pairs[:_MAX_SHOWN]]
        more = len(pairs) - len(words)
        return "; ".join([*words, *([f"and {more:,} more"] if more else [])])

    @property
    def label(self) -> str | None:
        """The most probable class; None if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).label
        'cat'
        >>> Prediction("old.jpg", error="there is no such file or folder.").label is None
        True
        """
        return self.labels[0] if self.labels else None

    @property
    def probability(self) -> float:
        """Probability of ``label``; NaN if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).probability
        0.9
        >>> Prediction("old.jpg", error="there is no such file or folder.").probability
        nan
        """
        return self.probabilities[0] if self.probabilities else math.nan


_MAX_SHOWN: Final = 5
"""Classes of a prediction in its ``repr``."""

_USE: Final = "iterate over them, or list(predictions); .ledger has the changes made to the samples"

_Drawn = tuple[Prediction, Pixels | None]
"""A prediction, and the stored values of its sample; None where it cannot be read."""


class Predictions(Iterator[Prediction]):
    """An iterator over predictions in the order of the samples, computed lazily in chunks of some hundred.

    A notebook shows the first ones with their samples; iterating then still starts with the first.

    Args:
        found: the predictions with their samples.
        ledger: changes made to the samples; complete after the last prediction.
        notes: remarks on the probabilities.
        line: shows the progress; None shows nothing.

    >>> predictions = run.predict(images)
    >>> predictions
    Predictions
      next  iterate over them, or list(predictions); .ledger has the changes made to the samples
    >>> len(list(predictions)) == len(images)
    True
    """

    def __init__(self, found: Iterator[_Drawn], ledger: Ledger, notes: Sequence[str], line: LiveLine | None = None) -> None:
        self._found, self.ledger, self.notes, self._line = found, ledger, tuple(notes), line
        self._shown: deque[_Drawn] = deque()  # computed for a notebook, and not yet returned
        self._failed: VisusError | None = None  # raised for a notebook, and not yet by iterating

    def __repr__(self) -> str:
        return write_rows("Predictions", [("next", _USE)])

    def _repr_html_(self) -> str:
        self._compute_shown()
        drawn = list(self._shown)[:MAX_SAMPLES]
        samples = [Captioned(pixels, answer._words(), answer.file) for answer, pixels in drawn]
        title = f"the first {len(drawn)} predictions" if len(self._shown) > len(drawn) else "predictions"
        rows = [("next", _USE), *([("error", str(self._failed))] if self._failed else [])]
        return write_html_rows("Predictions", rows) + contact_sheet(title, samples)

    def _compute_shown(self) -> None:
        """Compute the predictions that a notebook shows, and one more if there are more."""
        try:
            while len(self._shown) <= MAX_SAMPLES and self._failed is None:
                self._shown.append(self._compute())
        except StopIteration:
            pass
        except VisusError as error:
            self._failed = error

    def __iter__(self) -> Predictions:
        return self

    def __next__(self) -> Prediction:
        if self._shown:
            return self._shown.popleft()[0]
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        return self._compute()[0]

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
        done = [facts["sentence"] for action, facts in self.ledger.as_dict().items() if action != "unreadable"]
        return [*(f"note: {note}" for note in self.notes), *(f"ledger: {sentence}" for sentence in done)]


def predict(
    run: SavedRun,
    files: Files,
    *,
    top: int = 1,
    raw: bool = False,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Predictions:
    """Labels for files, folders of files, or arrays; the arguments are those of ``Run.predict``.

    Raises:
        UsageError: an array does not fit the network, no array can be used, or ``top`` exceeds the number of classes.
        DataError: none of the paths exists.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}.")
    if top > len(run.classes):
        raise UsageError(f"top is {top}, and this network has {len(run.classes)} classes.")
    given = [files] if isinstance(files, (str, os.PathLike, np.ndarray, torch.Tensor)) else files
    if not isinstance(given, Iterable):
        raise UsageError(
            f"files are paths or arrays, and not a {type(files).__name__}. Give an image of Pillow as an array: numpy.asarray(image)."
        )
    paths = [files] if isinstance(files, (str, os.PathLike)) else files if isinstance(files, (list, tuple)) else []
    if paths and all(isinstance(each, (str, os.PathLike)) for each in paths):
        refuse_missing(list(map(str, paths)))
    ledger = Ledger()
    notes = [calibration_sentence(run, raw=raw), *([sentence] if (sentence := views_sentence(run)) else [])]
    line = LiveLine(error_console(), "predicting") if is_shown(progress) else None
    monitor = Monitor(on_event, should_stop)
    followed = monitor if line is None else line.followed(monitor)
    return Predictions(_predict(run, given, top, run.calibrator(raw=raw), ledger, followed), ledger, notes, line)


def _predict(
    run: SavedRun,
    files: Iterable[str | Path | Pixels | torch.Tensor],
    top: int,
    calibrator: Calibrator,
    ledger: Ledger,
    monitor: Monitor,
) -> Iterator[_Drawn]:
    """The predictions; an error where only arrays are given and none can be used."""
    are_arrays = isinstance(files, (list, tuple)) and all(isinstance(each, (np.ndarray, torch.Tensor)) for each in files)
    found = _predict_all(run, files, top, calibrator, ledger, monitor)
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
    run: SavedRun,
    files: Iterable[str | Path | Pixels | torch.Tensor],
    top: int,
    calibrator: Calibrator,
    ledger: Ledger,
    monitor: Monitor,
) -> Iterator[_Drawn]:
    samples = find_samples(files, run.preprocessing, ledger)
    learned = read_known(RunFolder.open(run.folder))
    size = max(16, min(EVALUATION_BATCH, MAX_VALUES // math.prod(run.preprocessing.input_shape)))
    chunks = iter(lambda: list(islice(samples, size)), [])
    for chunk in monitor.over(chunks, "predicting"):
        yield from _predict_chunk(run, chunk, top, ledger, calibrator, learned)


def _predict_chunk(
    run: SavedRun, chunk: Sequence[Sample], top: int, ledger: Ledger, calibrator: Calibrator, learned: Known | None
) -> Iterator[_Drawn]:
    rows: list[Pixels] = []
    outcomes: list[int | str] = []  # the place of a sample in the batch, or why it has none
    for sample in chunk:
        try:
            rows.append(_read(sample, run.preprocessing, ledger))
            outcomes.append(len(rows) - 1)
            if run.preprocessing.shuffle_seed is not None:
                ledger.note("shuffled", sample.name)
        except ImageError as error:
            ledger.note("unreadable", sample.name, error.message)
            outcomes.append(error.message)
    answers = []
    if rows and learned is not None:
        names = [sample.name for sample, outcome in zip(chunk, outcomes, strict=True) if not isinstance(outcome, str)]
        for place in np.flatnonzero(learned.marks(hash_rows(rows))[0]):
            ledger.note("learned from", names[place])
    if rows:
        batch = run.preprocessing.scaled(torch.from_numpy(np.stack(rows)))
        answers = top_k(calibrator(run.logits([batch])), run.classes, top)
    for sample, outcome in zip(chunk, outcomes, strict=True):
        if isinstance(outcome, str):
            yield Prediction(sample.name, error=outcome), None
        else:
            labels, probabilities = zip(*answers[outcome], strict=True)
            yield Prediction(sample.name, labels, probabilities), rows[outcome]


def _read(sample: Sample, preprocessing: Preprocessing, ledger: Ledger) -> Pixels:
    if isinstance(sample, UnreadSample):
        raise ImageError(sample.problem, where=sample.name)
    if isinstance(sample, ArraySample):
        return preprocessing.fit_row(sample.row, ledger, sample.name)
    if preprocessing.kind == "array" and not preprocessing.is_image_like:
        raise ImageError(
            f"this network reads {preprocessing.noun}s of {write_shape(preprocessing.input_shape)} from NPZ or NPY files, "
            f"and this is an image."
        )
    pixels = preprocessing.read_image(sample.path, ledger, name=sample.name)
    if preprocessing.looks_inverted(pixels):
        ledger.note("looks inverted", sample.name)
    return pixels
