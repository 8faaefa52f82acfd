"""What gives a class away without a look at the image is warned about; what goes with no class is not."""

from __future__ import annotations

import numpy as np
import pytest

from visus.data.clues import class_clues
from visus.data.pictures import Probe

ADVICE = " The network can learn this instead of what the images show. Bring all classes into the same form, if you can."
LABELS = np.repeat([0, 1], 20)


def probes(size: tuple[int, int] = (32, 32), channels: int = 3, kind: str = "PNG", number: int = 20) -> list[Probe]:
    return [Probe(size, channels, "RGB", kind)] * number


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (probes(channels=1), "Color alone tells cat, dog: 100 % of the images of cat are grey, and 0 % of the others."),
        (
            probes(kind="JPEG"),
            "The file format alone tells cat, dog: 100 % of the images of cat are JPEG files, and 0 % of the others.",
        ),
        (
            probes((90, 90)),
            "The size alone tells cat, dog: the short side is 90 px in the middle for cat, and 32 px for the others.",
        ),
        (
            probes((32, 64)),
            "The shape alone tells cat, dog: width to height is 2.00 in the middle for cat, and 1.00 for the others.",
        ),
    ],
)
def test_a_clue_is_told(first: list[Probe], told: str) -> None:
    assert class_clues([*first, *probes()], LABELS, ("cat", "dog")) == [told + ADVICE]


def test_a_clue_of_one_class_of_three_is_told_of_it_alone() -> None:
    found = class_clues([*probes(kind="JPEG"), *probes(), *probes()], np.repeat([0, 1, 2], 20), ("a", "b", "c"))
    assert [sentence.partition(":")[0] for sentence in found] == ["The file format alone tells a"]


def test_a_few_images_are_no_clue() -> None:
    assert class_clues([*probes(kind="JPEG", number=7), *probes(number=7)], np.repeat([0, 1], 7), ("a", "b")) == []


@pytest.mark.parametrize("seed", range(20))
def test_what_goes_with_no_class_is_not_told(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [
        Probe(
            (int(rng.integers(20, 400)), int(rng.integers(20, 400))),
            int(rng.choice([1, 3])),
            "RGB",
            str(rng.choice(["PNG", "JPEG"])),
        )
        for _ in range(40)
    ]
    assert class_clues(drawn, LABELS, ("cat", "dog")) == []
