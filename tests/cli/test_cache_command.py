"""``visus cache``: what is stored, and how it is emptied."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tests.commands import Call

import visus


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with two entries; the data of the first is gone, and it was not used for ten days."""
    for name in ("old", "new"):
        x = np.random.default_rng(len(name)).integers(0, 256, (40, 12 if name == "old" else 10, 12), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(40) % 2)
        folder = visus.open_data(tmp_path / f"{name}.npz", layout="NHW", cache_dir=tmp_path / "cache").store.folder
        if name == "old":
            os.utime(folder, (time.time() - 864_000 - 60,) * 2)
    (tmp_path / "old.npz").unlink()
    return tmp_path / "cache"


def test_the_list_reports_data_size_use_and_what_is_gone(visus_command: Call, cache: Path) -> None:
    answer = visus_command("cache", "--cache-dir", cache)
    assert answer.code == 0
    assert answer.err == ""
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert any("old.npz 40 x 1 x 12 x 12" in line and line.endswith("10 days ago its data is gone") for line in lines)
    assert any("new.npz 40 x 1 x 10 x 12" in line and line.endswith("-") for line in lines)
    assert any(line.startswith("2 entries, ") and "below 20.0 GiB (VISUS_CACHE_SIZE)" in line for line in lines)


@pytest.mark.parametrize("narrowed", [["--older-than", "7d"], ["--gone"]])
def test_a_part_of_it_can_be_removed(visus_command: Call, cache: Path, narrowed: list[str]) -> None:
    answer = visus_command("cache", "--cache-dir", cache, "--empty", *narrowed)
    assert answer.out.startswith("removed: 1 entry, ")
    (left,) = json.loads(visus_command("cache", "--cache-dir", cache, "--json").out)["entries"]
    assert left["name"] == "new"


def test_what_is_in_use_is_kept_and_reported(visus_command: Call, cache: Path, tmp_path: Path) -> None:
    data = visus.open_data(tmp_path / "new.npz", layout="NHW", cache_dir=cache)
    lines = visus_command("cache", "--cache-dir", cache, "--empty").out.splitlines()
    assert lines[0].startswith("removed: 1 entry, ")
    assert lines[1].startswith("kept: 1 entry, ")
    assert lines[1].endswith(", which a running process uses")
    assert data.store.folder.is_dir()


def test_a_file_is_no_cache(visus_command: Call, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert visus_command("cache", "--cache-dir", tmp_path / "x") == (
        2,
        "",
        f"error: {tmp_path / 'x'}: this is a file. Name a folder with --cache-dir or VISUS_CACHE.\n",
    )
