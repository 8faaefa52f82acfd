"""What was done to the data, counted and named.

This file knows the closed list of things that visus may do to a sample, and how each is said in plain English.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from visus.errors import DataError, printable, unknown_name
from visus.units import write_number_of

MAX_EXAMPLES = 10
"""Names that are kept for each action; the count goes on."""

ACTIONS: dict[str, str] = {
    "turned upright by its EXIF orientation": "{images} {was} turned upright by {its} EXIF orientation",
    "broken EXIF orientation ignored": "{images} with a broken EXIF orientation {was} taken as stored",
    "16-bit values scaled to 8-bit": "{images} {was} scaled from 16-bit to 8-bit values",
    "1-bit values widened to 8-bit": "{images} in black and white {was} widened from 1-bit to 8-bit values",
    "palette resolved to color": "{images} with a palette {was} resolved to color",
    "transparency blended on white": "{images} with transparent parts {was} blended on white",
    "CMYK converted to RGB": "{images} {was} converted from CMYK to RGB",
    "color space converted to RGB": "{images} in another color space (YCbCr, LAB, HSV) {was} converted to RGB",
    "first frame of an animation used": "{images} with several frames or pages {was} read as {its} first",
    "decoded at a reduced size": "{images}, far larger than needed, {was} decoded at 1/2, 1/4 or 1/8 of the size",
    "gray made color": "{images} in gray {was} made color (three equal channels)",
    "color made gray": "{images} in color {was} made gray (ITU-R 601 luma)",
    "cropped": "{images} {was} cropped to the middle",
    "resized": "{samples} {was} resized",
    "padded": "{images} {was} padded with {its} own edge pixels",
    "shuffled": "{samples} had {its} positions put into one fixed random order",
    "learned from": "{samples} {has} the same content as one that the network learned from, so {its} answer says little",
    "16-bit values in the lowest part of their range": (
        "{images} of 16 bits {has} values of at most 13 bits, so {they} came out dark, with few levels"
    ),
    "stray bytes in a JPEG": "{images} {was} read with a few bytes left over, which may come from damage: look at {them}",
    "read by its content": "{files} without a usual ending {was} read, being {an_image} by content",
    "looks inverted": (
        "{images} {has} bright where the training images have dark, or the reverse: if black and white have changed places, invert {them} "
        "first"
    ),
    "outsized": "{images} {has} more than four times, or less than a quarter of, the usual number of pixels",
    "unreadable": "{files} could not be read and {was} left out",
    "left out: hidden or not an image": "{files} {was} left out: hidden, of the system, or not {an_image}",
    "left out: an image, but no sample": "{images} {was} left out",
    "duplicate": "{samples} {was} found to be {exact_copies} of another; a split that visus makes keeps copies on one side",
    "duplicate row left out": "{rows} {was} left out: said before",
    "row left out: no such file": "{rows} {was} left out, for no such file exists",
    "conflict": "{samples} {has} the same content as another sample under another label",
}
"""Every action by its key, with its sentence; in the order in which a ledger tells them."""


class Ledger:
    """A counter of what was done to which samples.

    Threads may note at the same time. The names kept are the first ones noted, so note in a fixed order where the
    ledger must come out the same twice (one ledger for each sample, merged in order).

    >>> ledger = Ledger()
    >>> ledger.note("turned upright by its EXIF orientation", "a.jpg")
    >>> ledger.note("turned upright by its EXIF orientation", "b.jpg")
    >>> ledger.sentences()
    ['2 images were turned upright by their EXIF orientation (a.jpg, b.jpg).']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._reasons: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        return f"Ledger({self.counts})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # a counter that changes

    def note(self, action: str, sample: str, reason: str = "") -> None:
        """Count ``action`` for ``sample``.

        Args:
            action: a key of ``ACTIONS``.
            sample: the sample's name; the first ten of an action are kept.
            reason: why; kept for every sample that has one, so that all unreadable files can be listed.

        Raises:
            ValueError: there is no such action.
        """
        key = _checked(action)
        with self._lock:
            self._add(key, 1, [sample], {sample: reason} if reason else {})

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples for each action that occurred, in the order of ``ACTIONS``."""
        with self._lock:
            return {action: self._counts[action] for action in ACTIONS if action in self._counts}

    def examples(self, action: str) -> list[str]:
        """The first ten names noted for ``action``; none where it did not occur."""
        return list(self._examples.get(_checked(action), []))

    def reasons(self, action: str) -> dict[str, str]:
        """Sample and reason, for every sample of ``action`` that was noted with one."""
        return dict(self._reasons.get(_checked(action), {}))

    def merge(self, other: Ledger) -> None:
        """Add all that ``other`` holds; its names stand after those that are already here."""
        counts = other.counts
        with self._lock:
            for action, count in counts.items():
                self._add(action, count, other.examples(action), other.reasons(action))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data for JSON: ``{action: {"count", "samples", "sentence"}}``, with ``"reasons"`` where there are any."""
        facts: dict[str, dict[str, Any]] = {}
        for action, count in self.counts.items():
            facts[action] = {"count": count, "samples": self.examples(action), "sentence": self._sentence(action, count)}
            if reasons := self.reasons(action):
                facts[action]["reasons"] = reasons
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Mapping[str, Any]]) -> Ledger:
        """The inverse of ``as_dict``.

        Raises:
            DataError: the data is not a ledger, or holds an action that this version does not know.
        """
        ledger = cls()
        for action, entry in facts.items():
            if action not in ACTIONS:
                raise DataError(unknown_name("ledger action", action, ACTIONS))
            try:
                ledger._add(action, int(entry["count"]), list(entry["samples"]), dict(entry.get("reasons", {})))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(
                    f"the ledger entry {action!r} needs a count and a list of samples, and has {entry!r}."
                ) from error
        return ledger

    def sentences(self) -> list[str]:
        """One plain-English sentence for each action that occurred, with the first three names; ordered as ``ACTIONS``."""
        return [self._sentence(action, count) for action, count in self.counts.items()]

    def _add(self, action: str, count: int, names: Sequence[str], reasons: Mapping[str, str]) -> None:
        self._counts[action] = self._counts.get(action, 0) + count
        kept = self._examples.setdefault(action, [])
        kept.extend(names[: MAX_EXAMPLES - len(kept)])
        if reasons:
            self._reasons.setdefault(action, {}).update(reasons)

    def _sentence(self, action: str, count: int) -> str:
        names = self._examples[action]
        reasons = self._reasons.get(action, {})
        if len(reasons) == count and (action == "unreadable" or action.startswith("left out")):
            return _by_reason(action, count, reasons)
        is_told = names and (action not in _ALL_OR_NONE or count <= SHOWN)
        told = f" ({listed(names, count)})" if is_told else ""
        return f"{ACTIONS[action].format(**_words(count))}{told}."


SHOWN = 3  # names
_ALL_OR_NONE = frozenset(("learned from",))
"""Actions whose samples are named where all of them are: their answers stand beside the sentence, and some of many would say nothing."""
_MAX_REASONS = 6


def group_reasons(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Reason and samples, the most frequent reason first; reasons that differ in numbers and quoted words alone are one, told as the first.

    >>> group_reasons({"a.jpg": "9 bits are too many.", "b.txt": "text", "c.jpg": "7 bits are too many."})
    [('9 bits are too many.', ['a.jpg', 'c.jpg']), ('text', ['b.txt'])]
    """
    groups: dict[str, tuple[str, list[str]]] = {}
    for sample, reason in reasons.items():
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,. ]*", "#", reason)
        groups.setdefault(kind, (reason, []))[1].append(sample)
    return sorted(groups.values(), key=lambda group: -len(group[1]))


def listed(samples: Sequence[str], count: int | None = None, shown: int = SHOWN) -> str:
    """The first names, and whether there are more than these of ``count`` (default: of those given)."""
    names = [printable(sample) for sample in samples[:shown]]
    return ", ".join(names) + (", ..." if (len(samples) if count is None else count) > len(names) else "")


def _by_reason(action: str, count: int, reasons: Mapping[str, str]) -> str:
    """How many samples, then each reason with its first samples; the most frequent reason first."""
    head = ACTIONS[action].format(**_words(count)).partition(":")[0]
    groups = group_reasons(reasons)
    if len(groups) == 1:
        reason, samples = groups[0]
        return f"{head} ({listed(samples)}): {reason.rstrip('.')}."
    told = [f"{len(samples):,} ({listed(samples)}): {reason.rstrip('.')}" for reason, samples in groups[:_MAX_REASONS]]
    rest = sum(len(samples) for _, samples in groups[_MAX_REASONS:])
    if rest:
        told.append(f"{rest:,} for other reasons")
    return f"{head}. {'. '.join(told)}."


def _checked(action: str) -> str:
    if action not in ACTIONS:
        raise ValueError(unknown_name("ledger action", action, ACTIONS))
    return action


def _words(count: int) -> dict[str, str]:
    """The words of a sentence that change with the count."""
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
        "they": "it" if one else "they",
        "them": "it" if one else "them",
        "exact_copies": "an exact copy" if one else "exact copies",
        "an_image": "an image" if one else "images",
    }
