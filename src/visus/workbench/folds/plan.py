"""What a cross-validation was asked for, and what it needs to go on after a kill: ``folds.json`` and ``folds.csv`` of its folder."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus import __version__
from visus.caller import for_caller
from visus.data.absent_classes import AbsentClasses
from visus.data.folds import APART, assign_folds, folds_of, read_folds_csv, write_folds_csv
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.data.samples import UNASSIGNED
from visus.data.splits import FoldRows, SplitRow
from visus.design import Design
from visus.errors import DataError, RunError, UsageError
from visus.files import text_or_file, write_json
from visus.networks.own_code import copied
from visus.progress import Monitor
from visus.training.recipe import Recipe
from visus.training.run_files import FOLDS_FILE
from visus.units import write_number_of
from visus.workbench.callable_names import is_callable_name
from visus.workbench.modules import Network
from visus.workbench.running_command import running_command

ASSIGNMENT: Final = "folds.csv"
_OF_DATA: Final = ("labels", "max_unreadable", "is_varied", "short_side_px", "note", "typed", "val_fraction")
"""Fields of ``Data`` that are kept as they are."""


@dataclass(frozen=True, eq=False)
class FoldsPlan:
    """A cross-validation before its first step.

    Args:
        num_folds: number of folds.
        seed: seed of the folds and of their validation sets.
        recipe: the recipe that was asked for.
        network: the network as text; None for the default.
        module: the network, where it is a Python object.
        pretrained, weights: as for ``visus.train``.
        command: the command line; empty if Python was called.
        num_validation: number of samples in the validation set that the data defines; the folds have them too.
    """

    num_folds: int
    seed: int
    recipe: Recipe
    network: str | None
    module: Any = None
    pretrained: bool | None = None
    weights: str | None = None
    command: str = ""
    num_validation: int = 0

    @classmethod
    def of(
        cls,
        data: Data,
        num_folds: int,
        network: Network | None,
        recipe: Recipe,
        pretrained: bool | None,
        weights: str | Path | None,
    ) -> FoldsPlan:
        """The plan for what was asked."""
        text: str | None = None
        if isinstance(network, Design):
            text = network.text
        elif isinstance(network, str):
            text = network.strip() if is_callable_name(network) else text_or_file(network).strip()
        return cls(
            num_folds,
            data.split_seed or 0,
            recipe,
            text,
            None if network is None or text is not None else network,
            pretrained,
            None if weights is None else str(Path(weights).resolve()),
            running_command().line,
            int((data.table.splits == "val").sum()) if _defines(data, "val") else 0,
        )

    def fold_network(self, first: Path) -> Network | None:
        """The network of a fold; a copy of an object. Where a time limit chose that of the first fold, the others have it too.

        Args:
            first: the folder of the first fold.
        """
        if self.module is not None:
            return copied(self.module)
        has_chosen = self.network is None and self.recipe.time_limit_s is not None and (first / "design.txt").is_file()
        if has_chosen and self.weights is None and not (first / "start.json").is_file():
            return (first / "design.txt").read_text(encoding="utf-8").strip()
        return self.network

    def assign(self, data: Data) -> NDArray[np.int64]:
        """The fold of each sample of ``data.table``; 0 for the test set, where there is one, and for samples that are left out.

        Raises:
            UsageError, DataError: the folds cannot be made.
        """
        return assign_folds(data.table, _is_apart(data), self.num_folds, self.seed)

    def notes(self, data: Data, folds: NDArray[np.int64]) -> tuple[str, ...]:
        """What becomes of the samples, in sentences."""
        num_in = int((folds != APART).sum())
        num_apart = int((folds == APART).sum())
        first = (
            f"{write_number_of(num_in, data.noun)} in {self.num_folds} folds. Each fold is predicted by a network that is trained on the others, of which a "
            "part is its validation set and chooses the weights that are kept."
        )
        own = (
            f"the validation set that the data defines ({write_number_of(self.num_validation, data.noun)}) is in the folds too: each fold has a "
            "validation set of its own."
        )
        second = (
            f"{write_number_of(num_apart, data.noun)} of the test set are in no fold: the mean of the {self.num_folds} networks is scored on them once, "
            "at the end."
            if num_apart
            else f"every {data.noun} is in a fold, since no test set was asked for."
        )
        return first, *([own] if self.num_validation else []), second

    def write(self, folder: Path, data: Data, folds: NDArray[np.int64]) -> None:
        """Write ``folds.csv``, and then ``folds.json``, with which the folder is that of a cross-validation."""
        write_folds_csv(data.table, folds, folder / ASSIGNMENT)
        facts = {
            "version": __version__,
            "num_folds": self.num_folds,
            "seed": self.seed,
            "network": self.network,
            "is_object": self.module is not None,
            "pretrained": self.pretrained,
            "weights": self.weights,
            "recipe": self.recipe.to_yaml(),
            "command": self.command,
            "num_validation": self.num_validation,
            "data": {
                "path": None if data.given is None else str(data.given),
                "reading": data.reading.to_json(),
                "fingerprint": data.fingerprint,
                "preprocessing": data.preprocessing.to_dict(),
                "notes": list(data.samples.notes),
                "warnings": list(data.samples.warnings),
                **{name: getattr(data, name) for name in _OF_DATA},
            },
        }
        write_json(folder / FOLDS_FILE, facts)

    @classmethod
    def read(cls, folder: Path, network: Network | None = None) -> FoldsPlan:
        """The plan of a folder.

        Args:
            folder: the folder of the cross-validation.
            network: the module, where the network is a Python object.

        Raises:
            RunError: the file is damaged.
            UsageError: the network is a Python object that is not given, or is none and one is given.
        """
        facts = _read(folder)
        if facts["is_object"] and network is None:
            raise UsageError(
                "this cross-validation trains a Python object, which no file can make again. Give the same one, untrained: "
                f"visus.resume({str(folder)!r}, network=...).",
                where=str(folder),
            )
        if network is not None and not facts["is_object"]:
            raise UsageError("network: this cross-validation has its own network. Leave it out.", where=str(folder))
        return cls(
            facts["num_folds"],
            facts["seed"],
            Recipe.from_yaml(facts["recipe"], where=str(folder / FOLDS_FILE)),
            facts["network"],
            network,
            facts["pretrained"],
            facts["weights"],
            facts["command"],
            facts.get("num_validation", 0),
        )


def without_former_warnings(data: Data) -> Data:
    """Data without the warnings about a split that the folds replace: the validation set, and a test set that is not apart."""
    replaced = ("val",) if _has_test_set(data) else ("val", "test")
    kept = tuple(
        each for each in data.samples.warnings if not (isinstance(each, AbsentClasses) and each.of_split in replaced)
    )
    return dataclasses.replace(data, samples=dataclasses.replace(data.samples, warnings=kept))


def reopen(
    folder: Path, place: str | Path | None, cache_dir: str | Path | None, num_workers: int, monitor: Monitor
) -> tuple[Data, NDArray[np.int64]]:
    """The data of a cross-validation, as it was when it began, and the fold of each sample.

    Args:
        folder: its folder.
        place: new path of the data, which is saved; None for the known one.
        cache_dir, num_workers: as for ``visus.open_data``.
        monitor: receives the progress.

    Raises:
        DataError: the data is missing or has changed.
        RunError: a file is damaged.
    """
    all_facts = _read(folder)
    facts, rows = all_facts["data"], read_folds_csv(folder / ASSIGNMENT)
    path = facts["path"] if place is None else str(Path(place).resolve())
    if path is not None and not os.path.exists(path):
        quoted = shlex.quote(str(folder))
        call = for_caller(f"visus train NEWPATH --resume {quoted}", f"visus.resume({str(folder)!r}, new_path)")
        raise DataError(
            f"the data of this cross-validation is no longer there. If it was moved, name its new place: {call}", where=path
        )
    # Any split will do, since each fold has its own: here the first fold is tested on.
    splits = {APART: "val", 1: "test"}
    split = FoldRows(SplitRow(row.sample, row.label, splits.get(row.fold, "train"), row.group) for row in rows)
    try:
        data = open_data(
            path,
            preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
            labels=facts["labels"],
            split=split,
            max_unreadable=facts["max_unreadable"],
            cache_dir=cache_dir,
            num_workers=num_workers,
            **Reading.from_json(facts["reading"]).to_json(),
            **monitor.keywords,
        )
    except DataError as error:
        raise _changed(path, str(error)) from error
    if data.fingerprint != facts["fingerprint"]:
        raise _changed(path, "its samples, labels or contents are others now")
    if place is not None and path != facts["path"]:
        write_json(folder / FOLDS_FILE, all_facts | {"data": facts | {"path": path}})
    samples = dataclasses.replace(data.samples, notes=tuple(facts["notes"]), warnings=tuple(facts["warnings"]))
    kept = {name: facts[name] for name in _OF_DATA if name != "labels"}
    return dataclasses.replace(data, samples=samples, **kept), folds_of(data.table, rows)


def _changed(path: str | None, found: str) -> DataError:
    return DataError(
        f"this data has changed since the cross-validation began, so its folds no longer fit ({found.rstrip('.')}). Put the data back, or "
        "train the folds again.",
        where=str(path),
    )


def _is_apart(data: Data) -> NDArray[np.bool_]:
    """Whether each sample is in no fold: those of a test set that the data or an option defines, and those that are left out."""
    table = data.table
    found: NDArray[np.bool_] = ((table.splits == "test") & _has_test_set(data)) | (table.splits == UNASSIGNED)
    return found


def _has_test_set(data: Data) -> bool:
    """Whether the data or an option defines a test set, which is in no fold."""
    return _defines(data, "test") or bool(data.test_fraction)


def _defines(data: Data, split: str) -> bool:
    """Whether the data, or the split of an earlier run, defines this split."""
    return split in data.table.official or data.split_seed is None


def _read(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FOLDS_FILE).read_text(encoding="utf-8"))
        if not {"num_folds", "data", "recipe", "is_object"} <= facts.keys():
            raise ValueError("a field is missing")
        return facts
    except (OSError, ValueError) as error:
        raise RunError(
            f"{FOLDS_FILE} is missing or damaged. Put it back, or train the folds again.", where=str(folder)
        ) from error
