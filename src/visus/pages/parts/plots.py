"""PNG files by matplotlib: a new figure, and how it is saved.

matplotlib is loaded with the first figure, and only its figure objects are used, so nothing of the program's own plots or settings
changes.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from visus.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#1d2025"
FAINT: Final = "#d9d6cf"
TRAIN: Final = "#ab4f17"
VALIDATION: Final = "#1f5fa8"


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this size in inches, whose parts are placed so that none is cut off."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), facecolor="white", layout=layout)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG; the output is deterministic.

    Raises:
        StorageError: the file cannot be written.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; confusion.csv and the report hold it as it is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_file(path, content.getvalue())
