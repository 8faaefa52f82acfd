"""Every help ends with examples that the command line accepts."""

from __future__ import annotations

import pytest
from tests.commands import Call
from tests.contracts.test_options_documented import commands
from tests.documents import parse_call, visus_calls

from visus.cli.examples import EXAMPLES


def test_every_command_has_one_or_two_examples_of_its_own() -> None:
    assert set(EXAMPLES) == {name for name, command in commands().items() if not getattr(command, "commands", None)}
    for name, lines in EXAMPLES.items():
        assert len(lines) in (1, 2)
        assert [line for line in lines if not f"{line} ".startswith(f"visus {name} ")] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_ends_with_the_examples(visus_command: Call, name: str) -> None:
    shown = visus_command(*name.split(), "--help").out
    assert shown.rpartition("\nExamples:\n")[2] == "".join(f"  {line}\n" for line in EXAMPLES[name])
    assert max(map(len, shown.rpartition("\nExamples:\n")[2].splitlines())) <= 80


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
@pytest.mark.long
def test_examples_parse(line: str) -> None:
    calls = list(visus_calls(line))
    assert len(calls) == 1
    parse_call(calls[0])


def test_the_long_help_and_the_group_of_experiments_have_examples_too(visus_command: Call) -> None:
    assert visus_command("train", "--help-all").out.endswith(f"  {EXAMPLES['train'][-1]}\n")
    assert visus_command("experiment", "--help").out.endswith("  For example: visus experiment shuffle runs/first\n")
