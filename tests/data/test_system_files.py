"""Thumbnails, trash and system files are never samples, and are reported by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from visus.data.ledger import Ledger
from visus.data.sources import read_source
from visus.data.system_files import reason_to_ignore

from .test_layouts import lay

FOLDERS = [
    "@eaDir", ".@__thumb", "@__thumb", ".thumbnails", "Catalog Previews.lrdata", "$RECYCLE.BIN", "#recycle", "@Recycle", ".Trash-1000",
    ".Trashes", "RECYCLER", "lost+found", "LOST.DIR", "FOUND.000", "__MACOSX", "System Volume Information", "#snapshot",
    ".ipynb_checkpoints", ".git", "__pycache__", "@tmp",
]  # fmt: skip
FILES = [
    "Thumbs.db",
    "ehthumbs.db",
    ".DS_Store",
    "desktop.ini",
    "._1.jpg",
    "SYNOPHOTO_THUMB_XL.jpg",
    "Picasa.ini",
    "~$a.jpg",
    "Icon\r",
]


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_names_of_systems_are_passed_over(name: str) -> None:
    assert reason_to_ignore(name) is not None


@pytest.mark.parametrize(
    "name", ["cats", "@home", "thumb", "recycling", "trash", "1.jpg", "part", "new folder", "tmp", "snapshot"]
)
def test_names_of_people_are_not(name: str) -> None:
    assert reason_to_ignore(name) is None


@pytest.mark.parametrize("name", FOLDERS)
def test_images_in_such_folders_are_no_samples_wherever_they_lie(tmp_path: Path, name: str) -> None:
    lay(tmp_path, "cat", "dog", f"{name}/x.jpg", f"cat/{name}/0.jpg/y.jpg", f"dog/{name}/z.jpg")
    samples = read_source(tmp_path, Ledger())
    assert (samples.classes, len(samples), samples.warnings) == (("cat", "dog"), 6, ())


def test_what_is_left_out_is_reported_by_kind(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog", "@eaDir/x.jpg", "$RECYCLE.BIN/y.jpg", "cat/notes.txt", "dog/notes.txt", "cat/.DS_Store.txt")
    ledger = Ledger()
    read_source(tmp_path, ledger)
    assert ledger.sentences() == [
        "5 files were left out. 2 (cat/notes.txt, dog/notes.txt): text. 1 ($RECYCLE.BIN): the trash of a system. "
        "1 (@eaDir): thumbnails of a system or a program. 1 (cat/.DS_Store.txt): hidden, or of the system."
    ]
