"""Runs compared on the same samples: what each of them reaches, and how two of them differ sample by sample."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.evaluation.calibration import UNCALIBRATED, Calibrator
from visus.evaluation.paired import Paired
from visus.evaluation.scores import Scores
from visus.evaluation.shifts import ShiftFigures
from visus.units import Described, write_count, write_number_of, write_share, write_split


@dataclass(frozen=True)
class Contender:
    """One of the compared runs.

    Args:
        name: of its run.
        kind: ``network``; a key of ``design.mlp_equivalents.KINDS`` for a perceptron; or what was changed in the first design, in words.
        is_shuffled: whether it was trained, and is scored, on shuffled positions.
        folder: its run folder.
        num_parameters, macs: its parameters, and its multiply-adds for one sample.
        seconds: duration of its training.
        scores: on the compared samples.
        history: a row for each epoch of its ``results.csv``.
        shifts: how its answers change when the samples move round a ring; None where that was not asked for.
        calibrator: what makes probabilities of its outputs.
    """

    name: str
    kind: str
    is_shuffled: bool
    folder: Path
    num_parameters: int
    macs: int
    seconds: float
    scores: Scores
    history: tuple[dict[str, float], ...]
    shifts: ShiftFigures | None = None
    calibrator: Calibrator = UNCALIBRATED

    def to_json(self) -> dict[str, Any]:
        """The contender as plain data."""
        named = ("name", "kind", "is_shuffled", "num_parameters", "macs", "seconds")
        facts = {name: getattr(self, name) for name in named}
        return {
            **facts,
            **dataclasses.asdict(self.calibrator),
            "folder": str(self.folder),
            "scores": self.scores.to_json(),
            "history": [dict(row) for row in self.history],
            "shifts": self.shifts.to_json() if self.shifts else None,
        }


@dataclass(frozen=True)
class RunPair:
    """Two of the contenders, by name, and how their answers differ."""

    left: str
    right: str
    answers: Paired

    def sentence(self, noun: str = "sample") -> str:
        """The difference as one sentence for people."""
        return self.answers.sentence(self.left, self.right, noun)

    def to_json(self) -> dict[str, Any]:
        """The pair as plain data."""
        return {"left": self.left, "right": self.right, **self.answers.to_json()}


@dataclass(frozen=True, repr=False)
class Comparison(Described):
    """Runs on the same samples; the first is what the others are compared with.

    Args:
        split: which split the samples are of; ``all`` where the data was scored whole.
        noun: what a sample is called.
        contenders: the runs.
        pairs: the first run with each of the others; and each perceptron with itself on shuffled positions, where there is one.
        notes: what a reader must know.
    """

    split: str
    noun: str
    contenders: tuple[Contender, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = (
            f"Comparison on {write_number_of(self.contenders[0].scores.num_samples, self.noun)} of {write_split(self.split)}"
        )
        facts = [
            (each.name, f"{write_share(each.scores.accuracy)}, {write_count(each.num_parameters)} parameters")
            for each in self.contenders
        ]
        facts += [("difference", pair.sentence(self.noun)) for pair in self.pairs[:2]]
        facts += [("more", f"{len(self.pairs) - 2:,} in .pairs")] if len(self.pairs) > 2 else []
        return title, [*facts, ("next", ".contenders, .pairs; .to_json() gives all measures")]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "split": self.split,
            "num_samples": self.contenders[0].scores.num_samples,
            "runs": [each.to_json() for each in self.contenders],
            "pairs": [pair.to_json() for pair in self.pairs],
            "notes": list(self.notes),
        }
