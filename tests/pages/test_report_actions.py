"""What the report advises after each section: true for good, poor and odd runs, and every command is one that visus reads."""

from __future__ import annotations

import dataclasses
import re
import shlex
from html import unescape
from typing import Any

import pytest
import torch
import typer
from facts_of_runs import made_up_facts, made_up_measurements, made_up_scores

from visus.cli.app import app
from visus.evaluation.calibration import TemperatureFit, calibrate
from visus.examine.mistake_report import ShownSample, SplitLabels
from visus.pages.report import actions
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ReportMeasurements, SaliencyMaps
from visus.pages.report.page import SECTIONS, report_page


def told(name: str, facts: ReportFacts) -> list[str]:
    """The actions at the end of one section."""
    (section,) = [each for each in SECTIONS if each.id == name]
    return [each.text for each in section.actions(facts)]


def commands_of(page: str) -> list[str]:
    """Every command on a page."""
    found = re.findall(r'<pre class="command">(.*?)</pre>', page, re.DOTALL)
    return [unescape(re.sub(r"</?span>", "", each)) for each in found]


def parse_command(command: str) -> None:
    """Parse a command as the command line does, without running it; raises where it is refused."""
    words = shlex.split(command)
    assert words[0] == "visus"
    group: Any = typer.main.get_command(app)
    rest = words[1:]
    context = group.make_context("visus", list(rest), resilient_parsing=True)
    while hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(context, rest)
        assert group is not None, f"no such command: {rest}"
        context = group.make_context(name, list(rest), parent=context, resilient_parsing=hasattr(group, "resolve_command"))


@pytest.mark.parametrize(
    "command", ["visus trian", "visus train --epoks 3", "visus evaluate", "visus experiment antialias", "visus look"]
)
def test_the_parser_of_these_tests_refuses_what_visus_refuses(command: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing|required"):
        parse_command(command)


@pytest.mark.parametrize(
    "facts",
    [
        made_up_facts(measured=made_up_measurements()),
        made_up_facts(made_up_scores(num_wrong=30), measured=made_up_measurements(), folder="runs/my shoes"),
        made_up_facts(made_up_scores(num_classes=2, num_samples=9, num_wrong=5), check_command="visus check 'a folder'"),
        made_up_facts(made_up_scores(split="val"), measured=made_up_measurements((1, 300)), noun="signal"),
        made_up_facts(
            made_up_scores(num_wrong=0), best_epoch=1, command="visus train 'my shoes' -m 'conv(4, 3), globalpool'"
        ),
    ],
)
def test_every_command_of_a_report_is_read_by_the_command_line_and_is_short(facts: ReportFacts) -> None:
    page = report_page(facts)
    commands = commands_of(page)
    assert f"visus report {shlex.quote(facts.folder)}" in commands
    for command in commands:
        parse_command(command)
        assert len(command) < 200


def test_the_answer_is_for_use_only_where_it_is_better_than_guessing() -> None:
    assert told("answer", made_up_facts(warnings=[]))[-1] == "Classify your own images:"
    assert told("answer", made_up_facts())[0] == "Read the warnings above first: each can change this answer."
    long = [{"epoch": epoch} for epoch in range(1, actions.FEW_EPOCHS + 1)]
    poor = made_up_facts(made_up_scores(num_samples=9, num_wrong=6), warnings=[], history=long)
    assert told("answer", poor) == [
        "Do not use this network yet. Check the data and its labels first.",
        "Evaluate on more images: 36 images would halve the interval, which spans 53 percentage points.",
    ]
    brief = dataclasses.replace(poor, history=long[:1])
    assert told("answer", brief)[0] == "Do not use this network yet. Train longer first: it was trained for only 1 epoch."
    assert actions.answer_actions(brief)[0].command == "visus train shoes --seed 7 --epochs 10"
    weak = made_up_facts(made_up_scores(10, num_samples=600, num_wrong=400), warnings=[])
    assert told("answer", weak) == [
        "Do not rely on this network yet: less than half of its predictions are right. Start with Cost below."
    ]
    own = made_up_facts(made_up_scores(num_samples=900, split="val"), warnings=[])
    assert told("answer", own)[0] == (
        "Hold out a test set: these validation images also selected the weights, so the accuracy is optimistic."
    )


def examined() -> ReportMeasurements:
    """Made-up measurements with possible label errors in the training set."""
    measured = made_up_measurements()
    assert measured.mistakes is not None
    found = SplitLabels(300, 12, (ShownSample("cat/9.jpg", 3, "cat", "dog", 0.9, 0.05),), 9)
    return dataclasses.replace(
        measured, mistakes=dataclasses.replace(measured.mistakes, training_labels=found, unexamined="")
    )


def test_the_answer_names_labels_before_more_samples_and_a_longer_training_before_labels() -> None:
    facts = made_up_facts(made_up_scores(num_samples=60, num_wrong=6), measured=made_up_measurements(), warnings=[])
    assert told("answer", facts)[:2] == [
        "First check the labels under Mistakes.",
        "Evaluate on more images: 240 images would halve the interval, which spans 15 percentage points.",
    ]
    measured = made_up_measurements()
    assert measured.mistakes is not None
    weak = dataclasses.replace(measured.mistakes, num_suspicious=0, suspicious=(), is_unfinished=True)
    brief = dataclasses.replace(facts, measured=dataclasses.replace(measured, mistakes=weak), history=facts.history[:4])
    longer = "Train longer first: the accuracy still rises, and the network is too weak to judge labels."
    assert told("answer", brief)[0] == longer
    assert told("mistakes", brief) == [longer]
    assert actions.answer_actions(brief)[0].command == f"visus train shoes --seed 7 --epochs {2 * len(brief.history)}"


def test_mistakes_name_labels_pairs_and_rare_classes() -> None:
    none = made_up_facts(made_up_scores(num_wrong=0), measured=made_up_measurements())
    assert told("mistakes", none) == ["Nothing to do: none of these images is misclassified."]
    assert told("mistakes", made_up_facts(made_up_scores(num_wrong=0), measured=examined())) == [
        "Labels first: look at the 12 that may be wrong, correct those that are, and train again."
    ]
    many = made_up_facts(made_up_scores(num_samples=600, num_wrong=60), measured=made_up_measurements())
    assert told("mistakes", many) == [
        "Labels first: look at the 3 that may be wrong, correct those that are, and train again.",
        "Then the network: 20 of 60 mistakes are between \u201cbag\u201d and \u201cboot\u201d: collect more images of both, or merge the two if their difference does not "
        "matter.",
    ]
    scores = made_up_scores(num_samples=600, num_wrong=60)
    worst = dataclasses.replace(scores.per_class[1], recall=0.5)
    scores = dataclasses.replace(scores, per_class=(scores.per_class[0], worst, scores.per_class[2]))
    rare = made_up_facts(scores, class_counts={"train": [100, 30, 100]})
    assert told("mistakes", rare)[-1] == (
        "Collect more images of \u201cboot\u201d: it has the lowest recall, 50.0 %, and only 30 images in the training set."
    )
    two = made_up_facts(made_up_scores(2, num_samples=600, num_wrong=60))
    assert told("mistakes", two) == ["Nothing to do: no rare class explains the mistakes."]
    brief = made_up_facts(made_up_scores(2, num_samples=60, num_wrong=26), measured=made_up_measurements())
    assert told("mistakes", brief) == ["Improve the training first (see Cost): with 26 mistakes, single ones say little."]
    poor = made_up_facts(made_up_scores(num_samples=600, num_wrong=400), measured=made_up_measurements())
    assert told("mistakes", poor) == ["Improve the training first (see Cost): with 400 mistakes, single ones say little."]


def test_one_doubtful_label_and_few_mistakes_are_looked_at_one_by_one() -> None:
    measured = made_up_measurements()
    assert measured.mistakes is not None
    one = dataclasses.replace(measured, mistakes=dataclasses.replace(measured.mistakes, num_suspicious=1))
    facts = made_up_facts(made_up_scores(2, num_samples=60, num_wrong=6), measured=one)
    assert told("mistakes", facts) == [
        "Labels first: look at the one that may be wrong, correct it if it is, and train again."
    ]
    assert actions.mistakes_actions(facts)[0].command == "visus evaluate runs/shoes-2 --mistakes --limit 1"
    assert told("mistakes", made_up_facts(made_up_scores(2, num_wrong=1))) == [
        "Look at the mistake above: is the label wrong, the image bad, or the network wrong?"
    ]
    assert told("mistakes", made_up_facts(made_up_scores(2, num_wrong=3))) == [
        "Look at each of the 3 mistakes above: is the label wrong, the image bad, or the network wrong?"
    ]


def test_advice_on_layers_is_for_designs_of_ones_own() -> None:
    measured = made_up_measurements(saliency=None, mistakes=None, advice=("conv2: sees all.",))

    def inside(**more: Any) -> list[str]:
        return told("inside", made_up_facts(measured=measured, **more))

    assert inside(network="conv(32, 3), relu, globalpool, linear(classes)") == ["conv2: sees all."]
    for family in ("compact", "resnet18", "efficientnet_lite(1)"):
        assert inside(network=family) == [
            "conv2: sees all.",
            "To change a layer of this ready-made network, edit a copy of design.txt and train it with -m.",
        ]
    assert inside(network="efficientnet_lite(0)", start={"source": "ImageNet weights"}) == [
        "Keep the layers: they belong to the weights that the training started from. What you can change is the size of the images (--img-size) or the "
        "network (-m)."
    ]
    quiet = dataclasses.replace(measured, advice=())
    assert told("inside", made_up_facts(measured=quiet, start={"source": "ImageNet weights"})) == [
        "Nothing to do: there is no advice on this design."
    ]


def test_saliency_that_fails_on_average_points_to_the_check_of_each_map() -> None:
    tested = ({"method": "Grad-CAM", "num_samples": 12}, {"method": "gradient", "num_samples": 12})
    measured = made_up_measurements(advice=(), saliency=SaliencyMaps("", "", "none passes", {}, tested=tested))
    facts = made_up_facts(measured=measured)
    assert told("inside", facts)[0] == ("Trust a saliency map only where visus look passes it: on average, none does.")
    assert (
        "No map is shown: averaged over 12 held-out images, no method (Grad-CAM, gradient) passes deletion and insertion."
    ) in report_page(facts)


def test_the_most_confident_mistake_is_said_to_be_no_possible_label_error() -> None:
    measured = made_up_measurements(advice=(), saliency=None)
    assert told("inside", made_up_facts(measured=measured)) == [
        "Look at the most confident mistake (label errors aside), layer by layer:"
    ]
    assert measured.mistakes is not None
    alone = dataclasses.replace(measured.mistakes, suspicious=(), num_suspicious=0)
    assert told("inside", made_up_facts(measured=dataclasses.replace(measured, mistakes=alone))) == [
        "Look at the most confident mistake, layer by layer:"
    ]


def test_a_network_that_does_not_beat_the_baseline_is_improved_first_everywhere() -> None:
    scores = made_up_scores(2, num_samples=60, num_wrong=26)
    poor = made_up_facts(scores, measured=made_up_measurements(), ledger_sentences=[])
    assert told("trust", poor) == [
        "Improve the network first: until it beats the baseline, calibration and consistency say little."
    ]
    assert told("cost", poor) == ["Train longer first: it was trained for only 3 epochs."]
    assert actions.cost_actions(poor)[0].command == actions.answer_actions(poor)[1].command


def test_a_gap_within_the_interval_of_the_accuracy_is_no_reason_to_doubt_the_probabilities() -> None:
    clean: dict[str, Any] = {"ledger_sentences": [], "measured": calibrated(80)}
    scores = dataclasses.replace(made_up_scores(), confidence=0.94)
    assert scores.accuracy_low < scores.confidence < scores.accuracy_high
    assert told("trust", made_up_facts(scores, **clean)) == ["Nothing to do: the confidence agrees with the accuracy."]


def test_fine_tuning_that_kept_the_initial_weights_is_not_called_a_run_without_validation() -> None:
    facts = made_up_facts(best_epoch=None, start={"source": "ImageNet weights"})
    assert told("cost", facts) == ["Nothing to do: fine-tuning did not improve the initial weights, which were kept."]


def test_serious_changes_of_the_data_come_before_calibration_and_shifts() -> None:
    measured = made_up_measurements(calibration=calibrated(24, "too few").calibration)
    assert (
        told("trust", made_up_facts(measured=measured))[0] == "Check that the changes to the data above are what you want."
    )
    routine = made_up_facts(measured=measured, ledger_sentences=[], routine_sentences=["3 samples were resized."])
    assert not any("changes to the data" in each for each in told("trust", routine))


def calibrated(num_fitted: int, reason: str = "") -> ReportMeasurements:
    logits, labels = torch.tensor([[4.0, 0.0, 0.0]] * 60), torch.tensor([0, 0, 1] * 20)
    fit = TemperatureFit(1.0 if reason else 2.0, reason, "val", num_fitted)
    return ReportMeasurements(calibration=calibrate(logits, labels, "test", fit))


def test_trust_names_what_is_too_confident_too_few_or_changed() -> None:
    clean: dict[str, Any] = {"ledger_sentences": [], "measured": calibrated(80)}
    assert told("trust", made_up_facts(**clean)) == ["Nothing to do: the confidence agrees with the accuracy."]
    sure = dataclasses.replace(made_up_scores(), confidence=0.98)
    assert told("trust", made_up_facts(sure, **clean)) == [
        "Take a probability as about 8 percentage points too high for images like these."
    ]
    few = clean | {"measured": calibrated(24, "too few")}
    assert told("trust", made_up_facts(**few)) == [
        "Use probabilities as an order, not as percentages: 50 validation images allow calibration."
    ]
    useless = clean | {"measured": calibrated(80, "it does not help")}
    assert told("trust", made_up_facts(**useless)) == ["Nothing to do: the confidence agrees with the accuracy."]
    changed = made_up_facts(measured=calibrated(80))
    assert told("trust", changed) == ["Check that the changes to the data above are what you want."]
    (check,) = actions.trust_actions(changed)
    assert check.command == "visus check shoes"


def test_shifts_are_mended_only_where_predictions_change() -> None:
    measured = made_up_measurements(calibration=None)
    assert told("trust", made_up_facts(measured=measured, ledger_sentences=[])) == [
        "If shifts matter for your images, try blurred pooling instead of strides (12.3 k instead of 12.3 k parameters)."
    ]
    assert measured.shifts is not None
    ways = tuple(dataclasses.replace(way, consistency=0.95) for way in measured.shifts.ways)
    steady = dataclasses.replace(measured, shifts=dataclasses.replace(measured.shifts, ways=ways))
    assert told("trust", made_up_facts(measured=steady, ledger_sentences=[])) == [
        "Nothing to do: the confidence agrees with the accuracy and the predictions change little under shifts."
    ]


def history(training: float, validation: float, epochs: int = 10) -> list[dict[str, object]]:
    return [
        {"epoch": each + 1, "train_accuracy": training, "val_accuracy": validation, "train_loss": 1.0}
        for each in range(epochs)
    ]


def test_the_curves_say_what_to_train_next() -> None:
    facts = made_up_facts(history=history(0.97, 0.9), best_epoch=10)
    shares = "accuracy 97.0 % on augmented training images, 90.0 % on validation images."
    assert told("cost", facts) == [f"More training images should help: {shares}"]
    enough = dataclasses.replace(facts, class_counts={"train": [1000], "val": [200]})
    assert told("cost", enough) == told("cost", facts)
    few = dataclasses.replace(facts, class_counts={"train": [50], "val": [6, 4]}, recipe={})
    assert told("cost", few) == [
        "Validate on more images: 10 validation images cannot show whether this is overfitting: accuracy 97.0 % on training images, 90.0 % on "
        "validation images."
    ]
    (longer,) = actions.cost_actions(made_up_facts(history=history(0.9, 0.9), best_epoch=10))
    assert longer.text.startswith("Nothing suggests overfitting, so a longer training may gain more: ")
    assert longer.command == "visus train shoes --seed 7 --epochs 20"
    (shorter,) = actions.cost_actions(made_up_facts(history=history(0.9, 0.9), best_epoch=4))
    assert (shorter.text, shorter.command) == (
        "Train for fewer epochs: the kept weights are those of epoch 4 of 10.", "visus train shoes --seed 7 --epochs 5",
    )  # fmt: skip
    assert told("cost", made_up_facts(history=history(1.0, 1.0), best_epoch=10)) == [
        "Nothing to do: the network gets 100.0 % of the validation images right."
    ]
    assert told("cost", made_up_facts(history=[], best_epoch=None))[0].startswith("Nothing to do: no epoch was trained")
    unjudged = [{"epoch": 1, "train_accuracy": 0.5, "val_accuracy": ""}]
    assert told("cost", made_up_facts(history=unjudged, best_epoch=None))[0].startswith(
        "Nothing to do: without a validation set"
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("visus train", "visus train --epochs 9"),
        ("visus train --epochs 3 'my shoes'", "visus train --epochs 9 'my shoes'"),
        ("visus train --resume runs/a", ""),
        ("visus experiment mlp runs/a", ""),
        ("", ""),
        ("visus train 'unclosed", ""),
        (f"visus train -m '{'conv(4, 3), ' * 40}'", ""),
    ],
)
def test_a_command_is_repeated_only_where_that_works(command: str, expected: str) -> None:
    assert actions.again(made_up_facts(command=command), "--epochs", "9") == expected
    exact = "visus train shoes -m runs/a/design.txt -c runs/a/recipe.yaml"
    complete = actions.again(made_up_facts(command=command, exact_command=exact), "--epochs", "9")
    assert complete == (expected or f"{exact} --epochs 9")
