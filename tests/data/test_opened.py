"""Opening a dataset: default size and channels, warnings, and data for scoring with the classes of a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.opened import open_data, open_scoring_data
from visus.data.store import blank_rows
from visus.errors import DataError, UsageError

MakeFolder = Callable[..., Path]


def save(folder: Path, sizes: list[tuple[int, int]], mode: str = "RGB") -> Path:
    """Images of these sizes (height, width) in two classes."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).convert(mode).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("sizes", "input_size"),
    [
        ([(28, 28)] * 12, (28, 28)),
        ([(20, 60)] * 12, (20, 60)),
        ([(100, 100)] * 12, (96, 96)),
        ([(120, 160)] * 12, (96, 128)),
        ([(40 + 3 * number, 90 + number) for number in range(12)], (56, 56)),
        ([(200 + number, 300) for number in range(12)], (96, 96)),
    ],
)
def test_the_size_follows_from_the_images(tmp_path: Path, sizes: list[tuple[int, int]], input_size: tuple[int, int]) -> None:
    assert visus.open_data(save(tmp_path / "p", sizes), pretrained=False).input_shape == (3, *input_size)


def test_gray_images_have_one_channel_and_one_color_image_makes_three(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", [(8, 8)] * 12, "L")
    assert visus.open_data(folder).input_shape == (1, 8, 8)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "a" / "red.png")
    data = visus.open_data(folder)
    assert data.input_shape == (3, 8, 8)
    assert data.ledger.counts["gray made color"] == 12


def test_requested_size_and_channels_are_used(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", [(30, 30)] * 12)
    assert visus.open_data(folder, img_size=(10, 14), channels=1).input_shape == (1, 10, 14)


def test_outsized_images_are_on_the_ledger(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", [(20, 20)] * 12 + [(90, 90)])
    data = visus.open_data(folder)
    assert data.ledger.examples("outsized") == ["a/12.png"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"img_size": 0}, "the image size must be at least 1 pixel, not 0."),
        ({"channels": 2}, "channels must be 1 (gray) or 3 (color), not 2."),
        ({"resize_mode": "stretch"}, "unknown resize mode 'stretch'. Known: crop, pad, squash."),
        ({"normalize": "minmax"}, "unknown normalization 'minmax'. Did you mean 'min-max'? Known: mean-deviation, min-max."),
        ({"max_unreadable": 1.5}, "the fraction of unreadable files must be at least 0 and below 1, not 1.5."),
        ({"img_size": (8, 8, 8)}, "the size 8 x 8 x 8 has 3 axes, and the data has 2."),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    folder = save(tmp_path / "p", [(9, 9)] * 12)
    with pytest.raises(UsageError) as caught:
        visus.open_data(folder, **settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_arrays_are_only_made_smaller(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(
        file, x=np.zeros((12, 1, 10), dtype=np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None], y=np.arange(12) % 2
    )
    assert visus.open_data(file, img_size=5).input_shape == (1, 5)
    with pytest.raises(UsageError) as caught:
        visus.open_data(file, img_size=20)
    assert str(caught.value) == f"{file}: visus does not enlarge arrays: the size 20 was requested, but they are 10."
    with pytest.raises(UsageError) as caught:
        visus.open_data(file, channels=3)
    assert str(caught.value) == f"{file}: these arrays have 1 channel, not channels=3."


def test_uneven_classes_are_warned_about(make_folder: MakeFolder) -> None:
    data = visus.open_data(make_folder({"many": 60, "few": 12}))
    assert data.warnings == (
        "the classes are uneven: many has 43 training samples, and few has 9. "
        "Check the recall of each class; class_weights='balanced' gives rare classes more weight.",
    )


def test_an_unknown_split_names_the_known_ones(make_folder: MakeFolder) -> None:
    with pytest.raises(UsageError) as caught:
        visus.open_data(make_folder({"a": 5, "b": 5})).split("tests")
    assert str(caught.value) == "unknown split 'tests'. Did you mean 'test'? Known: test, train, val."


def test_data_for_scoring_is_counted_by_the_classes_of_the_network(make_folder: MakeFolder) -> None:
    trained = visus.open_data(make_folder({"a": 8, "b": 8, "c": 8}))
    other = make_folder({"c": 3}, below="other", seed=1) / "other"
    data = open_scoring_data(other, trained.preprocessing, trained.classes)
    assert data.classes == ("a", "b", "c")
    assert data.split("test").labels.tolist() == [2, 2, 2]


def test_data_of_another_kind_is_refused_for_scoring(make_folder: MakeFolder, tmp_path: Path) -> None:
    trained = visus.open_data(make_folder({"a": 8, "b": 8}))
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 1, 10), dtype=np.float32), y=np.arange(4) % 2, classes=np.array(["a", "b"]))
    with pytest.raises(DataError) as caught:
        open_scoring_data(tmp_path / "x.npz", trained.preprocessing, trained.classes)
    assert str(caught.value) == f"{tmp_path / 'x.npz'}: this network reads image files, but these are arrays."


def test_data_of_which_nothing_can_be_held_out_is_refused_before_training(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "same.npz",
        x=np.arange(2, dtype=np.uint8).repeat(3)[:, None, None] + np.zeros((6, 1, 9), np.uint8),
        y=[0, 0, 0, 1, 1, 1],
    )
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "same.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'same.npz'}: no samples are left for validation and testing: copies and groups stay in one split, "
        "and here each class is a single group or copies of one sample. Add samples, or define other groups."
    )


def test_a_class_name_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    for label in (b"a", b"b\xe9"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), label))
        with open(os.path.join(os.fsencode(tmp_path), label, b"0.png"), "wb") as file:
            Image.new("L", (8, 8)).save(file, "png")
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the class name 'b\\udce9' is empty, holds a control character or is not UTF-8. Rename that class."
    )


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="long doubles are plain doubles here")
def test_numbers_longer_than_64_bits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "long.npz", x=np.zeros((8, 8, 8), np.longdouble), y=np.arange(8) % 2)
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "long.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'long.npz'}: the array x has the type {np.dtype(np.longdouble)}; "
        "integers or floating-point numbers of at most 64 bits are needed."
    )


def test_images_of_one_color_and_unreadable_files_are_warned_of(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(30):
            Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / label / f"{number:02d}.png")
    assert open_data(tmp_path).warnings == ()
    Image.new("RGB", (24, 24), (250, 250, 240)).save(tmp_path / "dog" / "white.jpg")
    (tmp_path / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert open_data(tmp_path).warnings == (
        "1 image has a single color, so there is nothing in it to learn: dog/white.jpg.",
        "1 file cannot be read and was left out: cat/bad.png. Repair or remove it.",
    )


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_images_of_two_near_values_are_not_of_a_single_color(tmp_path: Path, dtype: type) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (60, 8, 8)).astype(dtype)
    labels = np.arange(60) % 2
    assert visus.open_data(x=masks, y=labels, cache_dir=tmp_path, progress=False).warnings == ()
    masks[7] = 1
    found = visus.open_data(x=masks, y=labels, cache_dir=tmp_path, progress=False).warnings
    assert found == ("1 image has a single color, so there is nothing in it to learn: x[7].",)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(0, 2**16), st.sampled_from([np.uint8, np.int8, np.float32]))
def test_blank_rows_are_those_without_a_difference(channels: int, side: int, seed: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 2, (6, channels, side, side)).astype(dtype)
    pixels *= np.asarray(random.choice([0, 100], (6, 1, 1, 1)), dtype)
    pixels -= np.asarray(random.choice([0, 28], (6, 1, 1, 1)), dtype) if dtype is not np.uint8 else np.uint8(0)
    places = np.flatnonzero(random.integers(0, 2, 6))
    expected = [n for n, row in enumerate(pixels[places]) if all(len(set(part.ravel().tolist())) == 1 for part in row)]
    assert blank_rows(pixels, places) == expected
