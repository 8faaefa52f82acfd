"""The store of decoded samples: one memory-mapped array per dataset in the cache folder.

Each sample is decoded once. An entry is a folder ``<key>/`` with ``pixels.npy`` (N, C, *), ``changes.npy`` (action and sample of each
change of the ledger) and ``store.json``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from visus.caller import option
from visus.data.cache import cache_bound, cache_folder, free_space, lock, locked, publish, read_facts, reserve, write_facts
from visus.data.ledger import Ledger, group_reasons, write_examples
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.samples import Reader, Samples
from visus.errors import DataError, ImageError, StorageError
from visus.limits import usable_cores
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import ShortFields
from visus.units import write_bytes, write_share

FORMAT = 5  # version of the entries; increase it if their format or the decoded values change
MAX_UNREADABLE = 0.05
MAX_REASONS_SHOWN = 4
_COMPARED_PIXELS = 16
_COMPARED_ROWS = 4_096
_JPEG_ROUNDING = 2
_SMALL_RANGE = 32  # masks and label maps span at most this many values, where neighbors are different values


@dataclass(frozen=True, repr=False)
class Store(ShortFields):
    """The decoded samples of one dataset.

    Args:
        folder: folder of the entry.
        pixels: memory-mapped array of shape (N, C, *), one row per sample, in order.
        readable: whether each sample could be read; rows of unreadable samples are zero.
        ledger: changes made to the samples.
        was_there: whether the entry was in the cache, so that nothing was decoded.
    """

    folder: Path
    pixels: Pixels
    readable: np.ndarray[Any, np.dtype[np.bool_]]
    ledger: Ledger
    was_there: bool


def open_store(
    samples: Samples,
    preprocessing: Preprocessing,
    *,
    cache_dir: Path | None = None,
    cache_bytes: int | None = None,
    num_workers: int = 0,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Store:
    """Load decoded samples from the cache, or decode them.

    Args:
        samples: the samples, in order.
        preprocessing: channels, size and resize mode. Its normalization does not matter, since the store keeps unnormalized values.
        cache_dir: the cache folder; default: the user's cache folder.
        cache_bytes: maximum size of the cache folder in bytes. The least recently used entries that are not in use are removed to stay
            within it. Default: ``VISUS_CACHE_SIZE``, or 20 GiB.
        num_workers: number of decoding threads; 0 for one per usable core.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: called after each decoded sample; True raises ``CanceledError``.

    Raises:
        StorageError: the cache folder cannot be written, or the disk is full.
        DataError: an array sample has the wrong shape or type.
        CanceledError: ``should_stop`` returned True.
    """
    root = cache_folder(cache_dir)
    key = _key(samples, preprocessing)
    found = _read_entry(root / key, samples, preprocessing)
    if found is not None:
        return found
    needed, monitor = _size_bytes(samples, preprocessing), Monitor(on_event, should_stop)
    try:
        root.mkdir(parents=True, exist_ok=True)
        free_space(root, needed, cache_bound() if cache_bytes is None else cache_bytes)
        with tempfile.TemporaryDirectory(prefix=f"{key}.", dir=root, ignore_cleanup_errors=True) as part:
            _write_entry(Path(part), samples, preprocessing, num_workers or usable_cores(), monitor)
            publish(Path(part), root / key)
    except OSError as error:
        raise StorageError(_write_failure(root, needed, error), where=str(root)) from error
    entry = _read_entry(root / key, samples, preprocessing)
    if entry is None:
        raise StorageError(
            "the decoded data that was just written cannot be read back. Check this disk, or choose another folder with "
            "--cache-dir or VISUS_CACHE.",
            where=str(root),
        )
    return dataclasses.replace(entry, was_there=False)


def _write_failure(root: Path, num_bytes: int, error: OSError) -> str:
    reason, remedy = error.strerror or str(error), ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            reason += f" ({write_bytes(shutil.disk_usage(root).free)} free there)"
        remedy = "Free some space (visus cache lists what is stored), use a smaller --img-size, or choose"
    return f"the decoded data ({write_bytes(num_bytes)}) cannot be written: {reason}. {remedy or 'Choose'} another folder with --cache-dir or VISUS_CACHE."


def refuse_unreadable(store: Store, samples: Samples, max_unreadable: float = MAX_UNREADABLE) -> None:
    """Raise an error if too many samples could not be read.

    Args:
        store: the decoded samples.
        samples: the samples, in order.
        max_unreadable: allowed fraction of unreadable samples, 0 to 1.

    Raises:
        DataError: more samples are unreadable; the message has the count, the limit and the first names.
    """
    missing = np.flatnonzero(~store.readable)
    if len(missing) > max_unreadable * len(samples.names):
        reasons = store.ledger.reasons("unreadable")
        groups = group_reasons({samples.names[index]: reasons.get(samples.names[index], "") for index in missing})
        details = " ".join(
            f"{len(names):,} ({write_examples(names)}): {reason}" for reason, names in groups[:MAX_REASONS_SHOWN]
        )
        raise DataError(
            f"{len(missing)} of {len(samples.names)} files cannot be read ({write_share(len(missing) / len(samples.names))}; "
            f"at most {write_share(max_unreadable)} may be left out). {details} "
            f"Repair or remove them, or allow more with {option('max_unreadable')}.",
            where=str(samples.root),
        )


def blank_rows(pixels: Pixels, rows: np.ndarray[Any, np.dtype[np.int64]], *, are_files: bool = True) -> list[int]:
    """Places in ``rows`` of the samples with one value in each channel; of image files, up to the rounding of JPEG where the values of all samples span more than that.

    A few pixels of each sample are compared first, so most samples are not read as a whole.

    >>> blank_rows(np.array([[[[7, 7]]], [[[7, 90]]]], np.uint8), np.array([0, 1]))
    [0]
    >>> blank_rows(np.array([[[[0, 1]]], [[[1, 1]]]], np.uint8), np.array([0, 1]))
    [1]
    >>> blank_rows(np.array([[[[0, 1]]], [[[0, 255]]]], np.uint8), np.array([0, 1]), are_files=False)
    []
    """
    flat = pixels.reshape(*pixels.shape[:2], -1)
    few = flat[:, :, :: max(1, flat.shape[2] // _COMPARED_PIXELS)]
    rounding = _JPEG_ROUNDING if are_files and pixels.dtype == np.uint8 else 0
    exact, near, lowest, highest = [], [], 255, 0
    for start in range(0, len(rows), _COMPARED_ROWS):
        values = few[rows[start : start + _COMPARED_ROWS]]
        if rounding:
            lowest, highest = min(lowest, int(values.min())), max(highest, int(values.max()))
        for place in start + np.flatnonzero(_is_flat(values, rounding).all(axis=1)):
            row = flat[rows[place]]
            if _is_flat(row, rounding).all():
                near.append(int(place))
            if _is_flat(row, 0).all():
                exact.append(int(place))
    return near if highest - lowest > _SMALL_RANGE else exact


def _is_flat(values: Pixels, rounding: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether the values along the last axis are the same, up to a rounding."""
    high, low = values.max(axis=-1), values.min(axis=-1)
    flat: np.ndarray[Any, np.dtype[np.bool_]] = high - low <= rounding if rounding else high == low
    return flat


def _key(samples: Samples, preprocessing: Preprocessing) -> str:
    """Key of the entry: a hash of everything that affects the stored values."""
    settings = (
        FORMAT,
        preprocessing.kind,
        preprocessing.channels,
        preprocessing.size,
        preprocessing.resize_mode,
        preprocessing.dtype,
    )
    return hashlib.sha256(json.dumps([samples.fingerprint, *settings]).encode()).hexdigest()[:24]


def _size_bytes(samples: Samples, preprocessing: Preprocessing) -> int:
    return len(samples.names) * int(np.prod(preprocessing.input_shape)) * np.dtype(preprocessing.dtype).itemsize


def _read_entry(folder: Path, samples: Samples, preprocessing: Preprocessing) -> Store | None:
    """The entry in ``folder``; None if it does not exist, is damaged, or has another shape.

    It is marked as just used, and stays locked as long as its array exists.
    """
    try:
        descriptor = lock(folder / "pixels.npy")
    except OSError:
        return None
    try:
        facts = read_facts(folder)
        if facts is None:
            raise ValueError("no valid entry")
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        expected = (len(samples.names), *preprocessing.input_shape), np.dtype(preprocessing.dtype)
        if (pixels.shape, pixels.dtype) != expected:
            raise ValueError("another shape or type")
        readable = np.ones(len(pixels), dtype=np.bool_)
        readable[facts["unreadable"]] = False
        ledger = _read_ledger(folder, facts, samples)
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, AttributeError, DataError):
        if descriptor is not None:
            os.close(descriptor)
        return None
    if descriptor is not None:
        weakref.finalize(pixels, os.close, descriptor)
    with contextlib.suppress(OSError):  # a read-only cache works too
        os.utime(folder)
    return Store(folder, pixels, readable, ledger, was_there=True)


def _write_entry(folder: Path, samples: Samples, preprocessing: Preprocessing, num_workers: int, monitor: Monitor) -> None:
    """Decode all samples into ``folder``."""
    shape = (len(samples.names), *preprocessing.input_shape)
    file = folder / "pixels.npy"
    pixels = open_memmap(file, mode="w+", dtype=preprocessing.dtype, shape=shape)
    with locked(file):
        reserve(file, file.stat().st_size)
        unreadable, ledger = _fill(pixels, samples, preprocessing, num_workers, monitor)
        pixels.flush()
        facts = {"unreadable": unreadable, **_write_ledger(folder, ledger, samples), "created": time.time()}
        source = str(samples.root.resolve())
        write_facts(folder, {**facts, "name": samples.name, "source": source, "shape": [int(length) for length in shape]})


def _write_ledger(folder: Path, ledger: Ledger, samples: Samples) -> dict[str, Any]:
    """Write ``changes.npy``, the place of the action and of the sample for each change; the facts of the ledger for ``store.json``."""
    actions, place_of = list(ledger.counts), {name: place for place, name in enumerate(samples.names)}
    places = [np.array([place_of[name] for name in ledger.names(action)], dtype=np.int32) for action in actions]
    columns = [np.stack([np.full_like(each, action), each], axis=1) for action, each in enumerate(places)]
    changes = np.concatenate([np.empty((0, 2), dtype=np.int32), *columns])
    np.save(folder / "changes.npy", changes, allow_pickle=False)
    return {"ledger": ledger.as_dict()}


def _read_ledger(folder: Path, facts: dict[str, Any], samples: Samples) -> Ledger:
    """The ledger of an entry, with every name."""
    changes = np.load(folder / "changes.npy", allow_pickle=False)
    places = {action: changes[changes[:, 0] == index, 1] for index, action in enumerate(facts["ledger"])}
    names = {action: [samples.names[place] for place in chosen.tolist()] for action, chosen in places.items()}
    return Ledger.from_dict(facts["ledger"], names)


def _fill(
    pixels: Pixels, samples: Samples, preprocessing: Preprocessing, num_workers: int, monitor: Monitor
) -> tuple[list[int], Ledger]:
    """Decode all samples into ``pixels``; the places of the unreadable samples, and the ledger."""
    ledger, unreadable = Ledger(), list[int]()
    if samples.reader.kind == "array":
        _copy_rows(samples.reader, preprocessing, pixels, samples.names, ledger, monitor)
    else:
        for index, outcome, notes in _decode_all(samples, preprocessing, num_workers):
            if isinstance(outcome, ImageError):
                unreadable.append(index)
                ledger.note("unreadable", samples.names[index], outcome.message)
            else:
                pixels[index] = outcome
            ledger.merge(notes)
            monitor.step("decoding", index + 1, len(samples.names))
    return unreadable, ledger


def _copy_rows(
    reader: Reader,
    preprocessing: Preprocessing,
    pixels: Pixels,
    samples: Sequence[str],
    ledger: Ledger,
    monitor: Monitor,
) -> None:
    """Copy the rows of an array source, in chunks of about 64 MiB."""
    row_bytes = max(1, int(np.prod(reader.shape or (1,))) * np.dtype(reader.dtype).itemsize)
    rows_per_chunk = max(1, 2**26 // row_bytes)
    for start in range(0, len(pixels), rows_per_chunk):
        rows = reader.read(slice(start, start + rows_per_chunk))
        fitted = preprocessing.fit_array(rows)
        if fitted.shape != rows.shape:
            for sample in samples[start : start + len(rows)]:
                ledger.note("resized", sample)
        pixels[start : start + len(rows)] = fitted
        monitor.step("decoding", start + len(rows), len(pixels))


def _decode_all(
    samples: Samples, preprocessing: Preprocessing, num_workers: int
) -> Iterator[tuple[int, Pixels | ImageError, Ledger]]:
    """Decode all files with threads (decoders release the GIL); yields results in the order of the samples."""

    def decode(index: int) -> tuple[int, Pixels | ImageError, Ledger]:
        notes = Ledger()
        try:
            return index, preprocessing.read_image(samples.reader.path(index), notes, name=samples.names[index]), notes
        except ImageError as error:
            return index, error, notes

    with ThreadPoolExecutor(num_workers) as pool:
        chunk = 64 * num_workers
        for start in range(0, len(samples.names), chunk):
            yield from pool.map(decode, range(start, min(start + chunk, len(samples.names))))
