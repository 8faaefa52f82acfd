"""Filters follow from the task: a run's network trained again for something else, and both held side by side.

This file knows which networks are trained for that and what is compared.
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
from visus.examine.similarity import kernels_likeness, layer_kernels, match_filters, refuse_too_few
from visus.files import write_file, write_json
from visus.networks import weights
from visus.networks.autoencoder import Autoencoder
from visus.pages.tasks import Other, TaskFacts, task_page
from visus.training.recipe import Recipe
from visus.training.reconstruction import ReconstructionEpoch, reconstruct
from visus.training.resolve import ResolvedRecipe, for_new_network
from visus.training.runs import RunFolder
from visus.units import write_share
from visus.workbench.modules import OBJECT_PREFIX, Network, make_network
from visus.workbench.runs.own_data import open_own_data, open_under_labels
from visus.workbench.runs.run import Run
from visus.workbench.runs.shifts import some_samples
from visus.workbench.train.preparing import prepare, whiten
from visus.workbench.train.training import OnEvent, train

RECONSTRUCTION: Final = "reconstruction"
MAX_SAMPLES: Final = 256
_MAX_VALUES: Final = 2**22  # of all compared samples together


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
    """An epoch of the training that gives the samples back was done."""

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
        task: ``reconstruction``, to give the samples back; or other labels, as ``open_data`` takes them: a column of the run's table, or a
            CSV file.
        with_control: train the run's own task from the other start too; without it, nothing says how alike two trainings are anyway.
        output: folder of the new runs; None for that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: called with everything that happens in the trainings with labels.
        on_drawn: called after each epoch of a training that gives the samples back.
        command: what was typed, for the reports.

    Raises:
        UsageError: the network cannot be made anew, or has no filters.
        DataError: the labels cannot be used.
        MissingExtraError: scipy is not installed.
    """
    subject = _subject(run, cache_dir)
    again = _Again(run, subject, output or run.folder.parent, cache_dir, on_event, on_drawn, command)
    others = [again.reconstructing() if task == RECONSTRUCTION else again.under_labels(task)]
    if with_control:
        others.append(again.control())
    others.append(again.untrained())
    facts = TaskFacts(
        name=run.name,
        task="the run's own labels",
        result=subject.result,
        layer=subject.layer,
        kernels=subject.kernels,
        others=tuple(subject.held_against(each) for each in others),
        num_samples=len(subject.samples),
        noun=subject.data.noun,
    )
    folders = tuple(each.folder for each in others if each.folder is not None)
    page = folders[0] / "tasks.html"
    write_file(page, task_page(facts, made_with=__version__))
    write_json(page.with_suffix(".json"), facts.to_json())
    return TaskComparison(facts, page, folders)


@dataclass(frozen=True, eq=False)
class _Subject:
    """The run that others are held against, run once: its first filters, and what every layer makes of the samples.

    Args:
        text: its design.
        data: its own data.
        samples: held-out ones, as the network reads them.
        layer, kernels: its first layer with filters.
        result: how well it does, as a sentence.
        layer_kernels: of every layer.
    """

    text: str
    data: Data
    samples: torch.Tensor
    layer: str
    kernels: Array
    result: str
    layer_kernels: dict[str, Array]

    def held_against(self, other: _Made) -> Other:
        """Another network held against it; up to its layer ``last``, where what follows was not trained."""
        kernels: Array = filters(other.module, self.layer).kernels
        layers = kernels_likeness(self.layer_kernels, layer_kernels(other.module, self.samples))
        paths = [each.path for each in layers]
        trained = layers[: paths.index(other.last) + 1] if other.last in paths else layers
        return Other(other.name, other.result, kernels, match_filters(self.kernels, kernels), trained)


def _subject(run: Run, cache_dir: str | Path | None) -> _Subject:
    """Everything of the run that is needed, so that what cannot be compared is refused before any training."""
    text = RunFolder.open(run.folder).read_text("design.txt").strip()
    if text.startswith(OBJECT_PREFIX):
        raise UsageError(
            "a network is trained for another task from its design, and this run was trained with a Python object.",
            where=str(run.folder),
        )
    own = open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir)
    samples, _ = some_samples(run, own.split(own.scored_split), _num_samples(run))
    samples = run.preprocessing.shuffled(samples)
    refuse_too_few(len(samples))
    layer = first_filters(run.module, samples[:1])
    kernels = filters(run.module, layer).kernels
    match_filters(kernels, kernels)  # says before any training what is not installed
    return _Subject(text, own, samples, layer, kernels, _result(run), layer_kernels(run.module, samples))


@dataclass(frozen=True, eq=False)
class _Made:
    """A network that was made to be held against the run.

    Args:
        name: what it learned, in words.
        result: how well, as a sentence; empty where it learned nothing.
        module: the network.
        folder: where it was kept; None where it was not trained.
        last: the last layer that was trained; None for all.
    """

    name: str
    result: str
    module: nn.Module
    folder: Path | None = None
    last: str | None = None


@dataclass(frozen=True, eq=False)
class _Again:
    """The run's network made again, from the seed after the run's, for one task or another.

    Args:
        run: the run.
        subject: what is known of it.
        output: folder of the new runs.
        cache_dir, on_event, on_drawn, command: as for ``compare_tasks``.
    """

    run: Run
    subject: _Subject
    output: Path
    cache_dir: str | Path | None
    on_event: OnEvent | None
    on_drawn: Callable[[Drawn], None] | None
    command: str

    @property
    def seed(self) -> int:
        """Of every new network."""
        return self.run.recipe.seed + 1

    def reconstructing(self) -> _Made:
        """Trained to give its samples back."""
        drawing, epoch, folder = _draw(self.run, self.subject.data, self.subject.text, self.seed, self.output, self.on_drawn)
        explained = (
            ""
            if epoch.explained is None
            else f"It explains {write_share(epoch.explained)} of the validation samples' variance."
        )
        return _Made("giving the samples back", explained, drawing.network, folder, drawing.layer)

    def under_labels(self, labels: str) -> _Made:
        """Trained for other labels of the same samples."""
        data = open_under_labels(self.run.folder, self.run.preprocessing, labels, cache_dir=self.cache_dir)
        recipe = self.run.recipe
        if recipe.flip != "none":  # what mirroring keeps of one class it may change of another
            recipe = recipe.replace(flip=None, tta=None)
        trained = self._train(data, f"{self.run.name}-{Path(labels).stem}", recipe)
        differs = (
            ""
            if trained.recipe.flip == self.run.recipe.flip
            else " Its samples were not mirrored, which changes these labels."
        )
        return _Made(f"the labels {Path(labels).name}", _result(trained) + differs, trained.module, trained.folder)

    def control(self) -> _Made:
        """Trained for the run's own labels once more."""
        trained = self._train(self.subject.data, f"{self.run.name}-seed-{self.seed}", self.run.recipe)
        return _Made("the same labels from another start", _result(trained), trained.module, trained.folder)

    def untrained(self) -> _Made:
        """As it begins."""
        shape, num_samples = self.run.preprocessing.input_shape, len(self.subject.data.split("train"))
        made = make_network(self.subject.text, shape, len(self.run.classes), num_samples=num_samples, seed=self.seed)
        return _Made("no training at all", "", made.module.to(self.run.machine.device))

    def _train(self, data: Data, name: str, recipe: Recipe) -> Run:
        return train(
            data, self.subject.text, for_new_network(recipe).replace(seed=self.seed),
            output=self.output, name=name, on_event=self.on_event, command=self.command,
        )  # fmt: skip


def first_filters(module: nn.Module, samples: torch.Tensor) -> str:
    """Path of the first layer that has filters.

    Raises:
        UsageError: none has.
    """
    for path in called_layers(module, samples):
        weight = getattr(module.get_submodule(path.partition("#")[0]), "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2:
            return path
    raise UsageError("this network has no layer with filters, so there is nothing to compare.")


def _num_samples(run: Run) -> int:
    return max(16, min(MAX_SAMPLES, _MAX_VALUES // torch.Size(run.preprocessing.input_shape).numel()))


def _result(run: Run) -> str:
    scores = run.scores
    return f"It names {write_share(scores.accuracy)} of {scores.num_samples:,} held-out samples rightly."


def _draw(
    run: Run, data: Data, text: Network, seed: int, output: Path, on_drawn: Callable[[Drawn], None] | None
) -> tuple[Autoencoder, ReconstructionEpoch, Path]:
    """Train the network to give its samples back; what was trained, its last epoch, and the folder with the weights."""
    shape = run.preprocessing.input_shape
    made = make_network(text, shape, len(run.classes), num_samples=len(data.split("train")), seed=seed)
    recipe = ResolvedRecipe.of(
        for_new_network(run.recipe).replace(seed=seed, layer_decay=1.0, frozen="", norm_statistics="batch")
    )
    folder = RunFolder.create(output, f"{run.name}-{RECONSTRUCTION}", {})
    module, batches = prepare(Autoencoder(made.module, None, shape, seed), data, recipe, run.machine)
    whiten(module, data, seed, run.machine)
    assert isinstance(module, Autoencoder), "a module stays what it is"
    history: list[ReconstructionEpoch] = []
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in reconstruct(module, batches, data.split("val"), recipe, run.machine):
            history.append(epoch)
            if on_drawn:
                on_drawn(Drawn(epoch, recipe.epochs))
    weights.save(module, folder.path / "weights" / "last.safetensors", {"layer": module.layer})
    facts = {"task": RECONSTRUCTION, "layer": module.layer, "seconds": time.perf_counter() - began}
    write_json(folder.path / "reconstruction.json", facts | {"history": [dataclasses.asdict(each) for each in history]})
    return module.eval(), history[-1], folder.path
