"""Windows on one axis and the receptive fields that they make.

This room knows whole numbers. It must not know layers, networks or torch.
"""

from visus.geometry.enlarging import TransposedWindow, Upsampling
from visus.geometry.field import Field, Joined, join
from visus.geometry.reads import Lens, Reads, unite
from visus.geometry.window import Solution, Window, same_padding, solve

__all__ = [
    "Field",
    "Joined",
    "Lens",
    "Reads",
    "Solution",
    "TransposedWindow",
    "Upsampling",
    "Window",
    "join",
    "same_padding",
    "solve",
    "unite",
]
