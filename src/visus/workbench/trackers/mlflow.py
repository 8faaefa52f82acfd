"""MLflow: a database and artifacts in the run folder, or the server that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from visus.workbench.trackers.tracker import TrackedRun, Tracker

EXPERIMENT: Final = "visus"
_MAX_VALUE: Final = 500  # characters of a parameter, the least of what MLflow's stores allow


class MLflow(Tracker):
    """A run of the experiment ``visus``: the settings as parameters, metrics for each epoch, the final scores, the report as an artifact."""

    def begin(self, run: TrackedRun) -> str:
        """Create the run, or open it again; epochs that the store has are not logged twice."""
        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._uri = server or f"sqlite:///{(run.folder / 'mlflow.db').absolute().as_posix()}"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it would be sent, also without a server
        self._num_epochs, self._id = 0, ""
        with _quiet():
            from mlflow import MlflowClient
            from mlflow.entities import Param

            self._client: Any = MlflowClient(tracking_uri=self._uri)
            if run.id:
                self._id = str(self._client.get_run(run.id).info.run_id)
                self._client.set_terminated(self._id, "RUNNING")
                self._num_epochs = max(
                    (each.step for each in self._client.get_metric_history(self._id, "elapsed_seconds")), default=0
                )
                return self._id
            artifacts = None if server else (run.folder / "mlflow").absolute().as_uri()
            found = self._client.get_experiment_by_name(EXPERIMENT)
            number = self._client.create_experiment(EXPERIMENT, artifacts) if found is None else found.experiment_id
            self._id = str(self._client.create_run(number, run_name=run.name).info.run_id)
            parameters = [Param(name, str(value)[:_MAX_VALUE]) for name, value in run.settings.items()]
            self._client.log_batch(self._id, params=parameters)
        return self._id

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics with the epoch as their step."""
        if epoch <= self._num_epochs:
            return
        self._num_epochs = epoch
        with _quiet():
            for name, value in metrics.items():
                self._client.log_metric(self._id, name, value, step=epoch)

    def score(self, scores: Mapping[str, float], report: Path) -> None:
        """Log the scores, and the report as an artifact."""
        with _quiet():
            for name, value in scores.items():
                self._client.log_metric(self._id, name, value, step=self._num_epochs)
            if report.is_file():
                self._client.log_artifact(self._id, str(report))

    def close(self, *, is_finished: bool) -> None:
        """Mark the run as finished, or as killed, from which it can go on."""
        with _quiet():
            self._client.set_terminated(self._id, "FINISHED" if is_finished else "KILLED")

    @property
    def place(self) -> str:
        """The command that shows it, or the server."""
        if not self._uri.startswith("sqlite:"):
            return f"run {self._id} at {self._uri}"
        return f"mlflow ui --backend-store-uri {shlex.quote(self._uri)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which MLflow prints nothing of its own, and warnings of its dependencies are not for the person who trains."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
