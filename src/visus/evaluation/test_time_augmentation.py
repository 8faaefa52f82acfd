"""Several views of one sample, whose answers are averaged: mirrored, and moved a little, for all samples or for those that are hard to tell.

Shape letters: N samples, C channels, * the spatial axes. This file knows batches of scaled numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from visus.errors import UsageError, unknown_name

if TYPE_CHECKING:  # settings name the views, and they are read without torch
    from torch import Tensor

_ALL = ("flip", "flip+shift", "none", "shift")
_IF_UNSURE = "unsure:"
VIEWS = (*_ALL, "unsure:flip", "unsure:flip+shift", "unsure:shift")
STEPS_PER_SIDE = 32  # a view is moved by one step of so many along each axis
SURE = 0.5
"""Lead of the highest probability over the next from which one view will do. Measured on 8,000 held-out clothes: 9 % lie below it, and asking six
views of these alone gives the accuracy of asking six of all (95.1 %; one view 94.8 %)."""

_SENTENCES = {
    "flip": "2 copies of the {noun}: unchanged, and mirrored left to right",
    "shift": "3 copies of the {noun}: unchanged (half of the weight), and shifted a little both ways along all axes",
    "flip+shift": "6 copies of the {noun}: unchanged (half of the weight), and shifted a little both ways along all axes; each also mirrored "
    "left to right",
}


def views(batch: Tensor, kind: str = "none") -> Iterator[tuple[Tensor, float]]:
    """The views of a batch (N, C, *), each with its weight; the weights add up to 1.

    Moved views are shifted along all axes at once by a 32nd of each, at least one position, and filled with their reflection
    (Jordan 2024, arXiv:2404.00498, section 3.5).

    Args:
        batch: scaled samples.
        kind: ``none``, ``flip``, ``shift`` or ``flip+shift``.

    >>> import torch
    >>> [(view[0, 0].tolist(), weight) for view, weight in views(torch.tensor([[[1.0, 2.0, 3.0]]]), "shift")]
    [([1.0, 2.0, 3.0], 0.5), ([2.0, 1.0, 2.0], 0.25), ([2.0, 3.0, 2.0], 0.25)]
    """
    moved = [(batch, 1.0)]
    if "shift" in kind and max(batch.shape[2:], default=1) > 1:  # one position has nowhere to move
        moved = [(batch, 0.5), *((each, 0.25) for each in _moved(batch))]
    for each, weight in moved:
        if "flip" in kind:
            yield each, weight / 2
            yield each.flip(-1), weight / 2
        else:
            yield each, weight


def stages(kind: str) -> tuple[str, str | None]:
    """The views of all samples, and those of the samples whose answer is then unsure; None where there is no second look.

    Raises:
        UsageError: no such kind.

    >>> stages("flip"), stages("unsure:flip+shift")
    (('flip', None), ('none', 'flip+shift'))
    """
    if kind not in VIEWS:
        raise UsageError(unknown_name("tta", kind, VIEWS))
    return ("none", kind.removeprefix(_IF_UNSURE)) if kind.startswith(_IF_UNSURE) else (kind, None)


def unsure(logits: Tensor) -> Tensor:
    """Which answers (N, classes) are unsure (N,): the highest probability leads the next by less than ``SURE``.

    The probabilities are the network's own, before calibration: so a temperature changes no answer, and can be fitted on the answers themselves.

    >>> import torch
    >>> unsure(torch.tensor([[0.0, 3.0, 0.0], [0.0, 1.0, 0.9]])).tolist()
    [False, True]
    """
    import torch

    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits), dtype=torch.bool)
    highest = logits.float().softmax(1).topk(2, 1).values
    return highest[:, 0] - highest[:, 1] < SURE


def num_views(kind: str) -> int:
    """How many times a network is run for each sample; for an unsure one, one time more than the views say.

    >>> [num_views(kind) for kind in ("none", "flip", "shift", "flip+shift")]
    [1, 2, 3, 6]
    """
    return (2 if "flip" in kind else 1) * (3 if "shift" in kind else 1)


def describe_views(kind: str, noun: str = "sample") -> str:
    """A sentence for a reader of a result; empty for one view."""
    first, second = stages(kind)
    if second is not None:
        when = f"Where the top two probabilities (before calibration) are within {SURE:g} of each other, the prediction"
        return f"{when} is the mean over {_SENTENCES[second].format(noun=noun)} (test-time augmentation)."
    if first not in _SENTENCES:
        return ""
    return f"Each prediction is the mean over {_SENTENCES[first].format(noun=noun)} (test-time augmentation)."


def _moved(batch: Tensor) -> Iterator[Tensor]:
    """The batch moved one way along all axes, and the other."""
    from torch.nn import functional as F

    size = batch.shape[2:]
    reach = [min(max(1, round(length / STEPS_PER_SIDE)), length - 1) for length in size]
    padded = F.pad(batch, [each for steps in reversed(reach) for each in (steps, steps)], mode="reflect")
    for way in (0, 2):
        places = [slice(way * steps, way * steps + length) for steps, length in zip(reach, size, strict=True)]
        yield padded[(slice(None), slice(None), *places)]
