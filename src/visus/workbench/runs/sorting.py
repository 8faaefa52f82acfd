"""Predicted files, copied into a folder for each label; no file is moved, and none is overwritten."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from visus.errors import StorageError, UsageError, printable
from visus.tables import Described, Table, Text
from visus.units import write_number_of, write_share
from visus.workbench.runs.prediction import Prediction

UNSURE: Final = "unsure"
UNREADABLE: Final = "unreadable"
_ARRAYS: Final = (".npy", ".npz")
_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_REFUSED_BY_SYSTEMS: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICES: Final = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_MAX_BYTES: Final = 200  # of a folder name; systems allow 255


@dataclass(frozen=True)
class SortedFolder:
    """One folder of a sorting.

    Args:
        name: its name.
        label: the class whose files it has; None for the unsure and for the unreadable files.
        num_copied: number of files copied into it.
        num_there: number of files that it had already, with the same name and content.

    >>> SortedFolder("cat", "cat", 12).num_copied
    12
    """

    name: str
    label: str | None
    num_copied: int = 0
    num_there: int = 0


@dataclass(frozen=True, repr=False)
class SortedFiles(Described):
    """What a sorting copied.

    Args:
        folder: the folder of the copies.
        at_least: the lowest probability of a sorted file; None if there was no limit.
        folders: the folders with at least one file.
        failed: the predictions of the unreadable files.
        not_copied: the unreadable files that could not be copied either.

    >>> SortedFiles(Path("sorted"), 0.9, (SortedFolder("cat", "cat", 12, 3), SortedFolder("unsure", None, 1)))
    16 files sorted into sorted
      cat     12 copied, 3 already there
      unsure  1 copied
    """

    folder: Path
    at_least: float | None
    folders: tuple[SortedFolder, ...]
    failed: tuple[Prediction, ...] = ()
    not_copied: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [
            (each.name, f"{each.num_copied:,} copied{f', {each.num_there:,} already there' if each.num_there else ''}")
            for each in self.folders
        ]
        return self._title(), rows

    def _title(self) -> str:
        total = sum(each.num_copied + each.num_there for each in self.folders)
        return f"{write_number_of(total, 'file')} sorted into {printable(str(self.folder))}"

    def text(self) -> Text:
        """The number of files in each folder.

        >>> print(SortedFiles(Path("sorted"), None, (SortedFolder("cat", "cat", 12),)).text())
        12 files sorted into sorted: copies, the originals are where they were
        folder  copied  already there
        cat         12              0
        all         12              0
        """
        rows = [(self._name(each), f"{each.num_copied:,}", f"{each.num_there:,}") for each in self.folders]
        copied, there = (sum(getattr(each, name) for each in self.folders) for name in ("num_copied", "num_there"))
        rows.append(("all", f"{copied:,}", f"{there:,}"))
        renamed = [each for each in self.folders if each.label is not None and each.label != each.name]
        return Text(
            (
                f"{self._title()}: copies, the originals are where they were",
                Table(tuple(rows), ("folder", "copied", "already there"), (1, 2)),
                *(f"note: the class {each.label!r} is in the folder {each.name!r}" for each in renamed),
                *(f"note: not copied, since it cannot be read: {printable(file)}" for file in self.not_copied),
            )
        )

    def _name(self, each: SortedFolder) -> str:
        is_unsure = each.label is None and self.at_least is not None and each.name.startswith(UNSURE)
        return f"{each.name} (below {write_share(self.at_least or 0)})" if is_unsure else each.name

    def to_json(self) -> dict[str, Any]:
        """The sorting as plain data.

        >>> SortedFiles(Path("sorted"), 0.9, (SortedFolder("cat", "cat", 12),)).to_json()["folders"]
        [{'name': 'cat', 'label': 'cat', 'copied': 12, 'already_there': 0}]
        """
        return {
            "folder": str(self.folder),
            "at_least": self.at_least,
            "folders": [
                {"name": each.name, "label": each.label, "copied": each.num_copied, "already_there": each.num_there}
                for each in self.folders
            ],
            "unreadable": [{"file": each.file, "error": each.error} for each in self.failed],
            "not_copied": list(self.not_copied),
        }


def sort_files(
    found: Iterator[tuple[Prediction, Path | None, Path | None]],
    folder: str | Path,
    classes: Sequence[str],
    at_least: float | None,
) -> SortedFiles:
    """Copy each predicted file into ``folder``; the arguments are those of ``Predictions.sort_into``.

    Args:
        found: the predictions; each with its file, and with the folder that was given for it.
        folder: where the folders are made.
        classes: all classes of the network.
        at_least: the lowest probability of a sorted file.

    Raises:
        UsageError: the probability is not between 0 and 1, the folder cannot be used, or a sample is no file.
        StorageError: a copy cannot be written.
    """
    refuse_probability(at_least)
    root = Path(folder)
    names = folder_names([*classes, UNSURE, UNREADABLE])
    by_label = dict(zip(classes, names, strict=False))
    sorter = _Sorter(root)
    failed, not_copied = [], []
    allowed: set[Path | None] = set()
    for answer, file, given in found:
        if given not in allowed:
            refuse_folder(root, [given] if given is not None else [])
            allowed.add(given)
        if answer.error is not None:
            failed.append(answer)
            if file is None or not sorter.copy_if_readable(file, names[-1]):
                not_copied.append(answer.file)
            continue
        if file is None:
            raise UsageError(_NO_FILE, where=answer.file)
        is_sure = at_least is None or answer.probability >= at_least
        if not sorter.copy_if_readable(file, by_label[str(answer.label)] if is_sure else names[-2]):
            not_copied.append(answer.file)  # it vanished after it was predicted
    labels: list[str | None] = [*classes, None, None]
    folders = [
        SortedFolder(name, label, sorter.copied.get(name, 0), sorter.there.get(name, 0))
        for name, label in zip(names, labels, strict=True)
        if name in sorter.copied or name in sorter.there
    ]
    return SortedFiles(root, at_least, tuple(folders), tuple(failed), tuple(not_copied))


_NO_FILE: Final = "this is a row of an array, and only files can be sorted into folders. Give the files of the images."


def refuse_probability(at_least: float | None) -> None:
    """Raise an error for a limit that is no probability.

    Raises:
        UsageError: it is below 0 or above 1.
    """
    if at_least is not None and not 0 <= at_least <= 1:
        percent = f" For {at_least:g} %, write {at_least / 100:g}." if 1 < at_least <= 100 else ""
        raise UsageError(f"the lowest probability must be between 0 and 1, not {at_least:g}.{percent}")


def refuse_folder(folder: Path, sources: Iterable[Path]) -> None:
    """Raise an error where copies would lie among the files that are predicted, or where files cannot be copied.

    Args:
        folder: the folder of the copies.
        sources: the files and folders that are predicted.

    Raises:
        UsageError: the folder is a file, or lies within a folder that is predicted; or a source is an array or an archive.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError("this is a file, and a folder for the copies is needed. Name another one.", where=str(folder))
    place = folder.resolve()
    for source in sources:
        if source.is_dir() and (source.resolve() == place or source.resolve() in place.parents):
            raise UsageError(
                f"this folder is within {printable(str(source))}, whose files are sorted: the next prediction would read the copies too. "
                f"Name a folder outside of it, such as {shlex.quote(str(_beside(source)))}.",
                where=str(folder),
            )
        suffix = source.suffix.lower()
        if suffix in _ARRAYS and not source.is_dir():
            raise UsageError(
                "only files of images can be sorted into folders, and this is an array file.", where=str(source)
            )
        if suffix in _ARCHIVES and not source.is_dir():
            raise UsageError("this is an archive. Unpack it, and give the folder.", where=str(source))


def _beside(source: Path) -> Path:
    """A folder that lies beside another one."""
    is_plain = source.name not in ("", "..")
    return source.with_name(f"{source.name}-sorted") if is_plain else source.resolve().with_name("sorted")


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder name for each name: one that every system allows, and that no earlier name has, also without regard to case.

    >>> folder_names(["cat", "Cat", "n/a", "con", "etc.", "unsure", "unsure"])
    ['cat', 'Cat (2)', 'n_a', 'con_', 'etc_', 'unsure', 'unsure (2)']
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        allowed = _allowed(name)
        ways = (allowed, *(f"{allowed} ({number})" for number in range(2, len(names) + 2)))
        chosen = next(way for way in ways if way.casefold() not in taken)
        taken.add(chosen.casefold())
        found.append(chosen)
    return found


def _allowed(name: str) -> str:
    allowed = _REFUSED_BY_SYSTEMS.sub("_", name)
    while len(os.fsencode(allowed)) > _MAX_BYTES:
        allowed = allowed[:-1]
    if allowed.endswith((".", " ")) or not allowed:
        allowed = f"{allowed[:-1]}_"
    return f"{allowed}_" if allowed.partition(".")[0].casefold() in _DEVICES else allowed


@dataclass
class _Sorter:
    """Copies files into the folders of ``root``, and counts them."""

    root: Path
    copied: dict[str, int] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)
    _numbers: dict[Path, int] = field(default_factory=dict)

    def copy(self, file: Path, name: str) -> None:
        """Copy a file into the folder ``name``, under its name or under a numbered one.

        Raises:
            StorageError: it cannot be written.
        """
        counts = self.copied if self._is_new(file, self.root / name) else self.there
        counts[name] = counts.get(name, 0) + 1

    def copy_if_readable(self, file: Path, name: str) -> bool:
        """Copy a file as ``copy`` does; False if it is not there or cannot be opened."""
        if not file.is_file() or not os.access(file, os.R_OK):
            return False
        self.copy(file, name)
        return True

    def _is_new(self, file: Path, folder: Path) -> bool:
        """Whether a file was copied; False where its content is there already, under its name or a numbered one.

        The search begins with the last number of this sorting, so many files with one name take no long.
        """
        wanted = folder / file.name
        for number in count(self._numbers.get(wanted, 1)):
            target = wanted if number == 1 else wanted.with_name(f"{file.stem} ({number}){file.suffix}")
            self._numbers[wanted] = number
            try:
                if not os.path.lexists(target):
                    folder.mkdir(parents=True, exist_ok=True)
                    _copy(file, target)
                    return True
                if target.is_file() and filecmp.cmp(file, target, shallow=False):
                    return False
            except FileExistsError:
                continue  # another process took the name
            except OSError as error:
                raise StorageError(
                    f"this copy of {printable(str(file))} could not be written: {error.strerror or error}. Free some space or "
                    "choose another folder; files that were copied are not copied again.",
                    where=str(target),
                ) from error
        raise AssertionError("numbers do not end")


def _copy(file: Path, target: Path) -> None:
    """Copy a file to a place where there is none; nothing is left there if that fails."""
    with open(file, "rb") as source, open(target, "xb") as copy:
        try:
            shutil.copyfileobj(source, copy)
        except BaseException:
            copy.close()
            target.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # some systems keep no times
        shutil.copystat(file, target)
