"""Predictions worth reviewing: confident mistakes, uncertain correct ones, confusions, possible label errors, similar samples.

Samples are indices, counted from 0. Shape letters: N samples, K classes, F features.
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
    Inputs,
    LayerCall,
    StopForward,
    as_batches,
    eval_mode,
    hook_layers,
    plain_module,
    read_only,
    to_array,
)
from visus.examine.layer_calls import run as run_module
from visus.examine.layer_outputs import first_tensor
from visus.tables import ShortFields

MAX_SHOWN = 8
"""Default number of samples of each kind."""


@dataclass(frozen=True, repr=False)
class Confused(ShortFields):
    """One class predicted as another.

    Attributes:
        label, answer: indices of the true and of the predicted class.
        num_samples: number of such samples.
        places: their indices, the most confident first; at most ``limit``.
    """

    label: int
    answer: int
    num_samples: int
    places: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Mistakes(ShortFields):
    """Indices of samples that are worth reviewing.

    Attributes:
        num_wrong: misclassified samples in all.
        confident_wrong: the misclassified samples with the highest probability, the highest first.
        unsure_right: the correctly classified samples with the lowest probability, the lowest first.
        confusions: the most frequent pairs of true and predicted class.
    """

    num_wrong: int
    confident_wrong: tuple[int, ...]
    unsure_right: tuple[int, ...]
    confusions: tuple[Confused, ...]


@dataclass(frozen=True)
class Suspect:
    """A sample whose label may be wrong.

    Attributes:
        place: index of the sample.
        label: its label.
        suggested: the class that it probably belongs to.
        label_probability, suggested_probability: probabilities of both classes.
    """

    place: int
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True, eq=False, repr=False)
class Nearest(ShortFields):
    """The most similar samples of each of Q samples, the nearest first.

    Attributes:
        places: (Q, k) indices into the compared samples.
        similarity: (Q, k) cosine similarity of the features, -1 to 1.
        num_compared: number of compared samples.
    """

    places: Array
    similarity: Array
    num_compared: int


def find_mistakes(
    probabilities: Tensor | Array, labels: Tensor | Array | Sequence[int], *, limit: int = MAX_SHOWN, max_pairs: int = 4
) -> Mistakes:
    """The predictions that are worth reviewing. Ties keep the order of the samples.

    Args:
        probabilities: (N, K).
        labels: (N,) class indices.
        limit: maximum number of samples of each kind; at least 1.
        max_pairs: maximum number of class pairs.

    Raises:
        DataError: there is no sample.
        UsageError: the shapes do not fit together, or ``limit`` is below 1.

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
    for index in np.argsort(-counts, kind="stable")[:max_pairs]:
        label, answer = divmod(int(pairs[index]), chances.shape[1])
        places = wrong[(truth[wrong] == label) & (answers[wrong] == answer)][:limit]
        confusions.append(Confused(label, answer, int(counts[index]), _whole(places)))
    return Mistakes(len(wrong), _whole(wrong[:limit]), _whole(right[:limit]), tuple(confusions))


def suspicious_labels(
    probabilities: Tensor | Array, labels: Tensor | Array | Sequence[int], *, limit: int | None = None
) -> tuple[Suspect, ...]:
    """Samples whose label is probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, section 3.1, eq. 1).

    The threshold of a class is its mean predicted probability over the samples with that label. A sample is assigned to the most probable of
    the classes whose threshold it reaches; where this is not its label and is more probable, the label is suspect. The widest gap between
    both probabilities comes first. Use held-out samples or out-of-fold predictions only: a network has memorized the wrong labels of its training set.

    Args:
        probabilities: (N, K).
        labels: (N,) class indices, as given.
        limit: maximum number of samples; None for all.

    Raises:
        DataError: there is no sample.
        UsageError: the shapes do not fit together.

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
    """The path of the last convolution or linear layer that is called: its inputs are the features of a sample.

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

    module = plain_module(module)
    for batch in as_batches(module, inputs[:1]):
        with eval_mode(module), hook_layers(module, listen):
            _without_gradients(module, batch)
    if not paths:
        raise UsageError("this network has no convolution and no linear layer, so its samples have no features to compare.")
    return paths[-1]


def features(module: nn.Module, inputs: Inputs | Iterable[Inputs], layer: str) -> Iterable[Array]:
    """The inputs of a layer for each batch, (N, F): the mean over the positions of a map, or over tokens.

    Args:
        module: any module.
        inputs: scaled samples, one batch or several.
        layer: the result of ``feature_layer``.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> next(iter(features(module, torch.rand(5, 1, 2, 2), "3"))).shape
    (5, 3)
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
            raise StopForward

    module = plain_module(module)
    for batch in as_batches(module, inputs):
        found.clear()
        with eval_mode(module), hook_layers(module, listen):
            _without_gradients(module, batch)
        yield to_array(found[0].float())


def nearest_samples(
    queries: Array, compared: Iterable[Array], *, limit: int = 3, skip: Sequence[int] | None = None
) -> Nearest:
    """The most similar samples by cosine similarity of features. Memory does not grow with the number of compared samples.

    Args:
        queries: (Q, F) features of the samples whose neighbors are searched.
        compared: batches of features (N, F); indices continue across batches.
        limit: number of neighbors for each query.
        skip: for each query its own index among the compared samples, or -1; None if no query is among them.

    Raises:
        DataError: there is nothing to compare with.
        UsageError: the features are not two-dimensional, or differ in width.

    >>> nearest_samples(np.array([[1.0, 0.0]]), [np.array([[0.0, 2.0], [3.0, 0.1]])], limit=1).places.tolist()
    [[1]]
    """
    if isinstance(compared, np.ndarray) and compared.ndim == 2:
        compared = [compared]
    directions = _unit_rows(queries)
    own = np.full(len(directions), -1) if skip is None else np.asarray(skip)
    best, where, count = np.zeros((len(directions), 0)), np.zeros((len(directions), 0), dtype=np.int64), 0
    for batch in compared:
        if np.ndim(queries) != 2 or np.ndim(batch) != 2 or np.shape(batch)[1] != np.shape(queries)[1]:
            raise UsageError(
                f"features of shape {np.shape(queries)} and {np.shape(batch)} cannot be compared: both need the shape (samples, features), with the "
                "same number of features."
            )
        similar = directions @ _unit_rows(batch).T
        places = np.arange(count, count + len(batch))
        similar[own[:, None] == places] = -np.inf
        count += len(batch)
        best = np.concatenate([best, similar], axis=1)
        where = np.concatenate([where, np.broadcast_to(places, similar.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :limit]
        best, where = np.take_along_axis(best, order, axis=1), np.take_along_axis(where, order, axis=1)
    if not count:
        raise DataError("there is nothing to compare with: no samples were given.")
    return Nearest(read_only(where), read_only(best), count)


def _unit_rows(values: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return unit


def _without_gradients(module: nn.Module, batch: Tensor) -> None:
    with torch.no_grad():
        run_module(module, batch)


def _whole(places: Array) -> tuple[int, ...]:
    return tuple(int(place) for place in places)


def _checked(probabilities: Any, labels: Any) -> tuple[Array, Array]:
    chances, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if chances.ndim != 2 or truth.shape != chances.shape[:1]:
        raise UsageError(
            f"probabilities of shape {chances.shape} and labels of shape {truth.shape} do not fit together: "
            "they need the shapes (samples, classes) and (samples,)."
        )
    if not len(truth):
        raise DataError("there is nothing to look at: no samples were given.")
    if truth.min() < 0 or truth.max() >= chances.shape[1]:
        wrong = int(truth.min() if truth.min() < 0 else truth.max())
        raise UsageError(
            f"label {wrong} does not exist: there are probabilities of {chances.shape[1]} classes, counted from 0."
        )
    return chances, truth
