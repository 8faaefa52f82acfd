"""The code blocks of the pages are true: Python parses and names what exists, and the command line accepts each command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.generators import generate
from tests.documents import fences, missing_names, parse_call, shell_lines, visus_calls

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"bash", "console", "csv", "json", "pycon", "python", "sh", "text", "yaml"}


def documents() -> dict[str, str]:
    """Every page of the documentation that is Markdown, generated ones included, by its path under ``docs/``."""
    written = {path.relative_to(ROOT / "docs").as_posix(): path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")}
    return written | {name: text for name, text in generate().items() if name.endswith(".md")}


DOCUMENTS = documents()


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_code_blocks_are_true(name: str) -> None:
    blocks = fences(DOCUMENTS[name])
    assert {language for language, _ in blocks} <= LANGUAGES
    for language, content in blocks:
        if language == "python":
            assert missing_names(content) == []
        elif language in ("sh", "console", "bash"):
            for line in shell_lines(language, content):
                for call in visus_calls(line):
                    parse_call(call)


def test_commands_in_sentences_exist() -> None:
    from docs.generators.commands import commands

    names = {name.split()[0] for name in commands()}
    said = {(name, word) for name, text in DOCUMENTS.items() for word in re.findall(r"`visus ([a-z]+)", text)}
    assert len(said) > 20
    assert {(name, word) for name, word in said if word not in names} == set()


def test_links_of_the_first_pages_work_on_github() -> None:
    """GitHub shows files as they are in the repository, without the pages that are generated; the home page says so there."""
    readme, home = (ROOT / "README.md").read_text("utf-8"), DOCUMENTS["index.md"]
    links = {page: re.findall(r"\]\(([^)#\s]+)", text) for page, text in (("", readme), ("docs", home))}
    missing = {link for page, found in links.items() for link in found if not (ROOT / page / link).exists()}
    assert {link for link in missing if not link.startswith(("reference/", "https://"))} == set()
    assert '<p class="visus-not-on-site">On GitHub, links to the reference lead nowhere' in home
    assert ".visus-not-on-site {\n  display: none;" in (ROOT / "docs" / "assets" / "visus.css").read_text("utf-8")
