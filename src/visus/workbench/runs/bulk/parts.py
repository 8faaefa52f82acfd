"""The parts of a table on disk: each is written once, atomically, under a name that follows from its content, and checked when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from visus.data.ledger import MAX_EXAMPLES
from visus.errors import StorageError, UsageError
from visus.files import LOCKED_BY_OTHERS, flush_folder, lock_file, remove_parts, write_file, write_json
from visus.workbench.runs.bulk.inputs import Chunk, first_difference

FORMAT: Final = "visus parts 1"
_LIST, _NEW_LIST, _PLAN, _JOINED, _LOCK, _TABLE = (
    "samples.jsonl",
    "samples-new.jsonl",
    "plan.json",
    "joined.json",
    "lock",
    "table",
)
_ADVICE: Final = "Repeat the earlier command to finish them, remove the folder to begin anew, or name another table."


@dataclass(frozen=True)
class Plan:
    """What the parts of one folder have in common; parts of two plans are never mixed.

    Args:
        network: identity of the network with all that decides its answers.
        network_name: its name, for messages.
        table: kind and columns of the table.
        part_size: number of samples in a part.
    """

    network: str
    network_name: str
    table: tuple[str, ...]
    part_size: int

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {"format": FORMAT, **asdict(self), "table": list(self.table)}

    def part_name(self, chunk: Chunk) -> str:
        """The file name of a part: its number, and a hash over network, table and samples."""
        text = "\n".join([FORMAT, self.network, *self.table, chunk.sha256])
        return f"{chunk.number:06d}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}.rows"


@dataclass(frozen=True)
class PartFacts:
    """What a part holds.

    Args:
        number: its place, from 0.
        num_samples: number of its rows.
        num_errors: rows without a prediction.
        labels: number of rows of each label.
        ledger: the changes made to its samples: count and first names of each.
    """

    number: int
    num_samples: int
    num_errors: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    ledger: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Totals:
    """The sum over parts. Of the samples of a change, the first names are kept.

    >>> totals = Totals()
    >>> totals.add(PartFacts(0, 3, 1, {"cat": 2}, {"resized": {"count": 2, "samples": ["a.jpg", "b.jpg"]}}))
    >>> totals.add(PartFacts(1, 1, 0, {"cat": 1}, {"resized": {"count": 1, "samples": ["c.jpg"]}}))
    >>> totals.num_samples, totals.labels["cat"], totals.ledger["resized"]["samples"]
    (4, 3, ['a.jpg', 'b.jpg', 'c.jpg'])
    """

    num_samples: int = 0
    num_errors: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    ledger: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, facts: PartFacts) -> None:
        """Add one part."""
        self.num_samples += facts.num_samples
        self.num_errors += facts.num_errors
        self.labels.update(facts.labels)
        self.add_ledger(facts.ledger)

    def add_ledger(self, ledger: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the changes of some samples."""
        for action, more in ledger.items():
            entry = self.ledger.setdefault(action, {"count": 0, "samples": []})
            entry["count"] += more["count"]
            entry["samples"] = [*entry["samples"], *more["samples"]][:MAX_EXAMPLES]


class PartsFolder:
    """The folder of the parts of a table, beside the table: ``out.csv.parts``.

    Args:
        out: the table.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.with_name(f"{out.name}.parts")
        self.list, self.new_list = self.path / _LIST, self.path / _NEW_LIST
        self.table, self._plan, self._joined = self.path / _TABLE, self.path / _PLAN, self.path / _JOINED

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process writes this table; the folder is made if needed.

        Raises:
            UsageError: another process writes it, there is no folder for it, or something else has the name of the folder.
            StorageError: the folder cannot be written.
        """
        self._make()
        try:
            file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"the parts of the table cannot be written here: {error.strerror or error}. Choose another folder.",
                where=str(self.path),
            ) from error
        try:
            try:
                lock_file(file)
            except OSError as error:
                if error.errno in LOCKED_BY_OTHERS:
                    raise UsageError(
                        "another process is writing this table. Wait for it, or name another one.", where=str(self.out)
                    ) from None
            yield
        finally:
            os.close(file)
            self._remove_empty()

    def _remove_empty(self) -> None:
        """Remove the folder if there is nothing in it to continue with."""
        with contextlib.suppress(OSError):
            if os.listdir(self.path) == [_LOCK]:
                (self.path / _LOCK).unlink()
                self.path.rmdir()

    def _make(self) -> None:
        if not self.out.parent.is_dir():
            raise UsageError(
                f"there is no folder {str(self.out.parent)!r} for this table. Make it, or name another one.",
                where=str(self.out),
            )
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the parts of the table cannot be written here: {error.strerror or error}. Choose another folder.",
                where=str(self.path),
            ) from error
        known = {_LIST, _NEW_LIST, _PLAN, _JOINED, _LOCK, _TABLE}
        others = [name for name in os.listdir(self.path) if name not in known and not name.endswith((".rows", ".part"))]
        if others:
            raise UsageError(
                f"this folder is for the parts of the table, and it has another file: {min(others)}. Move it, or name another table.",
                where=str(self.path),
            )
        remove_parts(self.path)

    @property
    def has_plan(self) -> bool:
        """Whether an earlier process began here."""
        return self._plan.is_file()

    def refuse_other(self, plan: Plan) -> None:
        """Raise an error if an earlier process began with another network or table.

        Raises:
            UsageError: it did.
        """
        if not self.has_plan:
            return
        try:
            found = json.loads(self._plan.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        wanted = plan.to_json()
        if found.get("network") != plan.network:
            other = found.get("network_name", "another network")
            raise UsageError(
                f"these parts are predictions of {other}, and not of {plan.network_name}. {_ADVICE}"
                if other != plan.network_name
                else f"these parts were predicted by {other} before it was changed, or with other options. {_ADVICE}",
                where=str(self.path),
            )
        if found != wanted:
            raise UsageError(
                f"these parts have other columns, or were written by another version of visus. {_ADVICE}",
                where=str(self.path),
            )

    def begin(self, plan: Plan) -> None:
        """Compare the new list of samples with that of an earlier process, or store list and plan if there is none.

        Raises:
            UsageError: the samples have changed.
        """
        if not self.has_plan:
            os.replace(self.new_list, self.list)
            write_json(self._plan, plan.to_json())
            return
        name = first_difference(self.list, self.new_list) if self.list.is_file() else "all"
        if name is not None:
            raise UsageError(
                f"the samples have changed since these parts were predicted; the first that differs: {name}. {_ADVICE}",
                where=str(self.path),
            )
        self.new_list.unlink()

    def write(self, plan: Plan, chunk: Chunk, facts: PartFacts, rows: bytes) -> None:
        """Write a part atomically.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        head = {"sha256": hashlib.sha256(rows).hexdigest(), **asdict(facts)}
        write_file(self.path / plan.part_name(chunk), json.dumps(head).encode() + b"\n" + rows)

    def read(self, plan: Plan, chunk: Chunk) -> tuple[PartFacts, bytes] | None:
        """A part with its rows; None if it is not there, or is damaged."""
        try:
            head, _, rows = (self.path / plan.part_name(chunk)).read_bytes().partition(b"\n")
            facts = json.loads(head)
            if facts.pop("sha256") != hashlib.sha256(rows).hexdigest() or facts["num_samples"] != chunk.num_samples:
                return None
            return PartFacts(**facts), rows
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def finished(self, plan: Plan, chunks: Sequence[Chunk]) -> set[int]:
        """The numbers of the chunks whose parts are there and undamaged."""
        return {chunk.number for chunk in chunks if self.read(plan, chunk) is not None}

    def rows(self, plan: Plan, chunks: Sequence[Chunk], totals: Totals) -> Iterator[bytes]:
        """The rows of all parts in order; their facts are added to the totals.

        Raises:
            StorageError: a part has vanished or was damaged since it was written.
        """
        for chunk in chunks:
            part = self.read(plan, chunk)
            if part is None:
                raise StorageError(
                    "this part has vanished or was damaged after it was written. Call again to predict it anew.",
                    where=str(self.path / plan.part_name(chunk)),
                )
            totals.add(part[0])
            yield part[1]

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Move the finished table to its place, and remove the parts.

        Args:
            facts: what ``published`` returns if this process ends before the parts are removed.
        """
        write_json(self._joined, facts)
        os.replace(self.table, self.out)
        flush_folder(self.out.parent)
        self.remove()

    def published(self) -> dict[str, Any] | None:
        """The facts of a table that an earlier process moved to its place before it was killed; None if none did."""
        if not self._joined.is_file() or self.table.exists() or not self.out.exists():
            return None
        found = json.loads(self._joined.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None

    def forget_unfinished(self) -> None:
        """Remove a table that was joined and not published, and a plan without a finished part."""
        if not any(self.path.glob("*.rows")):
            self._plan.unlink(missing_ok=True)
        self._joined.unlink(missing_ok=True)
        if self.table.is_dir():
            shutil.rmtree(self.table)
        else:
            self.table.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything but the lock, which goes at its end; the record of the table is the last to go."""
        for file in sorted(self.path.iterdir(), key=lambda file: file.name == _JOINED):
            if file.name != _LOCK:
                file.unlink(missing_ok=True)


def refuse_taken(folder: PartsFolder) -> None:
    """Raise an error if the table exists already.

    Raises:
        UsageError: it does.
    """
    if os.path.lexists(folder.out):
        raise UsageError(
            "this exists already, and visus overwrites no table. Remove it, or name another one.", where=str(folder.out)
        )
