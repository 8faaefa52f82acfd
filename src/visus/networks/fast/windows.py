"""How the taps of a convolution lie.

This file knows strides and paddings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TapGeometry:
    """How the taps lie on each axis; ``dilation`` is 1."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
