"""Pairs of images with matching names, such as ``1.jpg`` and ``1.png``: a mask and its image, or one image in two formats.

The pixels decide which it is. Names match in three ways:

- ``1.jpg`` and ``1.png`` in one folder;
- ``1.jpg`` and ``1_maske.png`` in one folder, with the same suffix for many images;
- ``1.png`` in a folder in which nearly every file has the name of one image elsewhere.

The second and the third way only find masks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.data.images.decode import decode
from visus.data.masks import are_consecutive
from visus.errors import ImageError

MAX_MASK_COLORS = 32
"""Maximum number of colors in a label map. A photo has thousands."""
MAX_COMPARED_PAIRS = 40
"""Maximum number of pairs of one kind that are compared. Of more pairs a sample is compared, and the majority decides for all."""
MIN_MAJORITY = 0.8  # fraction of pairs
MIN_PAIRS = 3  # pairs from which a naming rule is inferred
MAX_NAMESAKES = 40  # images with one name
_MAX_EXTREME_DISTANCE = 12  # gray levels of 255 from black or white
_MIN_EXTREME_FRACTION = 0.97
_GRID_SIZE = 16
_MAX_SAME_DIFFERENCE, _MIN_SAME_CORRELATION, _MAX_FLAT_DEVIATION = 6.0, 0.95, 3.0

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class SameNames:
    """Pairs of images with matching names, by what their pixels show.

    Args:
        masks: mask -> its image.
        copies: second copy of an image in another format -> the image that is kept.
        others: pairs that show different things.
    """

    masks: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, str], ...] = ()


def compare_same_names(root: Path, samples: Sequence[str]) -> SameNames:
    """Compare the pixels of images with matching names.

    Args:
        root: folder of the samples.
        samples: paths of images relative to ``root``, with ``/``.
    """
    found = SameNames()
    for members in _pairs_by_extension(samples):
        drawn = _subsample(members)
        verdicts = {pair: verdict for pair in drawn if (verdict := _verdict(*(_pixels(root, sample) for sample in pair)))}
        if len(drawn) < len(members):
            common, count = Counter(verdicts.values()).most_common(1)[0] if verdicts else ("", 0)
            verdicts = dict.fromkeys(members, common if count >= MIN_MAJORITY * len(verdicts) else "other")
        found = _add_verdicts(found, verdicts)
    for find_pairs in (_pairs_by_suffix, _pairs_across_folders):
        remaining = [sample for sample in samples if sample not in found.masks and sample not in found.copies]
        for members in find_pairs(remaining):
            if _are_masks(root, members):
                found = _add_verdicts(found, dict.fromkeys(members, "second is a mask"))
    return found


def _are_masks(root: Path, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether the second images of nearly all pairs are masks of the first. Reading stops as soon as the result is known."""
    drawn = _subsample(pairs)
    num_others, max_others = 0, len(drawn) - max(MIN_PAIRS, MIN_MAJORITY * len(drawn))
    for image, sample in drawn:
        pixels = _pixels(root, sample)
        is_mask = pixels is not None and any(is_mask_like(pixels) for is_mask_like in _MASK_TESTS)
        num_others += not is_mask or _verdict(_pixels(root, image), pixels) != "second is a mask"
        if num_others > max_others:
            return False
    return True


def _subsample(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """At most ``MAX_COMPARED_PAIRS`` pairs, evenly spaced."""
    step = max(1, len(pairs) / MAX_COMPARED_PAIRS)
    return [pairs[int(place * step)] for place in range(min(len(pairs), MAX_COMPARED_PAIRS))]


def _pairs_by_extension(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Pairs with one name and two file extensions in one folder, grouped by their extensions; the more frequent extension comes first."""
    endings = Counter(PurePosixPath(sample).suffix.lower() for sample in samples)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sample in samples:
        path = PurePosixPath(sample)
        groups[path.parent.as_posix(), path.stem.casefold()].append(sample)
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for group in groups.values():
        first, *others = sorted(group, key=lambda sample: (-endings[PurePosixPath(sample).suffix.lower()], sample))
        for other in others:
            kind = PurePosixPath(first).suffix.lower(), PurePosixPath(other).suffix.lower()
            if kind[0] != kind[1]:
                pairs[kind].append((first, other))
    return list(pairs.values())


def _pairs_by_suffix(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Pairs in one folder whose second name is the first plus a suffix, such as ``_maske``, ``Mask`` or `` (mask)``; grouped by suffix."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        path = PurePosixPath(sample)
        by_folder[path.parent.as_posix()][path.stem] = sample
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for stems in by_folder.values():
        for stem, sample in stems.items():
            for cut in range(len(stem) - 1, 0, -1):
                suffix = stem[cut:]
                if stem[:cut] in stems and not stem[cut].isdigit() and not (stem[cut].islower() and stem[cut - 1].isalpha()):
                    groups[suffix].append((stems[stem[:cut]], sample))
                    break
    return [pairs for pairs in groups.values() if len(pairs) >= MIN_PAIRS]


def _pairs_across_folders(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Pairs whose second images fill a folder, and whose first images have the same names elsewhere; grouped by that folder.

    Sibling folders with consecutively numbered files do not count as pairs, since classes often have such files.
    """
    by_folder: dict[str, list[tuple[str, str]]] = defaultdict(list)
    by_stem: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample in samples:
        folder, _, name = sample.rpartition("/")
        stem = PurePosixPath(name).stem.casefold()
        by_folder[folder].append((stem, sample))
        by_stem[stem].append((folder, sample))
    groups = []
    for folder, inside in by_folder.items():
        found = [(image, sample) for stem, sample in inside if (image := _namesake(folder, by_stem[stem]))]
        homes = {home for (home, _), _ in found}
        is_related = any(_is_below(folder, home) or _is_parallel(folder, home) for home in homes) or len(homes) > 1
        if len(found) >= max(MIN_PAIRS, MIN_MAJORITY * len(inside)) and (
            is_related or not are_consecutive({stem for stem, _ in inside})
        ):
            groups.append([(image, sample) for (_, image), sample in found])
    return groups


def _namesake(folder: str, same: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The (folder, image) that belongs to an image of ``folder`` with the same name.

    An image in a parent folder comes first, then one in a parallel folder, then the only one. None if there are several.
    """
    if len(same) > MAX_NAMESAKES:  # classes with consecutively numbered files
        return None
    others = [pair for pair in same if pair[0] != folder]
    for is_related in (_is_below, _is_parallel):
        near = [pair for pair in others if is_related(folder, pair[0])]
        if near:
            return near[0] if len(near) == 1 else None
    return others[0] if len(others) == 1 else None


def _is_below(folder: str, other: str) -> bool:
    """Whether ``folder`` lies in ``other``, or both lie in one folder below the top level: ``cat/Masken`` and ``cat/Bilder``."""
    above = folder.rpartition("/")[0]
    return above != "" and above in (other, other.rpartition("/")[0])


def _is_parallel(folder: str, other: str) -> bool:
    """Whether two folders have the same name in different places, such as ``maschere/cat`` and ``images/cat``, or ``cat``."""
    tail, other_tail = folder.partition("/")[2], other.partition("/")[2]
    return folder != other and (tail == other or other_tail == folder or (tail != "" and tail == other_tail))


def _add_verdicts(found: SameNames, verdicts: dict[tuple[str, str], str]) -> SameNames:
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


def _pixels(root: Path, sample: str) -> Pixels | None:
    """The pixels of an image; None if it cannot be read."""
    try:
        return decode(root / sample).pixels
    except (ImageError, OSError, MemoryError):
        return None


def _verdict(one: Pixels | None, two: Pixels | None) -> str:
    """The relation of two images: "same", "first is a mask", "second is a mask" or "other"; "" if one of them cannot be read."""
    if one is None or two is None:
        return ""
    if not _have_same_aspect(one, two):
        return "other"
    if _look_alike(one, two):
        return "same"
    for is_mask_like in _MASK_TESTS:
        first_is_mask, second_is_mask = is_mask_like(one), is_mask_like(two)
        if first_is_mask != second_is_mask:
            return "first is a mask" if first_is_mask else "second is a mask"
    return "other"


def _have_same_aspect(one: Pixels, two: Pixels) -> bool:
    """Whether two images have about the same aspect ratio."""
    return bool(abs(one.shape[1] * two.shape[2] / (one.shape[2] * two.shape[1]) - 1) <= 0.03)


def _look_alike(one: Pixels, two: Pixels) -> bool:
    """Whether two images with the same aspect ratio show the same content, by the mean gray levels of a grid of cells."""
    first, second = (_cell_means(pixels) for pixels in (one, two))
    if float(np.abs(first - second).mean()) > _MAX_SAME_DIFFERENCE:
        return False
    if max(first.std(), second.std()) < _MAX_FLAT_DEVIATION:
        return True
    return bool(min(first.std(), second.std()) > 0) and float(np.corrcoef(first, second)[0, 1]) >= _MIN_SAME_CORRELATION


def _cell_means(pixels: Pixels) -> Pixels:
    """Mean gray level of each cell of a grid, as a flat array."""
    gray = pixels.mean(0)
    edges = [np.linspace(0, side, min(_GRID_SIZE, side) + 1).astype(int) for side in gray.shape]
    return np.array([[gray[a:b, c:d].mean() for c, d in _intervals(edges[1])] for a, b in _intervals(edges[0])]).ravel()


def _intervals(cuts: Pixels) -> list[tuple[int, int]]:
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def _has_few_colors(pixels: Pixels) -> bool:
    packed = np.zeros(pixels.shape[1:], np.uint32)
    for channel in pixels:
        packed = packed << 8 | channel
    return len(np.unique(packed)) <= MAX_MASK_COLORS


def _is_black_and_white(pixels: Pixels) -> bool:
    """Whether nearly all pixels are black or white; slight noise, as from JPEG, is allowed."""
    is_extreme = (pixels <= _MAX_EXTREME_DISTANCE) | (pixels >= 255 - _MAX_EXTREME_DISTANCE)
    return float(is_extreme.mean()) >= _MIN_EXTREME_FRACTION


_MASK_TESTS = (_has_few_colors, _is_black_and_white)
"""Tests that a mask passes and its image fails."""
