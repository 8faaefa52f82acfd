"""Decoding: every pixel format becomes upright 8-bit gray or color, with the actions for the ledger."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFile

from visus.data.images import jpeg as image_jpeg
from visus.data.images.decode import IMAGE_SUFFIXES, Decoded, Limits, decode, decode_opened, probe_image
from visus.data.images.headers import HEAD_BYTES, format_of, stated_size
from visus.data.ledger import ACTIONS
from visus.errors import ImageError

from .bad_images import BROKEN_EXIF, animation, chunk, encoded, exif_record, photo, png

SIXTEEN = "16-bit values scaled to 8-bit"
LOW = "16-bit values in the lowest part of their range"
BLENDED = "transparency blended on white"
PALETTE = "palette resolved to color"
TURNED = "turned upright by its EXIF orientation"


def rows(decoded: Decoded) -> np.ndarray[Any, Any]:
    """Pixels as decoded by Pillow: (height, width) or (height, width, 3)."""
    return decoded.pixels[0] if decoded.pixels.shape[0] == 1 else decoded.pixels.transpose(1, 2, 0)


def check_agreement(data: bytes, decoded: Decoded) -> None:
    """Properties of every decoded file: types, the probe, the list of actions."""
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape[0] in (1, 3)
    assert set(decoded.actions) <= set(ACTIONS)
    probed = probe_image(data)
    assert (probed.channels, *probed.size) == decoded.pixels.shape
    assert (probed.size, probed.mode) == (decoded.original_size, decoded.mode)
    check_pillow(data, decoded)


def check_pillow(data: bytes, decoded: Decoded) -> None:
    """An image that Pillow has opened is decoded as its file, and still opens and decodes the same afterwards."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
        warnings.simplefilter("ignore")
        for _ in range(2):
            opened = decode_opened(image)
            np.testing.assert_array_equal(opened.pixels, decoded.pixels)
            assert (opened.actions, opened.original_size, opened.mode) == (
                decoded.actions,
                decoded.original_size,
                decoded.mode,
            )


# ---- plain images ----


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_the_values_written(image_format: str, channels: int) -> None:
    image = photo(channels=channels)
    data = encoded(image, image_format)
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded), np.asarray(image))
    assert (decoded.actions, decoded.mode) == ((), "L" if channels == 1 else "RGB")
    assert probe_image(data).format == image_format


def test_webp_and_compressed_tiff_give_the_values_written() -> None:
    for data in (encoded(photo(), "WEBP", lossless=True), encoded(photo(), "TIFF", compression="tiff_lzw")):
        np.testing.assert_array_equal(rows(decode(data)), np.asarray(photo()))
        check_agreement(data, decode(data))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"quality": 30}, {"keep_rgb": True}]
)
def test_jpeg_returns_pillows_values(channels: int, options: dict[str, Any]) -> None:
    data = encoded(photo(133, 201, channels), "JPEG", **options)
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded), np.asarray(Image.open(io.BytesIO(data))))
    assert decoded.actions == ()


def test_the_format_follows_from_the_content_and_the_extension_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "IMG_1.JPG"
    file.write_bytes(encoded(photo(), "PNG"))
    np.testing.assert_array_equal(rows(decode(file)), np.asarray(photo()))
    assert probe_image(file).format == "PNG"
    assert file.suffix.lower() in IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


def test_the_first_bytes_state_the_size_that_pillow_finds() -> None:
    clear = photo().convert("RGBA")
    clear.putalpha(90)
    files = [encoded(photo(), name) for name in ("PNG", "GIF", "BMP", "WEBP")]
    files += [encoded(photo(), "WEBP", lossless=True), encoded(clear, "WEBP"), encoded(clear, "WEBP", lossless=True)]
    assert {data[12:16] for data in files[3:]} >= {b"VP8 ", b"VP8L", b"VP8X"}
    for data in files:
        assert stated_size(format_of(data) or "", data[:HEAD_BYTES]) == (24, 40)
    for data in (encoded(photo(), "JPEG"), files[0][:20], files[3][:20], files[4][:20]):
        assert stated_size(format_of(data) or "", data[:HEAD_BYTES]) is None


def test_a_image_of_one_pixel_is_a_image() -> None:
    assert decode(encoded(photo(1, 1), "PNG")).pixels.shape == (3, 1, 1)


# ---- orientation ----

TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}
"""Stored pixels to upright ones, as the EXIF standard defines the eight values; here by numpy."""


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))), st.integers(1, 8), st.sampled_from("<>")
)
def test_orientation_turns_stored_pixels_upright(stored: np.ndarray[Any, Any], orientation: int, order: str) -> None:
    data = encoded(Image.fromarray(stored), "PNG", exif=exif_record(orientation, order=order))
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded), TURNS[orientation](stored))
    assert decoded.actions == (() if orientation == 1 else (TURNED,))


BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))), st.integers(1, 8))
def test_turning_and_turning_back_is_no_change(stored: np.ndarray[Any, Any], orientation: int) -> None:
    once = rows(decode(encoded(Image.fromarray(stored), "PNG", exif=exif_record(orientation))))
    twice = rows(decode(encoded(Image.fromarray(np.array(once)), "PNG", exif=exif_record(BACK[orientation]))))
    np.testing.assert_array_equal(twice, stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "TIFF", "TIFF, compressed"])
def test_orientation_is_applied_once_in_every_format(image_format: str, orientation: int) -> None:
    kind, _, compressed = image_format.partition(", ")
    stored = photo(48, 80)
    options: dict[str, Any] = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif_record(orientation)}
    options |= {"compression": "tiff_lzw"} if compressed else {}
    options |= {"lossless": True} if kind == "WEBP" else {}
    data = encoded(stored, kind, **options)
    decoded = decode(data)
    check_agreement(data, decoded)
    plain = encoded(stored, kind, **{key: value for key, value in options.items() if key not in ("exif", "tiffinfo")})
    np.testing.assert_array_equal(rows(decoded), TURNS[orientation](rows(decode(plain))))
    assert decoded.actions == (() if orientation == 1 else (TURNED,))


def test_orientation_of_a_png_may_follow_its_pixels() -> None:
    data = encoded(photo(), "PNG")
    late = data[:-12] + chunk(b"eXIf", exif_record(6)[6:]) + data[-12:]
    assert decode(late).pixels.shape == (3, 40, 24)
    assert decode(late).actions == (TURNED,)


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_orientation_may_be_a_byte_a_short_or_a_long(kind: int) -> None:
    assert decode(encoded(photo(), "JPEG", exif=exif_record(6, kind=kind))).original_size == (40, 24)


def test_orientation_zero_means_unknown() -> None:
    assert decode(encoded(photo(), "JPEG", exif=exif_record(0))).actions == ()


@pytest.mark.parametrize("fault", BROKEN_EXIF)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_record_is_ignored_and_noted(image_format: str, fault: str) -> None:
    if (image_format, fault) == ("WEBP", "nothing"):
        return  # WebP stores the record without its mark, so that nothing is left
    decoded = decode(encoded(photo(), image_format, exif=BROKEN_EXIF[fault]))
    assert decoded.pixels.shape == (3, 24, 40)
    assert decoded.actions == ("broken EXIF orientation ignored",)


@given(st.binary(max_size=80))
def test_no_exif_record_stops_the_door(record: bytes) -> None:
    data = encoded(photo(2, 3), "JPEG")
    segment = b"\xff\xe1" + (len(record) + 8).to_bytes(2, "big") + b"Exif\x00\x00" + record
    assert sorted(decode(data[:2] + segment + data[2:]).pixels.shape) == [2, 3, 3]


# ---- bits ----


@given(arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 6))))
def test_16_bit_gray_is_scaled_and_never_clipped(values: np.ndarray[Any, Any]) -> None:
    expected = np.round(values.astype(np.float64) * 255 / 65535).astype(np.uint8)
    for data in (png(values, bits=16, color_type=0), encoded(Image.fromarray(values), "TIFF")):
        decoded = decode(data)
        check_agreement(data, decoded)
        np.testing.assert_array_equal(rows(decoded), expected)
        assert decoded.actions == ((SIXTEEN, LOW) if 255 < values.max() < 8192 else (SIXTEEN,))


def test_16_bit_scaling_keeps_both_ends_and_the_order() -> None:
    ramp = rows(decode(png(np.arange(65536).reshape(256, 256), bits=16, color_type=0))).ravel()
    assert (ramp[0], ramp[-1]) == (0, 255)
    assert set(np.diff(ramp.astype(int))) == {0, 1}


def test_16_bit_gray_in_motorola_order_and_in_pgm() -> None:
    values = np.array([[0, 257, 1000], [40000, 65534, 65535]], dtype=np.uint16)
    expected = [[0, 1, 4], [156, 255, 255]]
    motorola = encoded(Image.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes()), "TIFF")
    pgm = b"P5 3 2 65535\n" + values.astype(">u2").tobytes()
    for data in (motorola, pgm):
        assert rows(decode(data)).tolist() == expected
        assert decode(data).actions == (SIXTEEN,)


def test_a_16_bit_tiff_in_which_white_is_zero_is_inverted() -> None:
    values = np.array([[0, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    data = data.replace(
        (262).to_bytes(2, "little") + b"\x03\x00\x01\x00\x00\x00\x01", b"\x06\x01\x03\x00\x01\x00\x00\x00\x00"
    )
    assert rows(decode(data)).tolist() == [[255, 0]]


@given(arrays(np.uint16, st.tuples(st.integers(1, 3), st.integers(1, 3), st.just(3))))
def test_16_bit_color_is_within_one_level_of_the_rule(values: np.ndarray[Any, Any]) -> None:
    decoded = decode(png(values, bits=16, color_type=2))
    assert np.abs(rows(decoded) - values * (255 / 65535)).max() <= 1
    assert decoded.actions == (SIXTEEN,)


def test_16_bit_ppm_color_is_scaled() -> None:
    values = np.array([[[0, 32768, 65535]]], dtype=">u2")
    data = b"P6 1 1 65535\n" + values.tobytes()
    assert (rows(decode(data)).tolist(), decode(data).actions) == ([[[0, 128, 255]]], (SIXTEEN,))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_one_bit_becomes_black_and_white(image_format: str) -> None:
    image = photo(channels=1).convert("1")
    data = encoded(image, image_format)
    decoded = decode(data)
    check_agreement(data, decoded)
    values = rows(decoded) if decoded.pixels.shape[0] == 1 else rows(decoded)[:, :, 0]
    np.testing.assert_array_equal(values, np.asarray(image) * np.uint8(255))
    assert decoded.actions in (("1-bit values widened to 8-bit",), (), (PALETTE,))
    if image_format in ("PNG", "TIFF", "PPM"):
        assert decoded.actions == ("1-bit values widened to 8-bit",)


# ---- palettes and transparency ----


def on_white(colors: np.ndarray[Any, Any], alpha: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    share = alpha[..., None] / 255
    return np.round(colors * share + 255 * (1 - share)).astype(np.uint8)


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(4))))
def test_transparency_is_blended_on_white(values: np.ndarray[Any, Any]) -> None:
    data = png(values, bits=8, color_type=6)
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded), on_white(values[:, :, :3], values[:, :, 3]))
    assert decoded.actions == ((BLENDED,) if values[:, :, 3].min() < 255 else ())


def test_an_alpha_channel_that_hides_nothing_changes_nothing() -> None:
    values = np.full((2, 2, 4), 255, np.uint8)
    values[0, 0, :3] = (1, 2, 3)
    decoded = decode(png(values, bits=8, color_type=6))
    np.testing.assert_array_equal(rows(decoded), values[:, :, :3])
    assert (decoded.actions, decoded.mode) == ((), "RGBA")


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_are_white_in_every_format(image_format: str) -> None:
    values = np.zeros((8, 8, 4), np.uint8)
    values[:4, :, 3] = 255
    data = encoded(Image.fromarray(values), image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded)[:, :, 0], np.repeat([0, 255], 4)[:, None].repeat(8, axis=1))
    assert decoded.actions == (BLENDED,)


def test_gray_with_alpha_stays_gray() -> None:
    values = np.array([[[0, 255], [0, 0], [100, 51]]], np.uint8)
    decoded = decode(png(values, bits=8, color_type=4))
    assert (decoded.pixels.tolist(), decoded.actions, decoded.mode) == ([[[0, 255, 224]]], (BLENDED,), "LA")


def test_a_palette_becomes_color() -> None:
    image = photo().quantize(16)
    for data in (encoded(image, "PNG"), encoded(image, "GIF"), encoded(image, "BMP"), encoded(image, "TIFF")):
        decoded = decode(data)
        check_agreement(data, decoded)
        np.testing.assert_array_equal(rows(decoded), np.asarray(image.convert("RGB")))
        assert decoded.actions == (PALETTE,)


def test_a_palette_with_a_transparent_entry_becomes_color_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    several = encoded(image, "PNG", transparency=bytes([255, 0, 51]))
    one = encoded(image, "GIF", transparency=1)
    assert rows(decode(several)).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 255]]]
    assert rows(decode(one)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    assert decode(several).actions == decode(one).actions == (PALETTE, BLENDED)


def test_a_transparent_color_without_alpha_channel_is_white() -> None:
    color = png(np.array([[[1, 2, 3], [4, 5, 6]]]), bits=8, color_type=2, extra=chunk(b"tRNS", bytes([0, 1, 0, 2, 0, 3])))
    assert (rows(decode(color)).tolist(), decode(color).actions) == ([[[255, 255, 255], [4, 5, 6]]], (BLENDED,))
    gray = png(np.array([[7, 8]]), bits=8, color_type=0, extra=chunk(b"tRNS", bytes([0, 7])))
    assert (rows(decode(gray)).tolist(), decode(gray).actions) == ([[255, 8]], (BLENDED,))
    deep = png(np.array([[7, 2570]]), bits=16, color_type=0, extra=chunk(b"tRNS", bytes([0, 7])))
    assert (rows(decode(deep)).tolist(), decode(deep).actions) == ([[255, 10]], (SIXTEEN, BLENDED, LOW))
    values = np.array([[[256, 512, 768], [1024, 1280, 1536]]])
    deep = png(values, bits=16, color_type=2, extra=chunk(b"tRNS", bytes([1, 0, 2, 0, 3, 0])))
    assert (rows(decode(deep)).tolist(), decode(deep).actions) == ([[[255, 255, 255], [4, 5, 6]]], (SIXTEEN, BLENDED))


# ---- color spaces ----


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb_as_pillow_does(image_format: str) -> None:
    data = encoded(photo(32, 48).convert("CMYK"), image_format)
    decoded = decode(data)
    check_agreement(data, decoded)
    np.testing.assert_array_equal(rows(decoded), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(rows(decoded).astype(int) - np.asarray(photo(32, 48))).mean() < 8
    assert decoded.actions == ("CMYK converted to RGB",)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_another_color_space_becomes_rgb(mode: str) -> None:
    if mode == "LAB":
        cms = pytest.importorskip("PIL.ImageCms")
        image = cms.profileToProfile(photo(), cms.createProfile("sRGB"), cms.createProfile("LAB"), outputMode="LAB")
    else:
        image = photo().convert(mode)
    data = encoded(image, "TIFF")
    decoded = decode(data)
    check_agreement(data, decoded)
    assert np.abs(rows(decoded).astype(int) - np.asarray(photo())).mean() < 2
    assert decoded.actions == ("color space converted to RGB",)


# ---- frames ----


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_used(image_format: str) -> None:
    data = animation(image_format)
    decoded = decode(data)
    check_agreement(data, decoded)
    assert np.abs(rows(decoded).astype(int) - np.asarray(photo(seed=1))).mean() < 20
    assert decoded.actions[0] == "first frame of an animation used"
    assert decoded.actions[1:] == ((PALETTE,) if image_format == "GIF" else ())


# ---- reduced decoding ----


def test_a_large_jpeg_is_decoded_at_a_reduced_size_and_says_so() -> None:
    data = encoded(photo(600, 900), "JPEG")
    reduced, full = decode(data, at_least=(50, 60)), decode(data)
    assert (reduced.pixels.shape, reduced.original_size) == ((3, 150, 225), (600, 900))
    assert (reduced.actions, full.actions) == (("decoded at a reduced size",), ())


def test_at_least_is_meant_for_the_upright_image() -> None:
    data = encoded(photo(64, 512), "JPEG", exif=exif_record(6))
    decoded = decode(data, at_least=(128, 16))
    assert (decoded.pixels.shape, decoded.original_size) == ((3, 256, 32), (512, 64))
    assert decode(data, at_least=(16, 128)).pixels.shape == (3, 512, 64)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
def test_a_reduced_image_keeps_twice_the_needed_size(height: int, width: int, needed_height: int, needed_width: int) -> None:
    divisor = image_jpeg.reduction((height, width), (needed_height, needed_width))
    assert divisor in (1, 2, 4, 8)
    if divisor > 1:
        assert height / divisor >= 2 * needed_height
        assert width / divisor >= 2 * needed_width


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_only_jpeg_is_ever_reduced(image_format: str) -> None:
    decoded = decode(encoded(photo(200, 200), image_format), at_least=(10, 10))
    assert (decoded.pixels.shape, decoded.actions) == ((3, 200, 200), ())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_both_jpeg_decoders_give_the_same_pixels(divisor: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    if not image_jpeg._is_exact():
        pytest.skip("the installed simplejpeg gives other pixels than the installed Pillow, so that it is never used")
    noise = np.random.default_rng(1).integers(0, 256, (201, 333, 3), np.uint8)
    data = encoded(Image.fromarray(noise).convert("L" if channels == 1 else "RGB"), "JPEG")
    needed = None if divisor == 1 else (201 // (2 * divisor), 201 // (2 * divisor))
    assert image_jpeg.decode_checked(data, "L" if channels == 1 else "RGB", (201, 333), divisor)[0] is not None
    fast = decode(data, at_least=needed)
    monkeypatch.setattr(image_jpeg, "_is_exact", lambda: False)
    slow = decode(data, at_least=needed)
    np.testing.assert_array_equal(fast.pixels, slow.pixels)
    assert fast.actions == slow.actions == (() if divisor == 1 else ("decoded at a reduced size",))
    assert slow.pixels.shape == (channels, -(-201 // divisor), -(-333 // divisor))


@pytest.fixture
def _check_again() -> Iterator[None]:
    for answer in (image_jpeg._is_exact, image_jpeg.strict_decoder):
        answer.cache_clear()
    yield
    for answer in (image_jpeg._is_exact, image_jpeg.strict_decoder):
        answer.cache_clear()


@pytest.mark.usefixtures("_check_again")
def test_a_jpeg_decoder_that_disagrees_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    honest = image_jpeg._decode

    def off_by_one(*arguments: Any) -> Any:
        return honest(*arguments) ^ 1

    monkeypatch.setattr(image_jpeg, "_decode", off_by_one)
    assert image_jpeg.decode_checked(encoded(photo(), "JPEG"), "RGB", (24, 40), 1)[0] is None


@pytest.mark.usefixtures("_check_again")
def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    data = encoded(photo(), "JPEG")
    assert image_jpeg.decode_checked(data, "RGB", (24, 40), 1) == (None, data, ())
    assert decode(data).pixels.shape == (3, 24, 40)


# ---- settings and real data ----


def test_limits_are_numbers_of_the_caller() -> None:
    data = encoded(photo(), "PNG")
    assert decode(data, limits=Limits(len(data), 24 * 40)).original_size == (24, 40)
    assert Limits() == Limits(max_bytes=268_435_456, max_pixels=100_000_000)


def test_no_setting_of_the_process_is_changed() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for data in (encoded(photo(), "TIFF"), animation("GIF"), encoded(photo(), "JPEG")):
        decode(data)
        probe_image(data)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_warnings_of_pillow_are_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = encoded(photo(), "JPEG", exif=BROKEN_EXIF["entries beyond the end"])
    tiff = encoded(photo(), "TIFF")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # of 960: Pillow warns, and refuses from 1,200
    for data in (broken, tiff):
        for reads, is_heard in (
            (lambda data: Image.open(io.BytesIO(data)).load(), True),
            (decode, False),
            (probe_image, False),
        ):
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                reads(data)
            assert bool(heard) == is_heard


def test_real_photos_of_signs_have_three_large_ones(real_data: Any) -> None:
    files = sorted((real_data("photos_sign_digits") / "7").iterdir())
    large = [file for file in files if probe_image(file).size != (100, 100)]
    assert [(file.name, probe_image(file).size) for file in large] == [
        (f"IMG_{number}.JPG", (3024, 3024)) for number in (5874, 5935, 5978)
    ]
    for file in large:
        decoded = decode(file, at_least=(100, 100))
        assert decoded.pixels.shape == (3, 378, 378)
        assert decoded.actions == ("decoded at a reduced size", TURNED)


# ---- images that Pillow has opened or made ----


PILLOW = {
    "gray": encoded(photo(channels=1), "PNG"),
    "color": encoded(photo(), "BMP"),
    "JPEG": encoded(photo(), "JPEG", quality=95),
    "turned": encoded(photo(), "PNG", exif=exif_record(6)),
    "turned TIFF": encoded(photo(), "TIFF", exif=exif_record(8)),
    "palette": encoded(photo().quantize(16), "PNG"),
    "alpha": encoded(Image.merge("RGBA", (*photo().split(), photo(channels=1))), "PNG"),
    "gray and alpha": encoded(Image.merge("LA", (photo(channels=1), photo(channels=1, seed=1))), "PNG"),
    "16 bits": encoded(Image.fromarray(np.arange(960, dtype=np.uint16).reshape(24, 40) * 68), "PNG"),
    "1 bit": encoded(photo().convert("1"), "PNG"),
    "CMYK": encoded(photo().convert("CMYK"), "TIFF"),
    "animation": animation("GIF"),
}


@pytest.mark.parametrize("kind", PILLOW)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_an_image_of_pillow_is_decoded_as_its_file(kind: str, is_loaded: bool) -> None:
    expected = decode(PILLOW[kind])
    with Image.open(io.BytesIO(PILLOW[kind])) as image:
        if is_loaded:
            image.load()
        found = decode_opened(image)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    if not (is_loaded and kind == "turned TIFF"):  # Pillow turned it while loading
        assert found.actions == expected.actions
    assert found.original_size == expected.original_size


def test_a_changed_image_of_pillow_is_decoded_with_its_changes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PILLOW["color"])
    with Image.open(tmp_path / "a.png") as image:
        image.putpixel((0, 0), (1, 2, 3))
        assert decode_opened(image).pixels[:, 0, 0].tolist() == [1, 2, 3]
    with Image.open(io.BytesIO(PILLOW["animation"])) as moved:
        moved.seek(1)
        assert (decode_opened(moved).pixels[:, 0, 0] == [200, 0, 0]).all()
        assert "first frame of an animation used" not in decode_opened(moved).actions


def test_an_image_that_pillow_has_closed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(PILLOW["color"])
    image = Image.open(tmp_path / "a.bmp")
    image.close()
    with pytest.raises(ImageError) as caught:
        decode_opened(image, name="a.bmp")
    assert str(caught.value).startswith("a.bmp: Pillow cannot load the pixels of this image (")
    assert str(caught.value).endswith("). Open its file again, or name the file.")


def test_an_image_of_pillow_has_the_limits_and_errors_of_a_file() -> None:
    with pytest.raises(ImageError) as caught:
        decode_opened(Image.new("F", (4, 4)), name="mine")
    assert str(caught.value).startswith("mine: the image has floating-point numbers")
    with pytest.raises(ImageError, match="the image is too large: it states 4 x 4 = 16 pixels"):
        decode_opened(Image.new("L", (4, 4)), limits=Limits(max_pixels=10))
