"""A small bundle of each task for tests, exported once for each process: three classes of 3 x 8 x 8 images, labeled by the network itself."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from visus.data.preprocessing import Preprocessing
from visus.design import parse
from visus.evaluation.calibration import Calibrator
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.evaluation.tasks.prediction_intervals import Numbers
from visus.evaluation.tasks.regression import Regression
from visus.networks import build
from visus.ship import export
from visus.ship.files import BundleFiles, write_bundle
from visus.ship.golden_files import golden_rows
from visus.ship.manifest import FileFacts, Graph, digest, metric_field
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.regression import RegressionBundle

DESIGN = "conv(16, 3, padding=1), norm, relu, conv(16, 3, padding=1), norm, relu, globalpool, linear(classes)"
CLASSES = ("dark", "gray", "light")
PREPROCESSING = Preprocessing.from_dict(
    {
        "kind": "array",
        "channels": 3,
        "size": [8, 8],
        "resize_mode": "squash",
        "dtype": "uint8",
        "normalize": "mean-deviation",
        "offset": [120.0, 130.0, 110.0],
        "divisor": [60.0, 70.0, 65.0],
        "shuffle_seed": None,
        "layout": "NCHW",
    }
)


def network(seed: int = 0) -> nn.Module:
    """An untrained network whose batch norms have statistics of their own and whose classes are about equally frequent."""
    module = build(parse(DESIGN), PREPROCESSING.input_shape, len(CLASSES), seed=seed)
    numbers = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.rand(part.num_features, generator=numbers) - 0.5
            part.running_var = torch.rand(part.num_features, generator=numbers) + 0.5
            with torch.no_grad():
                part.bias.copy_(torch.rand(part.num_features, generator=numbers) - 0.2)
    module.eval()
    with torch.no_grad():
        logits = module(PREPROCESSING.scaled(torch.from_numpy(samples(200, 1))))
        last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
        scale = 1.5 / logits.std(dim=0)
        last.weight.mul_(scale[:, None])
        last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)
    return module


def samples(number: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Stored samples (number, 3, 8, 8) of different brightness."""
    numbers = np.random.default_rng(seed)
    levels = numbers.uniform(0.2, 1.0, (number, 3, 1, 1))
    return (numbers.uniform(0, 255, (number, 3, 8, 8)) * levels).astype(np.uint8)


def source(**changes: Any) -> export.Exportable:
    """What the bundle is made of, with changes."""
    module = network()
    held_out = samples(128, 8)
    with torch.no_grad():
        labels = module(PREPROCESSING.scaled(torch.from_numpy(held_out))).argmax(dim=1).numpy()
    rows = [np.ascontiguousarray(each) for each in samples(2, 3)]
    made = export.Exportable(
        name="tiny",
        network=module,
        preprocessing=PREPROCESSING,
        classes=CLASSES,
        calibrator=Calibrator(1.5, 0.0),
        tta="none",
        golden=golden_rows(rows, 2, PREPROCESSING.size, are_images=False),
        samples=held_out,
        labels=labels,
        texts={"design.txt": DESIGN + "\n"},
        facts={"accuracy": 1.0, "accuracy_low": 0.9, "accuracy_high": 1.0, "num_scored": 128, "num_parameters": 2_000},
    )
    return replace(made, **changes)


THRESHOLDS = (0.4, 0.5, 0.625)
MEAN, STD = (40.0, -0.01, 3e6), (10.0, 1e-3, 250.0)
"""Of the regression: an age, a small number, and a large one of a small spread."""


def source_of(task: str, **changes: Any) -> export.Exportable:
    """What the bundle of a task is made of: labels are the network's answers, a tenth of them another one's."""
    made = source()
    if task == "single-label":
        return replace(made, **changes)
    with torch.no_grad():
        logits = made.network(PREPROCESSING.scaled(torch.from_numpy(made.samples)))
    logits[::10] = logits[::10].roll(1, dims=0)
    own: dict[str, Any]
    if task == "multi-label":
        own = {"task": MultiLabelBundle(THRESHOLDS), "calibrator": Sigmoid(1.5), "labels": (logits > 0).float().numpy()}
    else:
        numbers = Regression(CLASSES, MEAN, STD)
        labels = numbers.values(logits).numpy()
        own = {"task": RegressionBundle(MEAN, STD, (5.0, 2e-3, 400.0)), "calibrator": Numbers(numbers), "labels": labels}
    metric = metric_field(task)
    facts = {metric: 0.9, f"{metric}_low": 0.8, f"{metric}_high": 1.0, "num_scored": 128, "num_parameters": 2_000}
    return replace(made, **{**own, "facts": facts, **changes})


@functools.cache
def bundle_of(task: str) -> Path:
    """The folder of the bundle of a task."""
    return made(source_of(task), folder() / task)


@functools.cache
def bundle() -> Path:
    """The folder of the bundle."""
    return made(source(), folder() / "tiny")


def made(source: export.Exportable, target: Path, formats: Sequence[str] = export.FORMATS) -> Path:
    """The folder of a bundle that is written without the check in another process."""
    before = export.check_in_other_process
    export.check_in_other_process = lambda *_, **__: ()
    try:
        export.make_bundle(source, target, formats)
    finally:
        export.check_in_other_process = before
    return target


@functools.cache
def folder() -> Path:
    """A folder that is there until this process ends."""
    return Path(_folder().name)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="visus-tiny-bundle-")


def opened() -> BundleFiles:
    """The files of the bundle."""
    return BundleFiles(bundle())


def changed(
    target: Path, add: Mapping[str, bytes] | None = None, graphs: tuple[Graph, ...] = (), without: tuple[str, ...] = ()
) -> BundleFiles:
    """A copy of the bundle with further files and graphs, or without some, and with the hashes of what it then holds."""
    files = opened()
    contents = {name: files.read(name) for name in files.manifest.files if name not in without} | dict(add or {})
    manifest = replace(
        files.manifest,
        graphs=(*(each for each in files.manifest.graphs if each.path not in without), *graphs),
        files={name: FileFacts(digest(content), len(content)) for name, content in sorted(contents.items())},
    )
    write_bundle(target, manifest, contents)
    return BundleFiles(target)
