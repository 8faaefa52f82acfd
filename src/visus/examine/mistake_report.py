"""Mistakes with sample and class names, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from visus.data.contact_sheet import Captioned, contact_sheet
from visus.examine.layer_calls import Array
from visus.tables import Described, Table, Text, notes
from visus.units import split_name, write_number_of, write_share, write_split

MAX_DRAWN: Final = 8
"""Samples of each kind that a notebook draws."""


@dataclass(frozen=True)
class SimilarSample:
    """A training sample whose features are similar.

    Attributes:
        sample: its name.
        place: index in the training split, from 0.
        label: its class.
        similarity: cosine similarity of the features, -1 to 1.
    """

    sample: str
    place: int
    label: str
    similarity: float


@dataclass(frozen=True)
class ShownSample:
    """A sample with its label and its prediction.

    Attributes:
        sample: its name.
        place: index in its split, from 0.
        label: its class.
        answer: the predicted class.
        probability: probability of the predicted class.
        label_probability: probability of the label.
        alike: the most similar training samples; empty if they were not searched.
    """

    sample: str
    place: int
    label: str
    answer: str
    probability: float
    label_probability: float
    alike: tuple[SimilarSample, ...] = ()


@dataclass(frozen=True)
class ConfusedPair:
    """One class predicted as another: the number of samples, and some of them, the most confident first."""

    label: str
    answer: str
    num_samples: int
    samples: tuple[ShownSample, ...]


@dataclass(frozen=True)
class SplitLabels:
    """Possible label errors of another split than the evaluated one.

    Those of a training set are found by out-of-fold predictions: each by a head that was fitted without the sample.

    Attributes:
        num_samples: samples of the split.
        num_wrong: those that are misclassified; of the training set, out-of-fold.
        suspicious: possible label errors (``mistakes.suspicious_labels``); here ``answer`` is the suggested class.
        num_suspicious: possible label errors in all.
        notes: notes for the reader.
        reason: a sentence on why the predictions are too inaccurate to judge labels, and none is listed; empty if they are not.
        split: ``train`` or ``val``.
    """

    num_samples: int
    num_wrong: int
    suspicious: tuple[ShownSample, ...]
    num_suspicious: int
    notes: tuple[str, ...] = ()
    reason: str = ""
    split: str = "train"

    def sentence(self) -> str:
        """How many labels of the split may be wrong, or why that is not known; without a full stop.

        >>> SplitLabels(300, 12, (), 9).sentence()
        'training set, out-of-fold: 9 of 300 labels may be wrong'
        >>> SplitLabels(1200, 900, (), 0, reason="Labels are not listed.", split="val").sentence()
        'validation set: labels are not listed'
        """
        name = f"{split_name(self.split)} set{', out-of-fold' if self.split == 'train' else ''}"
        if self.reason:
            return f"{name}: {self.reason[0].lower()}{self.reason[1:].rstrip('.')}"
        count = f"{self.num_suspicious:,}" if self.num_suspicious else "none"
        return f"{name}: {count} of {self.num_samples:,} labels may be wrong"


@dataclass(frozen=True)
class LabelCount:
    """How many labels of one split may be wrong.

    Attributes:
        split: its name; the training set is examined out-of-fold.
        num_samples: its samples.
        num_suspicious: possible label errors.
        is_unfinished: whether labels are not judged because a longer training may gain more.
    """

    split: str
    num_samples: int
    num_suspicious: int
    is_unfinished: bool = False


def label_sentence(counts: Sequence[LabelCount]) -> str:
    """How many labels may be wrong in all, and in each split; empty if none may be.

    >>> label_sentence([LabelCount("train", 109, 1), LabelCount("test", 30, 2)])
    '3 may be wrong: 1 of 109 in the training set (out-of-fold), 2 of 30 in the test set'
    """
    found = [each for each in counts if each.num_suspicious]
    parts = [
        f"{each.num_suspicious:,} of {each.num_samples:,} in the {split_name(each.split)} set{' (out-of-fold)' * (each.split == 'train')}"
        for each in found
    ]
    return f"{sum(each.num_suspicious for each in found):,} may be wrong: {', '.join(parts)}" if found else ""


@dataclass(frozen=True, repr=False)
class MistakeReport(Described):
    """Predictions of a network that are worth reviewing.

    Attributes:
        split: the split of the samples; ``all`` for another dataset that was evaluated whole.
        noun: word for one sample.
        num_samples: samples of the split.
        num_wrong: misclassified samples.
        confident_wrong: the most confident mistakes, the most confident first; in a report, only those that are no possible label errors.
        unsure_right: the least confident correct predictions, the least confident first.
        confusions: the most frequent confusions.
        suspicious: possible label errors (``mistakes.suspicious_labels``); here ``answer`` is the suggested class.
        num_suspicious: possible label errors in all.
        training_labels: possible label errors of the training set, out-of-fold, whatever the split; None if the run has no such predictions.
        validation_labels: possible label errors of the validation set, beside those of the test set; None if it was not examined.
        unexamined: why the training set was not examined for label errors, and how to do that; empty if it was.
        feature_layer: the layer whose inputs are the features that were compared; empty if none were.
        num_compared, num_training: training samples that were compared, and training samples in all.
        notes: notes for the reader.
        is_unfinished: whether labels are not judged because a longer training may gain more.
        pixels: stored values of some of the samples by their ``place``, which a notebook draws.

    >>> mistakes.num_wrong == len(mistakes.confident_wrong)
    True
    """

    split: str
    noun: str
    num_samples: int
    num_wrong: int
    confident_wrong: tuple[ShownSample, ...]
    unsure_right: tuple[ShownSample, ...]
    confusions: tuple[ConfusedPair, ...]
    suspicious: tuple[ShownSample, ...]
    num_suspicious: int
    feature_layer: str = ""
    num_compared: int = 0
    num_training: int = 0
    notes: tuple[str, ...] = ()
    training_labels: SplitLabels | None = None
    validation_labels: SplitLabels | None = None
    unexamined: str = ""
    is_unfinished: bool = False
    pixels: Mapping[int, Array] = field(default_factory=dict, compare=False, repr=False)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = f"Mistakes on {write_number_of(self.num_samples, self.noun)} of {write_split(self.split)}"
        facts = [("wrong", f"{self.num_wrong:,}"), ("possible label errors", f"{self.num_suspicious:,}")]
        if self.confusions:
            facts.insert(
                1, ("most frequent confusion", f"{self.confusions[0].label} predicted as {self.confusions[0].answer}")
            )
        more = ""
        if self.training_labels is not None:
            facts.append(("in the training set", f"{self.training_labels.num_suspicious:,}, out-of-fold"))
            more = ", .training_labels"
        return title, [*facts, ("next", f".confident_wrong, .unsure_right, .confusions, .suspicious{more}")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return tuple(
            (title, table)
            for title, samples in self._groups()[:2]
            for table in _sample_table("", samples)[1:]
            if isinstance(table, Table)
        )

    def _groups(self) -> tuple[tuple[str, tuple[ShownSample, ...]], ...]:
        """Samples with the words above them."""
        return (
            ("most confident wrong answers", self.confident_wrong),
            ("labels that may be wrong", self.suspicious),
            ("least confident right answers", self.unsure_right),
        )

    def _sheet(self) -> str:
        sheets = []
        for title, samples in self._groups():
            drawn = [
                Captioned(self.pixels[each.place], _caption(each), each.sample)
                for each in samples[:MAX_DRAWN]
                if each.place in self.pixels
            ]
            sheets.append(contact_sheet(title, drawn))
        return "".join(sheets)

    def shown(self) -> Iterator[ShownSample]:
        """All samples in the report, some of them more than once.

        >>> len(list(mistakes.shown())) >= len(mistakes.confident_wrong)
        True
        """
        yield from self.confident_wrong
        yield from self.unsure_right
        yield from (each for pair in self.confusions for each in pair.samples)
        yield from self.suspicious

    def text(self) -> Text:
        """Labels that may be wrong, the most confident wrong answers, confusions with samples, and the least confident right answers.

        >>> mistakes.text()[0].startswith("mistakes: ")
        True
        """
        split = "all samples" if self.split == "all" else f"the {self.split} split"
        lines: list[str | Table] = [
            f"mistakes: {self.num_wrong:,} of {write_number_of(self.num_samples, self.noun)} of {split}"
        ]
        lines += self._suspicious_table()
        lines += _sample_table("most confident wrong answers:", self.confident_wrong)
        for pair in self.confusions:
            names = ", ".join(each.sample for each in pair.samples)
            lines.append(f"{pair.num_samples:,} x {pair.label} predicted as {pair.answer}: {names}")
        lines += _sample_table("least confident right answers:", self.unsure_right)
        if self.num_compared:
            lines.append(
                f"most similar: by the cosine of the inputs of {self.feature_layer}, among {self.num_compared:,} of "
                f"{self.num_training:,} training {self.noun}s"
            )
        unexamined = (self.unexamined,) if self.unexamined else ()
        return Text((*lines, *notes((*self.notes, *unexamined))))

    def _suspicious_table(self) -> list[str | Table]:
        """The possible label errors of the split, then those of the validation set and of the training set."""
        lines: list[str | Table] = []
        own, validation = self.training_labels, self.validation_labels
        if self.suspicious and not (own and self.split == "train"):
            of_split = f" of the {split_name(self.split)} set" if own or validation else ""
            title = (
                f"labels{of_split} that may be wrong: {self.num_suspicious:,} (another class is more probable than the label, and as probable as it is on "
                "average for samples of that class; Northcutt et al. 2021)"
            )
            lines += [title, _label_table(self.suspicious)]
        if validation is not None:
            how = " (by the same rule)" if validation.suspicious else ""
            lines += [
                f"{validation.sentence()}{how}",
                *([_label_table(validation.suspicious)] if validation.suspicious else []),
            ]
        if own is not None:
            how = " (by the same rule; each sample predicted by a head that was fitted without it)" if own.suspicious else ""
            lines += [
                f"{own.sentence()}{how}",
                *([_label_table(own.suspicious)] if own.suspicious else []),
                *notes(own.notes),
            ]
        return lines

    def label_counts(self) -> tuple[LabelCount, ...]:
        """How many labels may be wrong: of the training set, if it was examined out-of-fold, and of the split.

        >>> [count.split for count in mistakes.label_counts()]
        ['test']
        """
        own, training = (
            LabelCount(self.split, self.num_samples, self.num_suspicious, self.is_unfinished),
            self.training_labels,
        )
        if training is None:
            return (own,)
        return LabelCount("train", training.num_samples, training.num_suspicious), own

    def to_json(self) -> dict[str, Any]:
        """The mistakes as plain data.

        >>> mistakes.to_json()["split"]
        'test'
        """
        facts = asdict(replace(self, pixels={}))
        del facts["pixels"]
        return facts


def drawn_places(report: MistakeReport) -> list[int]:
    """The places of the samples that a notebook draws: the first ones of each kind.

    >>> sorted(mistakes.pixels) == sorted(drawn_places(mistakes))
    True
    """
    groups = (report.confident_wrong, report.suspicious, report.unsure_right)
    return list(dict.fromkeys(each.place for samples in groups for each in samples[:MAX_DRAWN]))


def _caption(sample: ShownSample) -> str:
    """The label of a sample, and its prediction where it differs."""
    predicted = f", predicted as {sample.answer}" if sample.answer != sample.label else ""
    return f"{sample.label}{predicted}, {write_share(sample.probability)}"


def _label_table(samples: Sequence[ShownSample]) -> Table:
    """Samples with their label and the suggested class."""
    rows = (
        (each.sample, each.label, write_share(each.label_probability), each.answer, write_share(each.probability))
        for each in samples
    )
    return Table(tuple(rows), ("sample", "label", "probability", "suggested", "probability"), (2, 4))


def _sample_table(title: str, samples: Sequence[ShownSample]) -> list[str | Table]:
    """Samples with their answers and the most similar training samples; nothing if there are none."""
    if not samples:
        return []
    rows = (
        (
            each.sample,
            each.label,
            each.answer,
            write_share(each.probability),
            write_share(each.label_probability),
            ", ".join(f"{near.sample} ({near.label} {near.similarity:.2f})" for near in each.alike),
        )
        for each in samples
    )
    headings = ("sample", "label", "answer", "confidence", "of its label", "most similar in training")
    return [title, Table(tuple(rows), headings, (3, 4))]
