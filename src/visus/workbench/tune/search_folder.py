"""The folder of a search: what was asked for, so that it can go on, and what was found so far."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visus.caller import for_caller
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.data.splits import read_split_csv, write_split_csv
from visus.errors import DataError, RunError, UsageError
from visus.files import read_text, write_csv, write_file, write_json
from visus.progress import Monitor
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.workbench.modules import OBJECT_PREFIX
from visus.workbench.tune.result import trials_rows
from visus.workbench.tune.space import Space
from visus.workbench.tune.trial import Trial

_FACTS: Final = "search.json"
_SPACE: Final = "space.yaml"
_GIVEN: Final = "recipe-given.yaml"
_SPLIT: Final = "split.csv"


@dataclass(frozen=True)
class SearchFolder:
    """The folder of a search.

    Args:
        path: its path.
    """

    path: Path

    @classmethod
    def create(cls, output: Path, name: str) -> SearchFolder:
        """Create ``output/name``, or ``name-2``, ``name-3`` ... if it exists.

        Raises:
            StorageError: the folder cannot be created.
        """
        made = RunFolder.create(output, name, {})
        (made.path / "weights").rmdir()  # a search has none
        return cls(made.path)

    @classmethod
    def open(cls, path: str | Path) -> SearchFolder:
        """An existing folder of a search.

        Raises:
            RunError: the folder is missing, or is no search.
        """
        missing = [name for name in (_FACTS, _SPACE, _GIVEN, _SPLIT) if not (Path(path) / name).is_file()]
        if missing:
            resume = for_caller("visus train --resume", "visus.resume")
            hint = f" A run is resumed with {resume}." if (Path(path) / "recipe.yaml").is_file() else ""
            raise RunError(f"this is not the folder of a search: {missing[0]} is missing.{hint}", where=str(path))
        return cls(Path(path))

    @property
    def resume_call(self) -> str:
        """The call that goes on with the search."""
        return for_caller(f"visus tune --resume {shlex.quote(str(self.path))}", f"visus.tune(resume={str(self.path)!r})")

    def write_start(self, data: Data, network: str | None, recipe: Recipe, space: Space, facts: dict[str, Any]) -> None:
        """Write what was asked for, before the first trial.

        Args:
            data: the opened data.
            network: the network as text; None for the default.
            recipe: the recipe of every trial, as given, with the number of epochs.
            space: the searched settings.
            facts: what else is needed to go on.
        """
        write_file(self.path / _SPACE, space.to_yaml())
        write_file(self.path / _GIVEN, recipe.to_yaml())
        write_split_csv(data.table, self.path / _SPLIT)
        opened = {
            "path": None if data.given is None else str(data.given),
            "labels": data.labels,
            "reading": data.reading.to_json(),
            "preprocessing": data.preprocessing.to_dict(),
            "max_unreadable": data.max_unreadable,
            "fingerprint": data.fingerprint,
            "is_varied": data.is_varied,
            "short_side_px": data.short_side_px,
        }
        write_json(self.path / _FACTS, {**facts, "network": network, "data": opened})

    def read_facts(self) -> dict[str, Any]:
        """The facts of ``write_start``.

        Raises:
            RunError: the file is damaged.
        """
        try:
            facts: dict[str, Any] = json.loads(read_text(self.path / _FACTS))
        except ValueError as error:
            raise RunError(f"{_FACTS} is damaged. Put it back, or start a new search.", where=str(self.path)) from error
        return facts

    def read_space(self) -> Space:
        """The searched settings."""
        return Space.read(self.path / _SPACE)

    def read_recipe(self) -> Recipe:
        """The recipe as given."""
        return Recipe.read(self.path / _GIVEN)

    def write_facts(self, **changes: Any) -> None:
        """Change some facts."""
        write_json(self.path / _FACTS, self.read_facts() | changes)

    def open_data(self, place: str | Path | None, cache_dir: str | Path | None, monitor: Monitor) -> Data:
        """The data of the search, in its split.

        Args:
            place: new place of the data; None for the one of the search.
            cache_dir: another folder for the decoded samples.
            monitor: receives the progress, and can cancel.

        Raises:
            DataError: the data is missing or has changed.
        """
        facts = self.read_facts()["data"]
        there = facts["path"] if place is None else place
        if there is not None and not os.path.exists(there):
            again = for_caller("visus tune NEWPATH --resume", "visus.tune(new_path, resume=...)")
            raise DataError(
                f"the data of this search is no longer there. If it was moved, name its new place: {again}.",
                where=str(there),
            )
        data = open_data(
            there,
            preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
            labels=facts["labels"],
            split=read_split_csv(self.path / _SPLIT),
            max_unreadable=facts["max_unreadable"],
            cache_dir=cache_dir,
            **Reading.from_json(facts["reading"]).to_json(),
            **monitor.keywords,
        )
        if data.fingerprint != facts["fingerprint"]:
            raise DataError(
                "this data has changed since the search began, so its trials cannot be compared. Start a new search.",
                where=str(there),
            )
        return dataclasses.replace(data, is_varied=facts["is_varied"], short_side_px=facts["short_side_px"])

    def network(self) -> str | None:
        """The network as text.

        Raises:
            UsageError: it was a Python object.
        """
        text: str | None = self.read_facts()["network"]
        if text is not None and text.startswith(OBJECT_PREFIX):
            raise UsageError(
                f"the network of this search was a Python object ({text.removeprefix(OBJECT_PREFIX).strip()}). Give the same object: "
                f"visus.tune(network=..., resume={str(self.path)!r}).",
                where=str(self.path),
            )
        return text

    def write_found(self, trials: Sequence[Trial], names: Sequence[str], best: Recipe | None) -> None:
        """Write the table of trials, and the recipe of the best one."""
        write_csv(self.path / "trials.csv", trials_rows(trials, names))
        if best is not None:
            write_file(self.path / "best.yaml", best.to_yaml())
