"""Weights & Biases: offline in the run folder, unless ``WANDB_MODE`` says otherwise."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from visus.workbench.trackers.tracker import TrackedRun, Tracker

PROJECT: Final = "visus"


class WeightsAndBiases(Tracker):
    """A run of the project ``visus`` (or ``WANDB_PROJECT``): the settings as its configuration, metrics for each epoch, the final scores as its summary."""

    def begin(self, run: TrackedRun) -> str:
        """Create the run, or go on with the one of this name."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._id, self._num_epochs = run.id or secrets.token_hex(4), run.num_epochs
        self._folder = run.folder / "wandb"
        self._folder.mkdir(exist_ok=True)
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=self._id,
            resume="allow",
            mode=mode,
            dir=str(run.folder),
            config=dict(run.settings),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        return self._id

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics with the epoch as their step."""
        self._num_epochs = epoch
        self._run.log({"epoch": epoch} | dict(metrics), step=epoch)

    def score(self, scores: Mapping[str, float], report: Path) -> None:
        """Write the scores to the summary, and add the report to the files of the run."""
        self._run.summary.update(dict(scores))
        if report.is_file():
            self._run.save(str(report), base_path=str(report.parent), policy="now")

    def close(self, *, is_finished: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=0 if is_finished else 1)

    @property
    def place(self) -> str:
        """The command that uploads it, or its address."""
        if self._run.offline:
            return f"offline; upload it with: wandb sync {shlex.quote(str(self._folder))}/offline-run-*-{self._id}"
        return str(self._run.url)
