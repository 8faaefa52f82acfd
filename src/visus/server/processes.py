"""Several worker processes behind one socket: one that ends is started anew, and SIGTERM ends all of them in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from visus.errors import VisusError

STARTUP_FAILED: Final = 3
"""Exit code of a worker that cannot serve."""
_MIN_LIFE_S: Final = 1.0
_RETRY_S: Final = 5.0
"""Seconds after which a worker is tried again that could not open the network, while others serve."""

logger = logging.getLogger("visus.server")


def run_workers(
    count: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    listener: socket.socket,
    on_ended: Callable[[int], None],
    on_ready: Callable[[], None],
) -> None:
    """Run workers until SIGTERM or SIGINT, and return after all have ended.

    Args:
        count: number of processes.
        work: the function that a worker runs; it must be importable by its name. It is called with the socket, a function to call once it serves,
            and the arguments.
        arguments: further ones.
        listener: the socket on which all listen.
        on_ended: called with the number of each process that has ended.
        on_ready: called once, when the first worker serves.

    Raises:
        VisusError: a worker could not start, and none had served before.
    """
    stop = threading.Event()
    reader, writer = multiprocessing.Pipe(duplex=False)

    def end(number: int, frame: Any) -> None:
        stop.set()
        writer.send_bytes(b".")

    earlier = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    context = multiprocessing.get_context("spawn")
    from_workers, to_parent = context.Pipe(duplex=False)
    workers: list[SpawnProcess] = []
    failed = is_ready = False

    def start() -> None:
        process = context.Process(target=_work, args=(work, listener, to_parent, *arguments))
        process.start()
        workers.append(process)

    try:
        for _ in range(count):
            start()
        while not stop.is_set() and not failed:
            connection.wait([reader, from_workers, *(each.sentinel for each in workers)])
            while from_workers.poll():
                from_workers.recv_bytes()
                if not is_ready:
                    is_ready = True
                    on_ready()
            for each in [each for each in workers if not each.is_alive()]:
                workers.remove(each)
                on_ended(each.pid or 0)
                is_unable = each.exitcode == STARTUP_FAILED
                failed = failed or (is_unable and not is_ready)
                if not stop.is_set() and not failed:
                    logger.error("worker %s ended with code %s; another one starts", each.pid, each.exitcode)
                    stop.wait(_RETRY_S if is_unable else _MIN_LIFE_S)
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


def _work(work: Callable[..., None], listener: socket.socket, to_parent: Connection, *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, name="visus-parent", daemon=True).start()
    work(listener, lambda: to_parent.send_bytes(b"."), *arguments)


def _end_with_parent() -> None:
    """End this worker in order if the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
