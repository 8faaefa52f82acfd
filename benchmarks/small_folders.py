"""What the out-of-fold predictions of the head are worth for a small folder of photos: calibration, and wrong labels that were planted.

    python benchmarks/small_folders.py calibration FOLDER [--sizes 100 200 300] [--seeds 0 1 2 3 4] [--held-out 400] [--output FILE.json]
    python benchmarks/small_folders.py head FOLDER [--sizes 100 200 300] [--seeds 0 ... 19] [--output FILE.json]
    python benchmarks/small_folders.py labels FOLDER [--sizes 300] [--seeds 0 1 2] [--output FILE.json]
    python benchmarks/small_folders.py noise FOLDER [--sizes 300] [--seeds 0 1] [--planted 0 0.05 0.1 0.2 0.3] [--side 32 64 128] [--output FILE.json]

FOLDER has a folder for each class. Each training is that of ``visus train`` with pretrained weights, on a copy of so many photos, drawn by the seed with the
shares of the classes. ``calibration`` scores it on photos that no training sees, by the network's own probabilities and by the calibrated ones. ``labels`` moves 5 % of
the photos to another class before the training, and counts how many of those in the training set are among the first listed. ``noise`` moves other shares, fits the head alone on images of several sizes, so that
weak heads are among them, and counts the planted labels among all that the out-of-fold predictions suspect, whether visus lists them or not.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import visus
from measuring import command_line, machine_facts, mean_of, write_result
from visus.data.batches import batches_in_order
from visus.data.opened import Data
from visus.evaluation.calibration import UNCALIBRATED, Calibrator, choose_temperature, fit_calibrator, reliability
from visus.examine.mistakes import suspicious_labels
from visus.networks.weights import head_of
from visus.training.heads import cross_validate, fit_head
from visus.training.runs import RunFolder
from visus.workbench.runs.out_of_fold import read_out_of_fold
from visus.workbench.runs.run import Run

SHARE = 0.05
"""Planted wrong labels, as a share of the photos."""


WAYS = ("raw", "calibrated", "validation", "always")
"""The network's own probabilities; those that visus gives; those with a temperature of the validation set alone; those with the fitted temperature even where
visus uses none."""


def photos_of(folder: Path) -> dict[str, list[Path]]:
    """The photos of each class, in order of their names."""
    return {place.name: sorted(place.iterdir()) for place in sorted(folder.iterdir()) if place.is_dir()}


def drawn(photos: dict[str, list[Path]], count: int, seed: int) -> dict[str, list[Path]]:
    """About so many photos with the shares of the classes, at least one of each."""
    chance, total = random.Random(seed), sum(map(len, photos.values()))
    return {label: sorted(chance.sample(each, max(1, round(count * len(each) / total)))) for label, each in photos.items()}


def copied(photos: dict[str, list[Path]], folder: Path) -> Path:
    """A folder for each class with copies of these photos."""
    for label, each in photos.items():
        (folder / label).mkdir(parents=True)
        for photo in each:
            shutil.copyfile(photo, folder / label / photo.name)
    return folder


def trained(folder: Path, seed: int, scratch: Path) -> Run:
    """A training with the settings of the command."""
    return visus.train(folder, pretrained=True, recipe=visus.Recipe(seed=seed), output=scratch, progress=False)


def measure_calibration(
    folder: Path, sizes: list[int], seeds: list[int], num_held_out: int, scratch: Path
) -> list[dict[str, Any]]:
    """Calibration error and loss on photos that no training sees."""
    photos = photos_of(folder)
    kept = drawn(photos, num_held_out, 10_000)
    rest = {label: [photo for photo in each if photo not in set(kept[label])] for label, each in photos.items()}
    unseen = copied(kept, scratch / "held-out")
    rows = []
    for size in sizes:
        for seed in seeds:
            run = trained(copied(drawn(rest, size, seed), scratch / f"photos-{size}-{seed}"), seed, scratch / "runs")
            data = run.open_data(unseen)
            answers = run.answers(data, data.scored_split)
            row: dict[str, Any] = {"photos": size, "seed": seed, **fit_facts(run), "num_held_out": len(answers)}
            labels = torch.from_numpy(data.split(data.scored_split).labels)
            always = always_fitted(run)
            row["temperature_always"] = always.temperature
            row |= figures(answers, labels, {"raw": UNCALIBRATED, "calibrated": run.calibrator(), "always": always})
            rows.append(row)
            print(
                {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()},
                file=sys.stderr,
                flush=True,
            )
    return rows


def always_fitted(run: Run) -> Calibrator:
    """The temperature of the out-of-fold predictions and the validation set, whether or not it is significantly better than none."""
    data, kept = run.open_data(), read_out_of_fold(RunFolder.open(run.folder))
    assert kept is not None, "a training from pretrained weights has out-of-fold predictions"
    logits = torch.cat([kept.logits, run.answers(data, "val")])
    labels = torch.cat([kept.labels, torch.from_numpy(data.split("val").labels)])
    return fit_calibrator(logits, labels, target_smoothing=1 / (len(labels) + 2))


def fit_facts(run: Run) -> dict[str, Any]:
    """What the temperature was fitted on."""
    fit = run.calibration
    facts = {"temperature": fit.temperature, "is_used": fit.is_used, "num_fitted": fit.num_samples}
    return facts | {"num_out_of_fold": fit.num_out_of_fold, "epochs": len(run.history["epoch"])}


def summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds for each number of photos, and of the paired differences."""
    found = []
    for size in dict.fromkeys(row["photos"] for row in rows):
        some = [row for row in rows if row["photos"] == size]
        summary: dict[str, Any] = {"photos": size, "runs": len(some), "calibrated_runs": sum(row["is_used"] for row in some)}
        for name in ("error", "loss"):
            before = [row[f"{name}_raw"] for row in some]
            for way in (way for way in WAYS if f"{name}_{way}" in some[0]):
                after = [row[f"{name}_{way}"] for row in some]
                summary[f"{name}_{way}"] = mean_of(after).to_json()
                if way != "raw":
                    differences = [new - old for old, new in zip(before, after, strict=True)]
                    summary[f"{name}_{way}_difference"] = mean_of(differences).to_json()
        found.append(summary)
    return found


def measure_head(folder: Path, sizes: list[int], seeds: list[int], scratch: Path) -> list[dict[str, Any]]:
    """The same as ``measure_calibration`` for the head alone, without test-time augmentation, on features that are computed once.

    A head is fitted on 72 of 100 photos, as in a training, and the temperature on these, out-of-fold, and on 8 more. All photos that are left are scored.
    """
    run = trained(
        copied(drawn(photos_of(folder), 60, 0), scratch / "some"), 0, scratch
    )  # its backbone is that of every training
    views, labels = features_of(run, run.open_data(folder))
    num_classes, rows = len(run.classes), []
    for size in sizes:
        for seed in seeds:
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
            train, val, rest = order[: round(0.72 * size)], order[round(0.72 * size) : round(0.8 * size)], order[size:]
            judged = cross_validate(views[:, train], labels[train], num_classes, seed=seed)
            head = fit_head(views[:, train], labels[train], num_classes, judged.decay)
            answers, held = head.logits(views[0, rest]), (head.logits(views[0, val]), labels[val])
            fit = choose_temperature(*held, "val", out_of_fold=(judged.logits, labels[train]))
            logits, known = torch.cat([judged.logits, held[0]]), torch.cat([labels[train], labels[val]])
            always = fit_calibrator(logits, known, target_smoothing=1 / (len(known) + 2))
            row = {
                "photos": size,
                "seed": seed,
                "decay": judged.decay,
                "is_used": fit.is_used,
                "temperature": fit.temperature,
            }
            row |= {"temperature_always": always.temperature, "num_held_out": len(rest)}
            by_validation = choose_temperature(*held, "val").calibrator
            found = {"raw": UNCALIBRATED, "calibrated": fit.calibrator, "validation": by_validation, "always": always}
            rows.append(row | figures(answers, labels[rest], found))
    return rows


def features_of(run: Run, data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs of the head for all photos, plain and mirrored, (2, N, F), and their labels (N,)."""
    part, head = data.split(data.scored_split), head_of(run.module)
    assert head is not None, "the networks of the extra end with a linear layer"
    found: list[torch.Tensor] = []
    hook = head[1].register_forward_hook(lambda layer, inputs, output: found.append(inputs[0].float()))
    with torch.no_grad():
        for turn in (False, True):
            for batch in batches_in_order(part, run.preprocessing, 32):
                run.module(batch.flip(-1) if turn else batch)
    hook.remove()
    return torch.cat(found).reshape(2, len(part), -1), torch.from_numpy(part.labels)


def figures(answers: torch.Tensor, labels: torch.Tensor, calibrators: dict[str, Calibrator]) -> dict[str, float]:
    """Accuracy, and calibration error and loss in each way."""
    row = {"accuracy": float((answers.argmax(1) == labels).float().mean())}
    for way, calibrator in calibrators.items():
        found = reliability(answers, labels, calibrator)
        row |= {f"error_{way}": found.error, f"loss_{way}": found.loss}
    return row


def planted(photos: dict[str, list[Path]], seed: int, folder: Path, share: float = SHARE) -> set[str]:
    """Copies of the photos, this share of them in the folder of another class; the names of those, with their wrong folder."""
    copied(photos, folder)
    chance, every = random.Random(seed), [(label, photo.name) for label, each in photos.items() for photo in each]
    moved = set()
    for label, name in chance.sample(every, round(share * len(every))):
        other = chance.choice([each for each in photos if each != label])
        (folder / label / name).rename(folder / other / f"moved-{name}")
        moved.add(f"{other}/moved-{name}")
    return moved


def measure_labels(folder: Path, sizes: list[int], seeds: list[int], scratch: Path) -> list[dict[str, Any]]:
    """How many planted wrong labels are listed, and how early."""
    photos, rows = photos_of(folder), []
    for size in sizes:
        for seed in seeds:
            place = scratch / f"planted-{size}-{seed}"
            moved = planted(drawn(photos, size, seed), seed, place)
            run = trained(place, seed, scratch / "runs")
            data = run.open_data()
            found = run.mistakes(data, limit=size, progress=False)
            assert found.training_labels is not None, "a training from pretrained weights has out-of-fold predictions"
            row: dict[str, Any] = {"photos": size, "seed": seed, "planted": len(moved)}
            for name, split, listed in (
                ("training", "train", found.training_labels.suspicious),
                (found.split, found.split, found.suspicious),
            ):
                there = moved & set(data.split(split).names)
                names = [each.sample for each in listed]
                row[name] = {
                    "num_samples": len(data.split(split)),
                    "planted": len(there),
                    "listed": len(names),
                    "found": len(there & set(names)),
                    "in_first_as_planted": len(there & set(names[: len(there)])),
                }
            own = run.mistakes(data, split="train", limit=size, progress=False)
            row["training"]["in_first_wrong_of_network"] = len(
                moved & {each.sample for each in own.confident_wrong[: row["training"]["planted"]]}
            )
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    return rows


def measure_noise(
    folder: Path, sizes: list[int], seeds: list[int], shares: list[float], sides: list[int], scratch: Path
) -> list[dict[str, Any]]:
    """How many of the suspected labels of the training set are planted, by the share of planted labels and the size of the images."""
    photos, rows = photos_of(folder), []
    for number, (size, seed, share, side) in enumerate(itertools.product(sizes, seeds, shares, sides)):
        place = scratch / f"noise-{number}"
        moved = planted(drawn(photos, size, seed), seed, place, share)
        data = visus.open_data(place, img_size=side, progress=False)
        recipe = visus.Recipe(seed=seed, epochs=0)
        run = visus.train(data, pretrained=True, recipe=recipe, output=scratch / "runs", progress=False)
        part = run.open_data().split("train")
        kept = read_out_of_fold(RunFolder.open(run.folder))
        assert kept is not None, "a training from pretrained weights has out-of-fold predictions"
        suspects = suspicious_labels(torch.softmax(kept.logits.double(), 1), kept.labels.numpy())
        wrong = kept.logits.argmax(1) != kept.labels
        is_moved = torch.tensor([name in moved for name in part.names])
        listed = find_training_labels(run)
        row = {
            "photos": size,
            "seed": seed,
            "share": share,
            "side_px": side,
            "training": len(part),
            "planted": int(is_moved.sum()),
            "wrong": int(wrong.sum()),
            "wrong_without_planted": int((wrong & ~is_moved).sum()),
            "suspects": len(suspects),
            "planted_suspects": sum(bool(is_moved[each.place]) for each in suspects),
            "listed_by_visus": listed,
        }
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def find_training_labels(run: Run) -> int:
    """How many labels of the training set visus lists; 0 where it says that the head is too inaccurate."""
    found = run.mistakes(limit=1, progress=False).training_labels
    assert found is not None, "a training from pretrained weights has out-of-fold predictions"
    return found.num_suspicious


def main() -> None:
    """Measure one of them on a folder."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("question", choices=["calibration", "head", "labels", "noise"])
    options.add_argument("folder", type=Path)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 300])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("--held-out", type=int, default=400)
    options.add_argument("--planted", type=float, nargs="+", default=[0, 0.05, 0.1, 0.2, 0.3])
    options.add_argument("--side", type=int, nargs="+", default=[32, 64, 128])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    table: dict[str, Any] = {"command": command_line(), **machine_facts(), "device": "CPU", "data": chosen.folder.name}
    with tempfile.TemporaryDirectory() as scratch:
        if chosen.question == "calibration":
            rows = measure_calibration(chosen.folder, chosen.sizes, chosen.seeds, chosen.held_out, Path(scratch))
            table["summary"] = summaries(rows)
        elif chosen.question == "head":
            rows = measure_head(chosen.folder, chosen.sizes, chosen.seeds, Path(scratch))
            table["summary"] = summaries(rows)
        elif chosen.question == "noise":
            rows = measure_noise(chosen.folder, chosen.sizes, chosen.seeds, chosen.planted, chosen.side, Path(scratch))
        else:
            rows = measure_labels(chosen.folder, chosen.sizes, chosen.seeds, Path(scratch))
    write_result(chosen.output, table | {"runs": rows})


if __name__ == "__main__":
    main()
