"""The line that Ctrl-C prints: what is safe, and how to resume."""

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
def print_when_stopped(sentence: Callable[[], str], code: Callable[[], int] = lambda: CODE) -> Iterator[None]:
    """A context in which Ctrl-C ends the command with one line and its exit code.

    Args:
        sentence: returns the line; an empty line is not printed.
        code: returns the exit code.
    """
    try:
        yield
    except KeyboardInterrupt:
        if line := sentence():
            sys.stderr.write(f"{line}\n")
        raise typer.Exit(code()) from None


class Commands(TyperGroup):
    """Commands that print ``SENTENCE`` on Ctrl-C by default."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with print_when_stopped(lambda: SENTENCE):
            return super().invoke(ctx)
