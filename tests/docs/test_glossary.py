"""The glossary has every column that a command prints, its words are in order, and each leads to a page that uses the word."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generators import generate
from docs.generators.notebooks import read_notebook

from visus.ship.parity import SAME
from visus.ship.tasks.registry import BUNDLE_TASKS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "glossary.md").read_text("utf-8")
WORDS, COLUMNS = re.split(r"^## .*$", TEXT, flags=re.M)[1:]
ENTRIES = dict(zip(*[iter(text.strip() for text in re.split(r"^### (.*)$", WORDS, flags=re.M)[1:])] * 2, strict=True))
OWN_WORDS = ("account", "advice", "compact", "ledger")
"""The words that the style of the project has besides those of the field."""
HEADINGS = {"headings", "HEADINGS", "COLUMNS", "SET_COLUMNS", "SHIFT_COLUMNS", "_LABEL_COLUMNS", "_SET_COLUMNS"}
"""Names of the tuples that hold the headings of a table."""


@functools.cache
def generated() -> dict[str, str]:
    """Every generated page by its path."""
    return generate()


def page(link: str) -> str:
    """The text of a page that the glossary links to, generated or written, by its path under ``docs``."""
    path = ROOT / "docs" / link.partition("#")[0]
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in read_notebook(path)["cells"])
    return path.read_text("utf-8") if path.is_file() else generated()[link.partition("#")[0]]


def headings_in_code() -> Iterator[str]:
    """The heading of every column in the sources that is written as text."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in HEADINGS:
                    found: list[ast.expr] = [value]
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Tuple() as value) if name in HEADINGS:
                    found = [value]
                case ast.Call(func=ast.Name(id="Table"), args=[_, *others]):
                    found = others[:1]
                case ast.Call(func=ast.Name(id="_Column"), args=[first, *_]):
                    found = [ast.Tuple([first])]
                case _:
                    continue
            for each in found:
                if isinstance(each, ast.Tuple):
                    yield from (item.value for item in each.elts if isinstance(item, ast.Constant) and item.value)


def test_words_are_in_order_and_said_once() -> None:
    names = [name.lower() for name in ENTRIES]
    assert names == sorted(set(names))
    assert len(names) > 100


def test_each_word_is_one_or_two_sentences_and_a_link() -> None:
    for name, text in ENTRIES.items():
        said = re.fullmatch(r"(.+[.]) See \[[^\]]+\]\([^)]+\)\.", text)
        assert said, name
        assert len(re.findall(r"[.](?: |$)", said[1])) <= 2, name
        assert len(said[1].split()) <= 45, name


def test_the_linked_page_uses_the_word() -> None:
    silent = []
    for name, text in ENTRIES.items():
        [link] = re.findall(r"\]\(([^)]+)\)", text)
        spellings = [part for part in re.split(r"[(),]", name.lower()) if part.strip()]
        stem = min((each.strip() for each in spellings), key=len) if "receptive" not in name else "receptive"
        if stem[:5].rstrip("s") not in page(link).lower():
            silent.append(f"{name}: {link}")
    assert silent == []


def test_own_words_are_in_it() -> None:
    assert {word for word in OWN_WORDS if word.capitalize() not in ENTRIES} == set()
    opening = TEXT.partition("## ")[0]
    assert re.findall(r"\[(\w+)\]\(#\w+\)", opening) == list(OWN_WORDS)


def test_every_printed_column_is_explained() -> None:
    rows = [row.split(" | ")[0].strip("| ") for row in COLUMNS.splitlines() if row.startswith("| ")][1:]
    explained = {name for row in rows for name in row.split(", ")}
    printed = set(headings_in_code()) | {
        "images/s",
        "inside",
        "receptive field",
        "train",
        "val",
        "test",
        "validation accuracy",
    }
    printed |= {*SAME.values(), *(kind.metric for kind in BUNDLE_TASKS.values())}
    assert len(printed) > 50
    assert printed - explained == set(), "columns without a line in docs/glossary.md"
    assert explained - printed == set(), "columns in docs/glossary.md that no table has"
    assert rows == sorted(rows, key=str.lower)
