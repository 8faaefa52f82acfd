"""The answers of a run that are worth a look, by the names of their samples, with the training samples that are most like them.

This file knows opened data and what is compared with what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.data.batches import Part, random_stream
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError
from visus.evaluation.scores import wilson_interval
from visus.examine.mistake_report import ConfusedPair, MistakeReport, ShownSample, SimilarSample
from visus.examine.mistakes import (
    MAX_SHOWN,
    Suspect,
    feature_layer,
    features,
    find_mistakes,
    nearest_samples,
    suspicious_labels,
)
from visus.units import write_number_of, write_share

MAX_TRAINING: Final = 5000
"""At most so many training samples are compared; where there are more, so many are drawn with a fixed seed."""

_BATCH: Final = 256
_MAX_VALUES: Final = 2**21  # input values of a batch
_ALIKE: Final = 3
_MAX_SUSPECT: Final = 0.25
_LEARNED = "The network has learned from these very samples: it knows many wrong labels by heart and suspects only a few. Held-out samples tell more."
_CHOSE = "These samples also chose the weights that were kept."


@dataclass(frozen=True, eq=False)
class Answering:
    """A network and what it reads.

    Args:
        module: gives (samples, classes).
        classes: their names.
        preprocessing: what is done to every sample.
    """

    module: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def named_mistakes(
    network: Answering,
    part: Part,
    chances: Tensor,
    training: Part | None = None,
    *,
    split: str = "",
    limit: int = MAX_SHOWN,
    most_training: int = MAX_TRAINING,
) -> MistakeReport:
    """The answers worth a look.

    Args:
        network: what answered.
        part: the samples.
        chances: its probabilities, (samples, classes).
        training: the training samples that are looked through for similar ones; None for none.
        split: what the samples are called; the name of their split where it is left out.
        limit: samples of each kind.
        most_training: training samples that are compared at most.

    Raises:
        DataError: there is no sample.
        UsageError: fewer than one sample of each kind is asked for.
    """
    found = find_mistakes(chances, part.labels, limit=limit)
    suspects = suspicious_labels(chances, part.labels)

    def shown(place: int) -> ShownSample:
        answer, label = int(chances[place].argmax()), int(part.labels[place])
        names = network.classes
        chosen, own = float(chances[place, answer]), float(chances[place, label])
        return ShownSample(part.names[place], place, names[label], names[answer], chosen, own)

    poor = "" if part.name == "train" else _too_poor(network, part, found.num_wrong, len(suspects))
    if poor:
        suspects = ()
    notes = [_LEARNED] if part.name == "train" else [_CHOSE] if part.name == "val" else []
    notes += [poor] if poor else []
    told = MistakeReport(
        split=split or part.name,
        noun=network.preprocessing.noun,
        num_samples=len(part),
        num_wrong=found.num_wrong,
        confident_wrong=tuple(map(shown, found.confident_wrong)),
        unsure_right=tuple(map(shown, found.unsure_right)),
        confusions=tuple(
            ConfusedPair(
                network.classes[each.label], network.classes[each.answer], each.num_samples, tuple(map(shown, each.places))
            )
            for each in found.confusions
        ),
        suspicious=tuple(_suspected(part, network.classes, each) for each in suspects[:limit]),
        num_suspicious=len(suspects),
        notes=tuple(notes),
    )
    return told if training is None or not len(training) else _with_alike(network, told, part, training, most_training)


def _too_poor(network: Answering, part: Part, num_wrong: int, num_suspects: int) -> str:
    """Why a network's doubt about labels is worth nothing; empty where it is worth something.

    It must beat the guess of the most frequent class, by the lower end of the 95 % interval of its accuracy, and suspect no more than a
    quarter of all labels.
    """
    num_samples = len(part)
    low, _ = wilson_interval(num_samples - num_wrong, num_samples)
    guess = int(np.bincount(part.labels).max()) / num_samples
    if not num_suspects or (low > guess and num_suspects <= _MAX_SUSPECT * num_samples):
        return ""
    noun = network.preprocessing.noun
    right = f"it names {num_samples - num_wrong:,} of {write_number_of(num_samples, noun)} as they are labeled"
    why = (
        f"and would suspect {num_suspects:,} labels, more than a quarter"
        if low > guess
        else f"which does not show that it beats always guessing one class ({write_share(guess)})"
    )
    return f"Labels that may be wrong are not listed, for this network is too poor to judge them: {right}, {why}."


def _suspected(part: Part, classes: Sequence[str], each: Suspect) -> ShownSample:
    names = classes[each.label], classes[each.suggested]
    return ShownSample(part.names[each.place], each.place, *names, each.suggested_probability, each.label_probability)


def _with_alike(network: Answering, told: MistakeReport, part: Part, training: Part, most_training: int) -> MistakeReport:
    """The same with the training samples that are most like each; told without them where the network has no features."""
    places = sorted({each.place for each in told.shown()})
    if not places:
        return told
    drawn = _drawn(len(training), most_training)
    try:
        layer = feature_layer(network.module, next(_batches(network.preprocessing, part, np.array(places[:1]))))
    except UsageError as error:
        return replace(told, notes=(*told.notes, f"Similar training samples were not looked for: {error.message}"))
    wanted = np.concatenate(list(_features(network, part, np.array(places), layer)))
    own = None
    if part is training or part.name == training.name == "train":
        where = {int(place): index for index, place in enumerate(drawn)}
        own = [where.get(place, -1) for place in places]
    nearest = nearest_samples(wanted, _features(network, training, drawn, layer), limit=_ALIKE, skip=own)
    alike = {}
    for index, place in enumerate(places):
        pairs = zip(drawn[nearest.places[index]], nearest.similarity[index], strict=True)
        alike[place] = tuple(
            SimilarSample(training.names[each], int(each), network.classes[int(training.labels[each])], float(similarity))
            for each, similarity in pairs
            if np.isfinite(similarity)
        )

    def beside(samples: Sequence[ShownSample]) -> tuple[ShownSample, ...]:
        return tuple(replace(each, alike=alike[each.place]) for each in samples)

    return replace(
        told,
        confident_wrong=beside(told.confident_wrong),
        unsure_right=beside(told.unsure_right),
        confusions=tuple(replace(pair, samples=beside(pair.samples)) for pair in told.confusions),
        suspicious=beside(told.suspicious),
        feature_layer=layer,
        num_compared=nearest.num_compared,
        num_training=len(training),
    )


def _drawn(num_samples: int, limit: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Places of at most so many samples, drawn with a fixed seed, in order."""
    if num_samples <= limit:
        return np.arange(num_samples)
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        torch.randperm(num_samples, generator=random_stream(0, "similar samples"))[:limit].sort().values.numpy()
    )
    return chosen


def _batches(
    preprocessing: Preprocessing, part: Part, places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[Tensor]:
    size = max(8, min(_BATCH, _MAX_VALUES // math.prod(preprocessing.input_shape)))
    for start in range(0, len(places), size):
        yield preprocessing.scaled(part.rows(places[start : start + size]))


def _features(
    network: Answering, part: Part, places: np.ndarray[tuple[int], np.dtype[np.int64]], layer: str
) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    yield from features(network.module, _batches(network.preprocessing, part, places), layer)
