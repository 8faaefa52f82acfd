"""A bundle that is opened: predictions with the numbers of the run, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.data.preprocessing import Pixels, Preprocessing
from visus.progress import OnEvent, ShouldStop
from visus.ship.answers import MAX_BATCH, Answerer
from visus.ship.engines import FASTEST, OpenEngine, open_engine
from visus.ship.files import BundleFiles
from visus.ship.manifest import Manifest, metric_field, run_score
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.regression import RegressionBundle
from visus.tables import Described
from visus.units import write_bytes, write_count, write_number_of
from visus.workbench.keywords import checked_methods
from visus.workbench.runs.bulk.predicting import Paths, predict_to
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.prediction import Decision
from visus.workbench.runs.predictions import Files, Predictions, predict_with
from visus.workbench.ship.verifying import Verification, verify


@checked_methods
class Bundle(Described):
    """A bundle: a trained network with everything from a file to a probability. ``visus.open_bundle`` opens one.

    Args:
        files: its files.
        engine: computes the network.
        choice: how the engine was chosen, in words.

    >>> repr(bundle).splitlines()[0]
    'Bundle levels: 3 classes'
    """

    def __init__(self, files: BundleFiles, engine: OpenEngine, choice: str = "") -> None:
        self._files, self.engine, self._choice = files, engine, choice
        self._answerer = Answerer(engine, files.manifest)

    @property
    def files(self) -> BundleFiles:
        """Its files. Each is compared with its hash when it is read.

        >>> bundle.files.read("design.txt").decode()
        'conv(4, 3), relu, globalpool, linear(classes)\\n'
        """
        return self._files

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds, as plain data.

        >>> bundle.manifest.graph("onnx").path
        'network.onnx'
        """
        return self._files.manifest

    @property
    def sha256(self) -> str:
        """The SHA-256 of the manifest, which identifies the bundle.

        >>> bundle.sha256 == exported.sha256
        True
        """
        return self._files.digest

    @property
    def path(self) -> Path:
        """The folder or zip file.

        >>> bundle.path.name
        'levels-bundle'
        """
        return self._files.path

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs; of regression, the targets.

        >>> bundle.classes == run.classes
        True
        """
        return self.manifest.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How every sample is converted for the network.

        >>> bundle.preprocessing.input_shape
        (3, 8, 8)
        """
        return self.manifest.preprocessing

    @property
    def decision(self) -> Decision:
        """How its probabilities or numbers become a prediction.

        >>> bundle.decision.task
        'single-label'
        """
        task = self.manifest.task
        if isinstance(task, MultiLabelBundle):
            return Decision(task.name, thresholds=task.thresholds)
        return Decision(task.name, half_widths=task.half_widths) if isinstance(task, RegressionBundle) else Decision()

    @cached_property
    def chunk(self) -> int:
        """Samples that are read and predicted together.

        >>> bundle.chunk
        64
        """
        return MAX_BATCH

    def probabilities(self, samples: Pixels) -> npt.NDArray[Any]:
        """Calibrated probabilities (N, classes) for stored samples (N, channels, *spatial) of the network's size; of regression the numbers.

        >>> bundle.probabilities(images).shape
        (6, 3)
        """
        answers = self._answerer(samples)
        # as in a run, whose probabilities are compared with their thresholds in float32
        return answers.astype(np.float32) if isinstance(self.manifest.task, MultiLabelBundle) else answers

    def learned(self, samples: Pixels) -> Iterable[int]:
        """Nothing: a bundle does not know what its network learned from.

        >>> bundle.learned(images)
        ()
        """
        return ()

    def predict(
        self,
        files: Files,
        *,
        top: int = 1,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Predictions:
        """Labels or numbers for files, folders of files, images of Pillow, or arrays, as ``Run.predict``: the same classes, the same probabilities.

        Args:
            files: as for ``Run.predict``.
            top: number of classes of each prediction, the most probable first.
            progress: False shows nothing on stderr.
            on_event: receives a ``Progress`` for each chunk of samples.
            should_stop: called after each chunk; True raises ``CanceledError``.

        Raises:
            UsageError: an array does not fit the network, no array can be used, or ``top`` exceeds the number of classes.
            DataError: none of the paths exists.

        >>> [each.label for each in bundle.predict(images)] == [each.label for each in run.predict(images)]
        True
        """
        return predict_with(
            self, files, self._notes(), top=top, progress=progress, on_event=on_event, should_stop=should_stop
        )

    def predict_to(
        self,
        files: Paths,
        out: str | Path,
        *,
        top: int = 1,
        probabilities: bool = False,
        cluster: str | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> BulkPredictions:
        """Write predictions for any number of samples to a table, in parts, so that a stopped or killed call continues.

        The parts lie beside the table, in ``out`` with ``.parts`` behind its name, and are removed when the table is complete. The same
        call again continues after the last finished part; each sample is in the table once. If the samples, the network or the columns
        have changed since, it is refused. Of the samples, one batch is decoded at a time. An unreadable sample is a row with an ``error``.

        Args:
            files: a file, a folder, a pattern such as ``new/*.jpg``, a table with a column ``path``, an array file, or a list of these.
            out: a ``.csv`` file, a ``.parquet`` file, or a folder of Parquet files; it must not exist. The columns are ``file``,
                ``label``, ``probability``, those of the further classes of ``top``, and ``error``.
            top: number of classes of each row, the most probable first.
            probabilities: add a column for the probability of each class, such as ``probability:cat``.
            cluster: ``local`` to compute on Ray on this machine, or the address of a Ray cluster whose machines have the same files under the
                same paths. Default: compute in this process.
            progress, on_event, should_stop: as for ``predict``.

        Returns:
            Number of rows, errors, rows of each label, samples per second.

        Raises:
            UsageError: an argument cannot be used, the table exists, or the parts of an earlier call are of another network or other samples.
            DataError: none of the paths exists.
            StorageError: the disk is full; a further call continues.
            MissingExtraError: pyarrow or ray is not installed.

        >>> bundle.predict_to(file, folder / "by-bundle.csv", progress=False).num_samples
        60
        """
        columns = {"top": top, "probabilities": probabilities, "cluster": cluster}
        long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
        return predict_to(self, files, out, self._notes(), **columns, **long)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """Its name in messages.

        >>> bundle.name
        'the bundle levels'
        """
        return f"the bundle {self.manifest.name}"

    @property
    def identity(self) -> str:
        """What decides its answers: the bundle, the engine and its precision.

        >>> bundle.identity.startswith(bundle.sha256)
        True
        """
        return f"{self.sha256} {self.engine.name} {self.engine.version} {self.engine.precision}"

    @property
    def num_threads(self) -> int:
        """Threads of one prediction.

        >>> bundle.num_threads == bundle.engine.num_threads
        True
        """
        return self.engine.num_threads

    @property
    def reopen(self) -> Callable[[], Bundle]:
        """Opens it in another process.

        >>> bundle.reopen().sha256 == bundle.sha256
        True
        """
        options = {"engine": self.engine.name, "precision": self.engine.precision, "threads": self.engine.num_threads}
        return partial(open_bundle, self.path.absolute(), **options)  # type: ignore[arg-type]

    def verify(
        self,
        *,
        engines: Sequence[str] = (),
        precision: str = "float32",
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Verification:
        """Check that it answers as its run did; the arguments are those of ``visus.verify``.

        >>> bundle.verify(engines=["onnxruntime"]).checks[0].agreement
        1.0
        """
        return verify(
            self.path,
            engines=engines,
            precision=precision,
            progress=progress,
            on_event=on_event,
            should_stop=should_stop,
        )

    def _notes(self) -> list[str]:
        task, name = self.manifest.task, self.manifest.name
        if isinstance(task, RegressionBundle):
            what = "the 90 % prediction intervals of" if task.half_widths else "no prediction interval, as in"
            return [f"Numbers have {what} the run {name}."]
        used = self.manifest.temperature != 1 or self.manifest.smoothing
        return [f"Probabilities are {'calibrated' if used else 'not calibrated'}, as in the run {name}."]

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        facts, manifest = self.manifest.facts, self.manifest
        formats = ", ".join(dict.fromkeys(each.format for each in manifest.graphs))
        rows = [
            ("network", f"{_costs(facts)}{formats}"),
            *([(manifest.task.metric, run_score(manifest))] if metric_field(manifest.task.name) in facts else []),
            (
                "engine",
                f"{self.engine.name} {self.engine.version}, {self.engine.precision}, {write_number_of(self.engine.num_threads, 'thread')}",
            ),
            *([("", self._choice)] if self._choice else []),
            ("identity", f"sha256 {self.sha256}"),
            ("bundle", f"{self.path} ({write_bytes(sum(each.num_bytes for each in manifest.files.values()))})"),
        ]
        count = len(self.classes)
        what = write_number_of(count, "target") if manifest.task.name == "regression" else f"{count:,} classes"
        return f"Bundle {manifest.name}: {what}", rows


def open_bundle(path: str | Path, *, engine: str = "", precision: str = "", threads: int | None = None) -> Bundle:
    """Open a bundle that ``visus export`` or ``run.export`` wrote. PyTorch is not needed.

    Args:
        path: its folder or zip file.
        engine: ``onnxruntime`` or ``openvino``; default: the first that is installed and whose network the bundle holds. ``fastest`` is the one with the
            most samples per second that answers within its tolerance: it is measured once for this bundle and machine, and kept in the cache folder.
        precision: of the arithmetic: ``float32``, or ``bfloat16``, ``float16`` and ``int8`` where engine and bundle have them; default: float32, and any
            for ``fastest``.
        threads: threads of one prediction; default: one for each core.

    Raises:
        BundleError: it is no bundle, or a file was added, removed or changed.
        UsageError: the engine or its precision is unknown, or no engine answers within its tolerance.
        MissingExtraError: no engine is installed.

    >>> visus.open_bundle(exported.path, engine="onnxruntime", threads=1).engine.name
    'onnxruntime'
    """
    files = BundleFiles(Path(path).expanduser())
    files.check()
    if engine != FASTEST:
        return Bundle(files, open_engine(files, engine, precision or "float32", threads))
    from visus.ship.fastest import fastest_engine  # keeps its choice in the cache folder, which needs platformdirs

    choice = fastest_engine(files, precision, threads)
    opened = open_engine(files, choice.engine, choice.precision, threads)
    return Bundle(files, opened, choice.sentence())


def _costs(facts: Mapping[str, Any]) -> str:
    """The parameters, and the multiply-adds of one sample where the export could count them; empty if nothing was measured."""
    if "num_parameters" not in facts:
        return ""
    macs = f", {write_count(facts['macs'])} multiply-adds" if facts.get("macs") is not None else ""
    return f"{write_count(facts['num_parameters'])} parameters{macs}; "
