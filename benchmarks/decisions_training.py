"""Rows of ``decisions.py`` on how a training decides: class weights, patience, own weights, few photos, a tiny ViT, sine waves.

Every training is ``visus train`` in a process of its own, so that a checkout of an earlier version (``--before FOLDER``) can be run in the same way.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import visus
from decisions import Figure, Setting, row

SEEDS = (0, 1, 2)
SMALL = "conv(16, 3, padding=1), norm, relu, maxpool(2), conv(32, 3, padding=1), norm, relu, globalpool, linear(classes)"
VIT = '''
import torch
from torch import nn


class TinyViT(nn.Module):
    """Patches of 4 x 4, two blocks of four heads."""

    def __init__(self, num_classes, width=48):
        super().__init__()
        self.cut = nn.Conv2d(1, width, 4, 4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 49, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, x):
        tokens = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(tokens)).mean(1))
'''


def train(setting: Setting, source: Path | None, *words: str, name: str) -> dict[str, Any]:
    """The scores of one ``visus train``, with its run folder under ``run``.

    Args:
        source: folder of the checkout to run; None for the installed version.
        words: what follows ``visus train``.
        name: of the run.
    """
    environment = {**os.environ, "VISUS_CACHE": str(setting.scratch / "cache")}
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve() / "src")
    command = [sys.executable, "-m", "visus", "train", *words, "-o", str(setting.scratch / "runs"), "--name", name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=setting.scratch, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def versions(setting: Setting) -> dict[str, Path | None]:
    """What is run: the version before, where one was given, and this one."""
    return ({"before": setting.before} if setting.before else {}) | {"now": None}


def seeds(setting: Setting) -> tuple[int, ...]:
    return SEEDS[:1] if setting.quick else SEEDS


@row("class-weights")
def class_weights(setting: Setting) -> Iterator[Figure]:
    """990 dark images and 10 bright ones: accuracy on the held-out fifth, in percent."""
    rng, file = np.random.default_rng(0), setting.scratch / "rare.npz"
    images = np.concatenate([rng.integers(0, 30, (990, 16, 16)) + 40, rng.integers(0, 30, (10, 16, 16)) + 160])
    np.savez(file, x=images.astype(np.uint8), y=np.repeat([0, 1], [990, 10]))
    ways = {"weights balanced": ["--class-weights", "balanced"], "no weights": []}
    for version, source in versions(setting).items():
        more = {"balanced sampling": ["--sampling", "balanced"]} if source is None else {}
        for way, words in (ways | more).items():
            for seed in seeds(setting):
                scores = train(setting, source, str(file), "--epochs", "10", "--seed", str(seed), *words, name="rare")
                yield Figure(f"{version}: {way}", "accuracy, %", 100 * scores["accuracy"], seed)


@row("patience")
def patience(setting: Setting) -> Iterator[Figure]:
    """The images that come with visus, ``--patience 3``: accuracy of the weights that are kept, in percent."""
    for version, source in versions(setting).items():
        for words in (["--patience", "3"], []):
            for seed in seeds(setting):
                scores = train(setting, source, "--seed", str(seed), *words, name="patience")
                yield Figure(f"{version}: {' '.join(words) or 'default'}", "accuracy, %", 100 * scores["accuracy"], seed)


@row("own-weights")
def own_weights(setting: Setting) -> Iterator[Figure]:
    """A run's own best weights, trained for three epochs more by the default: accuracy, in percent."""
    for seed in seeds(setting):
        base = train(setting, None, "--seed", str(seed), name="base")
        weights = str((setting.scratch / base["run"] / "weights" / "best.safetensors").resolve())
        yield Figure("start", "accuracy, %", 100 * base["accuracy"], seed)
        for version, source in versions(setting).items():
            words = ["--weights", weights, "--epochs", "3", "--seed", str(seed)]
            scores = train(setting, source, *words, name="again")
            yield Figure(version, "accuracy, %", 100 * scores["accuracy"], seed)


@row("small-pretrained")
def small_pretrained(setting: Setting) -> Iterator[Figure]:
    """20 to 400 photos of dogs and cats, scored on 400 others: accuracy in percent, and seconds of the whole command; the head alone beside."""
    photos = setting.data / "photos_dog_cat"
    for num_photos in (20, 100) if setting.quick else (20, 50, 100, 400):
        for seed in seeds(setting):
            folder = _some_photos(photos, setting.scratch / f"photos-{num_photos}-{seed}", num_photos, seed)
            ways: dict[str, tuple[Path | None, list[str]]] = {
                name: (source, []) for name, source in versions(setting).items()
            }
            ways["head alone"] = None, ["--epochs", "0"]
            for way, (source, words) in ways.items():
                began = time.perf_counter()
                scores = train(setting, source, str(folder), "--pretrained", "--seed", str(seed), *words, name="photos")
                yield Figure(f"{num_photos} photos: {way}", "whole command, s", time.perf_counter() - began, seed)
                yield Figure(f"{num_photos} photos: {way}", "accuracy, %", 100 * scores["accuracy"], seed)


@row("tiny-vit")
def tiny_vit(setting: Setting) -> Iterator[Figure]:
    """A tiny ViT on 4,000 images of Fashion-MNIST, 10 epochs, the default optimizer and AdamW: accuracy, in percent."""
    (setting.scratch / "tiny_vit.py").write_text(VIT)
    data = visus.open_data(setting.data / "fashion_mnist")
    part = data.split("train")
    places = np.random.default_rng(0).permutation(len(part))[:5_000]
    np.savez(setting.scratch / "clothes.npz", x=part.rows(places).numpy(), y=part.labels[places])
    for version, source in versions(setting).items():
        for words in ([], ["--optimizer", "adamw"]):
            for seed in seeds(setting):
                common = ["clothes.npz", "-m", "tiny_vit:TinyViT", "--epochs", "10", "--seed", str(seed)]
                scores = train(setting, source, *common, *words, name="vit")
                yield Figure(f"{version}: {'adamw' if words else 'default'}", "accuracy, %", 100 * scores["accuracy"], seed)


SINES = ((400, 256, 0.05, 0.5), (400, 128, 0.1, 1.0), (2000, 256, 0.1, 1.0))


@row("sine-waves")
def sine_waves(setting: Setting) -> Iterator[Figure]:
    """Noisy sine waves of two frequencies 10 % apart: accuracy of the default and without progressive resizing, in percent."""
    for count, length, frequency, noise in SINES[:1] if setting.quick else SINES:
        rng, file = np.random.default_rng(0), setting.scratch / "sine.npz"
        labels, times = np.arange(count) % 2, np.arange(length)
        waves = np.sin(2 * np.pi * (frequency * (1 + 0.1 * labels)[:, None] * times + rng.random((count, 1))))
        np.savez(file, x=(waves + noise * rng.normal(size=waves.shape))[:, None].astype("f4"), y=labels)
        for version, source in versions(setting).items():
            for words in ([], ["--progressive-resize", "1"]):
                for seed in seeds(setting):
                    scores = train(setting, source, str(file), "--seed", str(seed), "--flip", "none", *words, name="sine")
                    variant = f"{count} of {length} points, noise {noise}; {version}: {'one size' if words else 'default'}"
                    yield Figure(variant, "accuracy, %", 100 * scores["accuracy"], seed)


def _some_photos(source: Path, folder: Path, num_photos: int, seed: int) -> Path:
    """A folder with ``num_photos`` to train and validate on, and 400 others as its test set."""
    rng = np.random.default_rng(seed)
    for label in sorted(each for each in source.iterdir() if each.is_dir()):
        files = sorted(label.iterdir())
        drawn = [files[place] for place in rng.permutation(len(files))]
        half = num_photos // 2
        for split, chosen in (("test", drawn[:200]), ("train", drawn[200 : 200 + half])):
            (folder / split / label.name).mkdir(parents=True, exist_ok=True)
            for file in chosen:
                shutil.copy(file, folder / split / label.name / file.name)
    return folder
