"""Which layout the paths of images show: which folders are splits, which are classes, and what must be asked.

This file knows paths below the data alone. Nothing is guessed in silence: a layout that can be read in one way only is read so,
one that was inferred from names is a warning, and one that can be read in two ways, of which the wrong one would train on the
wrong classes, is an error that names what to type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visus.data.folder_names import (
    is_container,
    is_part,
    is_project_folder,
    is_unlabeled,
    rest_of,
    says_no_class,
    split_hint,
    split_meant,
    splits_meant,
)
from visus.data.masks import mask_folder, shared_stems
from visus.data.reading import command
from visus.data.samples import SPLITS, UNASSIGNED
from visus.data.source_rules import shown, split_of
from visus.errors import DataError, closest_name
from visus.units import write_number_of

CLASSIFIES = "visus classifies whole images: it needs a folder for each class, or a table with the columns path,label."
_SHARED = 0.5


@dataclass
class Layout:
    """What the folders say.

    Args:
        kind: "folder" or "split folders".
        rows: (image, class name, split) of every image that is used.
        left_out: image and the reason, for those that are not.
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
    folders: tuple[str, ...]  # below the data, and below its split folder where there is one
    split: str = UNASSIGNED


def lay_out(
    root: Path,
    samples: Sequence[str],
    *,
    class_depth: int | None = None,
    classes: Sequence[str] | None = None,
    same: Callable[[str, str], bool] = lambda first, second: False,
    is_repository: bool = False,
) -> Layout:
    """The class and the split of each image.

    Args:
        root: named in messages.
        samples: paths of images relative to the root, each below one folder at least; masks are not among them.
        class_depth: the level of folders that names the classes, where a person said so.
        classes: the classes of a trained network, which answer what the folders leave open.
        same: whether two images hold the same bytes.
        is_repository: whether the root is a repository, which has folders such as ``docs`` beside its data.

    Raises:
        DataError: the folders can be read in two ways, or cannot be read.
    """
    images = [_Image(sample, tuple(sample.split("/")[:-1])) for sample in samples]
    layout = Layout("folder")
    images = _without_project(images, layout, is_repository=is_repository)
    if class_depth is None:
        images = _without_repeated(root, images, layout, same)
    images = _split_by_top(root, images, layout)
    images = _without_wrappers(images)
    if class_depth is None and layout.kind == "folder":
        images = _without_container(images)
        images = _split_inside_classes(root, images, layout)
    depth = class_depth or _depth_of(classes, images) or _depth(root, images, layout)
    for image in images:
        if len(image.folders) < depth:
            raise DataError(
                f"{image.sample!r} lies above the folders of level {depth}, which were to name the classes. Move it into one of them, or "
                "give another --class-depth.",
                where=str(root),
            )
        layout.rows.append((image.sample, image.folders[depth - 1], image.split))
    if class_depth is not None and class_depth > 1:
        above = {part for image in images for part in image.folders[: depth - 1]} if layout.kind == "folder" else set()
        if dissolved := sorted(filter(split_meant, above)):
            layout.warnings.append(
                f"{shown(map(repr, dissolved))} {'is' if len(dissolved) == 1 else 'are'} named as a split, and the images in it are mixed with the "
                "others, as --class-depth says: a score on them would be too good. To keep splits, rename the folders to train, val and test."
            )
        layout.notes.append(f"the folders of level {class_depth} name the classes, as --class-depth says.")
    return layout


def _without_project(images: list[_Image], layout: Layout, *, is_repository: bool) -> list[_Image]:
    """Without the images in the folders that a repository has beside its data."""
    tops = {image.folders[0] for image in images}
    project = {top for top in tops if is_repository and is_project_folder(top)}
    if not project or len(tops - project) < 2:
        return images
    layout.left_out.update(
        {image.sample: "in a folder of the repository" for image in images if image.folders[0] in project}
    )
    layout.warnings.append(
        f"{write_number_of(len(layout.left_out), 'image')} in {shown(map(repr, sorted(project)))} left out: a folder of the repository, and no class."
    )
    return [image for image in images if image.folders[0] not in project]


# ---- splits


def _split_by_top(root: Path, images: list[_Image], layout: Layout) -> list[_Image]:
    """The images with their split where the topmost folders are splits."""
    tops = list(dict.fromkeys(image.folders[0] for image in images))
    splits = _top_splits(root, tops, images)
    if not splits:
        return images
    layout.kind = "split folders"
    inferred = {top: split for top, split in splits.items() if split_of(top) is None}
    if inferred:
        told = ", ".join(f"{top!r} is {split}" for top, split in inferred.items())
        layout.warnings.append(
            f"folders are read as splits by their names, and not as classes: {told}. Rename them to train, val and test to be sure."
        )
    kept = []
    for image in images:
        top, *inner = image.folders
        while inner and inner[0] == top:
            inner = inner[1:]
        if top in splits:
            kept.append(_Image(image.sample, tuple(inner), splits[top]))
        else:
            layout.left_out[image.sample] = "beside the split folders, without a class folder"
    left = sorted(set(tops) - splits.keys())
    if left:
        count = sum(image.folders[0] in left for image in images)
        layout.warnings.append(
            f"{write_number_of(count, 'image')} in {shown(map(repr, left))} left out: no split is meant by that name, and no "
            "class folder lies in it."
        )
    has_classes = any(not is_container(folder) for image in kept for folder in image.folders)
    loose = [image for image in kept if not image.folders or (has_classes and _is_in_container(image))]
    if loose:
        first = loose[0].sample
        folder, _, file = first.rpartition("/")
        count = sum(image.sample.startswith(f"{folder}/") for image in loose)
        raise DataError(
            f"{write_number_of(count, 'image')} in {folder!r} without a class folder, the first is {file!r}. "
            f"Put each into a folder named after its class, such as {folder}/cats/{file}, or move them elsewhere.",
            where=str(root),
        )
    return kept


def _is_in_container(image: _Image) -> bool:
    return len(image.folders) == 1 and is_container(image.folders[0])


def _top_splits(root: Path, tops: list[str], images: list[_Image]) -> dict[str, str]:
    """The split of each topmost folder; empty where they are no split folders.

    Split folders are meant where every folder is one, or where one for training holds class folders.

    Raises:
        DataError: split folders and other folders with class folders lie side by side, or two folders mean one split.
    """
    inside = {top: {_class_below(image.folders) for image in images if image.folders[0] == top} - {""} for top in tops}
    splits = {top: split for top in tops if (split := split_of(top))}
    guessed = splits_meant(tops)
    unknown = [top for top in tops if top not in guessed]
    is_lone = len(unknown) == 1 and set(guessed.values()) in ({"test"}, {"val"}, {"val", "test"})
    if is_lone and _share_classes(list(inside.values())):  # beside a test set with the same classes lies the training set
        guessed[unknown[0]] = "train"
    are_all = set(guessed) == set(tops) and len(set(guessed.values())) > 1
    if guessed.keys() - splits.keys():
        if _share_classes([inside[top] for top in guessed]) or (are_all and any(inside.values())):
            splits = guessed
        elif are_all:
            raise DataError(
                f"the folders {shown(tops)} are named as splits, and hold images without class folders, so no class is known. {CLASSIFIES}",
                where=str(root),
            )
    others = [top for top in tops if top not in splits]
    train = [top for top, split in splits.items() if split == "train"]
    if not splits or (others and not any(inside[top] for top in train)):
        return {}
    for split in SPLITS:
        same = [top for top in splits if splits[top] == split]
        if len(same) > 1:
            raise DataError(f"the folders {shown(same)} mean the same split. Keep one of them.", where=str(root))
    known = set().union(*(inside[top] for top in train))
    stray = [top for top in others if inside[top] & known or not (is_unlabeled(top) or is_project_folder(top))]
    if stray:
        guess = closest_name(stray[0], SPLITS)
        hint = split_hint(stray[0]) or (f" Did you mean {guess!r}?" if guess else "")
        raise DataError(
            f"the folder {stray[0]!r} holds images and lies beside the split folder {train[0]!r}, so it is neither a "
            f"split nor a class.{hint} Rename it, or move it elsewhere.",
            where=str(root),
        )
    return splits


def _class_below(folders: tuple[str, ...]) -> str:
    """The folder below the topmost one that could be a class; a folder that repeats the name above it is none."""
    inner = folders[1:]
    while inner and (inner[0] == folders[0] or (is_container(inner[0]) and len(inner) > 1)):
        inner = inner[1:]
    return inner[0] if inner else ""


def _share_classes(inside: list[set[str]]) -> bool:
    """Whether the folders hold mostly the same sub-folders."""
    some = [names for names in inside if names]
    return len(some) > 1 and all(len(names & some[0]) >= _SHARED * min(len(names), len(some[0])) for names in some[1:])


def _split_inside_classes(root: Path, images: list[_Image], layout: Layout) -> list[_Image]:
    """The images with their split where every class folder holds split folders: ``cat/train/1.jpg``, ``cat/test/2.jpg``."""
    inside = _by_top(images)
    seconds = {top: {image.folders[1] if len(image.folders) > 1 else "" for image in group} for top, group in inside.items()}
    if any(split_meant(name) is None for names in seconds.values() for name in names):
        return images
    meant = {split_meant(name) for names in seconds.values() for name in names}
    if "train" not in meant or len(meant) < 2:
        return images
    if any(len(image.folders) > 2 for image in images):
        first = min(inside)
        raise DataError(
            f"each of the folders {shown(inside)} holds split folders ({shown(sorted(seconds[first]))}) with further folders: each is a "
            f"dataset of its own. Give one of them: {command(root / first)}",
            where=str(root),
        )
    layout.kind = "split folders"
    words = sorted({name for names in seconds.values() for name in names})
    layout.notes.append(f"each class folder holds split folders, which are read as such: {shown(words)}.")
    return [_Image(image.sample, image.folders[:1], split_meant(image.folders[1]) or UNASSIGNED) for image in images]


# ---- wrappers and copies


def _without_wrappers(images: list[_Image]) -> list[_Image]:
    """Without a folder that every split holds alone and that names no class: ``seg_train/seg_train/cat``, ``train/images/cat``."""
    splits = {image.split for image in images}
    if splits == {UNASSIGNED}:
        return images
    while True:
        by_split = {split: {image.folders[0] for image in images if image.split == split} for split in splits}
        is_wrapped = all(
            len(names) == 1 and all(is_container(name) or split_meant(name) == split for name in names)
            for split, names in by_split.items()
        )
        if not is_wrapped or any(len(image.folders) < 2 for image in images):
            return images
        images = [_Image(image.sample, image.folders[1:], image.split) for image in images]


def _without_container(images: list[_Image]) -> list[_Image]:
    """Without the one folder that holds all class folders and names no class, as ``images`` where masks lay beside it."""
    tops = {image.folders[0] for image in images}
    below = {image.folders[1] if len(image.folders) > 1 else "" for image in images}
    if len(tops) > 1 or not is_container(next(iter(tops))) or len(below) < 2 or "" in below:
        return images
    return [_Image(image.sample, image.folders[1:], image.split) for image in images]


def _without_repeated(root: Path, images: list[_Image], layout: Layout, same: Callable[[str, str], bool]) -> list[_Image]:
    """Without a folder that holds the dataset once more.

    Raises:
        DataError: a folder holds folders of the names that lie beside it, with other images in them.
    """
    inside = _by_top(images)
    for top, group in inside.items():
        inner = {image.folders[1] for image in group if len(image.folders) > 1}
        siblings = inside.keys() - {top}
        if len(inner & siblings) < 2 or any(len(image.folders) < 2 for image in group):
            continue
        there = {image.sample for image in images}
        copies = [(image.sample, image.sample.removeprefix(f"{top}/")) for image in group]
        if all(outer in there and same(sample, outer) for sample, outer in copies):
            for image in group:
                layout.left_out[image.sample] = "a copy of the dataset within itself"
            layout.warnings.append(
                f"the folder {top!r} is a copy of the folders beside it ({shown(sorted(inner))}), file by file, so it is left out."
            )
            return [image for image in images if image.folders[0] != top]
        raise DataError(
            f"the folder {top!r} holds folders of the same names as those beside it ({shown(sorted(inner & siblings))}), with other "
            f"images: it is no class, but a part of the data or a copy of it. Merge the two, or give one: {command(root / top)}",
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
    """The level of folders that holds a network's classes alone, where there is just one."""
    if classes is None:
        return None
    known = set(classes)
    most = min(len(image.folders) for image in images)
    fitting = [depth for depth in range(1, most + 1) if {image.folders[depth - 1] for image in images} <= known]
    return fitting[0] if fitting else None


def _depth(root: Path, images: list[_Image], layout: Layout) -> int:
    """The level of folders that names the classes: the first, unless that cannot be meant.

    Raises:
        DataError: another level may be meant just as well.
    """
    inside = _by_top(images)
    if len(inside) < 2:
        return 1
    subs = {top: {image.folders[1] for image in group if len(image.folders) > 1} for top, group in inside.items()}
    _ask_about_shared(root, inside, subs, layout)
    _refuse_containers(root, inside, subs)
    parts = [top for top in inside if is_part(top)]
    if len(parts) == len(inside) and len({rest_of_part(top) for top in parts}) == 1:
        layout.warnings.append(
            f"the classes are named as parts of one set ({shown(parts)}): are they the classes? If not, put the images into a folder for each "
            "class, or write a table with the columns path,label."
        )
    _warn_of_merged(root, inside, subs, layout)
    _warn_of_twins(inside, layout)
    return 1


def rest_of_part(name: str) -> tuple[str, ...]:
    """The words of a numbered part without its number."""
    return tuple(word.rstrip("0123456789") for word in rest_of(name) if not word.isdecimal())


def _refuse_containers(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]]) -> None:
    for top, names in subs.items():
        if is_container(top) and len(names) > 1 and all(len(image.folders) > 1 for image in inside[top]):
            beside = [other for other in inside if other != top]
            others = f"{'lies' if len(beside) == 1 else 'lie'} {shown(beside)}"
            raise DataError(
                f"the folder {top!r} holds folders of images ({shown(sorted(names))}), and beside it {others}.\n"
                f"  - if the folders in {top!r} are the classes: {command(root / top)}\n"
                f"  - if {top!r} is a class itself: {command(root, '--class-depth', '1')}",
                where=str(root),
            )


def _ask_about_shared(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]], layout: Layout) -> None:
    """Ask which level names the classes where all topmost folders hold folders of the same names."""
    shared = set.intersection(*subs.values())
    shared = {name for name in shared if not says_no_class(name) and not mask_folder(name)}
    if len(shared) < 2 or any(len(shared) < _SHARED * len(names) for names in subs.values()):
        return
    names = sorted(shared)
    if all(name.isdecimal() for name in shared) and len(shared) < 10:
        layout.warnings.append(
            f"the classes are {shown(inside)}, and each holds the folders {shown(names)}, whose images are merged. If these are the "
            f"classes, type: {command(root, '--class-depth', '2')}"
        )
        return
    are_splits = any(map(split_meant, inside))
    splits = f"  - if {shown(inside)} are splits: rename them to train, val and test\n" if are_splits else ""
    raise DataError(
        f"the folders {shown(inside)} all hold folders of the same names ({shown(names)}), so either may be the classes.\n{splits}"
        f"  - if {shown(names)} are: {command(root, '--class-depth', '2')}\n"
        f"  - if {shown(inside)} are: {command(root, '--class-depth', '1')}",
        where=str(root),
    )


def _warn_of_merged(root: Path, inside: dict[str, list[_Image]], subs: dict[str, set[str]], layout: Layout) -> None:
    """Warn where class folders hold nothing but further folders that look like classes themselves."""
    if any(len(image.folders) < 2 for group in inside.values() for image in group):
        return
    inner = [name for names in subs.values() for name in names if not says_no_class(name)]
    if all(len(names) < 2 for names in subs.values()) or len(inner) < 2 * len(inside) or _are_numbered(inner):
        return
    if len(inner) < 0.8 * sum(map(len, subs.values())) or len(set(inner)) < len(inner):
        return
    layout.warnings.append(
        f"{write_number_of(len(inner), 'folder')} ({shown(sorted(inner))}) are merged into {len(inside)} classes ({shown(inside)}). For a class "
        f"for each of them, type: {command(root, '--class-depth', '2')}; --class-depth 1 says that they are meant to be merged."
    )


def _are_numbered(names: Sequence[str]) -> bool:
    """Whether names are one word with different numbers, such as patients, and not ImageNet's synsets."""
    stems = {name.rstrip("0123456789") for name in names}
    synsets = stems == {"n"} and all(len(name) == 9 for name in names)
    return len(stems) <= 2 and all(name != name.rstrip("0123456789") for name in names) and not synsets


def _warn_of_twins(inside: dict[str, list[_Image]], layout: Layout) -> None:
    """Warn of two classes whose files have the same names, as a photo and its mask have."""
    tops = list(inside)
    if len(tops) > 20:
        return
    files = {top: [image.sample for image in group] for top, group in inside.items()}
    for index, first in enumerate(tops):
        for second in tops[index + 1 :]:
            if shared_stems(files[first], files[second]):
                layout.warnings.append(
                    f"the classes {first!r} and {second!r} hold files of the same names: are these two images of each object, such as a "
                    "photo and its mask? A network would tell the kinds of image apart."
                )
                return
