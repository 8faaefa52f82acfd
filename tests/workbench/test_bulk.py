"""Bulk prediction: each sample is in the table once, whatever stops the call; parts of different networks or samples never mix."""

from __future__ import annotations

import csv
import errno
import functools
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.commands import Call
from tests.workbench.brightness import Brightness, write_images

from visus import files
from visus.errors import CanceledError, DataError, MissingExtraError, StorageError, UsageError
from visus.progress import Progress
from visus.workbench.live_line import write_speed
from visus.workbench.runs import predictions as predictions_of_runs
from visus.workbench.runs.bulk import predicting, tables, work
from visus.workbench.runs.bulk.cluster import predict_chunk
from visus.workbench.runs.bulk.inputs import Chunk
from visus.workbench.runs.bulk.parts import PartFacts, PartsFolder
from visus.workbench.runs.bulk.predicting import predict_to
from visus.workbench.runs.bulk.result import BulkPredictions
from visus.workbench.runs.bulk.work import BulkPredictor, Job, OnSamples
from visus.workbench.runs.predictions import predict_with

ROOT = Path(__file__).resolve().parents[2]
QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred images."""
    return write_images(tmp_path_factory.mktemp("bulk") / "in", 100)


def rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class StopError(Exception):
    """What stops a call in a test."""


def stop_after(batches: int) -> Callable[[object], None]:
    """An ``on_event`` that raises after so many batches."""
    left = batches

    def on_event(event: object) -> None:
        nonlocal left
        if isinstance(event, Progress) and event.stage == "predicting" and event.done:
            left -= 1
            if left < 0:
                raise StopError

    return on_event


# ---- the table ----


def test_a_table_has_the_predictions_of_predict_in_the_same_order(images: Path, tmp_path: Path) -> None:
    found = predict_to(Brightness(), images, tmp_path / "out.csv", part_size=16, top=2, **QUIET)
    one_by_one = list(predict_with(Brightness(), images, (), top=2, progress=False))
    assert [
        (row["file"], row["label"], row["probability"], row["label_2"], row["error"]) for row in rows(tmp_path / "out.csv")
    ] == [(each.file, each.label, f"{each.probability:.6f}", each.labels[1], "") for each in one_by_one]
    assert (found.num_samples, found.num_errors, found.num_kept, sum(found.labels.values())) == (100, 0, 0, 100)
    assert not (tmp_path / "out.csv.parts").exists()
    assert os.listdir(tmp_path) == ["out.csv"]


def test_the_three_kinds_of_tables_have_the_same_cells(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "MAX_GROUP_ROWS", 40)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    for out in ("t.csv", "t.parquet", "t"):
        predict_to(Brightness(), [images, tmp_path / "in"], tmp_path / out, part_size=16, probabilities=True, **QUIET)
    text = rows(tmp_path / "t.csv")
    whole = parquet.read_table(tmp_path / "t.parquet")
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3
    assert whole.column_names == list(text[0])
    assert whole.equals(parquet.read_table(tmp_path / "t"))
    assert sorted(os.listdir(tmp_path / "t")) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    cells = [
        {
            key: "" if value is None else value if isinstance(value, str) else f"{round(value, 7):.6f}"
            for key, value in row.items()
        }
        for row in whole.to_pylist()
    ]
    assert cells == text
    assert list(text[0]) == [
        "file",
        "label",
        "probability",
        "probability:dark",
        "probability:middle",
        "probability:light",
        "error",
    ]
    assert text[-1]["error"].startswith("the file holds text")
    assert text[-1]["label"] == text[-1]["probability"] == text[-1]["probability:dark"] == ""


@pytest.mark.parametrize("out", ["t.csv", "t.parquet", "t"])
def test_a_table_of_no_samples_has_its_columns(tmp_path: Path, out: str) -> None:
    (tmp_path / "list.csv").write_text("path\n")
    if not out.endswith(".csv"):
        parquet = pytest.importorskip("pyarrow.parquet")
    assert predict_to(Brightness(), tmp_path / "list.csv", tmp_path / out, **QUIET).num_samples == 0
    names = ["file", "label", "probability", "error"]
    if out == "t.csv":
        assert (tmp_path / out).read_text() == ",".join(names) + "\n"
    else:
        assert parquet.read_table(tmp_path / out).column_names == names


def test_every_name_of_a_file_reaches_a_table_of_each_kind_as_the_same_utf_8(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ['a,"b".png', "line\nend.png", "\u732b.png", os.fsdecode(b"\xff.png")]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.new("L", (4, 4)).save(tmp_path / "plain.png")
        os.rename(tmp_path / "plain.png", tmp_path / "in" / name)
    given = [str(tmp_path / "in" / name) for name in names]
    predict_to(Brightness(), given, tmp_path / "t.csv", **QUIET)
    expected = [*given[:3], str(tmp_path / "in" / "\\xff.png")]
    assert [row["file"] for row in rows(tmp_path / "t.csv")] == expected
    predict_to(Brightness(), given, tmp_path / "t.parquet", **QUIET)
    assert parquet.read_table(tmp_path / "t.parquet")["file"].to_pylist() == expected


def test_unreadable_samples_are_rows_and_never_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "in", 5)
    (folder / "000001.png").write_bytes(b"")
    (folder / "000002.png").write_bytes((folder / "000002.png").read_bytes()[:40])
    (tmp_path / "list.csv").write_text("path\nin/000000.png\nin/missing.png\n")
    np.save(tmp_path / "odd.npy", np.zeros((3, 2, 9, 9, 9)))
    given = [folder, tmp_path / "list.csv", tmp_path / "odd.npy", tmp_path / "nowhere"]
    read = predictions_of_runs.read_sample

    def failing(sample: Any, *others: Any) -> Any:
        if sample.name.endswith("3.png"):
            raise MemoryError
        if sample.name.endswith("4.png"):
            raise OSError(errno.EIO, "Input/output error")
        return read(sample, *others)

    monkeypatch.setattr(predictions_of_runs, "read_sample", failing)
    found = predict_to(Brightness(), given, tmp_path / "t.csv", **QUIET)
    said = {Path(row["file"]).name: row["error"] for row in rows(tmp_path / "t.csv")}
    assert said.keys() == {*(f"{number:06}.png" for number in range(5)), "missing.png", "odd.npy", "nowhere"}
    assert said["000000.png"] == ""
    assert said["000003.png"] == "this cannot be read (there is not enough memory)."
    assert said["000004.png"] == "this cannot be read (Input/output error)."
    assert all(said[name] for name in said if name != "000000.png")
    assert (found.num_samples, found.num_errors) == (9, 7)
    assert "7 have no prediction: see the column error" in str(found.text())


def test_rows_of_array_files_are_found_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (40, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values[:25])
    np.savez(tmp_path / "b.npz", x=values[25:])
    given = [tmp_path / "a.npy", tmp_path / "b.npz"]
    with pytest.raises(StopError):
        predict_to(Brightness(8), given, tmp_path / "t.csv", part_size=8, on_event=stop_after(3), **QUIET)
    predict_to(Brightness(8), given, tmp_path / "t.csv", part_size=8, **QUIET)
    expected = list(predict_with(Brightness(8), given, (), progress=False))
    assert [(row["file"], row["label"]) for row in rows(tmp_path / "t.csv")] == [
        (each.file, each.label) for each in expected
    ]
    assert rows(tmp_path / "t.csv")[30]["file"] == f"{tmp_path / 'b.npz'}:x[5]"


# ---- stopping and continuing ----


@given(
    number=st.integers(0, 60),
    chunk=st.integers(1, 9),
    size=st.integers(1, 20),
    stops=st.lists(st.integers(0, 12), max_size=4),
)
@settings(max_examples=25)
@pytest.mark.long
def test_a_table_is_the_same_however_often_its_call_stops(
    images: Path, number: int, chunk: int, size: int, stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given_files = sorted(images.iterdir())[:number]
        out, kept = Path(folder, "t.csv"), 0
        for batches in stops:
            try:
                predict_to(Brightness(chunk), given_files, out, part_size=size, on_event=stop_after(batches), **QUIET)
            except StopError:
                continue
            out.unlink()
        found = predict_to(Brightness(chunk), given_files, out, part_size=size, **QUIET)
        kept = found.num_kept
        assert found.num_samples == number >= kept
        expected = [(each.file, each.label) for each in predict_with(Brightness(), given_files, (), progress=False)]
        assert [(row["file"], row["label"]) for row in rows(out)] == expected
        assert os.listdir(folder) == ["t.csv"]


def test_a_call_that_continues_predicts_only_what_is_not_finished(images: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, on_event=stop_after(3), **QUIET)
    events: list[Progress] = []
    found = predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, on_event=events.append, **QUIET)
    predicted = [event.done for event in events if event.stage == "predicting"]
    assert found.num_kept == predicted[0] == 48
    assert predicted[-1] == 100
    assert "48 were predicted by earlier calls" in str(found.text())


def kill_when(command: list[str], parts: Path, num_parts: int) -> None:
    """Start a process, and kill it with SIGKILL once there are so many parts."""
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while sum(name.endswith(".rows") for name in (os.listdir(parts) if parts.is_dir() else ())) < num_parts:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def bulk_command(*words: object) -> list[str]:
    """``brightness.py`` in a process of its own."""
    return [sys.executable, "-m", "tests.workbench.brightness", *map(str, words)]


@pytest.mark.long
def test_a_process_that_is_killed_twice_leaves_each_sample_once(images: Path, tmp_path: Path) -> None:
    out, parts = tmp_path / "t.csv", tmp_path / "t.csv.parts"
    kill_when(bulk_command(images, out, 16, 0.1), parts, 2)
    kill_when(bulk_command(images, out, 16, 0.1), parts, 4)
    assert not out.exists()
    (parts / ".000006-left.rows.12ab34cd.part").write_text("what a killed write leaves")
    subprocess.run(bulk_command(images, out, 16, 0), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    predict_to(Brightness(), images, tmp_path / "whole.csv", part_size=16, **QUIET)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len({row["file"] for row in rows(out)}) == len(rows(out)) == 100
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "whole.csv"]


def test_a_call_that_was_killed_after_the_table_was_in_place_only_tidies_up(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "t.csv"
    with monkeypatch.context() as patch:
        patch.setattr(PartsFolder, "remove", lambda _: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            predict_to(Brightness(), images, out, part_size=16, **QUIET)
    before = out.read_bytes()
    found = predict_to(Brightness(), images, out, part_size=16, **QUIET)
    assert (found.num_samples, found.num_kept, sum(found.labels.values())) == (100, 100, 100)
    assert out.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.csv"]


def test_a_damaged_part_is_predicted_again(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    with pytest.raises(StopError):
        predict_to(Brightness(), images, out, part_size=16, on_event=stop_after(4), **QUIET)
    parts = sorted((tmp_path / "t.csv.parts").glob("*.rows"))
    parts[0].write_bytes(parts[0].read_bytes().replace(b"dark", b"bark"))
    parts[1].write_bytes(parts[1].read_bytes()[:-9])
    parts[2].write_bytes(b"")
    found = predict_to(Brightness(), images, out, part_size=16, **QUIET)
    assert found.num_kept == 16
    assert {row["label"] for row in rows(out)} == set(Brightness.classes)


def test_a_part_that_vanishes_before_the_join_is_named(images: Path, tmp_path: Path) -> None:
    def losing(job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples) -> Iterator[PartFacts]:
        yield from work.predict_here(job, predictor, chunks, on_samples)
        min(PartsFolder(job.out).path.glob("*.rows")).unlink()

    with pytest.raises(
        StorageError, match=r"this part has vanished or was damaged after it was written. Call again to predict it anew."
    ):
        predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, schedule=losing, **QUIET)
    assert predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, **QUIET).num_kept == 84


def test_a_list_of_samples_that_is_changed_meanwhile_is_refused(images: Path, tmp_path: Path) -> None:
    def changing(job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples) -> Iterator[PartFacts]:
        place = PartsFolder(job.out).list
        place.write_bytes(place.read_bytes().replace(b"000001", b"000002"))
        yield from work.predict_here(job, predictor, chunks, on_samples)

    with pytest.raises(
        StorageError, match=r"this list of samples was changed while it was in use. Remove its folder, and begin anew."
    ):
        predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, schedule=changing, **QUIET)


def test_a_full_disk_keeps_what_is_finished(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, left = tmp_path / "t.csv", 5  # list, plan, three parts

    def fsync(_: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "flush_folder", lambda _: None)
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(StorageError) as caught:
            predict_to(Brightness(), images, out, part_size=16, **QUIET)
    assert "No space left on device" in str(caught.value)
    assert str(caught.value).endswith("48 of 100 samples are predicted and kept; the same call continues.")
    assert not list((tmp_path / "t.csv.parts").glob(".*.part"))
    assert predict_to(Brightness(), images, out, part_size=16, **QUIET).num_kept == 48


def test_canceled_work_continues(images: Path, tmp_path: Path) -> None:
    asked = iter([False] * 6 + [True] * 9)
    with pytest.raises(CanceledError, match=r"canceled while predicting, after"):
        predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, should_stop=lambda: next(asked), **QUIET)
    assert 0 < predict_to(Brightness(), images, tmp_path / "t.csv", part_size=16, **QUIET).num_kept < 100


def test_a_file_that_vanishes_meanwhile_is_a_row(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", 20)

    def on_event(event: object) -> None:
        (folder / "000019.png").unlink(missing_ok=isinstance(event, Progress) and event.stage != "listing the samples")

    def once(event: object) -> None:
        if isinstance(event, Progress) and event.stage == "predicting":
            on_event(event)

    found = predict_to(Brightness(4), folder, tmp_path / "t.csv", part_size=4, on_event=once, **QUIET)
    assert (found.num_samples, found.num_errors) == (20, 1)
    assert rows(tmp_path / "t.csv")[19]["error"]


# ---- what is refused ----


ADVICE = "Repeat the earlier command to finish them, remove the folder to begin anew, or name another table."


def begin(images: Path, out: Path) -> Path:
    """StopError a call after three parts; returns their folder."""
    with pytest.raises(StopError):
        predict_to(Brightness(), images, out, part_size=16, on_event=stop_after(3), **QUIET)
    return out.with_name(f"{out.name}.parts")


def test_parts_of_another_network_or_table_are_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    parts = begin(images, out)
    before = sorted(os.listdir(parts))

    def message(predictor: Brightness, **keywords: Any) -> str:
        with pytest.raises(UsageError) as caught:
            predict_to(predictor, images, out, part_size=16, **keywords, **QUIET)
        return str(caught.value)

    other = Brightness(name="the run other", identity="2")
    assert (
        message(other) == f"{parts}: these parts are predictions of the run brightness, and not of the run other. {ADVICE}"
    )
    changed = message(Brightness(identity="2"))
    assert (
        changed
        == f"{parts}: these parts were predicted by the run brightness before it was changed, or with other options. {ADVICE}"
    )
    columns = f"{parts}: these parts have other columns, or were written by another version of visus. {ADVICE}"
    assert message(Brightness(), top=2) == message(Brightness(), probabilities=True) == columns
    assert sorted(os.listdir(parts)) == before
    assert predict_to(Brightness(), images, out, part_size=16, **QUIET).num_kept == 48


def test_a_call_that_finished_no_part_binds_nobody(images: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        predict_to(Brightness(), images, tmp_path / "t.csv", top=2, on_event=stop_after(2), **QUIET)
    assert predict_to(Brightness(identity="2"), images.parent, tmp_path / "t.csv", **QUIET).num_samples == 100


@pytest.mark.parametrize("change", ["added", "removed", "written", "older"])
def test_a_folder_that_changed_since_is_refused_with_the_first_difference(tmp_path: Path, change: str) -> None:
    folder = write_images(tmp_path / "in", 80)
    file = folder / "000007.png"
    parts = begin(folder, tmp_path / "t.csv")
    if change == "added":
        Image.new("L", (4, 4)).save(folder / "000006b.png")
    elif change == "removed":
        file.unlink()
    elif change == "written":
        Image.new("L", (5, 5)).save(file)
    else:
        os.utime(file, (1, 1))
    with pytest.raises(UsageError) as caught:
        predict_to(Brightness(), folder, tmp_path / "t.csv", part_size=16, **QUIET)
    name = {"added": "000006b.png", "removed": "000008.png"}.get(change, "000007.png")
    assert (
        str(caught.value)
        == f"{parts}: the samples have changed since these parts were predicted; the first that differs: {folder / name}. {ADVICE}"
    )
    assert not (parts / "samples-new.jsonl").exists()


def test_a_table_that_exists_is_never_overwritten(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    out.write_text("own")
    with pytest.raises(
        UsageError, match=r"this exists already, and visus overwrites no table. Remove it, or name another one."
    ):
        predict_to(Brightness(), images, out, **QUIET)
    assert (out.read_text(), os.listdir(tmp_path)) == ("own", ["t.csv"])
    out.unlink()
    begin(images, out)
    out.write_text("own")
    with pytest.raises(UsageError, match=r"this exists already"):
        predict_to(Brightness(), images, out, part_size=16, **QUIET)
    assert out.read_text() == "own"
    out.unlink()
    assert predict_to(Brightness(), images, out, part_size=16, **QUIET).num_kept == 48


def test_two_processes_do_not_write_one_table(images: Path, tmp_path: Path) -> None:
    with (
        PartsFolder(tmp_path / "t.csv").locked(),
        pytest.raises(UsageError, match=r"another process is writing this table. Wait for it, or name another one."),
    ):
        predict_to(Brightness(), images, tmp_path / "t.csv", **QUIET)


def test_places_that_cannot_hold_a_table_are_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(out: Path, kind: type[Exception] = UsageError, given: Any = images) -> str:
        with pytest.raises(kind) as caught:
            predict_to(Brightness(), given, out, **QUIET)
        return str(caught.value)

    missing = tmp_path / "no" / "t.csv"
    assert (
        message(missing)
        == f"{missing}: there is no folder {str(tmp_path / 'no')!r} for this table. Make it, or name another one."
    )
    assert (
        "a table is a .parquet file, a .csv file, or a folder of Parquet files, and not .xlsx. Name one of these."
        in message(tmp_path / "t.xlsx")
    )
    (tmp_path / "t.csv.parts").mkdir()
    (tmp_path / "t.csv.parts" / "own.txt").write_text("own")
    assert (
        "this folder is for the parts of the table, and it has another file: own.txt. Move it, or name another table."
        in message(tmp_path / "t.csv")
    )
    (tmp_path / "u.csv.parts").write_text("a file")
    refused = message(tmp_path / "u.csv", StorageError)
    assert "the parts of the table cannot be written here: File exists. Choose another folder." in refused
    assert "there is no such file or folder" in message(tmp_path / "v.csv", DataError, tmp_path / "nowhere")
    array: Any = [np.zeros((1, 4, 4), dtype=np.uint8)]
    assert message(tmp_path / "v.csv", given=array) == (
        "predict_to takes paths, and not a ndarray: a stopped call could not find it again. Save it as a file, or use predict."
    )
    assert not (tmp_path / "v.csv.parts").exists()


def test_a_listing_that_fails_leaves_nothing_behind(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        predicting, "find_samples", lambda *_: iter([predictions_of_runs.PillowSample("x", Image.new("L", (4, 4)))])
    )
    with pytest.raises(
        UsageError,
        match=r"x: this is a sample in memory, and a stopped command could not find it again. Save it as a file, or use predict.",
    ):
        predict_to(Brightness(), images, tmp_path / "t.csv", **QUIET)
    assert os.listdir(tmp_path) == []


# ---- memory, order, speed ----


@pytest.mark.slow
@given(number=st.integers(1, 100), chunk=st.integers(1, 20), size=st.integers(1, 60))
@settings(max_examples=8)
def test_only_two_batches_of_samples_are_alive_at_any_time(images: Path, number: int, chunk: int, size: int) -> None:
    read, alive, most = predictions_of_runs.read_sample, weakref.WeakSet[Any](), 0

    class Pixels(np.ndarray[Any, Any]):
        __hash__ = object.__hash__

    def counting(*given_to: Any) -> Any:
        nonlocal most
        found = read(*given_to).view(Pixels)
        alive.add(found)
        most = max(most, len(alive))
        return found

    gc.collect()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions_of_runs, "read_sample", counting)
        predict_to(Brightness(chunk), sorted(images.iterdir())[:number], Path(folder, "t.csv"), part_size=size, **QUIET)
    assert 0 < most <= 2 * chunk


def test_parts_may_be_finished_in_any_order_and_by_several_workers(images: Path, tmp_path: Path) -> None:
    def reversed_on_threads(
        job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples
    ) -> Iterator[PartFacts]:
        shared = (job, predictor.reopen)
        for facts in ThreadPoolExecutor(1).map(lambda chunk: predict_chunk(shared, chunk), list(chunks)[::-1]):
            on_samples(facts.num_samples)
            yield facts

    found = predict_to(Brightness(), images, tmp_path / "a.csv", part_size=16, schedule=reversed_on_threads, **QUIET)
    here = predict_to(Brightness(), images, tmp_path / "b.csv", part_size=16, **QUIET)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (found.labels, found.changes) == (here.labels, here.changes)


def test_a_worker_with_another_network_is_refused(images: Path, tmp_path: Path) -> None:
    class Mixed(Brightness):
        @property
        def reopen(self) -> Callable[[], Brightness]:
            return lambda: Brightness(identity="2")

    def remote(job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples) -> Iterator[PartFacts]:
        return (predict_chunk((job, predictor.reopen), chunk) for chunk in chunks)

    with pytest.raises(
        UsageError, match=r"opens another the run brightness than this process. Give all machines the same files."
    ):
        predict_to(Mixed(), images, tmp_path / "t.csv", schedule=remote, **QUIET)


def test_progress_has_the_speed_and_the_time_left(images: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    predict_to(Brightness(10, seconds=0.002), images, tmp_path / "t.csv", part_size=20, on_event=events.append, **QUIET)
    predicted = [event for event in events if event.stage == "predicting"]
    assert [(event.done, event.total) for event in predicted] == [(done, 100) for done in range(0, 101, 10)]
    assert predicted[0].per_second is None
    assert all(event.per_second and event.per_second < 5_000 for event in predicted[1:])
    assert predicted[-1].seconds_left == 0
    assert write_speed(Progress("predicting", 100, 1_000, per_second=4.0)) == ["4 samples/s", "3 min 45 s left"]


def test_the_ledger_of_a_table_counts_every_change(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(30):
        Image.new("L", (6, 6) if number % 3 else (4, 4)).save(folder / f"{number:02}.png")
    (folder / "notes.txt").write_text("text")
    for _ in range(2):
        with pytest.raises(StopError):
            predict_to(Brightness(4), folder, tmp_path / "t.csv", part_size=4, on_event=stop_after(2), **QUIET)
    found = predict_to(Brightness(4), folder, tmp_path / "t.csv", part_size=4, **QUIET)
    assert found.changes["resized"]["count"] == 20
    assert len(found.changes["resized"]["samples"]) == 10
    assert any("20 samples were resized" in sentence for sentence in found.sentences())
    assert any("1 file was left out" in sentence for sentence in found.sentences())


# ---- the command ----


def test_the_command_writes_the_table_of_the_method(run: Path, photos: Path, tmp_path: Path, visus_command: Call) -> None:
    import visus

    answer = visus_command("predict", run, photos, "--out", tmp_path / "a.csv", "--top", 2)
    assert answer.code == 0
    assert "60 samples in" in answer.out
    found = visus.load(run).predict_to(photos, tmp_path / "b.csv", top=2, progress=False)
    assert isinstance(found, BulkPredictions)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    printed = visus_command("predict", run, photos, "--top", 2)
    assert (tmp_path / "a.csv").read_text() == printed.out
    (tmp_path / "bad.png").write_bytes(b"no")
    answer = visus_command("predict", run, tmp_path / "bad.png", "--out", tmp_path / "c.csv", "--json", "-q")
    assert (answer.code, json.loads(answer.out)["errors"]) == (1, 1)


def test_ctrl_c_names_what_is_kept_and_the_same_command_continues(
    run: Path, photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visus.workbench.runs import predict as runs_predict

    monkeypatch.setattr(predicting, "PART_SIZE", 16)
    monkeypatch.setattr(runs_predict.RunPredictor, "chunk", 16)
    answer_chunk, left = work.answer_chunk, 2

    def interrupted(*given_to: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return answer_chunk(*given_to)

    with monkeypatch.context() as patch:
        patch.setattr(work, "answer_chunk", interrupted)
        answer = visus_command("predict", run, photos, "--out", tmp_path / "t.csv")
    assert answer.code == 130
    assert answer.err.endswith("stopped after 32 of 60 samples. The same command continues after the last finished part.\n")
    answer = visus_command("predict", run, photos, "--out", tmp_path / "t.csv", "--json")
    assert (answer.code, json.loads(answer.out)["kept"]) == (0, 32)


def test_options_of_a_table_need_the_table(run: Path, photos: Path, tmp_path: Path, visus_command: Call) -> None:
    assert (
        "--cluster needs --out. Add it, or leave this out."
        in visus_command("predict", run, photos, "--cluster", "local").err
    )
    assert (
        "--probabilities needs --out. Add it, or leave this out."
        in visus_command("predict", run, photos, "--probabilities").err
    )
    assert (
        "--at-least needs --sort-into. Add it, or leave --at-least out."
        in visus_command("predict", run, photos, "--at-least", "0.9").err
    )
    both = visus_command("predict", run, photos, "--out", tmp_path / "t.csv", "--sort-into", tmp_path / "s")
    assert both.err == "error: --sort-into cannot be given with --out. Leave it out.\n"


def test_another_calibration_or_other_weights_are_another_network(run: Path) -> None:
    import torch

    import visus
    from visus.workbench.runs.predict import RunPredictor

    loaded = visus.load(run)
    identity = RunPredictor(loaded, raw=False).identity
    again = RunPredictor(loaded, raw=False).reopen()
    assert again.identity == identity
    with torch.no_grad():
        next(loaded.module.parameters())[0] += 1
    assert RunPredictor(loaded, raw=False).identity != identity


# ---- a cluster ----


@pytest.mark.slow
def test_ray_and_one_process_write_the_same_table(run: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    folder = tmp_path / "in"
    for number in range(30):
        (folder / str(number)).mkdir(parents=True)
        for file in photos.rglob("*.png"):
            os.link(file, folder / str(number) / f"{file.parent.name}-{file.name}")
    (folder / "bad.png").write_bytes(b"no image")
    for name, words in (("a.csv", []), ("b.csv", ["--cluster", "local"])):
        command = [
            sys.executable,
            "-m",
            "visus",
            "predict",
            str(run),
            str(folder),
            "--out",
            str(tmp_path / name),
            "--json",
            *words,
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert answer.returncode == 1, answer.stderr
        assert (json.loads(answer.stdout)["samples"], json.loads(answer.stdout)["errors"]) == (1_801, 1)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_missing_ray_is_named_with_its_extra(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"predictions on a cluster need the package ray"):
        predict_to(Brightness(), images, tmp_path / "t.csv", cluster="local", **QUIET)
    assert os.listdir(tmp_path) == []


def test_a_missing_pyarrow_is_named_with_its_extra(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Parquet tables need the package pyarrow"):
        predict_to(Brightness(), images, tmp_path / "t.parquet", **QUIET)
    assert os.listdir(tmp_path) == []


class Ray:
    """The part of ray that visus uses, in this process: the last task that waits is the first that is done."""

    class exceptions:  # noqa: N801
        """Its errors."""

        class RayTaskError(Exception):
            """An error of a task."""

            def __init__(self, cause: Exception) -> None:
                super().__init__(str(cause))
                self.cause = cause

    def __init__(self, num_cpus: int = 2) -> None:
        self.num_cpus, self.is_running, self.most_waiting, self.canceled = num_cpus, False, 0, 0
        self.refuse: Exception | None = None

    def is_initialized(self) -> bool:
        return self.is_running

    def init(self, **_: Any) -> None:
        if self.refuse:
            raise self.refuse
        self.is_running = True

    def shutdown(self) -> None:
        self.is_running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.num_cpus)}

    def put(self, value: Any) -> Any:
        return pickle.loads(pickle.dumps(value))

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=lambda *given_to: functools.partial(function, *given_to))

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.most_waiting = max(self.most_waiting, len(tasks))
        return tasks[-num_returns:], tasks[:-num_returns]

    def get(self, task: Any) -> Any:
        try:
            return task()
        except Exception as error:
            raise self.exceptions.RayTaskError(error) from error

    def cancel(self, _: Any) -> None:
        self.canceled += 1


def test_a_cluster_gets_few_chunks_at_a_time_and_writes_the_same_table(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    predict_to(Brightness(4), images, tmp_path / "a.csv", part_size=4, cluster="local", **QUIET)
    predict_to(Brightness(4), images, tmp_path / "b.csv", part_size=4, **QUIET)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (ray.most_waiting, ray.is_running) == (4, False)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_errors_of_a_cluster_are_those_of_visus(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    ray.refuse = ConnectionError("no  answer.")
    with pytest.raises(UsageError) as caught:
        predict_to(Brightness(), images, tmp_path / "t.csv", cluster="10.0.0.1:6379", **QUIET)
    assert (
        str(caught.value)
        == "no Ray cluster answers at 10.0.0.1:6379 (no answer). Start one there (ray start --head), or use local."
    )
    ray.refuse = None

    def full(*_: Any) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(PartsFolder, "write", full)
    with pytest.raises(StorageError, match=r"the disk is full. 0 of 100 samples"):
        predict_to(Brightness(), images, tmp_path / "t.csv", cluster="local", part_size=16, **QUIET)
    assert (ray.is_running, ray.canceled) == (False, 3)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(PartsFolder, "write", broken)
    with pytest.raises(ray.exceptions.RayTaskError):
        predict_to(Brightness(), images, tmp_path / "t.csv", cluster="local", part_size=16, **QUIET)


# ---- many samples ----


@pytest.mark.slow
def test_twenty_thousand_images_and_two_kills_with_bounded_memory(tmp_path: Path) -> None:
    """``benchmarks/bulk_prediction.py`` does the same with 100,000 images and a trained network."""
    few, many = write_images(tmp_path / "few", 2_000), write_images(tmp_path / "many", 20_000)
    out, parts = tmp_path / "t.csv", tmp_path / "t.csv.parts"
    for num_parts in (8, 20):
        kill_when(bulk_command(many, out, 512, 0.002), parts, num_parts)
    subprocess.run(bulk_command(many, out, 512, 0), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    memory = [
        int(subprocess.run(bulk_command(folder, f"{folder}.csv", 512, 0), cwd=ROOT, check=True, capture_output=True).stdout)
        for folder in (few, many)
    ]
    assert out.read_bytes() == (tmp_path / "many.csv").read_bytes()
    assert len({row["file"] for row in rows(out)}) == len(rows(out)) == 20_000
    assert memory[1] - memory[0] < 18_000 * 2_000, "names take less than 2 kB each; samples take none"
