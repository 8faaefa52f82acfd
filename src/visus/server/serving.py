"""``visus.serve``: opens the network, listens, and serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import gc
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visus.errors import MissingExtraError, UsageError, VisusError
from visus.limits import usable_cores
from visus.server.settings import ServerSettings, read_token

if TYPE_CHECKING:
    from visus.server.models import ModelSource

PACKAGES: Final = ("starlette", "uvicorn", "python_multipart", "prometheus_client")
_BACKLOG: Final = 2048
_KEEP_ALIVE_S: Final = 10
_MAX_HEADER_BYTES: Final = 16 * 2**10
_MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"

logger = logging.getLogger("visus.server")


def serve(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: str = "",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "auto",
    max_batch: int = 32,
    max_wait_ms: float = 2.0,
    queue: int = 256,
    max_bytes: int = 64 * 2**20,
    max_pixels: int = 50_000_000,
    max_files: int = 64,
    max_connections: int = 1000,
    read_timeout_s: float = 30.0,
    answer_timeout_s: float = 60.0,
    workers: int = 1,
    token_file: str | Path | None = None,
    allow_hosts: Sequence[str] = (),
    on_listening: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the predictions of a bundle or a run over HTTP, until SIGTERM or Ctrl-C; what was accepted is still answered.

    A bundle is served without PyTorch. If it changes on disk, the new one is checked and takes over without a lost request.

    Args:
        path: a bundle (folder or zip file) or a run folder.
        host: address to listen on. Every address but this machine's own needs a token.
        port: port; 0 for any free one.
        engine, precision, threads: as for ``visus.open_bundle``; threads are those of one process.
        device: of a run: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        max_batch: samples that are computed together at most.
        max_wait_ms: time that a sample waits for others while the engine is free, in milliseconds.
        queue: samples that are accepted and not yet computed, at most; more are answered with 429.
        max_bytes, max_pixels, max_files: bytes of a request, pixels of an image, and samples of a request, at most.
        max_connections: connections of one process that are open at a time, at most.
        read_timeout_s: time in which a request must have arrived, in seconds.
        answer_timeout_s: time in which it is answered, in seconds.
        workers: number of processes.
        token_file: file with the token that clients send as ``Authorization: Bearer TOKEN``; default: the variable VISUS_TOKEN, if it is set.
        allow_hosts: names by which clients may call the server, beside addresses and localhost.
        on_listening: called with the address, once the server listens.

    Raises:
        MissingExtraError: a package of the extra ``serve`` is not installed.
        UsageError: a setting cannot be used, or the port is taken.
        BundleError: the bundle is damaged.
        RunError: the run cannot be opened.

    >>> visus.serve(bundle.path, port=-1)
    Traceback (most recent call last):
    ...
    visus.errors.UsageError: port is -1, and must be between 0 and 65535.
    """
    settings = ServerSettings(
        host=host,
        port=port,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        queue=queue,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_files=max_files,
        max_connections=max_connections,
        read_timeout_s=read_timeout_s,
        answer_timeout_s=answer_timeout_s,
        workers=workers,
        token=read_token(token_file),
        allow_hosts=tuple(allow_hosts),
    )
    settings.check()
    refuse_missing_packages()
    from visus.server.models import ModelSource

    source = ModelSource(Path(path).expanduser(), engine, precision, threads, device)
    if workers > 1:
        source = dataclasses.replace(source, threads=threads or max(1, usable_cores() // workers))
    _log_to_stderr()
    with contextlib.ExitStack() as open_things:
        listener = open_things.enter_context(contextlib.closing(listen(host, port)))
        if workers == 1:
            _serve(listener, settings, source, on_listening)
            return
        from visus.server.processes import run_workers

        os.environ[_MULTIPROCESS] = open_things.enter_context(tempfile.TemporaryDirectory(prefix="visus-metrics-"))
        open_things.callback(os.environ.pop, _MULTIPROCESS)
        from visus.server.metrics import forget_process

        run_workers(workers, _work, (settings, source), listener, forget_process, lambda: on_listening(address_of(listener)))


def refuse_missing_packages() -> None:
    """Raise an error for a package that is not installed.

    Raises:
        MissingExtraError: it names the package, and installs all of them.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError.of(package.replace("_", "-"), "serve", "predictions over HTTP")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address or the port cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(
            f"the address {host} cannot be used ({error.strerror or error}). Give an address of this machine."
        ) from None
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        is_host = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        remedy = "Give an address of this machine with --host." if is_host else "Give another one with --port."
        raise UsageError(f"port {port} of {host} cannot be used ({error.strerror or error}). {remedy}") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket, such as ``http://127.0.0.1:8000``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _work(listener: socket.socket, on_ready: Callable[[], None], settings: ServerSettings, source: ModelSource) -> None:
    """What a worker process does."""
    from visus.server.processes import STARTUP_FAILED

    _log_to_stderr()
    try:
        _serve(listener, settings, source, lambda address: on_ready())
    except VisusError as error:
        logger.error("%s", error)
        sys.exit(STARTUP_FAILED)


def _serve(
    listener: socket.socket,
    settings: ServerSettings,
    source: ModelSource,
    on_listening: Callable[[str], None] = lambda address: None,
) -> None:
    import uvicorn

    from visus.server.app import Service, make_app
    from visus.server.connections import limited_connection

    service = Service(source.open(), settings, source)
    on_listening(address_of(listener))

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            """End in order, with the exit code 0; a second Ctrl-C ends at once."""
            service.is_draining = True
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    config = uvicorn.Config(
        make_app(service),
        http=limited_connection(settings.read_timeout_s, settings.max_connections, service.note_refused),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_graceful_shutdown=int(settings.read_timeout_s + settings.answer_timeout_s) + 5,
    )
    gc.collect()
    gc.freeze()  # looking through what stays until the end holds every request up for a while
    try:
        Server(config).run(sockets=[listener])
    finally:
        gc.unfreeze()


@functools.cache
def _log_to_stderr() -> None:
    """Warnings of the server go to stderr with their time, unless the program has its own logging."""
    if not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_OneEntry("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a damaged form is its client's fault
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
        for name in ("visus.server", "uvicorn"):
            each = logging.getLogger(name)
            each.addHandler(handler)
            each.propagate = False


class _OneEntry(logging.Formatter):
    """Indents further lines, so that no text of a client looks like an entry of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")
