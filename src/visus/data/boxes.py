"""Sizes of the objects in images, from published bounding boxes. Only the standard library is imported."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from visus.data.delimiters import find_delimiter
from visus.errors import DataError
from visus.units import write_number_of, write_shape

OBJECT_QUANTILE = 0.95
_FORMATS = (
    "Supported are a folder of Pascal VOC files (.xml), a COCO file (.json) or a folder with one, a folder of YOLO files (.txt), and a table (.csv) with the columns "
    "path,xmin,ymin,xmax,ymax,width,height."
)
_HEADS = {"filename": "path", "file": "path", "image": "path", "image_path": "path"}
_TABLE = ("path", "xmin", "ymin", "xmax", "ymax", "width", "height")


@dataclass(frozen=True)
class Box:
    """A bounding box.

    Args:
        height, width: size of the box, as fractions of the image's height and width.
    """

    height: float
    width: float

    @property
    def is_possible(self) -> bool:
        """Whether the box is not empty and not larger than its image, up to rounding."""
        return 0 < self.height <= 1.01 and 0 < self.width <= 1.01


@dataclass(frozen=True)
class Boxes:
    """The boxes of a set of images.

    Args:
        kind: the format: ``Pascal VOC``, ``COCO``, ``YOLO`` or ``table``.
        num_images: number of images with at least one valid box.
        boxes: the valid boxes.
        num_left_out: number of invalid boxes: empty, or larger than their image.
    """

    kind: str
    num_images: int
    boxes: tuple[Box, ...]
    num_left_out: int = 0

    def long_sides_px(self, input_size: tuple[int, int]) -> list[float]:
        """The longer side of every box in pixels, ascending, for images resized to ``input_size`` (height, width)."""
        height, width = input_size
        return sorted(max(box.height * height, box.width * width) for box in self.boxes)

    def object_px(self, input_size: tuple[int, int], quantile: float = OBJECT_QUANTILE) -> int:
        """The quantile of the objects' longer sides, in whole pixels of an input of ``input_size`` (height, width)."""
        sides = self.long_sides_px(input_size)
        return max(1, math.ceil(sides[math.ceil(quantile * len(sides)) - 1] - 1e-9))

    def sentence(self, input_size: tuple[int, int]) -> str:
        """The number and sizes of the objects, as a phrase.

        >>> Boxes("YOLO", 1, (Box(0.5, 0.25), Box(0.1, 0.1))).sentence((100, 200))
        'objects: 2 boxes in 1 image (YOLO); their longer side on 100 x 200: half at most 20 px, 95 % at most 50 px'
        """
        boxes = write_number_of(len(self.boxes), "box", "boxes")
        return (
            f"objects: {boxes} in {write_number_of(self.num_images, 'image')} ({self.kind}); their longer side on {write_shape(input_size)}: "
            f"half at most {self.object_px(input_size, 0.5)} px, 95 % at most {self.object_px(input_size)} px"
            + (
                f"; {write_number_of(self.num_left_out, 'box', 'boxes')} of an impossible size left out"
                if self.num_left_out
                else ""
            )
        )


def read_boxes(path: str | Path) -> Boxes:
    """Read the boxes at a path.

    Args:
        path: a folder of Pascal VOC or YOLO files (with subfolders), a COCO file, or a table.

    Raises:
        DataError: there are no boxes, or a file is damaged; the message names it.
    """
    place = Path(path)
    if not place.exists():
        raise DataError("there is no such file or folder of boxes.", where=str(path))
    kind, reader, files = _format(place)
    boxes: list[Box] = []
    images: set[str] = set()
    num_left_out = 0
    for file in files:
        try:
            for image, box in reader(file):
                if box.is_possible:
                    images.add(image)
                    boxes.append(box)
                else:
                    num_left_out += 1
        except (ElementTree.ParseError, UnicodeDecodeError, json.JSONDecodeError, csv.Error, OSError) as error:
            raise DataError(f"this file of boxes cannot be read ({error}).", where=str(file)) from error
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise DataError(
                f"this is not a {kind} file of boxes, or it is damaged ({_describe_error(error)}).", where=str(file)
            ) from error
    if not boxes:
        raise DataError(f"no box was found. {_FORMATS}", where=str(path))
    return Boxes(kind, len(images), tuple(boxes), num_left_out)


_Reader = Callable[[Path], Iterator[tuple[str, Box]]]
_NO_BOX = Box(0.0, 0.0)


def _format(place: Path) -> tuple[str, _Reader, list[Path]]:
    if place.is_dir():
        every = [file for file in sorted(place.rglob("*")) if not _is_ignored(file.relative_to(place))]
        for suffix, kind, reader, is_meant in (
            (".xml", "Pascal VOC", _read_voc, _is_voc),
            (".txt", "YOLO", _read_yolo, _is_yolo),
            (".json", "COCO", _read_coco, _is_coco),
        ):
            files = [file for file in every if file.suffix.lower() == suffix and is_meant(file)]
            if files:
                return kind, partial(_read_pose, reader) if kind == "YOLO" and _has_keypoints(place) else reader, files
        raise DataError(f"there is no file of boxes. {_FORMATS}", where=str(place))
    known: dict[str, tuple[str, _Reader]] = {
        ".json": ("COCO", _read_coco), ".csv": ("table", _read_table), ".tsv": ("table", _read_table),
        ".xml": ("Pascal VOC", _read_voc), ".txt": ("YOLO", _read_yolo),
    }  # fmt: skip
    if place.suffix.lower() not in known:
        raise DataError(f"this is not a file of boxes. {_FORMATS}", where=str(place))
    return *known[place.suffix.lower()], [place]


def _is_ignored(file: Path) -> bool:
    """Whether a file is hidden or a system file, or lists images instead of boxes (VOC's ImageSets)."""
    return any(part.startswith((".", "@")) or part in ("__MACOSX", "ImageSets") for part in file.parts)


def _is_voc(file: Path) -> bool:
    """Whether the root of an XML file is ``annotation``. Unparsable files count too, so that reading them reports the damage."""
    try:
        return ElementTree.fromstring(file.read_bytes()).tag == "annotation"
    except (ElementTree.ParseError, OSError):
        return True


def _is_yolo(file: Path) -> bool:
    """Whether a text file has a line of numbers, or is empty (an image without objects)."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return True
    filled = [line for line in lines if line.strip()]
    return not filled or any(len(words := line.split()) > 1 and all(map(_is_number, words)) for line in filled)


def _is_coco(file: Path) -> bool:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and "images" in facts and "annotations" in facts


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read_voc(file: Path) -> Iterator[tuple[str, Box]]:
    """Everingham et al. 2010: ``annotation/size`` and ``annotation/object/bndbox``, in pixels. Parts of objects are ignored."""
    root = ElementTree.fromstring(file.read_bytes())
    objects = root.findall("object")
    if not objects:
        return
    width, height = (_number(root.find(f"size/{name}"), name) for name in ("width", "height"))
    for element in objects:
        found = element.find("bndbox")
        if found is None:
            yield str(file), _NO_BOX
            continue
        xmin, ymin, xmax, ymax = (_number(found.find(name), name) for name in ("xmin", "ymin", "xmax", "ymax"))
        yield str(file), _box(ymax - ymin, xmax - xmin, height, width)


def _number(element: ElementTree.Element | None, name: str) -> float:
    if element is None or element.text is None:
        raise ValueError(f"no {name}")
    return float(element.text)


def _read_coco(file: Path) -> Iterator[tuple[str, Box]]:
    """Lin et al. 2014: ``images`` with their sizes, ``annotations`` with ``bbox`` = x, y, width, height in pixels."""
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    sizes = {image["id"]: (float(image["height"]), float(image["width"])) for image in facts["images"]}
    for annotation in facts["annotations"]:
        if not annotation.get("bbox"):
            yield str(annotation["image_id"]), _NO_BOX
            continue
        _, _, width, height = (float(value) for value in annotation["bbox"])
        yield str(annotation["image_id"]), _box(height, width, *sizes[annotation["image_id"]])


def _read_yolo(file: Path) -> Iterator[tuple[str, Box]]:
    """Lines with a class, then fractions of the image: center x, center y, width, height and possibly a confidence; or polygon corners."""
    for numbers in _yolo_lines(file):
        if len(numbers) in (5, 6):
            yield str(file), _box(numbers[4], numbers[3], 1.0, 1.0)
        elif len(numbers) >= 7 and len(numbers) % 2 == 1:
            xs, ys = numbers[1::2], numbers[2::2]
            yield str(file), _box(max(ys) - min(ys), max(xs) - min(xs), 1.0, 1.0)
        else:
            raise ValueError(f"a line of {len(numbers)} numbers is neither a class with 4 numbers, nor one with a polygon")


def _read_pose(_: _Reader, file: Path) -> Iterator[tuple[str, Box]]:
    """Lines with a class, a box and keypoints, as in YOLO pose datasets."""
    for numbers in _yolo_lines(file):
        yield str(file), _box(numbers[4], numbers[3], 1.0, 1.0)


def _yolo_lines(file: Path) -> Iterator[list[float]]:
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            yield [float(word) for word in line.split()]


def _has_keypoints(folder: Path) -> bool:
    """Whether the YAML file of a YOLO dataset, in the folder or up to two levels above, declares keypoints."""
    for place in (folder, folder.parent, folder.parent.parent):
        for file in sorted(place.glob("*.y*ml")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if "kpt_shape" in file.read_text(encoding="utf-8"):
                    return True
    return False


def _read_table(file: Path) -> Iterator[tuple[str, Box]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        delimiter = find_delimiter(text.readline(), _TABLE)
        text.seek(0)
        rows = csv.DictReader(text, delimiter=delimiter)
        rows.fieldnames = [_HEADS.get(head.strip().lower(), head.strip().lower()) for head in rows.fieldnames or ()]
        absent = [name for name in _TABLE if name not in rows.fieldnames]
        if absent:
            raise ValueError(f"no column {', '.join(absent)}")
        for row in rows:
            xmin, ymin, xmax, ymax, width, height = (float(row[name]) for name in _TABLE[1:])
            yield row["path"], _box(ymax - ymin, xmax - xmin, height, width)


def _box(height: float, width: float, image_height: float, image_width: float) -> Box:
    return Box(height / image_height, width / image_width)


def _describe_error(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
