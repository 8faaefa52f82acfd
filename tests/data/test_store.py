"""The store: samples are decoded once; unreadable files are left out and counted, and too many are an error."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visus
from visus.data import store as stores
from visus.errors import DataError, StorageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty images of two classes."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / label / f"{number:02}.png"
            )
    return tmp_path / "photos"


def test_a_second_opening_decodes_nothing_and_returns_the_same(photos: Path, tmp_path: Path) -> None:
    first, second = (visus.open_data(photos, cache_dir=tmp_path / "cache") for _ in range(2))
    assert (first.store.was_there, second.store.was_there) == (False, True)
    assert np.array_equal(first.store.pixels, second.store.pixels)
    assert first.ledger.as_dict() == second.ledger.as_dict()
    assert isinstance(second.store.pixels, np.memmap)


def test_pixels_are_those_of_the_files_in_the_order_of_the_samples(photos: Path, tmp_path: Path) -> None:
    data = visus.open_data(photos, cache_dir=tmp_path / "cache")
    for sample, row in zip(data.samples.names, data.store.pixels, strict=True):
        with Image.open(photos / sample) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), row)


def test_another_size_is_another_entry(photos: Path, tmp_path: Path) -> None:
    folders = {visus.open_data(photos, img_size=size, cache_dir=tmp_path / "cache").store.folder for size in (8, 12)}
    assert len(folders) == 2


def test_a_changed_file_is_decoded_anew(photos: Path, tmp_path: Path) -> None:
    before = visus.open_data(photos, cache_dir=tmp_path / "cache")
    Image.new("RGB", (12, 12), (1, 2, 3)).save(photos / "cat" / "00.png")
    after = visus.open_data(photos, cache_dir=tmp_path / "cache")
    assert after.store.folder != before.store.folder
    assert (after.store.pixels[after.samples.names.index("cat/00.png")].reshape(3, -1).T == [1, 2, 3]).all()


def test_the_cache_stays_within_its_bound_by_removing_what_was_used_least_recently(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data = visus.open_data(photos, img_size=8, cache_dir=cache)
    os.utime(data.store.folder, (1, 1))
    table = data.table
    del data  # what is in use stays
    second = visus.open_data(photos, img_size=9, cache_dir=cache)
    stores.open_store(table, dataclasses.replace(second.preprocessing, size=(10, 10)), cache_dir=cache, cache_bytes=27_000)
    sizes = sorted(np.load(entry / "pixels.npy", mmap_mode="r").shape[-1] for entry in cache.iterdir())
    assert sizes == [9, 10]


def test_an_unreadable_file_is_left_out_named_and_counted(photos: Path, tmp_path: Path) -> None:
    (photos / "dog" / "03.png").write_text("not an image")
    data = visus.open_data(photos, cache_dir=tmp_path / "cache")
    assert data.num_samples == 39
    assert "dog/03.png" not in data.samples.names
    assert data.ledger.counts["unreadable"] == 1
    assert data.ledger.examples("unreadable") == ["dog/03.png"]
    for name in ("train", "val", "test"):
        split = data.split(name)
        expected = [photos / sample for sample in split.names]
        for path, row in zip(expected, split.rows(np.arange(len(split))), strict=True):
            with Image.open(path) as image:
                assert np.array_equal(np.asarray(image).transpose(2, 0, 1), row.numpy())


def test_the_store_keeps_the_name_of_every_changed_sample(photos: Path, tmp_path: Path) -> None:
    (photos / "dog" / "03.png").write_text("not an image")
    now, later = (visus.open_data(photos, img_size=9, cache_dir=tmp_path / "cache") for _ in range(2))
    assert (now.store.was_there, later.store.was_there) == (False, True)
    assert now.ledger.names("resized") == list(now.samples.names)
    assert list(later.ledger.rows()) == list(now.ledger.rows())


def test_an_entry_with_damaged_changes_is_decoded_again(photos: Path, tmp_path: Path) -> None:
    first = visus.open_data(photos, img_size=9, cache_dir=tmp_path / "cache")
    changes = np.load(first.store.folder / "changes.npy")
    np.save(first.store.folder / "changes.npy", changes[::-1])
    del first
    again = visus.open_data(photos, img_size=9, cache_dir=tmp_path / "cache")
    assert not again.store.was_there
    assert again.ledger.names("resized") == list(again.samples.names)


def test_too_many_unreadable_files_are_an_error_that_names_some(photos: Path, tmp_path: Path) -> None:
    for number in range(7):
        (photos / "cat" / f"{number:02}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        visus.open_data(photos, cache_dir=tmp_path / "cache")
    assert str(caught.value) == (
        f"{photos}: 7 of 40 files cannot be read (17.5 %; at most 5.0 % may be left out). "
        "7 (cat/00.png, cat/01.png, cat/02.png, ...): the file is empty (0 bytes). Copy it again from its source, or remove it. Repair or remove them, or allow more with max_unreadable."
    )


def test_more_unreadable_files_can_be_allowed(photos: Path, tmp_path: Path) -> None:
    for number in range(7):
        (photos / "cat" / f"{number:02}.png").write_bytes(b"")
    assert visus.open_data(photos, cache_dir=tmp_path / "cache", max_unreadable=0.2).num_samples == 33


def test_a_class_without_any_readable_training_sample_is_an_error(photos: Path, tmp_path: Path) -> None:
    for file in (photos / "cat").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        visus.open_data(photos, cache_dir=tmp_path / "cache", max_unreadable=0.9)
    assert (
        str(caught.value)
        == f"{photos}: no readable training samples are left of the class cat. Repair the files that were left out, or add samples to the training split."
    )


def test_a_full_disk_says_what_to_do_and_leaves_no_half_entry(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stores, "open_memmap", full)
    with pytest.raises(StorageError) as caught:
        visus.open_data(photos, cache_dir=tmp_path / "cache")
    assert re.sub(r"\([\d.]+ \w+( free there)?\)", r"(N\1)", str(caught.value)) == (
        f"{tmp_path / 'cache'}: the decoded data (N) cannot be written: No space left on device (N free there). "
        "Free some space (visus cache lists what is stored), use a smaller --img-size, or choose another folder with --cache-dir or VISUS_CACHE."
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_array_rows_are_stored_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 2, 17)).astype(np.float32)
    np.savez(tmp_path / "signals.npz", x=values, y=np.arange(30) % 2)
    data = visus.open_data(tmp_path / "signals.npz", cache_dir=tmp_path / "cache")
    assert data.input_shape == (2, 17)
    assert data.store.pixels.dtype == np.float32
    assert np.array_equal(data.store.pixels, values)
