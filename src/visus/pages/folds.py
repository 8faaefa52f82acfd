"""The page of a cross-validation: the out-of-fold result, the folds, the classes or targets, and a link to the report of each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.pages.parts.confusion import COUNTED_CLASSES, confused_pairs_table, confusion_table
from visus.pages.parts.document import Section, header, page, paragraphs
from visus.pages.parts.table import table, table_row
from visus.pages.report.other_tasks import metrics_table
from visus.tables import ShortFields, Table

_PAIRS = 10


@dataclass(frozen=True, eq=False, repr=False)
class FoldsFacts(ShortFields):
    """The results of a cross-validation.

    Args:
        name: its name.
        noun: word for one sample.
        scores: the out-of-fold scores.
        spread: mean and spread over the folds, as a phrase.
        folds: a row for each fold; the first cell is its number.
        test: the scores of the mean of the networks on the test set; None without one.
        settings: network, epochs and other facts, in words.
        notes: what became of the samples, in sentences.
    """

    name: str
    noun: str
    scores: AnyScores
    spread: str
    folds: Table
    test: AnyScores | None
    settings: Sequence[str]
    notes: Sequence[str]


def folds_page(facts: FoldsFacts, *, made_with: str = "") -> str:
    """The page as HTML text."""
    return page(
        f"{facts.name}, {len(facts.folds.rows)} folds",
        header("Cross-validation", facts.name, facts.settings),
        [
            _accuracy(facts),
            _folds(facts),
            _classes(facts),
            *([_test(facts)] if facts.test is not None else []),
            _data(facts),
        ],
        kind="folds",
        made_with=made_with,
    )


def out_of_fold_sentence(scores: AnyScores, noun: str = "sample") -> str:
    """The main metric of out-of-fold predictions, with interval and baseline.

    >>> out_of_fold_sentence(number_scores).startswith("out-of-fold mean absolute error 1 (95 % interval")
    True
    """
    of = "accuracy: " if isinstance(scores, Scores) else ""
    return f"out-of-fold {of}{scores.sentence(noun)}"


def _accuracy(facts: FoldsFacts) -> Section:
    said = out_of_fold_sentence(facts.scores, facts.noun)
    words = [
        f"{said[0].upper()}{said[1:]}.",
        f"Over the folds: {facts.spread}.",
        *facts.scores.notes,
    ]
    return Section("Accuracy" if isinstance(facts.scores, Scores) else "Result", paragraphs(words))


def _folds(facts: FoldsFacts) -> Section:
    """A row for each fold, with a link to its own report."""
    columns = [each.capitalize() if place else "Fold" for place, each in enumerate(facts.folds.headings)]
    rows = [
        table_row(row[0], [*map(escape, row[1:]), f'<a href="fold{escape(row[0])}/report.html">report</a>'])
        for row in facts.folds.rows
    ]
    how = (
        f"Each row is a run of its own: trained on the {facts.noun}s of the other folds, with weights chosen by its validation set, and scored on the "
        f"{facts.noun}s of its fold, which nothing before has seen."
    )
    return Section("Folds", paragraphs([how]) + table("Result of each fold", [*columns, ""], rows))


def _classes(facts: FoldsFacts) -> Section:
    scores, nouns = facts.scores, f"{facts.noun}s"
    if not isinstance(scores, Scores):
        return Section("Metrics", metrics_table(scores, nouns))
    if len(scores.classes) <= COUNTED_CLASSES:
        return Section("Confusion matrix", confusion_table(scores, nouns))
    pairs = scores.most_confused(_PAIRS)
    return Section("Confusions", confused_pairs_table(pairs, nouns) if pairs else paragraphs(["There is no mistake."]))


def _test(facts: FoldsFacts) -> Section:
    assert facts.test is not None, "the page has this section only with a test set"
    words = [
        f"The mean of the {'numbers' if isinstance(facts.test, RegressionScores) else 'probabilities'} of the {len(facts.folds.rows)} networks: {facts.test.sentence(facts.noun)}.",
        "Nothing was chosen by the test set.",
    ]
    return Section("Test set", paragraphs(words))


def _data(facts: FoldsFacts) -> Section:
    return Section(
        "Data", paragraphs([*facts.notes, "out_of_fold.csv has the prediction for each sample, folds.csv the fold of each."])
    )
