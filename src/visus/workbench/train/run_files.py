"""The files of a run folder: written before the first step, when a training is resumed, and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from visus import __version__
from visus.data.ledger import CSV_HEADER
from visus.data.opened import Data
from visus.data.samples import SPLITS
from visus.data.splits import write_split_csv
from visus.errors import StorageError
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.registry import task_of
from visus.networks.machine import Machine, describe
from visus.pages.card import write_card
from visus.pages.parts.confusion import draw_confusion
from visus.pages.parts.training_curves import draw_curves
from visus.pages.report.measurements import ReportMeasurements
from visus.pages.report.page import write_report
from visus.training.arithmetic import rounding_facts, rounding_warning
from visus.training.loop import TrainingLoop
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.workbench.modules import BuiltNetwork
from visus.workbench.report.measures import FinishedRun, measure_inside
from visus.workbench.report.reports import Course, report_facts
from visus.workbench.running_command import running_command
from visus.workbench.runs.learned_samples import write_known
from visus.workbench.runs.own_data import write_contents
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.preparing import num_skipped


def metadata(data: Data, made: BuiltNetwork) -> dict[str, str]:
    """The metadata in the header of the weights file: everything needed to use the weights."""
    facts = {
        "version": __version__,
        "classes": list(data.classes),
        "design": made.text.strip(),
        "preprocessing": data.preprocessing.to_dict(),
        **({} if data.task == "single-label" else {"task": task_of(data).to_json()}),
    }
    return {"visus": json.dumps(facts)}


def write_start(folder: RunFolder, data: Data, made: BuiltNetwork, recipe: ResolvedRecipe, machine: Machine) -> None:
    """Write the files that are known before the first step."""
    folder.write_text("recipe.yaml", recipe.to_yaml())
    folder.write_text("design.txt", made.text)
    folder.write_text("classes.txt", "".join(f"{name}\n" for name in data.classes))
    if folder.is_ours:
        write_split_csv(data.table, folder.path / "split.csv")
    write_known(folder, data)
    write_contents(folder, data.table)
    folder.write_json("ledger.json", data.ledger.as_dict())
    folder.write_table("ledger.csv", CSV_HEADER, data.ledger.rows())
    folder.write_json("environment.json", _environment(recipe, machine))
    facts = {
        "path": None if data.given is None else str(data.given),
        "labels": data.labels,
        "reading": data.reading.to_json(),
        "name": data.name,
        "kind": data.samples.kind,
        "fingerprint": data.fingerprint,
        "preprocessing": data.preprocessing.to_dict(),
        "num_samples": {name: len(data.split(name)) for name in SPLITS},
        "scored_split": data.scored_split,
        "split_seed": data.split_seed,
        "val_fraction": data.val_fraction,
        "test_fraction": data.test_fraction,
        "fold": None if data.fold is None else list(data.fold),
        "max_unreadable": data.max_unreadable,
        "warnings": [*data.warnings, *made.warnings],
        "network": made.asked,
        "network_reason": made.reason,
        "notes": list(data.samples.notes),
        "decoded": {"folder": str(data.store.folder), "bytes": int(data.store.pixels.nbytes)},
        "num_skipped_each_epoch": num_skipped(len(data.split("train")), recipe),
        "command": running_command().line,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    folder.write_json("data.json", facts)


def renew_environment(folder: RunFolder, recipe: ResolvedRecipe, machine: Machine) -> str:
    """Add the machine and versions of a resumed training to the earlier ones; returns a warning if the rounding will
    differ."""
    before, now = folder.read_json("environment.json"), json.loads(json.dumps(_environment(recipe, machine)))
    earlier = before.pop("earlier", [])
    if now != before:
        folder.write_json("environment.json", now | {"earlier": [*earlier, before]})
    began = [*earlier, before][0]
    return rounding_warning(began.get("rounding", {}), now["rounding"])


def _environment(recipe: ResolvedRecipe, machine: Machine) -> dict[str, Any]:
    """Machine, versions and what decides the rounding."""
    return describe() | {"machine": machine.to_dict(), "rounding": rounding_facts(machine, recipe.kernels)}


def write_end(
    folder: RunFolder,
    data: Data,
    made: BuiltNetwork,
    recipe: ResolvedRecipe,
    scores: AnyScores,
    training: TrainingLoop,
    scoring: FinishedRun,
    times: CommandTimes,
) -> tuple[ReportMeasurements, tuple[str, ...]]:
    """Write the files of the result; returns the measurements of the report, and a sentence for each file that failed, for example if matplotlib does not load.

    Raises:
        StorageError: the disk is full.
    """
    folder.write_json("scores.json", scores.to_json())
    if isinstance(scores, Scores):
        folder.write_text("confusion.csv", scores.confusion_csv())
    inside = measure_inside(scoring)
    folder.write_json("inside.json", inside.to_json())
    times.write(folder)
    course = Course.of(training.position, training.position.history, recipe.epochs)
    facts = report_facts(folder, data, made, recipe, scores, course, inside)
    write_report(folder.path / "report.html", facts)
    write_card(folder.path / "README.md", facts)
    images: dict[str, Callable[[Path], None]] = {}
    if isinstance(scores, Scores):
        images["confusion.png"] = lambda path: draw_confusion(scores, path)
    if training.position.history:  # else the head alone was fitted
        images["curves.png"] = lambda path: draw_curves(training.position.history, path)
    return inside, tuple(why for name, draw in images.items() if (why := _drawn(folder.path / name, draw)))


def _drawn(path: Path, draw: Callable[[Path], None]) -> str:
    """Draw an image; why it is missing, where it could not be drawn."""
    try:
        draw(path)
    except StorageError:
        raise
    except Exception as error:  # of matplotlib, or of its import
        return f"{path.name} is missing from the run: {type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}. All else is there."
    return ""
