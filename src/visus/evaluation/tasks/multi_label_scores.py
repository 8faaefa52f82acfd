"""Metrics of predicted sets of classes: mean average precision, AUROC, and for each class precision and recall at its threshold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from visus.errors import DataError, RunError, TrainingError
from visus.evaluation.cluster_bootstrap import count_groups, each_alone, group_notes, metric_interval
from visus.evaluation.metrics import nan_mean
from visus.evaluation.ranking import Ranking, mean_average_precisions
from visus.evaluation.tasks.label_thresholds import ThresholdFit
from visus.evaluation.tasks.task import Headline
from visus.tables import Described, Table, Text, notes
from visus.units import write_number_of, write_share

MAX_ROWS = 200


@dataclass(frozen=True)
class LabelScore:
    """Metrics of one class; None is undefined.

    Args:
        name: the class.
        num_samples: number of samples with the class.
        num_predicted: number of samples whose probability reaches the threshold.
        threshold: the threshold.
        precision, recall, f1: of the samples predicted with the class, those with it; of the samples with it, those predicted; their harmonic mean.
        average_precision: area under the precision-recall curve.
        auroc: area under the ROC curve.
    """

    name: str
    num_samples: int
    num_predicted: int
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    auroc: float | None


@dataclass(frozen=True, repr=False)
class MultiLabelScores(Described):
    """Metrics of the predicted sets of classes for a set of samples. All fractions are from 0 to 1.

    Attributes:
        split: name of the split, such as ``test``; may be empty.
        num_samples: number of samples.
        mean_average_precision: mean over the classes that occur.
        mean_average_precision_low, mean_average_precision_high: its 95 % bootstrap interval over samples, or over groups of them.
        baseline: mean average precision of the same probability for every sample: the mean share of samples with a class.
        mean_auroc: mean over the classes that occur, and not in all samples; None if there is none.
        exact_match: fraction of the samples whose set of classes is predicted exactly.
        label_accuracy: fraction of correct answers to the question whether a sample has a class.
        macro_f1: mean F1 over the classes with samples or predictions; None if there is none.
        micro_f1: F1 of all classes together; None without samples and predictions.
        loss: mean binary cross-entropy in nats.
        per_class: metrics of each class.
        notes: remarks for the reader.
        num_groups: number of groups that the interval draws as a whole; None if the data has none.
        num_learned: number of samples that equal a training sample; None if unknown.
        num_chose: number of further samples that equal a validation sample; None if unknown.

    >>> set_scores.num_samples, round(set_scores.mean_average_precision, 3)
    (3, 1.0)
    """

    split: str
    num_samples: int
    mean_average_precision: float
    mean_average_precision_low: float
    mean_average_precision_high: float
    baseline: float
    mean_auroc: float | None
    exact_match: float
    label_accuracy: float
    macro_f1: float | None
    micro_f1: float | None
    loss: float
    per_class: tuple[LabelScore, ...]
    notes: tuple[str, ...] = ()
    num_groups: int | None = None
    num_learned: int | None = None
    num_chose: int | None = None

    @property
    def headline(self) -> Headline:
        """The mean average precision.

        >>> set_scores.headline.metric
        'mean average precision'
        """
        return Headline(
            "mean average precision",
            self.mean_average_precision,
            self.mean_average_precision_low,
            self.mean_average_precision_high,
            self.baseline,
            "the same probability for every sample",
            num_groups=self.num_groups,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the network's outputs.

        >>> set_scores.classes
        ('cat', 'dog')
        """
        return tuple(row.name for row in self.per_class)

    def sentence(self, noun: str = "sample") -> str:
        """The main metric, its interval and the baseline in one sentence.

        >>> set_scores.sentence('image').endswith(' on 3 images; the same probability for every sample has 50.0 %')
        True
        """
        return self.headline.sentence(write_number_of(self.num_samples, noun))

    def learned_sentence(self, noun: str = "sample") -> str:
        """Number of samples from the training; empty if none is.

        >>> set_scores.learned_sentence()
        ''
        """
        return learned_sentence(self.num_learned, self.num_chose, self.num_samples, self.split, noun)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        found = self.headline
        rows = [
            (found.metric, found.phrase()),
            ("baseline", f"{found.write(found.baseline)}, {found.baseline_words}"),
            (
                "exact match",
                f"{write_share(self.exact_match)} of the sets; {write_share(self.label_accuracy)} of the labels",
            ),
        ]
        of = f" of the {self.split} set" if self.split else ""
        return f"Scores on {write_number_of(self.num_samples, 'sample')}{of}, {len(self.per_class):,} classes", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("classes", self.class_table()),) if len(self.per_class) <= MAX_ROWS else ()

    def class_table(self) -> Table:
        """A row for each class.

        >>> set_scores.class_table().headings[:5]
        ('class', 'samples', 'AP', 'AUROC', 'threshold')
        """

        def figure(value: float | None) -> str:
            return "-" if value is None else f"{value:.3f}"

        rows = tuple(
            (
                row.name,
                f"{row.num_samples:,}",
                *map(figure, (row.average_precision, row.auroc)),
                f"{row.threshold:.2f}",
                *map(figure, (row.precision, row.recall, row.f1)),
            )
            for row in self.per_class
        )
        headings = ("class", "samples", "AP", "AUROC", "threshold", "precision", "recall", "F1")
        return Table(rows, headings, tuple(range(1, 8)))

    def text(self) -> Text:
        """The main metric, the sets, and every class.

        >>> set_scores.text()[1]
        'baseline, the same probability for every sample: 50.0 %'
        """
        f1 = "-" if self.macro_f1 is None else f"{self.macro_f1:.4f}"
        head = (
            f"mean average precision on {self.num_samples:,} samples{f' ({self.split})' if self.split else ''}: {self.headline.phrase()}",
            f"baseline, the same probability for every sample: {write_share(self.baseline)}",
            f"exact match: {write_share(self.exact_match)} of the sets; label accuracy {write_share(self.label_accuracy)}; macro F1 {f1}; loss {self.loss:.4f}",
            self.class_table(),
        )
        learned = self.learned_sentence()
        return Text((*([learned] if learned else []), *head, *notes(self.notes)))

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value.

        >>> set_scores.to_json()["task"]
        'multi-label'
        """
        return {"task": "multi-label", **asdict(self)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> MultiLabelScores:
        """The scores from the data of ``to_json``.

        Raises:
            RunError: a field is missing or unknown.

        >>> MultiLabelScores.from_json(set_scores.to_json()) == set_scores
        True
        """
        try:
            parts = {name: value for name, value in facts.items() if name != "task"}
            parts["per_class"] = tuple(LabelScore(**row) for row in parts["per_class"])
            return cls(**parts | {"notes": tuple(parts["notes"])})
        except (KeyError, TypeError) as error:
            raise RunError(f"these scores are not of this version of visus ({error}). Evaluate the run again.") from error


def learned_sentence(num_learned: int | None, num_chose: int | None, num_samples: int, split: str, noun: str) -> str:
    """How many samples are those of the training, as a sentence; empty if none is.

    >>> learned_sentence(3, 0, 10, "test", "image")
    '3 of 10 images were in the training set, so the metrics are too good.'
    """
    counts = [(num_learned or 0, "training"), (0 if split == "val" else num_chose or 0, "validation")]
    parts = [f"{count:,} of {write_number_of(num_samples, noun)} were in the {name} set" for count, name in counts if count]
    return f"{' and '.join(parts)}, so the metrics are too good." if parts else ""


def score_sets(
    logits: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    fit: ThresholdFit,
    *,
    split: str = "",
    notes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> MultiLabelScores:
    """Score the logits of a multi-label network.

    Args:
        logits: (samples, classes).
        labels: (samples, classes) of 0 and 1.
        classes: names of the classes.
        fit: temperature and thresholds.
        split: name of the split.
        notes: remarks for the reader.
        groups: group of each sample, for the interval.

    Raises:
        DataError: there is no sample, or none has a class.
        TrainingError: a logit is NaN or infinite.

    >>> logits, labels = torch.tensor([[2.0, -1.0], [-2.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    >>> score_sets(logits, labels, ["cat", "dog"], ThresholdFit(thresholds=(0.5, 0.5))).exact_match
    0.5
    """
    if not torch.isfinite(logits).all():
        raise TrainingError(
            "the network's outputs are NaN or infinite: its training diverged. Train again with a smaller learning rate."
        )
    thresholds = np.array(fit.thresholds or (0.5,) * len(classes))
    how: dict[str, Any] = {"split": split, "notes": notes, "groups": groups}
    found = score_set_probabilities(fit.calibrator(logits).numpy(), labels.numpy(), classes, thresholds, **how)
    loss = F.binary_cross_entropy_with_logits(
        logits.double() / fit.temperature, labels.double()
    )  # without the rounding to float32
    return dataclasses.replace(found, loss=float(loss))


def score_set_probabilities(
    probabilities: NDArray[Any],
    labels: NDArray[Any],
    classes: Sequence[str],
    thresholds: NDArray[np.float64],
    *,
    split: str = "",
    notes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> MultiLabelScores:
    """Score probabilities of sets of classes, such as the mean over several networks.

    Args:
        probabilities: (samples, classes).
        labels: (samples, classes) of 0 and 1.
        classes: names of the classes.
        thresholds: (classes,), the probability from which on a sample has the class; or (samples, classes) where it differs between samples, as in
            folds. ``per_class`` then has its mean.
        split, notes, groups: as for ``score_sets``.

    Raises:
        DataError: there is no sample, or none has a class.

    >>> shares, labels = np.array([[0.9, 0.3], [0.1, 0.8]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> score_set_probabilities(shares, labels, ["cat", "dog"], np.array([0.5, 0.5])).exact_match
    0.5
    """
    if not len(labels):
        raise DataError("there is nothing to score: no samples were given.")
    probabilities, truth = probabilities.astype(np.float64), labels > 0.5
    predicted = probabilities >= thresholds
    mean_thresholds = np.broadcast_to(thresholds, probabilities.shape).mean(0)
    ranked = [Ranking(probabilities[:, place], truth[:, place]) for place in range(len(classes))]
    rows = tuple(
        _label_score(name, truth[:, place], predicted[:, place], float(mean_thresholds[place]), ranked[place])
        for place, name in enumerate(classes)
    )
    precisions = [row.average_precision for row in rows if row.average_precision is not None]
    if not precisions:
        raise DataError("no sample has any of the classes, so there is nothing to score.")

    def mean_precision(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(mean_average_precisions(ranked, weights))

    low, high = metric_interval(mean_precision, each_alone(groups, len(labels)))
    num_groups = count_groups(groups)
    hits, marked, positive = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    f1s = [row.f1 for row in rows if row.f1 is not None]
    aurocs = [row.auroc for row in rows if row.auroc is not None]
    occurring = truth.any(axis=0)
    loss = F.binary_cross_entropy(torch.from_numpy(probabilities), torch.from_numpy(truth).double())
    return MultiLabelScores(
        split=split,
        num_samples=len(labels),
        mean_average_precision=float(np.mean(precisions)),
        mean_average_precision_low=max(0.0, low),
        mean_average_precision_high=min(1.0, high),
        baseline=float(truth[:, occurring].mean()),
        mean_auroc=nan_mean(aurocs) if aurocs else None,
        exact_match=float((predicted == truth).all(axis=1).mean()),
        label_accuracy=float((predicted == truth).mean()),
        macro_f1=float(np.mean(f1s)) if f1s else None,
        micro_f1=2 * hits / (marked + positive) if marked + positive else None,
        loss=float(loss),
        per_class=rows,
        notes=(*notes, *group_notes(num_groups)),
        num_groups=num_groups,
    )


def _label_score(
    name: str, truth: NDArray[np.bool_], predicted: NDArray[np.bool_], threshold: float, ranking: Ranking
) -> LabelScore:
    hits, marked, positive = int((truth & predicted).sum()), int(predicted.sum()), int(truth.sum())
    precision, auroc = ranking.average_precision(), ranking.auroc()
    return LabelScore(
        name,
        positive,
        marked,
        threshold,
        hits / marked if marked else None,
        hits / positive if positive else None,
        2 * hits / (marked + positive) if marked + positive else None,
        None if math.isnan(precision) else precision,
        None if math.isnan(auroc) else auroc,
    )
