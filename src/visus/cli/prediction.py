"""``visus predict``: prints predictions as CSV lines or a JSON list, writes them to a table, or copies the files into folders of their labels.

It takes a run or a bundle, and imports PyTorch for a run only.
"""

from __future__ import annotations

import contextlib
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from visus.cli.show import show, warn
from visus.cli.stopping import SENTENCE, print_when_stopped
from visus.cli.streams import print_json
from visus.data.tasks import SEPARATOR
from visus.errors import UsageError, printable, refuse_with
from visus.files import csv_text
from visus.progress import OnEvent, Progress
from visus.ship.files import is_bundle
from visus.ship.manifest import MANIFEST
from visus.workbench.live_line import showing_work
from visus.workbench.runs.fold_folders import fold_folders, is_folds_folder
from visus.workbench.runs.predict_inputs import find_paths, refuse_missing
from visus.workbench.runs.prediction import Prediction
from visus.workbench.runs.predictions import Predictions
from visus.workbench.runs.sorting import refuse_folder, refuse_probability

if TYPE_CHECKING:
    from visus.workbench.ensembles import Ensemble
    from visus.workbench.runs.run import Run
    from visus.workbench.ship.bundle import Bundle


@dataclass(frozen=True)
class Computing:
    """How predictions are computed.

    Args:
        device: of a run.
        raw: of a run: the network's own probabilities.
        engine: of a bundle; None for the first that is installed.
        precision: of a bundle's arithmetic; None for float32.
        threads: of one prediction of a bundle; None for one on each core.
    """

    device: str = "auto"
    raw: bool = False
    engine: str | None = None
    precision: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Shown:
    """What is printed of a prediction.

    Args:
        top: number of classes of single labels.
        probabilities: of multi-label: also the probability of each class.
        at_least: of multi-label: the threshold of all classes; None for those of the run.
    """

    top: int = 1
    probabilities: bool = False
    at_least: float | None = None

    def refuse(self, task: str) -> None:
        """Raise an error for an option that has no effect for a task.

        Raises:
            UsageError: it needs another option or task, or the probability is not between 0 and 1.
        """
        of_classes = {"--at-least": self.at_least is not None, "--probabilities": self.probabilities}
        if task == "regression" and any(of_classes.values()):
            names = " and ".join(name for name, is_given in of_classes.items() if is_given)
            raise UsageError(f"{names}: only for classes, and this network predicts numbers (regression). Leave it out.")
        refuse_probability(self.at_least)
        if task == "multi-label":
            return
        if self.at_least is not None:
            raise UsageError("--at-least needs --sort-into. Add it, or leave --at-least out.")
        if self.probabilities:
            raise UsageError("--probabilities needs --out. Add it, or leave this out.")


def members_among(run: Path, files: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The networks that are named, and the files: runs and bundles right after the first one are averaged with it.

    Raises:
        UsageError: only networks are named.
    """
    count = next((place for place, name in enumerate(files) if not _is_network(Path(name))), len(files))
    if files and count == len(files):
        raise UsageError(
            f"no file is named: {', '.join(map(str, (run, *files)))} are runs or bundles, whose answers are averaged. Name the files behind them."
        )
    return [run, *map(Path, files[:count])], list(files[count:])


def _is_network(path: Path) -> bool:
    """Whether a path is a run, the folder of a cross-validation, or a bundle."""
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    return path.is_dir() and ((path / "recipe.yaml").is_file() or is_folds_folder(path) or is_bundle(path))


def _opened(paths: Sequence[Path], files: Sequence[str], how: Computing) -> tuple[Run | Bundle | Ensemble, dict[str, Any]]:
    """The network or networks at these paths, with the keywords that only runs take; files that do not exist are refused before they are loaded.

    Raises:
        RunError: a run cannot be opened.
        BundleError: a bundle cannot be opened.
        DataError: none of the files exists.
        UsageError: an option for runs is given with a bundle, or one for bundles with a run, or the networks cannot be averaged.
    """
    has_bundles = any(map(is_bundle, paths))
    has_runs = not all(map(is_bundle, paths))
    if has_bundles:
        has_device = how.device != "auto" and not has_runs
        refuse_with("a bundle", {"--raw": how.raw, "--device": how.device if has_device else None})
    if has_runs:
        from visus.training.runs import RunFolder

        for path in paths:
            if not is_bundle(path) and not is_folds_folder(path):
                RunFolder.open(path)
    if not has_bundles:
        refuse_with("a run", {"--engine": how.engine, "--precision": how.precision, "--threads": how.threads})
    refuse_missing(files)
    found = [_open(path, how) for each in paths for path in (fold_folders(each) if is_folds_folder(each) else [each])]
    keywords = {} if has_bundles else {"raw": how.raw}
    if len(found) == 1:
        return found[0], keywords
    from visus.workbench.ensembles import ensemble

    return ensemble(found), keywords


def _open(path: Path, how: Computing) -> Run | Bundle:
    if is_bundle(path):
        from visus.workbench.ship.bundle import open_bundle

        return open_bundle(path, engine=how.engine or "", precision=how.precision or "", threads=how.threads)
    from visus.workbench.runs.run import load

    return load(path, device=how.device)


def _stage(paths: Sequence[Path]) -> str:
    """What is done first."""
    if len(paths) > 1 or is_folds_folder(paths[0]):
        return "opening the runs"
    return f"opening the {'bundle' if is_bundle(paths[0]) else 'run'}"


def predict_and_print(
    runs: Sequence[Path], files: Sequence[str], shown: Shown, how: Computing, *, as_json: bool, quiet: bool
) -> int:
    """Print a prediction for every sample; unreadable samples go to stderr.

    Returns: The exit code: 1 if any sample could not be read, else 0.

    Raises:
        RunError: the run cannot be opened.
        DataError: none of the files exists.
        UsageError: an option has no effect for this network.
    """
    data = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as live:
        # stdout is for the result; what a person's own module prints is none
        on_event = live.enter_context(showing_work(_stage(runs), quiet=quiet))
        opened, keywords = _opened(runs, files, how)
        predictions = opened.predict(files, top=shown.top, on_event=on_event, **keywords)
        shown.refuse(predictions.task)
        num_unread = _print(predictions, shown, data, live, as_json=as_json)
    if not quiet:
        warn(tuple(predictions.sentences()), "")
    return 1 if num_unread else 0


def sort_and_print(
    runs: Sequence[Path],
    files: Sequence[str],
    folder: Path,
    at_least: float | None,
    how: Computing,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Copy each file into a folder of its label, and print the counts; unreadable files go to stderr too.

    Returns: The exit code: 1 if any file could not be read, else 0.

    Raises:
        RunError: the run cannot be opened.
        DataError: none of the files exists.
        UsageError: the folder or the probability cannot be used.
        StorageError: a copy cannot be written.
    """
    refuse_probability(at_least)
    refuse_folder(folder, [path for name in files for path in find_paths(Path(name))])
    with contextlib.redirect_stdout(sys.stderr), showing_work(_stage(runs), quiet=quiet) as on_event:
        opened, keywords = _opened(runs, files, how)
        predictions = opened.predict(files, on_event=on_event, **keywords)
        found = predictions.sort_into(folder, at_least)
    for answer in found.failed:
        sys.stderr.write(f"error: {printable(answer.file)}: {answer.error}\n")
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
    if not quiet:
        warn(tuple(predictions.sentences()), "")
    return 1 if found.failed else 0


def predict_to_and_print(
    runs: Sequence[Path],
    files: Sequence[str],
    out: Path,
    columns: dict[str, Any],
    how: Computing,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write the predictions to a table, and print the number of rows of each label.

    Args:
        runs: runs and bundles; several are averaged.
        files: what is predicted.
        out: the table.
        columns: ``top``, ``probabilities`` and ``cluster`` of ``Run.predict_to``.
        how: how they are computed.
        as_json: print JSON.
        quiet: print errors only.

    Returns: The exit code: 1 if any sample could not be read, else 0.

    Raises:
        RunError: the run cannot be opened.
        DataError: none of the files exists.
        UsageError: the table exists, or its parts are of another network or other samples.
        StorageError: the disk is full.
    """
    far = _Far()
    with (
        print_when_stopped(far.sentence),
        contextlib.redirect_stdout(sys.stderr),
        showing_work(_stage(runs), quiet=quiet) as on_event,
    ):
        opened, keywords = _opened(runs, files, how)
        found = opened.predict_to(files, out, **columns, **keywords, on_event=far.before(on_event))
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
    if not quiet:
        warn(tuple(found.sentences()), "")
    return 1 if found.num_errors else 0


class _Far:
    """How far a bulk prediction is."""

    def __init__(self) -> None:
        self._last: Progress | None = None

    def before(self, next_one: OnEvent) -> OnEvent:
        """An ``on_event`` that remembers the last progress and passes every event on."""

        def remember_and_pass_on(event: object) -> None:
            if isinstance(event, Progress):
                self._last = event
            next_one(event)

        return remember_and_pass_on

    def sentence(self) -> str:
        """What Ctrl-C prints."""
        last = self._last
        if last is None or last.stage != "predicting" or not last.done:
            return SENTENCE
        return f"stopped after {last.done:,} of {last.total:,} samples. The same command continues after the last finished part."


def _print(predictions: Predictions, shown: Shown, data: TextIO, live: contextlib.ExitStack, *, as_json: bool) -> int:
    """Print the predictions as they come, and return how many samples could not be read.

    ``live`` is closed before anything is printed in a terminal, where the live line is.
    """
    num_unread = 0
    listed: list[dict[str, Any]] = []
    header = ["file", *_heads(predictions, shown), "error"]
    num_cells = len(header) - 2
    for found in predictions:
        answer = found if shown.at_least is None else found.at_least(shown.at_least)
        if (not as_json and data.isatty()) or answer.error:
            live.close()
        if answer.error:
            num_unread += 1
            sys.stderr.write(f"error: {printable(answer.file)}: {answer.error}\n")
        if as_json:
            listed.append(_as_dict(answer, shown, predictions.task))
        else:
            if header:
                data.write(csv_text([header]))
                header = []
            cells = [] if answer.error else _cells(answer, shown, predictions.task)
            data.write(csv_text([[answer.file, *(cells or [""] * num_cells), answer.error or ""]]))
    live.close()
    if header and not as_json:
        data.write(csv_text([header]))
    if as_json:
        print_json(listed, data)
    return num_unread


def _heads(predictions: Predictions, shown: Shown) -> list[str]:
    """The columns between the file and the error."""
    if predictions.task == "regression":
        return [head for name in predictions.classes for head in (name, f"{name}_low", f"{name}_high")]
    if predictions.task == "multi-label":
        every = [f"probability:{name}" for name in predictions.classes] if shown.probabilities else []
        return ["labels", "probabilities", *every]
    return [name for rank in range(1, shown.top + 1) for name in _columns(rank)]


def _cells(answer: Prediction, shown: Shown, task: str) -> list[str]:
    """The cells of these columns."""
    if task == "regression":
        return [
            "" if value is None else f"{value:.9g}" for each in answer.numbers for value in (each.value, each.low, each.high)
        ]
    if task == "multi-label":
        every = [f"{share:.6f}" for share in answer.class_probabilities.values()] if shown.probabilities else []
        return [SEPARATOR.join(answer.labels), SEPARATOR.join(f"{share:.6f}" for share in answer.probabilities), *every]
    pairs = zip(answer.labels, answer.probabilities, strict=True)
    return [cell for label, share in pairs for cell in (label, f"{share:.6f}")]


def _columns(rank: int) -> tuple[str, str]:
    return ("label", "probability") if rank == 1 else (f"label_{rank}", f"probability_{rank}")


def _as_dict(answer: Prediction, shown: Shown, task: str) -> dict[str, Any]:
    if task != "single-label":
        every = {"class_probabilities": dict(answer.class_probabilities)} if shown.probabilities else {}
        return {"file": answer.file, **answer.facts(task), **every, "error": answer.error}
    facts: dict[str, Any] = {
        "file": answer.file,
        "label": answer.label,
        "probability": None if answer.error else answer.probability,
        "error": answer.error,
    }
    if shown.top > 1:
        facts["top"] = [
            {"label": label, "probability": share} for label, share in zip(answer.labels, answer.probabilities, strict=True)
        ]
    return facts
