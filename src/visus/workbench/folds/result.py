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
from visus.evaluation.intervals import write_range
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores, metric_heading, scores_from_json
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.networks.own_code import copied
from visus.pages.folds import out_of_fold_sentence
from visus.tables import Described, Table, Text, notes
from visus.units import write_number_of
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
        value: main metric of its samples: the accuracy; of sets of classes the mean average precision, of numbers the mean absolute error of the first
            target.
        low, high: its 95 % interval; None for an error on samples of one group.
        loss: mean loss of its samples.

    >>> crossed.folds[0].fold, crossed.folds[0].num_samples
    (1, 20)
    """

    fold: int
    num_train: int
    num_val: int
    num_samples: int
    value: float
    low: float | None
    high: float | None
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
    def scores(self) -> AnyScores:
        """The out-of-fold scores: each sample is predicted by the network that did not learn from it.

        Raises:
            RunError: not all folds are trained.

        >>> crossed.scores.num_samples
        60
        """
        return scores_from_json(self._summary["out_of_fold"])

    @property
    def test_scores(self) -> AnyScores | None:
        """The scores of the mean of the networks on the test set; None without one.

        >>> crossed.test_scores is None
        True
        """
        found = self._summary["test"]
        return None if found is None else scores_from_json(found)

    @property
    def folds(self) -> tuple[FoldResult, ...]:
        """The result of each fold.

        >>> [each.num_samples for each in crossed.folds]
        [20, 20, 20]
        """
        return tuple(FoldResult(**each) for each in self._summary["folds"])

    @property
    def mean(self) -> float:
        """Mean of the main metric over the folds.

        >>> crossed.mean == sum(each.value for each in crossed.folds) / 3
        True
        """
        return statistics.fmean(each.value for each in self.folds)

    @property
    def spread(self) -> float:
        """Standard deviation of the main metric over the folds.

        >>> crossed.spread >= 0
        True
        """
        return statistics.stdev(each.value for each in self.folds)

    @property
    def out_of_fold(self) -> Path:
        """The CSV file of the out-of-fold predictions: sample, label, fold, prediction, and the probability of each class. Of regression: sample, fold, and
        label and prediction of each target.

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
        """The networks of all folds as one: the mean of their probabilities, or of their numbers.

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
        scores, found = self.scores, self.scores.headline
        baseline = f"always {scores.baseline_class!r}" if isinstance(scores, Scores) else found.baseline_words
        rows = [
            ("out of fold", f"{found.write(found.value)} ({found.range()}) on {scores.num_samples:,} samples"),
            ("folds", self.spread_sentence()),
            ("baseline", f"{found.write(found.baseline)}, {baseline}"),
            *([("test set", self.test_scores.sentence())] if self.test_scores is not None else []),
            ("folder", str(self.folder)),
        ]
        nouns = ("target",) if isinstance(scores, RegressionScores) else ("class", "classes")
        return (
            f"Cross-validation {self.folder.name}: {len(self.folds)} folds, {write_number_of(len(scores.classes), *nouns)}",
            rows,
        )

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("folds", fold_table(self.folds, self.scores)), *self.scores._tables()) if self.is_finished else ()

    def spread_sentence(self) -> str:
        """Mean and spread of the main metric over the folds, in words.

        >>> crossed.spread_sentence().startswith("mean accuracy ")
        True
        """
        return spread_of(self.folds, self.scores)

    def text(self) -> Text:
        """The out-of-fold result, the folds, each class or target, and the test set, where there is one.

        >>> str(crossed.text()[0]).startswith("out-of-fold accuracy: ")
        True
        """
        scores, test = self.scores, self.test_scores
        head = out_of_fold_sentence(scores)
        tested = [] if test is None else [f"test set, mean of the {len(self.folds)} networks: {test.sentence()}"]
        details = [each for each in scores.text()[2:] if not str(each).startswith("note: ")]
        return Text((head, self.spread_sentence(), fold_table(self.folds, scores), *tested, *details, *notes(scores.notes)))

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data, as in ``summary.json``.

        >>> sorted(crossed.to_json())
        ['folds', 'mean', 'num_folds', 'out_of_fold', 'spread', 'test']
        """
        return dict(self._summary)


def spread_of(folds: Sequence[FoldResult], scores: AnyScores) -> str:
    """Mean and spread of the main metric over the folds, in words.

    Args:
        folds: the results of the folds.
        scores: the out-of-fold scores, which have the metric.
    """
    values, found = [each.value for each in folds], scores.headline
    spread = statistics.stdev(values)
    mean = found.write(statistics.fmean(values))
    what = f"{found.metric} {mean} on average" if found.metric.startswith("mean ") else f"mean {found.metric} {mean}"
    return (
        f"{what}, standard deviation "
        f"{found.write(spread) if found.is_error else f'{100 * spread:.1f} points'} (lowest {found.write(min(values))}, highest {found.write(max(values))})"
    )


def fold_table(folds: Sequence[FoldResult], scores: AnyScores) -> Table:
    """A row for each fold; the arguments are those of ``spread_of``."""
    write = scores.headline.write
    rows = tuple(
        (
            str(each.fold),
            f"{each.num_train:,}",
            f"{each.num_val:,}",
            f"{each.num_samples:,}",
            write(each.value),
            write_range(each.low, each.high, write),
            f"{each.loss:.4f}",
        )
        for each in folds
    )
    headings = ("fold", "training", "validation", "held out", metric_heading(scores), "95 % interval", "loss")
    return Table(rows, headings, (0, 1, 2, 3, 4, 5, 6))


def summary_of(folds: Sequence[FoldResult], out_of_fold: AnyScores, test: AnyScores | None) -> dict[str, Any]:
    """The content of ``summary.json``. It has no times and no paths, so it is the same for a cross-validation that was killed and resumed."""
    values = [each.value for each in folds]
    return {
        "num_folds": len(folds),
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values),
        "folds": [asdict(each) for each in folds],
        "out_of_fold": out_of_fold.to_json(),
        "test": None if test is None else test.to_json(),
    }
