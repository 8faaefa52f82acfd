"""The image files that the cells of a table name, also if they are not paths relative to the table's folder."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from visus.data.folder_names import guess_splits
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.system_files import reason_to_ignore

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts such a prefix before the names of uploaded files
_ENDINGS = tuple(IMAGE_SUFFIXES)
_MAX_SIBLING_FILES = 200_000


class ImageNames:
    """Images indexed by name. A cell matches regardless of case, of slashes or backslashes, and with or without file extension.

    Args:
        samples: paths of images, with ``/``.

    >>> names = ImageNames(["cat/1.PNG", "dog/1.png", "dog/2.png"])
    >>> names.match("dog\\\\2.png"), names.match("2"), names.match("1.png"), names.match("3.png")
    (['dog/2.png'], ['dog/2.png'], ['cat/1.PNG', 'dog/1.png'], [])
    """

    def __init__(self, samples: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self.num_samples = 0
        for sample in samples:
            self._by_stem[PurePosixPath(sample).stem.casefold()].append(sample)
            self.num_samples += 1

    def match(self, cell: str) -> list[str]:
        """The images whose path ends with the path in the cell."""
        parts = [part for part in cell.strip().replace("\\", "/").casefold().split("/") if part not in ("", ".")]
        if not parts:
            return []
        stem, ending = os.path.splitext(parts[-1])
        has_ending = ending in _ENDINGS
        found = []
        for sample in self._by_stem.get(stem if has_ending else parts[-1], []):
            parts_of_sample = sample.casefold().split("/")
            last = parts_of_sample[-1] if has_ending else os.path.splitext(parts_of_sample[-1])[0]
            if [*parts_of_sample[:-1], last][-len(parts) :] == parts:
                found.append(sample)
        return found

    def match_end(self, cell: str) -> list[str]:
        """The images that match the longest possible end of a path from another machine."""
        parts = [part for part in cell.strip().replace("\\", "/").split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            found = self.match("/".join(parts[start:]))
            if found:
                return found
        uploaded = _UPLOADED.fullmatch(parts[-1]) if parts else None
        return self.match(uploaded[1]) if uploaded else []


def list_images(folder: Path) -> list[str]:
    """Every image below a folder, by file extension, relative to it. System files are ignored, and links to folders are not followed."""
    return [sample for _, samples in _walk(folder) for sample in samples]


def _walk(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """For a folder and each folder below it: the number of its files, and its images relative to the first folder."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if reason_to_ignore(name) is None)
        start = os.path.relpath(place, folder).replace(os.sep, "/")
        yield (
            len(files),
            [
                name if start == "." else f"{start}/{name}"
                for name in sorted(files)
                if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and reason_to_ignore(name) is None
            ],
        )


def _sibling_images(folder: Path) -> list[str]:
    """The images in the sibling folders of a folder, relative to it; empty if there are very many files, as next to a home folder."""
    place = folder.resolve()
    try:
        others = [
            sibling
            for sibling in sorted(place.parent.iterdir())
            if sibling.is_dir() and sibling != place and not reason_to_ignore(sibling.name)
        ]
    except OSError:
        return []
    found: list[str] = []
    num_files = 0
    for other in others:
        for count, samples in _walk(other):
            num_files += count
            if num_files >= _MAX_SIBLING_FILES:
                return []
            found += [f"../{other.name}/{sample}" for sample in samples]
    return found


def find_annotation_file(folder: Path, samples: Sequence[str]) -> str:
    """The first annotation file if nearly every image has one with its own name, as YOLO, VOC and LabelMe write; else ""."""
    stems = {PurePosixPath(sample).stem for sample in samples}
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if reason_to_ignore(name) is None)
        for name in sorted(files):
            stem, ending = os.path.splitext(name)
            if ending.lower() in (".txt", ".xml", ".json") and stem in stems:
                found.setdefault(stem, os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/"))
    return min(found.values()) if len(stems) > 1 and len(found) >= 0.8 * len(stems) else ""


def is_url(cell: str) -> bool:
    """Whether a cell is a URL.

    >>> is_url("https://x.org/1.png"), is_url("C:/1.png")
    (True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", cell.strip(), re.IGNORECASE) is not None


def is_absolute(cell: str) -> bool:
    """Whether a path is absolute, on this system or on Windows."""
    return re.match(r"[A-Za-z]:[\\/]|[\\/]", cell.strip()) is not None


def resolve_cells(
    cells: Sequence[str], table: Path, *, is_foreign: bool = False
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Find the images of cells that are not paths of existing files.

    If several split folders have an image of that name, the folder of the table's own split is used: ``train.csv`` names
    ``train_images/1.png``, not ``test_images/1.png``.

    Args:
        cells: cells of the path column.
        table: path of the table.
        is_foreign: also match absolute paths of another machine, by their longest possible end.

    Returns:
        Cell -> image, and cell -> images for the cells that match several.
    """
    folder = table.parent
    unresolved = [
        cell
        for cell in dict.fromkeys(cells)
        if not is_url(cell) and (is_foreign or not is_absolute(cell)) and not (folder / cell).is_file()
    ]
    if not unresolved:
        return {}, {}
    found, several = _match_cells(unresolved, ImageNames(list_images(folder)), table, is_foreign=is_foreign)
    remaining = [cell for cell in unresolved if cell not in found and cell not in several]
    is_elsewhere = len(remaining) > 0.5 * len(set(cells))
    if is_elsewhere:  # images may be next to the table's folder, as for data/labels.csv and images/
        more, unclear = _match_cells(remaining, ImageNames(_sibling_images(folder)), table, is_foreign=is_foreign)
        if len(more) > 0.5 * len(remaining):
            found, several = found | more, several | unclear
    return found, several


def _match_cells(
    cells: Sequence[str], names: ImageNames, table: Path, *, is_foreign: bool
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Cell -> image, and cell -> images for the cells that match several."""
    found: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for cell in cells:
        matches = names.match_end(cell) if is_foreign else names.match(cell)
        if len(matches) > 1:
            matches = _in_split_of(table.stem, matches) or matches
        if len(matches) == 1:
            found[cell] = matches[0]
        elif matches:
            several[cell] = matches
    return found, several


def _in_split_of(table: str, samples: Sequence[str]) -> list[str]:
    """The image in the folder of the split that the table's name stands for, as a list; empty unless there is exactly one."""
    tops = sorted({sample.split("/")[0] for sample in samples if "/" in sample})
    splits: Mapping[str, str] = guess_splits([*tops, table]) if tops else {}
    split = splits.get(table)
    fitting = [sample for sample in samples if split and splits.get(sample.split("/")[0]) == split]
    return fitting if len(fitting) == 1 else []


def describe_difference(cell: str, sample: str) -> str:
    """A phrase for the difference between a cell and the path of its image.

    >>> describe_difference("cat\\\\1.png", "cat/1.png"), describe_difference("1", "a/1.png"), describe_difference("A.png", "a.PNG")
    ('with backslashes', 'without ending', 'in other capitals')
    """
    if is_absolute(cell):
        return "as on another machine"
    if "\\" in cell:
        return "with backslashes"
    if not cell.lower().endswith(_ENDINGS):
        return "without ending"
    if sample.startswith("../") and not cell.startswith("../"):
        return "as from the folder above"
    if cell.count("/") < sample.count("/"):
        return "without folder"
    return "in other capitals"
