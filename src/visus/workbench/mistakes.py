"""The answers of a run that are worth a look, by the names of their items, with the training items that are most like them.

This file knows opened data and what is compared with what. It must not know runs, drawing, nor how mistakes are found.
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
from visus.examine.mistakes import (
    MOST,
    Suspect,
    feature_layer,
    features,
    find_mistakes,
    nearest_items,
    suspicious_labels,
)
from visus.examine.named_mistakes import Alike, NamedMistakes, Pair, Shown
from visus.units import write_number_of, write_share

MOST_TRAINING: Final = 5000
"""At most so many training items are compared; where there are more, so many are drawn with a fixed seed."""

_BATCH: Final = 256
_MOST_VALUES: Final = 2**21  # input values of a batch
_ALIKE: Final = 3
_MOST_SUSPECT: Final = 0.25
_LEARNED = "The network has learned from these very items: it knows many wrong labels by heart and suspects only a few. Held-out items tell more."
_CHOSE = "These items also chose the weights that were kept."


@dataclass(frozen=True, eq=False)
class Answering:
    """A network and what it reads.

    Args:
        module: gives (items, classes).
        classes: their names.
        preprocessing: what is done to every item.
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
    most: int = MOST,
    most_training: int = MOST_TRAINING,
) -> NamedMistakes:
    """The answers worth a look.

    Args:
        network: what answered.
        part: the items.
        chances: its probabilities, (items, classes).
        training: the training items that are looked through for similar ones; None for none.
        split: what the items are called; the name of their split where it is left out.
        most: items of each kind.
        most_training: training items that are compared at most.

    Raises:
        DataError: there is no item.
        UsageError: fewer than one item of each kind is asked for.
    """
    found = find_mistakes(chances, part.labels, most=most)
    suspects = suspicious_labels(chances, part.labels)

    def shown(place: int) -> Shown:
        answer, label = int(chances[place].argmax()), int(part.labels[place])
        names = network.classes
        chosen, own = float(chances[place, answer]), float(chances[place, label])
        return Shown(part.items[place], place, names[label], names[answer], chosen, own)

    poor = "" if part.name == "train" else _too_poor(network, part, found.num_wrong, len(suspects))
    if poor:
        suspects = ()
    notes = [_LEARNED] if part.name == "train" else [_CHOSE] if part.name == "val" else []
    notes += [poor] if poor else []
    told = NamedMistakes(
        split=split or part.name,
        noun=network.preprocessing.noun,
        num_items=len(part),
        num_wrong=found.num_wrong,
        confident_wrong=tuple(map(shown, found.confident_wrong)),
        unsure_right=tuple(map(shown, found.unsure_right)),
        confusions=tuple(
            Pair(network.classes[each.label], network.classes[each.answer], each.num_items, tuple(map(shown, each.places)))
            for each in found.confusions
        ),
        suspicious=tuple(_suspected(part, network.classes, each) for each in suspects[:most]),
        num_suspicious=len(suspects),
        notes=tuple(notes),
    )
    return told if training is None or not len(training) else _with_alike(network, told, part, training, most_training)


def _too_poor(network: Answering, part: Part, num_wrong: int, num_suspects: int) -> str:
    """Why a network's doubt about labels is worth nothing; empty where it is worth something.

    It must beat the guess of the most frequent class, by the lower end of the 95 % interval of its accuracy, and suspect no more than a
    quarter of all labels.
    """
    num_items = len(part)
    low, _ = wilson_interval(num_items - num_wrong, num_items)
    guess = int(np.bincount(part.labels).max()) / num_items
    if not num_suspects or (low > guess and num_suspects <= _MOST_SUSPECT * num_items):
        return ""
    noun = network.preprocessing.noun
    right = f"it names {num_items - num_wrong:,} of {write_number_of(num_items, noun)} as they are labelled"
    why = (
        f"and would suspect {num_suspects:,} labels, more than a quarter"
        if low > guess
        else f"which does not show that it beats always guessing one class ({write_share(guess)})"
    )
    return f"Labels that may be wrong are not listed, for this network is too poor to judge them: {right}, {why}."


def _suspected(part: Part, classes: Sequence[str], each: Suspect) -> Shown:
    names = classes[each.label], classes[each.suggested]
    return Shown(part.items[each.place], each.place, *names, each.suggested_probability, each.label_probability)


def _with_alike(network: Answering, told: NamedMistakes, part: Part, training: Part, most_training: int) -> NamedMistakes:
    """The same with the training items that are most like each; told without them where the network has no features."""
    places = sorted({each.place for each in told.shown()})
    if not places:
        return told
    drawn = _drawn(len(training), most_training)
    try:
        layer = feature_layer(network.module, next(_batches(network.preprocessing, part, np.array(places[:1]))))
    except UsageError as error:
        return replace(told, notes=(*told.notes, f"Similar training items were not looked for: {error.message}"))
    wanted = np.concatenate(list(_features(network, part, np.array(places), layer)))
    own = None
    if part is training or part.name == training.name == "train":
        where = {int(place): index for index, place in enumerate(drawn)}
        own = [where.get(place, -1) for place in places]
    nearest = nearest_items(wanted, _features(network, training, drawn, layer), most=_ALIKE, skip=own)
    alike = {}
    for index, place in enumerate(places):
        pairs = zip(drawn[nearest.places[index]], nearest.similarity[index], strict=True)
        alike[place] = tuple(
            Alike(training.items[each], int(each), network.classes[int(training.labels[each])], float(similarity))
            for each, similarity in pairs
            if np.isfinite(similarity)
        )

    def beside(items: Sequence[Shown]) -> tuple[Shown, ...]:
        return tuple(replace(each, alike=alike[each.place]) for each in items)

    return replace(
        told,
        confident_wrong=beside(told.confident_wrong),
        unsure_right=beside(told.unsure_right),
        confusions=tuple(replace(pair, items=beside(pair.items)) for pair in told.confusions),
        suspicious=beside(told.suspicious),
        feature_layer=layer,
        num_compared=nearest.num_compared,
        num_training=len(training),
    )


def _drawn(num_items: int, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Places of at most so many items, drawn with a fixed seed, in order."""
    if num_items <= most:
        return np.arange(num_items)
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        torch.randperm(num_items, generator=random_stream(0, "similar items"))[:most].sort().values.numpy()
    )
    return chosen


def _batches(
    preprocessing: Preprocessing, part: Part, places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[Tensor]:
    size = max(8, min(_BATCH, _MOST_VALUES // math.prod(preprocessing.input_shape)))
    for start in range(0, len(places), size):
        yield preprocessing.scaled(part.rows(places[start : start + size]))


def _features(
    network: Answering, part: Part, places: np.ndarray[tuple[int], np.dtype[np.int64]], layer: str
) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    yield from features(network.module, _batches(network.preprocessing, part, places), layer)
