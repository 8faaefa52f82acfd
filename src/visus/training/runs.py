"""The run folder. Each file that a training writes there is listed in ``training.run_files``, and written atomically."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from visus.caller import for_caller, resume_call
from visus.errors import RunError, StorageError, closest_name, printable
from visus.files import remove_parts, write_csv, write_file, write_json
from visus.networks import weights
from visus.training.run_files import FOLDS_FILE, is_run_file

_MAX_NAME_BYTES = 200  # file systems allow 255, and a number may follow
RESULT_COLUMNS = (
    "epoch",
    "img_size",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_score",
    "learning_rate",
    "elapsed_seconds",
    "samples_per_second",
)
_FORMER_COLUMNS = {"seconds": "elapsed_seconds"}


def current_columns(row: Mapping[str, float]) -> dict[str, float]:
    """A row of ``results.csv`` with the names of its columns as they are now; runs of before have former names.

    >>> current_columns({"epoch": 1.0, "seconds": 20.0})
    {'epoch': 1.0, 'elapsed_seconds': 20.0}
    """
    named = {_FORMER_COLUMNS.get(name, name): value for name, value in row.items()}
    if "val_accuracy" in named:
        named.setdefault("val_score", named["val_accuracy"])
    return named


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: path of the folder.
        metadata: texts in the header of the weights files: classes, design, input shape and preprocessing.
        is_ours: whether this process writes here; if another one does, all writes do nothing.
    """

    path: Path
    metadata: dict[str, str]
    is_ours: bool = True

    @classmethod
    def create(cls, root: Path, name: str, metadata: dict[str, str]) -> RunFolder:
        """Create the folder ``root/name``, or ``name-2``, ``name-3`` ... if it exists; no folder is ever overwritten.

        Several processes may create folders of the same name at once; each gets its own.

        Raises:
            StorageError: the folder cannot be created.
        """
        path = new_folder(root, name)
        try:
            (path / "weights").mkdir()
            (path / "checkpoint").mkdir()
        except OSError as error:
            raise _not_created(path, error) from error
        return cls(path, metadata)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder; ``path`` may also be a file or folder in it, or a file of any name in its folder of weights.

        Raises:
            RunError: there is no such folder, it is not a run, or a file is missing.
        """
        path = _enclosing_run(path)
        if (path / "bundle.json").is_file() or (path.suffix.lower() == ".zip" and path.is_file()):
            kind = "a bundle" if path.is_dir() else "a zip file, as bundles are"
            remedy = for_caller(
                "Give the run that it was exported from.",
                f"Write visus.open_bundle({str(path)!r}), or give the run that it was exported from.",
            )
            raise RunError(f"this is {kind}, and a run folder is needed. {remedy}", where=str(path))
        if not path.is_dir():
            raise RunError(f"there is no such run folder.{_runs_hint(path)}", where=str(path))
        needed = ("recipe.yaml", "design.txt", "classes.txt", "split.csv", "data.json")
        missing = [name for name in needed if not (path / name).is_file()]
        if (path / FOLDS_FILE).is_file():
            raise RunError(
                f"this is a cross-validation, with a run for each fold in fold1, fold2 and so on. Give one of these"
                f"{for_caller('; visus predict takes all', f', or all together: visus.ensemble({str(path)!r})')}.",
                where=str(path),
            )
        if len(missing) == len(needed):
            raise RunError(f"this is not a run folder of visus: it has no {needed[0]}.{_runs_hint(path)}", where=str(path))
        if missing:
            raise RunError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing from this run folder. "
                f"Put {'it' if len(missing) == 1 else 'them'} back, or train again with {_train()}.",
                where=str(path),
            )
        return cls(path, {})

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def is_unfinished(self) -> bool:
        """Whether the training was stopped before its end, and can be resumed."""
        is_scored = any((self.path / name).is_file() for name in ("scores.json", "report.html"))
        return not is_scored and self.checkpoint.is_file()

    def weights_file(self, name: str = "best") -> Path:
        """Path of the weights ``best`` or ``last``.

        Raises:
            RunError: the file is missing.
        """
        file = self.path / "weights" / f"{name}.safetensors"
        if not file.is_file():
            hint = (
                f"Continue the training: {resume_call(self.path)}"
                if self.checkpoint.is_file()
                else f"Train again with {_train()}."
            )
            raise RunError(
                f"the weights weights/{name}.safetensors are missing from this run folder. {hint}", where=str(self.path)
            )
        return file

    def write_weights(self, name: str, module: nn.Module) -> None:
        """Write a network's weights and the metadata to ``weights/<name>.safetensors``."""
        if not self.is_ours:
            return
        weights.save(module, self.path / "weights" / f"{name}.safetensors", self.metadata)

    def write_results(self, history: Sequence[dict[str, float]]) -> None:
        """Write all finished epochs to ``results.csv``."""
        self.write_table(
            "results.csv",
            RESULT_COLUMNS,
            [[f"{row[column]:.{10 if column == 'epoch' else 6}g}" for column in RESULT_COLUMNS] for row in history],
        )

    def read_results(self) -> tuple[dict[str, float], ...]:
        """Read all finished epochs from ``results.csv``, with six significant digits.

        A finished run that kept trained weights as they are, without an epoch, has neither this file nor ``curves.png``; nor has one that was stopped in its
        first epoch.

        Raises:
            RunError: the file is missing or damaged.
        """
        has_epochs = any((self.path / name).exists() for name in ("results.csv", "curves.png"))
        if not has_epochs and self.is_unfinished:
            return ()
        if not has_epochs and all((self.path / name).is_file() for name in ("scores.json", "start.json")):
            return ()
        rows = csv.DictReader(io.StringIO(self.read_text("results.csv")))
        try:
            return tuple(current_columns({name: float(value) for name, value in row.items()}) for row in rows)
        except (TypeError, ValueError) as error:
            raise RunError(
                f"results.csv is damaged. Put it back, or train again with {_train()}.", where=str(self.path)
            ) from error

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a CSV file to the folder. The rows need not fit into memory."""
        if self.is_ours:
            write_csv(self._listed(name), itertools.chain([columns], rows))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file to the folder."""
        if self.is_ours:
            write_file(self._listed(name), text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file to the folder."""
        if self.is_ours:
            write_file(self._listed(name), content)

    def write_arrays(self, name: str, **arrays: npt.NDArray[Any]) -> None:
        """Write an npz file of arrays to the folder."""
        if self.is_ours:
            content = io.BytesIO()
            np.savez(content, **arrays)  # type: ignore[arg-type]  # NumPy types its own keywords as if they were among these
            self.write_bytes(name, content.getvalue())

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file to the folder."""
        if self.is_ours:
            write_json(self._listed(name), value)

    def _listed(self, name: str) -> Path:
        """Path of a file that ``run_files`` lists."""
        assert is_run_file(name), f"{name} is not listed in training.run_files"
        return self.path / name

    def read_text(self, name: str) -> str:
        """Read a text file of the folder.

        Raises:
            RunError: the file is missing or cannot be read.
        """
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise RunError(
                f"{name} is missing or unreadable. Put it back, or train again with {_train()}.", where=str(self.path)
            ) from error

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the folder.

        Raises:
            RunError: the file is missing or damaged.
        """
        try:
            return json.loads(self.read_text(name))
        except ValueError as error:
            raise RunError(
                f"{name} is damaged. Put it back, or train again with {_train()}.", where=str(self.path)
            ) from error

    def read_arrays(self, name: str, arrays: Sequence[str], remedy: str) -> list[npt.NDArray[Any]] | None:
        """Read arrays of an npz file of the folder, in the order of their names; None if there is no such file.

        Args:
            name: the file.
            arrays: the names of the arrays.
            remedy: what to do if the file is damaged, in a sentence.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / name
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as found:
                return [found[each] for each in arrays]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{name} is damaged. {remedy}", where=str(self.path)) from error

    def remove(self) -> None:
        """Remove the whole folder, if the training failed before its first step."""
        if self.is_ours:
            shutil.rmtree(self.path, ignore_errors=True)

    def remove_parts(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote."""
        for folder in (self.path, self.path / "weights", self.path / "checkpoint") if self.is_ours else ():
            remove_parts(folder)


def new_folder(root: Path, name: str) -> Path:
    """Create the folder ``root/name``, or ``name-2``, ``name-3`` ... if it exists; no folder is ever overwritten.

    Raises:
        StorageError: the folder cannot be created.
    """
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    plain = plain.encode()[:_MAX_NAME_BYTES].decode(errors="ignore").strip("-.") or "run"
    path = root / plain
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _create_free_folder(path)
    except OSError as error:
        raise _not_created(path, error) from error


def _not_created(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the run folder cannot be created: {error.strerror}. Choose another place with --output.", where=str(path)
    )


def training_seconds(history: Sequence[Mapping[str, float]]) -> float:
    """Duration of a training in seconds: the last value of the column ``elapsed_seconds``, which counts from the start.

    >>> training_seconds([{"epoch": 1, "elapsed_seconds": 20.0}, {"epoch": 2, "elapsed_seconds": 41.0}])
    41.0
    """
    return history[-1].get("elapsed_seconds", 0.0) if history else 0.0


def _create_free_folder(path: Path) -> Path:
    """Create the folder, or the first of ``-2``, ``-3`` ... that does not exist. ``mkdir`` itself is the test, so no other process can interfere."""
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            if not path.parent.is_dir():
                raise
    raise AssertionError("unreachable")


def _enclosing_run(path: Path) -> Path:
    """The run folder that contains ``path``, up to two levels above; ``path`` itself if there is none."""
    if (path / "recipe.yaml").is_file():
        return path
    for folder in path.parents[:2]:
        is_in_run = path.exists() or path.parent == folder / "weights"
        if is_in_run and is_run_folder(folder):
            return folder
    return path


def is_run_folder(path: Path) -> bool:
    """Whether a folder has the recipe and the split of a run.

    >>> is_run_folder(run.folder), is_run_folder(run.folder / "weights")
    (True, False)
    """
    return all((path / name).is_file() for name in ("recipe.yaml", "split.csv"))


def _runs_hint(path: Path) -> str:
    """A sentence that names the run that was probably meant: one of this path in ``runs``, or of a similar name; else the newest ones nearby."""
    if not path.is_absolute() and (Path("runs") / path / "recipe.yaml").is_file():
        return f" Did you mean {printable(str(Path('runs') / path))}?"
    for root in dict.fromkeys((path.parent, Path("runs"))):
        names = sorted(run.name for run in _runs_in(root))
        same = [name for name in (path.name, *names) if name in names and name.casefold() == path.name.casefold()]
        if guess := same[0] if same else closest_name(path.name, names):
            return f" Did you mean {printable(str(root / guess))}?"
    for root in dict.fromkeys((path, path.parent, Path("runs"))):
        if newest := sorted(_runs_in(root), key=os.path.getmtime, reverse=True)[:3]:
            return f" Newest runs in {root}: {', '.join(run.name for run in newest)}."
    return f" Make one with: {for_caller('visus train DATA', 'visus.train(data)')}"


def _runs_in(root: Path) -> list[Path]:
    """The run folders directly in a folder; none if it cannot be listed."""
    with contextlib.suppress(OSError):
        return [entry for entry in root.iterdir() if (entry / "recipe.yaml").is_file()]
    return []


def _train() -> str:
    """What trains a new run."""
    return for_caller("visus train", "visus.train")
