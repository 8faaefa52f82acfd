"""The tree under test, as the contracts read it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tree:
    """The repository: its sources parsed once, its documents as text."""

    root: Path

    @cached_property
    def sources(self) -> dict[str, Path]:
        """Every module of visus by its dotted name, ``visus`` itself included."""
        found = {}
        for path in sorted((self.root / "src" / "visus").rglob("*.py")):
            parts = path.relative_to(self.root / "src").with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def parsed(self) -> dict[str, ast.Module]:
        """The syntax tree of every module of visus."""
        return {name: ast.parse(path.read_text("utf-8"), str(path)) for name, path in self.sources.items()}

    def document(self, name: str) -> str:
        """The text of a document at the root, such as ``README.md``."""
        return (self.root / name).read_text("utf-8")

    def table(self, document: str, heading: str) -> list[list[str]]:
        """The cells of the first table under ``heading``, without its head row and its rule."""
        section = re.split(rf"^#+ {re.escape(heading)}\s*$", self.document(document), maxsplit=1, flags=re.M)
        assert len(section) == 2, f"{document} has no heading '{heading}'"
        body = re.split(r"^#+ ", section[1], maxsplit=1, flags=re.M)[0]
        rows = [line.strip() for line in body.splitlines() if line.lstrip().startswith("|")]
        assert len(rows) > 2, f"{document} has no table under '{heading}'"
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows[2:]]


@pytest.fixture(scope="session")
def tree() -> Tree:
    """The repository that these tests belong to."""
    return Tree(_ROOT)
