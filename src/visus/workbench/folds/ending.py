"""The end of a cross-validation: out-of-fold predictions, scores, summary and report, from the runs of the folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visus import __version__
from visus.data.folds import APART, fold_data
from visus.data.opened import Data
from visus.data.resplit import in_splits
from visus.evaluation.cluster_bootstrap import group_notes
from visus.evaluation.tasks.all_scores import AnyScores
from visus.files import write_csv, write_file, write_json
from visus.pages.folds import FoldsFacts, folds_page
from visus.progress import Monitor
from visus.units import write_number_of
from visus.workbench.ensembles import score_together
from visus.workbench.folds.held_out import HeldOut
from visus.workbench.folds.plan import FoldsPlan
from visus.workbench.folds.result import (
    PREDICTIONS,
    REPORT,
    SUMMARY,
    CrossValidation,
    FoldResult,
    fold_table,
    spread_of,
    summary_of,
)
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import network_name
from visus.workbench.runs.scoring import views_sentence
from visus.workbench.train.events import FoldsScored

_NARROW: Final = (
    "The networks of the folds share most of their training samples, so the interval is somewhat too narrow (Bates, Hastie and Tibshirani 2024, "
    "doi:10.1080/01621459.2023.2197686)."
)


def write_result(result: CrossValidation, data: Data, folds: NDArray[np.int64], plan: FoldsPlan, monitor: Monitor) -> None:
    """Predict the samples of each fold by its own network, and write ``out_of_fold.csv``, ``report.html`` and ``summary.json``, this one last.

    Args:
        result: the cross-validation, whose folds are trained.
        data: the opened data.
        folds: the fold of each sample of ``data.table``.
        plan: what was asked.
        monitor: receives the progress, and can cancel.
    """
    runs = result.runs(network=plan.module, device=plan.recipe.device)
    parts, found = [], []
    for number, run in enumerate(runs, start=1):
        own = fold_data(data, folds, number, plan.seed)
        parts.append(HeldOut.of(run, own, number, monitor))
        headline = run.scores.headline
        num_train, num_val, num_samples = (len(own.split(name)) for name in ("train", "val", "test"))
        figures = headline.value, headline.low, headline.high, run.scores.loss
        found.append(FoldResult(number, num_train, num_val, num_samples, *figures))
    answers = HeldOut.together(parts, data.table.names)
    views = [sentence] if (sentence := views_sentence(runs[0])) else []
    out_of_fold = answers.scores(data.classes, [*views, _NARROW], has_groups=data.table.groups is not None)
    test = _test_scores(runs, data, folds, monitor)
    write_csv(result.folder / PREDICTIONS, answers.rows(data.classes))
    summary = summary_of(found, out_of_fold, test)
    facts = _page_facts(result, runs, data, folds, plan, found, out_of_fold, test)
    write_file(result.folder / REPORT, folds_page(facts, made_with=__version__))
    write_json(result.folder / SUMMARY, summary)
    notes = group_notes(out_of_fold.num_groups)
    monitor.emit(FoldsScored(result.folder, result.scores.sentence(data.noun), result.spread_sentence(), notes))


def _test_scores(runs: Sequence[Run], data: Data, folds: NDArray[np.int64], monitor: Monitor) -> AnyScores | None:
    """The scores of the mean of the networks on the samples that are in no fold; None without any."""
    if not (folds == APART).any():
        return None
    whole = in_splits(data, ["test" if fold == APART else "train" for fold in folds.tolist()])
    if not len(whole.split("test")):
        return None
    return score_together(runs, [whole] * len(runs), "test", raw=False, monitor=monitor)


def _page_facts(
    result: CrossValidation,
    runs: Sequence[Run],
    data: Data,
    folds: NDArray[np.int64],
    plan: FoldsPlan,
    found: Sequence[FoldResult],
    scores: AnyScores,
    test: AnyScores | None,
) -> FoldsFacts:
    """What the page says."""
    settings = [
        network_name(runs[0]),
        write_number_of(runs[0].recipe.epochs or 0, "epoch"),
        f"{data.name}: {write_number_of(len(data.classes), *(('target',) if data.task == 'regression' else ('class', 'classes')))}",
    ]
    notes = [*plan.notes(data, folds), *data.samples.notes, *data.samples.warnings]
    return FoldsFacts(
        result.folder.name, data.noun, scores, spread_of(found, scores), fold_table(found, scores), test, settings, notes
    )
