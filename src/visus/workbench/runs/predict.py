"""Labels for files, folders and arrays: one prediction for each sample, in order, computed in chunks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Never

import numpy as np
import torch

from visus.data.batches import MAX_VALUES
from visus.data.contents import hash_rows
from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import ImageError, UsageError, printable
from visus.evaluation.calibration import Calibrator
from visus.evaluation.predictions import top_k
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import write_rows
from visus.training.loop import EVALUATION_BATCH
from visus.training.runs import RunFolder
from visus.units import write_shape, write_share
from visus.workbench.live_line import LiveLine, error_console, is_shown
from visus.workbench.runs.learned_samples import Known, read_known
from visus.workbench.runs.predict_inputs import ArraySample, Sample, UnreadSample, find_samples, refuse_missing
from visus.workbench.runs.saved import SavedRun

Files = str | Path | Pixels | torch.Tensor | Iterable[str | Path | Pixels | torch.Tensor]


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one sample.

    Args:
        file: the file, with the row in brackets if it has several samples.
        labels: class names, the most probable first.
        probabilities: their probabilities, 0 to 1.
        problem: the reason if there is no prediction; else empty.

    >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1))
    Prediction(new.jpg: cat, 90.0 %)
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str = ""

    def __repr__(self) -> str:
        answer = f"{self.label}, {write_share(self.probability)}" if self.labels else f"no prediction: {self.problem}"
        return f"Prediction({printable(self.file)}: {answer})"

    @property
    def label(self) -> str:
        """The most probable class; empty if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).label
        'cat'
        """
        return self.labels[0] if self.labels else ""

    @property
    def probability(self) -> float:
        """Probability of ``label``; 0 if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).probability
        0.9
        """
        return self.probabilities[0] if self.probabilities else 0.0


class Predictions(Iterator[Prediction]):
    """An iterator over predictions in the order of the samples, computed lazily in chunks of some hundred.

    Args:
        found: the predictions.
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

    def __init__(
        self, found: Iterator[Prediction], ledger: Ledger, notes: Sequence[str], line: LiveLine | None = None
    ) -> None:
        self._found, self.ledger, self.notes, self._line = found, ledger, tuple(notes), line

    def __repr__(self) -> str:
        use = "iterate over them, or list(predictions); .ledger has the changes made to the samples"
        return write_rows("Predictions", [("next", use)])

    def __iter__(self) -> Predictions:
        return self

    def __next__(self) -> Prediction:
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
        UsageError: an array does not fit the network, no array can be used, the one path that is named does not exist, or ``top`` exceeds
            the number of classes.
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
    if isinstance(files, (str, os.PathLike)):
        refuse_missing(Path(files))
    ledger = Ledger()
    notes = [run.calibration_sentence(raw=raw), *([run.views_sentence] if run.views_sentence else [])]
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
) -> Iterator[Prediction]:
    """The predictions; an error where only arrays are given and none can be used."""
    are_arrays = isinstance(files, (list, tuple)) and all(isinstance(each, (np.ndarray, torch.Tensor)) for each in files)
    found = _predict_all(run, files, top, calibrator, ledger, monitor)
    failed: list[Prediction] = []  # those before the first answer
    for each in found if are_arrays else ():
        if not each.problem:
            yield from (*failed, each)
            failed = []
            break
        failed.append(each)
    if failed:
        more = f" None of the {len(failed):,} samples can be used." if len(failed) > 1 else ""
        raise UsageError(f"{failed[0].problem}{more}", where=failed[0].file)
    yield from found


def _predict_all(
    run: SavedRun,
    files: Iterable[str | Path | Pixels | torch.Tensor],
    top: int,
    calibrator: Calibrator,
    ledger: Ledger,
    monitor: Monitor,
) -> Iterator[Prediction]:
    samples = find_samples(files, run.preprocessing, ledger)
    learned = read_known(RunFolder.open(run.folder))
    size = max(16, min(EVALUATION_BATCH, MAX_VALUES // math.prod(run.preprocessing.input_shape)))
    chunks = iter(lambda: list(islice(samples, size)), [])
    for chunk in monitor.over(chunks, "predicting"):
        yield from _predict_chunk(run, chunk, top, ledger, calibrator, learned)


def _predict_chunk(
    run: SavedRun, chunk: Sequence[Sample], top: int, ledger: Ledger, calibrator: Calibrator, learned: Known | None
) -> Iterator[Prediction]:
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
            yield Prediction(sample.name, problem=outcome)
        else:
            labels, probabilities = zip(*answers[outcome], strict=True)
            yield Prediction(sample.name, labels, probabilities)


def fitted(sample: ArraySample, preprocessing: Preprocessing) -> Pixels:
    """One row of an array, resized to the input size of the network."""
    found: Pixels = preprocessing.fit_array(sample.row[None])[0]
    return found


def _read(sample: Sample, preprocessing: Preprocessing, ledger: Ledger) -> Pixels:
    if isinstance(sample, UnreadSample):
        raise ImageError(sample.problem, where=sample.name)
    if isinstance(sample, ArraySample):
        return fitted(sample, preprocessing)
    if preprocessing.kind == "array" and not preprocessing.is_image_like:
        raise ImageError(
            f"this network reads {preprocessing.noun}s of {write_shape(preprocessing.input_shape)} from NPZ or NPY files, "
            f"and this is an image."
        )
    pixels = preprocessing.read_image(sample.path, ledger, name=sample.name)
    if preprocessing.looks_inverted(pixels):
        ledger.note("looks inverted", sample.name)
    return pixels
