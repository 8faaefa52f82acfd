"""What the scripts of this folder share: the machine, means with intervals, ratios of what was measured side by side, weights of two runs, and results
on disk."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from visus.networks.machine import describe

# Student's t, 97.5 %: degrees of freedom 1 to 30; above, the normal distribution's 1.96 is near enough.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval (Student's t), and the spread of the ``num`` values that it is of."""

    mean: float
    low: float
    high: float
    smallest: float
    largest: float
    num: int

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of independent values; without an interval (not a number) where there is only one.

    >>> found = mean_of([1.0, 2.0, 3.0])
    >>> found.mean, round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    mean, half = statistics.fmean(values), math.nan
    if len(values) > 1:
        freedom = len(values) - 1
        half = (_T[freedom - 1] if freedom <= len(_T) else 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return Mean(mean, mean - half, mean + half, min(values), max(values), len(values))


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> Mean:
    """The ratio of times that were measured in pairs: the geometric mean of the pairs' ratios, its interval by Student's t on their logarithms.

    >>> found = ratio_of([2.0, 4.0], [1.0, 2.0])
    >>> found.mean, found.low, found.high
    (2.0, 2.0, 2.0)
    """
    ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
    logs = mean_of([math.log(ratio) for ratio in ratios])
    return Mean(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), min(ratios), max(ratios), len(ratios))


def same_weights(first: Path, second: Path) -> bool:
    """Whether best and last weights of two runs are equal bit for bit."""
    for name in ("best", "last"):
        one, two = (safetensors.torch.load_file(run / "weights" / f"{name}.safetensors") for run in (first, second))
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            return False
    return True


def machine_facts(threads: int | None = None) -> dict[str, Any]:
    """Versions, processor and cores, as every result tells them."""
    machine = describe()
    return {
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "features": machine["features"],
        "cores": machine["cores"],
        "threads": threads or machine["threads"],
        "cuda": machine["cuda"],
    }


def command_line() -> str:
    """What was typed, with folders left out of the paths."""
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    return " ".join(["python", f"benchmarks/{words[0]}", *words[1:]])


def write_result(path: Path | None, table: dict[str, Any]) -> None:
    """Put a result on disk, where a path was given; a number that is none becomes null."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_plain(table), indent=2) + "\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
