"""What is written in the repository holds: links, versions, docstrings, and nothing that belongs elsewhere."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from docs.generators import generate

Tree = Any  # the fixture of conftest.py

# Written in two pieces, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:/-])/(?:ho" r"me|Use" r"rs|ro" r"ot|wo" r"rk)/\w",
    "an unfinished note": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|T" r"BD)\b",
}
BRITISH = re.compile(
    r"(?:colo"
    r"ur|gre"
    r"y(?!s?hound)|neighbo"
    r"ur|behavio"
    r"ur|favo"
    r"ur|hono"
    r"ur|labe"
    r"lled(?!by)|labe"  # aria-labelledby is a name of HTML
    r"lling|misspe"
    r"lt|\bcent"
    r"res?\b|cent"
    r"red|"
    r"\b\w*(?:normal|orthogonal|optim|organ|general|regular|initial|visual|recogn|summar|quant|equal|standard|minim|maxim|synchron|serial)"
    r"is(?:e|es|ed|ing|ation)\b)",
    re.IGNORECASE,
)
COINED = re.compile(
    r"\b(?:(?<!scripts/)pict"
    r"ures?(?!/)|record"
    r"ings?|data s"
    r"ets?|left ou"
    r"t:|(?:is|are) tol"
    r"d|text"
    r"book|(?-i:This file kn"
    r"ows)|must not kn"
    r"ow)\b(?!\")",
    re.IGNORECASE,
)
"""Words that this project once used where the field has others: image, signal, dataset, default, reports, theoretical."""
NAMES_THAT_PEOPLE_GIVE = {"src/visus/data/folder_names.py", "src/visus/data/masks.py"}


def texts(tree: Tree) -> dict[str, str]:
    """Every text file of the repository by its path: what git knows or would take up."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    answer = subprocess.run(listing, cwd=tree.root, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        names = [name for name in answer.stdout.split("\0") if name]
    else:
        folders = ("src", "tests", "scripts", "benchmarks", ".ci", "docs")
        paths = [path for folder in folders for path in (tree.root / folder).rglob("*")] + list(tree.root.glob("*"))
        names = [str(path.relative_to(tree.root)) for path in paths if "__pycache__" not in path.parts]
    found = {}
    for name in sorted(names):
        path = tree.root / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            content = path.read_bytes()
            if b"\0" not in content and not content.startswith(b"\x1f\x8b"):
                found[name] = content.decode("utf-8", errors="replace")
    return found


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_nothing_holds(kind: str, tree: Tree) -> None:
    places = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts(tree).items()
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith('"image/png": ')  # of a notebook: letters that no one reads
        and re.search(FORBIDDEN[kind], line)
    ]
    assert not places, f"{kind}:\n" + "\n".join(places)


def test_spelling_is_american(tree: Tree) -> None:
    places = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts(tree).items()
        if name.endswith((".py", ".md", ".html", ".cpp", ".toml")) and name not in NAMES_THAT_PEOPLE_GIVE
        for number, line in enumerate(text.splitlines(), 1)
        if BRITISH.search(line)
    ]
    assert not places, "\n".join(places)


def test_words_are_those_of_the_field(tree: Tree) -> None:
    places = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts(tree).items()
        if name.startswith(("src/", "README", "CONTRIBUTING", "ARCHITECTURE", "docs/"))
        and name.endswith((".py", ".md"))
        and name not in NAMES_THAT_PEOPLE_GIVE
        for number, line in enumerate(text.splitlines(), 1)
        if COINED.search(line)
    ]
    assert not places, "\n".join(places)


def documents(tree: Tree) -> dict[str, str]:
    """The Markdown documents of the repository."""
    return {name: text for name, text in texts(tree).items() if name.endswith(".md")}


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a document give."""
    headings = re.findall(r"^#+ (.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_somewhere(tree: Tree) -> None:
    """Pages that are generated when the site is built count; ``scripts/docs`` checks their anchors, and those of notebooks."""
    generated = {tree.root / "docs" / page for page in generate()}
    broken = []
    for name, text in documents(tree).items():
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            place = (tree.root / name).parent / path if path else tree.root / name
            if place.resolve() in generated or (place.suffix == ".ipynb" and place.exists()):
                continue
            if not place.exists() or (anchor and anchor not in anchors(place.read_text("utf-8"))):
                broken.append(f"{name}: {target}")
    assert not broken, "\n".join(broken)


def test_the_changelog_reports_this_version(tree: Tree) -> None:
    version = tomllib.loads(tree.document("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## \[?{re.escape(version)}\]?", tree.document("CHANGELOG.md"), re.M)


def test_what_ships_has_its_license(tree: Tree) -> None:
    for name in tomllib.loads(tree.document("pyproject.toml"))["project"]["license-files"]:
        text = Path(tree.root / name).read_text("utf-8")
        assert "Permission is hereby granted, free of charge" in " ".join(text.split()), name


def test_every_path_in_the_recipes_for_contributors_exists(tree: Tree) -> None:
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_*]+\.[a-z]+)?)`", tree.document("CONTRIBUTING.md"))
    assert len(named) > 20
    missing = [
        name
        for name in named
        if not any([*tree.root.glob(name.rstrip("/")), *(tree.root / "src" / "visus").glob(name.rstrip("/"))])
    ]
    assert not missing, missing
