"""All tasks by name, and the task of a dataset or a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from visus.data.opened import Data
from visus.data.tasks import TaskName
from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task

TASK_KINDS: Final[Mapping[TaskName, type[Task]]] = {kind.name: kind for kind in (SingleLabel, MultiLabel, Regression)}


def task_of(data: Data) -> Task:
    """The task of a dataset, with what it learns from the training labels.

    Raises:
        DataError: a target of regression has the same value in all training samples.

    >>> task_of(data).name
    'single-label'
    """
    task = TASK_KINDS[data.task](data.classes)
    return dataclasses.replace(task, **task.facts_of(data.split("train").labels))


def task_from_json(facts: Mapping[str, Any] | None, outputs: Sequence[str]) -> Task:
    """The task that a run keeps; None is that of a run before there were several.

    >>> task_from_json({"task": "multi-label"}, ["cat", "dog"]).name
    'multi-label'
    """
    kept = {name: tuple(value) for name, value in (facts or {}).items() if name != "task"}
    return TASK_KINDS[(facts or {"task": "single-label"})["task"]](tuple(outputs), **kept)
