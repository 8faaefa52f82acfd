"""Images of one name side by side, such as ``1.jpg`` and ``1.png``: one is a mask of the other, or the same image in another format.

Names cannot tell which, so pixels do. This file knows pairs of files and what their pixels have in common, but no classes and no splits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.data.pictures import decode
from visus.errors import PictureError

FEW_COLORS = 32
"""Label maps have at most about as many; a photo has thousands."""
MOST_READ = 40
"""Pairs of one kind that are read; of more, some are drawn, and what nearly all of them are holds for all."""
NEARLY_ALL = 0.8
_NEAR_ENDS = 12  # levels of 255 from black or white
_AT_ENDS = 0.97
_GRID = 16
_SAME_DIFFERENCE, _SAME_CORRELATION, _PLAIN = 6.0, 0.95, 3.0

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class SameNames:
    """What images of one name were found to be.

    Args:
        masks: masks by their content, each with its image.
        copies: images that are there in another format too, each with the one that stays.
        others: pairs that show different things.
    """

    masks: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, str], ...] = ()


def same_names(root: Path, items: Sequence[str]) -> SameNames:
    """What the images are that lie in one folder under one name, with different endings.

    Args:
        root: what the items are relative to.
        items: paths of images, with ``/``.
    """
    pairs = _pairs(items)
    found = SameNames()
    for kind in dict.fromkeys(pairs.values()):
        members = [pair for pair, its in pairs.items() if its == kind]
        step = max(1, len(members) / MOST_READ)
        drawn = [members[int(place * step)] for place in range(min(len(members), MOST_READ))]
        verdicts = {pair: verdict for pair in drawn if (verdict := _verdict(root, *pair))}
        if len(drawn) < len(members):
            common, count = Counter(verdicts.values()).most_common(1)[0] if verdicts else ("", 0)
            verdicts = dict.fromkeys(members, common if count >= NEARLY_ALL * len(verdicts) else "other")
        found = _with(found, verdicts)
    return found


def _pairs(items: Sequence[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Every pair of one name in one folder, the one with the more usual ending first, with the endings."""
    endings = Counter(PurePosixPath(item).suffix.lower() for item in items)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        path = PurePosixPath(item)
        groups[path.parent.as_posix(), path.stem.casefold()].append(item)
    pairs = {}
    for group in groups.values():
        first, *others = sorted(group, key=lambda item: (-endings[PurePosixPath(item).suffix.lower()], item))
        for other in others:
            kind = PurePosixPath(first).suffix.lower(), PurePosixPath(other).suffix.lower()
            if kind[0] != kind[1]:
                pairs[first, other] = kind
    return pairs


def _with(found: SameNames, verdicts: dict[tuple[str, str], str]) -> SameNames:
    masks, copies, others = dict(found.masks), dict(found.copies), list(found.others)
    for (first, second), verdict in verdicts.items():
        if verdict == "first is a mask":
            masks[first] = second
        elif verdict == "second is a mask":
            masks[second] = first
        elif verdict == "same":
            copies[second] = first
        elif verdict == "other":
            others.append((first, second))
    return SameNames(masks, copies, tuple(others))


def _verdict(root: Path, first: str, second: str) -> str:
    """What two images are to each other; nothing where one of them cannot be read."""
    try:
        one, two = (decode(root / item).pixels for item in (first, second))
    except (PictureError, OSError):
        return ""
    if not _have_one_shape(one, two):
        return "other"
    if _look_alike(one, two):
        return "same"
    for is_mask in (_has_few_colors, _is_black_and_white):
        flat = is_mask(one), is_mask(two)
        if flat[0] != flat[1]:
            return "first is a mask" if flat[0] else "second is a mask"
    return "other"


def _have_one_shape(one: Pixels, two: Pixels) -> bool:
    """Whether the sides of two images have about the same ratio."""
    return bool(abs(one.shape[1] * two.shape[2] / (one.shape[2] * two.shape[1]) - 1) <= 0.03)


def _look_alike(one: Pixels, two: Pixels) -> bool:
    """Whether two images of one shape show the same, by the mean gray level of their parts."""
    small, other = (_coarse(each) for each in (one, two))
    if float(np.abs(small - other).mean()) > _SAME_DIFFERENCE:
        return False
    if max(small.std(), other.std()) < _PLAIN:
        return True
    return bool(min(small.std(), other.std()) > 0) and float(np.corrcoef(small, other)[0, 1]) >= _SAME_CORRELATION


def _coarse(pixels: Pixels) -> Pixels:
    """Mean gray levels of a grid of parts, as a line."""
    gray = pixels.mean(0)
    cuts = [np.linspace(0, side, min(_GRID, side) + 1).astype(int) for side in gray.shape]
    return np.array([[gray[a:b, c:d].mean() for c, d in _steps(cuts[1])] for a, b in _steps(cuts[0])]).ravel()


def _steps(cuts: Pixels) -> list[tuple[int, int]]:
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def _has_few_colors(pixels: Pixels) -> bool:
    packed = np.zeros(pixels.shape[1:], np.uint32)
    for channel in pixels:
        packed = packed << 8 | channel
    return len(np.unique(packed)) <= FEW_COLORS


def _is_black_and_white(pixels: Pixels) -> bool:
    """Whether nearly all is black or white, with a little noise as JPEG makes it."""
    return float(((pixels <= _NEAR_ENDS) | (pixels >= 255 - _NEAR_ENDS)).mean()) >= _AT_ENDS
