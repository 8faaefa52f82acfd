"""Facts from image headers, and data opened for a pretrained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.data.opened import open_data
from visus.data.survey import InputSpec, Survey


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve gray and twelve color images of 20 x 30 pixels."""
    rng = np.random.default_rng(0)
    for label, shape in (("color", (20, 30, 3)), ("gray", (20, 30))):
        (tmp_path / label).mkdir()
        for number in range(12):
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / label / f"{number:02}.png")
    return tmp_path


def test_the_survey_knows_sizes_color_and_the_training_split(photos: Path) -> None:
    asked: list[Survey] = []
    opened = open_data(photos, img_size=(16, 24), choose_input=asked.append)
    (seen,) = asked
    assert (seen.sizes, seen.has_color, seen.wanted_size) == (((20, 30),) * 24, True, (16, 24))
    assert (seen.num_training, seen.short_side_px, seen.is_varied) == (len(opened.split("train")), 20, False)
    assert (opened.input_shape, opened.preprocessing.normalize) == ((3, 16, 24), "mean-deviation")


def test_images_are_read_as_the_network_needs_them_and_gray_ones_are_on_the_ledger(photos: Path) -> None:
    suited = InputSpec(3, (32, 32), (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
    opened = open_data(photos, choose_input=lambda seen: suited)
    plan = opened.preprocessing
    assert (plan.normalize, plan.input_shape, plan.offset, plan.divisor) == (
        "fixed",
        (3, 32, 32),
        (127.0,) * 3,
        (128.0,) * 3,
    )
    assert opened.ledger.counts["gray made color"] == 12
    rows = opened.split("train").rows(np.arange(3))
    assert float((plan.scaled(rows) - (rows.float() - 127) / 128).abs().max()) < 1e-6


def test_no_header_returns_no_short_side() -> None:
    assert Survey(0, (), False).short_side_px == 0
