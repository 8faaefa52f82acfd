"""Every figure by its name: the module that draws it. A new figure is a module with a function ``draw``, and a line here."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from figures import advice, look, receptive_field, report, shifts, train
from figures.figure import Figure
from figures.fingerprints import FOLDER, fingerprint, hash_of_file, read_manifest, write_manifest
from figures.runs import class_names

FIGURES: Final[dict[str, ModuleType]] = {
    "report": report,
    "look": look,
    "receptive-field": receptive_field,
    "advice": advice,
    "shifts": shifts,
    "train": train,
}


def present_fingerprint(name: str) -> dict[str, Any]:
    """The fingerprint of a figure as it would be drawn now.

    A module whose figure takes long has a function ``draft``, which draws the same words from less.
    """
    module = FIGURES[name]
    drawn: Figure = getattr(module, "draft", module.draw)()
    return fingerprint(drawn, module, class_names())


def make(name: str) -> int:
    """Draw a figure and write its file and its entry in the manifest; returns the number of bytes.

    Raises:
        BrowserError: there is no Chromium, or it failed.
    """
    from figures.browser import render

    content = render(FIGURES[name].draw())
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    path.write_bytes(content)
    entry = {**present_fingerprint(name), "file": hash_of_file(path)}
    write_manifest({**{known: old for known, old in read_manifest().items() if known in FIGURES}, name: entry})
    return len(content)
