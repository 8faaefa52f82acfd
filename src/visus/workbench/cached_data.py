"""``visus.cached_data``: the decoded data on this disk, and its removal. Torch is not loaded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visus.caller import for_caller
from visus.data.cache import Entry, cache_bound, cache_folder, entries, remove
from visus.errors import UsageError, printable
from visus.tables import Described, Table, Text
from visus.units import read_duration, write_bytes, write_duration, write_number_of, write_shape

_EMPTYING: Final = (
    "visus cache --empty, with --older-than 7d or --gone for a part",
    "visus.cached_data().empty(), with older_than='7d' or gone=True for a part",
)


@dataclass(frozen=True, repr=False)
class CachedData(Described):
    """The entries of the cache folder: datasets that were decoded once.

    Args:
        folder: the cache folder.
        entries: its entries, or those that were chosen; the most recently used first.
        max_bytes: size below which decoding keeps the folder.
        kernel_bytes: size of compiled kernels and measured choices, which ``empty`` keeps.
        is_narrowed: whether only some of the entries were chosen.

    >>> import visus
    >>> visus.cached_data(cache_dir=folder).entries
    ()
    """

    folder: Path
    entries: tuple[Entry, ...]
    max_bytes: int
    kernel_bytes: int
    is_narrowed: bool = False

    @property
    def num_bytes(self) -> int:
        """Size of the entries on disk.

        >>> visus.cached_data(cache_dir=folder).num_bytes
        0
        """
        return sum(entry.num_bytes for entry in self.entries)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [
            ("entries", f"{len(self.entries):,}, {write_bytes(self.num_bytes)}"),
            ("folder", printable(str(self.folder))),
        ]
        return "Decoded data", [*rows, ("next", ".entries; .empty() removes them from the disk")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("entries", self._entry_table()),) if self.entries else ()

    def _entry_table(self) -> Table:
        now = time.time()
        rows = (
            (
                printable(entry.source or "not known"),
                write_shape(entry.shape) if entry.shape else "-",
                write_bytes(entry.num_bytes),
                _age(now - entry.used),
                _state(entry),
            )
            for entry in self.entries
        )
        return Table(tuple(rows), ("data", "decoded", "size", "last used", "state"), (2,))

    def text(self) -> Text:
        """A row for each entry, the size of all, and the folder.

        >>> visus.cached_data(cache_dir=folder).text()[-1] == f"folder: {folder}"
        True
        """
        kind = "entry of this kind" if self.is_narrowed else "entry"
        plural = "entries of this kind" if self.is_narrowed else "entries"
        lines = [
            f"{write_number_of(len(self.entries), kind, plural)}, {write_bytes(self.num_bytes)}; decoding keeps this folder below "
            f"{write_bytes(self.max_bytes)} (VISUS_CACHE_SIZE), and removes the entries that were used least recently",
            f"compiled kernels and measured choices: {write_bytes(self.kernel_bytes)}, which {for_caller('--empty', 'empty()')} keeps"
            if self.kernel_bytes
            else "",
            f"folder: {printable(str(self.folder))}",
            f"to empty it: {for_caller(*_EMPTYING)}" if self.entries else "",
        ]
        return Text((*([self._entry_table()] if self.entries else []), *(line for line in lines if line)))

    def to_json(self) -> dict[str, Any]:
        """The folder and its entries as plain data.

        >>> visus.cached_data(cache_dir=folder).to_json()["entries"]
        []
        """
        return {
            "folder": str(self.folder),
            "bytes": self.num_bytes,
            "bound_bytes": self.max_bytes,
            "kernel_bytes": self.kernel_bytes,
            "entries": _facts_of(self.entries),
        }

    def empty(self) -> RemovedData:
        """Remove these entries from the disk, except those that a running process uses.

        >>> visus.cached_data(cache_dir=folder).empty().removed
        ()
        """
        removed, kept = remove(self.entries)
        return RemovedData(self.folder, tuple(removed), tuple(kept))


@dataclass(frozen=True, repr=False)
class RemovedData(Described):
    """What was removed from the cache folder.

    Args:
        folder: the cache folder.
        removed: the entries that were removed.
        kept: the entries that were kept, because a running process uses them.

    >>> import visus
    >>> visus.cached_data(cache_dir=folder).empty().kept
    ()
    """

    folder: Path
    removed: tuple[Entry, ...]
    kept: tuple[Entry, ...]

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("removed", _size(self.removed)), ("kept", _size(self.kept)), ("folder", printable(str(self.folder)))]
        return "Removed decoded data", rows

    def text(self) -> Text:
        """How much was removed, and how much was kept.

        >>> visus.cached_data(cache_dir=folder).empty().text() == (f"removed: 0 entries, 0 bytes, from {folder}",)
        True
        """
        removed = f"removed: {_size(self.removed)}, from {printable(str(self.folder))}"
        return Text((removed, *([f"kept: {_size(self.kept)}, which a running process uses"] if self.kept else [])))

    def to_json(self) -> dict[str, Any]:
        """The entries as plain data.

        >>> list(visus.cached_data(cache_dir=folder).empty().to_json())
        ['folder', 'removed', 'in_use']
        """
        return {"folder": str(self.folder), "removed": _facts_of(self.removed), "in_use": _facts_of(self.kept)}


def cached_data(
    *, older_than: str | float | None = None, gone: bool = False, cache_dir: str | Path | None = None
) -> CachedData:
    """List the decoded data on this disk; ``.empty()`` of the result removes it.

    Args:
        older_than: only entries that were not used for this time: seconds, or a text such as ``12h``, ``7d`` or ``4w``.
        gone: only entries whose data no longer exists.
        cache_dir: the folder; default: the user's cache folder.

    Raises:
        UsageError: the folder is a file, or the time is not a duration.

    >>> visus.cached_data(older_than="7d", cache_dir=folder).entries
    ()
    """
    root = cache_folder(None if cache_dir is None else Path(cache_dir))
    if root.exists() and not root.is_dir():
        raise UsageError("this is a file. Name a folder with --cache-dir or VISUS_CACHE.", where=str(root))
    least_age_s = 0.0 if older_than is None else read_duration(str(older_than))
    now = time.time()
    chosen = tuple(
        entry for entry in entries(root) if now - entry.used >= least_age_s and (not gone or entry.has_source is False)
    )
    kernel_bytes = sum(file.stat().st_size for file in (root / "kernels").glob("*") if file.is_file())
    return CachedData(root, chosen, cache_bound(), kernel_bytes, is_narrowed=older_than is not None or gone)


def _age(seconds: float) -> str:
    days = int(seconds // 86_400)
    return f"{days} days ago" if days > 1 else f"{write_duration(max(0, round(seconds)))} ago"


def _state(entry: Entry) -> str:
    if entry.is_part:
        return "being written" if entry.is_in_use else "unfinished"
    words = ["in use"] if entry.is_in_use else []
    if entry.has_source is not True:
        words.append("its data is gone" if entry.has_source is False else "of an earlier version")
    return ", ".join(words) or "-"


def _size(chosen: Sequence[Entry]) -> str:
    return f"{write_number_of(len(chosen), 'entry', 'entries')}, {write_bytes(sum(entry.num_bytes for entry in chosen))}"


def _facts_of(chosen: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "folder": str(entry.folder),
            "name": entry.name,
            "source": entry.source,
            "source_exists": entry.has_source,
            "shape": list(entry.shape),
            "bytes": entry.num_bytes,
            "last_used": entry.used,
            "in_use": entry.is_in_use,
            "unfinished": entry.is_part,
        }
        for entry in chosen
    ]
