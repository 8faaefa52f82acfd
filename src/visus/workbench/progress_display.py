"""Whether visus shows progress by default, and a line on stderr for work that takes longer than two seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from visus.units import write_duration

PATIENCE_S = 2.0  # what takes longer is named

speaks: ContextVar[bool] = ContextVar("speaks", default=True)
"""Whether visus shows progress by default; commands set it to False, since they show their own."""


@contextlib.contextmanager
def working(what: str, progress: bool | None = None) -> Iterator[None]:
    """A context whose work is named on stderr if it takes longer than ``PATIENCE_S``, and its duration at the end.

    Args:
        what: name of the work, such as ``scoring``.
        progress: True or False to show it or not; None to show it unless ``speaks`` is False or an outer block is shown
            already.
    """
    if not (speaks.get() if progress is None else progress):
        yield
        return
    began = time.monotonic()
    cell = notebook_line()

    def name() -> None:
        cell(f"{what} ...") if cell else print(f"{what} ...", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE_S, name)
    timer.daemon = True
    timer.start()
    token = speaks.set(False)
    try:
        yield
    finally:
        speaks.reset(token)
        timer.cancel()
        seconds = time.monotonic() - began
        if seconds > PATIENCE_S:
            done = f"{what}: {write_duration(seconds)}"
            cell(done) if cell else print(done, file=sys.stderr, flush=True)


def notebook_line() -> Callable[[str], None] | None:
    """An updatable line in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    displaying = sys.modules.get("IPython.display")
    if shell is None or displaying is None or not hasattr(shell, "kernel"):
        return None
    handles: list[Any] = []

    def show(text: str) -> None:
        content = {"text/plain": text}
        if handles:
            handles[0].update(content, raw=True)
        else:
            handles.append(displaying.display(content, raw=True, display_id=True))

    return show
