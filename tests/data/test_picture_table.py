"""Rows of samples as one PNG file: every sample in its place, whatever its kind."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from visus.data.contact_sheet import Captioned
from visus.data.picture_table import SIDE_PX, draw_table


def drawn(*rows: list[np.ndarray], heading: tuple[str, ...] = ()) -> np.ndarray:
    """The pixels of a table of samples without captions."""
    table = draw_table(heading, [[Captioned(values, "", "") for values in row] for row in rows])
    return np.asarray(Image.open(io.BytesIO(table)).convert("RGB"))


def test_samples_stand_in_their_rows_and_columns() -> None:
    colors = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    images = [np.tile(color[:, None, None], (1, 12, 12)) for color in colors]
    table = drawn(images[:2], images[2:])
    column, row = table.shape[1] // 2, table.shape[0] // 2
    for number, color in enumerate(colors):
        middle = table[row * (number // 2) + row // 2, column * (number % 2) + column // 2]
        assert (middle == 255 * color).all()


def test_small_images_are_enlarged_by_a_whole_number_and_large_ones_reduced() -> None:
    small = drawn([np.zeros((1, 20, 20))])
    assert int((small[:, :, 0] == 0).all(0).sum()) == 0
    assert int((small[:, :, 0] == 0).any(0).sum()) == SIDE_PX // 20 * 20
    large = drawn([np.zeros((1, 600, 300))])
    assert int((large[:, :, 0] == 0).any(1).sum()) <= SIDE_PX


def test_signals_are_curves_and_volumes_their_middle_slice() -> None:
    signal = drawn([np.stack([np.linspace(0, 1, 500)])])
    dark = np.argwhere(signal[:, :, 0] < 50)
    assert dark[:, 0].max() - dark[:, 0].min() > SIDE_PX // 2 - 5, "a ramp crosses the whole height"
    volume = np.ones((1, 5, 10, 10))
    volume[0, 2] = 0
    assert int((drawn([volume])[:, :, 0] == 0).sum()) == (SIDE_PX // 10 * 10) ** 2


def test_long_headings_are_wrapped_and_long_captions_shortened() -> None:
    image = np.zeros((1, 10, 10))
    assert drawn([image], heading=("a word " * 30,)).shape[0] > drawn([image], heading=("a word",)).shape[0] + 50
    table = draw_table([], [[Captioned(image, "a caption that is much longer than its image " * 3, "")]])
    assert Image.open(io.BytesIO(table)).width == Image.open(io.BytesIO(draw_table([], [[Captioned(image, "", "")]]))).width


def test_values_that_are_no_numbers_are_drawn() -> None:
    assert drawn([np.full((1, 8, 8), np.nan)]).min() == 0
