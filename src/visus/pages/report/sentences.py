"""The sentences that the report and the model card share, from the facts of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from visus.evaluation.calibration import Calibration, describe_calibrator, describe_fit_samples
from visus.evaluation.metric_names import metric_words, write_metric
from visus.evaluation.shifts import WAYS, ShiftFigures
from visus.pages.parts.table import number
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import FieldGrowth
from visus.units import (
    split_name,
    with_article,
    write_bytes,
    write_duration,
    write_number_of,
    write_shape,
    write_share,
    write_size,
)

_MAX_NETWORK_LENGTH: Final = 48
NUM_FINAL_HORIZONS: Final = 3
"""Horizons of ``final_ema`` before the end of the training at which its average starts, as in ``training.weight_average``."""
_LOSSES: Final = {
    "single-label": "cross-entropy",
    "multi-label": "binary cross-entropy",
    "regression": "Huber loss of standardized targets",
}
_RESIZE_MODES: Final = {
    "squash": "resized without keeping its aspect ratio",
    "crop": "resized and cropped",
    "pad": "resized and padded",
}


def result_sentences(facts: ReportFacts) -> list[str]:
    """The accuracy, its interval, and the baseline."""
    scores, split = facts.scores, split_name(facts.scores.split)
    of_split = f" of the {split} set" if split else ""
    sentences = [
        f"The network classifies {scores.num_right:,} of {write_number_of(scores.num_samples, facts.noun)}{of_split} correctly: an accuracy "
        f"of {write_share(scores.accuracy)}.",
        f"On more {facts.nouns} like these, expect an accuracy between {write_share(scores.accuracy_low)} and "
        f"{write_share(scores.accuracy_high)} (95 % confidence interval{scores.over_groups()}).",
        f"The baseline, always predicting \u201c{scores.baseline_class}\u201d, has an accuracy of {write_share(scores.baseline)}.",
    ]
    sentences += _plain_sentences(facts)
    if learned := scores.learned_sentence(facts.noun):
        sentences.append(learned)
    if scores.accuracy_low <= scores.baseline:
        samples = write_number_of(scores.num_samples, facts.noun)
        sentences.append(f"{samples} do not show that the network beats the baseline.")
    return sentences


def answer_sentences(facts: ReportFacts) -> list[str]:
    """What to expect, the baseline, the most frequent confusion, and how many mistakes may be wrong labels."""
    scores = facts.scores
    sentences = [
        f"On more {facts.nouns} like these, expect {write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)} (95 % confidence "
        f"interval{scores.over_groups()})."
    ]
    if scores.accuracy_low <= scores.baseline:
        samples = write_number_of(scores.num_samples, facts.noun)
        sentences.append(f"{samples} do not show that the network beats the baseline.")
    sentences += _plain_sentences(facts)
    if learned := scores.learned_sentence(facts.noun):
        sentences.append(learned)
    if not (pairs := scores.most_confused(1)):
        return [*sentences, f"None of these {facts.nouns} is misclassified."]
    true, predicted, count = pairs[0]
    total = next(row.num_samples for row in scores.per_class if row.name == true)
    confused = (
        f"{count:,} of {total:,} \u201c{true}\u201d {'is' if count == 1 else 'are'} predicted as \u201c{predicted}\u201d"
    )
    return [*sentences, f"The most frequent confusion: {confused}.", *_label_sentences(facts)]


def _plain_sentences(facts: ReportFacts) -> list[str]:
    """The accuracy without test-time augmentation, which the table of epochs has; nothing if it is the same."""
    phrase = facts.scores.plain_phrase()
    return [f"The accuracy is {phrase}."] if phrase else []


def _label_sentences(facts: ReportFacts) -> list[str]:
    """How many mistakes may be wrong labels, and the accuracy if all of them are; nothing if there are none."""
    found, scores = facts.measured.mistakes, facts.scores
    if found is None or not found.num_suspicious:
        return []
    share = write_share((scores.num_right + found.num_suspicious) / scores.num_samples)
    count = f"{found.num_suspicious:,} of {found.num_wrong:,} mistakes"
    if found.num_suspicious == 1:
        count = "The one mistake" if found.num_wrong == 1 else count
        return [f"{count} may be a wrong label: if it is, the accuracy is {share}."]
    return [f"{count} may be wrong labels: if all are, the accuracy is {share}."]


def confidence_sentences(facts: ReportFacts) -> list[str]:
    """Mean confidence against accuracy, and the expected calibration error."""
    scores = facts.scores
    gap = scores.confidence - scores.accuracy
    if abs(gap) < 0.01:
        verdict = "they agree within one percentage point"
    elif scores.accuracy_low <= scores.confidence <= scores.accuracy_high:
        verdict = f"{write_number_of(scores.num_samples, facts.noun)} do not show a difference"
    else:
        verdict = "the network is overconfident" if gap > 0 else "the network is underconfident"
    return [
        f"The mean confidence is {write_share(scores.confidence)} and the accuracy is {write_share(scores.accuracy)}: {verdict}.",
        f"The expected calibration error, the mean gap between confidence and accuracy over 15 bins, is "
        f"{100 * scores.calibration_error:.1f} percentage points.",
    ]


def calibration_sentences(facts: ReportFacts) -> list[str]:
    """Confidence against accuracy, and the effect of the calibration."""
    found = facts.measured.calibration
    sentences = confidence_sentences(facts)
    if found is None:
        return sentences
    if found.temperature is None or found.after is None:
        return [*sentences, f"These probabilities are not calibrated: {found.reason}."]
    return [*sentences, *_calibrator_sentences(facts, found)]


def _calibrator_sentences(facts: ReportFacts, found: Calibration) -> list[str]:
    assert found.after is not None, "asked for where the probabilities are calibrated"
    before, after = found.before, found.after
    fitted = describe_fit_samples(found.fitted_on, found.num_fitted, found.num_out_of_fold, facts.noun)
    sentences = [
        f"These probabilities are calibrated: {describe_calibrator(found.calibrator)}, fitted on {fitted}.",
        f"Without calibration, the expected calibration error is {100 * before.error:.1f} percentage points instead of "
        f"{100 * after.error:.1f}, and the loss is {before.loss:.3f} instead of {after.loss:.3f}.",
    ]
    sentences += _calibrator_doubts(facts, found)
    return [*sentences, "visus predict applies this calibration, which never changes a label; --raw turns it off."]


def calibration_summary(facts: ReportFacts) -> list[str]:
    """Confidence against accuracy, and the effect of the calibration, in few words."""
    confidence, error = confidence_sentences(facts)
    found = facts.measured.calibration
    if found is None:
        return [confidence, error]
    if found.temperature is None or found.after is None:
        return [f"{confidence} {error}", f"These probabilities are not calibrated: {found.reason}."]
    fitted = describe_fit_samples(found.fitted_on, found.num_fitted, found.num_out_of_fold, facts.noun)
    calibrated = (
        f"Expected calibration error: {100 * found.after.error:.1f} percentage points; without calibration {100 * found.before.error:.1f}. "
        f"These probabilities are calibrated: {describe_calibrator(found.calibrator)}, fitted on {fitted}."
    )
    return [confidence, " ".join([calibrated, *_calibrator_doubts(facts, found)])]


def _calibrator_doubts(facts: ReportFacts, found: Calibration) -> list[str]:
    """Why the figures after calibration may be too good."""
    doubts = []
    if found.is_worse:
        doubts.append(
            f"On these {facts.nouns}, calibration made the probabilities worse: use them as an order, not as percentages."
        )
    if found.is_own:
        doubts.append(
            f"The temperature was fitted on these same {facts.nouns}, so expect a larger error on other {facts.nouns}."
        )
    if found.is_at_limit:
        doubts.append("The temperature is at the limit of the search range: no optimum was found.")
    return doubts


def shift_sentences(facts: ReportFacts) -> list[str]:
    """The share of predictions that stay the same under shifts, and which layer is the first to break equivariance."""
    shifts = facts.measured.shifts
    if shifts is None:
        return []
    worst = min(shifts.ways, key=lambda way: way.consistency)
    interval = f"{write_share(worst.consistency_low)} to {write_share(worst.consistency_high)}"
    sentences = [
        f"Two shifts of one {facts.noun} by up to {write_size(worst.reach_px)} get the same label in {write_share(worst.consistency)} of cases "
        f"for {_worst_words(shifts.ways)} ({worst.way}: {WAYS[worst.way]}; 95 % interval {interval}), on "
        f"{write_number_of(shifts.num_samples, facts.noun)} of the {split_name(shifts.split)} set."
    ]
    if shifts.layers is not None and not shifts.trade_off:
        sentences.append(
            f"For a shift of {write_size(shifts.layers.shift_px)} ({shifts.layers.way}), {shifts.layers.sentence()}"
        )
    return sentences


def _worst_words(ways: Sequence[ShiftFigures]) -> str:
    """Which kind of shift is the worst: of all, or of those that were measured."""
    names = [each.way for each in ways]
    if set(names) == set(WAYS):
        return "the worst kind of shift"
    return f"the {'worse' if len(names) == 2 else 'worst'} of {', '.join(names[:-1])} and {names[-1]}"


def field_sentences(facts: ReportFacts) -> list[str]:
    """The first layer whose receptive field covers the sample, and the receptive field of the last map."""
    growth = facts.measured.field_growth
    if growth is None:
        return []
    size = write_size(growth.size_px)
    if not growth.layers:
        return [f"No layer of this network has a receptive field on {with_article(facts.noun)} of {size}."]
    sentences = [_covering_sentence(growth, facts.noun, size)]
    if growth.gates:
        sentences.append(
            f"From '{growth.gates}' on, every position also depends on the whole {facts.noun}, through a gate or a norm."
        )
    if growth.last_path and growth.box is not None:
        exact = write_size([last + 1 - first for first, last in growth.box])
        sentences.append(
            f"The middle unit of the last feature map ('{growth.last_path}') has an exact receptive field of {exact}."
        )
    return sentences


def _covering_sentence(growth: FieldGrowth, noun: str, size: str) -> str:
    for each in growth.layers:
        if each.is_all:
            return f"'{each.path}' is the first layer whose receptive field is the whole {noun} ({size})."
        if all(field >= length for field, length in zip(each.size_px, growth.size_px, strict=True)):
            field = write_size(each.size_px)
            return f"'{each.path}' is the first layer whose receptive field ({field}) covers the {noun} ({size})."
    return f"No layer has a receptive field that covers the {noun} ({size})."


def network_sentence(facts: ReportFacts) -> str:
    """The kind of network, its size, its input and its output."""
    kind = "A convolutional network" if "conv" in facts.design_text else "A network"
    # A longer design stands in full beside this sentence.
    is_short = "\n" not in facts.network and len(facts.network) <= _MAX_NETWORK_LENGTH
    asked = f" ({facts.network})" if facts.network and is_short else ""
    chosen = [f"Its width was chosen for the time limit: {facts.network_reason}"] if facts.network_reason else []
    sentences = [
        f"{kind}{asked} with {facts.num_parameters:,} parameters.",
        f"It reads samples of {write_shape(facts.input_shape)} and returns {_outputs(facts)}.",
        *chosen,
        *start_sentences(facts),
    ]
    return " ".join(sentences)


def _outputs(facts: ReportFacts) -> str:
    """What the network returns for a sample."""
    if facts.task == "regression":
        return write_number_of(len(facts.classes), "number")
    return f"a probability for each of {write_number_of(len(facts.classes), 'class', 'classes')}"


def start_sentences(facts: ReportFacts) -> list[str]:
    """The initial weights and the gain of fine-tuning; nothing for new weights."""
    if not facts.start:
        return []
    sentences = [f"Training started from {facts.start['source']}."]
    before = number(facts.start.get("val_accuracy"))
    if before is None:
        return sentences
    fitted = "with only its head fitted" if facts.start.get("left_new") else "unchanged"
    metric = str(facts.start.get("metric") or "accuracy")
    start = f"Its validation {metric_words(metric)} was {write_metric(metric, before)} before fine-tuning ({fitted})"
    kept = [value for epoch, value in facts.series("val_score") if epoch == facts.best_epoch]
    if kept:
        return [
            *sentences,
            f"{start} and {write_metric(metric, kept[0])} after it (epoch {facts.best_epoch}, whose weights were kept).",
        ]
    if not facts.series("val_score"):
        return [*sentences, f"{start}. It was not fine-tuned."]
    return [*sentences, f"{start}. Fine-tuning did not improve it, so the initial weights were kept."]


def curve_sentences(facts: ReportFacts) -> list[str]:
    """What the loss is, and on which samples and with which weights the training and the validation are measured."""
    smoothing, recipe = facts.label_smoothing, facts.recipe
    kind = str(recipe.get("loss") or _LOSSES[facts.task])
    loss = f"{kind} with label smoothing {smoothing:g}" if smoothing else kind
    loss += ", weighted by class" if recipe.get("class_weights") == "balanced" else ""
    sizes = {number(row.get("img_size")) for row in facts.history}
    at_size = f", at the size of the stage: the {facts.nouns} grow during the training" if len(sizes) > 1 else ""
    changed = ", ".join(augmentations(recipe))
    training = f"on augmented {facts.nouns} ({changed})" if changed else f"on unchanged {facts.nouns}"
    dropout = ", with dropout" if "dropout(" in facts.design_text else ""
    sentences = [
        f"Both losses are {loss}{at_size}.",
        f"Training: the mean over each epoch, {training}{dropout}, with the weights of the moment.",
    ]
    if facts.series("val_loss") or facts.series("val_score"):
        sentences.append(f"Validation: after each epoch, on unchanged {facts.nouns}{_averaged(recipe)}.")
    if recipe.get("sampling") == "balanced":
        sentences.append("The training draws every class equally often, the validation does not.")
    return sentences


_AUGMENTATIONS: Final = (
    *("flip", "vertical_flip", "translate", "zoom", "crop", "rotate90", "rotate", "color", "policy", "transform"),
    *("cutout", "mixup", "cutmix"),
)
"""The settings of the augmentation, in the order of the report."""


def augmentations(recipe: Mapping[str, object]) -> list[str]:
    """The augmentations of a recipe that are on, with their strength."""
    words = {name: str(recipe.get(name) or "none") for name in ("flip", "vertical_flip", "rotate90", "policy", "transform")}
    found = {name: value for name, value in words.items() if value != "none"}
    names = ("translate", "zoom", "crop", "rotate", "color", "cutout", "mixup", "cutmix")
    found |= {name: f"{value:g}" for name in names if (value := number(recipe.get(name)))}
    return [f"{name} {found[name]}" for name in _AUGMENTATIONS if name in found]


def _averaged(recipe: Mapping[str, object]) -> str:
    """With which weights the validation is measured, as the end of a sentence."""
    if number(recipe.get("ema_decay")):
        return ", with averaged weights (EMA)"
    horizon = number(recipe.get("final_ema"))
    return f", with averaged weights in the last {write_share(NUM_FINAL_HORIZONS * horizon, 0)}" if horizon else ""


def recipe_sentence(facts: ReportFacts) -> str:
    """The main settings of the training; empty if unknown."""
    recipe = facts.recipe
    if not recipe.get("optimizer"):
        return ""
    rate = number(recipe.get("learning_rate"))
    settings = [f"learning rate {rate:.3g}"] if rate else []
    settings += [f"{recipe['schedule']!s} schedule"] if recipe.get("schedule") else []
    settings += [f"weight decay {decay:.3g}"] if (decay := number(recipe.get("weight_decay"))) else []
    settings += [f"frozen: {recipe['frozen']}"] if recipe.get("frozen") else []
    epochs = number(recipe.get("epochs"))
    if epochs == 0:
        is_fitted = facts.start and not facts.start.get("has_own_head")
        what = "the last layer (the head) alone was fitted" if is_fitted else "the weights are the initial ones"
        return f"No epoch was trained: {what}. recipe.yaml has every setting with its reason."
    count = write_number_of(int(epochs), "epoch") if epochs is not None else "Epochs"
    words = f"{count} in batches of {recipe.get('batch_size')} by {recipe['optimizer']}"
    return f"{words} ({', '.join(settings)}). recipe.yaml has every setting with its reason."


def not_the_same_sentence(facts: ReportFacts) -> str:
    """Why the command that trains a run again trains other weights; empty if it trains the same."""
    whys = [
        *(["a time limit cut this one"] if facts.is_cut else []),
        *(["this one was changed while it ran"] if facts.is_changed else []),
    ]
    return f"This command is not the same training: {', and '.join(whys)}." if whys else ""


def preprocessing_sentences(facts: ReportFacts, *, with_storage: bool = True) -> list[str]:
    """The preprocessing of a sample, and how it is stored before; nothing if unknown."""
    known = facts.preprocessing
    if not known:
        return []
    size, channels = known["size"], known["channels"]
    assert isinstance(size, Sequence), "a size has one length for each axis"
    shape = f"{_size_words(size)} with {write_number_of(int(str(channels)), 'channel')}"
    how = f", {_RESIZE_MODES[str(known['resize_mode'])]}" if known["kind"] == "images" else ""
    sentences = [f"Each {facts.noun} is converted to {shape}{how}.", _normalization_sentence(known, facts.noun)]
    if known.get("shuffle_seed") is not None:
        sentences.append(
            f"Then the positions of every {facts.noun} are permuted, in the same random order for all (seed {known['shuffle_seed']})."
        )
    stored = [f"Values are stored as {known['dtype']} before normalization."] if with_storage else []
    return [*sentences, *stored]


def _size_words(size: Sequence[int]) -> str:
    """A size in words; a length with its unit, since one number by itself says little."""
    return write_size(size) if len(size) == 1 else write_shape(size)


def _normalization_sentence(known: Mapping[str, object], noun: str) -> str:
    offset = _values(known, "offset")
    formula = f"(value - {f'({offset})' if offset.startswith('-') else offset}) / {_values(known, 'divisor')}"
    origin = {
        "min-max": "with the minimum and the range of the training set",
        "fixed": "as for the training of the initial weights",
    }.get(str(known["normalize"]), "with the mean and the standard deviation of the training set")
    return f"{'Pixels' if noun == 'image' else 'Values'} are normalized {origin}: {formula}."


def _values(settings: Mapping[str, object], key: str) -> str:
    """One number, or one for each channel in parentheses, as text."""
    value = settings.get(key)
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    texts = ["unknown" if number(one) is None else f"{number(one):.4g}" for one in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def cost_rows(facts: ReportFacts) -> list[tuple[str, str]]:
    """The cost of the training, as label and value."""
    environment, machine = facts.environment, facts.machine
    speeds = [value for _, value in facts.series("samples_per_second")]
    rows = [("Training time", f"{write_duration(facts.seconds)} (steps and validation)")]
    if facts.times:
        rows.append(("Command until this report", facts.times.partition(":")[0]))
    if facts.history:
        rows.append(("Epochs", f"{len(facts.history):,}"))
    if speeds:
        rows.append((f"{facts.nouns.capitalize()} per second", f"{sum(speeds) / len(speeds):,.0f}"))
    if machine.get("device"):
        rows.append(("Device", _device(str(machine["device"]), environment)))
    if machine.get("reason"):
        rows.append(("Precision", str(machine["reason"])))
    if machine.get("channels_last"):
        rows.append(("Memory format", "channels-last"))
    if environment.get("cores"):
        cores, threads = int(str(environment["cores"])), int(str(environment.get("threads", 0)))
        rows.append(("CPU cores", f"{cores}; PyTorch used {threads}" if threads else str(cores)))
    memory_bytes = number(environment.get("memory_bytes"))
    if memory_bytes is not None:
        rows.append(("Memory of the machine", write_bytes(memory_bytes)))
    return rows


def _device(device: str, environment: Mapping[str, object]) -> str:
    """The device with the name of its hardware, where the environment holds it."""
    hardware: object = None
    devices = environment.get("cuda")
    if device == "cpu":
        hardware = environment.get("processor")
    elif device.startswith("cuda") and isinstance(devices, Sequence):
        index = int(device.partition(":")[2] or 0)
        hardware = devices[index].get("name") if index < len(devices) else None
    return f"{device} ({hardware})" if hardware else device


def version_rows(facts: ReportFacts, *, is_short: bool = False) -> list[tuple[str, str]]:
    """Versions of visus, Python and the packages, and the platform, as label and value; of the packages only torch where ``is_short``."""
    environment = facts.environment
    rows = [(key, str(environment[key])) for key in ("visus", "python") if environment.get(key)]
    packages = environment.get("packages")
    if isinstance(packages, Mapping):
        rows += [
            (str(name), str(version)) for name, version in packages.items() if version and (not is_short or name == "torch")
        ]
    if environment.get("platform") and not is_short:
        rows.append(("platform", str(environment["platform"])))
    return rows
