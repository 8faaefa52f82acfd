"""The end of a cross-validation: out-of-fold predictions, scores, summary and report, from the runs of the folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visus import __version__
from visus.data.folds import APART, fold_data
from visus.data.opened import Data
from visus.data.resplit import in_splits
from visus.evaluation.scores import Scores, score
from visus.files import write_csv, write_file, write_json
from visus.pages.folds import FoldsFacts, folds_page
from visus.progress import Monitor
from visus.units import write_number_of
from visus.workbench.ensembles import score_together
from visus.workbench.folds.plan import FoldsPlan
from visus.workbench.folds.result import PREDICTIONS, REPORT, SUMMARY, CrossValidation, FoldResult, fold_table, summary_of
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import class_scores, network_name, views_sentence
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
    rows, found, probabilities = [], [], []
    for number, run in enumerate(runs, start=1):
        own = fold_data(data, folds, number, plan.seed)
        part = own.split("test")
        answers = run.probabilities(run.answers(own, "test", **monitor.keywords)).numpy()
        probabilities.append(answers)
        rows += [
            (name, label, number, group)
            for name, label, group in zip(part.names, part.labels.tolist(), _groups(own), strict=True)
        ]
        scores = class_scores(run)
        found.append(
            FoldResult(
                number,
                len(own.split("train")),
                len(own.split("val")),
                len(part),
                scores.accuracy,
                scores.accuracy_low,
                scores.accuracy_high,
                scores.loss,
            )
        )
    answers = np.concatenate(probabilities)
    place = {name: number for number, name in enumerate(data.table.names)}
    order = np.argsort([place[row[0]] for row in rows])
    rows, answers = [rows[number] for number in order], answers[order]
    views = [sentence] if (sentence := views_sentence(runs[0])) else []
    out_of_fold = score(
        answers,
        [label for _, label, _, _ in rows],
        data.classes,
        split="out-of-fold",
        notes=[*views, _NARROW],
        groups=None if data.table.groups is None else [group for *_, group in rows],
    )
    test = _test_scores(runs, data, folds, monitor)
    classes = data.classes
    predictions = answers.argmax(axis=1).tolist()
    header = ("sample", "label", "fold", "prediction", *(f"probability:{name}" for name in classes))
    table = (
        (name, classes[label], number, classes[predicted], *(f"{share:.7g}" for share in shares))
        for (name, label, number, _), predicted, shares in zip(rows, predictions, answers.tolist(), strict=True)
    )
    write_csv(result.folder / PREDICTIONS, _with_header(header, table))
    summary = summary_of(found, out_of_fold, test)
    facts = _page_facts(result, runs, data, folds, plan, found, out_of_fold, test, summary)
    write_file(result.folder / REPORT, folds_page(facts, made_with=__version__))
    write_json(result.folder / SUMMARY, summary)
    monitor.emit(FoldsScored(result.folder, result.scores.sentence(data.noun), result.spread_sentence()))


def _with_header(header: Sequence[object], rows: Iterator[Sequence[object]]) -> Iterator[Sequence[object]]:
    yield header
    yield from rows


def _groups(data: Data) -> Sequence[str]:
    """The group of each test sample; empty texts where the source has none."""
    return data.groups_of("test") or [""] * len(data.split("test"))


def _test_scores(runs: Sequence[Run], data: Data, folds: NDArray[np.int64], monitor: Monitor) -> Scores | None:
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
    scores: Scores,
    test: Scores | None,
    summary: dict[str, float],
) -> FoldsFacts:
    """What the page says."""
    shares = [each.accuracy for each in found]
    spread = (
        f"mean accuracy {100 * summary['mean']:.1f} %, standard deviation {100 * summary['spread']:.1f} points "
        f"(lowest {100 * min(shares):.1f} %, highest {100 * max(shares):.1f} %)"
    )
    settings = [
        network_name(runs[0]),
        write_number_of(runs[0].recipe.epochs or 0, "epoch"),
        f"{data.name}: {write_number_of(len(data.classes), 'class', 'classes')}",
    ]
    notes = [*plan.notes(data, folds), *data.samples.notes, *data.samples.warnings]
    return FoldsFacts(result.folder.name, data.noun, scores, spread, fold_table(found), test, settings, notes)
