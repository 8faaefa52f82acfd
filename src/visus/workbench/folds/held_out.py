"""What the network of each fold answers for the samples of its fold, by task: the out-of-fold scores, and the rows of ``out_of_fold.csv``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visus.data.opened import Data
from visus.data.tasks import SEPARATOR
from visus.evaluation.scores import score
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.multi_label_scores import score_set_probabilities
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import RegressionScores, score_numbers
from visus.progress import Monitor
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import run_evaluation


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The answers for samples that no network learned from, each by that of its fold.

    Args:
        names: name of each sample.
        folds: its fold, from 1.
        labels: its label, as in ``visus.data.tasks``.
        groups: its group; empty texts without groups.
        values: probabilities (N, K), or numbers (N, K).
        limits: of sets of classes the thresholds (N, K), of numbers the half widths of their intervals, NaN for none; else empty (N, 0).
        means: of numbers, the training means (N, K), which are the baseline; else empty (N, 0).
        losses: of numbers, the loss (N,); else NaN.
    """

    names: tuple[str, ...]
    folds: NDArray[np.int64]
    labels: NDArray[Any]
    groups: tuple[str, ...]
    values: NDArray[Any]
    limits: NDArray[np.float64]
    means: NDArray[np.float64]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, run: Run, data: Data, number: int, monitor: Monitor) -> HeldOut:
        """The answers of the network of one fold.

        Args:
            run: the run of the fold.
            data: the data of the fold, whose test set is the fold.
            number: the fold.
            monitor: receives the progress, and can cancel.
        """
        part = data.split("test")
        logits = run.answers(data, "test", **monitor.keywords)
        limits, means = np.empty((len(part), 0)), np.empty((len(part), 0))
        losses = np.full(len(part), np.nan)
        evaluation = run_evaluation(run)
        if isinstance(run.task, Regression):
            widths = evaluation.half_widths or (np.nan,) * len(run.classes)
            limits, means = np.tile(widths, (len(part), 1)), np.tile(run.task.mean, (len(part), 1))
            losses = run.task.losses(logits, torch.from_numpy(part.labels)).double().numpy()
        elif evaluation.thresholds:
            limits = np.tile(evaluation.thresholds, (len(part), 1))
        return cls(
            tuple(part.names),
            np.full(len(part), number),
            part.labels,
            tuple(data.groups_of("test") or [""] * len(part)),
            run.probabilities(logits).numpy(),
            limits,
            means,
            losses,
        )

    @classmethod
    def together(cls, parts: Sequence[HeldOut], order: Sequence[str]) -> HeldOut:
        """The answers of all folds, with the samples in this order.

        Args:
            parts: the folds.
            order: names of samples, maybe of others too.
        """
        place = {name: number for number, name in enumerate(order)}
        names = [name for part in parts for name in part.names]
        by_place = np.argsort([place[name] for name in names])
        groups = [group for part in parts for group in part.groups]

        def joined(field: str) -> NDArray[Any]:
            found: NDArray[Any] = np.concatenate([getattr(part, field) for part in parts])[by_place]
            return found

        arrays = {name: joined(name) for name in ("folds", "labels", "values", "limits", "means", "losses")}
        return cls(
            names=tuple(names[number] for number in by_place),
            groups=tuple(groups[number] for number in by_place),
            **arrays,
        )

    def scores(self, classes: Sequence[str], notes: Sequence[str], *, has_groups: bool) -> AnyScores:
        """The out-of-fold scores.

        Args:
            classes: the classes, or targets.
            notes: remarks for the reader.
            has_groups: whether intervals are over the groups.
        """
        how: dict[str, Any] = {"split": "out-of-fold", "notes": notes, "groups": self.groups if has_groups else None}
        if self.labels.ndim == 1:
            return score(self.values, self.labels.tolist(), classes, **how)
        if not self.means.shape[1]:
            return score_set_probabilities(self.values, self.labels, classes, self.limits, **how)
        return self._number_scores(classes, how)

    def _number_scores(self, targets: Sequence[str], how: dict[str, Any]) -> RegressionScores:
        """The scores of numbers. Baseline, intervals and loss are those of the fold of each sample."""
        task = Regression(tuple(targets), tuple(self.labels.mean(axis=0)), tuple(self.labels.std(axis=0)))
        outputs = task.standardized(torch.from_numpy(self.values))
        found = score_numbers(task, outputs, torch.from_numpy(self.labels), IntervalFit(), **how)
        baselines = np.abs(self.labels - self.means).mean(axis=0)
        shares = np.where(
            np.isnan(self.limits).any(axis=0), np.nan, (np.abs(self.values - self.labels) <= self.limits).mean(axis=0)
        )
        rows = tuple(
            dataclasses.replace(row, baseline=float(baseline), covered=None if np.isnan(share) else float(share))
            for row, baseline, share in zip(found.targets, baselines, shares, strict=True)
        )
        return dataclasses.replace(found, targets=rows, loss=float(self.losses.mean()))

    def rows(self, classes: Sequence[str]) -> Iterator[Sequence[object]]:
        """The header and the rows of ``out_of_fold.csv``; sets of classes are written as ``cat|dog``.

        Args:
            classes: the classes, or targets.
        """
        if self.means.shape[1]:
            yield "sample", "fold", *(f"{what}:{name}" for name in classes for what in ("label", "prediction"))
            for name, fold, label, value in zip(self.names, self.folds.tolist(), self.labels, self.values, strict=True):
                pairs = zip(label.tolist(), value.tolist(), strict=True)
                yield name, fold, *(cell for truth, found in pairs for cell in (repr(truth), f"{found:.9g}"))
            return
        yield "sample", "label", "fold", "prediction", *(f"probability:{name}" for name in classes)
        if self.labels.ndim == 1:
            labels = [classes[label] for label in self.labels.tolist()]
            predicted = [classes[place] for place in self.values.argmax(axis=1).tolist()]
        else:
            labels = [_set_text(row, classes) for row in self.labels > 0.5]
            predicted = [_set_text(row, classes) for row in self.values >= self.limits]
        for name, label, fold, answer, shares in zip(
            self.names, labels, self.folds.tolist(), predicted, self.values.tolist(), strict=True
        ):
            yield name, label, fold, answer, *(f"{share:.7g}" for share in shares)


def _set_text(row: NDArray[np.bool_], classes: Sequence[str]) -> str:
    return SEPARATOR.join(name for name, is_there in zip(classes, row, strict=True) if is_there)
