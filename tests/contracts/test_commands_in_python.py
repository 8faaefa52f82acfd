"""Everything that the command line does has a public name in Python, and the command is a thin door over it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

import pytest
from tests.contracts.test_options_documented import commands

Tree = Any  # the fixture of conftest.py

IN_PYTHON = {
    "benchmark": ("visus.benchmark",),
    "cache": ("visus.cached_data",),
    "check": ("visus.check",),
    "compare": ("visus.compare",),
    "diff": ("visus.diff",),
    "doctor": ("visus.doctor",),
    "evaluate": ("visus.Run.evaluate", "visus.Run.shifts", "visus.Run.mistakes"),
    "experiment antialias": ("visus.experiment.antialias",),
    "experiment mlp": ("visus.experiment.mlp",),
    "experiment shuffle": ("visus.experiment.shuffle",),
    "experiment task": ("visus.experiment.task",),
    "export": ("visus.Run.export",),
    "look": ("visus.look",),
    "predict": ("visus.Run.predict", "visus.Run.predict_to", "visus.open_bundle", "visus.ensemble"),
    "report": ("visus.Run.report",),
    "serve": ("visus.serve",),
    "solve": ("visus.solve",),
    "summary": ("visus.summary",),
    "train": ("visus.train", "visus.cross_validate", "visus.resume"),
    "tune": ("visus.tune", "visus.open_data"),
    "verify": ("visus.verify",),
}
"""The public names behind each command."""

OTHER_NAMES = {
    "as_json": "to_json of the result",
    "assignments": "the recipe of train; augment of check",
    "at": "at",
    "at_least": "at_least of Predictions.sort_into",
    "boxes": "visus.data.boxes",
    "classes": "num_classes",
    "command": "command",
    "confusion_png": "confusion of the scores",
    "empty": "CachedData.empty",
    "files": "files",
    "first": "left",
    "golden": "num_golden",
    "second": "right",
    "image": "sample",
    "kernel": "kernel_size",
    "no_engines": "engines=()",
    "limit": "limit of Run.mistakes",
    "mistakes": "Run.mistakes",
    "other": "task",
    "quiet": "progress",
    "recipe": "the recipe of train; augment of check",
    "samples": "num_samples",
    "shifts": "Run.shifts",
    "sort_into": "Predictions.sort_into",
    "size_in": "input_size",
    "size_out": "output_size",
    "time_limit": "time_limit_s",
    "verbose": "on_event, and text of a look",
    "workers": "num_workers",
    "output": "Look.write",
    "search": "space",
}
"""Options whose argument in Python has another name, or is a method of the result."""

LOADED = {"run", "network", "device"}  # of visus.load, or the object itself


def public(name: str) -> Any:
    """The object with a public name such as ``visus.Run.evaluate``."""
    found: Any = importlib.import_module("visus")
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


def test_every_command_has_its_public_name() -> None:
    groups = {"experiment"}
    assert set(IN_PYTHON) == set(commands()) - groups
    for names in IN_PYTHON.values():
        for name in names:
            assert callable(public(name)), name


def arguments(name: str) -> set[str]:
    """The names of the arguments behind a command, and those of ``visus.open_data`` where it opens data by keywords."""
    found: set[str] = set()
    for each in IN_PYTHON[name]:
        parameters = inspect.signature(public(each)).parameters
        found |= set(parameters)
        if "settings" in parameters or name in ("evaluate", "train"):
            found |= set(inspect.signature(public("visus.open_data")).parameters)
    return found


@pytest.mark.parametrize("name", sorted(IN_PYTHON))
def test_every_option_of_a_command_is_an_argument_in_python(name: str) -> None:
    fields = set(public("visus.Recipe").__dataclass_fields__) if name == "train" else set()
    own_of_train = {"assignments", "recipe", "resume", "given", "name"} if name == "train" else set()
    options = {option.name for option in commands()[name].params} - {"help", "help_all"}
    known = arguments(name) | set(OTHER_NAMES) | LOADED | fields | own_of_train | {"model"}
    assert options <= known, sorted(options - known)


@pytest.mark.parametrize("module", ["benchmark", "cache", "comparison", "experiment", "serving", "shipping", "tuning"])
def test_a_command_is_a_thin_door(module: str, tree: Tree) -> None:
    """A command parses, calls one public function and prints: it has no loop."""
    for node in ast.walk(tree.parsed[f"visus.cli.{module}"]):
        assert not isinstance(node, (ast.For, ast.While)), f"{module} line {node.lineno}"


def test_the_help_of_visus_names_every_public_name() -> None:
    """``help(visus)`` reads like a first page: a section for each part of the work, and a line for each name."""
    visus = importlib.import_module("visus")
    page = visus.__doc__ or ""
    named = set(re.findall(r"[A-Za-z_]+", page))
    assert set(visus.__all__) - {"Data", "Design", "__version__"} <= named
    assert max(len(line) for line in page.splitlines()) <= 128
    assert [line for line in page.splitlines() if re.fullmatch(r"[A-Z][a-z ]+", line)] == [
        *("Data", "Design", "Train", "Look inside and measure", "Ship")
    ]
