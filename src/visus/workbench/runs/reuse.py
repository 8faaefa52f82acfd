"""Counts runs with different settings that were scored on the same test samples, since the best of many is partly luck."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any, Final

from visus.errors import VisusError
from visus.training.recipe import FIELDS, Recipe
from visus.training.runs import RunFolder
from visus.units import write_number_of

MIN_SETTINGS: Final = 3
NO_CHOICE: Final = frozenset(("seed", "device", "precision", "kernels", "checkpoint_every_s"))
"""Settings that do not affect the test score. Runs that differ only in these count once."""

_EXPERIMENTS: Final = ("visus experiment ",)  # what it trains answers a question and is no candidate


def reuse_sentence(folder: Path, noun: str, num_samples: int) -> str:
    """A warning if at least three runs with different settings in one folder were scored on this run's test samples; else
    empty.

    Args:
        folder: the run folder.
        noun: word for one sample.
        num_samples: the number of readable test samples; ``split.csv`` also lists the unreadable ones.
    """
    folder = folder.resolve()  # the folder "." has no name and no neighbors
    own = _facts(folder)
    if own is None:
        return ""
    test = _test_samples(folder)
    settings = {_settings(folder, own)}
    for other in _beside(folder):
        if other.name == folder.name or not (other / "scores.json").is_file():
            continue
        with contextlib.suppress(
            VisusError, OSError, ValueError, KeyError, TypeError
        ):  # a damaged run in the same folder is no reason to fail
            facts = _facts(other)
            if facts is not None and facts["fingerprint"] == own["fingerprint"] and _test_samples(other) == test:
                settings.add(_settings(other, facts))
    if len(settings) < MIN_SETTINGS:
        return ""
    return (
        f"{len(settings):,} different settings were scored on these {write_number_of(num_samples, f'test {noun}')} so far (runs in {folder.parent}). "
        "The best of them by this figure probably looks better here than it is: choose by the validation split."
    )


def _beside(folder: Path) -> list[Path]:
    """The other folders next to a run; none if they cannot be listed."""
    try:
        return sorted(folder.parent.iterdir())
    except OSError:
        return []


def _facts(folder: Path) -> dict[str, Any] | None:
    """What ``data.json`` of a candidate says; None if the run is none: scored on validation, on shuffled positions, or an experiment."""
    if not (folder / "data.json").is_file():
        return None
    facts: dict[str, Any] = RunFolder.open(folder).read_json("data.json")
    is_candidate = (
        facts.get("scored_split") == "test"
        and facts["preprocessing"].get("shuffle_seed") is None
        and not str(facts.get("command", "")).startswith(_EXPERIMENTS)
    )
    return facts if is_candidate else None


def _test_samples(folder: Path) -> frozenset[str]:
    rows = csv.DictReader(io.StringIO(RunFolder.open(folder).read_text("split.csv"), newline=""))
    return frozenset(row["sample"] for row in rows if row["split"] == "test")


def _settings(folder: Path, facts: dict[str, Any]) -> str:
    """All that a person can have chosen, as one text."""
    run, recipe = RunFolder.open(folder), Recipe.read(folder / "recipe.yaml")
    chosen = {name: getattr(recipe, name) for name in FIELDS if name not in NO_CHOICE}
    start = run.read_json("start.json").get("source") if (folder / "start.json").is_file() else None
    return json.dumps([run.read_text("design.txt"), chosen, facts["preprocessing"], start], default=str, sort_keys=True)
