"""Notebooks as pages: each cell as Markdown, each output as text, HTML or an image. Nothing is executed here.

A notebook is stale if its code is newer than its outputs: ``scripts/notebooks`` stores the hash of the code that it executed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

KEY = "visus"
"""Name of the notebook's metadata that ``scripts/notebooks`` writes."""

_MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|Users|root|work|tmp|var|private|mnt|opt)/[\w.-]+|\b[A-Z]:\\\w")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Rendered(NamedTuple):
    """A notebook as a page.

    Args:
        markdown: text of the page.
        images: content of each image by its file name, beside the page.
    """

    markdown: str
    images: dict[str, bytes]


def read_notebook(file: Path) -> dict[str, Any]:
    """Read a notebook."""
    notebook: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return notebook


def code_hash(notebook: dict[str, Any]) -> str:
    """SHA-256 of the code cells."""
    code = [_text(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def problems(notebook: dict[str, Any]) -> list[str]:
    """Why the outputs of a notebook cannot be published: stale, with an error, or with a path of one machine."""
    found = []
    if notebook["metadata"].get(KEY, {}).get("code_sha256") != code_hash(notebook):
        found.append("its code is newer than its outputs. Run scripts/notebooks.")
    for number, cell in enumerate(notebook["cells"], 1):
        outputs = cell.get("outputs", [])
        errors = [output for output in outputs if output["output_type"] == "error"]
        found += [f"cell {number} ends with {error['ename']}: {error['evalue']}" for error in errors]
        texts = [_text(cell["source"]), *(text for output in outputs for text in _texts_of(output))]
        if match := _MACHINE_PATH.search("\n".join(texts)):
            found.append(f"cell {number} contains a path of one machine: {match[0]}")
    return found


def _texts_of(output: dict[str, Any]) -> Iterator[str]:
    """The texts of an output, without its images."""
    yield _text(output.get("text", ""))
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield (
                content if isinstance(content, str) else json.dumps(content) if isinstance(content, dict) else _text(content)
            )


def render(notebook: dict[str, Any], name: str) -> Rendered:
    """A notebook as Markdown.

    Args:
        notebook: the notebook.
        name: its file name without suffix; the images are named after it.
    """
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = _text(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(_fence(source, "python"))
            parts += _outputs(cell["outputs"], name, images)
    return Rendered("\n\n".join(parts) + "\n", images)


def _outputs(outputs: list[dict[str, Any]], name: str, images: dict[str, bytes]) -> Iterator[str]:
    """The outputs of a cell; images are added to ``images``. Texts that follow each other become one block."""
    text = ""
    for output in outputs:
        data = output.get("data", {})
        plain = output["text"] if output["output_type"] == "stream" else data.get("text/plain", "")
        rich = next((kind for kind in ("text/html", "image/svg+xml", "image/png", "text/markdown") if kind in data), None)
        if rich is None:
            text += terminal_text(_text(plain)).rstrip("\n") + "\n"
            continue
        if text.strip():
            yield _fence(text.strip("\n"), "text", "visus-output")
        text = ""
        if rich == "image/png":
            file = f"{name}-{len(images) + 1}.png"
            images[file] = base64.b64decode(_text(data[rich]))
            yield f"![{_alternative(_text(plain))}]({file})"
        elif rich == "text/markdown":
            yield _text(data[rich])
        else:
            yield f'<div class="visus-output-html">\n{_without_blank_lines(_text(data[rich]))}\n</div>'
    if text.strip():
        yield _fence(text.strip("\n"), "text", "visus-output")


def terminal_text(text: str) -> str:
    r"""Text as a terminal shows it in the end: no colors, and of a line that was overwritten only its last state.

    >>> terminal_text("\x1b[1m10 %\x1b[0m\r100 %\ndone\n")
    '100 %\ndone\n'
    """
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _alternative(plain: str) -> str:
    """The alternative text of an image, from its output as text."""
    return "output of the cell above" if plain.startswith("<") or not plain else html.escape(" ".join(plain.split()))


def _without_blank_lines(text: str) -> str:
    """HTML without blank lines, so that Markdown takes it as one block."""
    return "\n".join(line for line in text.splitlines() if line.strip())


def _fence(text: str, language: str, css_class: str = "") -> str:
    """A code block; its fence is longer than any in the text."""
    mark = "`" * max(3, 1 + max((len(each) for each in re.findall(r"`+", text)), default=0))
    return f"{mark}{{ .{language} .{css_class} }}\n{text}\n{mark}" if css_class else f"{mark}{language}\n{text}\n{mark}"


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
