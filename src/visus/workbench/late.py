"""Modules of this room that are loaded when they are asked for, by modules that they import themselves: a run's methods are made of what knows runs.

This file knows names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def late(name: str) -> Any:
    """A module of this room.

    >>> late("late").late is late
    True
    """
    return import_module(f"visus.workbench.{name}")
