"""Connections with limits, so that clients who send or read slowly, or are many, hold nothing up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from visus.server.guard import COMMON_HEADERS, new_request_id
from visus.server.problems import Problem, unavailable

_OTHER_FILES: Final = 64
"""Files that a process may need open beside its connections."""
_LINGER_S: Final = 0.5
"""Seconds in which a client can read a last answer, or send a last request, before its connection is closed."""


class _Deadline:
    """Calls a function once, some seconds after it was set, unless it was dropped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_late: Callable[[], None]) -> None:
        self._loop, self._seconds, self._on_late = loop, seconds, on_late
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self) -> None:
        """Start it; one that was set before stays."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._ring)

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._on_late()


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 with limits.

    A connection is closed if its request has not begun in time, or its answer was not read in time. One too many takes the place of the one that has
    waited longest for its client; if none waits, it is answered with 503.
    """

    read_timeout_s: ClassVar[float] = 30.0
    """Seconds from the first byte, or from the beginning of the connection, to the end of the headers; and seconds for reading an answer."""
    max_connections: ClassVar[int] = 1000
    """Connections that are open at a time, at most."""
    on_refused: ClassVar[Callable[[int], None]]
    """Called with the status of an answer that no application gave."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._headers_deadline = _Deadline(self.loop, self.read_timeout_s, self._close_late)
        self._reading_deadline = _Deadline(self.loop, self.read_timeout_s, self._abort_unread)
        self._idle_since = self.loop.time()
        self._is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Start the deadline, and make room."""
        super().connection_made(transport)
        self._headers_deadline.set()
        if len(self.connections) > self.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Read; a request whose headers are complete has no deadline here."""
        if self._is_refused:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._headers_deadline.set()
        else:
            self._headers_deadline.drop()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._reading_deadline.set()

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._reading_deadline.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._headers_deadline.drop()
        self._reading_deadline.drop()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.transport.get_write_buffer_size():
            self._reading_deadline.set()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem, as every other bad request."""
        self._refuse(Problem(400, "This is no valid HTTP/1.1 request."))

    def shutdown(self) -> None:
        """Close after the answer; an idle connection a moment later, since its client may be sending a request, which is answered with 503."""
        if self._is_idle:
            self.loop.call_later(_LINGER_S, self._close_idle)
        else:
            super().shutdown()

    @property
    def is_waiting(self) -> bool:
        """Whether its client has yet to send something (headers, or the rest of a body) or to read its answer."""
        is_sending = self._is_idle or self.conn.their_state is h11.SEND_BODY
        return (is_sending or self._reading_deadline.is_set) and not self._is_refused

    @property
    def _is_idle(self) -> bool:
        return self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE and not self.transport.is_closing()

    def _close_idle(self) -> None:
        if self._is_idle:
            super().shutdown()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, LimitedConnection) and each is not self]
        if waiting := [each for each in others if each.is_waiting]:
            oldest = min(waiting, key=lambda each: (not each._is_idle, each._idle_since))
            self.connections.discard(oldest)
            if oldest._is_idle:
                oldest.transport.close()
            else:
                oldest.transport.abort()  # to close would wait for the client
        elif len(self.connections) > self.max_connections + _OTHER_FILES // 2:
            self.transport.abort()
        else:
            self._refuse(unavailable("The server has too many connections. Send this request again later."))

    def _refuse(self, problem: Problem) -> None:
        """Send a problem if nothing else was begun, and close after the client could read it."""
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what is under way gives up, and sends nothing more
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            request_id = new_request_id()
            response = problem.response(request_id)
            response.headers.update({"Connection": "close", "X-Request-ID": request_id, **COMMON_HEADERS})
            reason = problem.facts()["title"].encode()
            head = h11.Response(status_code=problem.status, headers=response.raw_headers, reason=reason)
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            type(self).on_refused(problem.status)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.loop.call_later(_LINGER_S, self.transport.abort)
        else:
            self.transport.close()

    def _close_late(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def _abort_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def limited_connection(
    read_timeout_s: float, max_connections: int, on_refused: Callable[[int], None] = lambda status: None
) -> type[LimitedConnection]:
    """The class of connections with other limits; no more connections than the system lets the process have."""
    limits = {
        "read_timeout_s": read_timeout_s,
        "max_connections": min(max_connections, _openable()),
        "on_refused": staticmethod(on_refused),
    }
    return type("LimitedConnection", (LimitedConnection,), limits)


def _openable() -> int:
    """Connections that the process can open beside its other files."""
    if os.name != "posix":
        return 512
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - _OTHER_FILES) if soft != resource.RLIM_INFINITY else 2**20
