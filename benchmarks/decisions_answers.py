"""Rows of ``decisions.py`` on answers: the temperature (calibration error before and after), mirroring on duplicated sets, kernels at large means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import visus
from decisions import Figure, Setting, dataset, row, trained, wanted_trainings
from visus.data import motions
from visus.data.batches import Part
from visus.evaluation.calibration import reliability


@row("calibration")
def calibration(setting: Setting) -> list[Figure]:
    """Expected calibration error on the test set, in points: of the network's own probabilities (before) and of the calibrated ones (now)."""
    found = []
    for each in wanted_trainings(setting):
        run, data = trained(each, setting)
        answers, labels = run.answers(data, data.scored_split), torch.from_numpy(data.split(data.scored_split).labels)
        accuracy = float((answers.argmax(1) == labels).double().mean())
        found.append(Figure(each.name, f"accuracy on {len(labels):,} samples, %", 100 * accuracy, run.recipe.seed))
        ways = {"before": reliability(answers, labels), "now": reliability(answers, labels, run.calibrator())}
        for way, measured in ways.items():
            found.append(Figure(f"{each.name}: {way}", "calibration error, points", 100 * measured.error, run.recipe.seed))
            found.append(Figure(f"{each.name}: {way}", "loss", measured.loss, run.recipe.seed))
    return found


def before(part: Part, seed: int) -> bool | None:
    """The decision as it was: every other sample is a neighbor, copies too, and a share decides without an interval."""
    drawn = (
        torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[: motions.NUM_NEIGHBORS]
        .sort()
        .values.numpy()
    )
    starts = range(0, len(drawn), motions.CHUNK)
    samples = torch.cat([motions._shrink(part.rows(drawn[start : start + motions.CHUNK])) for start in starts])
    labels = torch.from_numpy(part.labels[drawn])
    asked = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(seed))[: motions.NUM_QUERIES]
    known, shares = motions._unit_vectors(samples), []
    for turned in (samples, samples.flip(-1)):
        likeness = motions._unit_vectors(turned[asked]) @ known.T
        likeness[torch.arange(len(asked)), asked] = -2
        shares.append(float((labels[likeness.argmax(1)] == labels[asked]).double().mean()))
    chance = float(((torch.bincount(labels).double() / len(labels)) ** 2).sum())
    error = (chance * (1 - chance) / len(asked)) ** 0.5
    kept = (shares[1] - chance) / (shares[0] - chance) if shares[0] - chance > motions.MIN_STANDARD_ERRORS * error else None
    return None if kept is None else kept >= motions.MIN_KEPT


def _brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels.astype(int) + 8, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "as it is": None,
    "each twice": np.copy,
    "each with a brighter copy": _brighter,
}


@row("mirroring")
def mirroring(setting: Setting) -> list[Figure]:
    """Whether mirroring is taken to keep the class (1 yes, 0 no, -1 not known): on a set as it is, and with copies of its samples, which say nothing new."""
    found = []
    for name in ("cifar10", "photos_dog_cat", "photos_sign_digits"):
        size = {"img_size": (32, 32)} if name.startswith("photos") else {}
        part = visus.open_data(dataset(name, setting), **size).split("train")
        drawn = np.sort(np.random.default_rng(0).permutation(len(part))[: 1_000 if setting.quick else 4_000])
        pixels, labels = part.rows(drawn).numpy(), part.labels[drawn]
        for kind, copy in COPIES.items():
            both = pixels if copy is None else np.concatenate([pixels, copy(pixels)])
            named = labels if copy is None else np.concatenate([labels, labels])
            given = Part("train", both, np.arange(len(both)), named, ("",) * len(both))
            test = motions.motion_test(given, 0)
            now = None if test is None else test.keeps_class
            for version, kept in {"before": before(given, 0), "now": now}.items():
                found.append(
                    Figure(f"{name}, {kind}: {version}", "mirroring keeps the class", -1.0 if kept is None else float(kept))
                )
            if test is not None and test.kept is not None:
                found.append(Figure(f"{name}, {kind}: now", "share of the neighbors' knowledge that is left", test.kept))
    return found


@row("large-means")
def large_means(setting: Setting) -> list[Figure]:
    """The compiled kernels against float64 where the mean is large: the largest relative error of a batch norm's variance, and the error of a
    Winograd convolution in units of the bfloat16 step times the norm of what is multiplied, beside PyTorch's."""
    from large_means import large_means as measured

    tables = {"before": _before_at_large_means(setting)} if setting.before else {}
    tables["now"] = measured()
    found = []
    for version, each in [(version, each) for version, table in tables.items() for each in table]:
        if each["kernel"] == "batch norm":
            variant = f"{version}: norm, {each['channels']} channels, mean {each['mean_by_deviation']} deviations"
            figures = {
                "variance, relative error": each["variance"],
                "output, error": each["output"],
                "output, error of PyTorch's": each["output_pytorch"],
            }
        else:
            variant = f"{version}: convolution, {each['channels']} channels, mean {each['mean']:g}, deviation {each['deviation']:g}, filters {each['filters']}"
            figures = {"output, error": each["output_winograd"], "output, error of PyTorch's": each["output_onednn"]}
        found += [Figure(variant, name, value) for name, value in figures.items()]
    return found


def _before_at_large_means(setting: Setting) -> list[dict[str, Any]]:
    """The same table of an earlier version, in a process of its own."""
    assert setting.before is not None, "asked for where there is one"
    file = setting.scratch / "large_means.json"
    script = Path(__file__).with_name("large_means.py")
    environment = {**os.environ, "PYTHONPATH": str(setting.before / "src")}
    subprocess.run(
        [sys.executable, str(script), "--output", str(file)], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["rows"]
    return found
