"""Rows of samples with captions as one PNG file, such as the original of a sample beside its augmented versions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from visus.data.contact_sheet import Captioned
from visus.data.images.drawing import as_image, block_means

SIDE_PX: Final = 144
_GAP_PX: Final = 8
_LINE_PX: Final = 16
_FONT_PX: Final = 12
_MAX_POINTS: Final = 400


def draw_table(heading: Sequence[str], rows: Sequence[Sequence[Captioned]]) -> bytes:
    """The samples as a PNG file: an image is drawn as block means if it is large and with large pixels if it is small, a signal as curves, a volume as
    its middle slice.

    Args:
        heading: lines of text above the samples; long ones are wrapped.
        rows: the samples; every row has equally many. Their values are 0 (black) to 1 (white).

    >>> table = draw_table(["2 images"], [[Captioned(np.zeros((1, 2, 2)), "cat", "a"), Captioned(np.ones((3, 4, 4)), "dog", "b")]])
    >>> Image.open(io.BytesIO(table)).size
    (312, 200)
    """
    font = ImageFont.load_default(_FONT_PX)
    drawn = [[_drawing(each) for each in row] for row in rows]
    width = max(image.width for row in drawn for image in row)
    heights = [max(image.height for image in row) for row in drawn]
    column_px = width + _GAP_PX
    whole_px = _GAP_PX + column_px * len(rows[0])
    lines = [line for text in heading for line in _wrapped(text, whole_px - 2 * _GAP_PX, font)]
    top = _GAP_PX + _LINE_PX * len(lines) + (_GAP_PX if lines else 0)
    sheet = Image.new("RGB", (whole_px, top + sum(height + _LINE_PX + _GAP_PX for height in heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((_GAP_PX, _GAP_PX + number * _LINE_PX), line, fill="black", font=font)
    for row, images, height in zip(rows, drawn, heights, strict=True):
        for column, (each, image) in enumerate(zip(row, images, strict=True)):
            left = _GAP_PX + column * column_px
            sheet.paste(image, (left, top))
            pen.text((left, top + height), _shortened(each.caption, width, font), fill="black", font=font)
        top += height + _LINE_PX + _GAP_PX
    content = io.BytesIO()
    sheet.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _drawing(sample: Captioned) -> Image.Image:
    """The sample, at most ``SIDE_PX`` wide and high."""
    assert sample.values is not None, "the values of every sample are known"
    values = np.nan_to_num(sample.values.astype(np.float64))
    if values.ndim == 2:
        return _curves(values)
    if values.ndim == 4:
        values = values[:, values.shape[1] // 2]
    small = block_means(as_image(values, 0.0, 1.0), SIDE_PX)
    times = max(1, SIDE_PX // max(small.shape[:2]))
    return Image.fromarray(small).resize((small.shape[1] * times, small.shape[0] * times), Image.Resampling.NEAREST)


def _curves(values: npt.NDArray[Any]) -> Image.Image:
    """The channels of a signal as lines."""
    height = SIDE_PX // 2
    image = Image.new("RGB", (SIDE_PX, height), "white")
    pen = ImageDraw.Draw(image)
    places = np.unique(np.linspace(0, values.shape[1] - 1, min(values.shape[1], _MAX_POINTS)).round().astype(int))
    for line in values:
        x = places / max(values.shape[1] - 1, 1) * (SIDE_PX - 1)
        y = (1 - np.clip(line[places], 0, 1)) * (height - 1)
        pen.line([*zip(x.tolist(), y.tolist(), strict=True)], fill="black")
    pen.rectangle((0, 0, SIDE_PX - 1, height - 1), outline="lightgray")
    return image


def _wrapped(text: str, width: float, font: Any) -> list[str]:
    """A text in lines of at most ``width`` pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shortened(text: str, width: float, font: Any) -> str:
    """A text of at most ``width`` pixels; a longer one ends with three dots."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
