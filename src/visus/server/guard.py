"""What stands before every request: its id, the host and origin that it names, its token; and the answer to whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visus.server.metrics import Metrics
from visus.server.problems import FAILED, Problem
from visus.server.settings import ServerSettings

OPEN: Final = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs.css")
"""Paths that need no token: they say nothing of the network."""
PATHS: Final = (*OPEN, "/v1/predict", "/v1/model", "/metrics")
POLICY: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DISCARDED_BYTES: Final = 2**20
_DISCARDED_S: Final = 0.5
COMMON_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
}
"""What every answer has, unless it says otherwise."""

logger = logging.getLogger("visus.server")


def new_request_id() -> str:
    """An id of 32 digits. It names a request in the log and protects nothing, so it need not be a secret.

    >>> len(new_request_id())
    32
    """
    return f"{random.getrandbits(128):032x}"


class Guard:
    """Middleware around the whole application.

    Args:
        app: what it guards.
        settings: hosts and token.
        metrics: counts the requests.
        is_draining: whether the server shuts down, so that each connection is closed after its answer.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, is_draining: Callable[[], bool] = lambda: False
    ) -> None:
        self._app, self._settings, self._metrics, self._is_draining = app, settings, metrics, is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        scope["path"] = path_of(scope["path"])
        body, start = _Body(receive, is_complete=not _has_body(headers)), time.perf_counter()
        answer = _Answer(send, request_id, lambda: self._is_draining() or not body.is_complete)
        try:
            if (problem := self._refused(scope, headers)) is not None:
                await refuse(problem, scope, body, answer)
            else:
                await self._app(scope, body, answer)
        except Exception:
            logger.exception("request %s failed", request_id)
            if not answer.status:
                await refuse(Problem(500, FAILED), scope, body, answer)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self._metrics.requests.labels(path, str(answer.status or 499)).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - start)

    def _refused(self, scope: Scope, headers: Headers) -> Problem | None:
        """Why a request is not even looked at; None if it is."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not hosts[0]:
            return Problem(400, "The request needs exactly one Host header.")
        if not is_allowed_host(hosts[0], self._settings):
            return Problem(
                421, "The Host header names none of this server. Call it by its address, or start it with --allow-host NAME."
            )
        if (origin := headers.get("origin")) is not None and origin.lower() not in _origins(hosts[0]):
            return Problem(
                403,
                "The request comes from a page of another site, and such requests are refused. Send it from a program or from the server's own page.",
            )
        token = self._settings.token
        if token and scope["path"] not in OPEN and not _has_token(headers, token):
            needed = {"WWW-Authenticate": "Bearer"}
            return Problem(401, "A token is needed. Send the header Authorization: Bearer TOKEN.", headers=needed)
        return None


def path_of(target: str) -> str:
    """The path of a request, which may name the whole address.

    >>> path_of("http://127.0.0.1:8000/healthz"), path_of("http://127.0.0.1"), path_of("/docs")
    ('/healthz', '/', '/docs')
    """
    return target if target.startswith("/") else urlsplit(target).path or "/"


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _has_token(headers: Headers, token: str) -> bool:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return hmac.compare_digest(given.strip().encode(), token.encode()) and kind.lower() == "bearer"


def _origins(host: str) -> tuple[str, str]:
    return f"http://{host.lower()}", f"https://{host.lower()}"


def is_allowed_host(host: str, settings: ServerSettings) -> bool:
    """Whether a Host header names this server. An address always does: only names can be made to lead elsewhere (DNS rebinding).

    >>> [is_allowed_host(host, ServerSettings()) for host in ("127.0.0.1:8000", "[::1]:80", "localhost", "evil.example", "127.0.0.1.evil.example")]
    [True, True, True, False, False]
    """
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?", host)
    if match is None:
        return False
    name = (match["six"] or match["name"]).lower().rstrip(".")
    if name in ("localhost", settings.host.lower(), *(each.lower() for each in settings.allow_hosts)):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a problem; a small body that is still under way is read first, so that the client reads the answer and not a broken connection."""
    body = receive if isinstance(receive, _Body) else _Body(receive)
    if not body.is_complete and "100-continue" not in Headers(scope=scope).get("expect", "").lower():
        await body.discard()
    await problem.response(scope["state"]["request_id"])(scope, receive, send)


async def answer_problem(request: Request, problem: Exception) -> _Refusal:
    """The answer to a problem that an endpoint raises."""
    assert isinstance(problem, Problem)
    return _Refusal(problem)


class _Refusal:
    """A response that Starlette sends."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(self._problem, scope, receive, send)


class _Body:
    """The body of a request, and whether all of it has come."""

    def __init__(self, receive: Receive, *, is_complete: bool = False) -> None:
        self._receive, self.is_complete = receive, is_complete

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.is_complete = True
        return message

    async def discard(self) -> None:
        """Read and forget what is left, if it is little."""
        read = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARDED_S):
                while not self.is_complete and read <= _DISCARDED_BYTES:
                    read += len((await self()).get("body", b""))


class _Answer:
    """Sends an answer with the headers that all have, and keeps its status. After the last one, the connection is closed."""

    def __init__(self, send: Send, request_id: str, is_last: Callable[[], bool]) -> None:
        self._send, self._request_id, self._is_last, self.status = send, request_id, is_last, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            for name, value in COMMON_HEADERS.items():
                headers.setdefault(name, value)
            if self._is_last():
                headers["Connection"] = "close"
        await self._send(message)


def not_found(error: Any) -> Problem:
    """The problem of an address or a method that does not exist."""
    if error.status_code == 404:
        return Problem(404, "There is nothing at this address. /docs lists what there is.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem(405, f"This address takes other methods: {allowed}.", headers=error.headers)
    return Problem(error.status_code, "The request cannot be read.", headers=error.headers)
