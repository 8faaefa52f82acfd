"""The reference pages of the documentation, generated from the code when the site is built.

Each generator is a module with ``pages()``, which returns text by path under ``docs/``: a page such as ``reference/errors.md``, or an asset such as
``reference/layers/conv.svg``. No generated page is committed.
"""

from __future__ import annotations

from importlib import import_module

GENERATORS = ("overview", "commands", "python_names", "settings", "layers", "families", "run_files", "errors")
"""The generator modules, in any order. Each path may come from one of them only."""


def generate() -> dict[str, str]:
    """Every generated page and asset, by its path under ``docs/``.

    Raises:
        ValueError: two generators return the same path.
    """
    found: dict[str, str] = {}
    for name in GENERATORS:
        pages = import_module(f"{__name__}.{name}").pages()
        if twice := sorted(found.keys() & pages.keys()):
            raise ValueError(f"the generator {name} returns {twice[0]}, which another one returns too.")
        found |= pages
    return found
