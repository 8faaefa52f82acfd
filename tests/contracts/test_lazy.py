"""What is loaded when: the light rooms never load torch or numpy, and help comes at once."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "matplotlib", "torchmetrics", "PIL", "safetensors"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a new process has loaded after ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(set(sys.modules) & set({sorted(HEAVY)!r}))))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "visus",
        "visus.geometry",
        "visus.design",
        "visus.examine",
        "visus.experiment",
        "visus.cli",
        "visus.cli.app",
        "visus.server.serving",
    ],
)
def test_import_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_accounting_for_a_design_loads_nothing_heavy() -> None:
    code = """
from visus.design import account, parse, resolve_network
design = parse("conv(8, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)")
assert account(design, (3, 32, 32), 10).rows
assert account(resolve_network("resnet(18)", input_shape=(3, 32, 32), num_classes=10), (3, 32, 32), 10).rows
"""
    assert loaded_by(code) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["summary", "resnet(18)", "--json"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from visus.cli import main
sys.argv = ["visus", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""
    assert loaded_by(code) == set()


def test_public_names_are_found_before_they_are_loaded() -> None:
    assert loaded_by("import visus\nassert set(visus.__all__) <= set(dir(visus))") == set()


def test_what_needs_no_data_loads_nothing_heavy() -> None:
    code = """
import visus
assert visus.solve(input_size=224, kernel_size=7, stride=2, output_size=112)
assert visus.diff("lenet5", "resnet18", (3, 32, 32), 10).rows
assert visus.experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10)
"""
    assert loaded_by(code) == set()


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    assert loaded_by("import visus\nassert not hasattr(visus, 'no_such_name')") == set()


def test_help_comes_within_a_few_times_the_processor_time_of_the_packages_that_it_needs() -> None:
    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert answer.returncode == 0, answer.stderr
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    spent = min(seconds(str(Path(sys.executable).with_name("visus")), "--help") for _ in range(3))
    known = min(seconds(sys.executable, "-c", "import typer, rich.console") for _ in range(3))
    assert spent < max(0.5, 4 * known)
