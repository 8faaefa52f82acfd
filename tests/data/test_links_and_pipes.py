"""Circular links, pipes and unreadable folders: none blocks, and none is read as data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visus
from visus.data.ledger import Ledger
from visus.data.sources import read_source
from visus.errors import DataError

LEFT_OUT = "left out: hidden or not an image"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty-four images of two classes."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            values = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("target", ["..", "../..", ".", "../../.."])
def test_a_link_that_leads_back_up_is_not_followed(photos: Path, target: str) -> None:
    (photos / "cat" / "all").symlink_to(target)
    ledger = Ledger()
    assert len(read_source(photos, ledger)) == 24
    assert ledger.reasons(LEFT_OUT) == {"cat/all": "a link to a parent folder, which is not followed"}


def test_a_link_to_another_folder_is_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "dog").rename(tmp_path / "dogs")
    (photos / "dog").symlink_to(tmp_path / "dogs")
    assert len(read_source(photos, Ledger())) == 24


def test_a_link_to_itself_is_left_out_as_unreadable(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "loop.png").symlink_to("loop.png")
    data = visus.open_data(photos, cache_dir=tmp_path / "cache")
    assert (data.num_samples, data.ledger.examples("unreadable")) == (24, ["cat/loop.png"])


def test_a_pipe_is_left_out(photos: Path) -> None:
    os.mkfifo(photos / "cat" / "pipe.png")
    os.mkfifo(photos / "labels.csv")
    ledger = Ledger()
    assert len(read_source(photos, ledger)) == 24
    assert ledger.reasons(LEFT_OUT) == dict.fromkeys(
        ("labels.csv", "cat/pipe.png"), "a pipe, a socket or a device, not a file"
    )


def test_a_pipe_is_no_data_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DataError) as caught:
        read_source(tmp_path / "x.npz", Ledger())
    assert str(caught.value) == (
        f"{tmp_path / 'x.npz'}: this is a pipe, a socket or a device. Save the data as a file or folder first."
    )


def test_a_folder_that_cannot_be_opened_is_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def refused(place: object, **options: object) -> os.stat_result:
        if str(place).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return real(place, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refused)
    with pytest.raises(DataError) as caught:
        read_source(photos, Ledger())
    assert str(caught.value) == (
        f"{photos / 'cat'}: the folder cannot be opened (Permission denied). Change its permissions so that you can read it."
    )
