"""What is said when a person stops a command with Ctrl-C: what is safe, and how to go on.

This file knows the interrupt and its exit code.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import typer
from typer.core import TyperGroup

CODE: Final = 130  # of a process that SIGINT ended
SENTENCE: Final = "stopped. What was finished is kept; run the command again."


@contextlib.contextmanager
def told_when_stopped(sentence: Callable[[], str]) -> Iterator[None]:
    """A context in which Ctrl-C ends the command with one line and its exit code.

    Args:
        sentence: asked when it happens; an empty answer says nothing.
    """
    try:
        yield
    except KeyboardInterrupt:
        if said := sentence():
            sys.stderr.write(f"{said}\n")
        raise typer.Exit(CODE) from None


class Commands(TyperGroup):
    """Commands of which none ends without a word: those that say nothing of their own say ``SENTENCE``."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out a command."""
        with told_when_stopped(lambda: SENTENCE):
            return super().invoke(ctx)
