"""Two decisions about answers, measured: the temperature (calibration error before and after) and mirroring on duplicated sets.

    python benchmarks/decisions_answers.py [--runs RUN ...] [--data DATA ...]

``calibration(runs)`` and ``mirroring(data)`` return tables as lists of rows, so that a larger script can join them. Runs are finished trainings with
a test split; data is anything that visus trains on. The rule for mirroring before copies were left out stands here as ``before``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import visus
from visus.data import mirrors
from visus.data.batches import Part
from visus.evaluation.predictions import probabilities
from visus.evaluation.temperature import reliability

Row = dict[str, Any]


def calibration(runs: Sequence[Path]) -> list[Row]:
    """For each run: test samples, accuracy, and the calibration error and loss of its own probabilities and of the calibrated ones."""
    rows = []
    for folder in runs:
        run = visus.load(folder, device="cpu")
        data = run.open_data()
        part = data.split(data.scored_split)
        answers, labels = run.answers(data, data.scored_split), torch.from_numpy(part.labels)
        fit = run.calibration
        own, calibrated = reliability(answers, labels), reliability(answers, labels, fit.temperature)
        rows.append(
            {
                "run": run.name,
                "scored": f"{len(part):,} {data.scored_split}",
                "accuracy": round(float((probabilities(answers).argmax(1) == labels).double().mean()), 4),
                "temperature": round(fit.temperature, 4),
                "fitted on": fit.num_samples,
                "error before": round(own.error, 4),
                "error after": round(calibrated.error, 4),
                "loss before": round(own.loss, 4),
                "loss after": round(calibrated.loss, 4),
                "reason": fit.reason,
            }
        )
    return rows


def before(part: Part, seed: int) -> bool | None:
    """The decision as it was: every other sample is a neighbor, and a share decides without an interval."""
    drawn = (
        torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[: mirrors.NUM_KNOWN].sort().values.numpy()
    )
    starts = range(0, len(drawn), mirrors.CHUNK)
    items = torch.cat([mirrors._shrunk(part.rows(drawn[start : start + mirrors.CHUNK])) for start in starts])
    labels = torch.from_numpy(part.labels[drawn])
    asked = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(seed))[: mirrors.NUM_ASKED]
    known, shares = mirrors._directions(items), []
    for turned in (items, items.flip(-1)):
        likeness = mirrors._directions(turned[asked]) @ known.T
        likeness[torch.arange(len(asked)), asked] = -2
        shares.append(float((labels[likeness.argmax(1)] == labels[asked]).double().mean()))
    chance = float(((torch.bincount(labels).double() / len(labels)) ** 2).sum())
    error = (chance * (1 - chance) / len(asked)) ** 0.5
    kept = (shares[1] - chance) / (shares[0] - chance) if shares[0] - chance > mirrors.CLEARLY * error else None
    return None if kept is None else kept >= mirrors.LEAST_KEPT


def _brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels.astype(int) + 8, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "as it is": None,
    "each twice": np.copy,
    "each with a brighter copy": _brighter,
}


def mirroring(data: Sequence[Path], most: int = 4000) -> list[Row]:
    """For each data set, as it is and with copies of its samples: the shares, the interval, and the decision before and now."""
    rows = []
    for path in data:
        opened = visus.open_data(path)
        part = opened.split("train")
        drawn = np.sort(np.random.default_rng(0).permutation(len(part))[:most])
        pixels, labels = part.rows(drawn).numpy(), part.labels[drawn]
        for name, copy in COPIES.items():
            both = pixels if copy is None else np.concatenate([pixels, copy(pixels)])
            named = labels if copy is None else np.concatenate([labels, labels])
            given = Part("train", both, np.arange(len(both)), named, ("",) * len(both))
            found = mirrors.mirror_test(given, 0)
            if found is None:
                continue
            shares = {
                "plain": found.plain,
                "mirrored": found.mirrored,
                "chance": found.chance,
                "low": found.low,
                "high": found.high,
            }
            kept = {"kept": found.kept} if found.kept is not None else {}
            decided = {"before": before(given, 0), "now": found.keeps_class}
            rows.append(
                {
                    "data": opened.short_name,
                    "copies": name,
                    **{key: round(value, 3) for key, value in (shares | kept).items()},
                    **decided,
                }
            )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=Path, nargs="*", default=[])
    options.add_argument("--data", type=Path, nargs="*", default=[])
    given = options.parse_args()
    for row in [*calibration(given.runs), *mirroring(given.data)]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
