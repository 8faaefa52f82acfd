"""Images whose names belong together, such as ``1.jpg`` and ``1.png``: one is a mask of the other, or the same image in another format.

Names cannot tell which, so pixels do. Names belong together in three ways: ``1.jpg`` and ``1.png`` in one folder; ``1.jpg`` and ``1_maske.png`` in one
folder, with the same addition for many images; ``1.png`` in a folder of which nearly every file has the name of one image elsewhere. Only masks
are looked for in the second and third way. This file knows pairs of files and what their pixels have in common, but no classes and no splits.
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
from visus.data.masks import is_numbered_through
from visus.errors import ImageError

FEW_COLORS = 32
"""Label maps have at most about as many; a photo has thousands."""
MAX_READ = 40
"""Pairs of one kind that are read; of more, some are drawn, and what nearly all of them are holds for all."""
NEARLY_ALL = 0.8
MIN_PAIRS = 3  # pairs of which a rule can be seen
MAX_NAMESAKES = 40  # images of one name
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


def same_names(root: Path, samples: Sequence[str]) -> SameNames:
    """What the images are whose names belong together.

    Args:
        root: what the samples are relative to.
        samples: paths of images, with ``/``.
    """
    found = SameNames()
    for members in _pairs(samples):
        drawn = _drawn(members)
        verdicts = {pair: verdict for pair in drawn if (verdict := _verdict(*(_pixels(root, sample) for sample in pair)))}
        if len(drawn) < len(members):
            common, count = Counter(verdicts.values()).most_common(1)[0] if verdicts else ("", 0)
            verdicts = dict.fromkeys(members, common if count >= NEARLY_ALL * len(verdicts) else "other")
        found = _with(found, verdicts)
    for find in (_with_additions, _in_folders):
        left = [sample for sample in samples if sample not in found.masks and sample not in found.copies]
        for members in find(left):
            if _are_masks(root, members):
                found = _with(found, dict.fromkeys(members, "second is a mask"))
    return found


def _are_masks(root: Path, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether the second images of nearly all pairs are masks of the first; no more are read than it takes to tell."""
    drawn = _drawn(pairs)
    num_others, most_others = 0, len(drawn) - max(MIN_PAIRS, NEARLY_ALL * len(drawn))
    for image, sample in drawn:
        pixels = _pixels(root, sample)
        is_flat = pixels is not None and any(is_mask(pixels) for is_mask in _FLAT)
        num_others += not is_flat or _verdict(_pixels(root, image), pixels) != "second is a mask"
        if num_others > most_others:
            return False
    return True


def _drawn(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """All pairs, or some of very many, from the first to the last."""
    step = max(1, len(pairs) / MAX_READ)
    return [pairs[int(place * step)] for place in range(min(len(pairs), MAX_READ))]


def _pairs(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """The pairs of one name in one folder, the one with the more usual ending first; those with the same endings together."""
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


def _with_additions(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Groups of pairs in one folder of which the second has the first one's name with an addition, such as ``_maske``, ``Mask`` or `` (mask)``."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        path = PurePosixPath(sample)
        by_folder[path.parent.as_posix()][path.stem] = sample
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for stems in by_folder.values():
        for stem, sample in stems.items():
            for cut in range(len(stem) - 1, 0, -1):
                added = stem[cut:]
                if stem[:cut] in stems and not stem[cut].isdigit() and not (stem[cut].islower() and stem[cut - 1].isalpha()):
                    groups[added].append((stems[stem[:cut]], sample))
                    break
    return [pairs for pairs in groups.values() if len(pairs) >= MIN_PAIRS]


def _in_folders(samples: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Groups of pairs of which the second ones are all images of a folder, each with the name of one image in another place.

    Two folders side by side whose files are counted through in the same way, as classes often are, do not belong together for that.
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
        is_apart = any(_is_below(folder, home) or _is_parallel(folder, home) for home in homes) or len(homes) > 1
        if len(found) >= max(MIN_PAIRS, NEARLY_ALL * len(inside)) and (
            is_apart or not is_numbered_through({stem for stem, _ in inside})
        ):
            groups.append([(image, sample) for (_, image), sample in found])
    return groups


def _namesake(folder: str, same: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The one image of a name in another folder, with its folder: the one in a folder above, else the one in a parallel folder, else the only one."""
    if len(same) > MAX_NAMESAKES:  # classes whose files are counted through
        return None
    others = [pair for pair in same if pair[0] != folder]
    for belongs in (_is_below, _is_parallel):
        near = [pair for pair in others if belongs(folder, pair[0])]
        if near:
            return near[0] if len(near) == 1 else None
    return others[0] if len(others) == 1 else None


def _is_below(folder: str, other: str) -> bool:
    """Whether a folder lies in another one, or in the folder that the other one lies in where that is not the topmost: ``cat/Masken`` and ``cat/Bilder``."""
    above = folder.rpartition("/")[0]
    return above != "" and above in (other, other.rpartition("/")[0])


def _is_parallel(folder: str, other: str) -> bool:
    """Whether two folders have one name in different places, as ``maschere/cat`` and ``images/cat``, or ``cat``."""
    tail, other_tail = folder.partition("/")[2], other.partition("/")[2]
    return folder != other and (tail == other or other_tail == folder or (tail != "" and tail == other_tail))


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


def _pixels(root: Path, sample: str) -> Pixels | None:
    """The pixels of an image; None where it cannot be read."""
    try:
        return decode(root / sample).pixels
    except (ImageError, OSError):
        return None


def _verdict(one: Pixels | None, two: Pixels | None) -> str:
    """What two images are to each other; nothing where one of them cannot be read."""
    if one is None or two is None:
        return ""
    if not _have_one_shape(one, two):
        return "other"
    if _look_alike(one, two):
        return "same"
    for is_mask in _FLAT:
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


_FLAT = (_has_few_colors, _is_black_and_white)
"""What a mask is, and its image is not."""
