"""Everything that takes long is followed by ``on_event`` and canceled by ``should_stop``, and by nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Tree = Any  # the fixture of conftest.py

KEYWORDS = ("on_event", "should_stop")
LONG = {
    "visus": ("benchmark", "check", "compare", "cross_validate", "look", "open_data", "resume", "train", "tune", "verify"),
    "visus.data.opened": ("Data.split_at", "open_data", "open_scoring_data"),
    "visus.data.store": ("open_store",),
    "visus.workbench.benchmark.measuring": ("benchmark",),
    "visus.workbench.compare.runs": ("compare", "compare_runs"),
    "visus.workbench.data_check": ("check",),
    "visus.workbench.ensembles": ("Ensemble.evaluate", "Ensemble.predict", "Ensemble.predict_to"),
    "visus.workbench.experiment.antialias": ("compare_with_antialiased",),
    "visus.workbench.experiment.experiments": ("antialias", "mlp", "shuffle", "task"),
    "visus.workbench.experiment.mlp": ("compare_with_mlps",),
    "visus.workbench.experiment.shuffle": ("compare_with_shuffled",),
    "visus.workbench.experiment.task": ("compare_tasks",),
    "visus.workbench.folds.cross_validation": ("cross_validate",),
    "visus.workbench.look.looking": ("look", "measure_look"),
    "visus.workbench.look.opening": ("open_look",),
    "visus.workbench.resuming": ("resume",),
    "visus.workbench.report.reports": ("rewrite_report",),
    "visus.workbench.runs.evaluate": ("evaluate",),
    "visus.workbench.runs.largest_errors": ("find_run_errors",),
    "visus.workbench.runs.mistakes": ("find_run_mistakes",),
    "visus.workbench.runs.own_data": ("open_own_data", "open_under_labels"),
    "visus.workbench.runs.bulk.predicting": ("predict_to",),
    "visus.workbench.runs.predict": ("predict", "predict_run_to"),
    "visus.workbench.runs.predictions": ("predict_with",),
    "visus.workbench.runs.run": (
        *("Run.answers", "Run.compare", "Run.evaluate", "Run.export", "Run.look", "Run.mistakes", "Run.open_data"),
        *("Run.predict", "Run.predict_to", "Run.report", "Run.score", "Run.shifts"),
    ),
    "visus.workbench.runs.shifts": ("report_shifts",),
    "visus.workbench.ship.bundle": ("Bundle.predict", "Bundle.predict_to", "Bundle.verify"),
    "visus.workbench.ship.exporting": ("export_run",),
    "visus.workbench.ship.verifying": ("verify",),
    "visus.workbench.train.training": ("resume", "train"),
    "visus.workbench.tune.tuning": ("tune",),
}
SHOWN = (
    *("visus:benchmark", "visus:check", "visus:compare", "visus:diff", "visus:doctor", "visus:look", "visus:open_data"),
    *("visus:cross_validate", "visus:Ensemble.evaluate", "visus:Ensemble.predict", "visus:Ensemble.predict_to"),
    *("visus:resume", "visus:solve", "visus:summary", "visus:train", "visus:tune", "visus:verify"),
    *("visus.experiment:antialias", "visus.experiment:mlp", "visus.experiment:shuffle", "visus.experiment:task"),
    *(
        "visus:Bundle.predict",
        "visus:Bundle.verify",
        "visus:Run.compare",
        "visus:Run.evaluate",
        "visus:Run.export",
        "visus:Run.look",
    ),
    *("visus:Run.mistakes", "visus:Run.open_data", "visus:Run.predict", "visus:Run.predict_to", "visus:Run.report"),
    "visus:Run.shifts",
)
"""What a person calls and may take long: it shows its progress unless ``progress`` is False."""

OTHER_WORDS = {
    "callback",
    "callbacks",
    "cancel",
    "on_drawn",
    "on_epoch",
    "on_progress",
    "on_step",
    "progress_callback",
    "tell",
}
"""Words that would be another convention."""

ALLOWED_ALONE = {"reconstruct"}  # its epochs are what it yields, so it is followed already


@pytest.mark.parametrize("name", [f"{module}:{name}" for module, names in LONG.items() for name in names])
def test_a_long_function_takes_exactly_these_two_keywords(name: str) -> None:
    module, _, path = name.partition(":")
    function: Any = importlib.import_module(module)
    for part in path.split("."):
        function = getattr(function, part)
    parameters = inspect.signature(function).parameters
    kinds = [parameters[word].kind for word in KEYWORDS if word in parameters]
    assert kinds == [inspect.Parameter.KEYWORD_ONLY] * 2, f"{name} takes {[*parameters]}"
    assert [parameters[word].default for word in KEYWORDS] == [None, None]


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_person_calls_shows_its_progress_unless_it_is_told_not_to(name: str) -> None:
    module, _, path = name.partition(":")
    function: Any = importlib.import_module(module)
    for part in path.split("."):
        function = getattr(function, part)
    progress = inspect.signature(function).parameters["progress"]
    assert (progress.kind, progress.default) == (inspect.Parameter.KEYWORD_ONLY, None)


def functions(tree: Tree) -> list[tuple[str, str, list[str]]]:
    """(module, name, parameters) of every function."""
    found = []
    for module, parsed in tree.parsed.items():
        for node in ast.walk(parsed):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
                found.append((module, node.name, names))
    return found


def test_the_two_keywords_come_together_and_every_function_that_takes_them_is_listed(tree: Tree) -> None:
    listed = {(module, name.rpartition(".")[2]) for module, names in LONG.items() for name in names}
    homes = {(module, name) for module, name, given in functions(tree) if set(KEYWORDS) & set(given)}
    alone = {(module, name) for module, name, given in functions(tree) if len(set(KEYWORDS) & set(given)) == 1}
    assert {name for _, name in alone} <= ALLOWED_ALONE
    inherited = {("visus.workbench.runs.saved", "open_data")}
    known = listed | inherited | {("visus.workbench.opening", "open_data")} | alone
    own = {(module, name) for module, name in homes if not name.startswith("_")}
    assert own <= known, sorted(own - known)


def test_there_is_no_other_convention(tree: Tree) -> None:
    others = [(module, name, word) for module, name, given in functions(tree) for word in given if word in OTHER_WORDS]
    assert others == []


# ---- what they do ----


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on sixty gray images of two classes."""
    import visus

    root = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 90, (60, 1, 10, 10), dtype=np.uint8) + (labels * 120).astype(np.uint8)[:, None, None, None]
    np.savez(root / "squares.npz", x=images, y=labels)
    recipe = visus.Recipe(epochs=1, batch_size=16, precision="float32")
    design = "conv(4, 3), relu, flatten, linear(classes)"
    return visus.train(root / "squares.npz", design, recipe, output=root / "runs", progress=False)


def _visus() -> Any:
    return importlib.import_module("visus")


QUESTIONS: dict[str, Callable[..., Any]] = {
    "benchmark": lambda run, **two: _visus().benchmark(run, rounds=1, batch_size=4, **two),
    "compare two": lambda run, **two: _visus().compare(run, run.folder, **two),
    "answers": lambda run, **two: run.answers(run.open_data(), "test", **two),
    "compare": lambda run, **two: run.compare(run, **two),
    "evaluate": lambda run, **two: run.evaluate(**two),
    "look": lambda run, **two: run.look("test:0", **two),
    "mistakes": lambda run, **two: run.mistakes(**two),
    "predict": lambda run, **two: list(run.predict(np.zeros((2, 1, 10, 10), np.uint8), **two)),
    "report": lambda run, **two: run.report(**two),
    "score": lambda run, **two: run.score(run.open_data(), "test", **two),
    "shifts": lambda run, **two: run.shifts(**two),
}


@pytest.mark.parametrize(
    "question", [pytest.param(each, marks=pytest.mark.slow) if each == "benchmark" else each for each in QUESTIONS]
)
def test_every_question_is_followed_and_canceled(question: str, run: Any) -> None:
    from visus.errors import CanceledError
    from visus.progress import Progress

    seen: list[Any] = []
    QUESTIONS[question](run, on_event=seen.append)
    assert seen
    assert all(isinstance(event, Progress) for event in seen)
    with pytest.raises(CanceledError):
        QUESTIONS[question](run, should_stop=lambda: True)


@pytest.mark.parametrize("experiment", ["antialias", "mlp", "shuffle", "task"])
def test_every_experiment_is_canceled_between_two_steps_of_its_training(experiment: str, run: Any, tmp_path: Path) -> None:
    from visus.errors import CanceledError
    from visus.training.events import StepDone

    names = {"antialias": "compare_with_antialiased", "mlp": "compare_with_mlps", "shuffle": "compare_with_shuffled"}
    module = importlib.import_module(f"visus.workbench.experiment.{experiment}")
    function = getattr(module, names.get(experiment, "compare_tasks"))
    given = ["reconstruction"] if experiment == "task" else []
    seen: list[Any] = []

    def is_begun() -> bool:
        return any(isinstance(event, StepDone) for event in seen)

    with pytest.raises(CanceledError) as caught:
        function(run, *given, output=tmp_path, on_event=seen.append, should_stop=is_begun)
    assert str(caught.value).endswith(", which can be resumed.")
    assert sum(isinstance(event, StepDone) for event in seen) == 1


def test_a_training_that_reconstructs_is_canceled_after_a_step(run: Any, tmp_path: Path) -> None:
    from visus.errors import CanceledError
    from visus.workbench.experiment.task import compare_tasks

    with pytest.raises(CanceledError) as caught:
        compare_tasks(run, "reconstruction", output=tmp_path, should_stop=lambda: any(tmp_path.iterdir()))
    assert str(caught.value) == "canceled while training, after 1 of 2."


def test_decoding_is_followed_and_canceled_and_leaves_no_entry(tmp_path: Path) -> None:
    import visus
    from visus.errors import CanceledError
    from visus.progress import Progress

    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((40, 3, 400_000), np.float32), y=np.arange(40) % 2)
    cache = tmp_path / "cache"
    with pytest.raises(CanceledError) as caught:
        visus.open_data(tmp_path / "x.npz", cache_dir=cache, should_stop=lambda: True)
    assert str(caught.value).startswith("canceled while decoding, after ")
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    seen: list[Any] = []
    visus.open_data(tmp_path / "x.npz", cache_dir=cache, on_event=seen.append)
    assert seen[-1] == Progress("decoding", 40, 40)
    shutil.rmtree(cache)
