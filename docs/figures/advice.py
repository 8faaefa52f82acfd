"""The advice of ``visus summary`` on a usual small network: what it costs, what it never sees, and the arithmetic behind each sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from figures.figure import Figure
from figures.terminal import arguments_of, run_in_terminal, screen_lines, terminal

COMMAND: Final = """\
visus summary "conv(32, 3), relu, maxpool(2), conv(64, 3), relu, maxpool(2),
               conv(64, 3), relu, flatten, linear(64), relu, linear(classes)" \\
              --input 3,96,96 --classes 10 --object-size 64"""
"""Three convolutions, a flatten and two linear layers, as in many first tutorials."""


def draw() -> Figure:
    """The command and what it prints."""
    written = run_in_terminal([sys.executable, "-m", "visus", *arguments_of(COMMAND)], folder=Path.cwd())
    return Figure(terminal(COMMAND, screen_lines(written)), width=1000)
