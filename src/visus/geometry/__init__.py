"""Windows on one axis and the receptive fields that they make.

This room knows whole numbers.
"""

from visus.geometry.bitsets import marks_read
from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.field import Field, Joined, beside, join
from visus.geometry.reads import Reads, chain, unite
from visus.geometry.size_equation import LETTERS, Solution, Solutions, solution_of, solve
from visus.geometry.window import Window, same_padding

__all__ = [
    "LETTERS",
    "AxisOp",
    "Field",
    "Joined",
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
