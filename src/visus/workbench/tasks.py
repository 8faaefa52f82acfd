"""Filters follow from the task: a run's network trained again for something else, and both held side by side.

This file knows which networks are trained for that and what is compared. It must not know how anything is drawn or shown.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from visus import __version__
from visus.data.opened import Data
from visus.errors import UsageError
from visus.examine.layer_calls import Array, called_layers
from visus.examine.layer_kernels import filters
from visus.examine.similarity import layer_likeness, match_filters, refuse_too_few
from visus.examine.task_page import Other, TaskFacts, task_page
from visus.files import write_file, write_json
from visus.networks import weights
from visus.networks.reconstructing import Reconstructing
from visus.training.reconstruction import ReconstructionEpoch, reconstruct
from visus.training.runs import RunFolder
from visus.units import write_share
from visus.workbench.modules import OBJECT_PREFIX, Network, make_network
from visus.workbench.runs import Run, open_own_data, open_under_labels
from visus.workbench.shifts import some_items
from visus.workbench.training import OnEvent, prepare, train

RECONSTRUCTION: Final = "reconstruction"
MOST_ITEMS: Final = 256
_MOST_VALUES: Final = 2**22  # of all compared items together


@dataclass(frozen=True, eq=False)
class TaskComparison:
    """A comparison, and where it was written.

    Args:
        facts: what was found.
        page: the page with the filters side by side; a JSON file of the same name holds the figures.
        runs: folders of what was trained for it.
    """

    facts: TaskFacts
    page: Path
    runs: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {**self.facts.to_json(), "page": str(self.page), "runs": [str(folder) for folder in self.runs]}


@dataclass(frozen=True)
class Drawn:
    """An epoch of the training that gives the items back was done."""

    epoch: ReconstructionEpoch
    num_epochs: int


def compare_tasks(
    run: Run,
    task: str,
    *,
    with_control: bool = True,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    on_drawn: Callable[[Drawn], None] | None = None,
    command: str = "",
) -> TaskComparison:
    """Train a run's network for another task, and compare its filters and layers with the run's.

    All new networks begin with the seed after the run's. So the other task and the control, which learns the run's own task once more, differ
    from each other in the task alone, and both differ from the run in their start.

    Args:
        run: the run.
        task: ``reconstruction``, to give the items back; or other labels, as ``open_data`` takes them: a column of the run's table, or a
            CSV file.
        with_control: train the run's own task from the other start too; without it, nothing says how alike two trainings are anyway.
        output: folder of the new runs; None for that of the run.
        cache_dir: another folder for the decoded items.
        on_event: called with everything that happens in the trainings with labels.
        on_drawn: called after each epoch of a training that gives the items back.
        command: what was typed, for the reports.

    Raises:
        UsageError: the network cannot be made anew, or has no filters.
        DataError: the labels cannot be used.
        MissingExtraError: scipy is not installed.
    """
    text = RunFolder.open(run.folder).read_text("design.txt").strip()
    if text.startswith(OBJECT_PREFIX):
        raise UsageError(
            "a network is trained for another task from its design, and this run was trained with a Python object.",
            where=str(run.folder),
        )
    seed = run.recipe.seed + 1
    folder = output or run.folder.parent
    own = open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir)
    items, _ = some_items(run, own.split(own.scored_split), _num_items(run))
    items = run.preprocessing.shuffled(items)
    refuse_too_few(len(items))
    layer = first_filters(run.module, items[:1])
    kernels = filters(run.module, layer).kernels
    match_filters(kernels, kernels)  # says before any training what is not installed

    def again(data: Data, name: str) -> Run:
        return train(data, text, run.recipe.replace(seed=seed), output=folder, name=name, on_event=on_event, command=command)

    made: list[tuple[str, str, nn.Module, str | None]] = []
    folders = []
    if task == RECONSTRUCTION:
        drawing, epoch, place = _draw(run, own, text, seed, folder, on_drawn)
        explained = (
            ""
            if epoch.explained is None
            else f"It explains {write_share(epoch.explained)} of the validation items' variance."
        )
        made.append(("giving the items back", explained, drawing.network, drawing.layer))
        folders.append(place)
    else:
        data = open_under_labels(run.folder, run.preprocessing, task, cache_dir=cache_dir)
        other = again(data, f"{run.name}-{Path(task).stem}")
        made.append((f"the labels {Path(task).name}", _result(other), other.module, None))
        folders.append(other.folder)
    if with_control:
        control = again(own, f"{run.name}-seed-{seed}")
        made.append(("the same labels from another start", _result(control), control.module, None))
        folders.append(control.folder)
    fresh = make_network(
        text, run.preprocessing.input_shape, len(run.classes), num_items=len(own.split("train")), seed=seed
    ).module.to(run.machine.device)
    made.append(("no training at all", "", fresh, None))
    facts = TaskFacts(
        name=run.name,
        task="the run's own labels",
        result=_result(run),
        layer=layer,
        kernels=kernels,
        others=tuple(_held(run.module, layer, items, *each) for each in made),
        num_items=len(items),
        noun=own.noun,
    )
    page = folders[0] / "tasks.html"
    write_file(page, task_page(facts, made_with=__version__))
    write_json(page.with_suffix(".json"), facts.to_json())
    return TaskComparison(facts, page, tuple(folders))


def first_filters(module: nn.Module, items: torch.Tensor) -> str:
    """Path of the first layer that has filters.

    Raises:
        UsageError: none has.
    """
    for path in called_layers(module, items):
        weight = getattr(module.get_submodule(path.partition("#")[0]), "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2:
            return path
    raise UsageError("this network has no layer with filters, so there is nothing to compare.")


def _held(
    run: nn.Module, layer: str, items: torch.Tensor, name: str, result: str, other: nn.Module, last: str | None
) -> Other:
    """Another network held against the run; up to its layer ``last``, where what follows was not trained."""
    kernels: Array = filters(other, layer).kernels
    layers = layer_likeness(run, other, items)
    paths = [each.path for each in layers]
    trained = layers[: paths.index(last) + 1] if last in paths else layers
    return Other(name, result, kernels, match_filters(filters(run, layer).kernels, kernels), trained)


def _num_items(run: Run) -> int:
    return max(16, min(MOST_ITEMS, _MOST_VALUES // torch.Size(run.preprocessing.input_shape).numel()))


def _result(run: Run) -> str:
    scores = run.scores
    return f"It names {write_share(scores.accuracy)} of {scores.num_items:,} held-out items rightly."


def _draw(
    run: Run, data: Data, text: Network, seed: int, output: Path, on_drawn: Callable[[Drawn], None] | None
) -> tuple[Reconstructing, ReconstructionEpoch, Path]:
    """Train the network to give its items back; what was trained, its last epoch, and the folder with the weights."""
    shape = run.preprocessing.input_shape
    recipe = run.recipe.replace(seed=seed)
    made = make_network(text, shape, len(run.classes), num_items=len(data.split("train")), seed=seed)
    folder = RunFolder.create(output, f"{run.name}-{RECONSTRUCTION}", {})
    module, batches = prepare(Reconstructing(made.module, None, shape, seed), data, recipe, run.machine)
    assert isinstance(module, Reconstructing), "a module stays what it is"
    history: list[ReconstructionEpoch] = []
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in reconstruct(module, batches, data.split("val"), recipe, run.machine):
            history.append(epoch)
            if on_drawn:
                on_drawn(Drawn(epoch, recipe.epochs or 0))
    weights.save(module, folder.path / "weights" / "last.safetensors", {"layer": module.layer})
    facts = {"task": RECONSTRUCTION, "layer": module.layer, "seconds": time.perf_counter() - began}
    write_json(folder.path / "reconstruction.json", facts | {"history": [dataclasses.asdict(each) for each in history]})
    return module.eval(), history[-1], folder.path
