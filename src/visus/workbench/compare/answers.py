"""What a run answers on the compared samples: its scores, and its predictions, which comparisons match sample by sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.evaluations.evaluation import Answers, Evaluation, LabeledSamples, Marks
from visus.workbench.runs.saved import SavedRun, run_evaluation


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers of a run on the samples.

    Args:
        scores: their scores.
        evaluation: how its outputs became answers, with the classes in the order of the first run.
        answers: the answers.
    """

    scores: AnyScores
    evaluation: Evaluation[Any, Any]
    answers: Answers


def answered(
    run: SavedRun,
    logits: torch.Tensor,
    classes: Sequence[str],
    samples: LabeledSamples,
    known: Marks | None,
    *,
    raw: bool = False,
) -> Answered:
    """The scores and answers of a run.

    Args:
        run: the run.
        logits: its outputs for the samples, in their order, with the columns of the run.
        classes: the classes of the first run; of regression, the targets.
        samples: the samples, in the order of the first run, with its classes.
        known: whether each sample is in the training set, and whether it is in the validation set; None if unknown.
        raw: use the network's own probabilities.
    """
    places = [run.classes.index(name) for name in classes]
    evaluation, outputs = run_evaluation(run, raw=raw).chosen(places), logits[:, places]
    scores = evaluation.score(outputs, dataclasses.replace(samples, known=known))
    return Answered(scores, evaluation, evaluation.answers(outputs))
