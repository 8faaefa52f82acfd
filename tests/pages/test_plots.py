"""PNG images: readable files for any number of classes, whole or not there, and no trace in the program's own plots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from facts_of_runs import made_up_facts, made_up_scores
from PIL import Image

from visus.errors import DataError
from visus.pages.parts.confusion import draw_confusion
from visus.pages.parts.training_curves import draw_curves


def strongest_blue(path: Path) -> int:
    """Pixels of the confusion's strongest color."""
    with Image.open(path) as image:
        return sum(count for count, color in image.convert("RGB").getcolors(1 << 24) if color == (8, 48, 107))


@pytest.mark.parametrize("num_classes", [2, 20, 130])
def test_the_confusion_is_drawn_for_few_and_many_classes(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "confusion.png"
    draw_confusion(made_up_scores(num_classes, num_samples=520, num_wrong=0), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 300
        assert max(image.size) <= 2000
    assert strongest_blue(path) > 2000


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    classes = ["$x_{$", "世界", "a very long name that goes on and on and on and on"]
    draw_confusion(made_up_scores(classes=classes), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 5000


def test_the_same_facts_give_the_same_image(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curves(made_up_facts().history, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "rows", [[{"epoch": 1, "train_loss": 0.5}], [{"epoch": "1", "val_loss": "", "val_accuracy": "0.5"}]]
)
def test_curves_are_drawn_from_what_there_is(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    draw_curves(rows, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1152, 432)


def test_curves_without_an_epoch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        draw_curves([], tmp_path / "curves.png")
    assert str(caught.value) == "there are no curves to draw: no epoch was finished."


def test_drawing_leaves_the_programs_own_plots_alone(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    draw_confusion(made_up_scores(), tmp_path / "confusion.png")
    assert dict(mpl.rcParams) == settings
    code = (
        "import sys; from visus.pages import card; from visus.pages.parts import plots; from visus.pages.report import page; print('matplotlib' in sys.modules);"
        "print('torchmetrics' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]
