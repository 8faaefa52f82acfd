"""Files that are whole or absent: written beside their place, flushed to the disk, then renamed; and the folder for what can be made again.

This file knows bytes and paths.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import io
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from visus.errors import StorageError, UsageError
from visus.units import write_bytes

_LIST_OF_NUMBERS = re.compile(r"\[(\n[^\[\]{}\"]*)\]")  # a text has no line ends in JSON, so this is no part of one


def cache_folder(of_system: Callable[[], str]) -> Path:
    """The folder for what can be made again: ``VISUS_CACHE``, else the user's cache folder of this system.

    An account without a home folder of its own (a service, a container) gets one of its own among the temporary files.

    Args:
        of_system: gives the user's cache folder of this system.

    Raises:
        UsageError: ``VISUS_CACHE`` begins with ``~``, and there is no home folder.
    """
    if named := os.environ.get("VISUS_CACHE", "").strip():
        return expand_home(Path(named))
    with contextlib.suppress(RuntimeError, KeyError):  # of an account without a home folder
        usual = Path(of_system())
        if usual.is_absolute() and _can_be_made(usual):
            return usual
    return _private_temporary_folder()


def expand_home(path: Path) -> Path:
    """The path with a leading ``~`` replaced, which a shell leaves alone within quotes.

    Raises:
        UsageError: there is no home folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        if path.exists():
            return path
        raise UsageError(
            "this path begins with ~, and no home folder is known for it. Write the whole path.", where=str(path)
        ) from None


@functools.cache
def _private_temporary_folder() -> Path:
    """A folder among the temporary files that this account alone can write: kernels are loaded from it."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"visus-cache-{owner}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if stat.S_ISDIR(state.st_mode) and (os.name == "nt" or (state.st_uid == owner and not state.st_mode & 0o022)):
            return folder
    return Path(tempfile.mkdtemp(prefix="visus-cache-"))


def _can_be_made(folder: Path) -> bool:
    """Whether a folder exists, or may be made."""
    if os.path.lexists(folder):
        return True
    above = next(parent for parent in folder.parents if parent.exists())
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def write_file(path: Path, content: bytes | str) -> None:
    """Put ``content`` at ``path`` at once: a reader, or a crash, meets the old file or the new one, never a part.

    Raises:
        StorageError: the disk is full or the folder cannot be written; a file that was there before is untouched.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(_why(path, len(data), error), where=str(path)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as indented JSON, a list of plain numbers on one line, whole or not at all.

    Raises:
        StorageError: as ``write_file``.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    write_file(path, _LIST_OF_NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV that every reader takes apart again, whatever the cells hold.

    >>> csv_text([("a", "b,c"), ("d\r", 1)])
    'a,"b,c"\n"d\r","1"\n'
    """
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a bare carriage return ends a row for a reader
    for row in rows:
        (quoted if any("\r" in str(cell) for cell in row) else plain).writerow(row)
    return text.getvalue()


def read_text(path: Path) -> str:
    """The text in a file.

    Raises:
        UsageError: it cannot be read as UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("this file cannot be read as text. Give the path of a UTF-8 text file.", where=str(path)) from error


def text_or_file(words: str) -> str:
    """What a person typed, or the content of the file that it names: a name has no bracket, no comma and no line end.

    Raises:
        UsageError: the file that is named cannot be read.
    """
    is_name = not any(sign in words for sign in "(,\n[")
    return read_text(Path(words)) if is_name and (Path(words).suffix or Path(words).is_file()) else words


def remove_parts(folder: Path) -> None:
    """Remove what a killed ``write_file`` left in ``folder``: hidden files that never got their name."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def _why(path: Path, num_bytes: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    try:
        free = f"; {write_bytes(shutil.disk_usage(path.parent).free)} free there"
    except OSError:
        free = ""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.errno == errno.EFBIG:
        remedy = "Allow larger files (ulimit -f), or choose another folder."
    else:
        remedy = (
            "Free some space or choose another folder." if is_full else "Choose a folder that exists and can be written."
        )
    return f"{write_bytes(num_bytes)} could not be written: {reason}{free if is_full else ''}. {remedy}"


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
