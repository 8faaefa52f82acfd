"""Labels for files, folders and arrays: one prediction for each sample, in order, read and answered in chunks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from visus.data.batches import MAX_VALUES
from visus.data.contents import hash_rows
from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import ImageError, UsageError
from visus.evaluation.calibration import Calibrator
from visus.evaluation.predictions import top_k
from visus.progress import Monitor
from visus.training.loop import EVALUATION_BATCH
from visus.training.runs import RunFolder
from visus.units import write_shape
from visus.workbench.runs.learned_samples import Known, read_known
from visus.workbench.runs.predict_inputs import ArraySample, Sample, UnreadSample, find_samples
from visus.workbench.runs.saved import SavedRun

Files = str | Path | Pixels | torch.Tensor | Iterable[str | Path | Pixels | torch.Tensor]


@dataclass(frozen=True)
class Prediction:
    """The answer for one sample.

    Args:
        file: the file, with the row in brackets where it holds several samples.
        labels: class names, the most probable first.
        probabilities: theirs, 0 to 1.
        problem: why there is no answer; empty where there is one.
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str = ""

    @property
    def label(self) -> str:
        """The most probable class; empty where there is no answer."""
        return self.labels[0] if self.labels else ""

    @property
    def probability(self) -> float:
        """That of ``label``; 0 where there is no answer."""
        return self.probabilities[0] if self.probabilities else 0.0

    def predict(
        self,
        files: str | Path | Pixels | torch.Tensor | Iterable[str | Path | Pixels | torch.Tensor],
        *,
        top: int = 1,
        ledger: Ledger | None = None,
        raw: bool = False,
    ) -> Iterator[Prediction]:
        """Labels for files, folders of files, or arrays; one prediction for each sample, in order.

        A file that cannot be read has a prediction with its ``problem``; nothing is silently left out.

        Args:
            files: one of these, or several: an image file, a folder (searched with its sub-folders, as for a training), a pattern such as
                ``new/*.jpg``, a table with a column ``path``, a ``.npy`` or ``.npz`` file, or arrays and tensors: (samples, channels, *spatial),
                one sample (channels, *spatial), and images with their channels last, (height, width, 3), where the first axis cannot be the
                channels.
            top: how many classes to tell for each sample.
            ledger: gets what was done to the samples.
            raw: the network's own probabilities, not calibrated; the labels are the same.

        Raises:
            UsageError: an array that does not fit the network, or more classes asked for than it has.
        """
        if top < 1:
            raise UsageError(f"the number of classes to tell must be at least 1, not {top}.")
        if top > len(self.classes):
            raise UsageError(f"{top} classes were asked for, and this network has {len(self.classes)}.")
        notes = ledger if ledger is not None else Ledger()
        named = [files] if isinstance(files, (str, os.PathLike, np.ndarray, torch.Tensor)) else files
        if not isinstance(named, Iterable):
            raise UsageError(
                f"files are paths or arrays, and not a {type(files).__name__}. Give an image of Pillow as an array: numpy.asarray(image)."
            )
        samples = find_samples(named, self.preprocessing, notes)
        calibrator = self.calibrator(raw=raw)
        learned = read_known(RunFolder.open(self.folder))
        size = max(16, min(EVALUATION_BATCH, MAX_VALUES // math.prod(self.preprocessing.input_shape)))
        while chunk := list(islice(samples, size)):
            yield from self._predict_chunk(chunk, top, notes, calibrator, learned)

    def _predict_chunk(
        self, chunk: Sequence[Sample], top: int, ledger: Ledger, calibrator: Calibrator, learned: Known | None
    ) -> Iterator[Prediction]:
        rows: list[Pixels] = []
        outcomes: list[int | str] = []
        for sample in chunk:
            try:
                rows.append(self._read(sample, ledger))
                outcomes.append(len(rows) - 1)
                if self.preprocessing.shuffle_seed is not None:
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
            batch = self.preprocessing.scaled(torch.from_numpy(np.stack(rows)))
            answers = top_k(calibrator(self.logits([batch])), self.classes, top)
        for sample, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, str):
                yield Prediction(sample.name, problem=outcome)
            else:
                yield Prediction(
                    sample.name, tuple(name for name, _ in answers[outcome]), tuple(share for _, share in answers[outcome])
                )

    def _fitted(self, sample: ArraySample) -> Pixels:
        """One row of an array at the size of the network."""
        found: Pixels = self.preprocessing.fit_array(sample.row[None])[0]
        return found

    def _read(self, sample: Sample, ledger: Ledger) -> Pixels:
        if isinstance(sample, UnreadSample):
            raise ImageError(sample.problem, where=sample.name)
        if isinstance(sample, ArraySample):
            return self._fitted(sample)
        if self.preprocessing.kind == "array" and not self.preprocessing.is_image_like:
            raise ImageError(
                f"this network reads {self.preprocessing.noun}s of {write_shape(self.preprocessing.input_shape)} from NPZ or NPY files, "
                f"and this is an image."
            )
        pixels = self.preprocessing.read_image(sample.path, ledger, name=sample.name)
        if self.preprocessing.looks_inverted(pixels):
            ledger.note("looks inverted", sample.name)
        return pixels


