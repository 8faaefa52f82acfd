"""Facts of runs that never were, for the tests of the report and the card."""

from __future__ import annotations

from typing import Any

import torch

from visus.evaluation.scores import Scores, score
from visus.examine.facts import ReportFacts


def made_up_scores(num_classes: int = 3, num_items: int = 60, num_wrong: int = 6, **more: Any) -> Scores:
    """Scores in which the first ``num_wrong`` items are taken for the class after theirs, all with a confidence of 0.9."""
    labels = torch.arange(num_items) % num_classes
    predicted = labels.clone()
    predicted[:num_wrong] = (labels[:num_wrong] + 1) % num_classes
    chances = torch.full((num_items, num_classes), 0.1 / (num_classes - 1))
    chances[torch.arange(num_items), predicted] = 0.9
    names = ["bag", "boot", "coat"] if num_classes == 3 else [f"class {place}" for place in range(num_classes)]
    return score(chances, labels, more.pop("classes", names), split=more.pop("split", "test"), **more)


def made_up_facts(scores: Scores | None = None, **more: Any) -> ReportFacts:
    scores = scores or made_up_scores()
    epochs = (1, 2, 3)
    settings: dict[str, Any] = {
        "name": "shoes-2",
        "created": "2031-05-04 14:05",
        "command": "visus train shoes --seed 7",
        "data_name": "shoes",
        "data": {"Kind": "a folder for each class"},
        "scores": scores,
        "classes": scores.classes,
        "class_counts": {"train": [100] * len(scores.classes), "test": [row.num_items for row in scores.per_class]},
        "input_shape": (1, 28, 28),
        "num_parameters": 12_345,
        "macs": 9_633_856,
        "history": [
            {"epoch": str(e), "train_loss": str(1 / e), "val_loss": "", "train_accuracy": 1 - 0.5 / e, "val_accuracy": 1 - 0.6 / e}
            | {"pictures_per_second": 1000 * e}
            for e in epochs
        ],
        "seconds": 187.0,
        "ledger_sentences": ["2 pictures were turned upright."],
        "warnings": ["coat is rare."],
        "design_text": "conv(32, 3), relu, globalpool, linear(classes)",
        "network": "compact",
        "preprocessing": {"kind": "pictures", "channels": 1, "size": [28, 28], "rule": "crop", "dtype": "uint8", "scale": "mean-deviation", "offset": [72.94], "divisor": [90.1]},
        "recipe": {"seed": 7, "epochs": 3},
        "machine": {"device": "cpu", "precision": "bfloat16", "channels_last": True, "reason": "bfloat16: asked for"},
        "environment": {"visus": "0.1.0", "python": "3.13.0", "packages": {"torch": "2.13.0", "simplejpeg": None}, "processor": "Some CPU", "cores": 4, "threads": 2},
        "best_epoch": 2,
    }  # fmt: skip
    return ReportFacts(**{**settings, **more})
