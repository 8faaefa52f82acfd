"""Predicted files are copied into folders of their labels: every file is somewhere, and none is overwritten."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.commands import Call

import visus
from visus.errors import StorageError, UsageError
from visus.workbench.runs import sorting
from visus.workbench.runs.prediction import Prediction
from visus.workbench.runs.sorting import SortedFiles, folder_names, sort_files


def sort_all(folder: Path, answers: list[tuple[str, float, Path]], at_least: float | None = None) -> SortedFiles:
    """Sort files with predictions that are given."""
    classes = sorted({label for label, _, _ in answers} | {"cat"})
    found = ((Prediction(str(file), (label,), (share,)), file, None) for label, share, file in answers)
    return sort_files(found, folder, classes, at_least)


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder with their contents."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_files_with_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    answers = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "1.jpg").write_text(f"photo {number}")
        answers.append(("cat", 1.0, tmp_path / str(number) / "1.jpg"))
    found = sort_all(tmp_path / "sorted", answers)
    copies = {"cat/1.jpg": b"photo 0", "cat/1 (2).jpg": b"photo 1", "cat/1 (3).jpg": b"photo 2"}
    assert tree(tmp_path / "sorted") == copies
    assert [(each.name, each.num_copied, each.num_there) for each in found.folders] == [("cat", 3, 0)]
    again = sort_all(tmp_path / "sorted", answers)
    assert tree(tmp_path / "sorted") == copies
    assert [(each.name, each.num_copied, each.num_there) for each in again.folders] == [("cat", 0, 3)]


def test_a_file_that_was_there_before_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "sorted" / "cat").mkdir(parents=True)
    (tmp_path / "sorted" / "cat" / "1.jpg").write_text("own")
    (tmp_path / "1.jpg").write_text("new")
    sort_all(tmp_path / "sorted", [("cat", 1.0, tmp_path / "1.jpg")])
    assert tree(tmp_path / "sorted") == {"cat/1.jpg": b"own", "cat/1 (2).jpg": b"new"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0.2, 0.9]), st.sampled_from("12"), st.binary(max_size=1)),
        max_size=12,
    )
)
def test_every_content_is_in_the_folder_of_its_label(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, float, str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    answers = []
    for number, (label, share, name, content) in enumerate(files):
        (folder / str(number)).mkdir()
        (folder / str(number) / f"{name}.jpg").write_bytes(content)
        answers.append((label, share, folder / str(number) / f"{name}.jpg"))
    before = tree(folder)
    found = sort_all(folder / "sorted", answers, 0.5)
    copies = tree(folder / "sorted") if files else {}
    for label, share, _, content in files:
        inside = label if share >= 0.5 else "unsure"
        assert content in [copy for path, copy in copies.items() if path.startswith(f"{inside}/")]
    assert sum(each.num_copied for each in found.folders) == len(copies)
    assert sum(each.num_copied + each.num_there for each in found.folders) == len(files)
    assert before.items() <= tree(folder).items()
    again = sort_all(folder / "sorted", answers, 0.5)
    assert sum(each.num_copied for each in again.folders) == 0


def test_a_broken_copy_is_removed_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: object, copy: object) -> None:
        copy.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sorting.shutil, "copyfileobj", fail)
    (tmp_path / "1.jpg").write_text("photo")
    with pytest.raises(StorageError) as caught:
        sort_all(tmp_path / "sorted", [("cat", 1.0, tmp_path / "1.jpg")])
    assert caught.value.message == (
        f"this copy of {tmp_path}/1.jpg could not be written: No space left on device. Free some space or choose another folder; files "
        "that were copied are not copied again."
    )
    assert tree(tmp_path / "sorted") == {}


@given(st.lists(st.text(max_size=300), max_size=8))
def test_folder_names_differ_and_are_allowed_everywhere(names: list[str]) -> None:
    try:
        [os.fsencode(name) for name in names]
    except UnicodeEncodeError:  # lone surrogates are no name of a class
        return
    found = folder_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert name not in ("", ".", "..")
        assert not set(name) & set('<>:"/\\|?*\0')
        assert not name.endswith((".", " "))
        assert len(os.fsencode(name)) < 255


def test_a_class_named_unsure_keeps_its_folder(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_text(f"{number}")
    answers = [("unsure", 1.0, tmp_path / "0.jpg"), ("unsure", 0.1, tmp_path / "1.jpg")]
    found = sort_all(tmp_path / "sorted", answers, 0.9)
    assert set(tree(tmp_path / "sorted")) == {"unsure/0.jpg", "unsure (2)/1.jpg"}
    assert [row[0] for row in found.text()[1].rows] == ["unsure", "unsure (2) (below 90.0 %)", "all"]  # type: ignore[union-attr]


def test_predict_sorts_files_by_command(visus_command: Call, run: Path, photos: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "new" / folder).mkdir(parents=True)
    shutil.copy(photos / "dark" / "00.png", tmp_path / "new" / "a" / "1.png")
    shutil.copy(photos / "light" / "00.png", tmp_path / "new" / "b" / "1.png")
    shutil.copy(photos / "light" / "01.png", tmp_path / "new" / "b" / "2.png")
    (tmp_path / "new" / "bad.jpg").write_text("no image")
    answers = {answer.file: answer.label for answer in visus.load(run).predict(tmp_path / "new") if not answer.error}
    answer = visus_command("predict", run, tmp_path / "new", "--sort-into", tmp_path / "sorted", "--quiet")
    assert answer.code == 1
    assert answer.err.startswith(f"error: {tmp_path / 'new' / 'bad.jpg'}: ")
    assert (
        answer.out.splitlines()[0] == f"4 files sorted into {tmp_path / 'sorted'}: copies, the originals are where they were"
    )
    counts = Counter(path.partition("/")[0] for path in tree(tmp_path / "sorted"))
    assert counts == Counter([*map(str, answers.values()), "unreadable"])
    assert set(tree(tmp_path / "sorted").values()) == set(tree(tmp_path / "new").values())
    assert len(tree(tmp_path / "new")) == 4
    again = visus_command(
        "predict", run, tmp_path / "new", "--sort-into", tmp_path / "sorted", "--at-least", "1", "--json", "--quiet"
    )
    found = json.loads(again.out)
    assert found["at_least"] == 1
    assert {each["name"]: each["copied"] for each in found["folders"]} == {"unsure": 3, "unreadable": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{photos}", "--sort-into", "{photos}/sorted"],
            "error: {photos}/sorted: this folder is within {photos}, whose files are sorted: the next prediction would read the copies too. "
            "Name a folder outside of it, such as {photos}-sorted.\n",
        ),
        (
            ["{photos}", "--sort-into", "{photos}/dark/00.png"],
            "error: {photos}/dark/00.png: this is a file, and a folder for the copies is needed. Name another one.\n",
        ),
        (
            ["{tmp}/x.npz", "--sort-into", "{tmp}/sorted"],
            "error: {tmp}/x.npz: only files of images can be sorted into folders, and this is an array file.\n",
        ),
        (
            ["{tmp}/x.zip", "--sort-into", "{tmp}/sorted"],
            "error: {tmp}/x.zip: this is an archive. Unpack it, and give the folder.\n",
        ),
        (
            ["{photos}", "--sort-into", "{tmp}/sorted", "--at-least", "90"],
            "error: the lowest probability must be between 0 and 1, not 90. For 90 %, write 0.9.\n",
        ),
        (
            ["{photos}", "--sort-into", "{tmp}/sorted", "--top", "2"],
            "error: --top cannot be given with --sort-into, which copies each file once. Leave one of them out.\n",
        ),
        (
            ["https://example.org/1.jpg", "--sort-into", "{tmp}/sorted"],
            "error: https://example.org/1.jpg: visus does not download. Download it first, and give the file.\n",
        ),
    ],
)
def test_what_cannot_be_sorted_is_refused_before_the_network_is_loaded(
    visus_command: Call,
    run: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("visus.workbench.runs.run.load", None)
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 12, 12), np.uint8))
    (tmp_path / "x.zip").write_bytes(b"")
    filled = [word.format(photos=photos, tmp=tmp_path) for word in words]
    answer = visus_command("predict", run, *filled)
    assert answer.code != 0
    assert answer.err.startswith(message.format(photos=photos, tmp=tmp_path))
    assert not (tmp_path / "sorted").exists()


def test_arrays_cannot_be_sorted_in_python(run: Path, tmp_path: Path) -> None:
    predictions = visus.load(run).predict(np.zeros((2, 3, 12, 12), np.uint8), progress=False)
    with pytest.raises(UsageError) as caught:
        predictions.sort_into(tmp_path / "sorted")
    assert caught.value.message == (
        "this is a row of an array, and only files can be sorted into folders. Give the files of the images."
    )
    assert not (tmp_path / "sorted").exists()


def test_predictions_that_a_notebook_shows_are_sorted_too(run: Path, photos: Path, tmp_path: Path) -> None:
    predictions = visus.load(run).predict(photos, progress=False)
    predictions._repr_html_()
    found = predictions.sort_into(tmp_path / "sorted")
    assert sum(each.num_copied for each in found.folders) == len(tree(photos)) == 60
    Image.open(next((tmp_path / "sorted").rglob("*.png"))).verify()
