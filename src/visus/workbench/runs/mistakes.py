"""The mistakes of a run with sample names and the training samples with the most similar features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.caller import for_caller, option
from visus.data.batches import Part, random_stream
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.errors import DataError, UsageError
from visus.evaluation import curves
from visus.evaluation.intervals import wilson_interval
from visus.examine.mistake_report import (
    ConfusedPair,
    MistakeReport,
    ShownSample,
    SimilarSample,
    SplitLabels,
    drawn_places,
)
from visus.examine.mistakes import (
    MAX_SHOWN,
    Suspect,
    feature_layer,
    features,
    find_mistakes,
    nearest_samples,
    suspicious_labels,
)
from visus.progress import SILENT, Monitor, OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.units import split_name, write_number_of, write_share
from visus.workbench.runs.out_of_fold import read_out_of_fold
from visus.workbench.runs.saved import SavedRun, opened
from visus.workbench.runs.scoring import answers_of, known_among

MAX_TRAINING: Final = 5000
"""Maximum number of training samples to compare; from more, this many are drawn with a fixed seed."""

_BATCH: Final = 256
_MAX_VALUES: Final = 2**21  # input values of a batch
_ALIKE: Final = 3
_MAX_SUSPECT: Final = 0.25
_MAX_UNFINISHED: Final = 0.05
_MAX_WRONG_OF_HEAD: Final = 0.2
"""The share of out-of-fold predictions that may be wrong before a head may suspect no more than a twentieth: beyond it, one of five suspects had a wrong
label, below it four of five (``benchmarks/LOG.md``, 2026-12-01)."""
_LEARNED = "The network was trained on these samples: it has memorized many wrong labels, so the list has only a few of them. Use held-out samples instead."
_LEARNED_BUT_EXAMINED = (
    "The network was trained on these samples and has memorized many wrong labels; the labels that may be wrong are found "
    "out-of-fold."
)
_INFORMED = "The weights that the training started from may have been trained on these samples: then the list has only some of the wrong labels."
_NOT_LISTED = "Labels that may be wrong are not listed"
_CHOSE = "These samples were also used to select the weights."


@dataclass(frozen=True, eq=False)
class AnsweringNetwork:
    """A network with its classes and preprocessing.

    Args:
        module: returns (samples, classes).
        classes: class names.
        preprocessing: preprocessing of every sample.
    """

    module: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def named_mistakes(
    network: AnsweringNetwork,
    part: Part,
    probabilities: Tensor,
    training: Part | None = None,
    *,
    split: str = "",
    limit: int = MAX_SHOWN,
    max_training: int = MAX_TRAINING,
    are_labels_apart: bool = False,
    is_unfinished: bool = False,
    monitor: Monitor = SILENT,
) -> MistakeReport:
    """The predictions to review.

    Args:
        network: the network.
        part: the samples.
        probabilities: its probabilities, (samples, classes).
        training: training samples to search for similar ones; None for no search.
        split: display name of the samples; default: the name of their split.
        limit: maximum number of samples of each kind.
        max_training: maximum number of training samples to compare.
        is_unfinished: whether a longer training may gain more; then many suspicious labels are signs of a weak network.
        are_labels_apart: whether possible label errors are left out of the most confident mistakes, since they are listed by themselves.
        monitor: receives the progress of the comparison, and can cancel.

    Raises:
        DataError: the split is empty.
        UsageError: ``limit`` is below 1.
    """
    places = find_mistakes(probabilities, part.labels, limit=limit)
    suspects = suspicious_labels(probabilities, part.labels)

    def shown(place: int) -> ShownSample:
        answer, label = int(probabilities[place].argmax()), int(part.labels[place])
        names = network.classes
        chosen, own = float(probabilities[place, answer]), float(probabilities[place, label])
        return ShownSample(part.names[place], place, names[label], names[answer], chosen, own)

    noun = network.preprocessing.noun
    poor = "" if part.name == "train" else _too_poor(part.labels, noun, places.num_wrong, len(suspects), is_unfinished)
    if poor:
        suspects = ()
    confident = places.confident_wrong
    if are_labels_apart and suspects:
        listed = {each.place for each in suspects}
        every = find_mistakes(probabilities, part.labels, limit=limit + len(listed)).confident_wrong
        confident = tuple(place for place in every if place not in listed)[:limit]
    notes = [_LEARNED] if part.name == "train" else [_CHOSE] if part.name == "val" else []
    notes += [poor] if poor else []
    found = MistakeReport(
        split=split or part.name,
        noun=noun,
        num_samples=len(part),
        num_wrong=places.num_wrong,
        confident_wrong=tuple(map(shown, confident)),
        unsure_right=tuple(map(shown, places.unsure_right)),
        confusions=tuple(
            ConfusedPair(
                network.classes[each.label], network.classes[each.answer], each.num_samples, tuple(map(shown, each.places))
            )
            for each in places.confusions
        ),
        suspicious=tuple(_suspected(part, network.classes, each) for each in suspects[:limit]),
        num_suspicious=len(suspects),
        notes=tuple(notes),
        is_unfinished=bool(poor) and is_unfinished,
    )
    return (
        found
        if training is None or not len(training)
        else _with_similar(network, found, part, training, max_training, monitor)
    )


def _too_poor(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    noun: str,
    num_wrong: int,
    num_suspects: int,
    is_unfinished: bool = False,
    is_head: bool = False,
) -> str:
    """Why a network is too inaccurate to judge labels; empty if it is not.

    It must beat the guess of the most frequent class, by the lower end of the 95 % interval of its accuracy, and suspect no more than a
    quarter of all labels; no more than a twentieth if a longer training may gain more, or if a head is wrong on more than a fifth.
    """
    num_samples = len(labels)
    low, _ = wilson_interval(num_samples - num_wrong, num_samples)
    guess = int(np.bincount(labels).max()) / num_samples
    is_weak = is_head and num_wrong > _MAX_WRONG_OF_HEAD * num_samples
    limit = _MAX_UNFINISHED if is_unfinished or is_weak else _MAX_SUSPECT
    if not num_suspects or (low > guess and num_suspects <= limit * num_samples):
        return ""
    right = f"it predicts the label of {num_samples - num_wrong:,} of {write_number_of(num_samples, noun)}"
    excess = (
        "while its accuracy still rises: train longer first"
        if is_unfinished
        else "more than a quarter"
        if num_suspects > _MAX_SUSPECT * num_samples
        else "more than a twentieth, though a fifth of its answers is wrong"
    )
    why = (
        f"and would suspect {num_suspects:,} labels, {excess}"
        if low > guess
        else f"which does not show that it beats always guessing one class ({write_share(guess)})"
    )
    return f"{_NOT_LISTED}, since this network is too inaccurate to judge them: {right}, {why}."


def may_gain(run: SavedRun) -> bool:
    """Whether a longer training may gain more; a run that started from trained weights is not judged by its epochs."""
    if not (run.folder / "results.csv").is_file() or (run.folder / "start.json").is_file():
        return False
    return curves.is_unfinished(run.history.rows)


def training_labels_of(run: SavedRun, training: Part, fingerprint: str, limit: int = MAX_SHOWN) -> SplitLabels | None:
    """The possible label errors of a run's training set, by its out-of-fold predictions; None if it has none for these samples.

    Args:
        run: the run.
        training: the training samples of its own data.
        fingerprint: fingerprint of the data, which shows whether it is the run's own.
        limit: maximum number of samples.

    Raises:
        RunError: a file of the run is damaged.
    """
    folder = RunFolder.open(run.folder)
    kept = read_out_of_fold(folder)
    if kept is None or fingerprint != folder.read_json("data.json")["fingerprint"] or len(kept.labels) != len(training):
        return None
    notes = () if kept.network else (_INFORMED,)
    return _examined(run, training, torch.softmax(kept.logits.double(), 1), limit, notes, is_head=True)


def _examined(
    run: SavedRun,
    part: Part,
    probabilities: Tensor,
    limit: int,
    notes: tuple[str, ...] = (),
    *,
    is_unfinished: bool = False,
    is_head: bool = False,
) -> SplitLabels:
    """The possible label errors of a split, by the predicted probabilities (samples, classes)."""
    num_samples = len(part)
    suspects = suspicious_labels(probabilities, part.labels)
    num_wrong = int((probabilities.argmax(1) != torch.from_numpy(part.labels)).sum())
    if poor := _too_poor(part.labels, run.preprocessing.noun, num_wrong, len(suspects), is_unfinished, is_head):
        return SplitLabels(num_samples, num_wrong, (), 0, reason=poor, split=part.name)
    shown = tuple(_suspected(part, run.classes, each) for each in suspects[:limit])
    return SplitLabels(num_samples, num_wrong, shown, len(suspects), notes, split=part.name)


def unexamined_labels(run: SavedRun, data: Data, splits: Sequence[str]) -> str:
    """A sentence that only the samples of these splits were examined for label errors, and how to examine the training set."""
    training = data.split("train")
    if "train" in splits or not len(training):
        return ""
    plan, ways = run.preprocessing, []
    split_seed = RunFolder.open(run.folder).read_json("data.json").get("split_seed")
    if split_seed is not None:
        ways.append(f"train on another split ({option('split_seed', split_seed + 1)})")
    if plan.channels == 3 and plan.dtype == "uint8" and len(plan.size) == 2:
        ways.append(f"train from pretrained weights ({for_caller('--pretrained --epochs 0', 'pretrained=True, epochs=0')})")
    how = ", or ".join(ways) or f"list those that the network did not memorize ({option('split', 'train')})"
    examined = " and ".join(write_number_of(len(data.split(each)), f"{split_name(each)} {data.noun}") for each in splits)
    return f"Only the {examined} were examined for wrong labels. To examine the training set, {how}."


def _suspected(part: Part, classes: Sequence[str], each: Suspect) -> ShownSample:
    names = classes[each.label], classes[each.suggested]
    return ShownSample(part.names[each.place], each.place, *names, each.suggested_probability, each.label_probability)


def _with_similar(
    network: AnsweringNetwork, found: MistakeReport, part: Part, training: Part, max_training: int, monitor: Monitor
) -> MistakeReport:
    """The same with the training samples that are most like each; where the network has no features, a note says why there are none."""
    places = sorted({each.place for each in found.shown()})
    if not places:
        return found
    drawn = _drawn(len(training), max_training)
    try:
        layer = feature_layer(network.module, next(_batches(network.preprocessing, part, np.array(places[:1]))))
    except UsageError as error:
        return replace(found, notes=(*found.notes, f"No similar training samples: {error.message}"))
    wanted = np.concatenate(list(_features(network, part, np.array(places), layer)))
    own = None
    if part is training or part.name == training.name == "train":
        where = {int(place): index for index, place in enumerate(drawn)}
        own = [where.get(place, -1) for place in places]
    nearest = nearest_samples(wanted, _features(network, training, drawn, layer, monitor), limit=_ALIKE, skip=own)
    alike = {}
    for index, place in enumerate(places):
        pairs = zip(drawn[nearest.places[index]], nearest.similarity[index], strict=True)
        alike[place] = tuple(
            SimilarSample(training.names[each], int(each), network.classes[int(training.labels[each])], float(similarity))
            for each, similarity in pairs
            if np.isfinite(similarity)
        )

    def with_similar(samples: Sequence[ShownSample]) -> tuple[ShownSample, ...]:
        return tuple(replace(each, alike=alike[each.place]) for each in samples)

    return replace(
        found,
        confident_wrong=with_similar(found.confident_wrong),
        unsure_right=with_similar(found.unsure_right),
        confusions=tuple(replace(pair, samples=with_similar(pair.samples)) for pair in found.confusions),
        suspicious=with_similar(found.suspicious),
        feature_layer=layer,
        num_compared=nearest.num_compared,
        num_training=len(training),
    )


def find_run_mistakes(
    run: SavedRun,
    data: str | Path | Data | None = None,
    *,
    split: str | None = None,
    limit: int = MAX_SHOWN,
    raw: bool = False,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> MistakeReport:
    """The predictions of a run to review; the arguments are those of ``Run.mistakes``.

    Raises:
        DataError: the split is empty, or the data has changed since the training.
        UsageError: ``limit`` is below 1.
    """
    monitor = Monitor(on_event, should_stop)
    samples = opened(run, data, cache_dir=cache_dir, monitor=monitor)
    chosen = split or samples.scored_split
    part = samples.split(chosen)
    training, notes = _training_samples(run, samples, cache_dir, monitor)
    probabilities = run.probabilities(answers_of(run, samples, chosen, monitor), raw=raw)
    network = AnsweringNetwork(run.module, run.classes, run.preprocessing)
    shown_split = "all" if samples.is_whole else chosen
    found = named_mistakes(
        network,
        part,
        probabilities,
        training,
        split=shown_split,
        limit=limit,
        is_unfinished=may_gain(run),
        monitor=monitor,
    )
    known, unknown = known_among(run, part, samples)
    if known is not None and known[0].any() and chosen != "train":
        many = f"{int(known[0].sum()):,} of {write_number_of(len(known[0]), samples.noun)}"
        notes = [f"{many} were in the training set: the network has memorized many of their labels.", *notes]
    found = replace(found, notes=(*found.notes, *notes, *unknown))
    if chosen == "test" and not samples.is_whole and len(samples.split("val")):
        found = replace(found, validation_labels=_validation_labels(run, samples, found, limit, raw, monitor))
    if not samples.is_whole:
        found = with_training_labels(run, samples, chosen, found, limit)
    places = drawn_places(found)
    rows = part.rows(np.array(places, dtype=np.int64)).numpy()
    return replace(found, pixels=dict(zip(places, rows, strict=True)))


def with_training_labels(run: SavedRun, data: Data, split: str, found: MistakeReport, limit: int) -> MistakeReport:
    """The same with the possible label errors of the training set, or with a sentence on why it was not examined.

    Args:
        run: the run.
        data: its own data.
        split: the split of ``found``.
        found: the mistakes on that split; of the training set, the out-of-fold predictions replace its list of possible label errors.
        limit: maximum number of samples.
    """
    training = training_labels_of(run, data.split("train"), data.fingerprint, limit)
    if training is None:
        examined = [split, *(["val"] if found.validation_labels is not None else [])]
        return replace(found, unexamined=unexamined_labels(run, data, examined))
    if split == "train":
        notes = tuple(_LEARNED_BUT_EXAMINED if note == _LEARNED else note for note in found.notes)
        found = replace(found, suspicious=training.suspicious, num_suspicious=training.num_suspicious, notes=notes)
    return replace(found, training_labels=training)


def _validation_labels(
    run: SavedRun, data: Data, found: MistakeReport, limit: int, raw: bool, monitor: Monitor
) -> SplitLabels | None:
    """The possible label errors of the validation set; None if the network is too inaccurate to judge it and the evaluated split."""
    probabilities = run.probabilities(answers_of(run, data, "val", monitor), raw=raw)
    labels = _examined(run, data.split("val"), probabilities, limit, is_unfinished=may_gain(run))
    is_said = any(note.startswith(_NOT_LISTED) for note in found.notes)
    return None if labels.reason and is_said else labels


def _training_samples(
    run: SavedRun, data: Data, cache_dir: str | Path | None, monitor: Monitor
) -> tuple[Part | None, list[str]]:
    """The samples that the network learned from; for other data, why they are missing if they are."""
    if not data.is_whole and len(data.split("train")):
        return data.split("train"), []
    try:
        return run.open_data(cache_dir=cache_dir, **monitor.keywords).split("train"), []
    except DataError as error:
        return None, [f"No similar training samples: {error.message}"]


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
    network: AnsweringNetwork,
    part: Part,
    places: np.ndarray[tuple[int], np.dtype[np.int64]],
    layer: str,
    monitor: Monitor = SILENT,
) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    yield from features(
        network.module,
        monitor.over(_batches(network.preprocessing, part, places), "comparing with training samples", len(places)),
        layer,
    )
