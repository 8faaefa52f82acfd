"""The result of a cross-validation: out-of-fold scores, mean and spread over the folds, and the networks."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from torch import nn

from visus.caller import resume_call
from visus.errors import RunError
from visus.evaluation.scores import Scores
from visus.networks.own_code import copied
from visus.tables import Described, Table, Text, notes
from visus.units import write_share
from visus.workbench.ensembles import Ensemble
from visus.workbench.runs.fold_folders import fold_folders
from visus.workbench.runs.run import Run, load

SUMMARY: Final = "summary.json"
PREDICTIONS: Final = "out_of_fold.csv"
REPORT: Final = "report.html"


@dataclass(frozen=True)
class FoldResult:
    """One fold of a cross-validation.

    Args:
        fold: its number, from 1.
        num_train, num_val, num_samples: samples that its network is trained on, that choose its weights, and that it predicts.
        accuracy: fraction of its samples that are predicted correctly.
        accuracy_low, accuracy_high: 95 % interval of this accuracy.
        loss: mean cross-entropy of its samples, in nats.

    >>> crossed.folds[0].fold, crossed.folds[0].num_samples
    (1, 20)
    """

    fold: int
    num_train: int
    num_val: int
    num_samples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    loss: float


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Described):
    """A cross-validation in its folder, with a run for each fold in ``fold1``, ``fold2`` ... ``visus.cross_validate`` makes one.

    Args:
        folder: its folder. ``out_of_fold.csv`` has the prediction for each sample, ``report.html`` the report, ``summary.json`` the figures.

    >>> crossed.folder.name, len(crossed.folds)
    ('levels', 3)
    """

    folder: Path

    @cached_property
    def _summary(self) -> Mapping[str, Any]:
        file = self.folder / SUMMARY
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        except FileNotFoundError:
            raise RunError(
                f"this cross-validation was stopped before its end, so it has no result. Go on with: {resume_call(self.folder)}",
                where=str(self.folder),
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{SUMMARY} is damaged. Write it again with: {resume_call(self.folder)}", where=str(self.folder)
            ) from error

    @property
    def is_finished(self) -> bool:
        """Whether all folds are trained and scored.

        >>> crossed.is_finished
        True
        """
        return (self.folder / SUMMARY).is_file()

    @property
    def scores(self) -> Scores:
        """The out-of-fold scores: each sample is predicted by the network that did not learn from it.

        Raises:
            RunError: not all folds are trained.

        >>> crossed.scores.num_samples
        60
        """
        return Scores.from_json(self._summary["out_of_fold"])

    @property
    def test_scores(self) -> Scores | None:
        """The scores of the mean of the networks on the test set; None without one.

        >>> crossed.test_scores is None
        True
        """
        found = self._summary["test"]
        return None if found is None else Scores.from_json(found)

    @property
    def folds(self) -> tuple[FoldResult, ...]:
        """The result of each fold.

        >>> [each.num_samples for each in crossed.folds]
        [20, 20, 20]
        """
        return tuple(FoldResult(**each) for each in self._summary["folds"])

    @property
    def mean(self) -> float:
        """Mean of the accuracies of the folds.

        >>> crossed.mean == sum(each.accuracy for each in crossed.folds) / 3
        True
        """
        return statistics.fmean(each.accuracy for each in self.folds)

    @property
    def spread(self) -> float:
        """Standard deviation of the accuracies of the folds.

        >>> crossed.spread >= 0
        True
        """
        return statistics.stdev(each.accuracy for each in self.folds)

    @property
    def out_of_fold(self) -> Path:
        """The CSV file of the out-of-fold predictions: sample, label, fold, prediction, and the probability of each class.

        >>> crossed.out_of_fold.read_text().splitlines()[0]
        'sample,label,fold,prediction,probability:0,probability:1,probability:2'
        """
        return self.folder / PREDICTIONS

    def runs(self, *, network: nn.Module | None = None, device: str = "auto") -> tuple[Run, ...]:
        """The run of each fold.

        Args:
            network: the module, for a cross-validation of a module object; each run has a copy.
            device: where to compute; see ``Recipe.device``.

        >>> [each.name for each in crossed.runs()]
        ['fold1', 'fold2', 'fold3']
        """
        folders = fold_folders(self.folder)
        return tuple(load(each, network=None if network is None else copied(network), device=device) for each in folders)

    def ensemble(self, *, network: nn.Module | None = None, device: str = "auto") -> Ensemble:
        """The networks of all folds as one: the mean of their probabilities.

        Args:
            network, device: as for ``runs``.

        >>> len(list(crossed.ensemble().predict(images)))
        6
        """
        return Ensemble(self.runs(network=network, device=device))

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        if not self.is_finished:
            return f"Cross-validation {self.folder.name}", [
                ("result", "none: it was stopped before its end"),
                ("next", resume_call(self.folder)),
            ]
        scores = self.scores
        interval = f"{write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)}{scores.over_groups()}"
        rows = [
            ("out of fold", f"{write_share(scores.accuracy)} ({interval}) on {scores.num_samples:,} samples"),
            ("folds", self.spread_sentence()),
            ("baseline", f"{write_share(scores.baseline)}, always {scores.baseline_class!r}"),
            *([("test set", self.test_scores.sentence())] if self.test_scores is not None else []),
            ("folder", str(self.folder)),
        ]
        return f"Cross-validation {self.folder.name}: {len(self.folds)} folds, {len(scores.classes):,} classes", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("folds", fold_table(self.folds)), *self.scores._tables()) if self.is_finished else ()

    def spread_sentence(self) -> str:
        """Mean and spread of the accuracy over the folds, in words.

        >>> crossed.spread_sentence().startswith("mean accuracy ")
        True
        """
        shares = [each.accuracy for each in self.folds]
        return (
            f"mean accuracy {write_share(self.mean)}, standard deviation {100 * self.spread:.1f} points (lowest {write_share(min(shares))}, "
            f"highest {write_share(max(shares))})"
        )

    def text(self) -> Text:
        """The out-of-fold accuracy, the folds, each class, and the test set, where there is one.

        >>> str(crossed.text()[0]).startswith("out-of-fold accuracy: ")
        True
        """
        scores, test = self.scores, self.test_scores
        head = f"out-of-fold accuracy: {scores.sentence()}"
        tested = [] if test is None else [f"test set, mean of the {len(self.folds)} networks: {test.sentence()}"]
        details = [each for each in scores.text()[2:] if not str(each).startswith("note: ")]
        return Text((head, self.spread_sentence(), fold_table(self.folds), *tested, *details, *notes(scores.notes)))

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data, as in ``summary.json``.

        >>> sorted(crossed.to_json())
        ['folds', 'mean', 'num_folds', 'out_of_fold', 'spread', 'test']
        """
        return dict(self._summary)


def fold_table(folds: Sequence[FoldResult]) -> Table:
    """A row for each fold."""
    rows = tuple(
        (
            str(each.fold),
            f"{each.num_train:,}",
            f"{each.num_val:,}",
            f"{each.num_samples:,}",
            write_share(each.accuracy),
            f"{write_share(each.accuracy_low)} to {write_share(each.accuracy_high)}",
            f"{each.loss:.4f}",
        )
        for each in folds
    )
    return Table(
        rows, ("fold", "training", "validation", "held out", "accuracy", "95 % interval", "loss"), (0, 1, 2, 3, 4, 5, 6)
    )


def summary_of(folds: Sequence[FoldResult], out_of_fold: Scores, test: Scores | None) -> dict[str, Any]:
    """The content of ``summary.json``. It has no times and no paths, so it is the same for a cross-validation that was killed and resumed."""
    shares = [each.accuracy for each in folds]
    return {
        "num_folds": len(folds),
        "mean": statistics.fmean(shares),
        "spread": statistics.stdev(shares),
        "folds": [asdict(each) for each in folds],
        "out_of_fold": out_of_fold.to_json(),
        "test": None if test is None else test.to_json(),
    }
