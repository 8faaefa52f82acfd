"""Which image files the cells of a table mean, where they are not written as paths from the table's folder.

This file knows names of files and how people write them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from visus.data.folder_names import guess_splits
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.system_files import reason_to_ignore

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio writes such a number before the names of files that were uploaded
_ENDINGS = tuple(IMAGE_SUFFIXES)
_MAX_BESIDE = 200_000  # files


class ImageNames:
    """Images by their names, so that a cell finds the one that it means: any capitals, slashes or backslashes, with or without its ending.

    Args:
        samples: paths with ``/``.

    >>> names = ImageNames(["cat/1.PNG", "dog/1.png", "dog/2.png"])
    >>> names.meant("dog\\\\2.png"), names.meant("2"), names.meant("1.png"), names.meant("3.png")
    (['dog/2.png'], ['dog/2.png'], ['cat/1.PNG', 'dog/1.png'], [])
    """

    def __init__(self, samples: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self.num_samples = 0
        for sample in samples:
            self._by_stem[PurePosixPath(sample).stem.casefold()].append(sample)
            self.num_samples += 1

    def meant(self, cell: str) -> list[str]:
        """The images whose path ends as the cell says."""
        parts = [part for part in cell.strip().replace("\\", "/").casefold().split("/") if part not in ("", ".")]
        if not parts:
            return []
        stem, ending = os.path.splitext(parts[-1])
        has_ending = ending in _ENDINGS
        found = []
        for sample in self._by_stem.get(stem if has_ending else parts[-1], []):
            own = sample.casefold().split("/")
            last = own[-1] if has_ending else os.path.splitext(own[-1])[0]
            if [*own[:-1], last][-len(parts) :] == parts:
                found.append(sample)
        return found

    def named(self, cell: str) -> list[str]:
        """The images that a cell may mean when its folders are those of another machine: the longest end of it that is here."""
        parts = [part for part in cell.strip().replace("\\", "/").split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            found = self.meant("/".join(parts[start:]))
            if found:
                return found
        uploaded = _UPLOADED.fullmatch(parts[-1]) if parts else None
        return self.meant(uploaded[1]) if uploaded else []


def images_below(folder: Path) -> list[str]:
    """Every image below a folder by its ending, relative to it; files of systems are passed over, and links to folders not followed."""
    return [sample for _, samples in _walk(folder) for sample in samples]


def _walk(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """For a folder and each below it: the number of its files, and its images as ``images_below`` gives them."""
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


def _images_beside(folder: Path) -> list[str]:
    """The images in the folders beside a folder, relative to it; none where there are very many files, as beside a home folder."""
    place = folder.resolve()
    try:
        others = [
            each
            for each in sorted(place.parent.iterdir())
            if each.is_dir() and each != place and not reason_to_ignore(each.name)
        ]
    except OSError:
        return []
    found: list[str] = []
    num_files = 0
    for other in others:
        for count, samples in _walk(other):
            num_files += count
            if num_files >= _MAX_BESIDE:
                return []
            found += [f"../{other.name}/{sample}" for sample in samples]
    return found


def annotations_of(folder: Path, samples: Sequence[str]) -> str:
    """A file of the boxes or outlines that nearly every image has under its own name, as YOLO, VOC and LabelMe write; empty where there are none."""
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
    """Whether a cell is an address on the web.

    >>> is_url("https://x.org/1.png"), is_url("C:/1.png")
    (True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", cell.strip(), re.IGNORECASE) is not None


def is_absolute(cell: str) -> bool:
    """Whether a path begins at the root of a disk, here or on Windows."""
    return re.match(r"[A-Za-z]:[\\/]|[\\/]", cell.strip()) is not None


def resolve(cells: Sequence[str], table: Path, *, is_foreign: bool = False) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The image of each cell that is not the path of a file itself; and the cells that could mean several.

    Where images of several split folders have one name, those in the folder of the table's own split are meant: ``train.csv`` names
    ``train_images/1.png`` and not ``test_images/1.png``.

    Args:
        cells: as the table has them.
        table: its file.
        is_foreign: look too for paths that begin at the root of another machine's disk, by the longest end of them that is here.
    """
    folder = table.parent
    open_cells = [
        cell
        for cell in dict.fromkeys(cells)
        if not is_url(cell) and (is_foreign or not is_absolute(cell)) and not (folder / cell).is_file()
    ]
    if not open_cells:
        return {}, {}
    found, several = _meant_by(open_cells, ImageNames(images_below(folder)), table, is_foreign=is_foreign)
    rest = [cell for cell in open_cells if cell not in found and cell not in several]
    is_elsewhere = len(rest) > 0.5 * len(set(cells))
    if is_elsewhere:  # beside the table's folder, as data/labels.csv and images/?
        more, unclear = _meant_by(rest, ImageNames(_images_beside(folder)), table, is_foreign=is_foreign)
        if len(more) > 0.5 * len(rest):
            found, several = found | more, several | unclear
    return found, several


def _meant_by(
    cells: Sequence[str], names: ImageNames, table: Path, *, is_foreign: bool
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The image of each cell among the given ones; and the cells that could mean several."""
    found: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for cell in cells:
        meant = names.named(cell) if is_foreign else names.meant(cell)
        if len(meant) > 1:
            meant = _of_split(table.stem, meant) or meant
        if len(meant) == 1:
            found[cell] = meant[0]
        elif meant:
            several[cell] = meant
    return found, several


def _of_split(table: str, samples: Sequence[str]) -> list[str]:
    """The images in the folder that means the split that the table's name means; none where that is not one image."""
    tops = sorted({sample.split("/")[0] for sample in samples if "/" in sample})
    meant: Mapping[str, str] = guess_splits([*tops, table]) if tops else {}
    split = meant.get(table)
    fitting = [sample for sample in samples if split and meant.get(sample.split("/")[0]) == split]
    return fitting if len(fitting) == 1 else []


def written_differently(cell: str, sample: str) -> str:
    """How a cell differs from the path of its image, in a few words.

    >>> written_differently("cat\\\\1.png", "cat/1.png"), written_differently("1", "a/1.png"), written_differently("A.png", "a.PNG")
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
