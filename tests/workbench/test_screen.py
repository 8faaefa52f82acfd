"""The screen of a training: a table whose numbers compare, lines of whole words, a live line, and a first loss that changes nothing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

import visus
from visus.evaluation.calibration import TemperatureFit
from visus.evaluation.metric_names import metric_words
from visus.networks import weights
from visus.training.events import EpochDone, Finished, HeadFitted, StartScored
from visus.training.recipe import Recipe
from visus.workbench import training_lines
from visus.workbench.epoch_table import EpochTable
from visus.workbench.train import training as trainings
from visus.workbench.wrapping import fitting, labeled, wrapped


def epoch(number: int, size: int = 28, *, is_averaged: bool = False, is_best: bool = True, val: float = 0.9) -> EpochDone:
    row = {
        "epoch": number,
        "img_size": size,
        "train_loss": 1.4493,
        "train_accuracy": 0.699,
        "val_loss": 1.2684 if val == val else math.nan,
        "val_accuracy": val,
        "val_score": val,
        "samples_per_second": 7169.4,
        "elapsed_seconds": 1.0,
    }
    return EpochDone(number - 1, row, is_best, 42.0 if number < 9 else 0.0, is_averaged)


def table(width: int | None = None, *, is_augmented: bool = True) -> EpochTable:
    return EpochTable(9, "image", "px", is_augmented=is_augmented, width=width)


# ---- the table ----


def test_the_heading_comes_once_and_a_row_has_the_numbers_of_its_epoch() -> None:
    found = table()
    assert found.lines(epoch(1)) == [
        "epoch    validation    loss  training    loss  images/s        left",
        "1/9          90.0 %  1.2684    69.9 %  1.4493     7,169        42 s *",
    ]
    assert found.lines(epoch(9, is_best=False)) == ["9/9          90.0 %  1.2684    69.9 %  1.4493     7,169           -"]


def test_large_numbers_of_an_epoch_stay_apart() -> None:
    found = EpochTable(60, "signal", "values", is_augmented=False, width=None, metric="mae")
    large = epoch(1)
    large = dataclasses.replace(
        large, row=large.row | {"val_score": 4846.50891, "val_loss": 97965.53153, "train_loss": 1.5e8}
    )
    assert found.lines(large)[1] == "1/60           4847   97966 1.5e+08      7,169        42 s *"


def test_the_legend_says_how_the_errors_of_several_targets_are_averaged() -> None:
    found = EpochTable(9, "image", "px", is_augmented=False, width=None, metric="mae", num_targets=2)
    assert found.legend(has_validation=True).startswith(
        "validation: mean absolute error in standard deviations (mean of 2 targets) of plain images after the epoch; "
    )
    assert metric_words("r2", 3) == "R2 (mean of 3 targets)"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0.239, 0.1, "calibrated: probabilities are off by 10.0 points on average, not 23.9 (60 validation images)"),
        (
            0.239,
            0.379,
            "calibration made the probabilities worse: they are off by 37.9 points on average, and without it by 23.9 (60 validation images); "
            "use them as an order, not as percentages",
        ),
    ],
)
def test_a_calibration_that_makes_the_error_larger_says_so(before: float, after: float, said: str) -> None:
    fit = TemperatureFit(2.0, "", "val", 60, error_before=before, error_after=after)
    assert training_lines.trust_fact(fit, "image") == ("trust", said)
    worse = " This made them worse there: the expected calibration error is 37.9 points, and without it 23.9."
    assert fit.sentence("image").endswith(worse) == (after > before)
    verbose = training_lines.calibration_fact(fit, "image")
    assert verbose is not None
    assert verbose[1].endswith(", which is worse") == (after > before)


def test_an_epoch_that_the_time_limit_cut_has_its_part_in_the_table_and_for_the_kept_weights() -> None:
    whole = epoch(4)
    cut = dataclasses.replace(whole, row=whole.row | {"epoch": 3.4})
    assert table().lines(cut)[1].startswith("3.4/9        90.0 %")
    assert table().lines(dataclasses.replace(whole, row=whole.row | {"epoch": 3.01}))[1].startswith("3.0/9 ")
    assert training_lines.finished_fact(Finished("time limit", 4, 4, 61.0, 3.4))[1].endswith(
        "kept: the weights after 3.4 epochs"
    )
    assert training_lines.finished_fact(Finished("time limit", 4, 3, 61.0, 3.4))[1].endswith("kept: the weights of epoch 3")


def test_a_line_stands_where_numbers_stop_to_be_comparable() -> None:
    found = table()
    found.lines(epoch(1, 21))
    assert len(found.lines(epoch(2, 21))) == 1
    assert found.lines(epoch(3, 24))[0] == "-- from here at 24 px: compare only rows below --"
    assert found.lines(epoch(4, 24, is_averaged=True))[0] == "-- from here averaged weights: compare only rows below --"
    assert len(found.lines(epoch(5, 24, is_averaged=True))) == 1
    fresh = table()
    fresh.lines(epoch(1, 21))
    both = fresh.lines(epoch(2, 28, is_averaged=True))
    assert both[0] == "-- from here at 28 px and averaged weights: compare only rows below --"


@pytest.mark.parametrize("width", range(24, 80))
def test_a_narrow_terminal_loses_columns_and_never_the_validation_accuracy_first(width: int) -> None:
    lines = table(width).lines(epoch(1))
    assert all(cell_len(line) <= width for line in lines)
    if width >= 33:
        assert "90.0 %" in lines[1]


def test_without_a_validation_set_there_are_no_such_columns() -> None:
    lines = table().lines(epoch(1, val=math.nan))
    assert lines[0].split() == ["epoch", "training", "loss", "images/s", "left"]
    assert "nan" not in lines[1]


def test_the_legend_says_what_is_measured_on_what() -> None:
    assert table().legend(has_validation=True) == (
        "validation: plain images after the epoch; training: augmented images during it; *: kept so far"
    )
    assert table(is_augmented=False).legend(has_validation=False) == "training: images during it; *: kept so far"


# ---- lines of whole words ----


@pytest.mark.parametrize("width", [20, 37, 60, 100])
def test_wrapped_lines_fit_and_lose_no_word(width: int) -> None:
    text = "note      the 12 classes of 日本語 images were read from a folder: visus check data shows them all"
    lines = wrapped(text, width, 10).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())


def test_a_long_path_stays_whole() -> None:
    path = "/a/" + 50 * "b"
    assert path in wrapped(f"decoded into 3 MiB at {path}", 30, 2).split("\n  ")


def test_a_log_is_not_broken() -> None:
    assert labeled("note", 200 * "a b ", None).count("\n") == 0


def test_a_live_line_drops_what_does_not_fit() -> None:
    assert fitting(["epoch 1/9", "loss 1.2", "accuracy 90 %"], 19) == "epoch 1/9  loss 1.2"
    assert fitting(["a long stage", "3 of 4"], 6) == "a long"


# ---- the first loss ----


@pytest.mark.long
def test_the_first_loss_is_that_of_the_first_batch_and_changes_no_weight(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(epochs=2, batch_size=8, precision="float32", device="cpu", kernels="pytorch")
    network = "conv(4, 3), norm, relu, dropout(0.5), globalpool, linear(classes)"
    events: list[Any] = []
    states: list[torch.Tensor] = []

    def follow(event: object) -> None:
        events.append(event)
        states.append(torch.get_rng_state())

    with_it = visus.train(photos, network, recipe, output=tmp_path, name="with", on_event=follow, progress=False)
    (first,) = [event for event in events if type(event).__name__ == "FirstLoss"]
    names = [type(event).__name__ for event in events]
    assert names.index("Planned") < names.index("FirstLoss") < names.index("Prepared")
    assert torch.equal(states[names.index("Planned")], states[names.index("FirstLoss")])
    assert first.num_samples == 8
    assert 0 <= first.accuracy <= 1
    assert 0.2 < first.loss < 2.5  # of two classes, guessing has 0.69
    monkeypatch.setattr(trainings, "first_loss", lambda *_: None)
    without = visus.train(photos, network, recipe, output=tmp_path, name="without", progress=False)
    for which in ("best", "last"):
        one, two = (
            weights.load(folder / "weights" / f"{which}.safetensors")[0] for folder in (with_it.folder, without.folder)
        )
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Finished("all epochs", 2, 0, 5.0, 2.0, 0.906, 0.75),
            "2 epochs in 5 s; kept: the weights before fine-tuning (validation 90.6 %), since no epoch is significantly better (best: 75.0 %)",
        ),
        (
            Finished("all epochs", 2, 2, 5.0, 2.0, 0.906, 0.95),
            "2 epochs in 5 s; kept: the fine-tuned weights of epoch 2 (validation 95.0 %), significantly better than before (90.6 %)",
        ),
        (Finished("all epochs", 2, 2, 5.0, 2.0), "2 epochs in 5 s; kept: the weights of epoch 2"),
    ],
)
def test_the_line_at_the_end_names_what_is_kept_and_why(event: Finished, said: str) -> None:
    assert training_lines.finished_fact(event) == ("trained", said)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            HeadFitted(2, 0.1, 0.875, 40, 3.0, False, 40, 40, "scoring, since nothing else is trained"),
            "last layer fitted on 2 views of each training sample: 87.5 % of 40 samples that it was not fitted on are correct (in 3 s); "
            "next: scoring, since nothing else is trained",
        ),
        (
            HeadFitted(1, 0.1, 0.875, 20, 3.0, False, 20, 40, "fine-tuning of all layers, from this head"),
            "last layer fitted on 20 of 40 training samples, as many as the time limit allows: 87.5 % of 20 samples that it was not fitted on are "
            "correct (in 3 s); next: fine-tuning of all layers, from this head",
        ),
        (
            HeadFitted(1, 0.1, 0.875, 8, 3.0, True, 20, 40, "fine-tuning of all layers, from this head"),
            "the network's own last layer is kept, since a fitted one is not significantly better: 87.5 % of 8 validation samples are "
            "correct (in 3 s); next: fine-tuning of all layers, from this head",
        ),
        (
            HeadFitted(1, 3.0, 15.54, 257, 3.0, False, 257, 257, "fine-tuning of all layers, from this head", "mae"),
            "last layer fitted on 1 view of each training sample: mean absolute error 15.54 on 257 samples that it was not fitted on (in 3 s); "
            "next: fine-tuning of all layers, from this head",
        ),
    ],
)
def test_the_line_on_the_head_says_what_follows(event: HeadFitted, said: str) -> None:
    assert training_lines.head_fact(event) == ("head", said)


def test_the_line_on_the_start_says_what_follows() -> None:
    assert training_lines.start_fact(StartScored(0.5, 0.9, 0)) == (
        "start",
        "validation 90.0 %, loss 0.5000 with these weights, which are the result",
    )
