"""Connections with a deadline for the headers of a request, so that clients who send them byte by byte hold nothing up."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline: a connection whose request has not begun in time is closed."""

    read_timeout_s: ClassVar[float] = 30.0
    """Seconds from the first byte, or from the beginning of the connection, to the end of the headers."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline."""
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Read; a request whose headers are complete has no deadline here."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._set_deadline()
        else:
            self._drop_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._drop_deadline()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.read_timeout_s, self._close_late)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def timed_connection(read_timeout_s: float) -> type[TimedConnection]:
    """The class of connections with another deadline."""
    return type("TimedConnection", (TimedConnection,), {"read_timeout_s": read_timeout_s})
