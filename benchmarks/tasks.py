"""Multi-label and regression on real data, beside a plain PyTorch loop and a mean predictor.

    python benchmarks/tasks.py sets FASHION_MNIST_FOLDER [--train 6000] [--test 2000] [--epochs 10] [--seeds 1] [--output FILE]
    python benchmarks/tasks.py sizes BLOOD_CELLS_FOLDER [--epochs N] [--seeds 1] [--output FILE]

``sets``: two Fashion-MNIST images side by side, 28 x 56, with the classes of both as the label. ``visus.train`` with the requested epochs, beside a plain
loop of the same network: the same module with new weights, AdamW with a rate of 1e-3 that falls along a cosine, weight decay 0.01, batches of 64, binary
cross-entropy, the same augmentation-free training samples, the weights of the last epoch. Both have the same number of epochs. The mean average precision
is that on test pairs, which are made of the test images and read once. F1 and exact match at the thresholds of visus are beside
those at 0.5, and at the thresholds with the highest F1 on the validation samples.

``sizes``: the size of the largest white blood cell of each photo, the square root of the area of its box in pixels, from the photo alone. The mean
absolute error on the test split with its 95 % interval, beside the error of always predicting the mean.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

import visus
from visus.evaluation.metrics import METRICS
from visus.evaluation.tasks.multi_label import MultiLabel

NAMES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read_idx(file: Path) -> np.ndarray[Any, Any]:
    """The array of a gzipped IDX file of bytes."""
    with gzip.open(file) as stream:
        content = stream.read()
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(content[3]))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def pairs(folder: Path, part: str, count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pairs of images side by side (count, 28, 56), and 1 for each class of the two, (count, 10)."""
    images, labels = (read_idx(next(folder.glob(f"{part}-{kind}*"))) for kind in ("images", "labels"))
    chosen = np.random.default_rng(seed).integers(0, len(images), (2, count))
    sets = np.zeros((count, len(NAMES)), np.uint8)
    for places in chosen:
        sets[np.arange(count), labels[places]] = 1
    return np.concatenate([images[chosen[0]], images[chosen[1]]], axis=2), sets


def plain_loop(module: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, seed: int) -> None:
    """Train a module with AdamW and binary cross-entropy, in place."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.01)
    num_steps = epochs * (len(x) // 64)
    generator = torch.Generator().manual_seed(seed)
    module.train()
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - 63, 64):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 + math.cos(math.pi * step / num_steps)) / 2
            places = order[start : start + 64]
            loss = F.binary_cross_entropy_with_logits(module(x[places]), y[places])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1


def sets(folder: Path, num_train: int, num_test: int, epochs: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Mean average precision of visus and of the plain loop, for one seed."""
    x, y = pairs(folder, "train", num_train, seed)
    x_test, y_test = pairs(folder, "t10k", num_test, 1000 + seed)
    data = visus.open_data(
        x=x,
        y=y,
        x_test=x_test,
        y_test=y_test,
        class_names=NAMES,
        keep_in=scratch,
        cache_dir=scratch / "cache",
        progress=False,
    )
    run = visus.train(data, recipe=visus.Recipe(epochs=epochs, seed=seed), output=scratch / "runs")
    scores = run.scores
    train = data.split("train")
    scaled = data.preprocessing.scaled(train.rows(np.arange(len(train))))
    module = visus.network("compact", data.input_shape, len(data.classes))
    plain_loop(module, scaled, torch.from_numpy(train.labels), epochs, seed)
    module.eval()
    test = data.split("test")
    with torch.no_grad():
        rows = data.preprocessing.scaled(test.rows(np.arange(len(test))))
        outputs = torch.cat([module(part) for part in rows.split(256)])
    labels = torch.from_numpy(test.labels)
    task = MultiLabel(NAMES)
    logits = run.answers(data, "test")
    is_there, shares = test.labels > 0.5, run.calibrator()(logits).numpy()
    fitted, half = shares >= np.array(run.calibration.thresholds), shares >= 0.5  # type: ignore[union-attr]
    held_out = run.calibrator()(run.answers(data, "val")).numpy()
    highest = shares >= np.array([at_highest_f1(*each) for each in zip(held_out.T, data.split("val").labels.T, strict=True)])
    return {
        "seed": seed,
        "visus": scores.mean_average_precision,  # type: ignore[union-attr]
        "visus interval": [scores.mean_average_precision_low, scores.mean_average_precision_high],  # type: ignore[union-attr]
        "plain": METRICS["average_precision"].compute(task, outputs, labels),
        "exact match at fitted thresholds": float((fitted == is_there).all(1).mean()),
        "exact match at 0.5": float((half == is_there).all(1).mean()),
        "exact match at the highest F1": float((highest == is_there).all(1).mean()),
        "exact match of plain at 0.5": METRICS["exact_match"].compute(task, outputs, labels),
        "macro F1 at fitted thresholds": macro_f1(fitted, is_there),
        "macro F1 at 0.5": macro_f1(half, is_there),
        "macro F1 at the highest F1": macro_f1(highest, is_there),
        "calibration": run.calibration.sentence("pair"),
    }


def macro_f1(predicted: NDArray[np.bool_], is_there: NDArray[np.bool_]) -> float:
    """The mean of the F1 over the classes."""
    return float((2 * (predicted & is_there).sum(0) / (predicted.sum(0) + is_there.sum(0))).mean())


def at_highest_f1(shares: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """The probability from which on these samples have the highest F1: the rule that visus does not use."""
    found = [macro_f1(shares[:, None] >= each, labels[:, None] > 0.5) for each in shares]
    return float(shares[int(np.argmax(found))])


def largest_cells(folder: Path) -> list[tuple[str, float]]:
    """Each photo with a white blood cell, and the square root of the area of its largest box, in pixels."""
    found = []
    for file in sorted((folder / "Annotations").glob("*.xml")):
        sides = []
        for each in ElementTree.parse(file).iter("object"):
            box = each.find("bndbox")
            if each.findtext("name") == "WBC" and box is not None:
                left, top, right, bottom = (float(box.findtext(name) or 0) for name in ("xmin", "ymin", "xmax", "ymax"))
                sides.append(math.sqrt((right - left) * (bottom - top)))
        photo = folder / "JPEGImages" / f"{file.stem}.jpg"
        if sides and photo.is_file():
            found.append((str(photo.resolve()), max(sides)))
    return found


def sizes(folder: Path, epochs: int | None, seed: int, scratch: Path) -> dict[str, Any]:
    """The mean absolute error of visus and of the mean, for one seed of split and training."""
    table = scratch / "sizes.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "size_px"), *largest_cells(folder)])
    options = {"task": "regression", "label_column": "size_px", "split_seed": seed, "cache_dir": scratch / "cache"}
    data = visus.open_data(table, progress=False, **options)  # type: ignore[arg-type]
    run = visus.train(data, recipe=visus.Recipe(epochs=epochs, seed=seed), output=scratch / "runs")
    (row,) = run.scores.targets  # type: ignore[union-attr]
    return {
        "seed": seed,
        "photos": data.num_samples,
        "test photos": len(data.split("test")),
        "start": (run.folder / "start.json").is_file(),
        "MAE": row.mae,
        "MAE interval": [row.mae_low, row.mae_high],
        "MAE of the mean": row.baseline,
        "R2": row.r2,
        "within the 90 % interval": row.covered,
    }


def main() -> None:
    """Measure and print the result as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("sets", "sizes"))
    options.add_argument("folder", type=Path)
    options.add_argument("--train", type=int, default=6000)
    options.add_argument("--test", type=int, default=2000)
    options.add_argument("--epochs", type=int)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    from measuring import command_line, machine_facts, write_result

    rows = []
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as made:
            if chosen.what == "sets":
                row = sets(chosen.folder, chosen.train, chosen.test, chosen.epochs or 10, seed, Path(made))
            else:
                row = sizes(chosen.folder, chosen.epochs, seed, Path(made))
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    result = {"command": command_line(), **machine_facts(), "runs": rows}
    write_result(chosen.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
