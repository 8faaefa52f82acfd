"""The objects that examples in docstrings use without making them: a trained run, its data, and what it answers.

An example such as ``>>> run.evaluate().accuracy`` gets ``run`` from here. Each object is made once, when the first example that
needs it runs; ``folder`` is a new, empty folder for each docstring. The rest of an example is complete by itself.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

if "VISUS_CACHE" not in os.environ:
    os.environ["VISUS_CACHE"] = tempfile.mkdtemp(prefix="visus-examples-cache-")
    atexit.register(shutil.rmtree, os.environ["VISUS_CACHE"], ignore_errors=True)
os.environ.setdefault("VISUS_KERNELS", "off")  # compiling them takes longer than all examples
os.environ.setdefault("MPLBACKEND", "Agg")

DESIGN = "conv(4, 3), relu, globalpool, linear(classes)"


class Objects:
    """What examples may use, by name. Three classes of images of 3 x 8 x 8 differ in their brightness."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def visus(self) -> Any:
        """The package."""
        import visus

        return visus

    @cached_property
    def file(self) -> Path:
        """Sixty images and their labels."""
        import numpy as np

        labels = np.arange(60) % 3
        levels = (labels * 80).astype(np.uint8)[:, None, None, None]
        x = np.random.default_rng(0).integers(0, 90, (60, 3, 8, 8), dtype=np.uint8) + levels
        np.savez(self.root / "levels.npz", x=x, y=labels)
        return self.root / "levels.npz"

    @cached_property
    def images(self) -> Any:
        """Six of the images, as an array (samples, channels, height, width)."""
        import numpy as np

        with np.load(self.file) as arrays:
            return arrays["x"][:6]

    @cached_property
    def data(self) -> Any:
        """The opened data."""
        return self.visus.open_data(self.file)

    @cached_property
    def run(self) -> Any:
        """A run on the data."""
        return self._trained(DESIGN, 6)

    def _trained(self, design: str, epochs: int) -> Any:
        recipe = self.visus.Recipe(epochs=epochs, batch_size=8, learning_rate=0.02, precision="float32", device="cpu")
        return self.visus.train(self.file, design, recipe, output=self.root / "runs", progress=False)

    @cached_property
    def crossed(self) -> Any:
        """A cross-validation of three folds."""
        recipe = self.visus.Recipe(epochs=2, batch_size=8, learning_rate=0.02, precision="float32", device="cpu")
        return self.visus.cross_validate(self.file, DESIGN, recipe, folds=3, output=self.root / "crossed", progress=False)

    @cached_property
    def both(self) -> Any:
        """Two runs that answer together."""
        return self.visus.ensemble([self.run, self._trained(DESIGN, 3)])

    @cached_property
    def tuned(self) -> Any:
        """A search of three trials."""
        recipe = self.visus.Recipe(epochs=2, batch_size=8, precision="float32", device="cpu")
        space = {"learning_rate": (0.01, 0.3)}
        return self.visus.tune(
            self.file, DESIGN, recipe, space=space, trials=3, output=self.root / "searches", progress=False
        )

    @cached_property
    def account(self) -> Any:
        """The account of its network."""
        return self.visus.summary(DESIGN, (3, 8, 8), 3)

    @cached_property
    def exported(self) -> Any:
        """The bundle of the run, as it was written."""
        return self.run.export(self.root / "levels-bundle", formats=["onnx"], progress=False)

    @cached_property
    def bundle(self) -> Any:
        """The bundle, opened."""
        return self.visus.open_bundle(self.exported.path)

    @cached_property
    def verified(self) -> Any:
        """The bundle, checked."""
        return self.visus.verify(self.exported.path, progress=False)

    @cached_property
    def scores(self) -> Any:
        """The scores of the run."""
        return self.run.scores

    @cached_property
    def set_scores(self) -> Any:
        """Scores of sets of two classes."""
        import torch

        from visus.evaluation.tasks.label_thresholds import ThresholdFit
        from visus.evaluation.tasks.multi_label_scores import score_sets

        logits, labels = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-2.0, 1.0]]), torch.tensor([[1.0, 0], [1, 1], [0, 0]])
        return score_sets(logits, labels, ["cat", "dog"], ThresholdFit(thresholds=(0.5, 0.5)), split="test")

    @cached_property
    def number_scores(self) -> Any:
        """Scores of one target."""
        import torch

        from visus.evaluation.tasks.prediction_intervals import IntervalFit
        from visus.evaluation.tasks.regression import Regression
        from visus.evaluation.tasks.regression_scores import score_numbers

        task = Regression(("age",), mean=(40.0,), std=(10.0,))
        outputs, labels = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([[42.0], [49.0], [30.0]])
        return score_numbers(task, outputs, labels, IntervalFit((5.0,), "", 30, ("age",)), split="test")

    @cached_property
    def largest_errors(self) -> Any:
        """The largest errors of one target."""
        from visus.examine.largest_errors import LargestErrors, SampleError

        return LargestErrors("regression", "test", 3, 0, (SampleError(0, "a.png", "42", "40", 2.0),))

    @cached_property
    def looked(self) -> Any:
        """A look at one sample."""
        return self.run.look("test:0", progress=False)

    @cached_property
    def mistakes(self) -> Any:
        """The mistakes of the run."""
        return self.run.mistakes(progress=False)

    @cached_property
    def shifted(self) -> Any:
        """The shifts of the run."""
        return self.run.shifts(progress=False)

    @cached_property
    def comparison(self) -> Any:
        """The run compared with itself."""
        return self.run.compare(self.run, progress=False)

    @cached_property
    def antialiased(self) -> Any:
        """The comparison of a run that has a flatten with its antialiased design."""
        run = self._trained("conv(4, 3), relu, flatten, linear(classes)", 1)
        return self.visus.experiment.antialias(run, progress=False)

    @cached_property
    def tasks(self) -> Any:
        """The comparison of the run with its network trained to reconstruct the samples."""
        return self.visus.experiment.task(self.run, control=False, output=self.root / "tasks", progress=False)

    @cached_property
    def measured(self) -> Any:
        """A benchmark of the network."""
        return self.visus.benchmark(DESIGN, (3, 8, 8), 3, batch_size=8, rounds=2, device="cpu", progress=False)

    @cached_property
    def machine(self) -> Any:
        """The report on this machine."""
        return self.visus.doctor(seconds=0.2, progress=False)

    @property
    def folder(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.root))


@contextlib.contextmanager
def _short_reports() -> Iterator[None]:
    """Trainings write reports without saliency maps and drawn charts, which take longer than a tiny training."""
    from visus.errors import VisusError
    from visus.workbench.report import measures
    from visus.workbench.train import run_files

    def no_maps(*_: Any) -> None:
        raise VisusError("left out of the examples.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_saliencies", no_maps)
        for name in ("draw_confusion", "draw_curves"):
            patch.setattr(run_files, name, lambda *_: None)
        yield


NAMES = {name for name in vars(Objects) if not name.startswith("_")}
LIGHT = {
    "account",
    "folder",
    "images",
    "file",
    "visus",
    "set_scores",
    "number_scores",
    "largest_errors",
}  # made without a training


def names_used(sources: list[str]) -> set[str]:
    """The names that examples read before they assign them.

    >>> sorted(names_used(["a = b", "print(a)"]))
    ['b', 'print']
    """
    used: set[str] = set()
    assigned: set[str] = set()
    for source in sources:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
        used |= {node.id for node in nodes if isinstance(node.ctx, ast.Load)} - assigned
        assigned |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return used


@pytest.fixture(scope="session")
def _objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return Objects(tmp_path_factory.mktemp("examples"))


@pytest.fixture(autouse=True)
def _objects_of_examples(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, Any], _objects: Objects
) -> Iterator[None]:
    """Give the examples of one docstring the objects that they name."""
    test: Any = getattr(request.node, "dtest", None)
    wanted: set[str] = set()
    if test is not None:
        wanted = names_used([example.source for example in test.examples]) & NAMES - set(test.globs)
    with _short_reports() if wanted - LIGHT else contextlib.nullcontext():
        for name in wanted:
            doctest_namespace[name] = getattr(_objects, name)
        yield
    for name in wanted:
        del doctest_namespace[name]
