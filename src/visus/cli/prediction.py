"""``visus predict``: answers as CSV lines or a JSON list.

This file knows how answers are written. It must not know how they are found.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visus.data.ledger import Ledger
from visus.workbench.runs import Prediction, load


def predict_and_tell(run: Path, files: Sequence[str], top: int, device: str, *, as_json: bool, quiet: bool) -> int:
    """Print an answer for every item; each unreadable one is named on stderr.

    Returns:
        The exit code: 1 where any item could not be read, else 0.
    """
    loaded = load(run, device=device)
    ledger, num_unread = Ledger(), 0
    shown = min(top, len(loaded.classes))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    listed: list[dict[str, Any]] = []
    header = ["file", *(name for rank in range(1, shown + 1) for name in _columns(rank))]
    for answer in loaded.predict(files, top=top, ledger=ledger):
        if answer.problem:
            num_unread += 1
            sys.stderr.write(f"error: {answer.file}: {answer.problem}\n")
        if as_json:
            listed.append(_as_dict(answer, top))
        else:
            if header:
                writer.writerow(header)
                header = []
            cells = [
                cell
                for pair in zip(answer.labels, answer.probabilities, strict=True)
                for cell in (pair[0], f"{pair[1]:.6f}")
            ]
            writer.writerow([answer.file, *(cells or [""] * (2 * shown))])
    if header and not as_json:
        writer.writerow(header)
    if as_json:
        print(json.dumps(listed, ensure_ascii=False))
    if not quiet:
        for sentence in ledger.sentences():
            sys.stderr.write(f"ledger: {sentence}\n")
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
