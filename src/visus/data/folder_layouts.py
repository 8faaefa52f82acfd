"""The layout of folders of images: which folders are splits, and which are classes.

No guess is silent: a layout inferred from names is a warning. An ambiguous layout, for which a wrong guess would train on the wrong
classes, is an error that names the command to type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visus.caller import option
from visus.data.folder_names import (
    guess_split,
    guess_splits,
    is_container,
    is_grouping_folder,
    is_numbered_part,
    is_project_folder,
    is_unlabeled,
    split_hint,
    words_without_split,
)
from visus.data.listed_names import write_names
from visus.data.masks import have_shared_stems, is_mask_folder
from visus.data.reading import Reading, check_call
from visus.data.samples import SPLITS, UNASSIGNED
from visus.data.source_rules import parse_split
from visus.errors import DataError, closest_name
from visus.units import write_number_of

CLASSIFIES = "visus classifies whole images: it needs one folder per class, or a table with the columns path,label."
_MIN_SHARED = 0.5  # fraction of subfolders with the same names


@dataclass
class Layout:
    """The class and the split of every image.

    Args:
        kind: "folder" or "split folders".
        rows: (image, class name, split) of every sample.
        left_out: image -> reason, for images that are not samples.
        notes, warnings: sentences about how the folders were read.
    """

    kind: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Image:
    sample: str
    folders: tuple[str, ...]  # from the dataset (or its split folder) down to the image
    split: str = UNASSIGNED


def infer_layout(
    root: Path,
    samples: Sequence[str],
    *,
    class_depth: int | None = None,
    classes: Sequence[str] | None = None,
    are_same: Callable[[str, str], bool] = lambda first, second: False,
    is_repository: bool = False,
) -> Layout:
    """Infer the class and the split of each image from its folders.

    Args:
        root: the folder, for messages.
        samples: paths of images relative to the root, each in at least one folder; without masks.
        class_depth: the level of folders that names the classes, if the user stated it.
        classes: the classes of a trained network; they resolve ambiguous folders.
        are_same: whether two images have the same bytes.
        is_repository: whether the root is a code repository, with folders such as ``docs`` next to its data.

    Raises:
        DataError: the folders are ambiguous or not supported.
    """
    images = [_Image(sample, tuple(sample.split("/")[:-1])) for sample in samples]
    layout = Layout("folder")
    images = _without_project(images, layout, is_repository=is_repository)
    if class_depth is None:
        images = _without_repeated(root, images, layout, are_same)
    images = _split_by_top(root, images, layout)
    images = _without_wrappers(images)
    if class_depth is None and layout.kind == "folder":
        images = _without_container(images)
        images = _split_inside_classes(root, images, layout)
    depth = class_depth or _depth_of(classes, images) or _depth(root, images, layout)
    for image in images:
        if len(image.folders) < depth:
            raise DataError(
                f"{image.sample!r} lies above level {depth}, whose folders name the classes. Move it into one of these folders, or "
                f"use another {option('class_depth')}.",
                where=str(root),
            )
        layout.rows.append((image.sample, image.folders[depth - 1], image.split))
    if class_depth is not None and class_depth > 1:
        above = {part for image in images for part in image.folders[: depth - 1]} if layout.kind == "folder" else set()
        if merged := sorted(filter(guess_split, above)):
            layout.warnings.append(
                f"{write_names(map(repr, merged))} {'has the name of a split' if len(merged) == 1 else 'have the names of splits'}, but with this "
                f"{option('class_depth')} the images are mixed with the others, so scores may be too high. To keep splits, rename the folders to train, "
                "val and test."
            )
        layout.notes.append(f"the folders of level {class_depth} name the classes ({option('class_depth')}).")
    return layout


def _without_project(images: list[_Image], layout: Layout, *, is_repository: bool) -> list[_Image]:
    """Leave out the images in the project folders of a code repository."""
    tops = {image.folders[0] for image in images}
    project = {top for top in tops if is_repository and is_project_folder(top)}
    if not project or len(tops - project) < 2:
        return images
    layout.left_out.update(
        {image.sample: "in a folder of the repository" for image in images if image.folders[0] in project}
    )
    layout.warnings.append(
        f"{write_number_of(len(layout.left_out), 'image')} in {write_names(map(repr, sorted(project)))} left out: a folder of the repository, not a class."
    )
    return [image for image in images if image.folders[0] not in project]


# ---- splits


def _split_by_top(root: Path, images: list[_Image], layout: Layout) -> list[_Image]:
    """Assign splits to the images if the top-level folders are splits."""
    tops = list(dict.fromkeys(image.folders[0] for image in images))
    splits = _top_splits(root, tops, images)
    if not splits:
        return images
    layout.kind = "split folders"
    inferred = {top: split for top, split in splits.items() if parse_split(top) is None}
    if inferred:
        meanings = ", ".join(f"{top!r} is {split}" for top, split in inferred.items())
        layout.warnings.append(
            f"folders are read as splits because of their names, not as classes: {meanings}. Rename them to train, val and test to be sure."
        )
    kept = []
    for image in images:
        top, *inner = image.folders
        while inner and inner[0] == top:
            inner = inner[1:]
        if top in splits:
            kept.append(_Image(image.sample, tuple(inner), splits[top]))
        else:
            layout.left_out[image.sample] = "outside the split folders, without a class folder"
    others = sorted(set(tops) - splits.keys())
    if others:
        count = sum(image.folders[0] in others for image in images)
        layout.warnings.append(
            f"{write_number_of(count, 'image')} in {write_names(map(repr, others))} left out: the folder is not a split and has no class folders."
        )
    has_classes = any(not is_container(folder) for image in kept for folder in image.folders)
    loose = [image for image in kept if not image.folders or (has_classes and _is_in_container(image))]
    if loose:
        first = loose[0].sample
        folder, _, file = first.rpartition("/")
        count = sum(image.sample.startswith(f"{folder}/") for image in loose)
        raise DataError(
            f"{write_number_of(count, 'image')} in {folder!r} without a class folder; the first is {file!r}. "
            f"Put each into a folder named after its class, such as {folder}/cats/{file}, or move them elsewhere.",
            where=str(root),
        )
    return kept


def _is_in_container(image: _Image) -> bool:
    return len(image.folders) == 1 and is_container(image.folders[0])


def _top_splits(root: Path, tops: list[str], images: list[_Image]) -> dict[str, str]:
    """Top-level folder -> split; empty if they are not split folders.

    They are split folders if every folder names a split, or if the training folder holds class folders.

    Raises:
        DataError: split folders are mixed with other folders of images, or two folders name the same split.
    """
    inside = {top: {_class_below(image.folders) for image in images if image.folders[0] == top} - {""} for top in tops}
    splits = {top: split for top in tops if (split := parse_split(top))}
    guessed = guess_splits(tops)
    unknown = [top for top in tops if top not in guessed]
    is_lone = len(unknown) == 1 and set(guessed.values()) in ({"test"}, {"val"}, {"val", "test"})
    if is_lone and _share_classes(list(inside.values())):  # the only folder besides test or val, with the same classes
        guessed[unknown[0]] = "train"
    are_all = set(guessed) == set(tops) and len(set(guessed.values())) > 1
    if guessed.keys() - splits.keys():
        if _share_classes([inside[top] for top in guessed]) or (are_all and any(inside.values())):
            splits = guessed
        elif are_all:
            raise DataError(
                f"the folders {write_names(tops)} have the names of splits but no class folders, so the classes are unknown. {CLASSIFIES}",
                where=str(root),
            )
    others = [top for top in tops if top not in splits]
    train = [top for top, split in splits.items() if split == "train"]
    if not splits or (others and not any(inside[top] for top in train)):
        return {}
    for split in SPLITS:
        same = [top for top in splits if splits[top] == split]
        if len(same) > 1:
            raise DataError(f"the folders {write_names(same)} name the same split. Keep one of them.", where=str(root))
    known = set().union(*(inside[top] for top in train))
    stray = [top for top in others if inside[top] & known or not (is_unlabeled(top) or is_project_folder(top))]
    if stray:
        guess = closest_name(stray[0], SPLITS)
        hint = split_hint(stray[0]) or (f" Did you mean {guess!r}?" if guess else "")
        raise DataError(
            f"the folder {stray[0]!r} holds images next to the split folder {train[0]!r}, but is neither a split nor a "
            f"class.{hint} Rename it, or move it elsewhere.",
            where=str(root),
        )
    return splits


def _class_below(folders: tuple[str, ...]) -> str:
    """The folder below the top-level folder that could be a class; "" for none. A folder that repeats its parent's name does not count."""
    inner = folders[1:]
    while inner and (inner[0] == folders[0] or (is_container(inner[0]) and len(inner) > 1)):
        inner = inner[1:]
    return inner[0] if inner else ""


def _share_classes(inside: list[set[str]]) -> bool:
    """Whether the folders have mostly the same subfolders."""
    some = [names for names in inside if names]
    return len(some) > 1 and all(len(names & some[0]) >= _MIN_SHARED * min(len(names), len(some[0])) for names in some[1:])


def _split_inside_classes(root: Path, images: list[_Image], layout: Layout) -> list[_Image]:
    """Assign splits to the images if every class folder holds split folders: ``cat/train/1.jpg``, ``cat/test/2.jpg``."""
    inside = _by_top(images)
    seconds = {top: {image.folders[1] if len(image.folders) > 1 else "" for image in group} for top, group in inside.items()}
    if any(guess_split(name) is None for names in seconds.values() for name in names):
        return images
    splits = {guess_split(name) for names in seconds.values() for name in names}
    if "train" not in splits or len(splits) < 2:
        return images
    if any(len(image.folders) > 2 for image in images):
        first = min(inside)
        raise DataError(
            f"each of the folders {write_names(inside)} holds split folders ({write_names(sorted(seconds[first]))}) with further folders, so each is a "
            f"dataset of its own. Give the path of one of them: {check_call(root / first)}",
            where=str(root),
        )
    layout.kind = "split folders"
    words = sorted({name for names in seconds.values() for name in names})
    layout.notes.append(f"each class folder holds split folders: {write_names(words)}.")
    return [_Image(image.sample, image.folders[:1], guess_split(image.folders[1]) or UNASSIGNED) for image in images]


# ---- wrappers and copies


def _without_wrappers(images: list[_Image]) -> list[_Image]:
    """Remove a folder level that is the only one in every split and is not a class: ``seg_train/seg_train/cat``, ``train/images/cat``."""
    splits = {image.split for image in images}
    if splits == {UNASSIGNED}:
        return images
    while True:
        by_split = {split: {image.folders[0] for image in images if image.split == split} for split in splits}
        is_wrapped = all(
            len(names) == 1 and all(is_container(name) or guess_split(name) == split for name in names)
            for split, names in by_split.items()
        )
        if not is_wrapped or any(len(image.folders) < 2 for image in images):
            return images
        images = [_Image(image.sample, image.folders[1:], image.split) for image in images]


def _without_container(images: list[_Image]) -> list[_Image]:
    """Remove the single top-level folder that holds all class folders and is not a class, such as ``images`` next to ``masks``."""
    tops = {image.folders[0] for image in images}
    below = {image.folders[1] if len(image.folders) > 1 else "" for image in images}
    if len(tops) > 1 or not is_container(next(iter(tops))) or len(below) < 2 or "" in below:
        return images
    return [_Image(image.sample, image.folders[1:], image.split) for image in images]


def _without_repeated(
    root: Path, images: list[_Image], layout: Layout, are_same: Callable[[str, str], bool]
) -> list[_Image]:
    """Leave out a folder that is a copy of the dataset within itself.

    Raises:
        DataError: a folder holds folders with the names of its siblings, but with other images.
    """
    inside = _by_top(images)
    for top, group in inside.items():
        inner = {image.folders[1] for image in group if len(image.folders) > 1}
        siblings = inside.keys() - {top}
        if len(inner & siblings) < 2 or any(len(image.folders) < 2 for image in group):
            continue
        paths = {image.sample for image in images}
        copies = [(image.sample, image.sample.removeprefix(f"{top}/")) for image in group]
        if all(outer in paths and are_same(sample, outer) for sample, outer in copies):
            for image in group:
                layout.left_out[image.sample] = "a copy of the dataset within itself"
            layout.warnings.append(
                f"the folder {top!r} is an exact copy of its sibling folders ({write_names(sorted(inner))}), so it is left out."
            )
            return [image for image in images if image.folders[0] != top]
        raise DataError(
            f"the folder {top!r} holds folders with the same names as its siblings ({write_names(sorted(inner & siblings))}) but other "
            f"images, so it is not a class but another part of the data. Merge the two, or give the path of one: {check_call(root / top)}",
            where=str(root),
        )
    return images


# ---- classes


def _by_top(images: Sequence[_Image]) -> dict[str, list[_Image]]:
    groups: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        groups[image.folders[0]].append(image)
    return groups


def _depth_of(classes: Sequence[str] | None, images: list[_Image]) -> int | None:
    """The first level whose folders are all classes of a trained network; None if there is none."""
    if classes is None:
        return None
    known = set(classes)
    max_depth = min(len(image.folders) for image in images)
    depths = [depth for depth in range(1, max_depth + 1) if {image.folders[depth - 1] for image in images} <= known]
    return depths[0] if depths else None


def _depth(root: Path, images: list[_Image], layout: Layout) -> int:
    """The level of folders that names the classes; always 1, with warnings where that may be wrong.

    Raises:
        DataError: another level may name the classes just as well.
    """
    inside = _by_top(images)
    if len(inside) < 2:
        return 1
    subs = {top: {image.folders[1] for image in group if len(image.folders) > 1} for top, group in inside.items()}
    _check_shared_subfolders(root, inside, subs, layout)
    _check_containers(root, inside, subs)
    parts = [top for top in inside if is_numbered_part(top)]
    if len(parts) == len(inside) and len({part_words(top) for top in parts}) == 1:
        layout.warnings.append(
            f"the class names look like parts of one dataset ({write_names(parts)}). If they are not the classes, put the images into one folder per "
            "class, or write a table with the columns path,label."
        )
    _warn_of_merged(root, inside, subs, layout)
    _warn_of_shared_stems(inside, layout)
    return 1


def part_words(name: str) -> tuple[str, ...]:
    """The words of a folder name without numbers and split words."""
    return tuple(word.rstrip("0123456789") for word in words_without_split(name) if not word.isdecimal())


def _check_containers(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]]) -> None:
    for top, names in subs.items():
        if is_container(top) and len(names) > 1 and all(len(image.folders) > 1 for image in inside[top]):
            siblings = [other for other in inside if other != top]
            raise DataError(
                f"the folder {top!r} holds folders of images ({write_names(sorted(names))}) and has siblings ({write_names(siblings)}).\n"
                f"  - if the folders in {top!r} are the classes: {check_call(root / top)}\n"
                f"  - if {top!r} is a class itself: {check_call(root, Reading(class_depth=1))}",
                where=str(root),
            )


def _check_shared_subfolders(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]], layout: Layout) -> None:
    """Check whether all top-level folders have the same subfolders, so that either level may name the classes.

    Raises:
        DataError: either level may name the classes. For a few numbers as names there is a warning instead.
    """
    shared = set.intersection(*subs.values())
    shared = {name for name in shared if not is_grouping_folder(name) and not is_mask_folder(name)}
    if len(shared) < 2 or any(len(shared) < _MIN_SHARED * len(names) for names in subs.values()):
        return
    names = sorted(shared)
    if all(name.isdecimal() for name in shared) and len(shared) < 10:
        layout.warnings.append(
            f"the classes are {write_names(inside)}. Each holds the folders {write_names(names)}, whose images are merged. If these folders are the "
            f"classes, type: {check_call(root, Reading(class_depth=2))}"
        )
        return
    are_splits = any(map(guess_split, inside))
    splits = f"  - if {write_names(inside)} are splits: rename them to train, val and test\n" if are_splits else ""
    raise DataError(
        f"the folders {write_names(inside)} all hold folders of the same names ({write_names(names)}), so either may be the classes.\n{splits}"
        f"  - if {write_names(names)} are the classes: {check_call(root, Reading(class_depth=2))}\n"
        f"  - if {write_names(inside)} are the classes: {check_call(root, Reading(class_depth=1))}",
        where=str(root),
    )


def _warn_of_merged(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]], layout: Layout) -> None:
    """Warn if class folders contain only subfolders that look like classes themselves."""
    if any(len(image.folders) < 2 for group in inside.values() for image in group):
        return
    inner = [name for names in subs.values() for name in names if not is_grouping_folder(name)]
    if all(len(names) < 2 for names in subs.values()) or len(inner) < 2 * len(inside) or _are_numbered(inner):
        return
    if len(inner) < 0.8 * sum(map(len, subs.values())) or len(set(inner)) < len(inner):
        return
    layout.warnings.append(
        f"{write_number_of(len(inner), 'folder')} ({write_names(sorted(inner))}) are merged into {len(inside)} classes ({write_names(inside)}). To make each "
        f"folder a class, type: {check_call(root, Reading(class_depth=2))}; {option('class_depth', 1)} merges them without this warning."
    )


def _are_numbered(names: Sequence[str]) -> bool:
    """Whether names are one word with different numbers, such as ``patient_07``. ImageNet's synsets (``n01440764``) do not count."""
    stems = {name.rstrip("0123456789") for name in names}
    synsets = stems == {"n"} and all(len(name) == 9 for name in names)
    return len(stems) <= 2 and all(name != name.rstrip("0123456789") for name in names) and not synsets


def _warn_of_shared_stems(inside: dict[str, list[_Image]], layout: Layout) -> None:
    """Warn about two classes whose files have the same names, as photos and their masks do."""
    tops = list(inside)
    if len(tops) > 20:
        return
    files = {top: [image.sample for image in group] for top, group in inside.items()}
    for index, first in enumerate(tops):
        for second in tops[index + 1 :]:
            if have_shared_stems(files[first], files[second]):
                layout.warnings.append(
                    f"the classes {first!r} and {second!r} hold files with the same names. If these are two images of each object, such as a "
                    "photo and its mask, a network would learn the kind of image, not the class."
                )
                return
