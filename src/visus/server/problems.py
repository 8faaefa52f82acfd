"""Answers that report an error: problem details as JSON (RFC 9457), with a request id and without any path of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse

PROBLEM_TYPE: Final = "application/problem+json"
FAILED: Final = "The server failed on this request. Its log has the cause, under this request id."


class Problem(Exception):  # noqa: N818  # the word of RFC 9457
    """An error that a client reads.

    Args:
        status: HTTP status.
        detail: what was found, what is needed, what to do.
        headers: further headers.
        fields: further fields of the answer.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.fields = status, detail, dict(headers or {}), fields

    def facts(self) -> dict[str, Any]:
        """Status, title and detail, for one sample of several.

        >>> Problem(429, "The queue is full.").facts()
        {'status': 429, 'title': 'Too Many Requests', 'detail': 'The queue is full.'}
        """
        return {"status": self.status, "title": title_of(self.status), "detail": self.detail, **self.fields}

    def response(self, request_id: str) -> JSONResponse:
        """The answer."""
        body = {"type": "about:blank", **self.facts(), "request_id": request_id}
        return JSONResponse(body, self.status, headers=self.headers, media_type=PROBLEM_TYPE)


def busy(retry_after_s: int) -> Problem:
    """The problem of a full queue."""
    return Problem(
        429, f"The queue is full. Send this request again in {retry_after_s} s.", headers={"Retry-After": str(retry_after_s)}
    )


def unavailable(reason: str, retry_after_s: int = 1) -> Problem:
    """The problem of a server that does not answer now."""
    return Problem(503, reason, headers={"Retry-After": str(retry_after_s)})


def title_of(status: int) -> str:
    """The phrase of a status."""
    return {413: "Content Too Large", 422: "Unprocessable Content"}.get(status) or HTTPStatus(status).phrase


def of_all(problems: Sequence[Problem]) -> Problem:
    """The problem of a request of which no sample has an answer: the first one for which another try helps, or the first one; all of them beside it."""
    first = next((each for each in problems if each.status == 503), problems[0])
    if len(problems) == 1:
        return first
    return Problem(first.status, first.detail, headers=first.headers, errors=[each.facts() for each in problems])
