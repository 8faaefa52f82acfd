"""Files that are left out are reported by kind and reason, and images without a usual extension are read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visus
from visus.data import file_kinds
from visus.data.images import heif as image_heif
from visus.data.images.decode import decode
from visus.data.ledger import Ledger
from visus.errors import DataError, ImageError
from visus.workbench.runs.predict_inputs import ImageSample, UnreadSample, find_samples

from .bad_images import encoded, photo

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(40)
NEEDED = "JPEG, PNG, GIF, BMP, TIFF, WebP or PPM is needed."


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images of each of two classes, all different."""
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            values = np.random.default_rng([number, index]).integers(0, 255, (12, 12, 3), np.uint8)
            Image.fromarray(values).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def opened(path: Path, tmp_path: Path, **options: object) -> visus.data.opened.Data:
    return visus.open_data(path, cache_dir=tmp_path / "cache", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.mov", b"\x00\x00\x00\x14ftypqt  " + bytes(20), "film"),
        ("a.mp3", b"ID3\x03" + bytes(20), "sound file"),
        ("a.mp3", b"\xff\xfb\x90" + bytes(20), "sound file"),
        ("a.psd", b"8BPS" + bytes(20), "Photoshop document"),
        ("a.dng", b"II*\x00" + bytes(20), "camera raw file"),
        ("a.txt", b"some words", "text"),
        ("a.html", b"<!-- x --><html>", "web page"),
        ("a.dat", b"", "empty"),
        ("a.jpg.bak", b"\xff\xd8\xff\xe0", "copy or part of another file (JPEG)"),
    ],
)
def test_the_kind_of_a_file_follows_from_its_content(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert not file_kinds.is_image_file(tmp_path / name)
    assert file_kinds.kind_of_file(tmp_path / name) == kind


@pytest.fixture
def no_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate that the package for HEIC is not installed."""
    monkeypatch.setattr(image_heif, "has_heic", lambda: False)
    monkeypatch.setattr(file_kinds, "IMAGE_SUFFIXES", file_kinds.IMAGE_SUFFIXES - image_heif.HEIC_SUFFIXES)


@pytest.mark.usefixtures("no_heic")
@pytest.mark.parametrize("content", [HEIC, b""])
def test_heic_is_recognized_by_content_or_name_if_it_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.HEIC").write_bytes(content)
    assert not file_kinds.is_image_file(tmp_path / "a.HEIC")
    assert file_kinds.kind_of_file(tmp_path / "a.HEIC") == "HEIC image"


def test_broken_links_and_pipes_are_reported_without_blocking(tmp_path: Path) -> None:
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert file_kinds.kind_of_file(tmp_path / "lost") == "broken link"
    assert file_kinds.kind_of_file(tmp_path / "pipe") == "not a file that can be read"


@pytest.mark.parametrize("name", ["{}", "{}.jpg?w=640", "{}.jpg_large", "{}.jpeg.1", "{}.PNG.dat"])
def test_images_without_a_usual_ending_are_read_and_reported(photos: Path, tmp_path: Path, name: str) -> None:
    for file in sorted(photos.rglob("*.png")):
        file.rename(file.with_name(name.format(file.stem)))
    data = opened(photos, tmp_path)
    assert data.num_samples == 24
    assert data.ledger.counts["read by its content"] == 24


@pytest.mark.usefixtures("no_heic")
def test_unread_images_are_warned_of_by_kind(photos: Path, tmp_path: Path) -> None:
    for index in range(6):
        (photos / "cat" / f"IMG_{index}.HEIC").write_bytes(HEIC)
    (photos / "cat" / "IMG_0.MOV").write_bytes(b"\x00\x00\x00\x14ftypqt  " + bytes(20))
    data = opened(photos, tmp_path)
    assert data.warnings == (
        "6 HEIC images were left out (cat/IMG_0.HEIC, cat/IMG_1.HEIC, cat/IMG_2.HEIC, ...). Export the photos as JPEG, "
        "or install the package that reads HEIC: pip install 'pillow-heif>=0.18'",
    )
    assert data.ledger.sentences() == [
        "7 files were left out. 6 (cat/IMG_0.HEIC, cat/IMG_1.HEIC, cat/IMG_2.HEIC, ...): HEIC image. 1 (cat/IMG_0.MOV): film."
    ]


def test_heic_without_its_package_is_one_sentence_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_heif, "has_heic", lambda: False)
    image_heif.reader.cache_clear()
    with pytest.raises(ImageError) as caught:
        decode(HEIC, name="IMG_1.jpg")
    assert str(caught.value) == (
        "IMG_1.jpg: the file is an HEIC image. Export the photos as JPEG, or install the package that reads HEIC: "
        "pip install 'pillow-heif>=0.18'"
    )


def test_avif_is_read_or_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    if image_heif.has_avif():
        found = decode(encoded(photo(), "AVIF", quality=95))
        assert np.abs(found.pixels.transpose(1, 2, 0).astype(int) - np.asarray(photo())).mean() < 8
    monkeypatch.setattr(image_heif, "has_avif", lambda: False)
    image_heif.reader.cache_clear()
    with pytest.raises(ImageError) as caught:
        decode(b"\x00\x00\x00\x18ftypavif" + bytes(40), name="a")
    image_heif.reader.cache_clear()
    assert str(caught.value) == (
        "a: the file is an AVIF, which this Pillow cannot read. Install Pillow's own wheel, or export it as PNG."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
            f"the file holds a Git LFS pointer, but {NEEDED} Fetch the real file: install git-lfs and run git lfs pull, or remove it.",
        ),
        (
            b"<!DOCTYPE html><html></html>",
            f"the file holds a web page, but {NEEDED} Download the image again, or remove it.",
        ),
        (bytes(100), f"the file holds only zeros, but {NEEDED} Copy it again from its source, or remove it."),
    ],
)
def test_an_unreadable_file_says_what_to_do_about_its_kind(content: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content, name="a")
    assert str(caught.value) == f"a: {sentence}"


def test_reasons_of_unreadable_files_are_reported_in_the_ledger_and_in_the_refusal(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "0.png").write_bytes(b"")
    data = opened(photos, tmp_path)
    assert data.ledger.sentences() == [
        "1 file could not be read and was left out (cat/0.png): the file is empty (0 bytes). Copy it again from its source, or remove it."
    ]
    for index in range(1, 4):
        (photos / "cat" / f"{index}.png").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError) as caught:
        opened(photos, tmp_path)
    assert str(caught.value) == (
        f"{photos}: 4 of 24 files cannot be read (16.7 %; at most 5.0 % may be left out). 3 (cat/1.png, cat/2.png, cat/3.png): the file holds "
        f"a web page, but {NEEDED} Download the image again, or remove it. 1 (cat/0.png): the file is empty (0 bytes). Copy it again from "
        "its source, or remove it. Repair or remove them, or allow more with max_unreadable."
    )


# ---- links ----


def test_a_link_back_to_the_data_folder_is_not_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "all").symlink_to("..")
    (photos / "cat" / "loop.png").symlink_to("loop.png")
    data = opened(photos, tmp_path, max_unreadable=0.2)
    assert sorted(sample for sample in data.samples.names if "all/" in sample) == []
    assert data.num_samples == 24


def test_predict_follows_links_to_folders_and_passes_no_file_over_in_silence(photos: Path, tmp_path: Path) -> None:
    plan = opened(photos, tmp_path).preprocessing
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(photos / "cat")
    (linked / "dog").symlink_to(photos / "dog")
    (linked / "up").symlink_to(linked)
    (linked / "notes.txt").write_text("words")
    ledger = Ledger()
    found = list(find_samples([linked], plan, ledger))
    assert len(found) == 24
    assert all(isinstance(sample, ImageSample) for sample in found)
    assert ledger.reasons("left out: hidden or not an image") == {
        "notes.txt": "text",
        "up": "a link to a parent folder, which is not followed",
    }


def test_a_folder_that_may_not_be_listed_is_one_unread_sample(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = opened(photos, tmp_path).preprocessing
    real = os.scandir

    def scandir(folder: Path) -> object:  # chmod does not stop the root user, who may run the tests
        if Path(folder).name == "cat":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    found = list(find_samples([photos], plan, Ledger()))
    assert [sample for sample in found if isinstance(sample, UnreadSample)] == [
        UnreadSample(
            str(photos / "cat"),
            "the folder cannot be listed (Permission denied). Change its permissions so that you can read it.",
        )
    ]
    assert len(found) == 13


# ---- depth ----


def test_twelve_bits_in_sixteen_are_warned_of(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(6):
            values = np.random.default_rng([number, index]).integers(0, 4096, (8, 8)).astype(np.uint16)
            Image.fromarray(values).save(tmp_path / "d" / name / f"{index}.png")
    assert opened(tmp_path / "d", tmp_path).warnings == (
        "12 of 12 16-bit images use only the lowest eighth of their range (up to 8,191 of 65,535), as images from 12-bit and 13-bit cameras do. "
        "As 8-bit images they are dark, with at most 32 of 256 levels. Multiply the values by the same factor in all files so that they fill the range, "
        "or provide them as an .npy or .npz array, which keeps all levels.",
    )
