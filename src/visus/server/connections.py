"""Connections with a deadline for the headers of a request and a limit on their number, so that slow clients and many clients hold nothing up."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from visus.server.guard import new_request_id
from visus.server.problems import Problem, unavailable

_OTHER_FILES: Final = 64
"""Files that a process may need open beside its connections."""


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 with limits.

    A connection whose request has not begun in time is closed. One too many takes the place of the one that has waited longest for its client,
    for headers rather than for a body; if the server has the whole request of each, the new one is answered with 503.
    """

    read_timeout_s: ClassVar[float] = 30.0
    """Seconds from the first byte, or from the beginning of the connection, to the end of the headers."""
    max_connections: ClassVar[int] = 1000
    """Connections that are open at a time, at most."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._deadline: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()

    def connection_made(self, transport: Any) -> None:
        """Start the deadline, and make room."""
        super().connection_made(transport)
        self._set_deadline()
        if len(self.connections) > self.max_connections:
            self._make_room()

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

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._idle_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem, as every other bad request."""
        self._refuse(Problem(400, "This is no valid HTTP/1.1 request."))

    @property
    def is_waiting(self) -> bool:
        """Whether its client has yet to send something: headers, or the rest of a body."""
        states = self.conn.their_state, self.conn.our_state
        return states in ((h11.IDLE, h11.IDLE), (h11.SEND_BODY, h11.SEND_RESPONSE)) and not self.transport.is_closing()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, LimitedConnection) and each is not self]
        if waiting := [each for each in others if each.is_waiting]:
            oldest = min(waiting, key=lambda each: (each.conn.their_state is not h11.IDLE, each._idle_since))
            self.connections.discard(oldest)
            oldest.transport.close()
        else:
            self._refuse(unavailable("The server has too many connections. Send this request again later."))

    def _refuse(self, problem: Problem) -> None:
        """Send a problem, and close."""
        response = problem.response(new_request_id())
        headers = [*response.raw_headers, (b"connection", b"close")]
        head = h11.Response(status_code=problem.status, headers=headers, reason=problem.facts()["title"].encode())
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

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


def limited_connection(read_timeout_s: float, max_connections: int) -> type[LimitedConnection]:
    """The class of connections with other limits; no more connections than the system lets the process have."""
    limits = {"read_timeout_s": read_timeout_s, "max_connections": min(max_connections, _openable())}
    return type("LimitedConnection", (LimitedConnection,), limits)


def _openable() -> int:
    """Connections that the process can open beside its other files."""
    if os.name != "posix":
        return 512
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - _OTHER_FILES) if soft != resource.RLIM_INFINITY else 2**20
