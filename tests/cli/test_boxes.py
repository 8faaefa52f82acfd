"""``visus summary --boxes``: the objects' own sizes decide what the last map must see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands import Call

NETWORK = "conv(8, 3), relu, globalpool, linear(classes)"


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Twenty boxes in images of 100 x 100, the n-th n px high."""
    rows = [f"p{number}.png,0,0,2,{number},100,100" for number in range(1, 21)]
    (tmp_path / "boxes.csv").write_text("path,xmin,ymin,xmax,ymax,width,height\n" + "\n".join(rows) + "\n")
    return tmp_path / "boxes.csv"


def test_the_size_that_most_objects_do_not_exceed_stands_for_object(boxes: Path, visus_command: Call) -> None:
    asked = ["summary", NETWORK, "--input", "3,50,50", "--classes", "2"]
    given, by_boxes = visus_command(*asked, "--object-size", "10"), visus_command(*asked, "--boxes", boxes)
    sentence = "objects: 20 boxes in 20 images (table); their longer side on 50 x 50: half at most 5 px, 95 % at most 10 px"
    assert by_boxes.out == f"{given.out}{sentence}\n"
    assert "3 px, 7 less than an object of 10 px" in by_boxes.out.replace("\n", " ")
    found = json.loads(visus_command(*asked, "--boxes", boxes, "--json").out)
    assert (found["objects"], found["object_px"]) == (sentence, 10)


def test_boxes_next_to_another_size_or_without_images_are_refused(boxes: Path, visus_command: Call) -> None:
    both = visus_command("summary", NETWORK, "--boxes", boxes, "--object-size", "3")
    assert (both.code, both.err) == (
        2,
        "error: --object-size and --boxes both say how large the objects are. Leave one out.\n",
    )
    line = visus_command("summary", NETWORK, "--boxes", boxes, "--input", "1,100")
    assert (line.code, line.err) == (
        2,
        "error: --boxes belong to images, and --input 1,100 is none. Leave them out, or give --object-size.\n",
    )
