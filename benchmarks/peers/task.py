"""What one training is to do, and the line of JSON that it writes for each thing that happens.

Three kinds of line are written to standard output: ``ready`` once the training data is in memory (the clock starts there), ``evaluated``
after each evaluation on the held-out samples, and ``ended``. All that a peer prints of itself goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from peers.curves import is_settled


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        peer: whose loop.
        network: which of its networks.
        epochs: how many its schedule is made for; None for what visus settles.
        seed: everything random follows from it.
        target: accuracy to reach, 0 to 1.
        arrays: folder with ``train_samples.npy`` (N, C, H, W), ``train_labels.npy``, ``test_samples.npy`` and ``test_labels.npy``.
        num_classes: number of classes.
        design: text of the network that visus trains.
        data: path of the data for visus; None for the images that come with it.
        cache: folder of decoded data for visus; None for the usual one.
        opened: how visus is to open the data so that it has the samples of ``arrays``: ``preprocessing``, ``split`` (a ``split.csv``), ``labels``,
            ``max_unreadable`` and ``is_varied``; None for its own choice.
        recipe: text of a ``recipe.yaml`` for visus.
        device: ``cpu`` or ``cuda``.
        runs: folder for what visus leaves.
        is_followed: evaluate after each epoch; else only at the end.
    """

    peer: str
    network: str
    epochs: int | None
    seed: int
    target: float
    arrays: str
    num_classes: int
    design: str | None = None
    data: str | None = None
    cache: str | None = None
    opened: dict[str, Any] | None = None
    recipe: str = ""
    device: str = "cpu"
    runs: str = "runs"
    is_followed: bool = True

    @property
    def num_epochs(self) -> int:
        """The epochs of a schedule that must be known."""
        assert self.epochs is not None, "every peer but visus is given its epochs"
        return self.epochs


@dataclass(frozen=True, eq=False)
class Arrays:
    """Training and held-out samples in memory: uint8 (N, C, H, W) and class indices (N,)."""

    train_samples: npt.NDArray[Any]
    train_labels: npt.NDArray[np.int64]
    test_samples: npt.NDArray[Any]
    test_labels: npt.NDArray[np.int64]

    @classmethod
    def read(cls, folder: str) -> Arrays:
        """The four arrays of a folder, copied into memory."""
        return cls(*(np.load(Path(folder) / f"{name}.npy") for name in ARRAYS))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one sample."""
        _, channels, height, width = self.train_samples.shape
        return channels, height, width


ARRAYS = ("train_samples", "train_labels", "test_samples", "test_labels")


class Course:
    """The clock of one training, and the events that it writes.

    Args:
        task: what is done; its target decides when the training may end.
        lines: where events are written.
    """

    def __init__(self, task: Task, lines: TextIO) -> None:
        self._target, self._lines = task.target, lines
        self._began, self._evaluation_s = 0.0, 0.0
        self._accuracies: list[float] = []

    def ready(self, packages: tuple[str, ...], device: str) -> None:
        """The training data is in memory: the clock starts."""
        versions = {name: importlib.metadata.version(name) for name in packages}
        self._write(event="ready", versions=versions, device=device)
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """A context whose time is told apart as evaluating."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._evaluation_s += time.perf_counter() - began

    def evaluated(self, epoch: int, accuracy: float) -> bool:
        """Tell an evaluation after so many epochs; True where the training may end since it is settled above the target."""
        seconds = time.perf_counter() - self._began
        self._write(
            event="evaluated", epoch=epoch, seconds=seconds, evaluation_s=self._evaluation_s, accuracy=float(accuracy)
        )
        self._accuracies.append(float(accuracy))
        return is_settled(self._accuracies, self._target)

    def ended(self) -> None:
        """Tell that the training is over, and why."""
        self._write(event="ended", end="settled" if is_settled(self._accuracies, self._target) else "schedule")

    def _write(self, **event: object) -> None:
        self._lines.write(json.dumps(event) + "\n")
        self._lines.flush()
