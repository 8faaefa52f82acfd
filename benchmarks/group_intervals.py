"""How often the 95 % interval over groups holds the true value, by the number of groups, in simulations whose truth is known.

    python benchmarks/group_intervals.py [--trials 500] [--samples 20] [--groups 2 3 4 5 8 10 15 20] [--output FILE.json]

Each trial draws groups, such as patients, and ``--samples`` samples of each:

- accuracy: the accuracy of a group is drawn from a beta distribution with the mean 0.8 or 0.9 and a correlation of 0.2 within groups
- error: the absolute error of a sample is that of its group, drawn from an exponential distribution with the mean 1, times one of its own

An interval of all groups that there are would hold the true mean always; one of independent samples ignores that samples of a group resemble each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from measuring import command_line, machine_facts, write_result
from visus.evaluation.cluster_bootstrap import mean_interval, proportion_interval
from visus.evaluation.intervals import wilson_interval

CORRELATION: Final = 0.2
Drawn = tuple[NDArray[Any], NDArray[Any]]
"""A value for each sample, and its group."""


def accuracies(mean: float, num_groups: int, num_samples: int, random: np.random.Generator) -> Drawn:
    """Whether each sample is right."""
    strength = 1 / CORRELATION - 1
    chances = random.beta(mean * strength, (1 - mean) * strength, num_groups)
    groups = np.repeat(np.arange(num_groups), num_samples)
    return random.random(len(groups)) < chances[groups], groups


def errors(num_groups: int, num_samples: int, random: np.random.Generator) -> Drawn:
    """The absolute error of each sample; its mean is 1."""
    groups = np.repeat(np.arange(num_groups), num_samples)
    return random.exponential(1.0, num_groups)[groups] * random.exponential(1.0, len(groups)), groups


def share_held(interval: Callable[[Drawn], tuple[float, float]], drawn: list[Drawn], truth: float) -> float:
    """The share of the trials whose interval holds the truth."""
    bounds = [interval(each) for each in drawn]
    return float(np.mean([low <= truth <= high for low, high in bounds]))


def main() -> None:
    """Measure, and print or write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=500)
    options.add_argument("--samples", type=int, default=20)
    options.add_argument("--groups", type=int, nargs="+", default=[2, 3, 4, 5, 8, 10, 15, 20])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    rows = []
    for num_groups in chosen.groups:
        random = np.random.default_rng(num_groups)
        row: dict[str, Any] = {"groups": num_groups}
        for mean in (0.8, 0.9):
            drawn = [accuracies(mean, num_groups, chosen.samples, random) for _ in range(chosen.trials)]
            row[f"accuracy {mean}"] = share_held(lambda each: proportion_interval(each[0], each[1]), drawn, mean)
            row[f"accuracy {mean}, Wilson"] = share_held(
                lambda each: wilson_interval(float(each[0].sum()), len(each[0])), drawn, mean
            )
        drawn = [errors(num_groups, chosen.samples, random) for _ in range(chosen.trials)]
        row["error"] = share_held(lambda each: mean_interval(each[0], each[1]), drawn, 1.0)
        rows.append(row)
    facts = {"command": command_line(), **machine_facts(), "device": "CPU"}
    write_result(chosen.output, facts | {"trials": chosen.trials, "samples_of_a_group": chosen.samples, "rows": rows})


if __name__ == "__main__":
    main()
