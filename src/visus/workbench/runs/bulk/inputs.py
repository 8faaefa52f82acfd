"""The list of the samples on disk: one line for each sample, in order. Chunks of it are identified by names, sizes and times of the files."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.data.preprocessing import Preprocessing
from visus.errors import StorageError, UsageError, VisusError
from visus.files import write_chunks
from visus.progress import Monitor
from visus.workbench.runs.predict_inputs import ArraySample, ImageSample, Sample, UnreadSample, array_file_rows

_LISTED_AT_ONCE = 4_096


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of the list that become one part of the table.

    Args:
        number: its place, from 0.
        start: place of its first line in the list, in bytes.
        num_bytes: length of its lines.
        num_samples: number of its lines.
        sha256: SHA-256 of its lines.
    """

    number: int
    start: int
    num_bytes: int
    num_samples: int
    sha256: str


def write_list(samples: Iterable[Sample], path: Path, monitor: Monitor) -> None:
    """Write the list of samples; no sample is decoded.

    Args:
        samples: in order.
        path: file of the list.
        monitor: receives the number of samples listed so far.

    Raises:
        UsageError: a sample is neither a file nor in a file.
        StorageError: the list cannot be written.
    """
    left = iter(samples)
    batches = iter(lambda: list(itertools.islice(left, _LISTED_AT_ONCE)), [])
    write_chunks(path, (b"".join(map(_line, batch)) for batch in monitor.over(batches, "listing the samples")))


def read_chunks(path: Path, size: int) -> list[Chunk]:
    """The chunks of a list, each of ``size`` samples; the last one may have fewer."""
    found: list[Chunk] = []
    start = 0
    with open(path, "rb") as file:
        while lines := list(itertools.islice(file, size)):
            text = b"".join(lines)
            found.append(Chunk(len(found), start, len(text), len(lines), hashlib.sha256(text).hexdigest()))
            start += len(text)
    return found


def first_difference(old: Path, new: Path) -> str | None:
    """The name of the first sample in which two lists differ; None if they are the same."""
    with open(old, "rb") as before, open(new, "rb") as now:
        for one, other in itertools.zip_longest(before, now):
            if one != other:
                try:
                    return str(json.loads(other or one)["name"])
                except (ValueError, TypeError, KeyError):
                    return "?"
    return None


class ListReader:
    """Reads the samples of chunks from a list. It holds the rows of one array file at most.

    Args:
        path: file of the list.
        preprocessing: that of the network.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        self._path, self._preprocessing = path, preprocessing
        self._array: tuple[Path, list[ArraySample] | VisusError] | None = None

    def samples(self, chunk: Chunk) -> Iterator[Sample]:
        """The samples of a chunk, in order; images are not opened.

        Raises:
            StorageError: the list has been changed since the chunks were read.
        """
        with open(self._path, "rb") as file:
            file.seek(chunk.start)
            text = file.read(chunk.num_bytes)
        if hashlib.sha256(text).hexdigest() != chunk.sha256:
            raise StorageError(
                "this list of samples was changed while it was in use. Remove its folder, and begin anew.",
                where=str(self._path),
            )
        for line in text.splitlines():
            yield self._sample(json.loads(line))

    def _sample(self, facts: dict[str, Any]) -> Sample:
        name = facts["name"]
        if "problem" in facts:
            return UnreadSample(name, facts["problem"])
        path = Path(facts["path"])
        if "row" not in facts:
            return ImageSample(name, path)
        if self._array is None or self._array[0] != path:
            try:
                self._array = path, list(array_file_rows(path, self._preprocessing))
            except VisusError as error:
                self._array = path, error
            except MemoryError:
                self._array = path, VisusError("this cannot be read (there is not enough memory).")
            except OSError as error:
                self._array = path, VisusError(f"this cannot be read ({error.strerror or error}).")
        rows = self._array[1]
        if isinstance(rows, VisusError):
            return UnreadSample(name, rows.message)
        if facts["row"] >= len(rows):
            return UnreadSample(name, "this file was changed while it was predicted: it has fewer rows than before.")
        return rows[int(facts["row"])]


def _line(sample: Sample) -> bytes:
    facts: dict[str, Any] = {"name": sample.name}
    if isinstance(sample, UnreadSample):
        facts["problem"] = sample.problem
    elif isinstance(sample, (ImageSample, ArraySample)) and sample.path is not None:
        facts |= {"path": os.path.abspath(sample.path), **_state(sample.path)}
        if isinstance(sample, ArraySample):
            facts["row"] = sample.number
    else:
        raise UsageError(
            "this is a sample in memory, and a stopped command could not find it again. Save it as a file, or use predict.",
            where=sample.name,
        )
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def _state(path: Path) -> dict[str, int]:
    """Size and time of the last change; empty for a file that cannot be examined."""
    try:
        state = path.stat()
    except OSError:
        return {}
    return {"bytes": state.st_size, "time_ns": state.st_mtime_ns}
