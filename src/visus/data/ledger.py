"""The ledger: every change that visus made to samples, with its count and the names of the samples."""

from __future__ import annotations

import re
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from visus.errors import DataError, printable, unknown_name
from visus.units import write_number_of

SHOWN = 3  # names of an action in its sentence
MAX_EXAMPLES = 10
"""Number of sample names of each action in ``ledger.json``. ``ledger.csv`` has all of them."""

CSV_HEADER = ("change", "file", "detail")
"""The columns of ``ledger.csv``."""

ACTIONS: dict[str, str] = {
    "turned upright by its EXIF orientation": "{images} {was} turned upright by {its} EXIF orientation",
    "broken EXIF orientation ignored": "{images} with a broken EXIF orientation {was} not turned",
    "16-bit values scaled to 8-bit": "{images} {was} scaled from 16-bit to 8-bit values",
    "1-bit values widened to 8-bit": "{images} {was} converted from 1-bit to 8-bit values",
    "palette resolved to color": "{images} {was} converted from a palette to RGB",
    "transparency blended on white": "{images} with transparency {was} blended on white",
    "CMYK converted to RGB": "{images} {was} converted from CMYK to RGB",
    "color space converted to RGB": "{images} in another color space (YCbCr, LAB, HSV) {was} converted to RGB",
    "first frame of an animation used": "{images} {has} several frames or pages, of which only the first was used",
    "decoded at a reduced size": "{images} {was} decoded at 1/2, 1/4 or 1/8 of the size, which is still larger than needed",
    "gray made color": "{images} {was} converted from gray to color (three equal channels)",
    "color made gray": "{images} {was} converted from color to gray (ITU-R 601 luma)",
    "cropped": "{images} {was} cropped to the center",
    "resized": "{samples} {was} resized",
    "padded": "{images} {was} padded by repeating {its} edge pixels",
    "shuffled": "{samples} had {its} positions shuffled into one fixed random order",
    "learned from": (
        "{samples} {has} the same content as a sample that the network learned from, so {its} prediction says little about new data"
    ),
    "16-bit values in the lowest part of their range": (
        "{images} of 16 bits {has} values of at most 13 bits, so {its} 8-bit values are dark, with few gray levels"
    ),
    "stray bytes in a JPEG": "{images} {has} a few extra bytes, which may be damage: look at {them}",
    "read by its content": "{files} without a usual ending {was} read, since the content is {an_image}",
    "looks inverted": (
        "{images} may be inverted: bright where the training images are dark, or dark where they are bright; if so, invert {them} first"
    ),
    "far outside the training values": (
        "{samples} {has} values far from those of the training samples (at least 50 times their spread); if {its} scale differs, scale {them} as the training "
        "samples were"
    ),
    "outsized": "{images} {has} more than four times, or less than a quarter of, the median number of pixels",
    "unreadable": "{files} could not be read and {was} left out",
    "left out: hidden or not an image": "{files} {was} left out: hidden, of the system, or not {an_image}",
    "left out: an image, but no sample": "{images} {was} left out",
    "duplicate": "{samples} {was} found to be {exact_copies} of another sample; visus keeps copies in the same split",
    "duplicate row left out": "{rows} {was} left out, since an earlier row says the same",
    "row left out: no such file": "{rows} {was} left out: no such file",
    "conflict": "{samples} {has} the same content as another sample with another label",
}
"""Every action with its sentence, in the order in which a ledger lists them."""

FAR_OFF = "far outside the training values"
"""The action of samples whose values have another scale than those of the training."""

ROUTINE: frozenset[str] = frozenset(
    (
        "turned upright by its EXIF orientation",
        "1-bit values widened to 8-bit",
        "palette resolved to color",
        "CMYK converted to RGB",
        "color space converted to RGB",
        "decoded at a reduced size",
        "gray made color",
        "resized",
        "padded",
        "read by its content",
        "left out: hidden or not an image",
        "duplicate row left out",
    )
)
"""Actions that keep all samples, labels and contents: conversions of format and size, and files that are no samples."""

WARNED_OF: frozenset[str] = frozenset(("conflict", "unreadable"))
"""Actions that the warnings of opened data name too, with the files."""

_SERIOUS: tuple[str, ...] = (
    "conflict",
    "unreadable",
    "left out: an image, but no sample",
    "row left out: no such file",
    "duplicate",
    "learned from",
)
"""Actions that say which samples there are and whether their labels hold, the most serious first."""


class Ledger:
    """A counter of the changes to samples.

    It is thread-safe. Names keep the order in which they were noted, so for reproducible ledgers note samples in a fixed order (use
    one ledger per sample, and merge them in order). A name is a reference to the text in the table of samples, 8 bytes for each change.

    >>> ledger = Ledger()
    >>> ledger.note("turned upright by its EXIF orientation", "a.jpg")
    >>> ledger.note("turned upright by its EXIF orientation", "b.jpg")
    >>> ledger.sentences()
    ['2 images were turned upright by their EXIF orientation (a.jpg, b.jpg).']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        self._reasons: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        return f"Ledger({self.counts})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def note(self, action: str, sample: str, reason: str = "") -> None:
        """Count ``action`` for ``sample``.

        Args:
            action: a key of ``ACTIONS``.
            sample: name of the sample.
            reason: the reason. All reasons are kept, so that all unreadable files can be listed.

        Raises:
            ValueError: the action is unknown.
        """
        key = _checked(action)
        with self._lock:
            self._add(key, 1, [sample], {sample: reason} if reason else {})

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples for each noted action, in the order of ``ACTIONS``."""
        with self._lock:
            return {action: self._counts[action] for action in ACTIONS if action in self._counts}

    def examples(self, action: str) -> list[str]:
        """The first ten names noted for ``action``; empty if it was not noted."""
        return self._names.get(_checked(action), [])[:MAX_EXAMPLES]

    def names(self, action: str) -> list[str]:
        """Every name noted for ``action``; empty if it was not noted. A ledger from JSON has the first ten alone.

        >>> ledger = Ledger()
        >>> ledger.note("cropped", "a.jpg")
        >>> ledger.names("cropped")
        ['a.jpg']
        """
        return list(self._names.get(_checked(action), []))

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """The rows of ``ledger.csv``: action, name, and the reason ("" for none), in the order of ``ACTIONS``.

        >>> ledger = Ledger()
        >>> ledger.note("unreadable", "a.jpg", "The file is empty.")
        >>> list(ledger.rows())
        [('unreadable', 'a.jpg', 'The file is empty.')]
        """
        for action in self.counts:
            reasons = self._reasons.get(action, {})
            for name in self._names[action]:
                yield action, name, reasons.get(name, "")

    def reasons(self, action: str) -> dict[str, str]:
        """Sample -> reason, for every sample of ``action`` that was noted with a reason."""
        return dict(self._reasons.get(_checked(action), {}))

    def merge(self, other: Ledger) -> None:
        """Add the counts, names and reasons of ``other``; its names come after the existing ones."""
        counts = other.counts
        with self._lock:
            for action, count in counts.items():
                self._add(action, count, other.names(action), other.reasons(action))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data for JSON: ``{action: {"count", "samples", "sentence"}}``, and ``"reasons"`` if any were noted."""
        facts: dict[str, dict[str, Any]] = {}
        for action, count in self.counts.items():
            facts[action] = {"count": count, "samples": self.examples(action), "sentence": self._sentence(action, count)}
            if reasons := self.reasons(action):
                facts[action]["reasons"] = reasons
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Mapping[str, Any]], names: Mapping[str, Sequence[str]] | None = None) -> Ledger:
        """The inverse of ``as_dict``.

        Args:
            facts: the dictionary, with the first names of each action.
            names: every name of each action; default: those of ``facts``.

        Raises:
            DataError: the data is not a ledger, or has an action that this version does not know.
        """
        ledger = cls()
        for action, entry in facts.items():
            if action not in ACTIONS:
                raise DataError(unknown_name("ledger action", action, ACTIONS))
            try:
                kept = list(entry["samples"]) if names is None else names[action]
                ledger._add(action, int(entry["count"]), kept, dict(entry.get("reasons", {})))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(
                    f"the ledger entry {action!r} needs a count and a list of samples, and has {entry!r}."
                ) from error
        return ledger

    def sentences(self) -> list[str]:
        """One sentence for each noted action, with the first three names; in the order of ``ACTIONS``."""
        return [self._sentence(action, count) for action, count in self.counts.items()]

    def ranked_sentences(self) -> tuple[list[str], list[str]]:
        """The sentences of what changed samples, labels or values, the most serious first, and those of ``ROUTINE`` actions.

        >>> ledger = Ledger()
        >>> ledger.note("resized", "a.jpg")
        >>> ledger.note("cropped", "a.jpg")
        >>> ledger.note("conflict", "b.jpg")
        >>> [len(sentences) for sentences in ledger.ranked_sentences()]
        [2, 1]
        """
        serious = {action: place for place, action in enumerate(_SERIOUS)}
        counts = self.counts
        ranked = sorted(counts, key=lambda action: serious.get(action, len(serious)))
        sentences = {action: self._sentence(action, counts[action]) for action in ranked}
        notable = [sentence for action, sentence in sentences.items() if action not in ROUTINE]
        return notable, [sentence for action, sentence in sentences.items() if action in ROUTINE]

    def short_sentences(self, without: Container[str] = ()) -> list[str]:
        """As ``sentences``, with one name and at most one reason for each action.

        Args:
            without: actions to leave out.

        >>> ledger = Ledger()
        >>> ledger.note("resized", "a.jpg")
        >>> ledger.note("resized", "b.jpg")
        >>> ledger.short_sentences()
        ['2 samples were resized (a.jpg, ...).']
        """
        return [self._sentence(action, count, shown=1) for action, count in self.counts.items() if action not in without]

    def _add(self, action: str, count: int, names: Sequence[str], reasons: Mapping[str, str]) -> None:
        self._counts[action] = self._counts.get(action, 0) + count
        self._names.setdefault(action, []).extend(names)
        if reasons:
            self._reasons.setdefault(action, {}).update(reasons)

    def _sentence(self, action: str, count: int, shown: int = SHOWN) -> str:
        names = self._names[action]
        reasons = self._reasons.get(action, {})
        if len(reasons) == count and (action == "unreadable" or action.startswith("left out")):
            return _by_reason(action, count, reasons, shown)
        has_examples = names and (action not in _ALL_OR_NONE or count <= SHOWN)
        examples = f" ({write_examples(names, count, shown)})" if has_examples else ""
        return f"{ACTIONS[action].format(**_words(count))}{examples}."


_ALL_OR_NONE = frozenset(("learned from",))
"""Actions whose sentence names either all samples or none, since the predictions are printed next to it."""
_MAX_REASONS = 6


def group_reasons(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Reasons with their samples, the most frequent first. Reasons that differ only in numbers and quoted words are merged into the first.

    >>> group_reasons({"a.jpg": "9 bits are too many.", "b.txt": "text", "c.jpg": "7 bits are too many."})
    [('9 bits are too many.', ['a.jpg', 'c.jpg']), ('text', ['b.txt'])]
    """
    groups: dict[str, tuple[str, list[str]]] = {}
    for sample, reason in reasons.items():
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,. ]*", "#", reason)
        groups.setdefault(kind, (reason, []))[1].append(sample)
    return sorted(groups.values(), key=lambda group: -len(group[1]))


def write_examples(samples: Sequence[str], count: int | None = None, shown: int = SHOWN) -> str:
    """The first ``shown`` names, then ``...`` if there are more.

    Args:
        samples: the names.
        count: number of all samples; default: ``len(samples)``.
        shown: maximum number of names.
    """
    names = [printable(sample) for sample in samples[:shown]]
    return ", ".join(names) + (", ..." if (len(samples) if count is None else count) > len(names) else "")


def _by_reason(action: str, count: int, reasons: Mapping[str, str], shown: int) -> str:
    """The number of samples, then each reason with its first samples, the most frequent reason first."""
    head = ACTIONS[action].format(**_words(count)).partition(":")[0]
    groups = group_reasons(reasons)
    if len(groups) == 1:
        reason, samples = groups[0]
        return f"{head} ({write_examples(samples, shown=shown)}): {reason.rstrip('.')}."
    if shown == 1:
        return f"{head} ({write_examples(list(reasons), shown=shown)}), for {len(groups)} reasons."
    parts = [
        f"{len(samples):,} ({write_examples(samples)}): {reason.rstrip('.')}" for reason, samples in groups[:_MAX_REASONS]
    ]
    num_others = sum(len(samples) for _, samples in groups[_MAX_REASONS:])
    if num_others:
        parts.append(f"{num_others:,} for other reasons")
    return f"{head}. {'. '.join(parts)}."


def _checked(action: str) -> str:
    if action not in ACTIONS:
        raise ValueError(unknown_name("ledger action", action, ACTIONS))
    return action


def _words(count: int) -> dict[str, str]:
    """The words of a sentence that depend on the count."""
    one = count == 1
    return {
        "count": f"{count:,}",
        "images": write_number_of(count, "image"),
        "samples": write_number_of(count, "sample"),
        "files": write_number_of(count, "file"),
        "rows": write_number_of(count, "row"),
        "was": "was" if one else "were",
        "has": "has" if one else "have",
        "its": "its" if one else "their",
        "them": "it" if one else "them",
        "exact_copies": "an exact copy" if one else "exact copies",
        "an_image": "an image" if one else "images",
    }
