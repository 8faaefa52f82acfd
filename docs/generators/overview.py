"""``reference/index.md``: what the reference holds."""

from __future__ import annotations

from . import GENERATORS

_LINES = (
    ("commands", "[Commands](commands.md): every command with its arguments, options and exit codes"),
    ("python_names", "[Python](python/index.md): every public name, with its methods and what it returns"),
    ("settings", "[Settings](settings.md): every setting of a training, with its range and what decides its default"),
    ("layers", "[Layers](layers.md): every layer of a design, with its formula"),
    ("families", "[Families](families.md): every family of designs"),
    ("", "[Data](data.md): what visus reads, and what counts as a sample"),
    ("run_files", "[Files of a run](run-files.md): what a training leaves on disk"),
    ("errors", "[Errors](errors.md): every error, with what to do"),
)


def pages() -> dict[str, str]:
    """The first page of the reference."""
    lines = "\n".join(f"- {line}" for generator, line in _LINES if generator in {"", *GENERATORS})
    text = f"""# Reference

These pages, but for that on data, are generated from the code when the site is built, so they describe exactly this version.

{lines}
"""
    return {"reference/index.md": text}
