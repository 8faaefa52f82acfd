"""The scores of a run: its outputs for a split, what they score, and the sentences that are displayed with them."""

from __future__ import annotations

import dataclasses

import torch

from visus.caller import option
from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.errors import DataError, UsageError
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples, Marks
from visus.evaluation.test_time_augmentation import describe_views
from visus.networks.machine import freed_memory_kept
from visus.progress import SILENT, Monitor
from visus.training.runs import RunFolder
from visus.training.validation import EVALUATION_BATCH
from visus.workbench.runs.learned_samples import known_samples
from visus.workbench.runs.reuse import reuse_sentence
from visus.workbench.runs.saved import SavedRun, check_logits, logits_of, run_evaluation


def answers_of(run: SavedRun, data: Data, split: str, monitor: Monitor = SILENT) -> torch.Tensor:
    """The logits of a run for one split of opened data; the arguments are those of ``answers_with_plain``.

    Raises:
        DataError: the split is empty.
    """
    return answers_with_plain(run, data, split, monitor)[0]


def answers_with_plain(run: SavedRun, data: Data, split: str, monitor: Monitor) -> tuple[torch.Tensor, float | None]:
    """The logits of a run for one split of opened data, and its accuracy without test-time augmentation, if that is at hand.

    Args:
        run: the run.
        data: opened data.
        split: name of the split.
        monitor: receives the progress.

    Raises:
        DataError: the split is empty.

    >>> from visus.progress import SILENT
    >>> logits, plain_accuracy = answers_with_plain(run, data, "test", SILENT)
    >>> logits.shape
    torch.Size([12, 3])
    """
    part = data.split(split)
    if not len(part):
        raise DataError(
            f"the {split} split of this data is empty. Choose another with {option('split')}.", where=data.samples.place
        )
    first_pass: list[torch.Tensor] = []
    with freed_memory_kept():
        batches = batches_in_order(part, run.preprocessing, EVALUATION_BATCH)
        logits = logits_of(run, monitor.over(batches, "scoring", len(part)), first_pass.append)
    labels, evaluation = torch.from_numpy(part.labels), run_evaluation(run)
    return logits, next((evaluation.accuracy(each, labels) for each in first_pass), None)


def score_split(
    run: SavedRun,
    data: Data,
    split: str,
    answers: torch.Tensor | None = None,
    *,
    raw: bool = False,
    monitor: Monitor = SILENT,
) -> AnyScores:
    """Score a run on one split of opened data; the arguments are those of ``Run.score``.

    Raises:
        DataError: the split is empty.
    """
    logits, plain = answers_with_plain(run, data, split, monitor) if answers is None else (answers, None)
    part = data.split(split)
    known, notes = known_among(run, part, data)
    samples = LabeledSamples(
        part.labels,
        "all" if data.is_whole else split,
        [*notes_on(run, data, split), *notes],
        known,
        data.groups_of(split),
    )
    return with_plain_accuracy(score_logits(run, logits, samples, raw=raw), plain)


def with_plain_accuracy(scores: AnyScores, plain: float | None) -> AnyScores:
    """The scores of single labels with the accuracy without test-time augmentation; others as they are.

    >>> with_plain_accuracy(scores, 0.5).plain_accuracy
    0.5
    """
    return dataclasses.replace(scores, plain_accuracy=plain) if isinstance(scores, Scores) else scores


def score_logits(run: SavedRun, logits: torch.Tensor, samples: LabeledSamples, *, raw: bool = False) -> AnyScores:
    """Score outputs of the network of a run.

    Args:
        run: the run.
        logits: (samples, classes), as from ``logits`` and ``answers``.
        samples: the samples.
        raw: score the network's own probabilities, not calibrated.

    Raises:
        UsageError: these are no logits of this network.

    >>> score_logits(run, run.answers(data, "test"), LabeledSamples(data.split("test").labels)).num_samples
    12
    """
    check_logits(run, logits)
    found: AnyScores = run_evaluation(run, raw=raw).score(logits, samples)
    return found


def known_among(run: SavedRun, part: Part, data: Data) -> tuple[Marks | None, list[str]]:
    """Which samples have the content of a training or validation sample of a run, and a note if that is unknown.

    Args:
        run: the run.
        part: the samples.
        data: the data that contains them.

    >>> marks, notes = known_among(run, data.split("train"), data)
    >>> bool(marks[0].all()), notes
    (True, [])
    """
    cache = data.store.folder.parent
    return known_samples(RunFolder.open(run.folder), part, data, lambda: run.open_data(cache_dir=cache))


def notes_on(run: SavedRun, data: Data, split: str) -> list[str]:
    """Notes on the samples and the network, for display with the scores.

    >>> notes_on(run, data, "val")[-1].startswith("The validation split also selected the weights")
    True
    """
    notes = [sentence] if (sentence := views_sentence(run)) else []
    facts = RunFolder.open(run.folder).read_json("data.json")
    if split == "val" and not len(data.split("test")):
        notes.append(
            "This data has no test split. The validation split was scored, which also selected the weights: expect slightly lower accuracy on new data."
        )
    elif split == "val" and not data.is_whole:
        notes.append("The validation split also selected the weights: expect slightly lower accuracy on new data.")
    if split == "test" and data.fingerprint == facts["fingerprint"] and not data.is_whole:
        notes += [sentence] if (sentence := reuse_sentence(run.folder, data.noun, len(data.split("test")))) else []
    return notes


def views_sentence(run: SavedRun) -> str:
    """A sentence on the test-time augmentation of a run; empty if there is none.

    >>> views_sentence(run).startswith("Unsure predictions are the mean over ")
    True
    """
    return describe_views(run.recipe.tta or "none", run.preprocessing.noun)


def calibration_sentence(run: SavedRun, *, raw: bool = False) -> str:
    """Whether the probabilities of a run are calibrated, as a sentence.

    >>> calibration_sentence(run).startswith("Probabilities are not calibrated: ")
    True
    """
    if raw and run.calibrator(raw=True) != run.calibrator():
        return "Probabilities are the network's own (raw), not calibrated."
    return run.calibration.sentence(run.preprocessing.noun)


def needs_confusion(run: SavedRun) -> None:
    """Raise an error for a run that has no confusion matrix.

    Raises:
        UsageError: it predicts sets of classes or numbers.
    """
    if run.task.name != "single-label":
        raise UsageError(
            f"A confusion matrix is for networks that predict one class for each sample, and this run predicts {run.task.name}.",
            where=run.name,
        )
