"""Bounding boxes: the same sizes from every format, and an error for every damaged file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.data.boxes import Box, Boxes, read_boxes
from visus.errors import DataError

# Two images of 200 x 100 (width x height) with three boxes: 50 x 20, 10 x 40, 200 x 100; and one without a size.
IMAGES = {"a": [(10, 20, 60, 40), (5, 5, 15, 45)], "b": [(0, 0, 200, 100), (7, 7, 7, 9)]}
FOUND = ((0.2, 0.25), (0.4, 0.05), (1.0, 1.0))


def write_voc(folder: Path) -> Path:
    for name, boxes in IMAGES.items():
        objects = "".join(
            f"<object><name>x</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d in boxes
        )
        size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
        (folder / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return folder


def write_coco(folder: Path) -> Path:
    facts = {
        "images": [{"id": name, "width": 200, "height": 100} for name in IMAGES],
        "annotations": [
            {"image_id": name, "bbox": [a, b, c - a, d - b]} for name, boxes in IMAGES.items() for a, b, c, d in boxes
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(facts))
    return folder / "boxes.json"


def write_yolo(folder: Path) -> Path:
    for name, boxes in IMAGES.items():
        lines = [f"0 {(a + c) / 400} {(b + d) / 200} {(c - a) / 200} {(d - b) / 100}" for a, b, c, d in boxes]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("red cell\n")
    return folder


def write_table(folder: Path) -> Path:
    rows = [f"{name},{a},{b},{c},{d},200,100" for name, boxes in IMAGES.items() for a, b, c, d in boxes]
    (folder / "boxes.csv").write_text("path,xmin,ymin,xmax,ymax,width,height\n" + "\n".join(rows) + "\n")
    return folder / "boxes.csv"


@pytest.mark.parametrize(
    ("write", "kind"), [(write_voc, "Pascal VOC"), (write_coco, "COCO"), (write_yolo, "YOLO"), (write_table, "table")]
)
def test_every_format_returns_the_same_boxes(write: type, kind: str, tmp_path: Path) -> None:
    found = read_boxes(write(tmp_path))
    assert (found.kind, found.num_images, found.num_left_out) == (kind, 2, 1)
    assert [side for box in found.boxes for side in (box.height, box.width)] == pytest.approx(
        [side for each in FOUND for side in each]
    )
    assert found.long_sides_px((100, 200)) == pytest.approx([40, 50, 200])
    assert found.long_sides_px((200, 100)) == pytest.approx([40, 80, 200])
    assert (found.object_px((100, 200)), found.object_px((100, 200), 0.5)) == (200, 50)
    assert found.sentence((100, 200)) == (
        f"objects: 3 boxes in 2 images ({kind}); their longer side on 100 x 200: half at most 50 px, 95 % at most 200 px; "
        "1 box of an impossible size left out"
    )


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=60), st.floats(0.05, 1))
def test_the_quantile_of_objects_fits_and_no_smaller_whole_size_fits_it(sides: list[float], share: float) -> None:
    boxes = Boxes("YOLO", 1, tuple(Box(side, side / 2) for side in sides))
    size = boxes.object_px((300, 300), share)
    fitting = [sum(300 * side <= most + 1e-6 for side in sides) / len(sides) for most in (size, size - 1)]
    assert fitting[0] >= share - 1e-9
    assert size == 1 or fitting[1] < share


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.xml", "<annotation>", "this file of boxes cannot be read (no element found: line 1, column 12)."),
        (
            "a.xml",
            "<annotation><size/><object><bndbox/></object></annotation>",
            "this is not a Pascal VOC file of boxes, or it is damaged (no width).",
        ),
        (
            "a.json",
            "{",
            "this file of boxes cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)).",
        ),
        ("a.json", "{}", "this is not a COCO file of boxes, or it is damaged ('images' is missing)."),
        (
            "a.txt",
            "0 1 2",
            "this is not a YOLO file of boxes, or it is damaged (a line of 3 numbers is neither a class with 4 numbers, nor one with a polygon).",
        ),
        (
            "a.csv",
            "path,xmin\n",
            "this is not a table file of boxes, or it is damaged (no column ymin, xmax, ymax, width, height).",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_boxes(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {sentence}"


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    formats = (
        "Supported are a folder of Pascal VOC files (.xml), a COCO file (.json) or a folder with one, a folder of YOLO files (.txt), and a table (.csv) with the "
        "columns path,xmin,ymin,xmax,ymax,width,height."
    )
    (tmp_path / "notes.md").touch()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "none").mkdir()
    for path, sentence in (
        (tmp_path / "absent", "there is no such file or folder of boxes."),
        (tmp_path / "notes.md", f"this is not a file of boxes. {formats}"),
        (tmp_path / "none", f"there is no file of boxes. {formats}"),
        (tmp_path / "empty.txt", f"no box was found. {formats}"),
    ):
        with pytest.raises(DataError) as caught:
            read_boxes(path)
        assert str(caught.value) == f"{path}: {sentence}"
