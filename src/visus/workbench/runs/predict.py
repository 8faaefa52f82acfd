"""Labels for files, folders and arrays by a run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from visus.data.batches import MAX_VALUES
from visus.data.contents import hash_rows
from visus.data.preprocessing import Pixels, Preprocessing
from visus.progress import OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.training.validation import EVALUATION_BATCH
from visus.workbench.runs.bulk.predicting import Paths, predict_to
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.learned_samples import Known, read_known
from visus.workbench.runs.predict_inputs import as_array, is_array
from visus.workbench.runs.prediction import Decision
from visus.workbench.runs.predictions import Files, Predictions, predict_with
from visus.workbench.runs.saved import SavedRun, read_run, run_evaluation, unfinished_notes
from visus.workbench.runs.scoring import calibration_sentence, views_sentence
from visus.workbench.runs.value_range import range_warning

__all__ = ["Files", "Predictions", "predict", "predict_run_to"]


class RunPredictor:
    """A run as a predictor.

    Args:
        run: the run.
        raw: return the network's own probabilities, not calibrated.
    """

    def __init__(self, run: SavedRun, *, raw: bool) -> None:
        self._run, self._raw, self._evaluation = run, raw, run_evaluation(run, raw=raw)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self._run.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How every sample is converted."""
        return self._run.preprocessing

    @cached_property
    def decision(self) -> Decision:
        """How the probabilities, or numbers, become a prediction."""
        own = self._evaluation
        return Decision(own.name, own.thresholds, own.half_widths)

    @property
    def chunk(self) -> int:
        """Samples that are read and predicted together."""
        return max(16, min(EVALUATION_BATCH, MAX_VALUES // math.prod(self.preprocessing.input_shape)))

    def probabilities(self, samples: Pixels) -> npt.NDArray[np.float32]:
        """Probabilities (samples, classes) for stored samples (samples, channels, *spatial)."""
        batch = self.preprocessing.scaled(torch.from_numpy(samples))
        return self._evaluation.calibrator(self._run.logits([batch])).numpy()

    def learned(self, samples: Pixels) -> Iterable[int]:
        """Places of the samples with the content of one that the network learned from."""
        return () if self._known is None else np.flatnonzero(self._known.marks(hash_rows(samples))[0]).tolist()

    @property
    def name(self) -> str:
        """Its name, for messages."""
        return f"the run {self._run.name}"

    @cached_property
    def identity(self) -> str:
        """A hash over all that decides its answers."""
        run = self._run
        facts = [
            run.classes,
            run.preprocessing,
            self._evaluation.calibrator,
            self.decision,
            run.recipe.tta,
            run.machine.device.type,
            run.machine.precision,
        ]
        found = hashlib.sha256(
            f"{facts}\n{RunFolder.open(run.folder).read_text('design.txt')}".encode("utf-8", "surrogateescape")
        )
        for name, tensor in run.module.state_dict().items():
            values = tensor.detach().cpu().contiguous().flatten()
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(values.view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    @property
    def num_threads(self) -> int:
        """Threads of one prediction."""
        return torch.get_num_threads()

    @property
    def reopen(self) -> Callable[[], RunPredictor]:
        """Opens it in another process."""
        run = self._run
        return partial(
            _reopen, run.folder.absolute(), run.which, str(run.machine.device), raw=self._raw, num_threads=self.num_threads
        )

    @cached_property
    def _known(self) -> Known | None:
        return read_known(RunFolder.open(self._run.folder))


def _reopen(folder: Path, which: str, device: str, *, raw: bool, num_threads: int) -> RunPredictor:
    """The predictor of a run in a new process."""
    torch.set_num_threads(num_threads)
    return RunPredictor(read_run(SavedRun, folder, device=device, which=which), raw=raw)


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
    long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
    notes = prediction_notes(run, raw=raw)
    if is_array(files) and (warning := range_warning(as_array(files), run.preprocessing)):
        notes.append(warning)
    return predict_with(RunPredictor(run, raw=raw), files, notes, top=top, **long)  # type: ignore[arg-type]


def predict_run_to(
    run: SavedRun,
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
    """Write predictions to a table; the arguments are those of ``Run.predict_to``.

    Raises:
        UsageError: an argument cannot be used, the table exists, or the parts of an earlier call are of another network or other samples.
        DataError: none of the paths exists.
        StorageError: the disk is full; a further call continues.
    """
    predictor, notes = RunPredictor(run, raw=raw), prediction_notes(run, raw=raw)
    columns = {"top": top, "probabilities": probabilities, "cluster": cluster}
    long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
    return predict_to(predictor, files, out, notes, **columns, **long)  # type: ignore[arg-type]


def prediction_notes(run: SavedRun, *, raw: bool) -> list[str]:
    """What must be known of the predictions of a run."""
    views = [sentence] if (sentence := views_sentence(run)) else []
    return [*unfinished_notes(run), calibration_sentence(run, raw=raw), *views]
