"""The inversion of label smoothing: what the calibration of a run, the graph of a bundle and its answers without PyTorch have in common."""

from __future__ import annotations

from typing import Final

TRANSITION: Final = 0.1
"""Width of the smooth transition to 0 in the inversion of label smoothing, relative to the smallest smoothed probability."""
