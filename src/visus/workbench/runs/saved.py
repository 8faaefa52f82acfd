"""A run as saved in its folder: the network with weights and calibration, its data and its stored results."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import nn

from visus.caller import for_caller, option, resume_call
from visus.data.opened import Data, open_scoring_data
from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading, one_column
from visus.data.samples import SPLITS
from visus.data.store import MAX_UNREADABLE
from visus.errors import DataError, RunError, UsageError
from visus.evaluation.calibration import Calibrator
from visus.evaluation.predictions import predict_logits
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores, scores_from_json
from visus.evaluation.tasks.evaluations.evaluation import AnyCalibrator, Evaluation, Fit
from visus.evaluation.tasks.evaluations.registry import evaluation_of
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.evaluation.tasks.prediction_intervals import Numbers
from visus.evaluation.tasks.registry import task_from_json
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.networks import weights
from visus.networks.machine import Machine, choose, suited
from visus.networks.own_code import copied
from visus.pages.parts.confusion import COUNTED_CLASSES
from visus.pages.parts.training_curves import lowest_loss
from visus.pages.run_preview import run_preview
from visus.progress import SILENT, Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text
from visus.training.checkpoints import read_position
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.units import rank_words, write_count, write_number_of, write_shape
from visus.workbench.given_datasets import is_dataset, is_table, refuse_streams
from visus.workbench.keywords import checked_methods
from visus.workbench.live_line import following
from visus.workbench.modules import OBJECT_PREFIX, make_network
from visus.workbench.runs.calibration import read_calibration
from visus.workbench.runs.given_data import open_given, open_given_table
from visus.workbench.runs.history import History, read_history
from visus.workbench.runs.own_data import as_own, open_own_data, reading_of, refuse_no_path, remember_place
from visus.workbench.trained_modules import remember_training

MAX_NAME: Final = 60  # characters of a network in a line; a longer design is not repeated


@checked_methods
@dataclass(frozen=True, eq=False, repr=False)
class SavedRun(Described):
    """A trained network with the contents of its run folder. ``Run`` adds the user-facing methods.

    Args:
        folder: the run folder.
        module: the network with its best weights, in evaluation mode.
        classes: class names in the order of the network's outputs.
        preprocessing: preprocessing of every sample.
        machine: device and precision.
        which: the loaded weights, ``best`` or ``last``.
        task: what it predicts.
    """

    folder: Path
    module: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    machine: Machine
    which: str = "best"
    task: Task = field(default_factory=lambda: SingleLabel(()))

    @property
    def name(self) -> str:
        """The folder's name.

        >>> run.name
        'levels'
        """
        return self.folder.name

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        num_parameters = sum(each.numel() for each in self.module.parameters())
        start = f", {words}" if (words := self._start()) else ""
        rows = [("network", f"{network_name(self)}, {write_count(num_parameters)} parameters{start}")]
        try:
            found = self.scores.headline
            rows.append(
                (found.metric, f"{found.write(found.value)} ({found.range()}) on {self.scores.num_samples:,} samples")
            )
        except RunError:
            rows.append(("accuracy", "unknown: the training was not finished"))
        rows.append(("folder", str(self.folder)))
        nouns = ("target",) if self.task.name == "regression" else ("class", "classes")
        return f"Run {self.name}: {write_number_of(len(self.classes), *nouns)}", rows

    def _scores(self) -> AnyScores | None:
        """The scores; None if the training was not finished."""
        try:
            return self.scores
        except RunError:
            return None

    def _sheet(self) -> str:
        try:
            rows = self.history.rows
        except RunError:
            rows = ()
        size = self.preprocessing.size
        scores = self._scores()
        return run_preview(
            rows,
            _best_epoch(RunFolder.open(self.folder)),
            scores if isinstance(scores, Scores) else None,
            floor=lowest_loss(self.recipe.label_smoothing or 0.0, len(self.classes))
            if self.task.name == "single-label"
            else 0.0,
            unit=rank_words(len(size)).unit if size else "",
            nouns=f"{self.preprocessing.noun}s",
        )

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        scores = self._scores()
        if scores is None:
            return ()
        is_drawn = isinstance(scores, Scores) and len(self.classes) <= COUNTED_CLASSES
        drawn = ("classes", "confusion matrix") if is_drawn else ()  # those are on the sheet
        return tuple((name, table) for name, table in scores._tables() if name not in drawn)

    def text(self) -> Text:
        """The network, the accuracy and the folder; then the scores, or how to resume a stopped training.

        >>> run.text()[0]
        'Run levels: 3 classes'
        """
        title, rows = self._facts()
        scores = self._scores()
        details = tuple(unfinished_notes(self)) if scores is None else scores.text()
        return Text((title, *(f"{name}: {value}" for name, value in rows), *details))

    def _start(self) -> str:
        """What became of the weights that the training started from; empty for a new network."""
        if not (self.folder / "start.json").is_file():
            return ""
        folder = RunFolder.open(self.folder)
        try:
            start = folder.read_json("start.json")
            source = start["source"]
        except (RunError, KeyError):
            return "started from trained weights"
        try:
            is_kept = read_position(folder.checkpoint).best_epoch < 0
        except RunError:  # the checkpoint was removed
            return f"started from {source}"
        if self.which != "best" or not (self.folder / "scores.json").is_file():
            return f"started from {source}"
        if not is_kept:
            return f"fine-tuned from {source}"
        is_whole = start.get("has_own_head", True) and not start.get("left_new")
        return f"{source}, unchanged" if is_whole else f"{source}, with only the head trained"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the training.

        >>> run.recipe.epochs
        6
        """
        return Recipe.read(self.folder / "recipe.yaml")

    @property
    def history(self) -> History:
        """The metrics of each epoch, from ``results.csv``.

        Raises:
            RunError: the file is missing or damaged.

        >>> [round(value) for value in run.history["epoch"]]
        [1, 2, 3, 4, 5, 6]
        """
        return read_history(RunFolder.open(self.folder))

    @property
    def calibration(self) -> Fit:
        """The temperature that calibrates its probabilities; 1, with the reason, if none is used. Of other tasks, thresholds or intervals.

        Raises:
            RunError: ``calibration.json`` is damaged.

        >>> run.calibration.reason
        '5 samples of the validation set are too few to fit a temperature on; about 570 more samples in the data allow it'
        """
        return read_calibration(RunFolder.open(self.folder), self.which, self.recipe.tta or "none", self.task.name)

    def calibrator(self, *, raw: bool = False) -> Calibrator | Sigmoid | Numbers:
        """Turns the network's outputs into probabilities; of regression, into numbers in the units of the labels.

        Args:
            raw: use the network's own softmax.

        >>> run.calibrator().temperature
        1.0
        """
        found: AnyCalibrator = run_evaluation(self, raw=raw).calibrator
        return found

    def probabilities(self, logits: torch.Tensor, *, raw: bool = False) -> torch.Tensor:
        """The probabilities (samples, classes) for the outputs of ``logits`` or ``answers``.

        Args:
            logits: (samples, classes).
            raw: return the network's own probabilities, not calibrated; the most probable class is the same.

        Raises:
            UsageError: this is something other than logits, such as images.

        >>> logits = run.answers(data, "test")
        >>> run.probabilities(logits).shape
        torch.Size([12, 3])
        """
        check_logits(self, logits)
        return self.calibrator(raw=raw)(logits)

    @property
    def scores(self) -> AnyScores:
        """The scores written at the end of the training.

        Raises:
            RunError: the training was not finished, or the file is damaged; the message says how to go on.

        >>> run.scores.num_samples
        12
        """
        if unfinished_notes(self):
            raise RunError(
                f"this training was stopped before its end, so it has no scores. Resume it with {resume_call(self.folder)}, or score "
                f"it as it is with {for_caller(f'visus evaluate {shlex.quote(str(self.folder))}', 'run.evaluate()')}.",
                where=str(self.folder),
            )
        return scores_from_json(RunFolder.open(self.folder).read_json("scores.json"))

    def logits(self, batches: Iterable[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """The logits (samples, classes) for one batch or several batches of scaled inputs, with the test-time augmentation of the recipe.

        They are not calibrated; ``probabilities`` calibrates them.

        >>> batch = run.preprocessing.scaled(data.split("test").rows(slice(0, 4)))
        >>> run.logits(batch).shape, run.logits([batch, batch]).shape
        (torch.Size([4, 3]), torch.Size([8, 3]))
        """
        return logits_of(self, [self._one_batch(batches)] if isinstance(batches, torch.Tensor) else batches)

    def _one_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """The tensor, if it is a batch (samples, channels, *spatial)."""
        if batch.ndim != 1 + len(self.preprocessing.input_shape):
            raise UsageError(
                f"a batch is (samples, {', '.join(map(str, self.preprocessing.input_shape))}), and this tensor is {write_shape(batch.shape)}. For one "
                "sample, add the first axis: batch[None]."
            )
        return batch

    def open_data(
        self,
        data: Any = None,
        *,
        max_unreadable: float = MAX_UNREADABLE,
        cache_dir: str | Path | None = None,
        path_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        skip_missing: bool = False,
        class_depth: int | None = None,
        layout: str | None = None,
        progress: bool | None = None,
        on_event: OnEvent | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Data:
        """Open other data with this network's preprocessing and classes, or the run's own data with its original split.

        If ``data`` is the run's own data at a new path, it keeps its split, and the run saves the path.

        Args:
            data: a folder or file, a dataset of PyTorch or Hugging Face, or a table of pandas, as for ``visus.open_data``; default: the run's own data. In a dataset without
                a class list, whole numbers are places in that of the run.
            max_unreadable: the largest share of files that may be unreadable.
            cache_dir: another folder for the decoded samples.
            path_column, label_column, skip_missing, class_depth, layout: as for ``visus.open_data``, and for other data only.
            progress: False shows nothing on stderr.
            on_event: receives a ``Progress`` for each decoded sample.
            should_stop: called after each decoded sample; True raises ``CanceledError``.

        Raises:
            UsageError: ``path_column`` or a similar option is set without other data.
            DataError: the data has a class that the network does not know; or it is missing or has changed.

        >>> run.open_data().classes
        ('0', '1', '2')
        """
        reading = Reading(path_column, one_column(label_column), skip_missing, class_depth, layout)
        with following("decoding", Monitor(on_event, should_stop), progress) as monitor:
            long = {"cache_dir": cache_dir, **monitor.keywords}

            def open_path(path: str | Path | None, reading: Reading) -> Data:
                return self._opened(path, reading, max_unreadable, long)

            refuse_streams(data)
            if is_dataset(data):
                return open_given(data, self.task.name, self.classes, reading, monitor, open_path)
            if is_table(data):
                own = reading_of(RunFolder.open(self.folder).read_json("data.json"))
                column = reading.path_column or str(own.get("path_column") or "path")
                return open_given_table(data, reading, column if column in data.columns else "path", open_path)
            return open_path(data, reading)

    def _opened(self, data: str | Path | None, reading: Reading, max_unreadable: float, long: dict[str, Any]) -> Data:
        """Data opened for this network; ``long`` has the cache folder and the keywords of a long function."""
        if data is None:
            if reading != Reading():
                raise UsageError(
                    f"{', '.join(map(option, reading.to_json()))} without other data: the run reads its own as it was trained on. Leave it out."
                )
            return open_own_data(self.folder, self.preprocessing, **long)
        refuse_no_path(data)
        facts = RunFolder.open(self.folder).read_json("data.json")
        if reading == Reading() and (facts.get("labels") or facts.get("reading")):
            with contextlib.suppress(DataError):  # other data then, or without these labels
                return self._remembered(open_own_data(self.folder, self.preprocessing, data, **long))
        reading = dataclasses.replace(reading, task=self.task.name)
        opened = open_scoring_data(
            data, self.preprocessing, self.classes, max_unreadable=max_unreadable, reading=reading, **long
        )
        own = as_own(self.folder, opened)
        return opened if own is None else self._remembered(own)

    def _remembered(self, data: Data) -> Data:
        note = remember_place(self.folder, data)
        if not note:
            return data
        return dataclasses.replace(data, samples=dataclasses.replace(data.samples, notes=(*data.samples.notes, note)))


def run_evaluation(run: SavedRun, *, raw: bool = False) -> Evaluation[Any, Any]:
    """How the outputs of a run are evaluated.

    Args:
        run: the run.
        raw: use the network's own probabilities, not calibrated.

    >>> run_evaluation(run).name
    'single-label'
    """
    found = evaluation_of(run.task, run.calibration)
    return found.raw() if raw else found


def _best_epoch(folder: RunFolder) -> int | None:
    """The epoch of the kept weights, from 1; None if they are not those of one epoch, or if the checkpoint was removed."""
    try:
        best = read_position(folder.checkpoint).best_epoch + 1
    except RunError:
        return None
    return best if best > 0 else None


def network_name(run: SavedRun) -> str:
    """The network of a run as it was asked for, if that fits into a line; else the number of its layers, or its class.

    >>> network_name(run)
    'conv(4, 3), relu, globalpool, linear(classes)'
    """
    file = run.folder / "design.txt"
    design = file.read_text("utf-8", "replace").strip() if file.is_file() else ""
    try:
        asked = str(RunFolder.open(run.folder).read_json("data.json")["network"]).strip()
    except (RunError, KeyError):
        asked = ""
    for name in (design.removeprefix(OBJECT_PREFIX), asked):
        if name and len(name) <= MAX_NAME and "\n" not in name:
            return name
    num_layers = sum(1 for part in run.module.modules() if not list(part.children()))
    return f"{type(run.module).__name__} of {write_number_of(num_layers, 'layer')}"


def check_logits(run: SavedRun, logits: torch.Tensor) -> None:
    """Refuse what cannot be outputs of a run.

    Raises:
        UsageError: this is something other than logits, such as images.
    """
    if logits.ndim != 2 or logits.shape[1] != len(run.classes):
        raise UsageError(
            f"probabilities takes logits, (samples, {len(run.classes)} classes), as run.logits and run.answers return them, and this is "
            f"{write_shape(logits.shape)}. For the probabilities of {run.preprocessing.noun}s: run.predict."
        )


def logits_of(
    run: SavedRun, batches: Iterable[torch.Tensor], on_first_pass: Callable[[torch.Tensor], None] | None = None
) -> torch.Tensor:
    """The logits (samples, classes) of a run; the arguments are those of ``predict_logits``."""
    machine = run.machine
    return predict_logits(
        run.module,
        batches,
        device=machine.device,
        precision=machine.precision,
        channels_last=machine.channels_last,
        tta=run.recipe.tta or "none",
        on_first_pass=on_first_pass,
    )


def unfinished_notes(run: SavedRun) -> list[str]:
    """How to resume a stopped training; empty for a finished one."""
    if not RunFolder.open(run.folder).is_unfinished:
        return []
    return [f"This training was stopped before its end. Go on with: {resume_call(run.folder)}"]


Kind = TypeVar("Kind", bound=SavedRun)


def opened(run: SavedRun, data: Any, *, cache_dir: str | Path | None = None, monitor: Monitor = SILENT) -> Data:
    """Data opened by ``Run.open_data``; opened data is returned unchanged.

    Raises:
        UsageError: the data is the name of a split.
    """
    if isinstance(data, str) and data in SPLITS and not Path(data).exists():
        raise UsageError(
            f"the first argument is data, and there is no file or folder {data!r}. Did you mean split={data!r}?"
        )
    return data if isinstance(data, Data) else run.open_data(data, cache_dir=cache_dir, **monitor.keywords)


_OF_RUNS: Final[weakref.WeakKeyDictionary[nn.Module, Path]] = weakref.WeakKeyDictionary()
"""The modules of the runs in this process, and the folders of the runs."""


def apart_from_runs(network: Any) -> Any:
    """A copy of the network if it is the module of a run, so that training it leaves the run as it is; anything else unchanged."""
    if not isinstance(network, nn.Module) or network not in _OF_RUNS:
        return network
    copy = copied(network)
    remember_training(copy, _OF_RUNS[network])
    return copy


def read_run(
    kind: type[Kind], folder: str | Path, *, network: nn.Module | None = None, device: str = "auto", which: str = "best"
) -> Kind:
    """Load a run from its folder, as ``SavedRun`` or a subclass; the arguments are those of ``visus.load``.

    Raises:
        RunError: the folder is not a run, or a file is missing or damaged.
        WeightsError: the weights do not fit the design.
    """
    run = RunFolder.open(Path(folder))
    tensors, metadata = weights.load(run.weights_file(which))
    if "visus" not in metadata:
        raise RunError("these weights were not written by a training of visus.", where=str(run.weights_file(which)))
    facts: dict[str, Any] = json.loads(metadata["visus"])
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    classes = tuple(facts["classes"])
    module = make_network(
        run.read_text("design.txt").rstrip("\n") if network is None else network, preprocessing.input_shape, len(classes)
    ).module
    weights.fit_weights(module, tensors)
    if network is not None:
        module = copied(module)  # a later training of the person's module leaves this run as it is
    _OF_RUNS[module] = run.path
    precision = Recipe.read(run.path / "recipe.yaml").precision
    machine = suited(choose(device, precision), module)
    task = task_from_json(facts.get("task"), classes)
    return kind(run.path, module.to(machine.device).eval(), classes, preprocessing, machine, which, task)
