"""A warning where the values of arrays lie far outside those of the training samples."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.data.preprocessing import Preprocessing

MAX_DEVIATIONS: Final = 20.0
"""Number of standard deviations of the training samples (or of their ranges) beyond which values are warned of."""
MIN_SPREAD: Final = 1 / 50
"""Standard deviation of all values below which they are warned of, as a share of that of the training samples."""
SCALED: Final = "If they are scaled differently, scale them as the training samples were."


def range_warning(values: NDArray[Any], preprocessing: Preprocessing) -> str:
    """A sentence where floating-point values lie far outside those of the training samples, or spread much less; else empty. The values are used as they are.

    Up to 1 % of the values may lie anywhere at each end, as peaks of spectrograms do.

    Args:
        values: samples of any axes.
        preprocessing: that of the network; it has the mean and the standard deviation of the training samples, or their range.
    """
    if values.dtype.kind != "f" or not values.size or np.dtype(preprocessing.dtype).kind != "f":
        return ""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    inner = np.quantile(finite, (0.01, 0.99))
    pairs = list(zip(preprocessing.offset, preprocessing.divisor, strict=True))
    if preprocessing.normalize == "min-max":
        usual = min(offset for offset, _ in pairs), max(offset + divisor for offset, divisor in pairs)
    else:
        usual = (
            min(offset - 2 * divisor for offset, divisor in pairs),
            max(offset + 2 * divisor for offset, divisor in pairs),
        )
    lowest = min(offset - MAX_DEVIATIONS * divisor for offset, divisor in pairs)
    highest = max(offset + MAX_DEVIATIONS * divisor for offset, divisor in pairs)
    if lowest <= inner[0] and inner[1] <= highest and not 0 < finite.std() < MIN_SPREAD * min(preprocessing.divisor):
        return ""
    mostly = "" if preprocessing.normalize == "min-max" else "mostly "
    return (
        f"These values lie between {low:.3g} and {high:.3g}, and those of the training samples {mostly}between {usual[0]:.3g} and {usual[1]:.3g}. "
        f"{SCALED}"
    )
