"""The pieces of the documentation's machinery: docstrings as Markdown, navigation, and what a page may load."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
from docs.generators import generate
from docs.generators.docstrings import to_markdown
from docs.generators.navigation import ORDER, navigation
from docs.generators.offline import outside_loads

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "generators"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "hooks"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(f"docs.generators.{name}")
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted >= (FOLDER / f"{name}.py").read_text("utf-8").count("\n    >>> ")


def test_docstrings_become_sections_and_code() -> None:
    text = to_markdown(
        "Adds.\n\nDrawn::\n\n    a\n      b\n\nArgs:\n    a, b: the terms,\n        in order.\n    c: another.\n\nReturns: the sum.\n\n"
        ">>> add(\n...     1)  # doctest: +SKIP\n1"
    )
    assert text.split("\n") == [
        *("Adds.", "", "Drawn:", "", "```text", "a", "  b", "```", ""),
        *(
            "Args:",
            "    a: the terms,",
            "        in order.",
            "    b: the terms,",
            "        in order.",
            "    c: another.",
            "",
        ),
        *("Returns:", "    the sum.", "", "Examples:", "    ```pycon", "    >>> add(", "    ...     1)", "    1", "    ```"),
    ]


def test_navigation_has_every_page_once_and_in_order() -> None:
    pages = ["index.md", "how-to/zebra.md", "how-to/resume.md", "reference/python/index.md", "reference/python/look.md"]
    pages += [
        "reference/python/results/Look.md",
        "reference/python/Run.md",
        "class_note.md",
        "reference/python/modules/design.md",
    ]
    assert navigation(pages) == [
        {"Start": ["index.md"]},
        {"How to": ["how-to/resume.md", "how-to/zebra.md"]},
        {
            "Reference": [
                {
                    "Python": [
                        "reference/python/index.md",
                        {"look": "reference/python/look.md"},
                        {"Run": "reference/python/Run.md"},
                        {"Modules": [{"design": "reference/python/modules/design.md"}]},
                        {"Results": [{"Look": "reference/python/results/Look.md"}]},
                    ]
                }
            ]
        },
        {"The class note": ["class_note.md"]},
    ]
    assert list(ORDER) == ["Start", "Tutorials", "How to", "Reference", "Concepts", "The class note", "Benchmarks"]


def test_every_page_of_the_navigation_exists() -> None:
    generated = {*generate(), "benchmarks-log.md"}  # hooks.py adds the log
    missing = [
        name
        for order in ORDER.values()
        for name in order
        if not (FOLDER.parent / name).exists() and not any(page == name or page.startswith(name) for page in generated)
    ]
    assert missing == []


def test_a_page_without_a_tab_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape("no tab holds notes/one.md. Add it to ORDER")):
        navigation(["index.md", "notes/one.md"])


@pytest.mark.parametrize(
    ("name", "text", "address"),
    [
        ("a.html", '<script src="https://unpkg.com/iframe-worker/shim"></script>', "https://unpkg.com/iframe-worker/shim"),
        ("a.html", '<link rel="stylesheet" href="//fonts.example.org/css">', "//fonts.example.org/css"),
        ("a.html", '<p><img alt="" src="http://example.org/a.png"></p>', "http://example.org/a.png"),
        ("a.html", '<div style="background: url(https://example.org/b.png)"></div>', "https://example.org/b.png"),
        ("a.html", "<style>@import 'https://example.org/c.css';</style>", "https://example.org/c.css"),
        ("a.html", "<script>fetch('https://example.org/d.json')</script>", "https://example.org/d.json"),
        ("a.html", '<pre class="mermaid"><code>graph</code></pre>', "https://unpkg.com/mermaid"),
        ("a.html", '<a data-md-component="source" href="x">', "https://api.github.com"),
        ("a.css", "@font-face { src: url('https://example.org/f.woff2') }", "https://example.org/f.woff2"),
        ("a.js", 'import("https://cdn.example.org/m.js")', "https://cdn.example.org/m.js"),
        ("a.svg", '<svg><image href="https://example.org/e.png"/></svg>', "https://example.org/e.png"),
    ],
)
def test_what_a_page_loads_from_another_host_is_found(name: str, text: str, address: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert outside_loads(tmp_path) == [f"{name}: {address}"]


def test_links_that_a_person_follows_are_no_loads(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"></svg><a href="https://example.org">paper</a><img src="b.png">'
        '<link rel="canonical" href="https://example.org/a.html"><p>https://example.org</p>'
    )
    (tmp_path / "a.js").write_text("/* https://example.org */ draw('http://www.w3.org/2000/svg')")
    assert outside_loads(tmp_path) == []
