"""What a reader of the report should do after each section, derived from its measurements; where there is nothing to do, why."""

from __future__ import annotations

import shlex
import statistics
from typing import Final

from visus.design.families.registry import FAMILIES
from visus.evaluation.calibration import MIN_OUT_OF_FOLD, MIN_SAMPLES
from visus.evaluation.curves import EARLY, OVERFITTED, PERFECT
from visus.evaluation.intervals import is_larger
from visus.examine.mistake_report import MistakeReport
from visus.pages.parts.actions import Action
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ShiftResults
from visus.pages.report.sentences import augmentations
from visus.units import write_number_of, write_share

MAX_ACTIONS: Final = 3
USABLE: Final = 0.5
"""Accuracy below which a network is not called ready for use."""

WIDE_INTERVAL: Final = 0.1
"""Width of the accuracy's interval from which more held-out samples are advised."""

LARGE_PAIR: Final = 0.2
"""Share of all mistakes between two classes from which they are named."""

MIN_PAIR: Final = 5
"""Mistakes between two classes below which their share is chance."""

CALIBRATION_GAP: Final = 0.03
"""Distance between mean confidence and accuracy from which probabilities are called too high or too low."""

CONSISTENT: Final = 0.9
"""Consistency under shifts below which remedies are named."""

FEW_EPOCHS: Final = 5
"""Epochs below which a network that is no better than guessing was trained too briefly to blame the data."""

MAX_LISTED: Final = 50
MAX_COMMAND: Final = 200
"""Letters of a command up to which it is repeated with another option."""


def answer_actions(facts: ReportFacts) -> list[Action]:
    """What to do with the accuracy: check the data or its labels, train longer, hold out more samples, or use the network."""
    scores, found = facts.scores, []
    if facts.warnings:
        found.append(Action("Read the warnings above first: each can change this answer."))
    if _is_undertrained(facts):
        command = again(facts, "--epochs", str(2 * FEW_EPOCHS))
        found.append(Action(f"Do not use this network yet. Train longer first: {_epochs_words(facts)}.", command))
    elif _is_no_better(facts):
        found.append(Action("Do not use this network yet. Check the data and its labels first.", facts.check_command))
    elif scores.split == "val":
        found.append(
            Action(
                f"Hold out a test set: these validation {facts.nouns} also selected the weights, so the accuracy is optimistic."
            )
        )
    elif is_weak(facts):
        found.append(_longer_first(facts))
    found += _label_pointer(facts)
    if (width := scores.accuracy_high - scores.accuracy_low) > WIDE_INTERVAL:
        more = write_number_of(4 * scores.num_samples, facts.noun)
        found.append(
            Action(
                f"Evaluate on more {facts.nouns}: {more} would halve the interval, which spans {100 * width:.0f} percentage points."
            )
        )
    if not _is_no_better(facts) and scores.accuracy < USABLE:
        found.append(
            Action("Do not rely on this network yet: less than half of its predictions are right. Start with Cost below.")
        )
    elif not _is_no_better(facts) and facts.folder:
        found.append(Action(f"Classify your own {facts.nouns}:", f"visus predict {_run(facts)} my-{facts.nouns}"))
    return found[:MAX_ACTIONS] or [Action("Nothing to do: read on for the mistakes.")]


def is_weak(facts: ReportFacts) -> bool:
    """Whether the training should be longer before labels are judged by its network."""
    found = facts.measured.mistakes
    return found is not None and found.is_unfinished


def _longer_first(facts: ReportFacts) -> Action:
    """A longer training, before anything that depends on single mistakes."""
    command = again(facts, "--epochs", str(2 * max(1, len(facts.history))))
    return Action("Train longer first: the accuracy still rises, and the network is too weak to judge labels.", command)


def _label_pointer(facts: ReportFacts) -> list[Action]:
    """The labels that may be wrong come before more samples: they are listed below."""
    if _is_no_better(facts) or not _label_actions(facts):
        return []
    return [Action("First check the labels under Mistakes.")]


def _is_no_better(facts: ReportFacts) -> bool:
    """Whether the samples do not show that the network beats the baseline."""
    return facts.scores.accuracy_low <= facts.scores.baseline


def _is_undertrained(facts: ReportFacts) -> bool:
    """Whether the network may be no better than guessing, after very few epochs."""
    return _is_no_better(facts) and len(facts.history) < FEW_EPOCHS


def _epochs_words(facts: ReportFacts) -> str:
    """How long the training was, as a clause."""
    count = len(facts.history)
    return f"it was trained for only {write_number_of(count, 'epoch')}" if count else "no epoch was trained"


def mistakes_actions(facts: ReportFacts) -> list[Action]:
    """What to do about the mistakes: first check labels that may be wrong, then collect samples or merge classes."""
    scores, found = facts.scores, facts.measured.mistakes
    num_wrong, in_training = scores.num_samples - scores.num_right, _num_suspicious_in_training(found)
    if not num_wrong and not in_training:
        return [Action(f"Nothing to do: none of these {facts.nouns} is misclassified.")]
    if scores.accuracy < USABLE or _is_undertrained(facts):
        return [Action(f"Improve the training first (see Cost): with {num_wrong:,} mistakes, single ones say little.")]
    if is_weak(facts) and num_wrong:
        return [Action(_longer_first(facts).text)]
    labels, network = _label_actions(facts), _network_actions(facts, num_wrong) if num_wrong else []
    if labels and network:
        first, *others = network
        then = Action(f"Then the network: {first.text[0].lower()}{first.text[1:]}", first.command)
        return [*labels, then, *others][:MAX_ACTIONS]
    if labels:
        return labels
    if num_wrong < MIN_PAIR and not network:
        subject = "the mistake" if num_wrong == 1 else f"each of the {num_wrong} mistakes"
        return [Action(f"Look at {subject} above: is the label wrong, the {facts.noun} bad, or the network wrong?")]
    has_pairs = len(facts.classes) > 2
    causes = "no pair of classes and no rare class explains" if has_pairs else "no rare class explains"
    return network or [Action(f"Nothing to do: {causes} the mistakes.")]


def _label_actions(facts: ReportFacts) -> list[Action]:
    """The check of the labels that may be wrong; empty if there are none."""
    found = facts.measured.mistakes
    own, in_training = found.num_suspicious if found is not None else 0, _num_suspicious_in_training(found)
    if found is None or not own + in_training:
        return []
    command = f"visus evaluate {_run(facts)} --mistakes --limit {min(max(own, in_training), MAX_LISTED)}"
    num_suspicious = in_training if found.split == "train" else own + in_training
    which = (
        "the one that may be wrong, correct it if it is"
        if num_suspicious == 1
        else f"the {num_suspicious:,} that may be wrong, correct those that are"
    )
    return [Action(f"Labels first: look at {which}, and train again.", command if facts.folder else "")]


def _network_actions(facts: ReportFacts, num_wrong: int) -> list[Action]:
    """What to do about the confusions of the network: the most confused pair, and the rare class with the lowest recall."""
    one, other, count = _most_confused_pair(facts)
    has_pairs = len(facts.classes) > 2  # else every mistake is between the same two, and merging them leaves one class
    found = []
    if has_pairs and count >= MIN_PAIR and count >= LARGE_PAIR * num_wrong:
        found.append(
            Action(
                f"{count:,} of {num_wrong:,} mistakes are between \u201c{one}\u201d and \u201c{other}\u201d: collect more {facts.nouns} of both, or "
                "merge the two if their difference does not matter."
            )
        )
    rare = _rare_class(facts)
    return [*found, rare] if rare else found


def _num_suspicious_in_training(found: MistakeReport | None) -> int:
    """Possible label errors of the training set; 0 if it was not examined."""
    return found.training_labels.num_suspicious if found is not None and found.training_labels is not None else 0


def _most_confused_pair(facts: ReportFacts) -> tuple[str, str, int]:
    """The two classes with the most mistakes between them in both directions, and their number."""
    counts: dict[tuple[str, str], int] = {}
    for true, predicted, count in facts.scores.most_confused(facts.scores.num_samples):
        key = (min(true, predicted), max(true, predicted))
        counts[key] = counts.get(key, 0) + count
    (one, other), count = max(counts.items(), key=lambda item: item[1])
    return one, other, count


def _rare_class(facts: ReportFacts) -> Action | None:
    """The class with the lowest recall, if it also has less than half of the median number of training samples."""
    counts = dict(zip(facts.classes, facts.class_counts.get("train", ()), strict=False))
    rows = [row for row in facts.scores.per_class if row.recall is not None and row.name in counts]
    if not rows:
        return None
    worst = min(rows, key=lambda row: row.recall or 0.0)
    if 2 * counts[worst.name] >= statistics.median(counts.values()) or (worst.recall or 0.0) >= facts.scores.accuracy:
        return None
    samples = write_number_of(counts[worst.name], facts.noun)
    return Action(
        f"Collect more {facts.nouns} of \u201c{worst.name}\u201d: it has the lowest recall, {write_share(worst.recall or 0.0)}, and only {samples} "
        "in the training set."
    )


def trust_actions(facts: ReportFacts) -> list[Action]:
    """What to do about the changes to the data, the calibration, and the changes under shifts."""
    found = []
    if facts.ledger_sentences:
        found.append(Action("Check that the changes to the data above are what you want.", facts.check_command))
    if _is_no_better(facts):
        return [
            *found,
            Action("Improve the network first: until it beats the baseline, calibration and consistency say little."),
        ]
    found += [*_calibration_actions(facts), *_shift_actions(facts)]
    if found:
        return found[:MAX_ACTIONS]
    shifts = " and the predictions change little under shifts" if facts.measured.shifts else ""
    return [Action(f"Nothing to do: the confidence agrees with the accuracy{shifts}.")]


def _calibration_actions(facts: ReportFacts) -> list[Action]:
    """What to do where the confidence and the accuracy differ."""
    calibration, scores = facts.measured.calibration, facts.scores
    gap = scores.confidence - scores.accuracy
    if calibration is not None and calibration.temperature is None and calibration.num_fitted < MIN_SAMPLES:
        either = f", or {MIN_OUT_OF_FOLD} training {facts.nouns}," if facts.start else ""
        return [
            Action(
                f"Use probabilities as an order, not as percentages: {MIN_SAMPLES} validation {facts.nouns}{either} allow calibration."
            )
        ]
    if abs(gap) < CALIBRATION_GAP or scores.accuracy_low <= scores.confidence <= scores.accuracy_high:
        return []
    side = "high" if gap > 0 else "low"
    return [
        Action(
            f"Take a probability as about {100 * abs(gap):.0f} percentage points too {side} for {facts.nouns} like these."
        )
    ]


def _shift_actions(facts: ReportFacts) -> list[Action]:
    """Remedies where predictions change under shifts; they need no mending where the positions of the samples are alike."""
    shifts = facts.measured.shifts
    if shifts is None or is_consistent(shifts):
        return []
    return [
        Action(f"If shifts matter for your {facts.nouns}, try {name}{_cost_words(price, shifts)}.", command)
        for name, price, command in shifts.remedies
        if not shifts.trade_off or "pooling" not in name  # the trade-off states that other pools cost more than they gain
    ]


def _cost_words(price: str, shifts: ShiftResults) -> str:
    """The price of a remedy; for the default network, the trade-off has stated it."""
    return "" if shifts.trade_off else f" ({price})"


def is_consistent(shifts: ShiftResults) -> bool:
    """Whether predictions change so little, for the worst kind of shift too, that no remedy is named."""
    return min(each.consistency for each in shifts.ways) >= CONSISTENT


def inside_actions(facts: ReportFacts) -> list[Action]:
    """What to do about the design, and how to look further."""
    found = [Action(text) for text in _design_advice(facts)]
    if why := facts.measured.missing.get("advice"):
        found.append(Action(f"The design could not be checked: {why}"))
    mistakes, seen = facts.measured.mistakes, facts.measured.saliency
    if seen is not None and not seen.method:
        found.append(Action("Trust a saliency map only where visus look passes it: on average, none does."))
    elif seen is not None and seen.is_believable is False:
        found.append(
            Action(
                "Do not explain a single prediction by a saliency map of this network: the maps do not pass their checks."
            )
        )
    if mistakes is not None and mistakes.confident_wrong and facts.folder and mistakes.split in ("train", "val", "test"):
        sample = f"{mistakes.split}:{mistakes.confident_wrong[0].place}"
        which = " (label errors aside)" if mistakes.suspicious else ""
        text = f"Look at the most confident mistake{which}, layer by layer:"
        found.append(Action(text, f"visus look {_run(facts)} {sample}"))
    return found[:MAX_ACTIONS] or [Action("Nothing to do: there is no advice on this design.")]


def _design_advice(facts: ReportFacts) -> list[str]:
    """The advice on the design; for a design that came with its weights or from a family, what can be changed there."""
    advice = list(facts.measured.advice[: MAX_ACTIONS - 1])
    if not advice:
        return []
    if facts.start:
        return [
            f"Keep the layers: they belong to the weights that the training started from. What you can change is the size of the {facts.nouns} "
            "(--img-size) or the network (-m)."
        ]
    if _is_family(facts.network):
        return [*advice, "To change a layer of this ready-made network, edit a copy of design.txt and train it with -m."][
            : MAX_ACTIONS - 1
        ]
    return advice


def _is_family(network: str) -> bool:
    """Whether a network was given by the name of a design family, such as ``compact(scale=0.5)`` or ``resnet18``."""
    name = network.partition("(")[0].strip()
    return name in FAMILIES or name.rstrip("0123456789") in FAMILIES


def cost_actions(facts: ReportFacts) -> list[Action]:
    """What the curves say about the length of the training and the size of the data."""
    history = dict(facts.series("val_accuracy"))
    training = dict(facts.series("train_accuracy"))
    kept = facts.best_epoch
    if not training:
        return [Action("Nothing to do: no epoch was trained, so there are no curves to read.")]
    if _is_undertrained(facts):
        return [Action(f"Train longer first: {_epochs_words(facts)}.", again(facts, "--epochs", str(2 * FEW_EPOCHS)))]
    if history and facts.start and kept is None:
        return [Action("Nothing to do: fine-tuning did not improve the initial weights, which were kept.")]
    if not history or kept is None or kept not in history or kept not in training:
        return [Action("Nothing to do: without a validation set, the curves do not show whether the training was too long.")]
    last = max(history)
    if kept < EARLY * last:
        command = again(facts, "--epochs", str(round(kept * 1.25)))
        return [Action(f"Train for fewer epochs: the kept weights are those of epoch {kept} of {last:.0f}.", command)]
    if history[kept] > PERFECT:
        return [
            Action(f"Nothing to do: the network gets {write_share(history[kept])} of the validation {facts.nouns} right.")
        ]
    seen = f"augmented training {facts.nouns}" if augmentations(facts.recipe) else f"training {facts.nouns}"
    shares = f"accuracy {write_share(training[kept])} on {seen}, {write_share(history[kept])} on validation {facts.nouns}"
    if training[kept] - history[kept] > OVERFITTED:
        num_training, num_validation = (sum(facts.class_counts.get(split, ())) for split in ("train", "val"))
        if not is_larger(training[kept], num_training, history[kept], num_validation):
            few = write_number_of(num_validation, f"validation {facts.noun}")
            return [Action(f"Validate on more {facts.nouns}: {few} cannot show whether this is overfitting: {shares}.")]
        return [Action(f"More training {facts.nouns} should help: {shares}.")]
    command = again(facts, "--epochs", str(2 * round(last)))
    return [Action(f"Nothing suggests overfitting, so a longer training may gain more: {shares}.", command)]


def files_actions(facts: ReportFacts) -> list[Action]:
    """How to write the page again."""
    if not facts.folder:
        return [Action("Nothing to do: the files above hold everything that this page shows.")]
    return [Action("To write this page again:", f"visus report {_run(facts)}")]


def again(facts: ReportFacts, option: str, value: str) -> str:
    """The run's command with an option added or changed; where it is not one of ``visus train``, the command of its own recipe."""
    try:
        words = shlex.split(facts.command)
    except ValueError:
        words = []
    if words[:2] != ["visus", "train"] or "--resume" in words or len(facts.command) >= MAX_COMMAND:
        is_training = facts.exact_command.startswith("visus train ")
        return f"{facts.exact_command} {option} {value}" if is_training else ""
    if option in words[:-1]:
        words[words.index(option) + 1] = value
        return shlex.join(words)
    return f"{facts.command} {option} {value}"


def _run(facts: ReportFacts) -> str:
    return shlex.quote(facts.folder)
