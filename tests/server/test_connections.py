"""The limit on open connections: which one gives way, and what is answered if none can."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from uvicorn.server import ServerState  # noqa: E402

from visus.server import connections  # noqa: E402
from visus.server.connections import LimitedConnection, limited_connection  # noqa: E402

BODY_IS_COMING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"
COMPLETE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"


class Transport:
    """What a connection writes to."""

    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return None


async def never_answer(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


def connected(kind: type[LimitedConnection], *received: bytes) -> list[Transport]:
    """The transports of connections that have received something, in the order in which they were made."""
    found = []

    async def work() -> None:
        config, state = uvicorn.Config(never_answer, log_config=None), ServerState()
        for number, data in enumerate(received):
            found.append(Transport())
            made = kind(config, state, {})
            made.loop = SimpleNamespace(  # the time is the connection's number
                time=lambda number=number: float(number), call_later=made.loop.call_later, create_task=made.loop.create_task
            )
            made._idle_since = float(number)
            made.connection_made(found[-1])
            if data:
                made.data_received(data)
        for task in state.tasks:
            task.cancel()

    asyncio.run(work())
    return found


def closed(transports: list[Transport]) -> list[int]:
    return [number for number, each in enumerate(transports) if each.closed]


def test_the_connection_that_has_waited_longest_for_a_request_gives_way() -> None:
    kind = limited_connection(30, 3)
    assert closed(connected(kind, BODY_IS_COMING, b"", b"POST", COMPLETE)) == [1]
    assert closed(connected(kind, BODY_IS_COMING, b"", b"POST", COMPLETE, b"")) == [1, 2]


def test_a_slow_body_gives_way_before_a_whole_request() -> None:
    assert closed(connected(limited_connection(30, 3), COMPLETE, BODY_IS_COMING, BODY_IS_COMING, b"")) == [1]


def test_if_every_connection_is_at_work_a_further_one_is_503() -> None:
    transports = connected(limited_connection(30, 2), COMPLETE, COMPLETE, b"")
    assert not any(each.written for each in transports[:2])
    head, _, body = transports[2].written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert b"retry-after: 1" in head.lower()
    problem = json.loads(body)
    assert (problem["status"], problem["detail"]) == (
        503,
        "The server has too many connections. Send this request again later.",
    )


def test_what_is_no_request_after_an_answer_is_not_answered() -> None:
    """An answer in the wrong state of the protocol raised an error of the server for its client's fault."""
    sent = BODY_IS_COMING.replace(b"Content-Length: 9", b"Transfer-Encoding: chunked").removesuffix(b"1")
    (transport,) = connected(limited_connection(30, 3), sent + b"no chunk\r\n")
    assert transport.written.count(b"HTTP/1.1 4") == 1
    assert b"400 Bad Request" in transport.written
    (transport,) = connected(limited_connection(30, 3), b"\x16\x03 no HTTP\r\n\r\n")
    assert b"x-request-id: " in transport.written.lower()


def test_a_refused_connection_is_counted() -> None:
    counted: list[int] = []
    connected(limited_connection(30, 3, counted.append), b"\x16\x03 no HTTP\r\n\r\n", b"")
    assert counted == [400]


def test_there_are_no_more_connections_than_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_openable", lambda: 7)
    assert limited_connection(30, 1000).max_connections == 7
    assert limited_connection(30, 5).max_connections == 5
