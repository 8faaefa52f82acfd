"""The task of a manifest: it is read back unchanged, a forged one is refused, and each has all that a bundle asks of it."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.data.preprocessing import Preprocessing
from visus.data.tasks import TaskName
from visus.ship.manifest import answers_digest, metric_field
from visus.ship.parity import SAME
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.registry import BUNDLE_TASKS, SINGLE_LABEL, task_from_plain
from visus.ship.tasks.regression import RegressionBundle
from visus.ship.tasks.task import BundleTask

FINITE = st.floats(-1e100, 1e100)
TASKS = st.one_of(
    st.just(SINGLE_LABEL),
    st.builds(MultiLabelBundle, st.lists(st.floats(0, 1), min_size=1, max_size=4).map(tuple)),
    st.integers(1, 3).flatmap(
        lambda count: st.builds(
            RegressionBundle,
            st.tuples(*[FINITE] * count),
            st.tuples(*[st.floats(1e-100, 1e100)] * count),
            st.one_of(st.just(()), st.tuples(*[st.floats(0, 1e100)] * count)),
        )
    ),
)
PREPROCESSING = Preprocessing("array", 1, (2,), "squash", "int32", "mean-deviation", (0.0,), (1.0,))


@given(TASKS)
def test_a_task_is_read_back_from_json_unchanged(task: BundleTask) -> None:
    assert task_from_plain(json.loads(json.dumps(task.to_json()))) == task


@given(TASKS, TASKS)
def test_the_digest_that_every_graph_notes_differs_where_the_task_differs(one: BundleTask, other: BundleTask) -> None:
    found = [answers_digest(PREPROCESSING, 1.0, 0.0, "none", task) for task in (one, other)]
    assert (found[0] == found[1]) == (json.dumps(one.to_json()) == json.dumps(other.to_json()))


def test_every_task_of_a_training_can_be_in_a_bundle() -> None:
    assert set(BUNDLE_TASKS) == set(SAME) == set(get_args(TaskName))
    assert len({metric_field(name) for name in BUNDLE_TASKS}) == len(BUNDLE_TASKS)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"name": "sorting"}, "task.name is 'sorting', and one of single-label, multi-label, regression is needed"),
        ({"name": "single-label", "thresholds": []}, "task has the unknown 'thresholds'"),
        ({"name": "multi-label"}, "task lacks 'thresholds'"),
        ({"name": "multi-label", "thresholds": [1.5]}, "task.thresholds is 1.5, and a finite number from 0 to 1 is needed"),
        ({"name": "regression", "mean": [0], "std": [0], "half_widths": []}, "task.std is 0, and "),
        ({"name": "regression", "mean": [0], "std": [1], "half_widths": [-1]}, "task.half_widths is -1, and "),
    ],
)
def test_a_forged_task_is_refused(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        task_from_plain(plain)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("task", "calibration", "message"),
    [
        (MultiLabelBundle((0.5,)), (1.0, 0.0), "task.thresholds is a list of 1, and a list of 2 is needed"),
        (MultiLabelBundle((0.5, 0.5)), (1.0, 0.1), "smoothing is 0.1, and "),
        (RegressionBundle((0.0,), (1.0, 1.0)), (1.0, 0.0), "task.mean is a list of 1, and a list of 2 is needed"),
        (RegressionBundle((0.0, 0.0), (1.0,)), (1.0, 0.0), "task.std is a list of 1, and a list of 2 is needed"),
        (
            RegressionBundle((0.0, 0.0), (1.0, 1.0), (1.0,)),
            (1.0, 0.0),
            "task.half_widths is a list of 1, and a list of 2 is needed",
        ),
        (RegressionBundle((0.0, 0.0), (1.0, 1.0)), (2.0, 0.0), "temperature is 2.0, and "),
        (RegressionBundle((0.0, 0.0), (1.0, 1.0)), (1.0, 0.1), "smoothing is 0.1, and "),
    ],
)
def test_a_task_that_does_not_fit_the_outputs_is_refused(
    task: BundleTask, calibration: tuple[float, float], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        task.check(2, *calibration)
    assert str(caught.value).startswith(message)


def test_the_digest_of_single_labels_is_that_of_bundles_before_there_were_tasks() -> None:
    assert answers_digest(PREPROCESSING, 1.5, 0.1, "none", SINGLE_LABEL) == (
        "0f957d632514d71eb756889e5c2e4b1f8c89e13b950fcd1a40a6ced135f945e4"
    )
