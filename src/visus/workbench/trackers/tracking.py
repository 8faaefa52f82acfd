"""Tracks a training: passes its epochs, settings and scores to the trackers that a person asked for.

visus reports an error of a tracker once, and trains on without it. ``trackers.json`` in the run holds the trackers' own names of the run, so that a
resumed training continues in the same place.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from visus.errors import MissingExtraError, UsageError, unknown_name
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.progress import Monitor
from visus.training.events import EpochDone, Stopped
from visus.training.runs import RunFolder
from visus.workbench.trackers.mlflow import MLflow
from visus.workbench.trackers.tensorboard import TensorBoard
from visus.workbench.trackers.tracker import TrackedRun, Tracker
from visus.workbench.trackers.wandb import WeightsAndBiases
from visus.workbench.train.events import Prepared, Scored, Tracked

FILE: Final = "trackers.json"
_UNKNOWN: Final = re.compile(r"[^A-Za-z0-9_.-]+")
"""What a name of a metric may not have in every tracker."""


@dataclass(frozen=True)
class TrackerKind:
    """A tracker that people ask for by its name.

    Args:
        title: its name as people write it.
        modules: what must import; the first one is the package.
        make: makes one.
    """

    title: str
    modules: tuple[str, ...]
    make: Callable[[], Tracker]


TRACKERS: Final = {
    "mlflow": TrackerKind("MLflow", ("mlflow", "sqlalchemy", "alembic"), MLflow),
    "tensorboard": TrackerKind("TensorBoard", ("tensorboard",), TensorBoard),
    "wandb": TrackerKind("Weights & Biases", ("wandb",), WeightsAndBiases),
}
"""Every tracker by the word of ``track`` and ``--track``, which is the extra of visus too."""


def known_trackers(track: str | Sequence[str]) -> tuple[str, ...]:
    """The asked trackers, checked.

    Raises:
        UsageError: the name of a tracker is unknown.
        MissingExtraError: the package of a tracker is missing.

    >>> known_trackers("tensorbord")
    Traceback (most recent call last):
    visus.errors.UsageError: unknown tracker 'tensorbord'. Did you mean 'tensorboard'? Known: mlflow, tensorboard, wandb.
    """
    names = (track,) if isinstance(track, str) else tuple(dict.fromkeys(track))
    for name in names:
        if name not in TRACKERS:
            raise UsageError(unknown_name("tracker", str(name), sorted(TRACKERS)))
        kind = TRACKERS[name]
        for module in kind.modules:
            try:
                import_module(module)
            except Exception as error:
                raise MissingExtraError.because(error, module, name, f"runs tracked by {kind.title}") from error
    return names


@contextlib.contextmanager
def tracking(monitor: Monitor, track: str | Sequence[str], *, is_first: bool) -> Iterator[Monitor]:
    """A context for a training; its monitor tracks each event and passes it on.

    Args:
        monitor: monitor of the caller.
        track: the asked trackers. Those of a resumed run are added.
        is_first: whether this is the process that writes.
    """
    tracked = Tracking(known_trackers(track) if is_first else (), monitor)
    try:
        yield Monitor(tracked.follow if is_first else monitor.on_event, monitor.should_stop)
    finally:
        tracked.close()


class Tracking:
    """Follows a training for its trackers.

    Args:
        names: the asked trackers.
        monitor: receives every event, with one more for each tracker: where it is.
    """

    def __init__(self, names: Sequence[str], monitor: Monitor) -> None:
        self._names, self._monitor = names, monitor
        self._trackers: dict[str, Tracker] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._folder: Path | None = None

    def follow(self, event: object) -> object:
        """Track an event and pass it on; what ``on_event`` returns."""
        match event:
            case Prepared():
                self._begin(event)
            case EpochDone():
                self._log(event.epoch + 1, event.row)
            case Scored():
                scores = numbers(final_scores(event.scores), f"{event.scores.split}_")
                report = event.run.folder / "report.html"
                for name in [*self._trackers]:
                    self._try(name, lambda tracker: tracker.score(scores, report))
                self._end(is_finished=True)
            case Stopped():
                self._end(is_finished=False)
        return self._monitor.emit(event)

    def close(self) -> None:
        """End what an error or a signal left open."""
        for name in [*self._trackers]:
            with contextlib.suppress(Exception):
                self._trackers.pop(name).close(is_finished=False)

    def _begin(self, event: Prepared) -> None:
        self._folder = event.folder
        self._facts = read_trackers(event.folder)
        folder = event.folder / "trackers"
        for name in dict.fromkeys((*self._facts, *self._names)):
            if name not in TRACKERS:  # of a later version
                continue
            folder.mkdir(exist_ok=True)
            before = self._facts.get(name, {})
            run = TrackedRun(
                event.folder.name, folder, settings_of(event), before.get("id", ""), before.get("num_epochs", 0)
            )
            self._trackers[name] = TRACKERS[name].make()
            if own := self._try(name, lambda tracker, run=run: tracker.begin(run)):  # type: ignore[misc]
                self._remember(name, id=own)

    def _log(self, epoch: int, row: dict[str, float]) -> None:
        metrics = {name: value for name, value in numbers(row).items() if name != "epoch"}
        for name in [*self._trackers]:
            if epoch <= self._facts[name].get("num_epochs", 0):
                continue  # trained again after a checkpoint from before its end
            self._try(name, lambda tracker: tracker.log(epoch, metrics))
            if name in self._trackers:
                self._remember(name, num_epochs=epoch)

    def _end(self, *, is_finished: bool) -> None:
        for name in [*self._trackers]:
            place = self._try(name, lambda tracker: tracker.place)
            self._try(name, lambda tracker: tracker.close(is_finished=is_finished))
            if self._trackers.pop(name, None) is not None:
                self._monitor.emit(Tracked(TRACKERS[name].title, str(place)))

    def _try(self, name: str, act: Callable[[Tracker], Any]) -> Any:
        """What a tracker returns. One that raises an error is reported once and dropped."""
        try:
            return act(self._trackers[name])
        except Exception as error:  # of another library
            del self._trackers[name]
            why = " ".join(str(error).split())[:300].rstrip(".")
            problem = f"{TRACKERS[name].title} stopped tracking this run ({type(error).__name__}: {why}). The training goes on without it."
            self._monitor.emit(Tracked(TRACKERS[name].title, "", problem))
            return None

    def _remember(self, name: str, **facts: object) -> None:
        assert self._folder is not None, "the run has begun"
        self._facts[name] = self._facts.get(name, {"id": "", "num_epochs": 0}) | facts
        RunFolder(self._folder, {}).write_json(FILE, self._facts)


def read_trackers(folder: Path) -> dict[str, dict[str, Any]]:
    """The trackers of a run, with their own names of it and the number of epochs that they have; none if the file is missing or damaged."""
    try:
        found = json.loads((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: facts for name, facts in found.items() if isinstance(facts, dict)} if isinstance(found, dict) else {}


def settings_of(event: Prepared) -> dict[str, object]:
    """The parameters of a tracked run: every setting of the resolved recipe, and the facts of data and network."""
    request = event.recipe.request
    data = event.data
    return {name: getattr(request, name) for name in request.__dataclass_fields__} | {
        "data": data.name,
        "network": event.network.asked,
        "num_training": len(data.split("train")),
        "num_targets" if data.task == "regression" else "num_classes": len(data.classes),
        "input_shape": "x".join(map(str, data.input_shape)),
    }


def final_scores(scores: AnyScores) -> dict[str, Any]:
    """The scores as a tracker receives them: of regression, with MAE, RMSE and R2, of several targets with the name of each.

    >>> found = final_scores(number_scores)
    >>> found["mae"], found["rmse"] > 1
    (1.0, True)
    """
    if not isinstance(scores, RegressionScores):
        return scores.to_json()
    found = scores.to_json()
    for place, row in enumerate(scores.targets):
        end = "" if len(scores.targets) == 1 else f"_{_UNKNOWN.sub('_', row.name)}"
        if f"mae{end}" in found:  # another target has this name
            end += f"_{place + 1}"
        found |= {f"mae{end}": row.mae, f"rmse{end}": row.rmse, f"r2{end}": row.r2}
    return found


def numbers(facts: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers among some facts, with a prefix before each name.

    >>> numbers({"loss": 0.5, "val_loss": float("nan"), "split": "test", "interval": [0.1, 0.9]}, "test_")
    {'test_loss': 0.5}
    """
    kept = {name: value for name, value in facts.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    return {f"{prefix}{name}": float(value) for name, value in kept.items() if math.isfinite(value)}
