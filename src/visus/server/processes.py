"""Several worker processes behind one socket: one that ends is started anew, and SIGTERM ends all of them in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from visus.errors import VisusError

STARTUP_FAILED: Final = 3
"""Exit code of a worker that cannot serve. It is not started anew."""
_MIN_LIFE_S: Final = 1.0

logger = logging.getLogger("visus.server")


def run_workers(
    count: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    listener: socket.socket,
    on_ended: Callable[[int], None],
) -> None:
    """Run workers until SIGTERM or SIGINT, and return after all have ended.

    Args:
        count: number of processes.
        work: the function that a worker runs; it must be importable by its name.
        arguments: of the function, after the socket.
        listener: the socket on which all listen.
        on_ended: called with the number of each process that has ended.

    Raises:
        VisusError: a worker could not start.
    """
    stop = threading.Event()
    reader, writer = multiprocessing.Pipe(duplex=False)

    def end(number: int, frame: Any) -> None:
        stop.set()
        writer.send_bytes(b".")

    earlier = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    context = multiprocessing.get_context("spawn")
    workers: list[SpawnProcess] = []
    failed = False

    def start() -> None:
        process = context.Process(target=_work, args=(work, listener, *arguments))
        process.start()
        workers.append(process)

    try:
        for _ in range(count):
            start()
        while not stop.is_set() and not failed:
            connection.wait([reader, *(each.sentinel for each in workers)])
            for each in [each for each in workers if not each.is_alive()]:
                workers.remove(each)
                on_ended(each.pid or 0)
                failed = failed or each.exitcode == STARTUP_FAILED
                if not stop.is_set() and not failed:
                    logger.error("worker %s ended with code %s; another one starts", each.pid, each.exitcode)
                    time.sleep(_MIN_LIFE_S)
                    start()
    finally:
        listener.close()  # so that new connections go to another server at once
        for each in workers:
            each.terminate()  # SIGTERM: it finishes what it has accepted
        for each in workers:
            each.join()
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if failed:
        raise VisusError("a worker of the server could not start. The lines above say why.")


def _work(work: Callable[..., None], listener: socket.socket, *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, name="visus-parent", daemon=True).start()
    work(listener, *arguments)


def _end_with_parent() -> None:
    """End this worker in order if the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
