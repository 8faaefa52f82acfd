"""The evaluations by the name of their task, and that of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from visus.data.tasks import TaskName
from visus.evaluation.tasks.evaluations.evaluation import Evaluation, Fit
from visus.evaluation.tasks.evaluations.multi_label import MultiLabelEvaluation
from visus.evaluation.tasks.evaluations.regression import RegressionEvaluation
from visus.evaluation.tasks.evaluations.single_label import SingleLabelEvaluation
from visus.evaluation.tasks.task import Task

EVALUATIONS: Final[Mapping[TaskName, type[Evaluation[Any, Any]]]] = {
    kind.name: kind for kind in (SingleLabelEvaluation, MultiLabelEvaluation, RegressionEvaluation)
}


def evaluation_of(task: Task, fit: Fit) -> Evaluation[Any, Any]:
    """The evaluation of a network.

    Args:
        task: what it predicts.
        fit: what was fitted on its validation set, of the same task.

    >>> from visus.evaluation.calibration import TemperatureFit
    >>> from visus.evaluation.tasks.single_label import SingleLabel
    >>> evaluation_of(SingleLabel(("cat", "dog")), TemperatureFit()).name
    'single-label'
    """
    return EVALUATIONS[task.name](task, fit)
