"""The cache folder: damage is detected, entries in use are kept, and the size limit holds."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import visus
from visus.data import cache
from visus.data.store import open_store
from visus.errors import StorageError, UsageError


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Forty arrays of two classes."""
    x = np.random.default_rng(0).integers(1, 256, (40, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", x=x, y=np.arange(40) % 2)
    return tmp_path / "arrays.npz"


def open_in(arrays: Path, folder: Path) -> visus.Data:
    return visus.open_data(arrays, cache_dir=folder)


def cut(pixels: Path, facts: Path) -> None:
    pixels.write_bytes(pixels.read_bytes()[:3000])


def zeros(pixels: Path, facts: Path) -> None:
    whole = pixels.read_bytes()
    pixels.write_bytes(whole[:128] + bytes(len(whole) - 128))


def zeros_of_the_same_age(pixels: Path, facts: Path) -> None:
    state = pixels.stat()
    zeros(pixels, facts)
    os.utime(pixels, ns=(state.st_atime_ns, state.st_mtime_ns))


def other_facts(pixels: Path, facts: Path) -> None:
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"unreadable": [3]}))


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "cut": cut,
    "empty": lambda pixels, facts: pixels.write_bytes(b""),
    "gone": lambda pixels, facts: pixels.unlink(),
    "a folder": lambda pixels, facts: (pixels.unlink(), pixels.mkdir()),
    "zeros": zeros,
    "zeros of the same age": zeros_of_the_same_age,
    "facts empty": lambda pixels, facts: facts.write_text(""),
    "facts no object": lambda pixels, facts: facts.write_text("[1]"),
    "facts of an earlier version": lambda pixels, facts: facts.write_text('{"created": 1}'),
    "facts changed": other_facts,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_decoded_anew(arrays: Path, tmp_path: Path, damage: str) -> None:
    first = open_in(arrays, tmp_path / "cache")
    right, folder = np.array(first.store.pixels), first.store.folder
    del first
    DAMAGES[damage](folder / "pixels.npy", folder / "store.json")
    again = open_in(arrays, tmp_path / "cache")
    assert not again.store.was_there
    assert np.array_equal(again.store.pixels, right)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_a_copied_cache_is_used(arrays: Path, tmp_path: Path) -> None:
    open_in(arrays, tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    assert open_in(arrays, tmp_path / "copy").store.was_there


def test_an_entry_in_use_is_never_removed(arrays: Path, tmp_path: Path) -> None:
    data = open_in(arrays, tmp_path / "cache")
    (entry,) = cache.entries(tmp_path / "cache")
    assert entry.is_in_use
    assert cache.remove([entry]) == ([], [entry])
    cache.free_space(tmp_path / "cache", 10**6, 1)
    assert entry.folder.is_dir()
    pixels = data.store.pixels
    del data  # the pixels alone hold it too
    assert cache.remove([entry]) == ([], [entry])
    del pixels
    (entry,) = cache.entries(tmp_path / "cache")
    assert not entry.is_in_use
    assert cache.remove([entry]) == ([entry], [])
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_entry_says_what_it_is_of(arrays: Path, tmp_path: Path) -> None:
    open_in(arrays, tmp_path / "cache")
    (entry,) = cache.entries(tmp_path / "cache")
    assert (entry.name, entry.source, entry.shape, entry.has_source) == ("arrays", str(arrays), (40, 1, 12, 12), True)
    arrays.unlink()
    assert entry.has_source is False


def test_a_part_that_a_killed_process_left_goes_after_an_hour(arrays: Path, tmp_path: Path) -> None:
    part = tmp_path / "cache" / f"{'a' * 24}.x1"
    part.mkdir(parents=True)
    (part / "pixels.npy").write_bytes(b"1")
    open_in(arrays, tmp_path / "cache")
    assert part.is_dir()
    for place in (part / "pixels.npy", part):
        os.utime(place, (time.time() - 4000,) * 2)
    cache.free_space(tmp_path / "cache", 1, 10**9)
    assert not part.exists()


def test_other_files_in_the_folder_are_never_touched(arrays: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "mine").mkdir(parents=True)
    open_in(arrays, tmp_path / "cache")
    cache.remove(cache.entries(tmp_path / "cache"))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine"]


def test_space_that_is_not_there_is_noticed_before_the_file_is_mapped(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"head")
    with pytest.raises(OSError, match=r"No space|too large|File too") as caught:
        cache.reserve(file, 2**60)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG, errno.EINVAL)


def test_space_is_reserved_where_the_file_system_has_no_call_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    file = tmp_path / "x"
    file.write_bytes(b"head")
    cache.reserve(file, 3 * 2**20 + 5)
    assert file.stat().st_size == 3 * 2**20 + 5
    assert file.read_bytes()[:5] == b"head\0"


def test_a_limit_of_the_file_size_is_reported(arrays: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(StorageError) as caught:
            open_in(arrays, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == (
        f"{tmp_path / 'cache'}: the decoded data (5.62 KiB) cannot be written: File too large. "
        "Choose another folder with --cache-dir or VISUS_CACHE."
    )


def test_an_entry_that_cannot_be_read_back_is_reported(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visus.data.store.publish", lambda part, place: None)
    with pytest.raises(StorageError) as caught:
        open_in(arrays, tmp_path / "cache")
    assert str(caught.value) == (
        f"{tmp_path / 'cache'}: the decoded data that was just written cannot be read back. Check this disk, or choose "
        "another folder with --cache-dir or VISUS_CACHE."
    )


def test_an_entry_that_cannot_be_removed_is_reported(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_in(arrays, tmp_path / "cache")
    (entry,) = cache.entries(tmp_path / "cache")

    def refused(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StorageError) as caught:
        cache.remove([entry])
    assert str(caught.value) == (
        f"{entry.folder}: this entry of the cache cannot be removed: Permission denied. Remove the folder as its owner."
    )


@pytest.mark.slow
def test_processes_that_decode_the_same_at_once_all_get_it(arrays: Path, tmp_path: Path) -> None:
    code = f"import visus; print(int(visus.open_data({str(arrays)!r}, cache_dir={str(tmp_path / 'cache')!r}).store.pixels.sum()))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate()[0] for process in running}
    assert outputs == {f"{int(np.load(arrays)['x'].sum())}\n"}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_bound_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUS_CACHE_SIZE", raising=False)
    assert cache.cache_bound() == 20 * 2**30
    monkeypatch.setenv("VISUS_CACHE_SIZE", "500MB")
    assert cache.cache_bound() == 500_000_000
    monkeypatch.setenv("VISUS_CACHE_SIZE", "much")
    with pytest.raises(UsageError) as caught:
        cache.cache_bound()
    assert str(caught.value) == "'much' is not a size. Write bytes, or a number with a unit, such as 500MB or 20GiB."


def test_a_full_disk_makes_room_of_what_was_used_least_recently(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_in(arrays, tmp_path / "cache")
    plan, table, folder = first.preprocessing, first.table, first.store.folder
    del first
    free = iter([10, 10, 10**9, 10**9, 10**9])
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=next(free)))

    open_store(table, dataclasses.replace(plan, size=(6, 6)), cache_dir=tmp_path / "cache")
    assert not folder.exists()
