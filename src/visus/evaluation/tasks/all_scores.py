"""The scores of any task, and how they are read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from visus.evaluation.scores import Scores
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores
from visus.evaluation.tasks.regression_scores import RegressionScores

AnyScores: TypeAlias = Scores | MultiLabelScores | RegressionScores


def metric_heading(scores: AnyScores) -> str:
    """The short name of the main metric, as the heading of a column.

    >>> metric_heading(scores)
    'accuracy'
    """
    headings = ("accuracy", "mAP", "MAE")
    return headings[1 if isinstance(scores, MultiLabelScores) else 2 if isinstance(scores, RegressionScores) else 0]


def scores_from_json(facts: Mapping[str, Any]) -> AnyScores:
    """The scores from the data of their ``to_json``.

    Raises:
        RunError: a field is missing or unknown.

    >>> scores_from_json(scores.to_json()) == scores
    True
    """
    kinds = {"multi-label": MultiLabelScores, "regression": RegressionScores}
    kind: type[AnyScores] = kinds.get(str(facts.get("task")), Scores)
    return kind.from_json(facts)
