"""Masks, label maps and other annotations of images, recognized by the names of files and folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

_WORDS = (
    r"masks?|segmentations?|seg|labels?|lbl|gt|groundtruths?|ground[ _-]?truths?|annotations?|annots?|anno|mattes?|trimaps?|"
    r"segmentation[ _-]?(?:class|object)(?:aug)?|(?:label|mask|binary)[ _-]?(?:maps?|masks?|images?)"
)
_SUFFIX = re.compile(rf"(?P<stem>.+?)[ _.-]+(?:{_WORDS})(?:[ _-]?\d+)?", re.IGNORECASE)
_PREFIX = re.compile(rf"(?:{_WORDS})[ _-]+(?P<stem>.+)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GLUED = re.compile(r"\b(train|val|valid|test|image|img)(?=(?:mask|label|annot|gt|seg)s?\b)")
_IMAGE_WORDS = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "photo",
        "photos",
        "picture",
        "pictures",
        "pics",
        "jpegimages",
        "pngimages",
        "original",
        "originals",
        "orig",
        "origin",
        "raw",
        "rgb",
        "color",
        "colour",
        "input",
        "inputs",
        "source",
        "sources",
        "data",
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "frames",
        "x",
    ]
)
_NEGATIONS = frozenset(["no", "non", "not", "without", "un", "with", "incorrect", "correct", "unmasked", "none"])
_NEARLY_ALL = 0.8


def masks_among(samples: Sequence[str]) -> dict[str, str]:
    """Mask -> its image, for images that are masks by name.

    It finds ``1_mask.png`` next to ``1.png``, and folders such as ``masks`` whose files have the names of images in another folder.
    It ignores classes of people with and without face masks.

    Args:
        samples: paths with ``/``, relative to the data.

    >>> masks_among(["a/1.png", "a/1_mask.png", "b/2.png"])
    {'a/1_mask.png': 'a/1.png'}
    >>> masks_among(["images/1.png", "images/2.png", "masks/1.png", "masks/2.png"])
    {'masks/1.png': 'images/1.png', 'masks/2.png': 'images/2.png'}
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        path = PurePosixPath(sample)
        by_folder[path.parent.as_posix()].setdefault(path.stem.casefold(), sample)
    masks = _masks_by_suffix(samples, by_folder)
    remaining = [sample for sample in samples if sample not in masks]
    return masks | _masks_in_folders(remaining)


def is_mask_folder(name: str) -> bool:
    """Whether the name of a folder says that it holds masks.

    >>> is_mask_folder("train_masks"), is_mask_folder("SegmentationClass"), is_mask_folder("with_mask"), is_mask_folder("cats")
    (True, True, False, False)
    """
    if re.fullmatch(_WORDS, name, re.IGNORECASE):
        return True
    words = _words(name)
    return not words & _NEGATIONS and any(re.fullmatch(_WORDS, word) for word in words)


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z]+", _GLUED.sub(r"\1 ", _CAMEL.sub(" ", name).lower())) if word}


def _without_mask_word(stem: str) -> str:
    """A file's stem without a word for masks at its end or beginning, in lower case."""
    for pattern in (_SUFFIX, _PREFIX):
        match = pattern.fullmatch(stem)
        if match:
            return match["stem"].rstrip(" _.-").casefold()
    return stem.casefold()


def _masks_by_suffix(samples: Sequence[str], by_folder: dict[str, dict[str, str]]) -> dict[str, str]:
    """Masks such as ``1_mask.png`` next to ``1.png``."""
    masks = {}
    for sample in samples:
        path = PurePosixPath(sample)
        base = _without_mask_word(path.stem)
        image = by_folder[path.parent.as_posix()].get(base)
        if base != path.stem.casefold() and image is not None and image != sample:
            masks[sample] = image
    return masks


def _masks_in_folders(samples: Sequence[str]) -> dict[str, str]:
    """The files of mask folders whose file names match those of a folder of images."""
    folders: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        parts = sample.split("/")
        for depth, part in enumerate(parts[:-1]):
            if is_mask_folder(part):
                folders["/".join(parts[: depth + 1])].append(sample)
                break
    masks: dict[str, str] = {}
    within = {sample for inside in folders.values() for sample in inside}
    outside = [sample for sample in samples if sample not in within]
    for folder, inside in folders.items():
        if any(_names_people_with_masks(part) for part in _siblings(folder, samples)):
            continue
        found = _match_images(folder, inside, outside)
        if len(found) >= max(1, _NEARLY_ALL * len(inside)):
            masks |= {sample: found.get(sample, "") for sample in inside}
    return masks


def _siblings(folder: str, samples: Iterable[str]) -> set[str]:
    parent = folder.rpartition("/")[0]
    start = f"{parent}/" if parent else ""
    return {sample[len(start) :].split("/")[0] for sample in samples if sample.startswith(start)}


def _names_people_with_masks(name: str) -> bool:
    words = _words(name)
    return bool(words & _NEGATIONS) and any(word.startswith("mask") for word in words)


def _match_images(folder: str, inside: Sequence[str], outside: Sequence[str]) -> dict[str, str]:
    """File of a mask folder -> the image with the same name, in a folder of images or in a folder of the same name."""
    parent, _, name = folder.rpartition("/")
    by_stem: dict[str, list[str]] = defaultdict(list)
    for sample in outside:
        by_stem[PurePosixPath(sample).stem.casefold()].append(sample)
    found = {}
    for sample in inside:
        path = PurePosixPath(sample)
        candidates = by_stem.get(_without_mask_word(path.stem)) or by_stem.get(path.stem.casefold()) or []
        below = sample[len(folder) + 1 :].split("/")[:-1]
        fits = [
            image
            for image in candidates
            if _is_partner(image, parent, name, below) or _without_mask_word(path.stem) != path.stem.casefold()
        ]
        if below:
            fits = [image for image in fits if image.split("/")[:-1][-len(below) :] == below] or fits
        if fits:
            found[sample] = fits[0]
    return found


def _is_partner(image: str, parent: str, name: str, below: list[str]) -> bool:
    """Whether the folder of an image may hold the images of a mask folder.

    It may be the parent of the mask folder, a folder for images or with a similar name, or have the same subfolders.
    """
    if parent and not image.startswith(f"{parent}/"):
        return False
    folders = image.split("/")[:-1]
    inner = folders[len(parent.split("/")) if parent else 0 :]
    if below and folders[-len(below) :] == below:
        return True
    if not inner:
        return True
    first = inner[0]
    own = {word for word in _words(name) if not re.fullmatch(_WORDS, word)}
    return first.lower() in _IMAGE_WORDS or bool(_words(first) & _IMAGE_WORDS) or (bool(own) and own == _words(first))


def have_shared_stems(first: Iterable[str], second: Iterable[str]) -> bool:
    """Whether two folders hold files with the same names, other than consecutive numbers.

    >>> have_shared_stems([f"scan_{n * n}.png" for n in range(20)], [f"scan_{n * n}.jpg" for n in range(20)])
    True
    >>> have_shared_stems([f"{n}.png" for n in range(20)], [f"{n}.png" for n in range(20)])
    False
    """
    one = {PurePosixPath(name).stem.casefold() for name in first}
    other = {PurePosixPath(name).stem.casefold() for name in second}
    both = one & other
    if len(both) < 10 or len(both) < 0.9 * max(len(one), len(other)):
        return False
    return not are_consecutive(both)


def are_consecutive(stems: set[str]) -> bool:
    """Whether names are numbered consecutively, with few gaps. The text around the number is ignored."""
    around: Counter[str] = Counter()
    numbers = set()
    for stem in stems:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", stem)
        if match:
            around[f"{match[1]}*{match[3]}"] += 1
            numbers.add(int(match[2]))
    if not numbers or sum(around.values()) < 0.9 * len(stems):
        return False
    return max(numbers) - min(numbers) + 1 <= 3 * len(numbers)
