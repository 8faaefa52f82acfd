"""The folder of decoded data: which entries lie there, which are whole, which are in use, and what is removed to stay within the bound.

This file knows the files of an entry and their locks.

An entry is a folder ``<key>/`` with ``pixels.npy`` and ``store.json``. It is written beside its place (``<key>.<random>``), flushed to the
disk and renamed. Whoever reads or writes an entry holds a lock on its ``pixels.npy``, and who wants to remove it must get the lock alone:
what a running process uses is never removed. The lock ends with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from visus.errors import StorageError
from visus.files import cache_folder as usual_folder
from visus.files import expand_home
from visus.units import read_bytes

try:
    import fcntl
except ImportError:  # Windows, which never deletes a file that is open
    fcntl = None  # type: ignore[assignment]

DEFAULT_CACHE_BYTES: Final = 20 * 2**30
CHUNK_BYTES: Final = 2**20
_SPOT_CHUNKS: Final = 16  # so many are compared where size and time of the file are those noted; else all
_KEY: Final = re.compile(r"[0-9a-f]{24}")
_PART: Final = re.compile(r"[0-9a-f]{24}\..+")
_STALE_S: Final = 3_600  # a part that nobody holds, nor wrote to for an hour, was left by a killed process


@dataclass(frozen=True)
class Entry:
    """One set of decoded data in the cache.

    Args:
        folder: where it lies.
        num_bytes: what it takes on the disk.
        used: when it was last opened, in seconds since 1970.
        name: what the data is called; empty where the entry does not say.
        source: the folder or file that was decoded; empty where the entry does not say.
        shape: (samples, channels, *spatial); empty where the entry does not say.
        is_in_use: a running process reads or writes it.
    """

    folder: Path
    num_bytes: int
    used: float
    name: str = ""
    source: str = ""
    shape: tuple[int, ...] = ()
    is_in_use: bool = False

    @property
    def is_part(self) -> bool:
        """Whether it is being written, or was never finished."""
        return _KEY.fullmatch(self.folder.name) is None

    @property
    def has_source(self) -> bool | None:
        """Whether the source still exists; None where the entry does not say what it was."""
        return os.path.exists(self.source) if self.source else None


def cache_folder(chosen: Path | None = None) -> Path:
    """The folder for decoded data: the chosen one, else ``VISUS_CACHE``, else the user's cache folder of this system."""
    if chosen is not None:
        return expand_home(chosen)
    return usual_folder(lambda: platformdirs.user_cache_dir("visus", appauthor=False))


def cache_bound() -> int:
    """How many bytes the cache folder may hold: ``VISUS_CACHE_SIZE``, such as ``50GiB``, else 20 GiB.

    Raises:
        UsageError: the variable is not a size.
    """
    asked = os.environ.get("VISUS_CACHE_SIZE", "").strip()
    return read_bytes(asked) if asked else DEFAULT_CACHE_BYTES


def entries(root: Path) -> tuple[Entry, ...]:
    """All entries and unfinished parts, the one that was used last first; other files in the folder are not looked at."""
    try:
        folders = [path for path in root.iterdir() if _KEY.fullmatch(path.name) or _PART.fullmatch(path.name)]
    except OSError:
        return ()
    found = [entry for path in folders if path.is_dir() and not path.is_symlink() and (entry := _entry(path)) is not None]
    return tuple(sorted(found, key=lambda entry: entry.used, reverse=True))


def remove(chosen: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Remove entries, but none that is in use.

    Returns:
        Those that were removed, and those that are in use and were kept.

    Raises:
        StorageError: the folder may not be written.
    """
    removed: list[Entry] = []
    kept: list[Entry] = []
    for entry in chosen:
        try:
            (removed if _remove(entry.folder) else kept).append(entry)
        except OSError as error:
            raise StorageError(
                f"this entry of the cache cannot be removed: {error.strerror or error}. Remove the folder with the rights of its owner.",
                where=str(entry.folder),
            ) from error
    return removed, kept


def make_room(root: Path, needed_bytes: int, bound_bytes: int) -> None:
    """Remove what a killed process left, then the entries used least recently, until ``needed_bytes`` more fit: into the bound, and on the disk."""
    there = entries(root)
    for part in there:
        if part.is_part and not part.is_in_use and time.time() - part.used > _STALE_S:
            with contextlib.suppress(OSError):
                _remove(part.folder)
    whole = [entry for entry in there if not entry.is_part]
    total = sum(entry.num_bytes for entry in whole)
    for entry in reversed(whole):
        if total + needed_bytes <= bound_bytes and needed_bytes <= shutil.disk_usage(root).free:
            break
        with contextlib.suppress(OSError):
            if _remove(entry.folder):
                total -= entry.num_bytes


def reserve(file: Path, num_bytes: int) -> None:
    """Have the disk set aside ``num_bytes`` for a file: a mapped file that grows beyond the disk would end the process with a signal.

    Raises:
        OSError: there is not so much space.
    """
    with open(file, "r+b") as stream:
        handle = stream.fileno()
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, num_bytes)
                return
            except OSError as error:
                if error.errno not in (22, 95):  # EINVAL, EOPNOTSUPP: this file system cannot
                    raise
        head = stream.read(CHUNK_BYTES)
        stream.seek(0)
        stream.write(head)
        for start in range(len(head), num_bytes, CHUNK_BYTES):
            stream.write(bytes(min(CHUNK_BYTES, num_bytes - start)))
        stream.flush()
        os.fsync(handle)


def flush(file: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(file: Path, *, alone: bool = False) -> int | None:
    """Hold an entry by its file; the descriptor, which ends the hold when it is closed.

    Args:
        file: ``pixels.npy`` of the entry.
        alone: nobody else may hold it.

    Returns:
        None where another process holds it. On a file system without locks nobody ever does.

    Raises:
        OSError: there is no such file.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    return handle


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """A context in which this process holds the entry of ``file``."""
    hold = lock(file)
    try:
        yield
    finally:
        if hold is not None:
            os.close(hold)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Finish an entry: its facts, with the checksums by which damage is noticed later."""
    pixels = folder / "pixels.npy"
    state = pixels.stat()
    whole = {
        **facts,
        "bytes": state.st_size,
        "written_ns": state.st_mtime_ns,
        "chunks": [_checksum(pixels, start) for start in range(0, state.st_size, CHUNK_BYTES)],
    }
    (folder / "store.json").write_text(json.dumps({**whole, "check": _check(whole)}), encoding="utf-8")
    for place in (pixels, folder / "store.json", folder):
        flush(place)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of an entry; None where there is none, or where it is damaged in any way that its checksums tell.

    Where the size and the time of the file are those noted, some places of it are compared, else all of it.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        if facts.pop("check") != _check(facts):
            return None
        pixels, chunks = folder / "pixels.npy", facts["chunks"]
        state = pixels.stat()
        if state.st_size != facts["bytes"]:
            return None
        is_as_noted = state.st_mtime_ns == facts["written_ns"]
        step = max(1, len(chunks) // _SPOT_CHUNKS) if is_as_noted else 1
        looked_at = {*range(0, len(chunks), step), len(chunks) - 1}
        if any(_checksum(pixels, index * CHUNK_BYTES) != chunks[index] for index in looked_at):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return facts


def publish(part: Path, place: Path) -> None:
    """Move a finished entry to its place; one that is there and whole was made by another process, with the same content, and stays."""
    finished = part.with_name(part.name + ".done")
    shutil.move(part, finished)
    part.mkdir()  # for TemporaryDirectory to remove
    for _ in range(3):
        try:
            finished.rename(place)
            flush(place.parent)
            return
        except OSError:
            if read_facts(place) is not None:
                break
            _set_aside(place)
    shutil.rmtree(finished, ignore_errors=True)


def _set_aside(place: Path) -> None:
    """Take a damaged entry from its place."""
    aside = place.with_name(f"{place.name}.{os.getpid()}.broken")
    with contextlib.suppress(OSError):
        place.rename(aside)
    with contextlib.suppress(OSError):
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _remove(folder: Path) -> bool:
    """Remove an entry that nobody holds; whether it was."""
    pixels = folder / "pixels.npy"
    hold = None
    if pixels.is_file():
        hold = lock(pixels, alone=True)
        if hold is None:
            return False
    try:
        gone = folder.with_name(f"{folder.name.partition('.')[0]}.{os.getpid()}.{time.monotonic_ns():x}.gone")
        folder.rename(gone)  # in one step: nobody meets half an entry
        shutil.rmtree(gone)
    finally:
        if hold is not None:
            os.close(hold)
    return True


def _entry(folder: Path) -> Entry | None:
    """What is known of an entry; None where it vanishes meanwhile."""
    try:
        states = [folder.stat(), *(file.stat() for file in folder.iterdir())]
        num_bytes = sum(state.st_size for state in states[1:])
        used = folder.stat().st_mtime if _KEY.fullmatch(folder.name) else max(state.st_mtime for state in states)
    except OSError:
        return None
    try:
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        told = (str(facts["name"]), str(facts["source"]), tuple(int(length) for length in facts["shape"]))
    except (OSError, ValueError, KeyError, TypeError):
        told = ("", "", ())
    return Entry(folder, num_bytes, used, *told, is_in_use=_is_held(folder / "pixels.npy"))


def _is_held(pixels: Path) -> bool:
    try:
        hold = lock(pixels, alone=True)
    except OSError:
        return False
    if hold is None:
        return True
    os.close(hold)
    return False


def _checksum(file: Path, start: int) -> int:
    with open(file, "rb") as stream:
        stream.seek(start)
        return zlib.crc32(stream.read(CHUNK_BYTES))


def _check(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())
