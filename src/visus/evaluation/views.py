"""Several views of one item, whose answers are averaged: mirrored, and moved a little.

Shape letters: N items, C channels, * the spatial axes. This file knows batches of scaled numbers. It must not know networks, or which views
suit which data.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from visus.errors import UsageError, unknown_name

VIEWS = ("flip", "flip+shift", "none", "shift")
STEPS_PER_SIDE = 32  # a view is moved by one step of so many along each axis

_SENTENCES = {
    "flip": "Each answer is the mean over 2 views: the {noun} as it is, and mirrored left to right.",
    "shift": "Each answer is the mean over 3 views: the {noun} as it is (half of the weight), and moved a little both ways along all axes.",
    "flip+shift": "Each answer is the mean over 6 views: the {noun} as it is (half of the weight), and moved a little both ways along all "
    "axes; each also mirrored left to right.",
}


def views(batch: Tensor, kind: str = "none") -> Iterator[tuple[Tensor, float]]:
    """The views of a batch (N, C, *), each with its weight; the weights add up to 1.

    Moved views are shifted along all axes at once by a 32nd of each, at least one position, and filled with their reflection
    (Jordan 2024, arXiv:2404.00498, section 3.5).

    Args:
        batch: scaled items.
        kind: ``none``, ``flip``, ``shift`` or ``flip+shift``.

    Raises:
        UsageError: no such kind.

    >>> import torch
    >>> [(view[0, 0].tolist(), weight) for view, weight in views(torch.tensor([[[1.0, 2.0, 3.0]]]), "shift")]
    [([1.0, 2.0, 3.0], 0.5), ([2.0, 1.0, 2.0], 0.25), ([2.0, 3.0, 2.0], 0.25)]
    """
    if kind not in VIEWS:
        raise UsageError(unknown_name("tta", kind, VIEWS))
    moved = [(batch, 1.0)]
    if "shift" in kind:
        moved = [(batch, 0.5), *((each, 0.25) for each in _moved(batch))]
    for each, weight in moved:
        if "flip" in kind:
            yield each, weight / 2
            yield each.flip(-1), weight / 2
        else:
            yield each, weight


def num_views(kind: str) -> int:
    """How many times a network is run for each item.

    >>> [num_views(kind) for kind in VIEWS]
    [2, 6, 1, 3]
    """
    return (2 if "flip" in kind else 1) * (3 if "shift" in kind else 1)


def describe_views(kind: str, noun: str = "item") -> str:
    """A sentence for a reader of a result; empty for one view."""
    return _SENTENCES[kind].format(noun=noun) if kind in _SENTENCES else ""


def _moved(batch: Tensor) -> Iterator[Tensor]:
    """The batch moved one way along all axes, and the other."""
    size = batch.shape[2:]
    reach = [min(max(1, round(length / STEPS_PER_SIDE)), length - 1) for length in size]
    padded = F.pad(batch, [each for steps in reversed(reach) for each in (steps, steps)], mode="reflect")
    for way in (0, 2):
        places = [slice(way * steps, way * steps + length) for steps, length in zip(reach, size, strict=True)]
        yield padded[(slice(None), slice(None), *places)]
