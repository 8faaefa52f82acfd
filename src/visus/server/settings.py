"""The settings of a server, and what is refused."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from visus.errors import UsageError
from visus.units import write_bytes

TOKEN_VARIABLE: Final = "VISUS_TOKEN"
MIN_TOKEN: Final = 16
"""Characters of a token, at least."""
_MAX_TOKEN_BYTES: Final = 4096
_PIXELS_OF_A_REQUEST: Final = 4
"""Images of the largest size that a request may have."""
_MAX_S: Final = 86400


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server.

    Args:
        host: address that it listens on.
        port: port; 0 for any free one.
        max_batch: samples that are computed together at most.
        max_wait_ms: time that a sample waits for others while the engine is free, in milliseconds.
        queue: samples that are accepted and not yet computed, at most; more are answered with 429.
        max_bytes: bytes of a request, at most.
        max_pixels: pixels of an image by its header, at most; all images of a request have at most four times as many.
        max_files: samples of a request, at most; never more than ``queue``.
        max_connections: connections of one process that are open at a time, at most.
        read_timeout_s: time in which a request must have arrived, in seconds.
        answer_timeout_s: time in which it is answered, in seconds.
        workers: processes.
        token: what clients send as ``Authorization: Bearer``; empty for none.
        allow_hosts: names by which clients may call the server, beside addresses and localhost.
        reload_s: seconds between two looks at the bundle on disk; 0 for none.
        verify_new: compare a changed bundle with its run before it is used.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 256
    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_files: int = 64
    max_connections: int = 1000
    read_timeout_s: float = 30.0
    answer_timeout_s: float = 60.0
    workers: int = 1
    token: str = field(default="", repr=False)
    allow_hosts: tuple[str, ...] = ()
    reload_s: float = 2.0
    verify_new: bool = True

    @property
    def num_files(self) -> int:
        """Samples that a request may have."""
        return min(self.max_files, self.queue)

    @property
    def max_request_pixels(self) -> int:
        """Pixels that all images of a request may have together."""
        return _PIXELS_OF_A_REQUEST * self.max_pixels

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Refuse what cannot be used.

        Raises:
            UsageError: a setting cannot be used.

        >>> ServerSettings(host="0.0.0.0").check()
        Traceback (most recent call last):
        visus.errors.UsageError: other machines can reach 0.0.0.0, so a token is needed. Give one with --token-file FILE or in VISUS_TOKEN, or leave --host out.
        """
        for name in ("max_batch", "queue", "max_bytes", "max_pixels", "max_files", "max_connections", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, and must be at least 1.")
        for name in ("read_timeout_s", "answer_timeout_s"):
            if not 0 < getattr(self, name) < _MAX_S:
                raise UsageError(
                    f"{name} is {getattr(self, name):g}, and must be more than 0 and less than {_MAX_S:,} seconds."
                )
        if not 0 <= self.max_wait_ms <= 1000 * self.answer_timeout_s:
            raise UsageError(f"max_wait_ms is {self.max_wait_ms:g}, and must be between 0 and the time of an answer.")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port is {self.port}, and must be between 0 and 65535.")
        if not self.is_local and not self.token:
            raise UsageError(
                f"other machines can reach {self.host}, so a token is needed. Give one with --token-file FILE or in {TOKEN_VARIABLE}, or leave "
                "--host out."
            )


def is_loopback(host: str) -> bool:
    """Whether an address is one that only this machine can reach.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: str | Path | None = None) -> str:
    """The token in a file, or in the environment; empty if there is none.

    Raises:
        UsageError: the file cannot be read, or the token is too short or has spaces.
    """
    if file is None:
        token, where = os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if not token:
            return ""
    else:
        where = str(file)
        try:
            with Path(file).expanduser().open("rb") as stream:
                content = stream.read(_MAX_TOKEN_BYTES + 1)
        except OSError as error:
            raise UsageError(
                f"the token cannot be read ({error.strerror or error}). Name a file with one line.", where=where
            ) from None
        if len(content) > _MAX_TOKEN_BYTES:
            raise UsageError(f"a token has at most {write_bytes(_MAX_TOKEN_BYTES)}. Name a file with one line.", where=where)
        token = content.decode("ascii", "replace").strip()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"a token has at least {MIN_TOKEN} letters, digits and signs of ASCII, without spaces. Make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"',
            where=where,
        )
    return token
