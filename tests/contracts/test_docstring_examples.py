"""Every public docstring has an example that runs: of each public name, and of each public method and property of its class.

``pytest`` runs the examples themselves (``--doctest-modules``); ``src/conftest.py`` makes the objects that they use.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

MODULES = ("visus", "visus.design", "visus.examine", "visus.experiment")
RESULTS = (
    *("visus.data.batches:Part", "visus.design.account:Account", "visus.design.account:Row"),
    *("visus.design.advice.pieces:Advice", "visus.design.mlp_equivalents:Twins", "visus.design.wider_fields:Ways"),
    *("visus.evaluation.scores:Scores", "visus.examine.mistake_report:MistakeReport"),
    *("visus.evaluation.tasks.multi_label_scores:MultiLabelScores", "visus.examine.largest_errors:LargestErrors"),
    "visus.evaluation.tasks.regression_scores:RegressionScores",
    *("visus.geometry:Solution", "visus.geometry:Solutions", "visus.workbench.benchmark.result:Agreement"),
    *("visus.workbench.benchmark.result:Benchmark", "visus.workbench.benchmark.result:Timing"),
    *("visus.workbench.cached_data:CachedData", "visus.workbench.cached_data:RemovedData"),
    *("visus.workbench.compare.comparison:Comparison", "visus.workbench.data_check:DataCheck"),
    *("visus.workbench.differences:Difference", "visus.workbench.doctor:MachineReport"),
    *("visus.workbench.experiment.antialias:Antialiased", "visus.workbench.experiment.task:TaskComparison"),
    *(
        "visus.workbench.folds.result:FoldResult",
        "visus.workbench.look.looking:Look",
        "visus.workbench.report.reports:Report",
    ),
    *("visus.workbench.runs.bulk.result:BulkPredictions", "visus.workbench.runs.history:History"),
    *("visus.workbench.runs.prediction:Prediction", "visus.workbench.runs.predictions:Predictions"),
    *("visus.workbench.runs.shifts:ShiftReport", "visus.workbench.runs.sorting:SortedFiles"),
    "visus.workbench.tune.result:Tuned",
    *("visus.workbench.ship.exporting:Export", "visus.workbench.ship.verifying:Verification"),
)
"""What the public functions return."""

OTHER_RETURNS = {
    *("Any", "Calibrator", "Iterable", "Manifest", "Marks", "Module", "NDArray", "Node", "None", "Preprocessing", "Self"),
    *("AnyScores", "Fit", "Numbers", "Shape", "Sigmoid", "TemperatureFit", "Tensor", "Text"),
}
"""Returned too, and described where they are defined."""

METHODS_ELSEWHERE = {"visus.design", "visus.examine"}  # of their many values, the class has the example


def public() -> Iterator[tuple[str, Any]]:
    """(name, object) of everything that is public and has a docstring of its own."""
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            found = getattr(importlib.import_module(module), name)
            if not inspect.ismodule(found) and not isinstance(found, (str, dict)):
                yield f"{module}.{name}", found
    for place in RESULTS:
        module, _, name = place.partition(":")
        yield name, getattr(importlib.import_module(module), name)


def members(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    """A public object, and the methods and properties of a class."""
    yield name, found
    if inspect.isclass(found) and name.rpartition(".")[0] not in METHODS_ELSEWHERE:
        for own in (each for each in dir(found) if not each.startswith("_")):
            member = inspect.getattr_static(found, own)
            if inspect.isfunction(member) or isinstance(
                member, (property, classmethod, staticmethod, functools.cached_property)
            ):
                yield f"{name}.{own}", getattr(member, "__func__", member)


def examples(found: Any) -> list[doctest.Example]:
    """The examples of a docstring that are run."""
    parsed = doctest.DocTestParser().get_examples(inspect.getdoc(found) or "")
    return [each for each in parsed if not each.options.get(doctest.SKIP)]


@pytest.mark.parametrize("name", sorted({name for name, _ in public()}))
def test_every_public_docstring_has_an_example_that_runs(name: str) -> None:
    silent = [each for each, found in members(name, dict(public())[name]) if not examples(found)]
    assert silent == []


def test_every_result_of_a_public_function_is_looked_through() -> None:
    known = {place.partition(":")[2] for place in RESULTS} | set(importlib.import_module("visus").__all__) | OTHER_RETURNS
    returned: set[str] = set()
    for name, found in public():
        if name.partition(".")[0] != "visus" or name.startswith(("visus.design", "visus.examine")):
            continue
        for _, member in members(name, found):
            if inspect.isfunction(member):
                annotation = str(inspect.signature(member).return_annotation)
                returned |= set(re.findall(r"\b[A-Z][A-Za-z]+\b", annotation))
    assert returned <= known, sorted(returned - known)


def test_no_example_is_skipped() -> None:
    skipped = []
    for name, found in public():
        for each, member in members(name, found):
            parsed = doctest.DocTestParser().get_examples(inspect.getdoc(member) or "")
            skipped += [each for example in parsed if example.options.get(doctest.SKIP)]
    assert skipped == []


@pytest.mark.parametrize("module", ["visus", "visus.design", "visus.events", "visus.examine", "visus.experiment"])
def test_the_docstring_of_a_public_package_reads_like_a_first_page(module: str) -> None:
    found = importlib.import_module(module)
    lines = (found.__doc__ or "").splitlines()
    assert lines[0].endswith(".")
    assert not lines[0].startswith(module)  # help prints the name before it
    assert max(map(len, lines)) <= 100
    assert examples(found)
