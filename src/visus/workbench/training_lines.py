"""What a training prints, as facts with a label: short ones for everybody, and details for ``--verbose``."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from visus.caller import for_caller, option
from visus.data.ledger import WARNED_OF
from visus.data.opened import Data
from visus.evaluation.calibration import TemperatureFit, describe_fit_samples
from visus.evaluation.metric_names import METRIC_NAMES, metric_words, write_metric
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.evaluations.evaluation import Fit
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.examine.mistake_report import LabelCount, label_sentence
from visus.networks.fast import why_no_kernels
from visus.networks.machine import Machine
from visus.networks.weights import head_of
from visus.training.arithmetic import uses_kernels
from visus.training.events import Finished, HeadFitted, Started, StartScored
from visus.units import write_bytes, write_count, write_duration, write_number_of, write_shape, write_share, write_size
from visus.workbench.train.events import DataOpened, Planned

MAX_WORDS = 60  # a longer design is not repeated on the screen
_MAX_TARGETS = 3
Fact = tuple[str, str]
"""A label and a text."""


def scaling(data: Data) -> str:
    """A short description of how values are normalized."""
    plan = data.preprocessing
    if plan.normalize == "fixed":
        return "normalized like the training data of its weights"
    by = "minimum and maximum" if plan.normalize == "min-max" else "mean and standard deviation"
    return f"normalized by {by} of the training set"


def data_fact(data: Data) -> Fact:
    """What was found in the data."""
    names = {"train": "training", "val": "validation", "test": "test"}
    parts = ", ".join(f"{len(data.split(name)):,} {word}" for name, word in names.items() if len(data.split(name)))
    shape = write_shape(data.input_shape)
    nouns = ("target",) if data.task == "regression" else ("class", "classes")
    classes = write_number_of(len(data.classes), *nouns)
    return "data", f"{data.name}: {classes}; {shape} {data.noun}s: {parts}"


def ledger_facts(data: Data) -> list[Fact]:
    """Every kind of change to the samples in a line, and where each of them is listed; without those that ``data.warnings`` names."""
    facts = [("ledger", sentence) for sentence in data.ledger.short_sentences(WARNED_OF)]
    if data.ledger.short_sentences() != data.ledger.sentences():
        facts.append(("", "every change with its file: ledger.csv in the run"))
    return facts


def input_facts(event: DataOpened) -> list[Fact]:
    """Details of the data."""
    data, store = event.data, event.data.store
    facts = [
        (
            "input",
            f"{write_shape(data.input_shape)}, {scaling(data)}; decoded {'before' if store.was_there else 'now'} into "
            f"{write_bytes(store.pixels.nbytes)} at {store.folder}",
        )
    ]
    if data.preprocessing.shuffle_seed is not None:
        facts.append(
            (
                "shuffled",
                f"the positions of every {data.noun} are in one fixed random order (seed {data.preprocessing.shuffle_seed}), "
                "after all other changes",
            )
        )
    return facts


def network_fact(event: Planned) -> Fact:
    """The network, its size, and where it is computed."""
    made, machine = event.network, event.machine
    asked = made.asked if len(made.asked) <= MAX_WORDS and "\n" not in made.asked else "a design of its own"
    return "network", f"{asked}, {write_count(made.num_parameters)} parameters, {machine.precision} on {_place(machine)}"


def _place(machine: Machine) -> str:
    return write_number_of(torch.get_num_threads(), "core") if machine.device.type == "cpu" else str(machine.device)


def training_fact(event: Planned, started: Started | None = None) -> Fact:
    """How long it trains, and how training samples are changed.

    Args:
        event: the plan.
        started: the forecast; None while there is none.
    """
    data, recipe = event.data, event.recipe
    if not recipe.epochs:
        return "training", f"none: {recipe.reasons.get('epochs', 'as asked')}"
    whole = f" of {len(data.split('train')) - event.num_left_out:,} {data.noun}s" if event.num_left_out else ""
    what = "" if event.start is None else "fine-tuning for "
    words = [f"{what}{write_number_of(recipe.epochs, 'epoch')}{whole}{_forecast(started)}"]
    changes = event.short_changes
    words.append(f"{data.noun}s {', '.join(changes)}" if changes else f"{data.noun}s not augmented")
    if sizes := _sizes(event):
        words.append(sizes)
    return "training", "; ".join(words)


def left_out_fact(event: Planned) -> Fact | None:
    """How many training samples an epoch has, where these are not all of them; else None."""
    if not event.num_left_out:
        return None
    num_train, noun = len(event.data.split("train")), event.data.noun
    return "note", (
        f"{num_train - event.num_left_out:,} of {num_train:,} training {noun}s in each epoch, drawn anew, since the last batch would be incomplete"
    )


def _forecast(started: Started | None) -> str:
    if started is None or started.seconds_left != started.seconds_left:
        return ""
    about = f", about {write_duration(started.seconds_left)}"
    if started.epochs_expected < started.num_epochs - 0.05:
        number = f"about {started.epochs_expected:.1f}" if started.epochs_expected >= 0.1 else "less than 0.1"
        return f"{about}: {number} of these epochs fit into the time limit"
    return about


def _sizes(event: Planned) -> str:
    """How the size of the samples changes during the training; empty if it does not."""
    lengths = event.data.input_shape[1:]
    shapes = [tuple(max(1, round(side * length)) for length in lengths) for side in event.recipe.sides]
    if not lengths or set(shapes) == {tuple(lengths)}:
        return ""
    first, *_, last = (shape for shape, _ in itertools.groupby([shapes[0], *shapes]))
    is_square = len(lengths) > 1 and len(set(lengths)) == 1
    texts = [write_size(shape[-1:] if is_square else shape) for shape in (first, last)]
    unit = texts[-1].split()[-1]
    texts = [text.removesuffix(f" {text.split()[-1]}") for text in texts]
    unit = "px" if is_square and len(lengths) == 2 else unit
    if first == last:
        return f"size {texts[-1]} {unit} throughout" if len(set(shapes)) == 1 else f"size changes, last {texts[-1]} {unit}"
    return f"size {'grows' if first < last else 'goes'} from {texts[0]} to {texts[-1]} {unit}"


def plan_details(event: Planned) -> list[Fact]:
    """What was decided, and why."""
    data, recipe, facts = event.data, event.recipe, list[Fact]()
    facts.append(("machine", event.machine.reason))
    if recipe.epochs:
        all_of_them = " (as many as there are)" if recipe.batch_size == len(data.split("train")) else ""
        facts.append(
            (
                "recipe",
                f"{write_number_of(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}{all_of_them}, {recipe.optimizer} at "
                f"{recipe.learning_rate:g}, seed {recipe.seed}; training {data.noun}s are {', '.join(event.changes) or 'not changed'}",
            )
        )
        facts.append(
            ("loss", f"cross-entropy with label smoothing of {recipe.label_smoothing:g}, in training and validation")
        )
    if event.start is not None:
        facts.append(("epochs", f"{'none: ' if not recipe.epochs else ''}{recipe.reasons.get('epochs', 'as asked')}"))
    if event.mirroring:
        facts.append(("mirroring", event.mirroring))
    return facts


def kernels_fact(event: Planned) -> Fact | None:
    """Whose kernels compute the training; None where there is no choice. It compiles them if they are not compiled."""
    machine = event.machine
    if not uses_kernels(machine, event.recipe.kernels):
        return None
    missing = why_no_kernels()
    return "kernels", f"PyTorch's own{f', since {missing}' if missing else ' and those of visus, the faster for each shape'}"


def weights_facts(event: DataOpened) -> list[Fact]:
    """The pretrained weights that a training starts from, and what follows; of a resumed one, its checkpoint."""
    if event.start is None:
        return []
    if event.resumed_at:
        return [("weights", f"those of the checkpoint {event.resumed_at}; it started from {event.start.source}")]
    outputs = "outputs" if event.data.task == "regression" else "classes"
    facts = [("weights", sentence) for sentence in event.start.sentences(outputs)]
    if event.start.head is None and head_of(event.network.module):
        own = "next: its last layer (the head) is compared with one fitted on the training samples"
        what = "numbers" if event.data.task == "regression" else "classes"
        new = f"next: a last layer (the head) is fitted for these {what}, while the other layers stay as they are"
        facts.append(("", new if event.start.left_new else own))
    return facts


def head_fact(event: HeadFitted) -> Fact:
    """How good the head of a pretrained network is, and what follows."""
    how = (
        "the network's own last layer is kept, since a fitted one is not significantly better"
        if event.keeps_own
        else f"last layer fitted on {write_number_of(event.num_views, 'view')} of each training sample"
    )
    if not event.keeps_own and event.num_fitted < event.num_training:
        how = f"last layer fitted on {event.num_fitted:,} of {event.num_training:,} training samples, as many as the time limit allows"
    unseen = f"{event.num_samples:,} {'validation samples' if event.keeps_own else 'samples that it was not fitted on'}"
    score = (
        f"{write_share(event.score)} of {unseen} are correct"
        if event.metric == "accuracy"
        else f"{METRIC_NAMES[event.metric].words} {write_metric(event.metric, event.score)} on {unseen}"
    )
    return "head", f"{how}: {score} (in {write_duration(event.seconds)}); next: {event.next_step}"


def start_fact(event: StartScored) -> Fact:
    """How good a pretrained network is before its first step, and what becomes of its weights."""
    measured = f"validation {write_metric(event.metric, event.val_score)}, loss {event.val_loss:.4f}"
    if not event.num_epochs:
        return "start", f"{measured} with these weights, which are the result"
    return "start", (
        f"{measured} before fine-tuning, which comes next; these weights are kept unless an epoch is significantly better, and on Ctrl-C"
    )


def finished_fact(event: Finished, *, was_over: bool = False) -> Fact:
    """How long it was trained, and what is kept.

    Args:
        event: the end of the training.
        was_over: whether it had ended before it was resumed.
    """
    why = "" if event.reason == "all epochs" else f" ({event.reason})"
    skipped = (
        f"; {write_number_of(event.num_skipped, 'step')} skipped (infinite gradients in float16)"
        if event.num_skipped
        else ""
    )
    before = "already finished: " if was_over else ""
    return "trained", f"{before}{_epochs(event)} in {write_duration(event.seconds)}{why}{skipped}; kept: {_kept(event)}"


def _kept(event: Finished) -> str:
    """Which weights are kept, and for a pretrained network why."""
    if event.is_undefined:
        what = f"since the {metric_words(event.metric)} is undefined (NaN) after every epoch: choose another with {option('select')}"
        return f"the weights {_when(event)}, {what}" if event.best_epoch else f"the initial weights, {what}"
    if math.isnan(event.start_score):
        return f"the weights {_when(event)}" if event.best_epoch else "the initial weights"
    start, best = write_metric(event.metric, event.start_score), write_metric(event.metric, event.best_score)
    if event.best_epoch:
        return f"the fine-tuned weights {_when(event)} (validation {best}), significantly better than before ({start})"
    return f"the weights before fine-tuning (validation {start}), since no epoch is significantly better (best: {best})"


def _when(event: Finished) -> str:
    """From when the kept weights are, as a phrase."""
    is_cut = event.best_epoch == event.num_epochs and event.epochs_trained < event.num_epochs
    return f"after {_epochs(event)}" if is_cut else f"of epoch {event.best_epoch}"


def _epochs(event: Finished) -> str:
    """How many epochs were trained; an epoch that was cut counts as a part."""
    if event.epochs_trained == event.num_epochs:
        return write_number_of(event.num_epochs, "epoch")
    return f"{event.epochs_trained:.{1 if event.epochs_trained >= 0.1 else 3}f} epochs"


def result_fact(scores: AnyScores, noun: str) -> Fact:
    """The accuracy with its interval, and what guessing has; of other tasks their main metric."""
    words = {"test": f"test {noun}s", "val": f"validation {noun}s"}
    bias = "; there is no test set, and these chose the weights" if scores.split == "val" else ""
    if not isinstance(scores, Scores):
        others = _other_targets(scores) if isinstance(scores, RegressionScores) else ""
        return (
            "result",
            f"{scores.headline.sentence(f'{scores.num_samples:,} {words.get(scores.split, noun)}')}{others}{bias}",
        )
    plain = f"; {phrase}" if (phrase := scores.plain_phrase()) else ""
    return "result", (
        f"{write_share(scores.accuracy)} of {scores.num_samples:,} {words.get(scores.split, f'{scores.split} {noun}s')} are correct "
        f"(95 % interval {write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)}{scores.over_groups()}{plain}); "
        f"always guessing {scores.baseline_class}: {write_share(scores.baseline)}{bias}"
    )


def _other_targets(scores: RegressionScores) -> str:
    """The errors of the targets after the first one, as a clause; empty for one target."""
    _, *others = scores.targets
    if not others:
        return ""
    shown = ", ".join(f"{each.name} {each.mae:.4g}" for each in others[:_MAX_TARGETS])
    more = f" and {len(others) - _MAX_TARGETS:,} more" if len(others) > _MAX_TARGETS else ""
    return f"; that of {write_number_of(len(others), 'other target')}: {shown}{more}"


def trust_fact(fit: Fit, noun: str) -> Fact:
    """Whether probabilities can be believed."""
    if not isinstance(fit, TemperatureFit):
        return "trust", fit.sentence(noun)
    if not fit.is_used or fit.error_before is None or fit.error_after is None:
        return "trust", f"probabilities are not calibrated, so use them as an order, not as percentages: {fit.reason}"
    if fit.is_worse:
        return "trust", (
            f"calibration made the probabilities worse: they are off by {100 * fit.error_after:.1f} points on average, and without it by "
            f"{100 * fit.error_before:.1f} ({_fitted_on(fit, noun)}); use them as an order, not as percentages"
        )
    return "trust", (
        f"calibrated: probabilities are off by {100 * fit.error_after:.1f} points on average, not {100 * fit.error_before:.1f} "
        f"({_fitted_on(fit, noun)})"
    )


def _fitted_on(fit: TemperatureFit, noun: str) -> str:
    """The samples that a temperature was fitted on, as a phrase."""
    if not fit.num_out_of_fold:
        return write_number_of(fit.num_samples, f"validation {noun}")
    return describe_fit_samples(fit.fitted_on, fit.num_samples, fit.num_out_of_fold, noun)


def calibration_fact(fit: Fit, noun: str) -> Fact | None:
    """How the probabilities were calibrated; None if they were not."""
    if not isinstance(fit, TemperatureFit) or not fit.is_used or fit.error_before is None or fit.error_after is None:
        return None
    back = f" and the label smoothing of {fit.smoothing:g} inverted" if fit.smoothing else ""
    return "calibrated", (
        f"temperature {fit.temperature:.3g}{back}, fitted on {_fitted_on(fit, noun)}: expected calibration "
        f"error there {100 * fit.error_after:.1f} points instead of {100 * fit.error_before:.1f} (cross-validated)"
        f"{', which is worse' if fit.is_worse else ''}"
    )


def labels_fact(counts: Sequence[LabelCount], folder: Path) -> Fact | None:
    """How many labels may be wrong, and the call that lists them; None if none may be."""
    if any(each.is_unfinished for each in counts):
        return "labels", "not judged: the accuracy still rises, so this network is too weak; train longer first"
    if not (sentence := label_sentence(counts)):
        return None
    call = for_caller(f"visus evaluate {quoted(folder)} --mistakes", "run.mistakes()")
    return "labels", f"{sentence}; list them: {call}"


def next_fact(folder: Path) -> Fact:
    """What to type next. The run is what ``visus.train`` and ``visus.resume`` return."""
    return "next", for_caller(
        f"visus predict {quoted(folder)} FILES...", "run.predict(files), run.evaluate(), run.look(sample)"
    )


def quoted(path: str | Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
