"""A trained run and its methods. Each returns a result object, reports progress and can be canceled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from visus.data.opened import Data
from visus.evaluation.tasks.all_scores import AnyScores
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.keywords import checked_methods
from visus.workbench.live_line import following
from visus.workbench.runs.bulk.predicting import Paths
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.evaluate import evaluate
from visus.workbench.runs.predict import Files, Predictions, predict, predict_run_to
from visus.workbench.runs.prediction import Prediction
from visus.workbench.runs.saved import SavedRun, read_run
from visus.workbench.runs.scoring import answers_of, score_split

if TYPE_CHECKING:
    from visus.examine.largest_errors import LargestErrors
    from visus.examine.mistake_report import MistakeReport
    from visus.workbench.compare.comparison import Comparison
    from visus.workbench.look.inputs import NamedSample
    from visus.workbench.look.looking import Look
    from visus.workbench.report.reports import Report
    from visus.workbench.runs.shifts import ShiftReport
    from visus.workbench.ship.exporting import Export

__all__ = ["Prediction", "Predictions", "Run", "load"]


@checked_methods
@dataclass(frozen=True, eq=False, repr=False)
class Run(SavedRun):
    """A trained network with its run folder.

    Most methods take ``progress``, ``on_event`` and ``should_stop``. Work that takes longer than a moment shows its progress
    on stderr or in the notebook; ``progress=False`` shows nothing. ``on_event`` receives ``visus.progress.Progress`` objects. If
    ``should_stop`` returns True, the method raises ``CanceledError``.

    Args:
        folder: the run folder.
        module: the network with its best weights, in evaluation mode.
        classes: class names in the order of the network's outputs.
        preprocessing: preprocessing of every sample.
        machine: device and precision.
        which: the loaded weights, ``best`` or ``last``.

    >>> run.classes, run.folder.name
    (('0', '1', '2'), 'levels')
    """

    def evaluate(
        self,
        data: Any = None,
        *,
        split: str | None = None,
        raw: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> AnyScores:
        """Score the network.

        Args:
            data: other data: a path, opened data, a dataset of PyTorch or Hugging Face, or a pair of arrays ``(samples, labels)``, samples as for
                ``predict`` and labels as class names or numbers; default: the run's own data with its original split.
            split: ``train``, ``val`` or ``test``; default: the held-out one.
            raw: score the network's own probabilities, not calibrated.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            DataError: the data has a class that the network does not know, or has changed since the training.

        >>> run.evaluate().num_samples
        12
        >>> run.evaluate((images, [0, 1, 2, 0, 1, 2])).num_samples
        6
        """
        with following("scoring", Monitor(on_event, should_stop), progress) as monitor:
            return evaluate(self, data, split=split, raw=raw, cache_dir=cache_dir, **monitor.keywords)

    def answers(
        self, data: Data, split: str, *, on_event: OnEvent | None = None, should_stop: ShouldStop | None = None
    ) -> Tensor:
        """The logits (samples, classes) for one split of opened data, in the order of its samples.

        Args:
            data: opened data.
            split: name of the split.
            on_event, should_stop: as for ``evaluate``.

        Raises:
            DataError: the split is empty.

        >>> run.answers(data, "test").shape
        torch.Size([12, 3])
        """
        return answers_of(self, data, split, Monitor(on_event, should_stop))

    def score(
        self,
        data: Data,
        split: str,
        answers: Tensor | None = None,
        *,
        raw: bool = False,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> AnyScores:
        """Score the network on one split of opened data.

        Args:
            data: opened data.
            split: name of the split.
            answers: the result of ``answers`` for it; default: computed.
            raw: score the network's own probabilities, not calibrated.
            on_event, should_stop: as for ``evaluate``.

        Raises:
            DataError: the split is empty.

        >>> run.score(data, "test").accuracy == run.scores.accuracy
        True
        """
        return score_split(self, data, split, answers, raw=raw, monitor=Monitor(on_event, should_stop))

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
        """Labels for files, folders of files, images of Pillow, or arrays; one prediction for each sample, in order.

        The prediction of an unreadable file has an ``error``, no label and the probability NaN; no file is skipped silently.

        Args:
            files: one of these, or several: an image file, a folder (searched with its sub-folders, as for a training), a
                pattern such as ``new/*.jpg``, a table with a column ``path``, a ``.npy`` or ``.npz`` file, an image that
                Pillow has opened or made, or arrays and tensors, by their axes: one sample is (channels, *spatial), or
                (*spatial, channels) where the first axis is not as long as the network has channels; a batch is (samples,
                channels, *spatial), or (samples, *spatial, channels) in the same way. Without an axis of channels, for a
                network with one, they are (*spatial) and (samples, *spatial). For a network of color images, 8-bit gray
                images (height, width) or of one channel become color, and those of four channels (with opacity) are blended
                on white, as files are. 8-bit images of any size are resized as files are, so an array and its PNG file get
                the same prediction. Signals, volumes and other data types are only shrunk: a smaller one is refused, since
                how to make up values between two measurements is known for images only.
            top: number of classes of each prediction, the most probable first.
            raw: return the network's own probabilities, not calibrated; the labels are the same.
            progress, on_event, should_stop: see ``Run``.

        Returns:
            An iterator of ``Prediction``, with a ``ledger`` of the changes made to the samples.

        Raises:
            UsageError: an array does not fit the network, no array can be used, or ``top`` exceeds its number of classes.
            DataError: none of the paths exists.

        >>> [prediction.label in run.classes for prediction in run.predict(images)]
        [True, True, True, True, True, True]
        """
        return predict(self, files, top=top, raw=raw, progress=progress, on_event=on_event, should_stop=should_stop)

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
        """Write predictions for any number of samples to a table, in parts, so that a stopped or killed call continues.

        The parts lie beside the table, in ``out`` with ``.parts`` behind its name, and are removed when the table is complete. The same
        call again continues after the last finished part; each sample is in the table once. If the samples, the network or the columns
        have changed since, it is refused. Of the samples, one batch is decoded at a time. An unreadable sample is a row with an ``error``.

        Args:
            files: a file, a folder, a pattern such as ``new/*.jpg``, a table with a column ``path``, an array file, or a list of these.
            out: a ``.csv`` file, a ``.parquet`` file, or a folder of Parquet files; it must not exist. The columns are ``file``,
                ``label``, ``probability``, those of the further classes of ``top``, and ``error``. Of sets of classes they are ``file``,
                ``labels``, the probability of each class, such as ``probability:cat``, and ``error``; of numbers ``file``, then each
                target with ``_low`` and ``_high``, the ends of its interval, and ``error``.
            top: number of classes of each row, the most probable first.
            probabilities: add a column for the probability of each class, such as ``probability:cat``.
            raw: write the network's own probabilities, not calibrated; the labels are the same.
            cluster: ``local`` to compute on Ray on this machine, or the address of a Ray cluster whose machines have the same files under the
                same paths. Default: compute in this process.
            progress, on_event, should_stop: see ``Run``.

        Returns:
            Number of rows, errors, rows of each label, samples per second.

        Raises:
            UsageError: an argument cannot be used, the table exists, or the parts of an earlier call are of another network or other samples.
            DataError: none of the paths exists.
            StorageError: the disk is full; a further call continues.
            MissingExtraError: pyarrow or ray is not installed.

        >>> run.predict_to(file, folder / "levels.csv", progress=False).num_samples
        60
        """
        columns = {"top": top, "probabilities": probabilities, "raw": raw, "cluster": cluster}
        long = {"progress": progress, "on_event": on_event, "should_stop": should_stop}
        return predict_run_to(self, files, out, **columns, **long)  # type: ignore[arg-type]

    def export(
        self,
        path: str | Path | None = None,
        *,
        formats: Sequence[str] | None = None,
        num_samples: int = 500,
        num_golden: int = 20,
        license: str = "",
        intended_use: str = "",
        ethical_considerations: str = "",
        int8: bool = False,
        max_loss: float = 0.01,
        force: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Export:
        """Write a bundle: the network with everything from a file to a probability, and the proof that it answers as this run does.

        Before it is written, each exported form of the network answers golden files and held-out samples in a process without PyTorch, in batches of
        1, 2, 7 and 64. If an answer differs from this run's, nothing is written, and the error names the layer where the difference begins.
        ``visus.open_bundle`` opens a bundle, ``visus.verify`` repeats the check anywhere.

        Args:
            path: a folder that does not exist yet, or a file that ends with ``.zip``; default: the run's name with ``-bundle``.
            formats: ``onnx`` (always there), ``openvino`` and ``torch`` (a program of ``torch.export``); default: all whose packages are installed.
            num_samples: held-out samples in the bundle, for the check; fewer where they have more than 128 MiB.
            num_golden: golden files in the bundle: held-out files as they are, and odd ones made of one of them (turned by EXIF, 16 bits, a palette,
                gray, transparent, CMYK, huge, noise).
            license: the license of the network; it is written into the bundle.
            intended_use, ethical_considerations: the two sections of the model card that only you can write, as Markdown.
            int8: also an int8 network, calibrated on up to 500 training samples (at least 300). The result has its metric on the held-out samples with
                the 95 % interval, its loss beside the run, and how fast it is.
            max_loss: an int8 network that loses more than this, from 0 to 1, is refused, and nothing is written: of accuracy, of mean average
                precision, or, for numbers, of mean absolute error in standard deviations of the training labels.
            force: replace a bundle at this path.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            UsageError: something is at ``path``, a format is unknown, or the network cannot be exported.
            ParityError: an exported form answers differently, or the int8 network loses too much.
            MissingExtraError: a package for the export is missing; the message has the pip command.
            DataError: the data of the run is missing or has changed.

        >>> run.export(folder / "levels.zip", formats=["onnx"], progress=False).path.name
        'levels.zip'
        """
        from visus.workbench.ship.exporting import export_run  # a prediction does not need it

        with following("exporting", Monitor(on_event, should_stop), progress) as monitor:
            return export_run(
                self,
                path,
                formats=formats,
                num_samples=num_samples,
                num_golden=num_golden,
                license=license,
                intended_use=intended_use,
                ethical_considerations=ethical_considerations,
                int8=int8,
                max_loss=max_loss,
                force=force,
                cache_dir=cache_dir,
                **monitor.keywords,
            )

    def mistakes(
        self,
        data: str | Path | Data | None = None,
        *,
        split: str | None = None,
        limit: int = 8,
        raw: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> MistakeReport | LargestErrors:
        """The predictions to review: the most confident wrong ones, the least confident correct ones, confusions, and labels
        that may be wrong.

        Each is listed with the training samples of the most similar features; at most 5,000 are compared. The result's ``training_labels``
        has labels of the training set that may be wrong, by the cross-validated predictions of the head, if the run started from trained weights and the data is its own.
        Its ``validation_labels`` has those of the validation set, beside the test set. Of a network that predicts sets of classes or numbers, the
        samples with the largest errors.

        Args:
            data: other data; default: the run's own data with its original split.
            split: ``train``, ``val`` or ``test``; default: the held-out one.
            limit: maximum number of samples of each kind.
            raw: use the network's own probabilities, not calibrated.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            DataError: the split is empty, or the data has changed since the training.
            UsageError: ``limit`` is below 1.

        >>> run.mistakes(limit=1).num_samples
        12
        """
        from visus.workbench.runs.largest_errors import find_run_errors  # a prediction does not need these
        from visus.workbench.runs.mistakes import find_run_mistakes

        with following("looking for mistakes", Monitor(on_event, should_stop), progress) as monitor:
            if self.task.name != "single-label":
                return find_run_errors(self, data, split=split, limit=limit, cache_dir=cache_dir, **monitor.keywords)
            return find_run_mistakes(self, data, split=split, limit=limit, raw=raw, cache_dir=cache_dir, **monitor.keywords)

    def shifts(
        self,
        data: str | Path | Data | None = None,
        *,
        split: str | None = None,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> ShiftReport:
        """Measure how predictions change when samples shift by a few pixels, which layer causes it, and list remedies.

        Args:
            data, split, cache_dir: as for ``mistakes``.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            DataError: the split is empty, or the data has changed since the training.

        >>> run.shifts().ways[0].num_shifts
        9
        """
        from visus.workbench.runs.shifts import report_shifts

        with following("moving samples", Monitor(on_event, should_stop), progress) as monitor:
            return report_shifts(self, data, split=split, cache_dir=cache_dir, **monitor.keywords)

    def look(
        self,
        sample: NamedSample,
        *,
        layer: str | None = None,
        channel: int | None = None,
        at: Sequence[int] | None = None,
        target: str | int | None = None,
        saliency: str | None = None,
        object_px: int | None = None,
        templates: bool = True,
        data: Data | str | Path | None = None,
        raw: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Look:
        """Show what the network sees in one sample; the arguments are those of ``visus.look``.

        Raises:
            UsageError: the layer, channel, position, class or sample does not exist.
            ImageError: the sample cannot be read.

        >>> run.look("test:0", templates=False).layers[0].path
        'conv1'
        """
        from visus.workbench.look.looking import look

        return look(
            self,
            sample,
            layer=layer,
            channel=channel,
            at=at,
            target=target,
            saliency=saliency,
            object_px=object_px,
            templates=templates,
            data=data,
            raw=raw,
            cache_dir=cache_dir,
            progress=progress,
            on_event=on_event,
            should_stop=should_stop,
        )

    def report(
        self,
        data: str | Path | Data | None = None,
        *,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Report:
        """Rewrite ``report.html`` of the run.

        Args:
            data: new path of the run's own data; default: the last known path.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            RunError: the training was not finished, or a file is missing or damaged.
            DataError: the data has changed since the training.
            UsageError: the data is not the run's own.

        >>> run.report().path == run.folder / "report.html"
        True
        """
        from visus.workbench.report.reports import rewrite_report

        with following("measuring for the report", Monitor(on_event, should_stop), progress) as monitor:
            return rewrite_report(self, data, cache_dir=cache_dir, **monitor.keywords)

    def compare(
        self,
        other: SavedRun | str | Path,
        data: Any = None,
        *,
        split: str | None = None,
        cache_dir: str | Path | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Comparison:
        """Compare this run with another one on the same samples, sample by sample.

        Args:
            other: a run or its folder.
            data: other data for both: a path, a dataset, or opened data (see ``visus.compare``); default: the samples that both runs held out.
            split: ``train``, ``val`` or ``test``; default: the held-out one.
            cache_dir: another folder for the decoded samples.
            progress, on_event, should_stop: see ``Run``.

        Raises:
            UsageError: the runs know different classes.
            DataError: the runs were trained on different data and none was given.

        >>> len(run.compare(run.folder).contenders)
        2
        """
        from visus.workbench.compare.runs import compare

        return compare(
            self,
            other,
            data=data,
            split=split,
            cache_dir=cache_dir,
            progress=progress,
            on_event=on_event,
            should_stop=should_stop,
        )


def load(folder: str | Path, *, network: nn.Module | None = None, device: str = "auto", which: str = "best") -> Run:
    """Load a run from its folder.

    Args:
        folder: the run folder.
        network: the module, for a run that was trained with a module object.
        device: device to use; see ``Recipe.device``.
        which: ``best`` or ``last`` weights.

    Raises:
        RunError: the folder is not a run, or a file is missing or damaged.
        WeightsError: the weights do not fit the design.

    >>> load(run.folder).name
    'levels'
    """
    return read_run(Run, folder, network=network, device=device, which=which)
