"""A small run of a set of classes and one of numbers, each with its bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

TASKS = ["multi-label", "regression"]
NETWORK = "conv(8, 3), norm, relu, globalpool, linear(classes)"


class Shipped(NamedTuple):
    """The folder of a run and its bundle, in ONNX alone."""

    run: Path
    bundle: Path


def blots(seed: int, count: int = 160) -> tuple[Any, Any, Any]:
    """Images (count, 10, 10), whether each has a bright column and a bright row, and two numbers: its brightness, and a large one."""
    random = np.random.default_rng(seed)
    sets, levels = random.integers(0, 2, (count, 2)), random.uniform(0, 120, count)
    x = random.integers(0, 40, (count, 10, 10)) + levels[:, None, None]
    x[:, :, 7] += 95 * sets[:, :1]
    x[:, 7] += 95 * sets[:, 1:] * (np.arange(10) != 7)
    return x.astype(np.uint8), sets, np.stack([levels, 5e6 + 300 * levels], axis=1)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shipped]:
    """``shipped("regression")``: the run and the bundle of a task; each is made once."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    made: dict[str, Shipped] = {}

    def of(task: str) -> Shipped:
        if task not in made:
            made[task] = _ship(task, tmp_path_factory.mktemp(task))
        return made[task]

    return of


def _ship(task: str, folder: Path) -> Shipped:
    import visus
    from visus.errors import VisusError
    from visus.workbench.report import measures
    from visus.workbench.train import run_files

    def left_out(*_: Any) -> None:
        raise VisusError("left out in this test.")

    x, sets, numbers = blots(0)
    options: dict[str, Any] = {"keep_in": folder / "kept", "progress": False}
    if task == "multi-label":
        data = visus.open_data(x=x, y=sets, class_names=["column", "row"], **options)
    else:
        data = visus.open_data(x=x, y=numbers, task="regression", **options)
    recipe = visus.Recipe(epochs=12, batch_size=16, device="cpu", precision="float32", learning_rate=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_saliencies", left_out)
        for name in ("draw_confusion", "draw_curves"):
            patch.setattr(run_files, name, lambda *_: None)
        run = visus.train(data, NETWORK, recipe, output=folder / "runs", name=task, progress=False)
    return Shipped(run.folder, run.export(folder / f"{task}.zip", formats=["onnx"], progress=False).path)
