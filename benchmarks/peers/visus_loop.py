"""visus itself, trained by the call that ``visus train --no-pretrained`` makes, with one evaluation more after each epoch.

visus chooses the epoch that it keeps on its own validation split, and scores the held-out samples once, at the end. For the curve over time
the weights of each epoch are scored on the held-out samples too; that time counts, and is told apart, as for every peer. It begins with new
weights, as every peer does, on the very samples that they get.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from peers.compiled_parts import make_importable
from peers.task import Course, Task
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.training.events import EpochDone, Event, Finished, Started
from visus.training.recipe import Recipe
from visus.workbench.runs.run import load
from visus.workbench.train.events import DataOpened, Prepared, Scored
from visus.workbench.train.training import train as train_visus


def train(task: Task, course: Course) -> None:
    """Train and evaluate after each epoch, or only at the end."""
    make_importable()  # torchmetrics imports torchvision where it is installed
    recipe = Recipe.from_yaml(task.recipe)
    recipe = recipe.replace(seed=task.seed, device=task.device, epochs=task.epochs or recipe.epochs)
    data = open_as_told(task)
    follow = _Follow(task, course, data)
    course.ready(("torch", "visus"), task.device)
    train_visus(
        data,
        task.design,
        recipe,
        pretrained=False,
        output=Path(task.runs),
        name=f"seed-{task.seed}",
        on_event=follow,
        should_stop=lambda: follow.is_settled,
    )


def open_as_told(task: Task) -> Data:
    """The data of a task, read and split as it says."""
    if task.opened is None:
        return open_data(task.data, cache_dir=task.cache)
    told = task.opened
    data = open_data(
        task.data,
        cache_dir=task.cache,
        preprocessing=Preprocessing.from_dict(told["preprocessing"]),
        split=told["split"],
        labels=told["labels"],
        max_unreadable=told["max_unreadable"],
        **told.get("reading", {}),
    )
    return dataclasses.replace(data, is_varied=told["is_varied"])


class _Follow:
    """Scores the weights of each epoch on the held-out samples."""

    def __init__(self, task: Task, course: Course, data: Data) -> None:
        self.is_settled = False
        self._is_followed, self._course, self._data = task.is_followed, course, data
        self._folder = Path()
        self._num_epochs = 0

    def __call__(self, event: Event | DataOpened | Prepared | Scored) -> None:
        match event:
            case Prepared():
                self._folder = event.folder
            case Started():
                self._num_epochs = event.num_epochs
            case EpochDone() if self._is_followed and event.epoch + 1 < self._num_epochs:
                self._evaluate(event.epoch + 1, "last")
            case Finished():
                self._evaluate(event.num_epochs, "best")
            case _:
                pass

    def _evaluate(self, epoch: int, which: str) -> None:
        """Score weights as they lie in the run folder, as ``visus evaluate`` does."""
        with self._course.evaluation():
            run = load(self._folder, which=which)
            answers = run.answers(self._data, self._data.scored_split)
            labels = torch.from_numpy(self._data.split(self._data.scored_split).labels)
            accuracy = float((answers.argmax(1) == labels).double().mean())
        self.is_settled = self._course.evaluated(epoch, accuracy)
