"""What the shell offers after the Tab key: run folders, and the words that an option takes. Files are the shell's own matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_PARENT = "runs"  # where visus train writes by default
_MARK = "recipe.yaml"  # every run has it

DEVICES = ("auto", "cpu", "cuda", "mps")
SPLITS = ("train", "val", "test")
RESIZE_MODES = ("squash", "crop", "pad")
NORMALIZE = ("mean-deviation", "min-max")
SALIENCY = ("grad-cam", "gradient", "integrated-gradients", "occlusion", "all")


def run_folders(incomplete: str) -> list[str]:
    """The run folders whose path, or whose name in ``runs``, begins with these letters."""
    folder, slash, start = incomplete.rpartition("/")
    places = [(Path(folder or "/"), f"{folder}/")] if slash else [(Path(), ""), (Path(_PARENT), f"{_PARENT}/")]
    found = []
    for place, prefix in places:
        try:
            names = sorted(each.name for each in place.iterdir() if (each / _MARK).is_file())
        except OSError:
            continue
        is_named = bool(prefix) and not slash and prefix.startswith(incomplete)
        found += [f"{prefix}{name}" for name in names if name.startswith(start) or is_named]
    return found


def words(*known: str) -> Callable[[str], list[str]]:
    """A completion by fixed words.

    >>> words("cosine", "linear")("c")
    ['cosine']
    """

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete
