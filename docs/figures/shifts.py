"""The accuracy of two small networks when the object moves: with a flatten and strided pooling, and antialiased with global pooling.

The images are the packaged ones on a larger black canvas, so an object can move and stay whole. Both networks were trained on
objects in the middle (``training``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

import visus
from figures.figure import Figure
from figures.runs import FOLDER
from visus.data.images.drawing import png
from visus.data.preprocessing import Preprocessing
from visus.evaluation.intervals import wilson_interval
from visus.evaluation.predictions import predict_logits
from visus.networks import weights

ROOM_PX: Final = 6
"""Pixels of canvas on each side of an image, and the largest shift."""

NUM_IMAGES, FEWER_IMAGES = 1000, 250
RUNS: Final = {
    "antialiased": ("global pooling, antialiased", "plain"),
    "flatten": ("flatten, pooling with stride 2", "warm"),
}
"""The runs by the names of their folders, each with its words and its style class."""

SHOWN: Final = "Sandal"

_WIDTH, _HEIGHT = 920, 352
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 250, 34, 10
_IMAGE_PX: Final = 86


@dataclass(frozen=True)
class Curve:
    """The accuracy of one run by the shift of the object, with its 95 % intervals; fractions.

    Args:
        name: name of the run's folder.
        accuracy, low, high: one value for each shift.
    """

    name: str
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def draw(num_images: int = NUM_IMAGES) -> Figure:
    """A curve for each network over images that show each shift, measured on the first images of the test set."""
    data = visus.open_data()
    part = data.split("test")
    stored = part.rows(np.arange(num_images))
    labels = torch.from_numpy(part.labels[:num_images])
    shifts = range(-ROOM_PX, ROOM_PX + 1)
    curves = [_measure(name, stored, labels, shifts) for name in RUNS]
    shown = stored[int((labels == data.classes.index(SHOWN)).nonzero()[0])]
    drops = {curve.name: curve.accuracy[ROOM_PX] - (curve.accuracy[0] + curve.accuracy[-1]) / 2 for curve in curves}
    words = (
        f"<h2>Does it move with the image?</h2><p>When objects move by {ROOM_PX} pixels, one network loses {100 * drops['flatten']:.0f} points of "
        f"accuracy, and the other {100 * drops['antialiased']:.0f}.<br>Both have the same convolutions and were trained on the same images.</p>"
    )
    drawing = _chart(curves, shifts) + _strip(shown, shifts)
    legend = (
        "Bands: 95 % intervals, "
        + f"{num_images:,} held-out images of Fashion-MNIST on a canvas of {28 + 2 * ROOM_PX} x {28 + 2 * ROOM_PX}\u00a0px"
    )
    body = f'<div class="shifts">{words}<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 130}">{drawing}</svg><p class="note">{legend}</p></div>'
    values = {
        f"{curve.name} {shift:+d} px": value for curve in curves for shift, value in zip(shifts, curve.accuracy, strict=True)
    }
    return Figure(body, width=1000, values=values)


def draft() -> Figure:
    """The same figure from fewer images."""
    return draw(FEWER_IMAGES)


def on_canvas(stored: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Stored images, (N, C, height, width), on a black canvas, moved to the right by ``shift`` pixels."""
    padding = (ROOM_PX + shift, ROOM_PX - shift, ROOM_PX, ROOM_PX)
    return torch.nn.functional.pad(stored, padding)


def _measure(name: str, stored: torch.Tensor, labels: torch.Tensor, shifts: Sequence[int]) -> Curve:
    """The accuracy of a run's network, in float32."""
    tensors, metadata = weights.load(FOLDER / name / "weights" / "best.safetensors")
    facts = json.loads(metadata["visus"])
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    design = (FOLDER / name / "design.txt").read_text("utf-8")
    network = visus.network(design, preprocessing.input_shape, len(facts["classes"])).eval()
    weights.fit_weights(network, tensors)
    values = []
    for shift in shifts:
        batch = preprocessing.scale_values(on_canvas(stored, shift))
        logits = predict_logits(network, torch.split(batch, 250), device="cpu")
        num_right = int((logits.argmax(dim=1) == labels).sum())
        values.append((num_right / len(labels), *wilson_interval(num_right, len(labels))))
    accuracy, low, high = zip(*values, strict=True)
    return Curve(name, accuracy, low, high)


def _across(shift: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (shift + ROOM_PX) / (2 * ROOM_PX)


def _chart(curves: Sequence[Curve], shifts: Sequence[int]) -> str:
    """Grid, bands, lines and their names, on a scale of accuracy from a round number to 100 %."""
    lowest = np.floor(10 * min(min(curve.low) for curve in curves)) / 10

    def down(value: float) -> float:
        return float(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value) / (1 - lowest))

    parts = [f'<text class="tick" x="0" y="{_TOP - 18}">Accuracy</text>']
    for tick in np.arange(lowest, 1.01, 0.1 if lowest > 0.45 else 0.2):
        y = down(float(tick))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_across(ROOM_PX):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 10}" y="{y + 5:.1f}" text-anchor="end">{100 * tick:.0f} %</text>')
    for curve in curves:
        words, style = RUNS[curve.name]
        upper = [f"{_across(shift):.1f},{down(value):.1f}" for shift, value in zip(shifts, curve.high, strict=True)]
        lower = [f"{_across(shift):.1f},{down(value):.1f}" for shift, value in zip(shifts, curve.low, strict=True)]
        line = [f"{_across(shift):.1f},{down(value):.1f}" for shift, value in zip(shifts, curve.accuracy, strict=True)]
        parts.append(f'<polygon class="band {style}" points="{" ".join([*upper, *reversed(lower)])}"/>')
        parts.append(f'<polyline class="line {style}" points="{" ".join(line)}"/>')
        x, y = _across(ROOM_PX) + 16, down(curve.accuracy[-1])
        parts.append(f'<text class="name {style}" x="{x:.1f}" y="{y - 4:.1f}">{100 * curve.accuracy[-1]:.0f} %</text>')
        parts.append(f'<text class="kind {style}" x="{x:.1f}" y="{y + 17:.1f}">{words}</text>')
    return "".join(parts)


def _strip(shown: torch.Tensor, shifts: Sequence[int]) -> str:
    """The same object at five of the shifts, below their places on the axis."""
    parts = []
    for shift in (shifts[0], shifts[0] // 2, 0, shifts[-1] // 2, shifts[-1]):
        pixels = on_canvas(shown[None], shift)[0, 0].numpy().astype(np.uint8)
        content = base64.b64encode(png(np.repeat(pixels[..., None], 3, axis=2))).decode("ascii")
        x, y = _across(shift), _HEIGHT + 10
        parts.append(
            f'<image href="data:image/png;base64,{content}" x="{x - _IMAGE_PX / 2:.1f}" y="{y}" width="{_IMAGE_PX}" height="{_IMAGE_PX}"/>'
        )
        words = "in the middle" if shift == 0 else f"{abs(shift)} px {'left' if shift < 0 else 'right'}"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + _IMAGE_PX + 24}" text-anchor="middle">{words}</text>')
    return "".join(parts)
