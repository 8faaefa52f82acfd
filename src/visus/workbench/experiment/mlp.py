"""``visus experiment mlp``: trains multilayer perceptrons of the run's size with the data and recipe of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from visus.design.mlp_equivalents import KINDS, perceptron_twins
from visus.errors import UsageError, unknown_name
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.workbench.compare.comparison import Comparison
from visus.workbench.compare.runs import compare_trained
from visus.workbench.experiment.retraining import SHUFFLE_NOTE, SHUFFLE_SEED, Retraining, design_of_run
from visus.workbench.runs.history import read_history
from visus.workbench.runs.saved import SavedRun

_MOST_OF_TRAINING: Final = 0.9
TRAINED_KINDS: Final = ("equal parameters", "equal width")


def compare_with_mlps(
    run: SavedRun,
    *,
    kinds: Sequence[str] = TRAINED_KINDS,
    with_shuffled: bool = False,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Train multilayer perceptrons with the data, split, recipe and seed of a run, and compare all of them.

    Args:
        run: the run; its network must be a design with a convolution.
        kinds: the perceptrons to train: keys of ``design.mlp_equivalents.KINDS``.
        with_shuffled: also train the network and each perceptron on images with all positions in one fixed random order.
        output: parent folder of the new runs; default: that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: receives the events of each training, and a ``Progress`` during other computations.
        should_stop: called after each step; True raises ``CanceledError``.

    Raises:
        UsageError: the network is not a design, or a kind is unknown.
        DesignError: the design has no convolution.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(unknown_name("kind of twin", kind, KINDS))
    design = design_of_run(run, "equivalent perceptrons need a design")
    shape, num_classes = run.preprocessing.input_shape, len(run.classes)
    designs = {each.kind: each.design for each in perceptron_twins(design, shape, num_classes) if each.kind in kinds}
    again = Retraining(run, output, cache_dir, monitor := Monitor(on_event, should_stop))
    runs: list[tuple[SavedRun, str]] = [(run, "network")]
    if with_shuffled:
        runs.append((again.train_design(design, "shuffled", shuffle_seed=SHUFFLE_SEED), "network"))
    for kind in kinds:
        word = f"mlp-{kind.replace(' ', '-')}"
        runs.append((again.train_design(designs[kind], word), kind))
        if with_shuffled:
            runs.append((again.train_design(designs[kind], f"{word}-shuffled", shuffle_seed=SHUFFLE_SEED), kind))
    notes = [*(f"{kind}: {KINDS[kind]}" for kind in kinds), *([SHUFFLE_NOTE] if with_shuffled else [])]
    accuracies = {each.name: read_history(RunFolder.open(each.folder))["val_accuracy"] for each, _ in runs}
    notes += rising_note(accuracies)
    return compare_trained(runs, notes=notes, cache_dir=cache_dir, monitor=monitor)


def rising_note(accuracies: Mapping[str, Sequence[float]]) -> list[str]:
    """A sentence on the trainings with the best validation accuracy in their last tenth; none if there is no such training.

    Args:
        accuracies: the validation accuracy after each epoch, by the name of the run; NaN without a validation set.

    >>> rising_note({"net": (0.5, 0.7), "mlp": (0.6, 0.5)})[0].partition(".")[0]
    'The best validation accuracy came at the end of the training, so it may still have been rising: net (epoch 2 of 2)'
    """
    found = []
    for name, values in accuracies.items():
        measured = [value if value == value else 0.0 for value in values]
        best = max(range(len(measured)), key=measured.__getitem__, default=0) + 1
        if any(measured) and best > _MOST_OF_TRAINING * len(measured):
            found.append(f"{name} (epoch {best} of {len(measured)})")
    if not found:
        return []
    return [
        f"The best validation accuracy came at the end of the training, so it may still have been rising: {', '.join(found)}. "
        "A short training compares how fast networks learn at first, and not the best that they can reach."
    ]
