"""Learning-rate schedule: warm-up, then linear or cosine decay."""

from __future__ import annotations

import math


def rate_factor(progress: float, *, schedule: str, warmup: float, min_lr_ratio: float = 0.0) -> float:
    """The learning rate as a fraction of the highest: a linear warm-up from 0, then a decay to ``min_lr_ratio``.

    Args:
        progress: fraction of the training that is done, 0 to 1.
        schedule: shape of the decay, ``linear`` or ``cosine``.
        warmup: length of the warm-up as a fraction of the training, below 1.
        min_lr_ratio: final learning rate as a fraction of the highest.

    >>> [round(rate_factor(share, schedule="linear", warmup=0.2), 2) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    done = min(1.0, (progress - warmup) / (1 - warmup))
    decay = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return min_lr_ratio + (1 - min_lr_ratio) * decay
