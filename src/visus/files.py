"""Atomic file writes (temporary file, fsync, rename), text files, and the cache folder."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import importlib
import io
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from visus.errors import StorageError, UsageError, closest_name
from visus.units import write_bytes

_ROWS_AT_ONCE = 4_096
_LIST_OF_NUMBERS = re.compile(r"\[(\n[^\[\]{}\"]*)\]")  # JSON strings hold no line ends, so this never matches inside one


def cache_folder(system_cache_folder: Callable[[], str]) -> Path:
    """The cache folder: ``VISUS_CACHE``, else the user's cache folder of this system.

    An account without a home folder (a service, a container) gets a private folder in the system's temporary folder.

    Args:
        system_cache_folder: returns the user's cache folder of this system.

    Raises:
        UsageError: ``VISUS_CACHE`` begins with ``~``, and there is no home folder.
    """
    if chosen := os.environ.get("VISUS_CACHE", "").strip():
        return expand_home(Path(chosen))
    with contextlib.suppress(RuntimeError, KeyError):  # raised for an account without a home folder
        folder = Path(system_cache_folder())
        if folder.is_absolute() and _is_creatable(folder):
            return folder
    return _private_temporary_folder()


def expand_home(path: Path) -> Path:
    """The path with a leading ``~`` replaced by the home folder. A shell does not expand ``~`` within quotes.

    Raises:
        UsageError: the home folder is not known.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        if path.exists():
            return path
        raise UsageError(
            "this path begins with ~, and its home folder is not known. Write the whole path.", where=str(path)
        ) from None


@functools.cache
def _private_temporary_folder() -> Path:
    """A temporary folder that only this account can write. Compiled kernels are loaded from it, so others must not write there."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"visus-cache-{owner}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if stat.S_ISDIR(state.st_mode) and (os.name == "nt" or (state.st_uid == owner and not state.st_mode & 0o022)):
            return folder
    return Path(tempfile.mkdtemp(prefix="visus-cache-"))


def _is_creatable(folder: Path) -> bool:
    """Whether a folder exists or can be created."""
    if os.path.lexists(folder):
        return True
    above = next(parent for parent in folder.parents if parent.exists())
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def write_file(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` atomically: a reader sees the old file or the new one, never a part of it.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an existing file is unchanged.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    write_chunks(path, [data], len(data))


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows to ``path`` atomically as CSV, a few thousand at a time, so that they need not fit into memory.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an existing file is unchanged.
    """
    left = iter(rows)
    chunks = iter(lambda: csv_text(itertools.islice(left, _ROWS_AT_ONCE)).encode("utf-8", "surrogateescape"), b"")
    write_chunks(path, chunks)


def write_chunks(path: Path, chunks: Iterable[bytes], num_bytes: int = 0) -> None:
    """Write all chunks to ``path`` atomically, one after the other, so that they need not fit into memory.

    Args:
        path: the file.
        chunks: its content.
        num_bytes: length of the content, for the message of a failure; 0 if it is unknown.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an existing file is unchanged.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(_write_failure(path, num_bytes, error), where=str(path)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented JSON, with lists of numbers on one line.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an existing file is unchanged.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    write_file(path, _LIST_OF_NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV, quoted so that every reader restores the same cells.

    >>> csv_text([("a", "b,c"), ("d\r", 1)])
    'a,"b,c"\n"d\r","1"\n'
    """
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL
    )  # readers take a bare carriage return for a line end
    for row in rows:
        (quoted if any("\r" in str(cell) for cell in row) else plain).writerow(row)
    return text.getvalue()


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: the file cannot be read as UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError("there is no such file. Give the path of a text file.", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("this file cannot be read as text. Give the path of a UTF-8 text file.", where=str(path)) from error


def text_or_file(words: str) -> str:
    """The argument itself, or the content of the file that it names.

    A file name has no parenthesis, bracket, comma or line end, and either has a suffix or exists.

    Raises:
        UsageError: the file cannot be read.
    """
    is_name = not any(sign in words for sign in "(,\n[")
    return read_text(Path(words)) if is_name and (Path(words).suffix or Path(words).is_file()) else words


def closest_path(path: Path) -> str:
    """A question for a path that does not exist, with the closest name beside it; empty if none is similar.

    >>> closest_path(Path(__file__).with_name("flies.py")).endswith("files.py'?")
    True
    """
    try:
        names = sorted(each.name for each in expand_home(path).parent.iterdir() if not each.name.startswith("."))
    except OSError:
        return ""
    guess = closest_name(path.name, names)
    return f" Did you mean {str(path.with_name(guess))!r}?" if guess and path.name else ""


_LOCKED_BYTE: Final = 1 << 30
"""Windows locks bytes, which then cannot be read: this one is far behind the text of a file."""


def lock_file(file: int) -> None:
    """Lock an open file for this process without waiting. The operating system releases the lock when the process ends.

    Raises:
        OSError: another process has the lock, or the file system has none.
    """
    if sys.platform == "win32":
        msvcrt = importlib.import_module("msvcrt")
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCKED_BY_OTHERS: Final = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""The error numbers of ``lock_file`` where another process has the lock."""


def remove_parts(folder: Path) -> None:
    """Remove the temporary files that a killed ``write_file`` left in ``folder``."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def _write_failure(path: Path, num_bytes: int, error: OSError) -> str:
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
    subject = write_bytes(num_bytes) if num_bytes else "this file"
    return f"{subject} could not be written: {reason}{free if is_full else ''}. {remedy}"


def flush_folder(folder: Path) -> None:
    """Make a rename durable, if the system can open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
