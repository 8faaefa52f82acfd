"""Every item decoded once into one memory-mapped array in the user's cache folder.

This file knows how pixels get from files into the array, and how the cache folder is kept within its bound. It must not know classes,
splits or networks. An entry is a folder ``<key>/`` with ``pixels.npy`` (N, C, *) and ``store.json``; it is written beside its place and
renamed, so that a half-written entry is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.lib.format import open_memmap

from visus.data.ledger import Ledger, group_reasons, listed
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.samples import Reader, Samples
from visus.errors import DataError, PictureError, StorageError
from visus.limits import usable_cores
from visus.units import write_bytes, write_share

FORMAT = 2  # of what decoding gives: another number where the same files would give other pixels or another ledger
DEFAULT_CACHE_BYTES = 50 * 2**30
MAX_UNREADABLE = 0.05
MOST_REASONS_SHOWN = 4
STALE_S = 86_400  # a part that nobody wrote to for a day was left by a killed process
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Store:
    """The decoded items of one data set.

    Args:
        folder: where the entry lies.
        pixels: memory-mapped, shape (N, C, *), one row for each item of the samples, in their order.
        readable: one truth value for each row; rows of unreadable items are zero.
        ledger: what was done to the items.
        was_there: the entry was found in the cache and nothing was decoded.
    """

    folder: Path
    pixels: Pixels
    readable: np.ndarray[Any, np.dtype[np.bool_]]
    ledger: Ledger
    was_there: bool


def cache_folder(chosen: Path | None = None) -> Path:
    """The folder for decoded data: the chosen one, else ``VISUS_CACHE``, else the user's cache folder of this system."""
    if chosen is not None:
        return chosen
    return Path(os.environ.get("VISUS_CACHE") or platformdirs.user_cache_dir("visus", appauthor=False))


def open_store(
    samples: Samples,
    preprocessing: Preprocessing,
    *,
    cache_dir: Path | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    num_workers: int = 0,
    on_progress: Progress | None = None,
) -> Store:
    """The decoded items of ``samples``, from the cache or decoded now.

    Args:
        samples: the items, in order.
        preprocessing: channels, size and rule; its scaling plays no part, since the store keeps unscaled numbers.
        cache_dir: another place for the cache.
        cache_bytes: bound of the cache folder; the entries that were used least recently are removed to stay within it.
        num_workers: decoding threads; 0 for one for each usable core.
        on_progress: called with the number of items done and in all.

    Raises:
        StorageError: the cache folder cannot be written or the disk is full.
        DataError: an array item does not fit.
    """
    root = cache_folder(cache_dir)
    key = _key(samples, preprocessing)
    found = _read_entry(root / key)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        _make_room(root, _size_bytes(samples, preprocessing), cache_bytes)
        with tempfile.TemporaryDirectory(prefix=f"{key}.", dir=root) as part:
            _write_entry(Path(part), samples, preprocessing, num_workers or usable_cores(), on_progress)
            _publish(Path(part), root / key)
    except OSError as error:
        raise StorageError(
            f"the decoded data ({write_bytes(_size_bytes(samples, preprocessing))}) cannot be written: {error.strerror or error}. "
            f"Free some space, or name another folder with --cache-dir or VISUS_CACHE.",
            where=str(root),
        ) from error
    entry = _read_entry(root / key)
    assert entry is not None, "an entry that was just published can be read"
    return Store(entry.folder, entry.pixels, entry.readable, entry.ledger, was_there=False)


def refuse_unreadable(store: Store, samples: Samples, max_unreadable: float = MAX_UNREADABLE) -> None:
    """Raise where more than a stated share of the items could not be read.

    Raises:
        DataError: with the count, the bound and the first names.
    """
    missing = np.flatnonzero(~store.readable)
    if len(missing) > max_unreadable * len(samples.items):
        reasons = store.ledger.reasons("unreadable")
        groups = group_reasons({samples.items[index]: reasons.get(samples.items[index], "") for index in missing})
        told = " ".join(f"{len(items):,} ({listed(items)}): {reason}" for reason, items in groups[:MOST_REASONS_SHOWN])
        raise DataError(
            f"{len(missing)} of {len(samples.items)} files cannot be read ({write_share(len(missing) / len(samples.items))}; "
            f"at most {write_share(max_unreadable)} may be left out). {told} "
            f"Repair or remove them, or allow more with --max-unreadable.",
            where=str(samples.root),
        )


def _key(samples: Samples, preprocessing: Preprocessing) -> str:
    """Name of the entry: whatever changes a stored number changes it."""
    settings = (
        FORMAT,
        preprocessing.kind,
        preprocessing.channels,
        preprocessing.size,
        preprocessing.rule,
        preprocessing.dtype,
    )
    return hashlib.sha256(json.dumps([samples.fingerprint, *settings]).encode()).hexdigest()[:24]


def _size_bytes(samples: Samples, preprocessing: Preprocessing) -> int:
    return len(samples.items) * int(np.prod(preprocessing.input_shape)) * np.dtype(preprocessing.dtype).itemsize


def _read_entry(folder: Path) -> Store | None:
    """The entry in ``folder``, marked as just used; None where there is none."""
    try:
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # a cache that can only be read is as good
        os.utime(folder)
    readable = np.ones(len(pixels), dtype=np.bool_)
    readable[facts["unreadable"]] = False
    return Store(folder, pixels, readable, Ledger.from_dict(facts["ledger"]), was_there=True)


def _write_entry(
    folder: Path, samples: Samples, preprocessing: Preprocessing, num_workers: int, on_progress: Progress | None
) -> None:
    """Decode all items into ``folder``."""
    shape = (len(samples.items), *preprocessing.input_shape)
    pixels = open_memmap(folder / "pixels.npy", mode="w+", dtype=preprocessing.dtype, shape=shape)
    ledger, unreadable = Ledger(), []
    if samples.reader.kind == "array":
        _copy_rows(samples.reader, preprocessing, pixels, samples.items, ledger, on_progress)
    else:
        for index, outcome, notes in _decode_all(samples, preprocessing, num_workers):
            if isinstance(outcome, PictureError):
                unreadable.append(index)
                ledger.note("unreadable", samples.items[index], outcome.message)
            else:
                pixels[index] = outcome
            ledger.merge(notes)
            if on_progress:
                on_progress(index + 1, len(samples.items))
    pixels.flush()
    del pixels
    facts = {"unreadable": unreadable, "ledger": ledger.as_dict(), "created": time.time()}
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")


def _copy_rows(
    reader: Reader,
    preprocessing: Preprocessing,
    pixels: Pixels,
    items: Sequence[str],
    ledger: Ledger,
    on_progress: Progress | None,
) -> None:
    """Copy an array source row by row, in chunks of at most about 64 MiB."""
    row_bytes = max(1, int(np.prod(reader.shape or (1,))) * np.dtype(reader.dtype).itemsize)
    rows_per_chunk = max(1, 2**26 // row_bytes)
    for start in range(0, len(pixels), rows_per_chunk):
        rows = reader.read(slice(start, start + rows_per_chunk))
        fitted = preprocessing.fit_array(rows)
        if fitted.shape != rows.shape:
            for item in items[start : start + len(rows)]:
                ledger.note("resized", item)
        pixels[start : start + len(rows)] = fitted
        if on_progress:
            on_progress(start + len(rows), len(pixels))


def _decode_all(
    samples: Samples, preprocessing: Preprocessing, num_workers: int
) -> Iterator[tuple[int, Pixels | PictureError, Ledger]]:
    """Decode all files with threads (decoders release the interpreter's lock); results in the order of the items."""

    def decode(index: int) -> tuple[int, Pixels | PictureError, Ledger]:
        notes = Ledger()
        try:
            return index, preprocessing.read_picture(samples.reader.path(index), notes, name=samples.items[index]), notes
        except PictureError as error:
            return index, error, notes

    with ThreadPoolExecutor(num_workers) as pool:
        chunk = 64 * num_workers
        for start in range(0, len(samples.items), chunk):
            yield from pool.map(decode, range(start, min(start + chunk, len(samples.items))))


def _publish(part: Path, place: Path) -> None:
    """Move a finished entry to its place; another process may have been first, with the same content."""
    finished = part.with_name(part.name + ".done")
    shutil.move(part, finished)
    part.mkdir()  # for TemporaryDirectory to remove
    try:
        finished.rename(place)
    except OSError:
        if _read_entry(place) is None:
            raise
        shutil.rmtree(finished)


def _make_room(root: Path, needed_bytes: int, cache_bytes: int) -> None:
    """Remove what a killed process left, then the entries used least recently until ``needed_bytes`` more fit into the bound."""
    for part in root.glob("????????????????????????.*"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_S:
                shutil.rmtree(part)
    entries = sorted(
        (path for path in root.iterdir() if (path / "store.json").is_file()), key=lambda path: path.stat().st_mtime
    )
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in entries}
    total = sum(sizes.values())
    for path in entries:
        if total + needed_bytes <= cache_bytes:
            break
        shutil.rmtree(path)
        total -= sizes[path]
