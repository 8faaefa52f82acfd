"""Two small trained runs of each task that is not single-label, shared by the tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TASK_NETWORK = "conv(8, 3), relu, globalpool, linear(classes)"
TaskRuns = Callable[[str], tuple[Any, Any]]


def task_arrays(seed: int, count: int = 160) -> tuple[Any, Any, Any]:
    """Images with a bright column, a bright row, both or neither; the sets of both; and two numbers: the brightness of a square, and of the rest."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 40, (count, 10, 10)).astype(np.uint8)
    sets, numbers = random.integers(0, 2, (count, 2)), random.uniform(20, 200, count)
    for image, (has_column, has_row), value in zip(x, sets, numbers, strict=True):
        image[:, 7] += np.uint8(200 * has_column)
        image[7] = np.minimum(255, image[7].astype(int) + 150 * has_row)
        image[1:5, 1:5] = value
    return x, sets, np.stack([numbers, x.mean(axis=(1, 2))], axis=1)


@pytest.fixture(scope="session")
def task_runs(tmp_path_factory: pytest.TempPathFactory) -> TaskRuns:
    """``task_runs("multi-label")``: two runs of other seeds on one dataset and split; trained when they are first asked for."""
    trained: dict[str, tuple[Any, Any]] = {}

    def find(task: str) -> tuple[Any, Any]:
        if task not in trained:
            root = tmp_path_factory.mktemp(task)
            trained[task] = (train_task(task, root, 0), train_task(task, root, 1))
        return trained[task]

    return find


def open_task(task: str, root: Path, **options: Any) -> Any:
    """The data of a task, opened."""
    import visus

    x, sets, numbers = task_arrays(0)
    options = {"class_names": ["column", "row"], **options} if task == "multi-label" else {"task": "regression", **options}
    return visus.open_data(
        x=x, y=sets if task == "multi-label" else numbers, keep_in=root / "kept", progress=False, **options
    )


def train_task(task: str, root: Path, seed: int, epochs: int = 5) -> Any:
    """A run, without the pages' slow parts."""
    import visus
    from visus.errors import VisusError
    from visus.workbench.report import measures

    def left_out(*_: Any) -> None:
        raise VisusError("left out in this test.")

    recipe = visus.Recipe(epochs=epochs, batch_size=16, seed=seed, learning_rate=0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_saliencies", left_out)
        return visus.train(
            open_task(task, root), TASK_NETWORK, recipe, output=root / "runs", name=f"{task}-{seed}", progress=False
        )
