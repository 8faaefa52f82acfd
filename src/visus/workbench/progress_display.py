"""Whether visus shows progress of itself, and one line on stderr for what takes longer than two seconds."""

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
"""Whether visus shows progress of itself; commands, which show their own, set it to False."""


@contextlib.contextmanager
def working(what: str, progress: bool | None = None) -> Iterator[None]:
    """A block that is named on stderr when it takes longer than ``PATIENCE_S``, and its time at its end.

    Args:
        what: what is done, as ``scoring``.
        progress: True or False to show it or not; None to show it unless ``speaks`` says no, or a block around this one is named already.
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
    """A line of a notebook that can be changed; None elsewhere."""
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
