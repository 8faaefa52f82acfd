"""``visus experiment task``: trains a run's network for another task, and compares the filters and layers of both."""

from __future__ import annotations

import dataclasses
import time
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
from visus.examine.similarity import gram_matrices, gram_similarity, match_filters, refuse_too_few
from visus.files import write_file, write_json
from visus.networks import weights
from visus.networks.autoencoder import Autoencoder
from visus.pages.tasks import OtherNetwork, TaskFacts, task_page
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text
from visus.training.events import ReconstructionEpochDone
from visus.training.recipe import Recipe
from visus.training.reconstruction import ReconstructionEpoch, reconstruct
from visus.training.resolve import for_new_network
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.units import write_number_of, write_share
from visus.workbench.experiment.retraining import Retraining
from visus.workbench.modules import OBJECT_PREFIX, make_network
from visus.workbench.runs.own_data import open_own_data, open_under_labels
from visus.workbench.runs.run import Run
from visus.workbench.runs.saved import SavedRun
from visus.workbench.runs.shifts import some_samples
from visus.workbench.train.preparing import prepare, whiten

RECONSTRUCTION: Final = "reconstruction"
MAX_SAMPLES: Final = 256
_MAX_VALUES: Final = 2**22  # of all compared samples together


@dataclass(frozen=True, eq=False, repr=False)
class TaskComparison(Described):
    """A comparison, and the path of its page.

    Args:
        facts: the results.
        page: path of the page with the filters; a JSON file of the same name has the figures.
        runs: folders of the new runs.

    >>> tasks.page.name
    'tasks.html'
    """

    facts: TaskFacts
    page: Path
    runs: tuple[Path, ...]

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        facts = self.facts
        rows = [
            (other.name, f"mean cosine {other.matching.mean:.2f} to the {facts.unit}s of {facts.layer}")
            for other in facts.others
        ]
        rows += [("page", str(self.page)), ("next", ".facts, .runs; .text() has every layer")]
        return f"Other tasks for {facts.name}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("similarity to the run", self._similarity_table()),)

    def text(self) -> Text:
        """How similar the first filters and every layer are to those of the run.

        >>> tasks.text()[0].headings[0]
        'similarity to the run'
        """
        facts = self.facts
        return Text(
            (
                self._similarity_table(),
                f"{facts.name}: {facts.result}",
                *(f"{other.name}: {other.result}" for other in facts.others if other.result),
                *facts.sentences(),
                f"CKA: centered kernel alignment of the layers' outputs for {write_number_of(facts.num_samples, facts.noun)}, 0 to 1",
                f"page: {self.page}",
            )
        )

    def _similarity_table(self) -> Table:
        facts = self.facts
        rows = [(f"{facts.unit}s of {facts.layer}, mean cosine", *(f"{other.matching.mean:.2f}" for other in facts.others))]
        by_path = [{layer.path: layer.cka for layer in other.layers} for other in facts.others]
        for layer in max((other.layers for other in facts.others), key=len):
            cells = [each.get(layer.path) for each in by_path]
            rows.append((f"{layer.path}, CKA", *("" if cell is None else f"{cell:.2f}" for cell in cells)))
        headings = ("similarity to the run", *(other.name for other in facts.others))
        return Table(tuple(rows), headings, tuple(range(1, len(headings))))

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data.

        >>> [folder.endswith("levels-reconstruction") for folder in tasks.to_json()["runs"]]
        [True]
        """
        return {**self.facts.to_json(), "page": str(self.page), "runs": [str(folder) for folder in self.runs]}


def compare_tasks(
    run: SavedRun,
    task: str,
    *,
    with_control: bool = True,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> TaskComparison:
    """Train a run's network for another task, and compare its filters and layers with the run's.

    All new networks use the seed of the run plus 1. So the other task and the control (the run's own task again) differ only
    in the task, and both differ from the run in their initial weights.

    Args:
        run: the run.
        task: ``reconstruction`` of the samples; or other labels as for ``open_data``: a column of the run's table, or a CSV
            file.
        with_control: also train the run's own task from the other seed, which shows how similar two trainings are in any
            case.
        output: parent folder of the new runs; default: that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: receives the events of each training, and a ``Progress`` during other computations.
        should_stop: called after each step; True raises ``CanceledError``.

    Raises:
        UsageError: the network cannot be built again, or has no filters.
        DataError: the labels are invalid.
        MissingExtraError: scipy is not installed.
    """
    monitor = Monitor(on_event, should_stop)
    base = _base_run(run, cache_dir, monitor)
    again = _TaskTraining(base, Retraining(run, output, cache_dir, monitor))
    others = [again.reconstructing() if task == RECONSTRUCTION else again.under_labels(task)]
    if with_control:
        others.append(again.control())
    others.append(again.untrained())
    facts = TaskFacts(
        name=run.name,
        task="the run's own labels",
        result=base.result,
        layer=base.layer,
        kernels=base.kernels,
        others=tuple(base.compare(each) for each in others),
        num_samples=len(base.samples),
        noun=base.data.noun,
    )
    folders = tuple(each.folder for each in others if each.folder is not None)
    page = folders[0] / "tasks.html"
    write_file(page, task_page(facts, made_with=__version__))
    write_json(page.with_suffix(".json"), facts.to_json())
    return TaskComparison(facts, page, folders)


@dataclass(frozen=True, eq=False)
class _BaseRun:
    """The run that other networks are compared with: its first filters, and the outputs of every layer for some samples.

    Args:
        text: its design.
        data: its own data.
        samples: held-out ones, as the network reads them.
        layer, kernels: its first layer with filters.
        result: how well it does, as a sentence.
        gram_matrices: of every layer.
    """

    text: str
    data: Data
    samples: torch.Tensor
    layer: str
    kernels: Array
    result: str
    gram_matrices: dict[str, Array]

    def compare(self, other: _OtherNetwork) -> OtherNetwork:
        """Compare another network with the run, layer by layer; only up to ``other.last`` if the layers after it were not
        trained."""
        kernels: Array = filters(other.module, self.layer).kernels
        layers = gram_similarity(self.gram_matrices, gram_matrices(other.module, self.samples))
        paths = [each.path for each in layers]
        trained = layers[: paths.index(other.last) + 1] if other.last in paths else layers
        return OtherNetwork(other.name, other.result, kernels, match_filters(self.kernels, kernels), trained)


def _base_run(run: SavedRun, cache_dir: str | Path | None, monitor: Monitor) -> _BaseRun:
    """Measure the run first, so that a network that cannot be compared is refused before any training."""
    text = RunFolder.open(run.folder).read_text("design.txt").strip()
    if text.startswith(OBJECT_PREFIX):
        raise UsageError(
            "another task needs the design of the network, and this run was trained with a Python object.",
            where=str(run.folder),
        )
    own = open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir, **monitor.keywords)
    samples, _ = some_samples(run, own.split(own.scored_split), _num_samples(run))
    samples = run.preprocessing.shuffled(samples)
    refuse_too_few(len(samples))
    layer = first_filters(run.module, samples[:1])
    kernels = filters(run.module, layer).kernels
    match_filters(kernels, kernels)  # a missing extra is reported before any training
    return _BaseRun(text, own, samples, layer, kernels, _result(run), gram_matrices(run.module, samples))


@dataclass(frozen=True, eq=False)
class _OtherNetwork:
    """A network that was made to be held against the run.

    Args:
        name: what it learned, in words.
        result: how well, as a sentence; empty if it learned nothing.
        module: the network.
        folder: where it was kept; None if it was not trained.
        last: the last layer that was trained; None for all.
    """

    name: str
    result: str
    module: nn.Module
    folder: Path | None = None
    last: str | None = None


@dataclass(frozen=True, eq=False)
class _TaskTraining:
    """The run's network made again, from the seed after the run's, for one task or another.

    Args:
        base: the run as it is compared.
        again: trains with the run's data and recipe.
    """

    base: _BaseRun
    again: Retraining

    @property
    def run(self) -> SavedRun:
        """The run."""
        return self.again.run

    @property
    def seed(self) -> int:
        """Seed of every new network."""
        return self.run.recipe.seed + 1

    def reconstructing(self) -> _OtherNetwork:
        """Trained to reconstruct its samples."""
        drawing, epoch, folder = _reconstruct(self.again, self.base, self.seed)
        explained = (
            ""
            if epoch.explained is None
            else f"It explains {write_share(epoch.explained)} of the validation samples' variance."
        )
        return _OtherNetwork("reconstruction of the samples", explained, drawing.network, folder, drawing.layer)

    def under_labels(self, labels: str) -> _OtherNetwork:
        """Trained for other labels of the same samples."""
        data = open_under_labels(
            self.run.folder, self.run.preprocessing, labels, cache_dir=self.again.cache_dir, **self.again.monitor.keywords
        )
        recipe = self.run.recipe
        if recipe.flip != "none":  # what mirroring keeps of one class it may change of another
            recipe = recipe.replace(flip=None, tta=None)
        trained = self._train(data, f"{self.run.name}-{Path(labels).stem}", recipe)
        differs = (
            ""
            if trained.recipe.flip == self.run.recipe.flip
            else " Its samples were not mirrored, which changes these labels."
        )
        return _OtherNetwork(f"the labels {Path(labels).name}", _result(trained) + differs, trained.module, trained.folder)

    def control(self) -> _OtherNetwork:
        """Trained again for the run's own labels."""
        trained = self._train(self.base.data, f"{self.run.name}-seed-{self.seed}", self.run.recipe)
        return _OtherNetwork("the same labels from another start", _result(trained), trained.module, trained.folder)

    def untrained(self) -> _OtherNetwork:
        """The network before training."""
        shape, num_samples = self.run.preprocessing.input_shape, len(self.base.data.split("train"))
        made = make_network(self.base.text, shape, len(self.run.classes), num_samples=num_samples, seed=self.seed)
        return _OtherNetwork("no training at all", "", made.module.to(self.run.machine.device))

    def _train(self, data: Data, name: str, recipe: Recipe) -> Run:
        return self.again.train(data, self.base.text, for_new_network(recipe).replace(seed=self.seed), name)


def first_filters(module: nn.Module, samples: torch.Tensor) -> str:
    """Path of the first layer that has filters.

    Raises:
        UsageError: no layer has filters.
    """
    for path in called_layers(module, samples):
        weight = getattr(module.get_submodule(path.partition("#")[0]), "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2:
            return path
    raise UsageError("this network has no layer with filters, so there is nothing to compare.")


def _num_samples(run: SavedRun) -> int:
    return max(16, min(MAX_SAMPLES, _MAX_VALUES // torch.Size(run.preprocessing.input_shape).numel()))


def _result(run: SavedRun) -> str:
    found = run.scores.headline
    return f"Its {found.metric} is {found.write(found.value)} on {run.scores.num_samples:,} held-out samples."


def _reconstruct(again: Retraining, base: _BaseRun, seed: int) -> tuple[Autoencoder, ReconstructionEpoch, Path]:
    """Train the network to reconstruct its samples; what was trained, its last epoch, and the folder with the weights."""
    run, data, shape = again.run, base.data, again.run.preprocessing.input_shape
    made = make_network(base.text, shape, len(run.classes), num_samples=len(data.split("train")), seed=seed)
    recipe = ResolvedRecipe.of(
        for_new_network(run.recipe).replace(seed=seed, layer_decay=1.0, frozen="", norm_statistics="batch")
    )
    folder = RunFolder.create(again.output or run.folder.parent, f"{run.name}-{RECONSTRUCTION}", {})
    module, batches = prepare(Autoencoder(made.module, None, shape, seed), data, recipe, run.machine)
    whiten(module, data, seed, run.machine)
    assert isinstance(module, Autoencoder), "a module stays what it is"
    history: list[ReconstructionEpoch] = []
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in reconstruct(
            module, batches, data.split("val"), recipe, run.machine, should_stop=again.monitor.should_stop
        ):
            history.append(epoch)
            again.monitor.emit(ReconstructionEpochDone(epoch.epoch, recipe.epochs, epoch.loss, epoch.explained))
    weights.save(module, folder.path / "weights" / "last.safetensors", {"layer": module.layer})
    facts = {"task": RECONSTRUCTION, "layer": module.layer, "seconds": time.perf_counter() - began}
    write_json(folder.path / "reconstruction.json", facts | {"history": [dataclasses.asdict(each) for each in history]})
    return module.eval(), history[-1], folder.path
