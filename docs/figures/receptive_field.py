"""What one unit of a trained network sees of an image: its theoretical, exact and effective receptive field."""

from __future__ import annotations

import base64
import math
from typing import Final

import numpy as np
import torch

import visus
from figures.figure import Figure
from figures.sailboat import SIDE, sailboat
from visus.data.images.drawing import Pixels, png
from visus.examine.effective_fields import EffectiveField, effective_field_sampled
from visus.examine.layer_calls import Box
from visus.networks.pretrained import DEFAULT
from visus.pages.look.fields import write_lengths
from visus.units import write_size

LAYER: Final = "stage5.block1.conv2"
POSITION: Final = (4, 9)
CHANNEL: Final = 2
"""The channel with the highest value at this position of this image."""

CARRIED: Final = 0.9
MARGIN: Final = 14
"""Pixels around the image and around the theoretical field, on each side."""


def draw() -> Figure:
    """Three panels: what the unit could read, what it reads, and what moves it."""
    drawn = sailboat()
    found = _effective(drawn)
    box = found.box
    fields = [field.theoretical(index) for field, index in zip(found.traced.fields(LAYER), POSITION, strict=True)]
    assert box is not None, "the unit reads more than padding"
    theoretical = tuple(ends for ends in fields if ends is not None)
    view = _view(theoretical)
    num_carrying, in_box = _num_carrying(found), math.prod(_lengths(box))
    share = f"{100 * num_carrying / in_box:.0f}\u00a0%"
    panels = [
        _panel(
            "Theoretical",
            f"{write_size(_lengths(theoretical))}",
            "All windows up to this layer, added up. A part of it lies beyond the image, in the padding.",
            drawn,
            view,
            theoretical,
            "theoretical",
        ),
        _panel(
            "Exact",
            f"{write_size(_lengths(box))}",
            "The pixels that can change this unit at all. No other pixel can.",
            drawn,
            view,
            box,
            "exact",
        ),
        _panel(
            "Effective",
            f"\u00b1 {write_lengths(found.deviation_px)} px",
            f"One standard deviation of the squared gradient; 90\u00a0% of it lies in {share} of the exact field.",
            _heated(drawn, found),
            view,
            box,
            "faint",
        ),
    ]
    row, column = POSITION
    lead = (
        f"<h2>What does one unit see?</h2><p>Channel {CHANNEL} of <code>{LAYER}</code> at row {row}, column {column}; "
        f"EfficientNet-Lite0, trained on ImageNet; an image of {SIDE} x {SIDE}\u00a0px</p>"
    )
    values = {
        "theoretical": max(_lengths(theoretical)) / SIDE,
        "exact": max(_lengths(box)) / SIDE,
        "effective": max(found.deviation_px) / SIDE,
        "carrying": num_carrying / in_box,
    }
    return Figure(f'<div class="fields">{lead}<div class="panels">{"".join(panels)}</div></div>', width=1000, values=values)


def _effective(drawn: Pixels) -> EffectiveField:
    """The unit's effective receptive field on the image, in the network with its ImageNet weights."""
    network = visus.network("efficientnet_lite(0)", (3, SIDE, SIDE), 1000)
    start = DEFAULT.initial_weights(network)
    start.load_into(network)
    scale = start.normalization
    assert scale is not None, "these weights come with the normalization of their training"
    offset, divisor = (torch.tensor(each).reshape(3, 1, 1) for each in (scale.offset, scale.divisor))
    image = (torch.from_numpy(drawn.copy()).permute(2, 0, 1).float() - offset) / divisor
    return effective_field_sampled(network.eval(), image[None], LAYER, POSITION, CHANNEL)


def _num_carrying(found: EffectiveField) -> int:
    """The smallest number of pixels that carry 90 % of the squared strength."""
    energy = np.sort(np.square(found.strength), axis=None)[::-1].cumsum()
    return int(np.searchsorted(energy, CARRIED * energy[-1])) + 1


def _heated(drawn: Pixels, found: EffectiveField) -> Pixels:
    """The image in pale gray, with the effective field in orange."""
    gray = drawn.mean(axis=2, keepdims=True) * 0.55 + 100
    strength = np.clip(found.strength / np.quantile(found.strength, 0.998), 0, 1)[..., None] ** 0.6
    mixed: Pixels = np.rint(gray * (1 - strength) + np.array([226.0, 74.0, 10.0]) * strength).astype(np.uint8)
    return mixed


def _lengths(box: Box) -> tuple[int, ...]:
    return tuple(last - first + 1 for first, last in box)


def _view(theoretical: Box) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part of the plane that is drawn: the image and the theoretical field."""
    (top, bottom), (left, right) = ((min(0, first) - MARGIN, max(SIDE - 1, last) + MARGIN) for first, last in theoretical)
    return left, top, right - left + 1, bottom - top + 1


def _panel(title: str, size: str, words: str, pixels: Pixels, view: tuple[int, int, int, int], box: Box, style: str) -> str:
    (top, bottom), (left, right) = box
    x, y, width, height = view
    content = base64.b64encode(png(pixels)).decode("ascii")
    drawing = (
        f'<svg viewBox="{x} {y} {width} {height}"><rect class="ground" x="{x}" y="{y}" width="{width}" height="{height}"/>'
        f'<image href="data:image/png;base64,{content}" x="0" y="0" width="{SIDE}" height="{SIDE}"/>'
        f'<rect class="box {style}" x="{left}" y="{top}" width="{right - left + 1}" height="{bottom - top + 1}"/></svg>'
    )
    return f"<figure>{drawing}<h3>{title}</h3><strong>{size}</strong><p>{words}</p></figure>"
