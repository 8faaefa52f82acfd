"""Files that are whole or absent, whatever fails on the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from visus import files
from visus.errors import StorageError, UsageError
from visus.files import csv_text, write_csv


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "weights.bin"
    files.write_file(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StorageError) as caught:
        files.write_file(path, b"x" * 5000)
    assert str(caught.value) == (
        f"{path}: 4.88 KiB could not be written: No space left on device; 100 bytes free there. Free some space or choose another folder."
    )
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a.txt"
    with pytest.raises(StorageError) as caught:
        files.write_file(path, "x")
    assert (
        str(caught.value)
        == f"{path}: 1 bytes could not be written: No such file or directory. Choose a folder that exists and can be written."
    )


def test_an_interruption_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_file(path, "old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_file(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_rows_are_written_as_their_text_a_part_at_a_time(tmp_path: Path) -> None:
    rows = [(index, f"a,{index}\r") for index in range(10_000)]
    write_csv(tmp_path / "rows.csv", iter(rows))
    assert (tmp_path / "rows.csv").read_bytes().decode() == csv_text(rows)
    write_csv(tmp_path / "rows.csv", iter(()))
    assert (tmp_path / "rows.csv").read_bytes() == b""


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.txt.0123abcd.part", ".hidden", "a.part", "b.txt"):
        (tmp_path / name).write_text("x")
    files.remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.part", "b.txt"]


def test_json_is_readable_by_people_and_machines(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"name": "\u00e9t\u00e9"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "\u00e9t\u00e9"}
    assert "\u00e9t\u00e9" in text


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError) as caught:
        files.read_text(tmp_path / "a.bin")
    assert (
        str(caught.value) == f"{tmp_path / 'a.bin'}: this file cannot be read as text. Give the path of a UTF-8 text file."
    )


def test_json_has_lists_of_numbers_on_one_line_and_reads_back_unchanged(tmp_path: Path) -> None:
    value = {"matrix": [[1, 2], [], [3.5, None]], "words": ["a [1,\n 2]", "b"], "tables": [{"x": [True]}], "none": []}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == value
    assert "    [1, 2],\n    [],\n    [3.5, null]\n" in text
    assert '"words": [\n    "a [1,\\n 2]",\n    "b"\n  ]' in text


def test_the_cache_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for named, place in (
        ("~/x", tmp_path / "x"),
        (str(tmp_path / "y"), tmp_path / "y"),
        ("", tmp_path / "z"),
        (" ", tmp_path / "z"),
    ):
        monkeypatch.setenv("VISUS_CACHE", named)
        assert files.cache_folder(lambda: str(tmp_path / "z")) == place


def test_an_account_without_a_home_gets_a_cache_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> str:
        raise RuntimeError("no home")

    monkeypatch.delenv("VISUS_CACHE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files._private_temporary_folder.cache_clear()
    folder = files.cache_folder(homeless)
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert files.cache_folder(lambda: "~/.cache/visus") == folder
    folder.chmod(0o777)  # somebody else could have put kernels there
    files._private_temporary_folder.cache_clear()
    assert files.cache_folder(homeless) != folder
    files._private_temporary_folder.cache_clear()


def test_a_home_that_is_not_known_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: Path) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(UsageError) as caught:
        files.expand_home(Path("~/x"))
    assert str(caught.value) == "~/x: this path begins with ~, and its home folder is not known. Write the whole path."
