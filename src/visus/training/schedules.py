"""How the learning rate goes with the progress of a training.

This file knows numbers between 0 and 1.
"""

from __future__ import annotations

import math


def rate_factor(progress: float, *, schedule: str, warmup: float, min_lr_ratio: float = 0.0) -> float:
    """The learning rate as a fraction of the highest: a straight rise over ``warmup``, then a fall to ``min_lr_ratio`` at the end.

    Args:
        progress: share of the training that is done, 0 to 1.
        schedule: ``linear`` or ``cosine``, the shape of the fall.
        warmup: share of the training in which the rate rises.
        floor: what is left at the end.

    >>> [round(rate_factor(share, schedule="linear", warmup=0.2), 2) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    done = min(1.0, (progress - warmup) / (1 - warmup))
    fallen = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return min_lr_ratio + (1 - min_lr_ratio) * fallen
