"""Metrics of a classifier: accuracy with a confidence interval and a baseline, per-class metrics, confusion matrix.

Undefined metrics are None (``null`` in JSON), never 0: the precision of a class that is never predicted, and the recall of a class without samples. F1 is
2 TP / (2 TP + FP + FN), so it is 0 for a class with samples that is never predicted, and None only for a class with neither samples nor predictions.
Macro-F1 is the mean of the defined values.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visus.errors import DataError, RunError, TrainingError, UsageError
from visus.evaluation.cluster_bootstrap import count_groups, group_notes, group_numbers, over_groups, proportion_interval
from visus.evaluation.intervals import wilson_interval
from visus.evaluation.ranking import Ranking
from visus.evaluation.tasks.task import Headline
from visus.tables import Described, Table, Text, notes
from visus.units import write_number_of, write_share

if TYPE_CHECKING:
    import numpy as np

CALIBRATION_BINS = 15
MAX_CLASSES_SHOWN = 20  # of more, the confusion matrix is not printed
MAX_ROWS = 200  # classes that a notebook shows at most
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_TOP = 5
_FEW = 100  # samples below which the intervals of thresholds say little
_HALF_DIGIT = 5e-8  # predictions are rounded to seven digits: 0.9 in float32 counts as 0.9
_TINY = torch.finfo(torch.float32).tiny
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassScore:
    """Metrics of one class with ``num_samples`` samples, predicted for ``num_predicted`` samples; None is undefined."""

    name: str
    num_samples: int
    num_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ThresholdScore:
    """Accuracy of the predictions with at least a probability.

    Args:
        probability: the lowest probability of these predictions.
        num_samples: number of them.
        num_right: number of correct ones.
        accuracy: fraction of correct ones; None if there are no predictions.
        accuracy_low, accuracy_high: its 95 % confidence interval, as that of all samples; None if there are no predictions.
    """

    probability: float
    num_samples: int
    num_right: int
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None


@dataclass(frozen=True, repr=False)
class Scores(Described):
    """Metrics of the predictions for a set of samples. All fractions are from 0 to 1.

    Attributes:
        split: name of the split, such as ``test``; may be empty.
        num_samples: number of samples.
        accuracy: fraction of the samples whose most probable class is their label.
        accuracy_low, accuracy_high: 95 % confidence interval of the accuracy on samples of the same kind: Wilson's, or the cluster
            bootstrap's where several samples are of one group, such as a patient.
        baseline: accuracy of always predicting the most frequent class of these samples.
        baseline_class: that class; of several, the first in the class list.
        loss: mean cross-entropy in nats; a probability of 0 counts as the smallest float32.
        confidence: mean probability of the predicted class.
        calibration_error: expected calibration error over 15 equal bins.
        macro_f1: mean F1 over the classes with samples or predictions.
        per_class: metrics of each class, in the order of the class list.
        confusion: confusion matrix of counts; rows are true classes, columns predicted ones.
        notes: remarks for the reader, for example that the split also selected the weights.
        num_learned: number of samples that equal a training sample; None if unknown.
        num_chose: number of further samples that equal a validation sample; None if unknown.
        num_right_new: number of correct predictions for all other samples; None if unknown.
        thresholds: accuracy of the predictions with at least a probability of 50, 70, 80, 90, 95 and 99 %; a threshold with the same
            samples as a lower one is left out.
        plain_accuracy: accuracy without test-time augmentation; None if there is none, or unknown.
        balanced_accuracy: mean recall of the classes with samples; None in scores of an earlier version, as are the next three.
        top5_accuracy: fraction of the samples whose label is among the five most probable classes; None for up to five classes.
        mean_auroc: mean area under the ROC curve of each class against the others; None if no class has one.
        mean_average_precision: mean area under the precision-recall curve of each class against the others.
        num_groups: number of groups that the interval is over; None where each sample is independent.

    >>> score([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1], ["cat", "dog"])
    Scores on 3 samples, 2 classes
      accuracy  66.7 % (20.8 % to 93.9 %)
      baseline  66.7 %, always 'dog'
      loss      0.4149; expected calibration error 30.0 %
    """

    split: str
    num_samples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    baseline: float
    baseline_class: str
    loss: float
    confidence: float
    calibration_error: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()
    num_learned: int | None = None
    num_chose: int | None = None
    num_right_new: int | None = None
    thresholds: tuple[ThresholdScore, ...] = ()
    plain_accuracy: float | None = None
    balanced_accuracy: float | None = None
    top5_accuracy: float | None = None
    mean_auroc: float | None = None
    mean_average_precision: float | None = None
    num_groups: int | None = None

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        accuracy = f"{write_share(self.accuracy)} ({write_share(self.accuracy_low)} to {write_share(self.accuracy_high)}{self.over_groups()})"
        rows = [
            ("accuracy", f"{accuracy}{f'; {plain}' if (plain := self.plain_phrase()) else ''}"),
            ("baseline", f"{write_share(self.baseline)}, always {self.baseline_class!r}"),
            ("loss", f"{self.loss:.4g}; expected calibration error {write_share(self.calibration_error)}"),
        ]
        if known := self.learned_sentence():
            rows.insert(0, ("note", known))
        of = f" of the {self.split} set" if self.split else ""
        return f"Scores on {write_number_of(self.num_samples, 'sample')}{of}, {len(self.per_class):,} classes", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        confusion = self._confusion_matrix()
        headings = ("true / predicted", *self.classes)
        matrix = [
            ("confusion matrix", Table(each.rows, headings, each.numbers)) for each in confusion if isinstance(each, Table)
        ]
        classes = (("classes", _class_table(self.per_class)), *matrix) if len(self.per_class) <= MAX_ROWS else ()
        sure = (("accuracy by probability", self._threshold_table()),) if self.thresholds else ()
        return (*classes, *sure)

    @property
    def headline(self) -> Headline:
        """The accuracy, with its interval and the baseline.

        >>> scores.headline.metric
        'accuracy'
        """
        words, interval = f"always guessing {self.baseline_class!r}", (self.accuracy_low, self.accuracy_high)
        return Headline("accuracy", self.accuracy, *interval, self.baseline, words, num_groups=self.num_groups)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the confusion matrix.

        >>> scores.classes
        ('0', '1', '2')
        """
        return tuple(row.name for row in self.per_class)

    @property
    def num_right(self) -> int:
        """Number of samples whose most probable class is their label.

        >>> scores.num_right == round(scores.accuracy * scores.num_samples)
        True
        """
        return sum(row[place] for place, row in enumerate(self.confusion))

    def sentence(self, noun: str = "sample") -> str:
        """Accuracy, interval, number of samples and baseline in one sentence.

        >>> score([[0.9, 0.1], [0.6, 0.4]], [0, 1], ["cat", "dog"]).sentence("image")
        "50.0 % of 2 images correct (95 % interval 9.5 to 90.5 %); always guessing 'cat' gives 50.0 %"
        """
        return (
            f"{write_share(self.accuracy)} of {write_number_of(self.num_samples, noun)} correct "
            f"(95 % interval {100 * self.accuracy_low:.1f} to {write_share(self.accuracy_high)}{self.over_groups()}); "
            f"always guessing '{self.baseline_class}' gives {write_share(self.baseline)}"
        )

    def over_groups(self) -> str:
        """What the interval is over, as a phrase that follows it; empty where each sample is independent.

        >>> scores.over_groups()
        ''
        """
        return over_groups(self.num_groups)

    def plain_phrase(self) -> str:
        """The accuracy without test-time augmentation, as a phrase; empty if it is the same or unknown.

        >>> scores.plain_phrase()
        ''
        """
        if self.plain_accuracy is None or self.plain_accuracy == self.accuracy:
            return ""
        return f"{write_share(self.plain_accuracy)} without test-time augmentation"

    def learned_sentence(self, noun: str = "sample") -> str:
        """Number of samples from the training, and the accuracy on the others; empty if none is from the training.

        >>> scores.learned_sentence()
        ''
        """
        learned, chose = self.num_learned or 0, self.num_chose or 0
        if not learned and (not chose or self.split == "val"):  # scores of the validation set have their own note
            return ""
        facts = [f"{learned:,} of {write_number_of(self.num_samples, noun)} were in the training set"] if learned else []
        facts += (
            [f"{chose:,} {'more ' if facts else f'of {write_number_of(self.num_samples, noun)} '}were in the validation set"]
            if chose
            else []
        )
        num_new = self.num_samples - learned - chose
        if not num_new or self.num_right_new is None:
            return f"{' and '.join(facts)}: these metrics say nothing about new {noun}s."
        low, high = wilson_interval(self.num_right_new, num_new)
        return (
            f"{' and '.join(facts)}, so the metrics are too good; accuracy on the {write_number_of(num_new, f'new {noun}')}: "
            f"{write_share(self.num_right_new / num_new)} (95 % interval {write_share(low)} to {write_share(high)})."
        )

    def most_confused(self, limit: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent errors as (true class, predicted class, number of samples), the most frequent first.

        >>> score([[0.9, 0.1], [0.6, 0.4]], [0, 1], ["cat", "dog"]).most_confused()
        [('dog', 'cat', 1)]
        """
        names = self.classes
        wrong = [
            (names[true], names[predicted], count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ]
        return sorted(wrong, key=lambda mistake: -mistake[2])[:limit]

    def text(self) -> Text:
        """The accuracy, every class, and the most frequent mistakes.

        >>> scores.text()[1]
        'baseline, always guessing 0: 33.3 %'
        """
        low, high = write_share(self.accuracy_low), write_share(self.accuracy_high)
        learned, plain = self.learned_sentence(), self.plain_phrase()
        head = (
            f"accuracy on {self.num_samples:,} samples{f' ({self.split})' if self.split else ''}: {write_share(self.accuracy)} (95 % interval {low} to {high}{self.over_groups()})"
            f"{f'; {plain}' if plain else ''}",
            f"baseline, always guessing {self.baseline_class}: {write_share(self.baseline)}",
            f"calibration error: {write_share(self.calibration_error)} (mean confidence {write_share(self.confidence)}); "
            f"loss {self.loss:.4f}; macro F1 {self.macro_f1:.4f}",
            *self._other_metrics(),
            _class_table(self.per_class),
        )
        confused = (f"{count} x {true} predicted as {predicted}" for true, predicted, count in self.most_confused(5))
        blocks = (*head, *self._confusion_matrix(), *confused, *self._threshold_text(), *notes(self.notes))
        return Text((learned, *blocks) if learned else blocks)

    def _other_metrics(self) -> list[str]:
        """Balanced accuracy, top-5 accuracy, AUROC and average precision in a line; nothing for scores of an earlier version."""
        values = {
            "balanced accuracy": self.balanced_accuracy,
            "top-5 accuracy": self.top5_accuracy,
            "AUROC": self.mean_auroc,
            "average precision": self.mean_average_precision,
        }
        known = [f"{name} {write_share(value)}" for name, value in values.items() if value is not None]
        return ["; ".join(known)] if known else []

    def _threshold_text(self) -> Text:
        """The accuracy of the predictions with at least a probability; nothing for scores without it."""
        if not self.thresholds:
            return Text()
        few = f"with {write_number_of(self.num_samples, 'sample')}, these intervals are wide: measure on more before you rely on a row"
        head = "accuracy of the predictions with at least this probability"
        return Text((head, self._threshold_table(), *([few] if self.num_samples < _FEW else [])))

    def _threshold_table(self) -> Table:
        rows = tuple(
            (
                write_share(each.probability, 0),
                write_share(each.num_samples / self.num_samples),
                "-" if each.accuracy is None else write_share(each.accuracy),
                "-"
                if each.accuracy_low is None or each.accuracy_high is None
                else f"{write_share(each.accuracy_low)} to {write_share(each.accuracy_high)}",
            )
            for each in self.thresholds
        )
        return Table(rows, ("probability", "share of samples", "accuracy", "95 % interval"), (0, 1, 2, 3))

    def _confusion_matrix(self) -> Text:
        """The counts of every pair of classes; nothing if there are too many classes to read."""
        if len(self.per_class) > MAX_CLASSES_SHOWN:
            return Text()
        rows = tuple((row.name, *map(str, counts)) for row, counts in zip(self.per_class, self.confusion, strict=True))
        head = "confusion matrix: rows are true classes, columns predicted classes in the same order"
        return Text((head, Table(rows, numbers=tuple(range(1, len(rows) + 1)))))

    def confusion_csv(self) -> str:
        """The confusion matrix as CSV: a header of predicted classes, then one line per true class.

        >>> print(score([[0.9, 0.1], [0.6, 0.4]], [0, 1], ["cat", "dog"]).confusion_csv())
        true \\ predicted,cat,dog
        cat,1,0
        dog,1,0
        <BLANKLINE>
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["true \\ predicted", *self.classes])
        writer.writerows([name, *row] for name, row in zip(self.classes, self.confusion, strict=True))
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value.

        >>> scores.to_json()["num_samples"]
        12
        """
        facts = asdict(self)
        facts["per_class"] = [asdict(row) for row in self.per_class]
        facts["confusion"] = [list(row) for row in self.confusion]
        facts["notes"] = list(self.notes)
        facts["thresholds"] = [asdict(row) for row in self.thresholds]
        return facts

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Scores:
        """The scores from the data of ``to_json``.

        Raises:
            RunError: a field is missing or unknown.

        >>> Scores.from_json(scores.to_json()) == scores
        True
        """
        try:
            parts = dict(facts)
            parts["per_class"] = tuple(ClassScore(**row) for row in parts["per_class"])
            parts["confusion"] = tuple(tuple(row) for row in parts["confusion"])
            parts["notes"] = tuple(parts.get("notes", ()))
            parts["thresholds"] = tuple(ThresholdScore(**row) for row in parts.get("thresholds", ()))
            return cls(**parts)
        except (KeyError, TypeError) as error:
            raise RunError(f"these scores are not of this version of visus ({error}). Evaluate the run again.") from error


def _class_table(per_class: Sequence[ClassScore]) -> Table:
    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = ((row.name, f"{row.num_samples:,}", *map(figure, (row.precision, row.recall, row.f1))) for row in per_class)
    return Table(tuple(rows), ("class", "samples", "precision", "recall", "F1"), (1, 2, 3, 4))


def score(
    probabilities: Tensor | np.ndarray[Any, Any],
    labels: Tensor | np.ndarray[Any, Any] | Sequence[int],
    classes: Sequence[str],
    *,
    split: str = "",
    notes: Sequence[str] = (),
    known: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None,
    groups: Sequence[str] | None = None,
) -> Scores:
    """Compute all metrics from probabilities and labels.

    Args:
        probabilities: (samples, classes), with rows that sum to 1. The prediction is the first of the largest.
        labels: index into ``classes`` for each sample; a class may have no samples.
        classes: class names, at least two.
        split: name of the split, stored in the result.
        notes: remarks for the reader, stored in the result.
        known: two boolean arrays (samples,): whether each sample is in the training set, and whether it is in the validation set; None if unknown.
        groups: the group of each sample, such as a patient, and "" for none: intervals are over groups. None for independent samples.

    Raises:
        DataError: there is no sample, or a label is outside the classes.
        TrainingError: a probability is NaN or infinite, since the network diverged.
        UsageError: the shapes do not match, or the rows are not probabilities.
    """
    rows, truth = torch.as_tensor(probabilities).detach().cpu(), torch.as_tensor(labels).detach().cpu().long()
    _check(rows, truth, classes)
    rows = rows.double()
    confidence, predicted = rows.max(dim=1)
    confusion, per_class = _count(predicted, truth, classes)
    num_samples, num_right = len(truth), int(confusion.trace())
    numbers = None if groups is None else group_numbers(groups)
    num_groups = count_groups(groups)
    low, high = proportion_interval((predicted == truth).numpy(), numbers)
    supports = confusion.sum(dim=1)
    defined = [row.f1 for row in per_class if row.f1 is not None]
    ranked = [Ranking(rows[:, place].numpy(), (truth == place).numpy()) for place in range(len(classes))]
    return Scores(
        split=split,
        num_samples=num_samples,
        accuracy=num_right / num_samples,
        accuracy_low=low,
        accuracy_high=high,
        baseline=int(supports.max()) / num_samples,
        baseline_class=classes[int(supports.argmax())],
        loss=float(-rows.gather(1, truth[:, None]).clamp(min=_TINY).log().mean()),
        confidence=float(confidence.mean()),
        calibration_error=_calibration_error(confidence, predicted == truth),
        macro_f1=statistics.fmean(defined),
        per_class=per_class,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        notes=(*notes, *group_notes(num_groups)),
        thresholds=_threshold_scores(confidence, predicted == truth, numbers),
        balanced_accuracy=statistics.fmean(row.recall for row in per_class if row.recall is not None),
        top5_accuracy=_top_accuracy(rows, truth),
        mean_auroc=_mean(each.auroc() for each in ranked),
        mean_average_precision=_mean(each.average_precision() for each in ranked),
        num_groups=num_groups,
        **_known_counts(known, predicted == truth),
    )


def _top_accuracy(probabilities: Tensor, truth: Tensor) -> float | None:
    """The share of samples whose label is among the five most probable classes; None for up to five classes."""
    num_classes = probabilities.shape[1]
    if num_classes <= _TOP:
        return None
    own = probabilities.gather(1, truth[:, None])
    is_first = torch.arange(num_classes) < truth[:, None]  # of equal probabilities, the first class counts as more probable
    ahead = ((probabilities > own) | ((probabilities == own) & is_first)).sum(1)
    return float((ahead < _TOP).double().mean())


def _mean(values: Iterable[float]) -> float | None:
    """The mean of the values that are not NaN; None without any."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else None


def _threshold_scores(
    confidence: Tensor, is_right: Tensor, groups: np.ndarray[Any, Any] | None
) -> tuple[ThresholdScore, ...]:
    """The accuracy above each threshold. One with the same samples as a lower one is left out."""
    found: list[ThresholdScore] = []
    for threshold in THRESHOLDS:
        is_above = confidence >= threshold - _HALF_DIGIT
        num_samples, num_right = int(is_above.sum()), int((is_above & is_right).sum())
        if found and num_samples == found[-1].num_samples:
            continue
        own = None if groups is None else groups[is_above.numpy()]
        bounds = proportion_interval(is_right[is_above].numpy(), own) if num_samples else ()
        interval = (num_right / num_samples, *bounds) if num_samples else ()
        found.append(ThresholdScore(threshold, num_samples, num_right, *interval))
    return tuple(found)


def _known_counts(
    known: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None, is_right: Tensor
) -> dict[str, int | None]:
    if known is None:
        return {}
    learned, chose = (torch.from_numpy(each) for each in known)
    right_new = int((is_right & ~learned & ~chose).sum())
    return {"num_learned": int(learned.sum()), "num_chose": int(chose.sum()), "num_right_new": right_new}


def _count(predicted: Tensor, truth: Tensor, classes: Sequence[str]) -> tuple[Tensor, tuple[ClassScore, ...]]:
    """The confusion matrix (true, predicted) and the metrics of each class, equal to those of torchmetrics.

    torchmetrics is not used: it imports torchvision, transformers and scipy if they are installed, and fails if one of them is broken.
    """
    num_classes = len(classes)
    confusion = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    right, true_samples, predicted_samples = confusion.diag(), confusion.sum(1), confusion.sum(0)
    precision, recall = right / predicted_samples, right / true_samples
    f1 = 2 * right / (true_samples + predicted_samples)
    rows = []
    for place, name in enumerate(classes):
        num_samples, num_predicted = int(confusion[place].sum()), int(confusion[:, place].sum())
        rows.append(
            ClassScore(
                name=name,
                num_samples=num_samples,
                num_predicted=num_predicted,
                precision=_digits(precision[place]) if num_predicted else None,
                recall=_digits(recall[place]) if num_samples else None,
                f1=_digits(f1[place]) if num_samples or num_predicted else None,
            )
        )
    return confusion, tuple(rows)


def calibration_bins(confidence: Tensor) -> Tensor:
    """Bin of each confidence, of 15 equal bins from 0 to 1; a bin includes its lower end, and the last one also 1.

    >>> calibration_bins(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 7, 14]
    """
    return (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)


def _calibration_error(confidence: Tensor, is_right: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3): mean distance between confidence and accuracy of the bins."""
    gaps = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    gaps.index_add_(0, calibration_bins(confidence), confidence.double() - is_right.double())
    return _digits(gaps.abs().sum() / len(confidence))


def _digits(value: Tensor) -> float:
    """A float32 value rounded to its seven significant digits: 0.9, not 0.8999999761581421."""
    return round(float(value), 7)


def _check(probabilities: Tensor, truth: Tensor, classes: Sequence[str]) -> None:
    """Raise for invalid probabilities or labels."""
    num_classes = len(classes)
    if num_classes < 2:
        raise UsageError(f"scores need at least 2 classes, not {num_classes}.")
    if probabilities.dim() != 2 or probabilities.shape[1] != num_classes or truth.shape != probabilities.shape[:1]:
        raise UsageError(
            f"probabilities of shape {tuple(probabilities.shape)} and labels of shape {tuple(truth.shape)} "
            f"do not match {num_classes} classes: (samples, {num_classes}) and (samples,) are needed."
        )
    if not len(truth):
        raise DataError("there is nothing to score: no samples were given.")
    finite = torch.isfinite(probabilities).all(dim=1)
    if not finite.all():
        raise TrainingError(
            f"the network's probabilities are NaN or infinite for {int((~finite).sum()):,} of {write_number_of(len(truth), 'sample')}: "
            "its training diverged. Use an earlier checkpoint, or train again with a smaller learning rate."
        )
    if probabilities.min() < -_SUM_TOLERANCE or (probabilities.sum(dim=1) - 1).abs().max() > _SUM_TOLERANCE:
        raise UsageError(
            "these are not probabilities: values must be at least 0, and every row must sum to 1. Apply softmax to logits first."
        )
    outside = (truth < 0) | (truth >= num_classes)
    if outside.any():
        wrong = int(truth[outside][0])
        raise DataError(f"the label {wrong} is out of range: with {num_classes} classes, labels are 0 to {num_classes - 1}.")
