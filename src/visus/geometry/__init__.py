"""Windows on one axis and the receptive fields that they make.

This room knows whole numbers. It must not know layers, networks or torch.
"""

from visus.geometry.enlarging import Lens, TransposedWindow, Upsampling
from visus.geometry.field import Field, Joined, beside, join
from visus.geometry.letters import LETTERS, Solution, Solutions, solution_of, solve
from visus.geometry.marks import marks_read
from visus.geometry.reads import Reads, chain, unite
from visus.geometry.window import Window, same_padding

__all__ = [
    "LETTERS",
    "Field",
    "Joined",
    "Lens",
    "Reads",
    "Solution",
    "Solutions",
    "TransposedWindow",
    "Upsampling",
    "Window",
    "beside",
    "chain",
    "join",
    "marks_read",
    "same_padding",
    "solution_of",
    "solve",
    "unite",
]
