"""What gives a class away without a look at the image: color, file format, size or shape that goes with the label.

This file knows headers and labels. It must not know pixels or networks. A class is told by a clue where nearly all of its images have it and
nearly none of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visus.data.pictures import Probe
from visus.data.source_rules import shown
from visus.units import write_share

LEAST_IMAGES: Final = 8  # of a class, and of all others together: below it, chance alone may look like a clue
_IN, _OUT = 0.95, 0.05  # shares of the class and of the others
_LEAST_RATIO: Final = {"size": 1.5, "shape": 1.15}  # of the medians on the two sides
_MOST_CLASSES: Final = 200
_ADVICE: Final = (
    "The network can learn this instead of what the images show. Bring all classes into the same form, if you can."
)


def class_clues(probes: Sequence[Probe | None], labels: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """A warning for each clue by which some class is told; headers that could not be read are None."""
    seen = [index for index, probe in enumerate(probes) if probe is not None]
    known = [probe for probe in probes if probe is not None]
    if len(classes) > _MOST_CLASSES or len(known) < 2 * LEAST_IMAGES:
        return []
    labels = labels[seen]
    counts = np.bincount(labels, minlength=len(classes))
    chosen = [index for index, count in enumerate(counts) if LEAST_IMAGES <= count <= len(labels) - LEAST_IMAGES]
    colors = np.array(["in color" if probe.channels == 3 else "grey" for probe in known])
    formats = np.array([f"{probe.format} files" for probe in known])
    shorts = np.array([min(probe.size) for probe in known], dtype=np.float64)
    aspects = np.array([probe.size[1] / probe.size[0] for probe in known])
    told = [
        _by_kind("Color", colors, labels, classes, chosen),
        _by_kind("The file format", formats, labels, classes, chosen),
        _by_size("size", shorts, labels, classes, chosen),
        _by_size("shape", aspects, labels, classes, chosen),
    ]
    return [sentence for sentence in told if sentence]


def _by_kind(
    clue: str, kinds: NDArray[np.str_], labels: NDArray[np.int64], classes: Sequence[str], chosen: Sequence[int]
) -> str:
    """The sentence for a clue of a few kinds; empty where it tells no class."""
    names = np.unique(kinds)
    if len(names) < 2:
        return ""
    found: list[tuple[str, str, float, float]] = []
    for label in chosen:
        is_class = labels == label
        for name in names:
            share_in, share_out = float((kinds[is_class] == name).mean()), float((kinds[~is_class] == name).mean())
            if share_in >= _IN and share_out <= _OUT:
                found.append((classes[label], str(name), share_in, share_out))
    if not found:
        return ""
    first, name, share_in, share_out = found[0]
    return (
        f"{clue} alone tells {shown(each[0] for each in found)}: {write_share(share_in, 0)} of the images of {first} are {name}, and "
        f"{write_share(share_out, 0)} of the others. {_ADVICE}"
    )


def _by_size(
    clue: str, values: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str], chosen: Sequence[int]
) -> str:
    """The sentence for a clue that is a length or a ratio, by the threshold that parts a class best; empty where it tells none."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    is_end = np.append(np.diff(ascending) > 0, False)  # a threshold lies between two different values
    found = []
    for label in chosen:
        is_class = labels == label
        below_in = np.cumsum(is_class[order]) / is_class.sum()
        below_out = np.cumsum(~is_class[order]) / (~is_class).sum()
        own, others = float(np.median(values[is_class])), float(np.median(values[~is_class]))
        parted = is_end & (((below_in >= _IN) & (below_out <= _OUT)) | ((below_in <= 1 - _IN) & (below_out >= 1 - _OUT)))
        if parted.any() and max(own / others, others / own) >= _LEAST_RATIO[clue]:
            found.append((classes[label], own, others))
    if not found:
        return ""
    first, own, others = found[0]
    if clue == "size":
        told = f"the short side is {own:.0f} px in the middle for {first}, and {others:.0f} px for the others"
    else:
        told = f"width to height is {own:.2f} in the middle for {first}, and {others:.2f} for the others"
    return f"The {clue} alone tells {shown(each[0] for each in found)}: {told}. {_ADVICE}"
