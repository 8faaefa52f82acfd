"""What a report says, as plain data, and the sentences that the report and the model card share.

This file knows the facts of a finished run and how to say them in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from visus.evaluation.calibration import describe_calibrator
from visus.evaluation.scores import Scores
from visus.evaluation.shifts import WAYS
from visus.pages.report.measurements import Inside
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

_NETWORK_LENGTH = 48
_RULES = {"squash": "stretched to fit", "crop": "scaled and cut to fit", "pad": "scaled and padded to fit"}


@dataclass(frozen=True)
class ReportFacts:
    """Everything that ``write_report`` and ``write_card`` tell. Plain data, so that it can come from a run's files alone.

    Attributes:
        name: of the run.
        created: when it was trained, as people write it, such as ``2031-05-04 14:05``.
        command: what was typed to make it; empty where it was made from Python.
        data_name: what the data is called.
        scores: how it did; ``scores.split`` says on what.
        classes: in the order of the network's outputs.
        class_counts: for each split, the number of samples of each class, in the order of ``classes``.
        input_shape: (channels, *spatial).
        num_parameters, macs: of the network; macs are for one sample, None where the network cannot be counted.
        history: the rows of ``results.csv``, as numbers or as their text; a missing or empty value is left out.
        seconds: what training took.
        data: more about the data, as label and value, such as ``{"Kind": "a folder for each class"}``.
        ledger_sentences: what was done to the data.
        warnings: what the reader should know before they trust the result.
        design_text: the design's notation; empty for a module of the user's own.
        network: what was asked for, such as ``compact`` or ``package.module:callable``.
        network_reason: why this network, where the machine and a time limit decided; else empty.
        preprocessing: as ``Preprocessing.to_dict()`` gives it.
        recipe: every setting of the training.
        machine: as ``Machine.to_dict()`` gives it.
        environment: as ``networks.machine.describe()`` gives it.
        best_epoch: the epoch whose weights were kept, from 1; None where they are not those of one epoch.
        noun: what one sample is called: ``image``, ``signal``, ``volume``, ``sample``.
        inside: what was measured beyond the scores.
        start: what the training began with, as ``start.json`` has it; empty for new weights.
        computed: sentences on what was computed from the training samples before the first step.
    """

    name: str
    created: str
    command: str
    data_name: str
    scores: Scores
    classes: Sequence[str]
    class_counts: Mapping[str, Sequence[int]]
    input_shape: Sequence[int]
    num_parameters: int
    macs: int | None
    history: Sequence[Mapping[str, object]]
    seconds: float
    data: Mapping[str, object] = field(default_factory=dict)
    ledger_sentences: Sequence[str] = ()
    warnings: Sequence[str] = ()
    design_text: str = ""
    network: str = ""
    preprocessing: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    best_epoch: int | None = None
    noun: str = "image"
    inside: Inside = field(default_factory=Inside)
    start: Mapping[str, object] = field(default_factory=dict)
    computed: Sequence[str] = ()
    network_reason: str = ""

    @property
    def nouns(self) -> str:
        """More than one sample."""
        return f"{self.noun}s"

    def series(self, column: str) -> list[tuple[float, float]]:
        """One column of the history as (epoch, value) points; rows without a value are left out."""
        points = []
        for row in self.history:
            epoch, value = number(row.get("epoch")), number(row.get(column))
            if epoch is not None and value is not None:
                points.append((epoch, value))
        return points


def number(value: object) -> float | None:
    """The finite number that a cell of a table holds, or None.

    >>> number("0.25"), number(""), number(None), number("nan")
    (0.25, None, None, None)
    """
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None


def result_sentences(facts: ReportFacts) -> list[str]:
    """The result, how sure it is, and what a guess would reach."""
    scores, split = facts.scores, split_name(facts.scores.split)
    of_split = f" of the {split} split" if split else ""
    sentences = [
        f"The network names {scores.num_right:,} of {write_number_of(scores.num_samples, facts.noun)}{of_split} correctly: "
        f"{write_share(scores.accuracy)}.",
        f"For many more {facts.nouns} like these, expect between {write_share(scores.accuracy_low)} and "
        f"{write_share(scores.accuracy_high)} (95 % interval).",
        f"Always guessing \u201c{scores.baseline_class}\u201d would be correct for {write_share(scores.baseline)}.",
    ]
    if learned := scores.learned_sentence(facts.noun):
        sentences.append(learned)
    if scores.accuracy_low <= scores.baseline:
        sentences.append(
            f"So {write_number_of(scores.num_samples, facts.noun)} do not show that the network beats that guess."
        )
    return sentences


def calibration_sentence(facts: ReportFacts) -> str:
    """Whether the probabilities can be taken at their word."""
    scores = facts.scores
    gap = scores.confidence - scores.accuracy
    start = (
        f"On average the network is {write_share(scores.confidence)} sure of its answer and correct for "
        f"{write_share(scores.accuracy)}"
    )
    if abs(gap) < 0.01:
        verdict = "the two agree within one point"
    elif gap > 0:
        verdict = "it is surer than it should be"
    else:
        verdict = "it is less sure than it could be"
    return (
        f"{start}: {verdict}. Over {facts.nouns} of equal confidence, confidence and accuracy differ by "
        f"{100 * scores.calibration_error:.1f} points on average (expected calibration error, 15 bins)."
    )


def calibration_sentences(facts: ReportFacts) -> list[str]:
    """Whether the probabilities can be trusted, and what the temperature did to them."""
    found = facts.inside.calibration
    sentences = [calibration_sentence(facts)]
    if found is None:
        return sentences
    if found.temperature is None or found.after is None:
        return [*sentences, f"These probabilities are the network's own, not calibrated: {found.reason}."]
    fitted = f"{write_number_of(found.num_fitted, facts.noun)} of the {split_name(found.fitted_on)} split"
    sentences.append(f"These probabilities are calibrated: {describe_calibrator(found.calibrator)}, fitted on {fitted}.")
    sentences.append(
        f"Without that, the expected calibration error is {100 * found.before.error:.1f} points instead of {100 * found.after.error:.1f}, and the "
        f"loss {found.before.loss:.3f} instead of {found.after.loss:.3f}."
    )
    if found.is_own:
        sentences.append(f"The temperature was fitted on these very {facts.nouns}, so expect a larger error elsewhere.")
    if found.is_at_limit:
        sentences.append("That temperature is the limit of what is tried: no best one was found.")
    sentences.append("visus predict applies it, which changes no label; with --raw it does not.")
    return sentences


def shift_sentences(facts: ReportFacts) -> list[str]:
    """Whether the answers stay when the samples move, and which layer breaks it."""
    moves = facts.inside.moves
    if moves is None:
        return []
    worst, best = (order(moves.ways, key=lambda way: way.consistency) for order in (min, max))
    by = f"by up to {write_size(worst.reach_px)}"
    other = f", and {write_share(best.consistency)} ({best.way}: {WAYS[best.way]})" if best is not worst else ""
    sentences = [
        f"Two shifts of one {facts.noun} {by} get the same answer in {write_share(worst.consistency)} of cases "
        f"({worst.way}: {WAYS[worst.way]}){other}.",
        f"Measured on {write_number_of(moves.num_samples, facts.noun)} of the {split_name(moves.split)} split.",
    ]
    if moves.layers is not None:
        shift = f"For a shift of {write_size(moves.layers.shift_px)}, moved by {moves.layers.way}: "
        sentences.append(shift + moves.layers.sentence())
    return sentences


def sight_sentences(facts: ReportFacts) -> list[str]:
    """How far the network sees."""
    sight = facts.inside.sight
    if sight is None:
        return []
    size = write_size(sight.size_px)
    if not sight.layers:
        return [f"No layer of it has a receptive field on {with_article(facts.noun)} of {size}."]
    place = next(
        (index for index, each in enumerate(sight.layers) if each.is_all or _covers(each.size_px, sight.size_px)), None
    )
    sentences = []
    if place is not None:
        each = sight.layers[place]
        field = "sees everything" if each.is_all else f"has a receptive field ({write_size(each.size_px)}) that covers it"
        sentences.append(f"Of {with_article(facts.noun)} of {size}, '{each.path}' is the first layer that {field}.")
    else:
        sentences.append(f"No layer sees the whole {facts.noun} of {size} through its windows.")
    if sight.gates:
        sentences.append(f"From '{sight.gates}' on, a gate tells each place of the whole {facts.noun} beside that.")
    if sight.last_path and sight.box is not None:
        really = write_size([last + 1 - first for first, last in sight.box])
        sentences.append(f"The middle unit of the last map ('{sight.last_path}') really reads {really} of the {facts.noun}.")
    return sentences


def _covers(size_px: Sequence[int], image_px: Sequence[int]) -> bool:
    return all(size >= length for size, length in zip(size_px, image_px, strict=True))


def network_sentence(facts: ReportFacts) -> str:
    """What the network is and what it takes."""
    kind = "A convolutional network" if "conv" in facts.design_text else "A network"
    # A design that was written out stands in full beside this sentence.
    short = "\n" not in facts.network and len(facts.network) <= _NETWORK_LENGTH
    asked = f" ({facts.network})" if facts.network and short else ""
    chosen = [f"Its width was chosen for the time limit: {facts.network_reason}"] if facts.network_reason else []
    return (
        f"{kind}{asked} with {facts.num_parameters:,} parameters. "
        f"It takes {write_shape(facts.input_shape)} values and gives a probability for each of "
        f"{write_number_of(len(facts.classes), 'class', 'classes')}.{''.join(f' {each}' for each in (*chosen, *start_sentences(facts), *facts.computed))}"
    )


def start_sentences(facts: ReportFacts) -> list[str]:
    """What the training began with, and what its own steps brought; nothing for new weights."""
    if not facts.start:
        return []
    sentences = [f"It starts from {facts.start['source']}."]
    before = number(facts.start.get("val_accuracy"))
    kept = [value for epoch, value in facts.series("val_accuracy") if epoch == facts.best_epoch]
    if before is None:
        return sentences
    fitted = "with nothing but its head fitted" if facts.start.get("left_new") else "as it was"
    if kept:
        after = f"after fine-tuning {write_share(kept[0])} (epoch {facts.best_epoch}, which was kept)"
    else:
        after = "fine-tuning made it no better, so these weights were kept"
    return [*sentences, f"On the validation split it had {write_share(before)} right {fitted}; {after}."]


def preprocessing_sentences(facts: ReportFacts) -> list[str]:
    """What is done to a sample before the network sees it; nothing where that is not known."""
    known = facts.preprocessing
    if not known:
        return []
    size, channels = known["size"], known["channels"]
    assert isinstance(size, Sequence), "a size has one length for each axis"
    shape = f"{write_shape(size)} with {write_number_of(int(str(channels)), 'channel')}"
    how = f", {_RULES[str(known['rule'])]}" if known["kind"] == "images" else ""
    sentences = [f"Each {facts.noun} is brought to {shape}{how}."]
    offset, divisor = _values(known, "offset"), _values(known, "divisor")
    if known["scale"] == "min-max":
        sentences.append(
            f"Values are scaled so that the lowest of the training split ({offset}) is 0 and the highest, larger by {divisor}, is 1."
        )
    elif known["scale"] == "fixed":
        sentences.append(
            f"From the values {offset} is taken and they are divided by {divisor}: so the weights that it starts from were trained."
        )
    else:
        sentences.append(
            f"From the values the mean of the training split is taken ({offset}) and they are divided by its standard deviation ({divisor})."
        )
    if known.get("shuffle_seed") is not None:
        sentences.append(
            f"Last of all, the positions of every {facts.noun} are put into one fixed random order (seed {known['shuffle_seed']}), "
            "the same for all."
        )
    return [*sentences, f"Values are kept as {known['dtype']} until then."]


def _values(settings: Mapping[str, object], key: str) -> str:
    """One number, or one for each channel, as text."""
    value = settings.get(key)
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return ", ".join("unknown" if number(one) is None else f"{number(one):.4g}" for one in values)


def cost_rows(facts: ReportFacts) -> list[tuple[str, str]]:
    """What the training took, as label and value."""
    environment, machine = facts.environment, facts.machine
    speeds = [value for _, value in facts.series("samples_per_second")]
    rows = [("Training time", write_duration(facts.seconds))]
    if facts.history:
        rows.append(("Epochs", f"{len(facts.history):,}"))
    if speeds:
        rows.append((f"{facts.nouns.capitalize()} per second", f"{sum(speeds) / len(speeds):,.0f} (mean of the epochs)"))
    if machine.get("device"):
        rows.append(("Device", _device(str(machine["device"]), environment)))
    if machine.get("reason"):
        rows.append(("Precision", str(machine["reason"])))
    if machine.get("channels_last"):
        rows.append(("Memory layout", "channels last"))
    if environment.get("cores"):
        cores, threads = int(str(environment["cores"])), int(str(environment.get("threads", 0)))
        rows.append(("Processor cores", f"{cores}, of which PyTorch used {threads}" if threads else str(cores)))
    memory_bytes = number(environment.get("memory_bytes"))
    if memory_bytes is not None:
        rows.append(("Memory of the machine", write_bytes(memory_bytes)))
    return rows


def _device(device: str, environment: Mapping[str, object]) -> str:
    """The device with the name of its hardware, where the environment tells it."""
    hardware: object = None
    devices = environment.get("cuda")
    if device == "cpu":
        hardware = environment.get("processor")
    elif device.startswith("cuda") and isinstance(devices, Sequence):
        index = int(device.partition(":")[2] or 0)
        hardware = devices[index].get("name") if index < len(devices) else None
    return f"{device} ({hardware})" if hardware else device


def version_rows(facts: ReportFacts) -> list[tuple[str, str]]:
    """What it was computed with, as label and value."""
    environment = facts.environment
    rows = [(key, str(environment[key])) for key in ("visus", "python") if environment.get(key)]
    packages = environment.get("packages")
    if isinstance(packages, Mapping):
        rows += [(str(name), str(version)) for name, version in packages.items() if version]
    if environment.get("platform"):
        rows.append(("platform", str(environment["platform"])))
    return rows
