"""Standard streams: any name can be printed on any console, and a failed write ends with one sentence.

A character outside the console's encoding is escaped as in Python, such as ``\\u732b``; the bytes of a file name that is not
UTF-8
pass unchanged. A stream that was closed before the start is replaced by the null device. Otherwise the next opened file
would reuse its descriptor and receive the messages.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

from visus.errors import printable

HANDLER: Final = "visus.escape"
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_OF_OUTPUT: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def open_streams() -> None:
    """Make the three standard streams safe to use."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is given out, so it is this one
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(HANDLER, _escape)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def read_names() -> list[str]:
    """The names on stdin, one per line, or separated by null characters as from ``find -print0``."""
    if sys.stdin is None:
        return []
    text = sys.stdin.read()
    return [name for name in (text.split("\0") if "\0" in text else text.splitlines()) if name.strip()]


def print_json(value: Any, file: TextIO | None = None) -> None:
    """One JSON value on stdout, valid in any encoding and for any name. NaN and infinite numbers, which JSON does not have, are ``null``."""
    stream = file or sys.stdout
    is_unicode = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")
    text = json.dumps(_finite(value), ensure_ascii=not is_unicode, allow_nan=False)
    print(_LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), file=stream)


def _finite(value: Any) -> Any:
    """The value with None for each NaN or infinite number in it.

    >>> _finite({"loss": [0.5, math.nan], "name": "a"})
    {'loss': [0.5, None], 'name': 'a'}
    """
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def system_error(error: OSError) -> str:
    """The sentence for an unhandled system error."""
    reason = error.strerror or str(error)
    if error.filename is None and error.errno in _OF_OUTPUT:
        return f"the output cannot be written: {reason}. Free some space there, or send it elsewhere."
    place = f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
    return f"{place}the system refuses this: {reason}."


def drop_output() -> None:
    """Redirect the remaining output to the null device, so that the exit of the process does not write it again."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None and not _can_flush(stream):
                os.dup2(null, stream.fileno())
        os.close(null)


def _can_flush(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for letters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    if all("\udc80" <= letter <= "\udcff" for letter in letters):
        return bytes(ord(letter) - 0xDC00 for letter in letters), error.end
    if "\udc80" <= letters[0] <= "\udcff":  # one at a time, where bytes and letters are mixed
        return bytes([ord(letters[0]) - 0xDC00]), error.start + 1
    return letters[0].encode("ascii", "backslashreplace").decode("ascii"), error.start + 1
