"""Which answers to look at: the surest wrong ones, the least sure right ones, confusions, labels that may be wrong, what looks alike.

This file knows probabilities, labels and features, as numbers. Samples are told by their places, counted from 0. Shape letters:
N samples, K classes, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import DataError, UsageError
from visus.examine.layer_calls import (
    Array,
    Ended,
    Inputs,
    LayerCall,
    as_batches,
    at_rest,
    frozen,
    heard,
    to_array,
    unwrapped,
)
from visus.examine.layer_calls import run as run_module
from visus.examine.layer_outputs import first_tensor

MAX_SHOWN = 8
"""So many samples of each kind are told, unless another number is asked for."""


@dataclass(frozen=True)
class Confused:
    """One class taken for another.

    Attributes:
        label, answer: indices of the true class and of what was said.
        num_samples: how often.
        places: such samples, the surest answer first; at most as many as were asked for.
    """

    label: int
    answer: int
    num_samples: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Mistakes:
    """Places of samples that are worth a look.

    Attributes:
        num_wrong: wrong answers in all.
        confident_wrong: the wrong answers with the highest probability, the highest first.
        unsure_right: the right answers with the lowest probability, the lowest first.
        confusions: the most frequent pairs of true class and answer.
    """

    num_wrong: int
    confident_wrong: tuple[int, ...]
    unsure_right: tuple[int, ...]
    confusions: tuple[Confused, ...]


@dataclass(frozen=True)
class Suspect:
    """A sample whose label may be wrong.

    Attributes:
        place: of the sample.
        label: the class that it bears.
        suggested: the class that the network takes it for.
        label_probability, suggested_probability: of both.
    """

    place: int
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of Q samples the samples most like it, the nearest first.

    Attributes:
        places: (Q, k) places among those that were compared.
        similarity: (Q, k) cosine of the angle between both samples' features, -1 to 1.
        num_compared: samples that were compared.
    """

    places: Array
    similarity: Array
    num_compared: int


def find_mistakes(
    probabilities: Tensor | Array, labels: Tensor | Array | Sequence[int], *, limit: int = MAX_SHOWN, most_pairs: int = 4
) -> Mistakes:
    """The answers that are worth a look. Of equals, the earlier sample comes first.

    Args:
        probabilities: (N, K).
        labels: (N,) class indices.
        limit: samples of each kind; at least 1.
        most_pairs: pairs of classes.

    Raises:
        DataError: there is no sample.
        UsageError: the shapes do not belong together, or fewer than one sample is asked for.

    >>> found = find_mistakes(np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]), [1, 1, 1])
    >>> found.confident_wrong, found.unsure_right, found.confusions[0].num_samples
    ((0, 2), (1,), 2)
    """
    chances, truth = _checked(probabilities, labels)
    if limit < 1:
        raise UsageError(f"the number of samples to show must be at least 1, not {limit}.")
    answers, confidence = chances.argmax(axis=1), chances.max(axis=1)
    surest, least_sure = np.argsort(-confidence, kind="stable"), np.argsort(confidence, kind="stable")
    is_wrong = answers != truth
    wrong, right = surest[is_wrong[surest]], least_sure[~is_wrong[least_sure]]
    pairs, counts = np.unique(truth[wrong] * chances.shape[1] + answers[wrong], return_counts=True)
    confusions = []
    for index in np.argsort(-counts, kind="stable")[:most_pairs]:
        label, answer = divmod(int(pairs[index]), chances.shape[1])
        places = wrong[(truth[wrong] == label) & (answers[wrong] == answer)][:limit]
        confusions.append(Confused(label, answer, int(counts[index]), _whole(places)))
    return Mistakes(len(wrong), _whole(wrong[:limit]), _whole(right[:limit]), tuple(confusions))


def suspicious_labels(
    probabilities: Tensor | Array, labels: Tensor | Array | Sequence[int], *, limit: int | None = None
) -> tuple[Suspect, ...]:
    """Samples whose label is probably another, by confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, section 3.1, eq. 1).

    For each class, the threshold is the mean probability that the network gives it over the samples that bear its label. A sample counts for
    the most probable of the classes whose threshold it reaches; where that is not its label, and is more probable than it, the label is
    suspected. The widest gap between both probabilities comes first. Right only where the network has not learned from these very samples:
    what it has learned by heart it does not suspect.

    Args:
        probabilities: (N, K).
        labels: (N,) class indices, as given.
        limit: at most so many; None for all.

    Raises:
        DataError: there is no sample.
        UsageError: the shapes do not belong together.

    >>> chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9], [0.2, 0.8]])
    >>> [(each.place, each.suggested) for each in suspicious_labels(chances, [0, 0, 1, 1, 1])]
    [(2, 0)]
    """
    chances, truth = _checked(probabilities, labels)
    num_samples, num_classes = chances.shape
    sums = np.bincount(truth, weights=chances[np.arange(num_samples), truth], minlength=num_classes)
    counts = np.bincount(truth, minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)  # of a class without samples nothing is known
    reached = np.where(chances >= thresholds, chances, -1.0)
    suggested = reached.argmax(axis=1)
    own, other = chances[np.arange(num_samples), truth], chances[np.arange(num_samples), suggested]
    is_suspect = (reached.max(axis=1) >= 0) & (suggested != truth) & (other > own)
    gaps = np.where(is_suspect, other - own, -np.inf)
    places = np.argsort(-gaps, kind="stable")[: int(is_suspect.sum())][:limit]
    return tuple(
        Suspect(int(place), int(truth[place]), int(suggested[place]), float(own[place]), float(other[place]))
        for place in places
    )


def feature_layer(module: nn.Module, inputs: Inputs) -> str:
    """The path of the last convolution or linear layer that is called: what reaches it are the features of a sample.

    Raises:
        UsageError: there is none.

    >>> from torch import nn, ones
    >>> feature_layer(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), ones(1, 1, 2, 2))
    '3'
    """
    paths: list[str] = []

    def listen(call: LayerCall) -> None:
        if isinstance(call.module, (nn.modules.conv._ConvNd, nn.Linear)):
            paths.append(call.path)

    module = unwrapped(module)
    for batch in as_batches(module, inputs[:1]):
        with at_rest(module), heard(module, listen):
            _without_gradients(module, batch)
    if not paths:
        raise UsageError(
            "this network has no convolution and no linear layer, so nothing is known that its samples have in common."
        )
    return paths[-1]


def features(module: nn.Module, inputs: Inputs | Iterable[Inputs], layer: str) -> Iterable[Array]:
    """What reaches a layer, for each batch (N, F): of a map the mean over its places, of tokens the mean over them.

    Args:
        module: any module.
        inputs: scaled samples, one batch or several taken one by one.
        layer: as ``feature_layer`` gives it.
    """
    found: list[Tensor] = []

    def listen(call: LayerCall) -> None:
        if call.path == layer:
            values = first_tensor(call.inputs)
            assert values is not None, "a layer with weights takes a tensor"
            if values.dim() > 2:
                is_last = isinstance(call.module, nn.Linear)
                values = values.flatten(1, -2).mean(1) if is_last else values.flatten(2).mean(2)
            found.append(values)
            raise Ended

    module = unwrapped(module)
    for batch in as_batches(module, inputs):
        found.clear()
        with at_rest(module), heard(module, listen):
            _without_gradients(module, batch)
        yield to_array(found[0].float())


def nearest_samples(
    wanted: Array, compared: Iterable[Array], *, limit: int = 3, skip: Sequence[int] | None = None
) -> Nearest:
    """The compared samples whose features point the same way, by the cosine. Memory does not grow with their number.

    Args:
        wanted: (Q, F) features of the samples that are asked about.
        compared: features (N, F), batch by batch, counted on.
        limit: neighbors of each.
        skip: for each sample that is asked about a place that is the sample itself, or -1; None where none is.

    Raises:
        DataError: there is nothing to compare with.
        UsageError: the features are no tables, or have another width.

    >>> nearest_samples(np.array([[1.0, 0.0]]), [np.array([[0.0, 2.0], [3.0, 0.1]])], limit=1).places.tolist()
    [[1]]
    """
    if isinstance(compared, np.ndarray) and compared.ndim == 2:
        compared = [compared]
    queries = _directions(wanted)
    own = np.full(len(queries), -1) if skip is None else np.asarray(skip)
    best, where, count = np.zeros((len(queries), 0)), np.zeros((len(queries), 0), dtype=np.int64), 0
    for batch in compared:
        if np.ndim(wanted) != 2 or np.ndim(batch) != 2 or np.shape(batch)[1] != np.shape(wanted)[1]:
            raise UsageError(
                f"features of shape {np.shape(wanted)} and {np.shape(batch)} cannot be compared: (samples, features) are needed, with as many "
                "features in both."
            )
        similar = queries @ _directions(batch).T
        places = np.arange(count, count + len(batch))
        similar[own[:, None] == places] = -np.inf
        count += len(batch)
        best = np.concatenate([best, similar], axis=1)
        where = np.concatenate([where, np.broadcast_to(places, similar.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :limit]
        best, where = np.take_along_axis(best, order, axis=1), np.take_along_axis(where, order, axis=1)
    if not count:
        raise DataError("there is nothing to compare with: no samples were given.")
    return Nearest(frozen(where), frozen(best), count)


def _directions(values: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return directions


def _without_gradients(module: nn.Module, batch: Tensor) -> None:
    with torch.no_grad():
        run_module(module, batch)


def _whole(places: Array) -> tuple[int, ...]:
    return tuple(int(place) for place in places)


def _checked(probabilities: Any, labels: Any) -> tuple[Array, Array]:
    chances, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if chances.ndim != 2 or truth.shape != chances.shape[:1]:
        raise UsageError(
            f"probabilities of shape {chances.shape} and labels of shape {truth.shape} do not belong together: "
            "(samples, classes) and (samples,) are needed."
        )
    if not len(truth):
        raise DataError("there is nothing to look at: no samples were given.")
    if truth.min() < 0 or truth.max() >= chances.shape[1]:
        wrong = int(truth.min() if truth.min() < 0 else truth.max())
        raise UsageError(f"a label is {wrong}, and there are probabilities of {chances.shape[1]} classes, counted from 0.")
    return chances, truth
