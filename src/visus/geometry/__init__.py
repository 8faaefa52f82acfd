"""Windows on one axis and their receptive fields, in whole numbers."""

from visus.geometry.bitsets import bits_read
from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.exact_intervals import ExactIntervals, concatenate, union
from visus.geometry.field import Field, Joined, concat_features, join_fields
from visus.geometry.size_equation import LETTERS, Solution, Solutions, solution_of, solve
from visus.geometry.window import Window, same_padding

__all__ = [
    "LETTERS",
    "AxisOp",
    "ExactIntervals",
    "Field",
    "Joined",
    "Solution",
    "Solutions",
    "TransposedWindow",
    "Upsampling",
    "Window",
    "bits_read",
    "concat_features",
    "concatenate",
    "join_fields",
    "same_padding",
    "solution_of",
    "solve",
    "union",
]
