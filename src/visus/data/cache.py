"""The cache of decoded data: its entries, their locks and checksums, and removal of old entries to limit its size.

An entry is a folder ``<key>/`` with ``pixels.npy``, ``changes.npy`` and ``store.json``. It is written to a temporary folder
(``<key>.<random>``), flushed to
disk and renamed. A process that reads or writes an entry holds a shared lock on its ``pixels.npy``. Removal needs an exclusive lock, so
entries in use are never removed. The operating system releases the lock when the process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
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
except ImportError:  # Windows never deletes open files
    fcntl = None  # type: ignore[assignment]

DEFAULT_CACHE_BYTES: Final = 20 * 2**30
CHUNK_BYTES: Final = 2**20
_SPOT_CHUNKS: Final = 16  # number of chunks verified if the size and time of the file are as recorded; otherwise all are
_KEY: Final = re.compile(r"[0-9a-f]{24}")
_PART: Final = re.compile(r"[0-9a-f]{24}\..+")
_STALE_S: Final = 3_600  # an unlocked part without writes for an hour was left by a killed process


@dataclass(frozen=True)
class Entry:
    """A decoded dataset in the cache.

    Args:
        folder: folder of the entry.
        num_bytes: size on disk.
        used: time of last use, in seconds since 1970.
        name: name of the dataset; "" if unknown.
        source: the decoded folder or file; "" if unknown.
        shape: (samples, channels, *spatial); empty if unknown.
        is_in_use: whether a process is reading or writing it.
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
        """Whether the entry is still being written, or was never finished."""
        return _KEY.fullmatch(self.folder.name) is None

    @property
    def has_source(self) -> bool | None:
        """Whether the source still exists; None if it is unknown."""
        return os.path.exists(self.source) if self.source else None


def cache_folder(chosen: Path | None = None) -> Path:
    """The folder for decoded data: the chosen one, else ``VISUS_CACHE``, else the user's cache folder of this system."""
    if chosen is not None:
        return expand_home(chosen)
    return usual_folder(lambda: platformdirs.user_cache_dir("visus", appauthor=False))


def given_folder(chosen: str | Path | None = None) -> Path:
    """The folder for samples that a program gave: the chosen one, else ``VISUS_CACHE``, else the user's data folder of this system; nothing removes them."""
    if chosen is not None:
        return expand_home(Path(chosen))
    return usual_folder(lambda: platformdirs.user_data_dir("visus", appauthor=False)) / "given"


def cache_bound() -> int:
    """Maximum size of the cache folder in bytes: ``VISUS_CACHE_SIZE``, such as ``50GiB``, else 20 GiB.

    Raises:
        UsageError: the variable is not a size.
    """
    limit = os.environ.get("VISUS_CACHE_SIZE", "").strip()
    return read_bytes(limit) if limit else DEFAULT_CACHE_BYTES


def entries(root: Path) -> tuple[Entry, ...]:
    """All entries and unfinished parts, the most recently used first. Other files in the folder are ignored."""
    try:
        folders = [path for path in root.iterdir() if _KEY.fullmatch(path.name) or _PART.fullmatch(path.name)]
    except OSError:
        return ()
    found = [entry for path in folders if path.is_dir() and not path.is_symlink() and (entry := _entry(path)) is not None]
    return tuple(sorted(found, key=lambda entry: entry.used, reverse=True))


def remove(chosen: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Remove entries that are not in use.

    Returns:
        The removed entries, and the entries that were kept because they are in use.

    Raises:
        StorageError: the folder cannot be written.
    """
    removed: list[Entry] = []
    kept: list[Entry] = []
    for entry in chosen:
        try:
            (removed if _remove(entry.folder) else kept).append(entry)
        except OSError as error:
            raise StorageError(
                f"this entry of the cache cannot be removed: {error.strerror or error}. Remove the folder as its owner.",
                where=str(entry.folder),
            ) from error
    return removed, kept


def free_space(root: Path, needed_bytes: int, bound_bytes: int) -> None:
    """Free space for ``needed_bytes`` within the limit and on the disk.

    It removes the parts that killed processes left, then the least recently used entries.

    Args:
        root: the cache folder.
        needed_bytes: size of the new entry.
        bound_bytes: maximum size of the cache folder.
    """
    found = entries(root)
    for part in found:
        if part.is_part and not part.is_in_use and time.time() - part.used > _STALE_S:
            with contextlib.suppress(OSError):
                _remove(part.folder)
    finished = [entry for entry in found if not entry.is_part]
    total = sum(entry.num_bytes for entry in finished)
    for entry in reversed(finished):
        if total + needed_bytes <= bound_bytes and needed_bytes <= shutil.disk_usage(root).free:
            break
        with contextlib.suppress(OSError):
            if _remove(entry.folder):
                total -= entry.num_bytes


def reserve(file: Path, num_bytes: int) -> None:
    """Allocate ``num_bytes`` on disk for a file. Otherwise writing to a memory map on a full disk would kill the process.

    Raises:
        OSError: the disk does not have enough space.
    """
    with open(file, "r+b") as stream:
        handle = stream.fileno()
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, num_bytes)
                return
            except OSError as error:
                if error.errno not in (22, 95):  # EINVAL, EOPNOTSUPP: not supported by the file system
                    raise
        head = stream.read(CHUNK_BYTES)
        stream.seek(0)
        stream.write(head)
        for start in range(len(head), num_bytes, CHUNK_BYTES):
            stream.write(bytes(min(CHUNK_BYTES, num_bytes - start)))
        stream.flush()
        os.fsync(handle)


def flush(file: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(file: Path, *, is_exclusive: bool = False) -> int | None:
    """Lock an entry by its file.

    Args:
        file: ``pixels.npy`` of the entry.
        is_exclusive: whether the lock is exclusive instead of shared.

    Returns:
        A file descriptor that releases the lock when closed; None if another process holds a conflicting lock. File systems without
        locks never report a conflict.

    Raises:
        OSError: the file does not exist.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(handle, (fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    return handle


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """A context that holds a shared lock on the entry of ``file``."""
    descriptor = lock(file)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Finish an entry by writing its facts, with checksums for detecting damage later."""
    pixels = folder / "pixels.npy"
    state = pixels.stat()
    record = {
        **facts,
        "bytes": state.st_size,
        "written_ns": state.st_mtime_ns,
        "chunks": [_checksum(pixels, start) for start in range(0, state.st_size, CHUNK_BYTES)],
        "changes": _digest(folder / "changes.npy"),
    }
    (folder / "store.json").write_text(json.dumps({**record, "check": _check(record)}), encoding="utf-8")
    for place in (pixels, *folder.glob("changes.npy"), folder / "store.json", folder):
        flush(place)


def _digest(file: Path) -> str:
    """The SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of an entry; None if there is no entry, or if its checksums show damage.

    If the modification time of the file is as recorded, only some chunks are verified; otherwise all are.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        if facts.pop("check") != _check(facts) or facts["changes"] != _digest(folder / "changes.npy"):
            return None
        pixels, chunks = folder / "pixels.npy", facts["chunks"]
        state = pixels.stat()
        if state.st_size != facts["bytes"]:
            return None
        is_unmodified = state.st_mtime_ns == facts["written_ns"]
        step = max(1, len(chunks) // _SPOT_CHUNKS) if is_unmodified else 1
        verified = {*range(0, len(chunks), step), len(chunks) - 1}
        if any(_checksum(pixels, index * CHUNK_BYTES) != chunks[index] for index in verified):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return facts


def publish(part: Path, place: Path) -> None:
    """Move a finished entry to its place. A valid entry that already exists there has the same content, and is kept."""
    finished = part.with_name(part.name + ".done")
    shutil.move(part, finished)
    part.mkdir()  # TemporaryDirectory removes it
    for _ in range(3):
        try:
            finished.rename(place)
            flush(place.parent)
            return
        except OSError:
            if read_facts(place) is not None:
                break
            _remove_damaged(place)
    shutil.rmtree(finished, ignore_errors=True)


def _remove_damaged(place: Path) -> None:
    """Rename a damaged entry, then remove it."""
    broken = place.with_name(f"{place.name}.{os.getpid()}.broken")
    with contextlib.suppress(OSError):
        place.rename(broken)
    with contextlib.suppress(OSError):
        shutil.rmtree(broken) if broken.is_dir() else broken.unlink()


def _remove(folder: Path) -> bool:
    """Remove an entry unless it is locked. Return whether it was removed."""
    pixels = folder / "pixels.npy"
    descriptor = None
    if pixels.is_file():
        descriptor = lock(pixels, is_exclusive=True)
        if descriptor is None:
            return False
    try:
        gone = folder.with_name(f"{folder.name.partition('.')[0]}.{os.getpid()}.{time.monotonic_ns():x}.gone")
        folder.rename(gone)  # atomic: no process sees half an entry
        shutil.rmtree(gone)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def _entry(folder: Path) -> Entry | None:
    """The facts of an entry; None if it is removed meanwhile."""
    try:
        states = [folder.stat(), *(file.stat() for file in folder.iterdir())]
        num_bytes = sum(state.st_size for state in states[1:])
        used = folder.stat().st_mtime if _KEY.fullmatch(folder.name) else max(state.st_mtime for state in states)
    except OSError:
        return None
    try:
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        described = (str(facts["name"]), str(facts["source"]), tuple(int(length) for length in facts["shape"]))
    except (OSError, ValueError, KeyError, TypeError):
        described = ("", "", ())
    return Entry(folder, num_bytes, used, *described, is_in_use=_is_locked(folder / "pixels.npy"))


def _is_locked(pixels: Path) -> bool:
    try:
        descriptor = lock(pixels, is_exclusive=True)
    except OSError:
        return False
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _checksum(file: Path, start: int) -> int:
    with open(file, "rb") as stream:
        stream.seek(start)
        return zlib.crc32(stream.read(CHUNK_BYTES))


def _check(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())
