"""The tasks of bundles by name, and the task of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from visus.data.plain_values import record, text
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.regression import RegressionBundle
from visus.ship.tasks.single_label import SingleLabelBundle
from visus.ship.tasks.task import BundleTask

BUNDLE_TASKS: Final[Mapping[str, type[BundleTask]]] = {
    kind.name: kind for kind in (SingleLabelBundle, MultiLabelBundle, RegressionBundle)
}
SINGLE_LABEL: Final = SingleLabelBundle()


def task_from_plain(value: Any) -> BundleTask:
    """The task of plain data that may hold anything.

    Raises:
        ValueError: a field is missing, unknown or impossible; the message names it.

    >>> task_from_plain({"name": "multi-label", "thresholds": [0.5, 0.25]})
    MultiLabelBundle(thresholds=(0.5, 0.25))
    """
    plain = record(value, "task", ("name",), None)
    return BUNDLE_TASKS[text(plain["name"], "task.name", BUNDLE_TASKS)].from_plain(plain)
