"""``visus.experiment``: trains a run again with one change, and compares both. Each function is one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from visus.design import Design
from visus.design.mlp_equivalents import Twins, perceptron_twins
from visus.errors import refuse_with
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.summaries import INPUT_SHAPE, NUM_CLASSES, required_design

if TYPE_CHECKING:
    from visus.workbench.compare.comparison import Comparison
    from visus.workbench.experiment.antialias import Antialiased
    from visus.workbench.experiment.task import TaskComparison
    from visus.workbench.runs.saved import SavedRun


@overload
def mlp(
    run: SavedRun | Path,
    *,
    shuffle_pixels: bool = False,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison: ...


@overload
def mlp(run: Design, *, input_shape: Sequence[int] | None = None, num_classes: int | None = None) -> Twins: ...


@overload
def mlp(
    run: SavedRun | Design | str | Path,
    *,
    shuffle_pixels: bool = False,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison | Twins: ...


def mlp(
    run: SavedRun | Design | str | Path,
    *,
    shuffle_pixels: bool = False,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison | Twins:
    """Compare a network with multilayer perceptrons of equal parameters and of equal width.

    Perceptrons for a run are trained with its data, split, recipe and seed. Perceptrons for a design are only counted.

    Args:
        run: a run or its folder; or a design, its text or a family call.
        shuffle_pixels: also train each network on images whose pixels are in one fixed random order.
        input_shape: with a design: (channels, *spatial); default: (3, 224, 224).
        num_classes: with a design: number of classes; default: 1000.
        output: parent folder of the new runs; default: that of the run.
        device: where to compute, if the run is given by its folder; default: ``auto``.
        cache_dir: another folder for the decoded samples.
        progress: False shows nothing on stderr.
        on_event: receives the events of each training, and a ``Progress`` during other computations.
        should_stop: called after each step; True raises ``CanceledError``.

    Returns:
        ``Comparison`` for a run, ``Twins`` for a design.

    Raises:
        UsageError: the network is not a design, or an argument belongs to the other kind.
        DesignError: the design has no convolution.

    >>> visus.experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10)
    Equivalent perceptrons for samples of 1 x 28 x 28
      the design        44.4 k parameters, 282 k multiply-adds
      equal width       17.9 k parameters, 17.6 k multiply-adds
      equal output      942 k parameters, 940 k multiply-adds
      equal parameters  44.1 k parameters, 43.9 k multiply-adds
    """
    if isinstance(run, Design) or (isinstance(run, str) and not Path(run).is_dir()):
        given = {"output": output, "device": device, "cache_dir": cache_dir, "shuffle_pixels": shuffle_pixels}
        refuse_with("a network", given)
        return _twins(run, tuple(input_shape or INPUT_SHAPE), num_classes or NUM_CLASSES)
    refuse_with("a run", {"input_shape": input_shape, "num_classes": num_classes})
    from visus.workbench.experiment.mlp import compare_with_mlps

    with _shown(Monitor(on_event, should_stop), progress) as monitor:
        return compare_with_mlps(
            _opened(run, device),
            with_shuffled=shuffle_pixels,
            output=_folder(output),
            cache_dir=cache_dir,
            **monitor.keywords,
        )


def shuffle(
    run: SavedRun | str | Path,
    *,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Compare a run with its network trained on images whose pixels are all in one fixed random order.

    Args:
        run: a run or its folder; its network must be a design.
        output, device, cache_dir, progress, on_event, should_stop: as for ``mlp``.

    Raises:
        UsageError: the network is not a design, or the run was trained on shuffled images itself.

    >>> comparison = visus.experiment.shuffle(run, output=folder, progress=False)
    >>> [each.is_shuffled for each in comparison.contenders]
    [False, True]
    """
    from visus.workbench.experiment.shuffle import compare_with_shuffled

    with _shown(Monitor(on_event, should_stop), progress) as monitor:
        return compare_with_shuffled(_opened(run, device), output=_folder(output), cache_dir=cache_dir, **monitor.keywords)


def task(
    run: SavedRun | str | Path,
    task: str = "reconstruction",
    *,
    control: bool = True,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> TaskComparison:
    """Compare the filters of a run with those of its network trained for another task.

    Args:
        run: a run or its folder.
        task: ``reconstruction`` of the samples; or other labels: a column of the run's table, or a CSV file.
        control: also train the run's own task from another seed, which shows how similar two trainings are in any case.
        output, device, cache_dir, progress, on_event, should_stop: as for ``mlp``.

    Raises:
        UsageError: the network cannot be built again, or has no filters.
        DataError: the labels are invalid.
        MissingExtraError: scipy is not installed.

    >>> comparison = visus.experiment.task(run, control=False, output=folder, progress=False)
    >>> [each.name for each in comparison.facts.others]
    ['reconstruction of the samples', 'no training at all']
    """
    from visus.workbench.experiment.task import compare_tasks

    with _shown(Monitor(on_event, should_stop), progress) as monitor:
        return compare_tasks(
            _opened(run, device),
            task,
            with_control=control,
            output=_folder(output),
            cache_dir=cache_dir,
            **monitor.keywords,
        )


def antialias(
    run: SavedRun | str | Path,
    *,
    output: str | Path | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Antialiased:
    """Compare a run with its antialiased design: global pooling instead of flatten, blur pooling instead of strides.

    Args:
        run: a run or its folder; its network must be a design with a flatten or a stride.
        output, device, cache_dir, progress, on_event, should_stop: as for ``mlp``.

    Raises:
        UsageError: the design has no flatten and no stride to change.

    >>> visus.experiment.antialias(run, progress=False)
    Traceback (most recent call last):
        ...
    visus.errors.UsageError: ...this network has no flatten and no stride to change, or is not a design: there is nothing to train.
    """
    from visus.workbench.experiment.antialias import compare_with_antialiased

    with _shown(Monitor(on_event, should_stop), progress) as monitor:
        return compare_with_antialiased(
            _opened(run, device), output=_folder(output), cache_dir=cache_dir, **monitor.keywords
        )


def _twins(network: str | Design, input_shape: tuple[int, ...], num_classes: int) -> Twins:
    design = required_design("equivalent perceptrons", network, input_shape, num_classes)
    return Twins(input_shape, perceptron_twins(design, input_shape, num_classes))


def _opened(run: SavedRun | str | Path, device: str | None) -> SavedRun:
    from visus.workbench.runs.run import Run
    from visus.workbench.runs.saved import SavedRun, read_run

    return run if isinstance(run, SavedRun) else read_run(Run, run, device=device or "auto")


def _folder(output: str | Path | None) -> Path | None:
    return None if output is None else Path(output)


def _shown(monitor: Monitor, progress: bool | None) -> AbstractContextManager[Monitor]:
    """A context that shows the trainings of an experiment as ``visus.train`` shows one."""
    from visus.workbench.screen import showing

    return showing(monitor, progress, is_first=True)
