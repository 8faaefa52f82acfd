"""TensorBoard: event files in the run folder, written by PyTorch's own writer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visus.workbench.trackers.tracker import TrackedRun, Tracker


class TensorBoard(Tracker):
    """Scalars ``loss/train``, ``loss/val`` and so on for each epoch, the settings as text and in the tab of hyperparameters, the final scores."""

    def begin(self, run: TrackedRun) -> str:
        """Open a new event file; TensorBoard drops what an earlier one has from the next epoch on."""
        from torch.utils.tensorboard import SummaryWriter, summary

        self._folder, self._num_epochs = run.folder / "tensorboard", run.num_epochs
        writer: Any = SummaryWriter(str(self._folder), purge_step=run.num_epochs + 1 if run.id else None)
        self._writer = writer
        if not run.id:
            known = {name: value for name, value in run.settings.items() if isinstance(value, (bool, str, int, float))}
            for each in summary.hparams(known, {}):  # type: ignore[no-untyped-call]
                self._writer.file_writer.add_summary(each)
            rows = "".join(f"| {name} | {value} |\n" for name, value in run.settings.items())
            self._writer.add_text("recipe", f"| setting | value |\n|---|---|\n{rows}")
        self._writer.flush()
        return "tensorboard"

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add a scalar for each metric."""
        self._num_epochs = epoch
        for name, value in metrics.items():
            self._writer.add_scalar(tag_of(name), value, epoch)
        self._writer.flush()

    def score(self, scores: Mapping[str, float], report: Path) -> None:
        """Add a scalar for each score, at the last epoch; TensorBoard has no place for a page."""
        for name, value in scores.items():
            self._writer.add_scalar(tag_of(name), value, self._num_epochs)

    def close(self, *, is_finished: bool) -> None:
        """Close the event file."""
        self._writer.close()

    @property
    def place(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {shlex.quote(str(self._folder))}"


def tag_of(metric: str) -> str:
    """The tag of a metric, which groups charts by what is before the slash.

    >>> tag_of("val_loss"), tag_of("learning_rate"), tag_of("test_accuracy")
    ('loss/val', 'learning_rate', 'accuracy/test')
    """
    split, _, name = metric.partition("_")
    return f"{name}/{split}" if split in ("train", "val", "test") and name else metric
