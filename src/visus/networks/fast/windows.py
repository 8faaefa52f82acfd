"""Stride and padding of a convolution."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TapGeometry:
    """Stride and padding on each spatial axis; the dilation is 1."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
