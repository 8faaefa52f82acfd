"""``visus experiment shuffle``: trains a run's network on images with all pixels in one random order."""

from __future__ import annotations

from pathlib import Path

from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.compare.comparison import Comparison
from visus.workbench.compare.runs import compare_trained
from visus.workbench.experiment.retraining import SHUFFLE_NOTE, SHUFFLE_SEED, Retraining, design_of_run
from visus.workbench.runs.saved import SavedRun


def compare_with_shuffled(
    run: SavedRun,
    *,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Train the network of a run again on images with all positions in one fixed random order, and compare.

    Args:
        run: the run; its network must be a design.
        output: parent folder of the new runs; default: that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: receives the events of each training, and a ``Progress`` during other computations.
        should_stop: called after each step; True raises ``CanceledError``.

    Raises:
        UsageError: the network is not a design.
    """
    design = design_of_run(run, "this experiment rebuilds the network from its design")
    again = Retraining(run, output, cache_dir, monitor := Monitor(on_event, should_stop))
    other = again.train_design(design, "shuffled", shuffle_seed=SHUFFLE_SEED)
    runs: list[tuple[SavedRun, str]] = [(run, "network"), (other, "network")]
    return compare_trained(runs, notes=[SHUFFLE_NOTE], cache_dir=cache_dir, monitor=monitor)
