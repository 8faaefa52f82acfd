"""``visus predict``: prints predictions as CSV lines or a JSON list."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from visus.cli.show import warn
from visus.cli.streams import print_json
from visus.errors import printable
from visus.files import csv_text
from visus.workbench.runs.run import Prediction, Run, load


def predict_and_print(
    run: Path, files: Sequence[str], top: int, device: str, *, raw: bool, as_json: bool, quiet: bool
) -> int:
    """Print a prediction for every sample; unreadable samples go to stderr.

    Returns: The exit code: 1 if any sample could not be read, else 0.
    """
    data = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what a person's own module prints is no result
        return _print(load(run, device=device), files, top, data, raw=raw, as_json=as_json, quiet=quiet)


def _print(loaded: Run, files: Sequence[str], top: int, data: TextIO, *, raw: bool, as_json: bool, quiet: bool) -> int:
    num_unread = 0
    listed: list[dict[str, Any]] = []
    header = ["file", *(name for rank in range(1, top + 1) for name in _columns(rank))]
    predictions = loaded.predict(files, top=top, raw=raw)
    for answer in predictions:
        if answer.problem:
            num_unread += 1
            sys.stderr.write(f"error: {printable(answer.file)}: {answer.problem}\n")
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
            data.write(csv_text([[answer.file, *(cells or [""] * (2 * top))]]))
    if header and not as_json:
        data.write(csv_text([header]))
    if as_json:
        print_json(listed, data)
    if not quiet:
        warn(tuple(predictions.sentences()), "")
    return 1 if num_unread else 0


def _columns(rank: int) -> tuple[str, str]:
    return ("label", "probability") if rank == 1 else (f"label_{rank}", f"probability_{rank}")


def _as_dict(answer: Prediction, top: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": answer.file,
        "label": answer.label or None,
        "probability": answer.probability if answer.labels else None,
    }
    if answer.problem:
        facts["problem"] = answer.problem
    if top > 1:
        facts["top"] = [
            {"label": label, "probability": share} for label, share in zip(answer.labels, answer.probabilities, strict=True)
        ]
    return facts
