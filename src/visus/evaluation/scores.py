"""How good a network's answers are, with how sure that figure is and what a guess would reach.

This file knows probabilities, labels and class names.

Counts are exact. What has no value stays without one: the precision of a class that was never predicted and the recall of a
class without samples are None (``null`` in JSON), never 0. F1 is 2 TP / (2 TP + FP + FN), so it is 0 for a class that exists
and was never predicted, and None only for one that neither exists nor was predicted. Macro-F1 is the mean of those that are
defined.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visus.errors import DataError, RunError, TrainingError, UsageError
from visus.tables import Table, Text, notes
from visus.units import Described, write_number_of, write_share

if TYPE_CHECKING:
    import numpy as np

CALIBRATION_BINS = 15
MAX_CLASSES_SHOWN = 20  # of more, the confusion matrix is not printed
_CONFIDENCE = 0.95
_TINY = torch.finfo(torch.float32).tiny
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassScore:
    """One class: ``num_samples`` of it were scored, ``num_predicted`` samples were called so; None is an undefined share."""

    name: str
    num_samples: int
    num_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, repr=False)
class Scores(Described):
    """How the answers for one set of samples compare with their labels. All shares are from 0 to 1.

    Attributes:
        split: which split was scored, such as ``test``; empty where it was not said.
        num_samples: samples scored.
        accuracy: share of samples whose most probable class is their label.
        accuracy_low, accuracy_high: 95 % Wilson interval: how far the accuracy over many samples like these may lie from that
            over these few. It knows nothing of samples of another kind.
        baseline: share that always guessing the most frequent class of these samples would get right.
        baseline_class: that class; the first in the class list where several are equally frequent.
        loss: mean cross-entropy in nats; a probability of 0 counts as the smallest float32.
        confidence: mean probability of the predicted class.
        calibration_error: expected calibration error, the mean distance between confidence and accuracy over 15 equal bins.
        macro_f1: mean F1 over the classes that exist or were predicted.
        per_class: one row for each class, in the order of the class list.
        confusion: counts, rows are true classes and columns predicted ones.
        notes: what a reader must know, such as that the scored split also chose the weights.
        num_learned: samples with the content of a sample that the network learned from; None where that is not known.
        num_chose: further samples with the content of one that chose the weights (validation); None where that is not known.
        num_right_new: right answers for the samples that are neither; None where that is not known.
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

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        share = f"{write_share(self.accuracy)} ({write_share(self.accuracy_low)} to {write_share(self.accuracy_high)})"
        rows = [
            ("accuracy", share),
            ("baseline", f"{write_share(self.baseline)}, always {self.baseline_class!r}"),
            ("loss", f"{self.loss:.4g}; expected calibration error {write_share(self.calibration_error)}"),
        ]
        if known := self.learned_sentence():
            rows.insert(0, ("note", known))
        of = f" of the {self.split} split" if self.split else ""
        return f"Scores on {write_number_of(self.num_samples, 'sample')}{of}, {len(self.per_class):,} classes", rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the confusion's rows and columns."""
        return tuple(row.name for row in self.per_class)

    @property
    def num_right(self) -> int:
        """Samples whose most probable class is their label."""
        return sum(row[place] for place, row in enumerate(self.confusion))

    def sentence(self, noun: str = "sample") -> str:
        """The result as one sentence for people: accuracy, interval, number of samples, baseline."""
        return (
            f"{write_share(self.accuracy)} of {write_number_of(self.num_samples, noun)} right "
            f"(95 % interval {100 * self.accuracy_low:.1f} to {write_share(self.accuracy_high)}); "
            f"always guessing '{self.baseline_class}' gives {write_share(self.baseline)}"
        )

    def learned_sentence(self, noun: str = "sample") -> str:
        """How many of the samples the network knew before, and how it does on the others; empty where it knew none."""
        learned, chose = self.num_learned or 0, self.num_chose or 0
        if not learned and (
            not chose or self.split == "val"
        ):  # a validation split that is scored as such has a note of its own
            return ""
        facts = [f"{learned:,} of {write_number_of(self.num_samples, noun)} were learned from"] if learned else []
        facts += (
            [f"{chose:,} {'more ' if facts else f'of {write_number_of(self.num_samples, noun)} '}chose the weights"]
            if chose
            else []
        )
        num_new = self.num_samples - learned - chose
        if not num_new or self.num_right_new is None:
            return f"{' and '.join(facts)}: the figures say how well the network remembers, not how it does on new {noun}s."
        low, high = wilson_interval(self.num_right_new, num_new)
        return (
            f"{' and '.join(facts)}, which flatters the figures; accuracy on the {write_number_of(num_new, f'new {noun}')}: "
            f"{write_share(self.num_right_new / num_new)} (95 % interval {write_share(low)} to {write_share(high)})."
        )

    def most_confused(self, limit: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent mistakes as (true class, predicted class, samples), the most frequent first."""
        names = self.classes
        wrong = [
            (names[true], names[predicted], count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ]
        return sorted(wrong, key=lambda mistake: -mistake[2])[:limit]

    def text(self) -> Text:
        """The accuracy, every class, and the most frequent mistakes."""
        low, high = write_share(self.accuracy_low), write_share(self.accuracy_high)
        learned = self.learned_sentence()
        head = (
            f"accuracy on {self.num_samples:,} samples ({self.split}): {write_share(self.accuracy)} (95 % interval {low} to {high})",
            f"baseline, always guessing {self.baseline_class}: {write_share(self.baseline)}",
            f"calibration error: {write_share(self.calibration_error)} (mean confidence {write_share(self.confidence)}); "
            f"loss {self.loss:.4f}; macro F1 {self.macro_f1:.4f}",
            _class_table(self.per_class),
        )
        confused = (f"{count} x {true} predicted as {predicted}" for true, predicted, count in self.most_confused(5))
        return (*([learned] if learned else []), *head, *self._confusion_matrix(), *confused, *notes(self.notes))

    def _confusion_matrix(self) -> Text:
        """The counts of every pair of classes; nothing where there are too many classes to read."""
        if len(self.per_class) > MAX_CLASSES_SHOWN:
            return ()
        rows = tuple((row.name, *map(str, counts)) for row, counts in zip(self.per_class, self.confusion, strict=True))
        head = "confusion matrix: rows are true classes, columns predicted classes in the same order"
        return head, Table(rows, numbers=tuple(range(1, len(rows) + 1)))

    def confusion_csv(self) -> str:
        """The confusion as CSV text: a header of predicted classes, then one line for each true class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["true \\ predicted", *self.classes])
        writer.writerows([name, *row] for name, row in zip(self.classes, self.confusion, strict=True))
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Plain data that ``from_json`` reads back to an equal value."""
        facts = asdict(self)
        facts["per_class"] = [asdict(row) for row in self.per_class]
        facts["confusion"] = [list(row) for row in self.confusion]
        facts["notes"] = list(self.notes)
        return facts

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Scores:
        """The scores that ``to_json`` wrote.

        Raises:
            RunError: a field is missing or unknown.
        """
        try:
            parts = dict(facts)
            parts["per_class"] = tuple(ClassScore(**row) for row in parts["per_class"])
            parts["confusion"] = tuple(tuple(row) for row in parts["confusion"])
            parts["notes"] = tuple(parts.get("notes", ()))
            return cls(**parts)
        except (KeyError, TypeError) as error:
            raise RunError(
                f"these are not scores that this version of visus wrote ({error}). Evaluate the run again."
            ) from error


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
) -> Scores:
    """Compare probabilities with labels.

    Args:
        probabilities: (samples, classes), each row summing to 1. The prediction is the largest, the first one of equals.
        labels: index into ``classes`` for each sample; not every class need occur.
        classes: at least two names.
        split, notes: kept as they are.
        known: for each sample whether the network learned from it, and whether it chose the weights; None where that is not known.

    Raises:
        DataError: there is no sample, or a label that is no class.
        TrainingError: a probability is not a number: the network diverged.
        UsageError: the shapes do not belong together, or the rows are not probabilities.
    """
    chances, truth = torch.as_tensor(probabilities).detach().cpu(), torch.as_tensor(labels).detach().cpu().long()
    _check(chances, truth, classes)
    chances = chances.double()
    confidence, predicted = chances.max(dim=1)
    confusion, per_class = _count(predicted, truth, classes)
    num_samples, num_right = len(truth), int(confusion.trace())
    low, high = wilson_interval(num_right, num_samples)
    supports = confusion.sum(dim=1)
    defined = [row.f1 for row in per_class if row.f1 is not None]
    return Scores(
        split=split,
        num_samples=num_samples,
        accuracy=num_right / num_samples,
        accuracy_low=low,
        accuracy_high=high,
        baseline=int(supports.max()) / num_samples,
        baseline_class=classes[int(supports.argmax())],
        loss=float(-chances.gather(1, truth[:, None]).clamp(min=_TINY).log().mean()),
        confidence=float(confidence.mean()),
        calibration_error=_calibration_error(confidence, predicted == truth),
        macro_f1=statistics.fmean(defined),
        per_class=per_class,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        notes=tuple(notes),
        **_known_counts(known, predicted == truth),
    )


def _known_counts(
    known: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None, is_right: Tensor
) -> dict[str, int | None]:
    if known is None:
        return {}
    learned, chose = (torch.from_numpy(each) for each in known)
    right_new = int((is_right & ~learned & ~chose).sum())
    return {"num_learned": int(learned.sum()), "num_chose": int(chose.sum()), "num_right_new": right_new}


def wilson_interval(num_right: float, num_samples: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """The interval that holds the true share with ``confidence``, after ``num_right`` of ``num_samples``.

    Wilson's score interval (Wilson 1927): it stays inside 0 to 1 and is right for small counts and for shares near 0 and 1,
    where the usual plus-or-minus is not.

    >>> tuple(round(bound, 4) for bound in wilson_interval(944, 1000))
    (0.928, 0.9566)
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, shift = num_right / num_samples, z * z / num_samples
    middle = (share + shift / 2) / (1 + shift)
    half = z / (1 + shift) * math.sqrt(share * (1 - share) / num_samples + shift / (4 * num_samples))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _count(predicted: Tensor, truth: Tensor, classes: Sequence[str]) -> tuple[Tensor, tuple[ClassScore, ...]]:
    """The confusion (true, predicted) and the figures of each class, which torchmetrics computes the same from a longer way round.

    torchmetrics itself imports torchvision, transformers and scipy where they are installed, and fails where one of them is damaged.
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
    """For each confidence the bin that it lies in, of 15 equal ones from 0 to 1; the low end belongs to a bin, and 1 to the last.

    >>> calibration_bins(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 7, 14]
    """
    return (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)


def _calibration_error(confidence: Tensor, is_right: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3): over the bins, how far confidence and accuracy lie apart."""
    gaps = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    gaps.index_add_(0, calibration_bins(confidence), confidence.double() - is_right.double())
    return _digits(gaps.abs().sum() / len(confidence))


def _digits(value: Tensor) -> float:
    """A float32 figure with the seven digits that it holds: 0.9, not 0.8999999761581421."""
    return round(float(value), 7)


def _check(chances: Tensor, truth: Tensor, classes: Sequence[str]) -> None:
    """Refuse what cannot be scored."""
    num_classes = len(classes)
    if num_classes < 2:
        raise UsageError(f"scores need at least 2 classes, not {num_classes}.")
    if chances.dim() != 2 or chances.shape[1] != num_classes or truth.shape != chances.shape[:1]:
        raise UsageError(
            f"probabilities of shape {tuple(chances.shape)} and labels of shape {tuple(truth.shape)} "
            f"do not fit {num_classes} classes: (samples, {num_classes}) and (samples,) are needed."
        )
    if not len(truth):
        raise DataError("there is nothing to score: no samples were given.")
    finite = torch.isfinite(chances).all(dim=1)
    if not finite.all():
        raise TrainingError(
            f"the network's answer is not a number for {int((~finite).sum()):,} of {write_number_of(len(truth), 'sample')}: "
            "its training diverged. Use an earlier checkpoint, or train again with a smaller learning rate."
        )
    if chances.min() < -_SUM_TOLERANCE or (chances.sum(dim=1) - 1).abs().max() > _SUM_TOLERANCE:
        raise UsageError(
            "these are not probabilities: every row must be 0 or more and sum to 1. Apply softmax to logits first."
        )
    outside = (truth < 0) | (truth >= num_classes)
    if outside.any():
        wrong = int(truth[outside][0])
        raise DataError(f"the label {wrong} is no class: with {num_classes} classes, labels are 0 to {num_classes - 1}.")
