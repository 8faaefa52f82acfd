"""A contact sheet of samples for notebooks: small drawings with captions.

Its HTML has no style sheet and sets no colors but those of the images, so it is readable in a dark notebook too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from visus.data.images.drawing import as_image, block_means, png
from visus.data.tasks import label_text

MAX_SAMPLES: Final = 24
MAX_BYTES: Final = 300_000  # of the drawings of one sheet, as they stand in the HTML
_SIDE: Final = 64
_CURVE_PX: Final = (120, 48)
_MAX_CURVES: Final = 4
_MAX_POINTS: Final = 120


@dataclass(frozen=True)
class Captioned:
    """A sample of a sheet.

    Args:
        values: stored values, (channels, *spatial); None if they are unknown, as those of a file that cannot be read.
        caption: the words below it, such as its class.
        name: its name, which is shown when the pointer rests on it.
    """

    values: npt.NDArray[Any] | None
    caption: str
    name: str


def label_caption(label: Any, task: str, classes: Sequence[str]) -> str:
    """A label as a caption: classes after commas, ``none`` for an empty set, numbers with at most six digits.

    >>> label_caption(np.array([43.144132653061, 2.0]), "regression", ["x", "y"])
    '43.1441, 2'
    >>> label_caption(np.array([0.0, 0.0]), "multi-label", ["cat", "dog"])
    'none'
    """
    if task == "regression":
        return ", ".join(f"{value:.6g}" for value in label)
    return label_text(label, task, classes, separator=", ") or "none"


def contact_sheet(title: str, samples: Sequence[Captioned]) -> str:
    """The samples as HTML; an image is drawn as block means if it is large, a signal as curves, a volume as its middle slice.

    Samples beyond ``MAX_SAMPLES``, and those whose drawings would exceed ``MAX_BYTES``, are left out.

    Args:
        title: the words above it.
        samples: the samples; none make an empty text.

    >>> sheet = contact_sheet("2 images", [Captioned(np.zeros((1, 2, 2), np.uint8), "cat", "a.png")])
    >>> sheet.count("<img"), "cat" in sheet
    (1, True)
    """
    lowest, highest = _value_range([each.values for each in samples[:MAX_SAMPLES] if each.values is not None])
    figures: list[str] = []
    for each in samples[:MAX_SAMPLES]:
        figure = _figure(each, lowest, highest)
        if sum(map(len, figures)) + len(figure) > MAX_BYTES:
            break
        figures.append(figure)
    if not figures:
        return ""
    row = f'<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-end">{"".join(figures)}</div>'
    return f'<div style="margin:8px 0"><div style="margin:4px 0">{escape(title)}</div>{row}</div>'


def spread(labels: npt.NDArray[np.int64], count: int = MAX_SAMPLES) -> npt.NDArray[np.int64]:
    """Places of at most ``count`` samples: the first one of each class, then the second ones, and so on; sorted by class.

    >>> spread(np.array([0, 0, 0, 1, 2, 2]), 4).tolist()
    [0, 1, 3, 4]
    """
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    ranks = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    chosen = np.sort(np.argsort(ranks, kind="stable")[:count])
    places: npt.NDArray[np.int64] = order[chosen].astype(np.int64)
    return places


def _value_range(samples: Iterable[npt.NDArray[Any]]) -> tuple[float, float]:
    """The values that are drawn black and white: 0 and 255 for 8-bit samples, else the extremes of all of them."""
    arrays = list(samples)
    if not arrays or all(each.dtype == np.uint8 for each in arrays):
        return 0.0, 255.0
    finite = [found for each in arrays if (found := each[np.isfinite(each)]).size]
    return min((float(each.min()) for each in finite), default=0.0), max((float(each.max()) for each in finite), default=1.0)


def _figure(sample: Captioned, lowest: float, highest: float) -> str:
    drawn, width = _drawing(sample, lowest, highest)
    style = f"margin:0;width:{max(width, _SIDE)}px;overflow-wrap:anywhere"
    caption = f'<figcaption style="font-size:smaller">{escape(sample.caption)}</figcaption>'
    return f'<figure style="{style}" title="{escape(sample.name)}">{drawn}{caption}</figure>'


def _drawing(sample: Captioned, lowest: float, highest: float) -> tuple[str, int]:
    """The sample without its caption, and its width in pixels."""
    if sample.values is None:
        return "", _CURVE_PX[0]
    values = np.nan_to_num(sample.values.astype(np.float64), posinf=highest, neginf=lowest)
    if values.ndim == 2:
        return _curves(values, lowest, highest, sample.name), _CURVE_PX[0]
    if values.ndim == 4:
        values = values[:, values.shape[1] // 2]
    small = block_means(as_image(values, lowest, highest), _SIDE)
    times = max(1, _SIDE // max(small.shape[:2]))
    height, width = small.shape[0] * times, small.shape[1] * times
    content = base64.b64encode(png(small)).decode("ascii")
    style = f"image-rendering:pixelated;width:{width}px;height:{height}px;max-width:none;margin:0"
    return f'<img alt="{escape(sample.name)}" style="{style}" src="data:image/png;base64,{content}">', width


def _curves(values: npt.NDArray[np.float64], lowest: float, highest: float, name: str) -> str:
    """The channels of a signal as lines in the color of the text."""
    width, height = _CURVE_PX
    places = np.unique(np.linspace(0, values.shape[1] - 1, min(values.shape[1], _MAX_POINTS)).round().astype(int))
    x = places / max(values.shape[1] - 1, 1) * width
    lines = []
    for line in values[:_MAX_CURVES]:
        y = (1 - (line[places] - lowest) / ((highest - lowest) or 1.0)) * (height - 2) + 1
        points = " ".join(f"{across:.4g},{down:.4g}" for across, down in zip(x, y, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-opacity="0.8"/>')
    return f'<svg role="img" aria-label="{escape(name)}" width="{width}" height="{height}">{"".join(lines)}</svg>'
