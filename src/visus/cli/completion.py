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
TASKS = ("single-label", "multi-label", "regression")
SALIENCY = ("grad-cam", "gradient", "integrated-gradients", "occlusion", "all")


def run_folders(incomplete: str) -> list[str]:
    """The run folders that begin with these letters; of those in ``runs``, if the letters name no folder."""
    folder, slash, _ = incomplete.rpartition("/")
    places = [f"{folder}/"] if slash else ["", f"{_PARENT}/"]
    found = []
    for place in places:
        try:
            found += sorted(f"{place}{each.name}" for each in Path(place).iterdir() if (each / _MARK).is_file())
        except OSError:
            continue
    return [name for name in found if name.startswith(incomplete)]


def words(*known: str) -> Callable[[str], list[str]]:
    """A completion by fixed words.

    >>> words("cosine", "linear")("c")
    ['cosine']
    """

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete
