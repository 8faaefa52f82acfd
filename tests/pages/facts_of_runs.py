"""Facts of runs that never were, for the tests of the report and the card."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from visus.evaluation.calibration import TemperatureFit, calibrate
from visus.evaluation.equivariance import Equivariance, LayerShift
from visus.evaluation.scores import Scores, score
from visus.evaluation.shifts import ShiftFigures
from visus.examine.mistake_report import ConfusedPair, MistakeReport, ShownSample, SimilarSample
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import (
    FieldGrowth,
    FirstFilters,
    LayerField,
    ReportMeasurements,
    SaliencyMaps,
    ShiftResults,
)


def made_up_scores(num_classes: int = 3, num_samples: int = 60, num_wrong: int = 6, **more: Any) -> Scores:
    """Scores in which the first ``num_wrong`` samples are taken for the class after theirs, all with a confidence of 0.9."""
    labels = torch.arange(num_samples) % num_classes
    predicted = labels.clone()
    predicted[:num_wrong] = (labels[:num_wrong] + 1) % num_classes
    chances = torch.full((num_samples, num_classes), 0.1 / (num_classes - 1))
    chances[torch.arange(num_samples), predicted] = 0.9
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
        "result": scores,
        "classes": scores.classes,
        "class_counts": {"train": [100] * len(scores.classes), "test": [row.num_samples for row in scores.per_class]},
        "input_shape": (1, 28, 28),
        "num_parameters": 12_345,
        "macs": 9_633_856,
        "history": [
            {"epoch": str(e), "train_loss": str(1 / e), "val_loss": "", "train_accuracy": 1 - 0.5 / e, "val_accuracy": 1 - 0.6 / e, "val_score": 1 - 0.6 / e}
            | {"samples_per_second": 1000 * e}
            for e in epochs
        ],
        "seconds": 187.0,
        "ledger_sentences": ["2 images were turned upright."],
        "warnings": ["the class coat is rare."],
        "design_text": "conv(32, 3), relu, globalpool, linear(classes)",
        "network": "compact",
        "preprocessing": {"kind": "images", "channels": 1, "size": [28, 28], "resize_mode": "crop", "dtype": "uint8", "normalize": "mean-deviation", "offset": [72.94], "divisor": [90.1]},
        "recipe": {"seed": 7, "epochs": 3, "batch_size": 64, "optimizer": "muon", "learning_rate": 0.05, "label_smoothing": 0.2, "cutout": 0.3, "final_ema": 0.03},
        "machine": {"device": "cpu", "precision": "bfloat16", "channels_last": True, "reason": "bfloat16: asked for"},
        "environment": {"visus": "0.1.0", "python": "3.13.0", "packages": {"torch": "2.13.0", "simplejpeg": None}, "processor": "Some CPU", "cores": 4, "threads": 2},
        "best_epoch": 2,
        "folder": "runs/shoes-2",
        "check_command": "visus check shoes",
    }  # fmt: skip
    return ReportFacts(**{**settings, **more})


def made_up_measurements(
    shape: tuple[int, ...] = (3, 24, 20), name: str = "boot-07.jpg", label: str = "boot", **more: Any
) -> ReportMeasurements:
    """All measurements of a report, of samples of a shape, as of a network of two convolutions."""
    rng = np.random.default_rng(0)
    spatial = shape[1:]
    alike = (SimilarSample(f"near-{name}", 3, label, 0.97),)
    wrong = tuple(ShownSample(f"{place}-{name}", place, label, "coat", 0.99, 0.005, alike) for place in range(6))
    right = tuple(ShownSample(f"{place}-{name}", place, label, label, 0.41, 0.41, alike) for place in range(6, 12))
    mistakes = MistakeReport(
        split="test", noun="image", num_samples=60, num_wrong=6, confident_wrong=wrong[:3], unsure_right=right,
        confusions=tuple(ConfusedPair(label, f"coat {place}", 6 - place, wrong) for place in range(4)), suspicious=wrong[3:], num_suspicious=3,
        feature_layer="linear1", num_compared=200, num_training=300, notes=("These samples also chose the weights that were kept.",),
        unexamined="Only the 60 test images were examined for wrong labels. Train again.",
    )  # fmt: skip
    logits = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * 2
    labels = torch.arange(60) % 3
    reach = (3,) * len(spatial)
    ways = tuple(
        ShiftFigures(way, reach, 9, False, 50, share, share - 0.1, share + 0.05, 0.9, 0.7, 0.1, 0.2)
        for way, share in (("roll", 0.93), ("zeros", 0.89))
    )
    moves = LayerShift("pool1", "maxpool(2)", (2,) * len(spatial), False, 0.2, 0.15)
    layers = Equivariance((1,) * len(spatial), "roll", 4, (moves,))
    remedy = (
        "blurred pooling instead of strides",
        "12.3 k instead of 12.3 k parameters",
        "visus experiment antialias runs/shoes-2",
    )
    kernels = rng.normal(size=(8, shape[0], *([3] * len(spatial))))
    settings: dict[str, Any] = {
        "calibration": calibrate(logits, labels, "test", TemperatureFit(2.0, "", "val", 60)),
        "shifts": ShiftResults("test", 50, ways, layers, (remedy,), ("Measured on few.",)),
        "mistakes": mistakes,
        "saliency": SaliencyMaps(
            "Grad-CAM", "conv2", "'conv2' is the last layer whose map is fine.",
            {place: rng.random(spatial) for place in range(12)}, "With all weights random the map stays much the same.", False,
        ),
        "samples": {place: rng.integers(0, 256, size=shape).astype(np.uint8) for place in range(12)},
        "training_samples": {3: rng.integers(0, 256, size=shape).astype(np.uint8)},
        "field_growth": FieldGrowth(
            spatial, (LayerField("conv1", "Conv2d(8, 3)", reach, False), LayerField("pool", "globalpool", spatial, True)), "conv1",
            tuple(length // 2 for length in spatial), tuple((4, 6) for _ in spatial),
        ),
        "first_filters": FirstFilters("conv1", "Conv2d(8, 3)", 8, kernels),
        "costs": (("Predictions", "60 images in 0.1 s, 600 per second"),),
        "advice": ("conv2: what enters this layer sees all of it already.",),
    }  # fmt: skip
    return ReportMeasurements(**{**settings, **more})
