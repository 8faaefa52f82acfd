"""Warnings about headers that predict the class; none for headers that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from visus.data.clues import header_clues
from visus.data.images.decode import ImageHeader
from visus.data.ledger import Ledger
from visus.data.sources import read_source
from visus.data.survey import survey_images


def probes(mode: str = "RGB", size: tuple[int, int] = (32, 32), image_format: str = "PNG") -> ImageHeader:
    return ImageHeader(size, 1 if mode == "L" else 3, mode, image_format)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (probes("L"), probes(), "the color of the files predicts the class: cat (gray), dog (in color)."),
        (
            probes(size=(32, 64)),
            probes(size=(64, 32)),
            "the shape of the files predicts the class: cat (wide), dog (tall).",
        ),
        (
            probes(image_format="JPEG"),
            probes(),
            "the file format of the files predicts the class: cat (JPEG), dog (PNG).",
        ),
        (probes(), probes(size=(512, 512)), "the size of the files predicts the class: cat (32 px), dog (512 px)."),
    ],
)
def test_a_class_that_headers_predict_is_reported(one: ImageHeader, other: ImageHeader, expected: str) -> None:
    found = header_clues(("cat", "dog"), [(0, one)] * 12 + [(1, other)] * 12)
    assert [sentence.split(" A network")[0] for sentence in found] == [expected]
    assert header_clues(("cat", "dog"), [(0, one)] * 9 + [(1, other)] * 9) == []
    mixed = [(label, header) for label in (0, 1) for header in [one] * 10 + [other] * 10]
    assert header_clues(("cat", "dog"), mixed) == []


@pytest.mark.parametrize("seed", range(20))
def test_headers_that_do_not_predict_the_class_are_not_reported(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [
        ImageHeader(
            (int(rng.integers(20, 400)), int(rng.integers(20, 400))),
            int(rng.choice([1, 3])),
            "RGB",
            str(rng.choice(["PNG", "JPEG"])),
        )
        for _ in range(40)
    ]
    assert header_clues(("cat", "dog"), list(zip(np.repeat([0, 1], 20).tolist(), drawn, strict=True))) == []


def test_one_class_of_three_is_reported_alone() -> None:
    seen = [(label, probes(image_format="JPEG" if label == 1 else "PNG")) for label in (0, 1, 2) for _ in range(20)]
    assert [sentence.split(" A network")[0] for sentence in header_clues(("a", "b", "c"), seen)] == [
        "the file format of the files predicts the class: b (JPEG)."
    ]


@pytest.mark.parametrize("name", ["photos_dog_cat", "photos_sign_digits"])
@pytest.mark.long
def test_headers_of_real_photos_predict_no_class(real_data: Callable[[str], Path], name: str) -> None:
    assert survey_images(read_source(real_data(name), Ledger()), Ledger()).warnings == ()
