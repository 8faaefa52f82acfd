"""The generated reference is complete: every name, command, option, setting, file and error is on its page."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import types
from typing import Any

import pytest
from docs.generators import GENERATORS, generate, python_names
from tests.commands import Call
from tests.contracts.test_options_documented import commands, options_of
from tests.documents import parse_call

import visus
from visus.training.run_files import RUN_FILES


@functools.cache
def pages() -> dict[str, str]:
    """Every generated page by its path."""
    return generate()


def section(page: str, heading: str) -> str:
    """The text under a heading of a page, up to the next heading of any level."""
    parts = re.split(rf"^#+ {re.escape(heading)}(?: {{[^}}]*}})?\s*$", pages()[page], maxsplit=1, flags=re.M)
    assert len(parts) == 2, f"{page} has no heading '{heading}'"
    return re.split(r"^#+ ", parts[1], maxsplit=1, flags=re.M)[0]


@pytest.mark.slow
def test_every_generator_returns_pages_of_its_own() -> None:
    modules = [importlib.import_module(f"docs.generators.{name}") for name in GENERATORS]
    assert sum(len(module.pages()) for module in modules) == len(pages())


def test_two_generators_of_one_path_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docs.generators.GENERATORS", ("errors", "errors"))
    with pytest.raises(ValueError, match=re.escape("errors returns reference/errors.md, which another one returns too.")):
        generate()


# ---- Python ----


@pytest.mark.parametrize("name", visus.__all__)
def test_every_public_name_has_a_page(name: str) -> None:
    thing = getattr(visus, name)
    page = python_names.page_of(name, thing)
    text = pages()[page]
    if isinstance(thing, str):
        assert thing in text
    else:
        place = f"{thing.__module__}.{thing.__qualname__}" if hasattr(thing, "__qualname__") else thing.__name__
        assert f"::: {place}\n" in text
    assert f"({page.removeprefix('reference/python/')})" in pages()["reference/python/index.md"]


def test_every_public_method_of_a_run_is_on_its_page() -> None:
    listed = re.search(r"members: \[(.*)\]", pages()["reference/python/Run.md"])
    assert listed
    names = {name for name in dir(visus.Run) if not name.startswith("_")} - {
        field.name for field in dataclasses.fields(visus.Run) if field.name != "which"
    }
    assert set(listed[1].split(", ")) == names - {"which"}


def test_what_a_function_returns_has_a_page() -> None:
    for name in ("Scores", "Predictions", "Prediction", "Look", "ShiftReport", "MistakeReport", "Comparison", "Account"):
        assert f"reference/python/results/{name}.md" in pages(), name
    assert "reference/python/results/Run.md" not in pages(), "a public name has one page"


def test_a_public_name_or_method_without_a_docstring_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> None: ...

    monkeypatch.setattr(visus.Run.predict, "__doc__", None)
    monkeypatch.setitem(vars(visus), "summary", nameless)
    with pytest.raises(ValueError, match=re.escape("without a docstring: Run.predict, summary. Write one")):
        python_names.pages()


def test_a_generated_docstring_of_a_dataclass_is_none() -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    assert python_names.without_docstring({"Point": Point}) == ["Point"]


def test_a_module_among_the_public_names_shows_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("visus.trials", "Trials.")

    def own() -> None:
        """A trial of its own."""

    module.__dict__.update(__all__=["own", "summary"], own=own, summary=visus.summary)
    monkeypatch.setitem(vars(visus), "trials", module)
    monkeypatch.setattr(visus, "__all__", [*visus.__all__, "trials"])
    page = python_names.pages()["reference/python/modules/trials.md"]
    assert "::: visus.trials\n" in page
    assert "      heading: visus.trials.own\n" in page
    assert "[`visus.trials.summary`](../summary.md)" in page
    assert "heading: visus.trials.summary" not in page
    monkeypatch.setitem(vars(visus), "trials", 3.5)
    with pytest.raises(ValueError, match=re.escape("visus.trials is neither a function, a class nor a module")):
        python_names.pages()


# ---- commands ----


def test_every_command_and_option_is_on_the_page_of_commands() -> None:
    for name, command in commands().items():
        text = section("reference/commands.md", f"visus {name}")
        assert " ".join(command.help.split())[:20] in text
        for option in options_of(command) - {"--help", "-h"}:
            assert f"`{option}`" in text, f"visus {name} {option}"


def test_options_have_their_type_default_and_meaning() -> None:
    rows = {row.split(" | ")[0].strip("| "): row for row in section("reference/commands.md", "visus train").splitlines()}
    assert rows["`-o` `--output`"] == "| `-o` `--output` | path | runs | Folder of the runs. |"
    assert rows["`--class-depth`"].startswith("| `--class-depth` | whole number, at least 1 |  | Folder level")
    assert rows["[`--flip`](settings.md#flip)"].startswith(
        "| [`--flip`](settings.md#flip) | `alternating`, `none`, `random` |"
    )
    assert rows["[`--schedule`](settings.md#schedule)"].split(" | ")[2] == "linear"
    summary = section("reference/commands.md", "visus summary")
    assert "| `NETWORK` | text | required | A family, a design or its file, or package.module:callable. |" in summary
    assert (
        "| `-b` `--batch-size` | whole number, at least 1 | 64 | Samples in one training step, for the memory. |" in summary
    )


def test_usage_names_arguments_as_they_are_required() -> None:
    assert "visus summary [OPTIONS] NETWORK\n" in pages()["reference/commands.md"]
    assert "visus predict [OPTIONS] RUN FILES...\n" in pages()["reference/commands.md"]
    assert "visus train [OPTIONS] [DATA]\n" in pages()["reference/commands.md"]


def test_a_command_without_an_example_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from docs.generators import commands as generator

    monkeypatch.delitem(generator.EXAMPLES, "look")
    with pytest.raises(ValueError, match=re.escape("visus look has no line in EXAMPLES of src/visus/cli/examples.py")):
        generator.pages()


def test_exit_notes_are_of_commands_that_exist() -> None:
    from docs.generators.commands import EXIT_NOTES

    assert set(EXIT_NOTES) <= set(commands())


def test_exit_codes_of_the_page_are_those_of_the_commands(visus_command: Call, tmp_path: Any) -> None:
    text = section("reference/commands.md", "Exit codes")
    assert re.findall(r"^\| (\d+) \|", text, re.M) == ["0", "1", "2", "130"]
    assert visus_command("solve", "--in", 8, "--kernel", 3, "--stride", 1, "--padding", 1).code == 0
    assert visus_command("check", tmp_path / "nothing").code in (1, 2)
    assert visus_command("solve", "--kernel", "x").code == 2


def test_exit_notes_hold(visus_command: Call) -> None:
    assert visus_command("solve", "--in", 8, "--kernel", 3, "--padding", 0, "--stride", 1, "--out", 7).code == 1
    assert visus_command("solve", "--in", 2, "--kernel", 7, "--padding", 0, "--stride", 1).code == 1


# ---- settings, files, errors ----


@pytest.mark.parametrize("field", dataclasses.fields(visus.Recipe), ids=lambda field: field.name)
def test_every_setting_has_its_meaning_option_type_and_default(field: Any) -> None:
    text = section("reference/settings.md", field.name)
    described = field.metadata["describe"]
    assert described.split()[1] in text
    assert re.search(r"^- \*\*option\*\*: `--[a-z0-9-]+`", text, re.M)
    assert re.search(r"^- \*\*type\*\*: \S", text, re.M)
    default = re.search(r"^- \*\*default\*\*: (.+)", text, re.M)
    if field.default is not None:
        assert default
        assert default[1] == f"`{field.default}`"
    elif "default" in described:
        assert default
    for word in field.metadata["known"]:
        assert f"`{word}`" in text


def test_options_of_settings_on_the_page_parse() -> None:
    options = re.findall(r"^- \*\*option\*\*: `(--[a-z0-9-]+)`", pages()["reference/settings.md"], re.M)
    assert len(options) == len(dataclasses.fields(visus.Recipe))
    parse_call(["train", *[word for option in options for word in (option, "1")]])


def test_every_file_of_a_run_is_on_its_page() -> None:
    text = pages()["reference/run-files.md"]
    for file in RUN_FILES:
        assert f"| `{file.path}` | {file.holds[0].upper()}{file.holds[1:]}." in text


def test_every_error_is_on_its_page_with_code_and_remedy() -> None:
    from docs.generators.errors import REMEDIES

    import visus.errors

    kinds = [kind for kind in vars(visus.errors).values() if inspect.isclass(kind) and issubclass(kind, visus.VisusError)]
    text = pages()["reference/errors.md"]
    assert set(REMEDIES) == {kind.__name__ for kind in kinds}
    for kind in kinds:
        below = section("reference/errors.md", kind.__name__)
        assert f" Exit code {kind.exit_code}.\n" in below
        assert REMEDIES[kind.__name__] in below
        assert kind is visus.VisusError or re.search(rf"^[ |`-]+{kind.__name__}$", text, re.M), kind


def test_an_error_without_a_remedy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from docs.generators import errors

    monkeypatch.delitem(errors.REMEDIES, "StorageError")
    with pytest.raises(ValueError, match=re.escape("StorageError has no line in REMEDIES of docs/generators/errors.py")):
        errors.pages()
