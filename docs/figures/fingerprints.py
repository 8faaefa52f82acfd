"""What a figure shows, without its digits: the fingerprint by which a test notices that a figure is stale.

The figures are drawn from measurements, which differ in their last digits between processors. So digits, images and the names of classes
are masked, and a list that is repeated counts once. What remains are the words, the elements and the style sheet.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from figures.figure import STYLE, Figure

FOLDER: Final = Path(__file__).parents[1] / "pictures"
MANIFEST: Final = FOLDER / "manifest.json"

TOLERANCE: Final = 0.04
"""How far a measured value may move before its figure is stale: values are fractions."""

_IMAGE: Final = re.compile(r"data:image/\w+;base64,[\w+/=]+")
_PATH: Final = re.compile(r'( (?:points|d|viewBox|transform)=")[^"]*')
_TIME_UNIT: Final = re.compile(r"(?<=# )(?:µs|ms|s|min|h)\b")
_DIGITS: Final = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")
_PIECES: Final = re.compile(r"<[^>]*>|[^<]+")

PARTS: Final = {
    "content": "what it shows",
    "style": "its style sheet",
    "drawing": "the code that draws it",
    "messages": "what the command prints",
    "values": "its measured values",
}
"""The parts of a fingerprint, and each in words."""


def fingerprint(figure: Figure, module: ModuleType, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fingerprint of a figure: a hash for each part of ``PARTS``, and the values themselves, rounded.

    Args:
        figure: the figure.
        module: the module that draws it; with the modules of this package that it imports, docstrings and comments excepted.
        names: words to mask, such as the names of classes.
    """
    return {
        "content": _hash("\n".join(pieces(figure.body, names))),
        "style": _hash(figure.style + STYLE),
        "drawing": _hash(
            "\n".join(code_of(path.read_text("utf-8")) for path in drawing_modules(Path(str(module.__file__))))
        ),
        "messages": _hash("\n".join(dict.fromkeys(masked(figure.messages, names).splitlines()))),
        "values": {name: round(value, 3) for name, value in figure.values.items()},
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The parts in which two fingerprints differ, in words."""
    found = [words for part, words in PARTS.items() if part != "values" and old.get(part) != new[part]]
    before, after = old.get("values", {}), new["values"]
    if before.keys() != after.keys() or any(abs(before[name] - after[name]) > TOLERANCE for name in after):
        found.append(PARTS["values"])
    return found


def pieces(body: str, names: tuple[str, ...] = ()) -> list[str]:
    """The different masked elements and texts of a page, in the order in which they first appear.

    >>> pieces('<p>91.6 % of 2,000</p><p>90.1 % of 500</p><b style="left:3.5%">Coat</b>', names=("Coat",))
    ['<p>', '# % of #', '</p>', '<b style="left:#%">', '(name)', '</b>']
    """
    return list(dict.fromkeys(each for each in map(str.strip, _PIECES.findall(masked(body, names))) if each))


def masked(text: str, names: tuple[str, ...] = ()) -> str:
    """Text in which numbers, units of time, images, coordinates and the given names are masked."""
    text = _IMAGE.sub("(image)", text)
    text = _PATH.sub(r"\1#", text)
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(name)}\b", "(name)", text)
    return _TIME_UNIT.sub("(unit)", _DIGITS.sub("#", text))


def code_of(source: str) -> str:
    """The syntax tree of a module as text, without docstrings.

    >>> code_of('"A doc."\\nx = 1  # one') == code_of("x = 1")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
    return ast.dump(tree)


def drawing_modules(path: Path) -> list[Path]:
    """A module of this package and the modules of it that it imports, each once."""
    found: list[Path] = []
    left = [path]
    while left:
        here = left.pop()
        if here in found or not here.is_file():
            continue
        found.append(here)
        for node in ast.walk(ast.parse(here.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "figures":
                names = [*node.module.split(".")[1:2], *(alias.name for alias in node.names)]
                left += [here.parent / f"{name}.py" for name in names]
    return sorted(found)


def read_manifest() -> dict[str, dict[str, Any]]:
    """The fingerprints that were written beside the files; empty if there are none."""
    if not MANIFEST.is_file():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text("utf-8"))
    return found


def write_manifest(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the fingerprints beside the files, sorted by name."""
    MANIFEST.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", "utf-8")


def hash_of_file(path: Path) -> str:
    """The hash of a file, by which its entry in the manifest names it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
