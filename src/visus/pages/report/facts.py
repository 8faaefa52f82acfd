"""The facts of a finished run that the report and the model card show, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.pages.parts.table import number
from visus.pages.parts.training_curves import history_points
from visus.pages.report.measurements import ReportMeasurements


@dataclass(frozen=True)
class ReportFacts:
    """Everything that ``write_report`` and ``write_card`` show. Plain data, so that it can come from a run's files alone.

    Attributes:
        name: name of the run.
        created: time of the training as text, such as ``2031-05-04 14:05``.
        command: the command that made it, without options of names and printing; empty if it was made from Python.
        data_name: name of the dataset.
        result: its metrics; ``result.split`` says on which split.
        classes: in the order of the network's outputs.
        class_counts: for each split, the number of samples of each class, in the order of ``classes``.
        input_shape: (channels, *spatial).
        num_parameters, macs: cost of the network; macs are for one sample, None if the network cannot be counted.
        history: the rows of ``results.csv``, as numbers or as their text; a missing or empty value is dropped.
        seconds: duration of the training.
        times: how long the command took up to its report, and its parts; empty if unknown.
        data: more about the data, as label and value, such as ``{"Kind": "a folder for each class"}``.
        ledger_sentences: what changed the samples, the labels or the values, the most important first.
        routine_sentences: the changes to the data that every training makes, such as of size and color format.
        warnings: warnings about the trustworthiness of the result.
        design_text: the design's notation; empty for a module of the user's own.
        network: the network as requested, such as ``compact`` or ``package.module:callable``.
        network_reason: why this network, where the machine and a time limit decided; else empty.
        preprocessing: the result of ``Preprocessing.to_dict()``.
        recipe: every setting of the training.
        machine: the result of ``Machine.to_dict()``.
        environment: the result of ``networks.machine.describe()``.
        best_epoch: the epoch whose weights were kept, from 1; None if they are not those of one epoch.
        noun: word for one sample: ``image``, ``signal``, ``volume``, ``sample``.
        measured: the measurements beyond the scores.
        start: the initial weights, as ``start.json`` has them; empty for new weights.
        computed: sentences on what was computed from the training samples before the first step.
        folder: the run folder as a command takes it; empty if none does, as where the network was a Python object.
        exact_command: the command that trains it again, with its own network, split and recipe; empty if no command can.
        interruptions: sentences on the end, the resumes and the changes of the training; empty for none.
        is_cut: whether a time limit ended the training or an epoch of it, so that no command trains the same weights.
        task: what the network predicts, one of ``visus.data.tasks.TASKS``.
        fit_sentence: how probabilities, thresholds or intervals were fitted, as a sentence.
        num_samples: number of samples of each split; empty to add up ``class_counts``.
        is_changed: whether answers to events changed the training, so that no command trains the same weights.
        check_command: the command that checks the data; empty for data in memory and the images that come with visus.
    """

    name: str
    created: str
    command: str
    data_name: str
    result: AnyScores
    classes: Sequence[str]
    class_counts: Mapping[str, Sequence[int]]
    input_shape: Sequence[int]
    num_parameters: int
    macs: int | None
    history: Sequence[Mapping[str, object]]
    seconds: float
    data: Mapping[str, object] = field(default_factory=dict)
    ledger_sentences: Sequence[str] = ()
    routine_sentences: Sequence[str] = ()
    warnings: Sequence[str] = ()
    design_text: str = ""
    network: str = ""
    preprocessing: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    best_epoch: int | None = None
    noun: str = "image"
    measured: ReportMeasurements = field(default_factory=ReportMeasurements)
    start: Mapping[str, object] = field(default_factory=dict)
    computed: Sequence[str] = ()
    network_reason: str = ""
    times: str = ""
    folder: str = ""
    exact_command: str = ""
    check_command: str = ""
    interruptions: str = ""
    is_cut: bool = False
    is_changed: bool = False
    task: str = "single-label"
    fit_sentence: str = ""
    num_samples: Mapping[str, int] = field(default_factory=dict)

    @property
    def split_totals(self) -> dict[str, int]:
        """Number of samples of each split that has any."""
        totals = self.num_samples or {split: sum(counts) for split, counts in self.class_counts.items()}
        return {split: count for split, count in totals.items() if count}

    @property
    def scores(self) -> Scores:
        """The scores of a network that predicts one class for each sample; other reports have no part that reads them."""
        assert isinstance(self.result, Scores), "these parts are of single labels"
        return self.result

    @property
    def label_smoothing(self) -> float:
        """Label smoothing of the loss; 0 if unknown."""
        return number(self.recipe.get("label_smoothing")) or 0.0

    @property
    def nouns(self) -> str:
        """The plural of ``noun``."""
        return f"{self.noun}s"

    def series(self, column: str) -> list[tuple[float, float]]:
        """One column of the history as (epoch, value) points; rows without a value are dropped."""
        return history_points(self.history, column)
