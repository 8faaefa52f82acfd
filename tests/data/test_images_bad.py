"""Files that cannot be read as an image: the message has the name, what was found and what to do."""

from __future__ import annotations

import os
import resource
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, WebPImagePlugin

from visus.data.images import jpeg as image_jpeg
from visus.data.images.decode import Limits, decode, probe_image
from visus.errors import ImageError

from .bad_images import animation, bombs, encoded, exif_record, photo, png


def refusal(file: Path | bytes, *, of: Any = decode, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        of(file, **options)
    return str(caught.value)


NEEDED = "JPEG, PNG, GIF, BMP, TIFF, WebP or PPM is needed. Convert it to one of these, or remove it."


def test_a_text_file_called_jpg(tmp_path: Path) -> None:
    file = tmp_path / "notes.jpg"
    file.write_text("Shopping list: eggs, flour, butter, and a little salt.\n")
    expected = f"{file}: the file holds text ('Shopping list: eggs, flo'), but {NEEDED}"
    assert (refusal(file), refusal(file, of=probe_image)) == (expected, expected)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript drawing"),
        (b"%PDF-1.7\n" + bytes(40), "a PDF document"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (b"\x1f\x8b" + bytes(40), "a gzip archive"),
        (b"8BPS" + bytes(40), "a Photoshop document"),
        (b"\x00\x00\x01\x00\x01\x00" + bytes(40), "an icon"),
        (b"\x00\x00\x00\x0cjP  " + bytes(40), "a JPEG 2000 image"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(40), "a film"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(40), "sound or video"),
        (b"\x93NUMPY\x01\x00" + bytes(40), "a NumPy array"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing or other XML"),
        (b"P9 is no image", "text ('P9 is no image')"),
        ("größer als groß, und das ist".encode(), "text ('größer als groß, und das')"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", "an unknown kind of data (first bytes 01 02 03 04 05 06 07 08)"),
        (b"\xff", "an unknown kind of data (first bytes ff)"),
    ],
)
def test_other_content_is_named(content: bytes, found: str) -> None:
    assert refusal(content, name="cats/1.jpg") == f"cats/1.jpg: the file holds {found}, but {NEEDED}"


def test_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.touch()
    expected = f"{file}: the file is empty (0 bytes). Copy it again from its source, or remove it."
    assert (refusal(file), refusal(file, of=probe_image)) == (expected, expected)
    assert refusal(b"") == (
        "an image given as bytes: the file is empty (0 bytes). Copy it again from its source, or remove it."
    )


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: this is a folder, not an image. Name the files in it."


def test_a_missing_file(tmp_path: Path) -> None:
    file = tmp_path / "none.png"
    assert refusal(file) == f"{file}: there is no such file. Check its name and folder."


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: this is a device or a pipe, not a file. Save the image as a file first."


def test_a_file_without_the_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(photo(), "PNG"))

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop the root user, who may run the tests
    expected = f"{file}: the file may not be read. Give yourself the right to read it, or remove it."
    assert (refusal(file), refusal(file, of=probe_image)) == (expected, expected)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(photo(), "PNG"))

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    assert refusal(file) == (
        f"{file}: the file cannot be read from disk (Input/output error). Copy it to another place, or remove it."
    )


def test_too_many_bytes() -> None:
    data = encoded(photo(), "BMP")
    assert refusal(data, name="a.bmp", limits=Limits(max_bytes=1024)) == (
        "a.bmp: the file has 2.87 KiB, and at most 1.00 KiB are read. Make it smaller, or remove it."
    )


def test_too_many_bytes_of_a_file_are_never_read(tmp_path: Path) -> None:
    file = tmp_path / "sparse.png"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    assert refusal(file) == (f"{file}: the file has 1.00 TiB, and at most 256 MiB are read. Make it smaller, or remove it.")


# ---- bombs ----


@pytest.mark.parametrize("image_format", bombs())
def test_a_bomb_is_refused_at_once_and_without_memory(image_format: str) -> None:
    data = bombs()[image_format]
    assert len(data) < 2000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    side, number = (16_384, 268_435_456) if image_format == "WEBP" else (50_000, 2_500_000_000)
    expected = (
        f"bomb: the image is too large: it states {side:,} x {side:,} = {number:,} pixels (height x width), and at most "
        f"100,000,000 are decoded. Make it smaller, or remove it."
    )
    assert (refusal(data, name="bomb"), refusal(data, name="bomb", of=probe_image)) == (expected, expected)
    assert time.process_time() - start < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_limit_of_pixels_counts_exactly(image_format: str) -> None:
    data = encoded(photo(10, 10), image_format)
    assert decode(data, limits=Limits(max_pixels=100)).original_size == (10, 10)
    assert refusal(data, name="a", limits=Limits(max_pixels=99)) == (
        "a: the image is too large: it states 10 x 10 = 100 pixels (height x width), and at most 99 are decoded. "
        "Make it smaller, or remove it."
    )


def test_the_bound_of_pillow_itself_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(photo(), "TIFF", compression="tiff_lzw")
    assert refusal(data, name="a.tif") == (
        "a.tif: the image is larger than Pillow itself allows (Image.MAX_IMAGE_PIXELS). Make it smaller."
    )


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(np.zeros((1, 1)), bits=8, color_type=0, size=(5, 0)), "5 x 0"),
        (b"GIF89a" + bytes(20), "0 x 0"),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, 7, 0) + bytes(30), "0 x 7"),
    ],
)
def test_a_image_without_pixels(data: bytes, size: str) -> None:
    assert refusal(data, name="a") == f"a: the image has {size} pixels: it is empty. Export it again, or remove it."


# ---- truncated and damaged ----


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_truncated_file_is_refused(image_format: str, options: dict[str, Any], keep: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    data = encoded(noise, image_format, **options)
    spoken = "WebP" if image_format == "WEBP" else image_format
    sentence = refusal(data[: int(keep * len(data))], name="a/half.jpg")
    assert sentence in (
        f"a/half.jpg: the {spoken} file is truncated or damaged: not all of its 64 x 96 pixels can be decoded. "
        f"Copy or export it again, or remove it.",
        f"a/half.jpg: the {spoken} file is truncated or damaged in its header. Copy or export it again, or remove it.",
    )
    assert "header" not in sentence or image_format in ("TIFF", "WEBP")


def test_a_truncated_jpeg_is_found_by_either_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(200, 300), "JPEG")
    expected = (
        "half.jpg: the JPEG file is truncated or damaged: not all of its 200 x 300 pixels can be decoded. "
        "Copy or export it again, or remove it."
    )
    for cut in (len(data) // 2, len(data) - 12):
        assert refusal(data[:cut], name="half.jpg") == expected
        assert refusal(data[:cut], name="half.jpg", at_least=(10, 10)) == expected
    monkeypatch.setattr(image_jpeg, "_is_exact", lambda: False)
    assert refusal(data[: len(data) // 2], name="half.jpg") == expected


def test_a_truncated_jpeg_turned_by_exif_states_its_size_as_stored() -> None:
    data = encoded(photo(200, 300), "JPEG", exif=exif_record(6))
    assert "200 x 300 pixels" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_cut_in_its_header(image_format: str) -> None:
    data = encoded(photo(), image_format)[: 5 if image_format == "PPM" else 20]
    spoken = "WebP" if image_format == "WEBP" else image_format
    expected = f"a: the {spoken} file is truncated or damaged in its header. Copy or export it again, or remove it."
    assert (refusal(data, name="a"), refusal(data, name="a", of=probe_image)) == (expected, expected)


def test_a_damaged_second_frame_does_no_harm() -> None:
    data = animation("GIF")
    second = data.rindex(b"\x21\xf9\x04")
    decoded, whole = decode(data[: second + 14]), decode(data)
    np.testing.assert_array_equal(decoded.pixels, whole.pixels)


SIZES = {name: encoded(photo(8, 8), name) for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}


@given(st.sampled_from(sorted(SIZES)), st.data())
def test_damage_anywhere_returns_pixels_or_one_sentence(image_format: str, draw: st.DataObject) -> None:
    data = bytearray(SIZES[image_format])
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for door in (decode, probe_image):
        try:
            found = door(bytes(data), name="a", limits=Limits(max_pixels=100_000))
        except ImageError as error:
            sentence = str(error)
        else:
            sentence = f"a: {found.mode}"
        assert sentence.startswith("a: ")


# ---- values without a rule ----


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point numbers"),
        (b"Pf 1 1 -1.0\n\x00\x00\x80\x3f", None),
        (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "32-bit or signed integers"),
    ],
)
def test_numbers_without_black_and_white_are_refused(data: bytes, kind: str | None) -> None:
    if kind is None:
        assert (
            refusal(data, name="a")
            == f"a: the file holds an unknown kind of data (first bytes {data[:8].hex(' ')}), but {NEEDED}"
        )
    else:
        assert refusal(data, name="a") == (
            f"a: the image has {kind}, and does not state which values are black and white. "
            f"Save it with 8 or 16 bits, or provide the numbers as an .npy or .npz array."
        )


def test_lab_without_color_management_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise ImportError("_imagingcms")

    monkeypatch.setattr(ImageCms, "createProfile", missing)
    assert refusal(encoded(Image.new("LAB", (4, 4)), "TIFF"), name="a") == (
        "a: the colors are LAB, which this Pillow cannot convert (no LittleCMS). Save it as RGB."
    )


def test_webp_without_its_decoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
    assert refusal(encoded(photo(), "WEBP"), name="a") == (
        "a: the file is a WebP, which this Pillow cannot read. Convert it to PNG, or install Pillow's own wheel."
    )


def test_a_mode_without_a_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from visus.data.images import modes

    image = Image.new("RGB", (2, 2))
    monkeypatch.setattr(Image.Image, "mode", property(lambda _: "BGR;15"))
    with pytest.raises(ImageError) as caught:
        modes.to_values(image, is_16_bit=False)
    assert str(caught.value) == "the image has the mode BGR;15, which visus does not support. Save it as 8-bit gray or RGB."
