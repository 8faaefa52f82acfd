"""Consoles: any name on any encoding, and an output that cannot be written ends in one sentence."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.commands import Call

from visus.cli import streams
from visus.errors import printable
from visus.files import csv_text

NAMES = [
    "猫.png",
    "a\nb.png",
    "bad\udcff.png",
    "\U0001f600.png",
    "tab\t.png",
    "-x.png",
    "[red]x.png",
    "cr\r.png",
    'q".png',
    "ü,.png",
]
ENCODINGS = ["ascii", "latin-1", "cp437", "cp1252", "utf-8", "cp932", "gb2312", "utf-16"]


def written(text: str, encoding: str) -> bytes:
    streams.open_streams()
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding=encoding, errors=streams.HANDLER, newline="")
    stream.write(text)
    stream.flush()
    return kept.getvalue()


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=st.text(st.characters()))
def test_any_text_can_be_printed_in_any_encoding(encoding: str, text: str) -> None:
    written(text, encoding)


def test_letters_that_an_encoding_lacks_are_escaped_and_bytes_of_names_pass() -> None:
    assert written("猫 ü \udcff\udcfe", "latin-1") == b"\\u732b \xfc \xff\xfe"
    assert written("\U0001f600", "ascii") == b"\\U0001f600"
    assert written("猫\udcff", "utf-8") == "猫".encode() + b"\xff"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_valid_in_any_encoding_and_returns_the_names_back(encoding: str) -> None:
    streams.open_streams()
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding=encoding, errors=streams.HANDLER)
    streams.print_json(NAMES, stream)
    stream.flush()
    assert json.loads(kept.getvalue().decode(encoding)) == NAMES


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2, max_size=3))
)
def test_csv_is_read_back_whatever_the_cells_hold(rows: list[list[str]]) -> None:
    assert list(csv.reader(io.StringIO(csv_text(rows), newline=""))) == rows


@given(st.text(st.characters()))
def test_a_printable_name_is_one_line_and_steers_no_terminal(name: str) -> None:
    shown = printable(name)
    assert shown.splitlines() in ([], [shown])
    assert "\x1b" not in shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the output cannot be written: No space left on device. Free some space there, or send it elsewhere.",
        ),
        (OSError(errno.EMFILE, "Too many open files", "a\nb"), "a\\nb: the system refuses this: Too many open files."),
        (OSError(errno.ENOSPC, "No space left on device", b"x"), "x: the system refuses this: No space left on device."),
    ],
)
def test_an_error_of_the_system_has_its_sentence(error: OSError, sentence: str) -> None:
    assert streams.system_error(error) == sentence


SOLVE = "solve --in 224 --kernel 11 --stride 4 --out 55"


def shell(line: str, **variables: str) -> tuple[int, str]:
    """A command of ``visus`` in a shell -> exit code, stderr."""
    line = line.replace("visus", f"{sys.executable} -m visus", 1)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **variables}, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [SOLVE, f"{SOLVE} --json", "cache"])
def test_a_full_disk_at_stdout_is_reported(words: str) -> None:
    assert shell(f"visus {words} > /dev/full") == (
        1,
        "error: the output cannot be written: No space left on device. Free some space there, or send it elsewhere.\n",
    )


@pytest.mark.parametrize("line", [f"visus {SOLVE} >&-", f"visus {SOLVE} 2>&-", f"visus {SOLVE} <&-"])
def test_a_closed_stream_is_no_mistake(line: str) -> None:
    assert shell(line) == (0, "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    assert shell("visus --help | true")[1] == ""


def test_a_working_folder_that_is_gone_is_reported(visus_command: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with monkeypatch.context() as patched:
        patched.setattr(os, "getcwd", gone)
        answer = visus_command("cache")
    assert answer == (
        1,
        "",
        "error: the working folder no longer exists. Change to another folder (cd), and run the command again.\n",
    )


def test_an_empty_list_on_stdin_is_reported(visus_command: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert visus_command("predict", run, "-") == (
        2,
        "",
        "error: no file is named: the list on stdin is empty. Give files or folders, or a list with a name on each line.\n",
    )


@pytest.mark.long
def test_names_on_stdin_may_be_separated_by_nulls(
    visus_command: Call, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos}/dark/00.png\0{photos}/dark/01.png\0"))
    answer = visus_command("predict", run, "-", "-q")
    assert answer.code == 0
    assert answer.out.count(".png,dark,") == 2


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp437", marks=pytest.mark.slow)])
@pytest.mark.long
def test_predict_prints_any_name_as_csv_on_any_console(run: Path, photos: Path, tmp_path: Path, encoding: str) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes((photos / "dark" / "00.png").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "visus", "predict", str(run), str(tmp_path), "-q"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "40", "NO_COLOR": "1"},
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    rows = list(csv.reader(io.StringIO(done.stdout.decode("latin-1"), newline="")))
    assert [len(row) for row in rows] == [4] * (len(NAMES) + 1)
