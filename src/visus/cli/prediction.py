"""``visus predict``: prints predictions as CSV lines or a JSON list, or copies the files into folders of their labels."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from visus.cli.show import show, warn
from visus.cli.streams import print_json
from visus.errors import printable
from visus.files import csv_text
from visus.training.runs import RunFolder
from visus.workbench.live_line import showing_work
from visus.workbench.runs.predict import Predictions
from visus.workbench.runs.predict_inputs import find_paths, refuse_missing
from visus.workbench.runs.run import Prediction, load
from visus.workbench.runs.sorting import refuse_folder, refuse_probability


def predict_and_print(
    run: Path, files: Sequence[str], top: int, device: str, *, raw: bool, as_json: bool, quiet: bool
) -> int:
    """Print a prediction for every sample; unreadable samples go to stderr.

    Returns: The exit code: 1 if any sample could not be read, else 0.

    Raises:
        RunError: the run cannot be opened.
        DataError: none of the files exists.
    """
    data = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as live:
        # stdout is for the result; what a person's own module prints is none
        on_event = live.enter_context(showing_work("opening the run", quiet=quiet))
        RunFolder.open(run)
        refuse_missing(files)  # before the network is loaded
        predictions = load(run, device=device).predict(files, top=top, raw=raw, on_event=on_event)
        num_unread = _print(predictions, top, data, live, as_json=as_json)
    if not quiet:
        warn(tuple(predictions.sentences()), "")
    return 1 if num_unread else 0


def sort_and_print(
    run: Path,
    files: Sequence[str],
    folder: Path,
    at_least: float | None,
    device: str,
    *,
    raw: bool,
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
    with contextlib.redirect_stdout(sys.stderr), showing_work("opening the run", quiet=quiet) as on_event:
        RunFolder.open(run)
        refuse_missing(files)  # before the network is loaded
        predictions = load(run, device=device).predict(files, raw=raw, on_event=on_event)
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


def _print(predictions: Predictions, top: int, data: TextIO, live: contextlib.ExitStack, *, as_json: bool) -> int:
    """Print the predictions as they come, and return how many samples could not be read.

    ``live`` is closed before anything is printed in a terminal, where the live line is.
    """
    num_unread = 0
    listed: list[dict[str, Any]] = []
    header = ["file", *(name for rank in range(1, top + 1) for name in _columns(rank)), "error"]
    for answer in predictions:
        if (not as_json and data.isatty()) or answer.error:
            live.close()
        if answer.error:
            num_unread += 1
            sys.stderr.write(f"error: {printable(answer.file)}: {answer.error}\n")
        if as_json:
            listed.append(_as_dict(answer, top))
        else:
            if header:
                data.write(csv_text([header]))
                header = []
            cells = [
                cell
                for pair in zip(answer.labels, answer.probabilities, strict=True)
                for cell in (pair[0], f"{pair[1]:.6f}")
            ]
            data.write(csv_text([[answer.file, *(cells or [""] * (2 * top)), answer.error or ""]]))
    live.close()
    if header and not as_json:
        data.write(csv_text([header]))
    if as_json:
        print_json(listed, data)
    return num_unread


def _columns(rank: int) -> tuple[str, str]:
    return ("label", "probability") if rank == 1 else (f"label_{rank}", f"probability_{rank}")


def _as_dict(answer: Prediction, top: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": answer.file,
        "label": answer.label,
        "probability": None if answer.error else answer.probability,
        "error": answer.error,
    }
    if top > 1:
        facts["top"] = [
            {"label": label, "probability": share} for label, share in zip(answer.labels, answer.probabilities, strict=True)
        ]
    return facts
