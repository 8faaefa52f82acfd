"""From samples to probabilities or numbers without PyTorch, as in the run: test-time augmentation and calibration in NumPy.

Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from visus.data.preprocessing import Pixels, Preprocessing, pixel_order
from visus.evaluation.test_time_augmentation import STEPS_PER_SIDE, SURE, stages
from visus.ship.manifest import Manifest
from visus.ship.tasks.single_label import softmax
from visus.ship.tasks.task import Answers

Logits = npt.NDArray[np.float32]
MAX_BATCH: Final = 64


class Engine(Protocol):
    """Something that computes a network."""

    def logits(self, samples: Pixels) -> Logits:
        """The logits (N, classes) for stored samples (N, C, *)."""


class Answerer:
    """A network with the views and the calibration of its run.

    Args:
        engine: computes the logits.
        manifest: the facts of the bundle.
        max_batch: samples that are computed together at most.
    """

    def __init__(self, engine: Engine, manifest: Manifest, max_batch: int = MAX_BATCH) -> None:
        self._engine, self._manifest, self._max_batch = engine, manifest, max_batch
        self._first, self._second = stages(manifest.tta)

    def __call__(self, samples: Pixels) -> Answers:
        """The answers (N, classes), N at least 1, in float64 for stored samples (N, C, *) of the network's size.

        They are calibrated probabilities; of regression, numbers in the units of the labels.
        """
        return self._manifest.answers(self.logits(samples))

    def logits(self, samples: Pixels) -> Logits:
        """The logits (N, classes), N at least 1, with the test-time augmentation of the run."""
        samples = shuffled(samples, self._manifest.preprocessing)
        logits = np.concatenate([self._mean(batch, self._first) for batch in self._batches(samples)])
        if self._second is not None and len(chosen := np.flatnonzero(unsure(logits))):
            second = [self._mean(batch, self._second) for batch in self._batches(samples[chosen])]
            logits[chosen] = np.concatenate(second)
        return logits

    def _batches(self, samples: Pixels) -> Iterator[Pixels]:
        return (samples[start : start + self._max_batch] for start in range(0, len(samples), self._max_batch))

    def _mean(self, batch: Pixels, kind: str) -> Logits:
        total: Logits | None = None
        for view, weight in views(batch, kind):
            part = self._engine.logits(view) * np.float32(weight)
            total = part if total is None else total + part
        assert total is not None, "there is at least one view"
        return total


def shuffled(samples: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Stored samples (N, C, *) with their positions in the fixed random order of the run; unchanged without ``shuffle_seed``."""
    if preprocessing.shuffle_seed is None:
        return samples
    flat = samples.reshape(*samples.shape[:2], -1)
    return flat[:, :, pixel_order(flat.shape[2], preprocessing.shuffle_seed)].reshape(samples.shape)


def views(batch: Pixels, kind: str) -> Iterator[tuple[Pixels, float]]:
    """The views of stored samples (N, C, *) with their weights: ``evaluation.test_time_augmentation.views`` without PyTorch.

    Mirroring and shifting with reflection move values and change none, so they may come before the normalization.

    >>> [(view[0, 0].tolist(), weight) for view, weight in views(np.array([[[1, 2, 3]]]), "shift")]
    [([1, 2, 3], 0.5), ([2, 1, 2], 0.25), ([2, 3, 2], 0.25)]
    """
    shifted = [(batch, 1.0)]
    if "shift" in kind and max(batch.shape[2:], default=1) > 1:
        shifted = [(batch, 0.5), *((each, 0.25) for each in _shifted(batch))]
    for each, weight in shifted:
        if "flip" in kind:
            yield each, weight / 2
            yield np.ascontiguousarray(each[..., ::-1]), weight / 2
        else:
            yield each, weight


def _shifted(batch: Pixels) -> Iterator[Pixels]:
    size = batch.shape[2:]
    reach = [min(max(1, round(length / STEPS_PER_SIDE)), length - 1) for length in size]
    padded = np.pad(batch, [(0, 0), (0, 0), *((steps, steps) for steps in reach)], mode="reflect")
    for direction in (0, 2):
        places = [slice(direction * steps, direction * steps + length) for steps, length in zip(reach, size, strict=True)]
        yield np.ascontiguousarray(padded[(slice(None), slice(None), *places)])


def unsure(logits: Logits) -> npt.NDArray[np.bool_]:
    """Mask (N,) of the predictions whose top two probabilities, before calibration, differ by less than ``SURE``."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits), dtype=np.bool_)
    highest = np.sort(softmax(logits.astype(np.float64)), axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0] < SURE)
