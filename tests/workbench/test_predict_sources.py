"""What can be named for a prediction: one file and not its letters, and every folder whose files are accepted one by one."""

from __future__ import annotations

import csv
import io
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.commands import Call

import visus
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import Ledger
from visus.errors import DataError, UsageError
from visus.workbench.runs import predictions


@pytest.fixture
def network(run: Path) -> visus.Run:
    return visus.load(run)


def files(network: visus.Run, source: object) -> list[str]:
    return files_and_ledger(network, source)[0]


def files_and_ledger(network: visus.Run, source: object) -> tuple[list[str], Ledger]:
    predictions = network.predict(source)  # type: ignore[arg-type]
    return [answer.file for answer in predictions if not answer.error], predictions.ledger


def test_one_file_is_one_answer(network: visus.Run, photos: Path) -> None:
    image = photos / "dark" / "00.png"
    assert files(network, str(image)) == files(network, image) == files(network, [image]) == [str(image)]
    assert len(files(network, np.zeros((3, 10, 10), np.uint8))) == 1


class DataFrame:
    """A table as pandas has it: it iterates over the names of its columns."""

    columns = ("path", "label")
    to_csv = None

    def __len__(self) -> int:
        return 1

    def __getitem__(self, name: str) -> Any:
        return [name]

    def __iter__(self) -> Any:
        return iter(self.columns)


class Loader:
    """What a ``DataLoader`` has."""

    dataset = ()


def test_a_table_of_pandas_is_answered_with_its_column_of_paths(network: visus.Run, tmp_path: Path) -> None:
    column = "and not a DataFrame. Give the column of its paths as a list, such as list(table['path'])."
    with pytest.raises(UsageError) as caught:
        network.predict(DataFrame())
    assert str(caught.value) == f"files are paths, arrays or images of Pillow, {column}"
    with pytest.raises(UsageError) as caught:
        network.predict_to(DataFrame(), tmp_path / "out.csv")
    assert str(caught.value) == f"predict_to takes paths, {column}"
    with pytest.raises(UsageError) as caught:
        network.evaluate(3)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "other data for a run must be a path, opened data, a table of pandas or a dataset with a length, and not an int. Give its folder or file; run.evaluate "
        "takes a pair of arrays too: (samples, labels)."
    )
    with pytest.raises(UsageError, match=r"and not a Loader\. Give loader\.dataset; run\.evaluate takes"):
        network.evaluate(Loader())


def test_other_data_may_be_a_table_of_pandas(
    network: visus.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    names = ["dark/00.png", "dark/01.png", "light/00.png", "light/01.png"]
    table = pd.DataFrame({"file": names, "kind": ["dark", "light", "light", "light"]})
    table.assign(file=[str(photos / name) for name in names]).to_csv(tmp_path / "table.csv", index=False)
    columns: dict[str, Any] = {"path_column": "file", "label_column": "kind"}
    data = network.open_data(table, **columns)
    assert (
        network.evaluate(data).confusion == network.evaluate(network.open_data(tmp_path / "table.csv", **columns)).confusion
    )
    assert network.evaluate(table.rename(columns={"file": "path", "kind": "label"})).num_samples == 4
    with pytest.raises(UsageError, match=r"^samples\[0\] is an image of Pillow in the mode P, "):
        network.evaluate(([Image.fromarray(np.zeros((10, 10), np.uint8)).quantize(4)], ["dark"]))
    with pytest.raises(DataError) as caught:
        network.open_data(table, path_column="file")
    assert str(caught.value).endswith(
        "no column 'label'. The header is file,kind; it needs path,label[,split][,group]. Rename a column, or choose it: label_column='kind'"
    )


def test_a_prediction_has_the_probability_of_every_class(network: visus.Run, photos: Path) -> None:
    for top in (1, 2):
        (answer,) = network.predict(photos / "dark" / "00.png", top=top)
        assert list(answer.class_probabilities) == list(network.classes)
        assert answer.class_probabilities[str(answer.label)] == answer.probability
        assert sum(answer.class_probabilities.values()) == pytest.approx(1, abs=1e-6)
    _, failed = network.predict([np.zeros((3, 10, 10), np.uint8), np.zeros((3, 10, 10), np.float32)])
    assert (failed.label, failed.class_probabilities) == (None, {})


def test_linked_folders_are_searched_and_links_that_lead_back_are_not(
    network: visus.Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    for label in ("dark", "light"):
        (tmp_path / "links" / label).symlink_to(photos / label)
    assert len(files(network, tmp_path / "links")) == 60
    assert len(files(network, tmp_path / "links" / "dark")) == 30
    shutil.copytree(photos / "dark", tmp_path / "own" / "dark")
    (tmp_path / "own" / "dark" / "back").symlink_to("..")
    assert len(files(network, tmp_path / "own")) == 30


def test_what_belongs_to_a_system_or_is_no_image_is_left_out_and_counted(
    network: visus.Run, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(photos / "dark" / "00.png", tmp_path / "image without suffix")
    shutil.copy(photos / "dark" / "00.png", tmp_path / "a.JPG")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")
    found, ledger = files_and_ledger(network, tmp_path)
    assert [Path(file).name for file in found] == ["a.JPG", "image without suffix"]
    assert ledger.counts["left out: hidden or not an image"] == 3


def test_a_pattern_is_replaced_where_no_shell_did(network: visus.Run, photos: Path) -> None:
    assert files(network, f"{photos}/*/0[12].png") == [f"{photos}/{c}/0{i}.png" for c in ("dark", "light") for i in (1, 2)]


def test_a_table_names_its_files(network: visus.Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"Path;note\n{photos}/dark/00.png;x\n\n{photos}/light/00.png;y\n")
    assert files(network, tmp_path / "list.csv") == [f"{photos}/dark/00.png", f"{photos}/light/00.png"]


def test_what_cannot_be_read_is_a_row_and_the_others_follow(
    visus_command: Call, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    os.mkfifo("pipe.npz")
    answer = visus_command("predict", run, "*.gif", "dead", "x.csv", "empty", "pipe.npz", photos / "dark" / "00.png", "-q")
    assert answer.code == 1
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [row["label"] for row in rows] == ["", "", "", "", "", "dark"]
    assert answer.err.splitlines() == [f"error: {row['file']}: {row['error']}" for row in rows[:5]]
    assert answer.err.splitlines() == [
        "error: *.gif: no file matches this pattern.",
        "error: dead: this link leads to nowhere, which does not exist.",
        "error: x.csv: this table has no column path or file or filename or image; it has a, b. Name the column of the files path.",
        f"error: empty: this folder has no file that this network reads ({', '.join(sorted(IMAGE_SUFFIXES))}).",
        "error: pipe.npz: this is a pipe, a socket or a device. Save the data as a file first.",
    ]


def test_a_folder_that_may_not_be_listed_is_a_row(network: visus.Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(place: Path) -> object:
        if Path(place).name == "dark":
            raise PermissionError(13, "Permission denied")
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    first, *others = network.predict(photos)
    assert (first.file, first.error) == (
        str(photos / "dark"),
        "the folder cannot be listed (Permission denied). Change its permissions so that you can read it.",
    )
    assert len(others) == 30


@pytest.mark.long
def test_a_network_of_image_like_arrays_reads_folders_of_images(photos: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 10, 10), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", x=x, y=np.arange(40) % 2)
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    run = visus.train(tmp_path / "digits.npz", "globalpool, linear(classes)", recipe, output=tmp_path / "runs")
    assert len(files(run, photos)) == 60


@pytest.mark.parametrize("within", ["", "report.html", "weights", "weights/best.safetensors"])
def test_a_run_is_known_by_what_lies_in_it(run: Path, within: str) -> None:
    assert visus.load(run / within).folder == run


def test_masks_of_other_images_are_left_out_as_for_a_training(network: visus.Run, photos: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.png"):
        shutil.copy(photos / "dark" / "00.png", tmp_path / name)
    found, ledger = files_and_ledger(network, tmp_path)
    assert [Path(file).name for file in found] == ["a.png", "b.png"]
    assert ledger.reasons("left out: an image, but no sample") == {"a_mask.png": "a mask of another image"}


@pytest.mark.parametrize("size", [(8, 8), (10, 10), (7, 31), (40, 25)])
def test_an_array_is_predicted_as_the_same_image_in_a_file(
    network: visus.Run, tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (expected,) = network.predict(tmp_path / "one.png")
    rows = np.moveaxis(pixels, -1, 0)
    for array in (pixels, rows, torch.from_numpy(pixels), pixels[None], rows[None]):
        predictions = network.predict(array)
        assert [each.probabilities for each in predictions] == [expected.probabilities]
        assert ("resized" in predictions.ledger.counts) == (size != (10, 10))
    labels = [expected.label]
    assert network.evaluate((pixels[None], labels)).accuracy == 1.0


@pytest.mark.long
def test_a_gray_image_with_its_channel_last_is_one_sample(tmp_path: Path) -> None:
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "gray" / label).mkdir(parents=True)
        for number in range(20):
            noise = np.random.default_rng([number, level]).integers(0, 30, (10, 10), dtype=np.uint8)
            Image.fromarray(noise + np.uint8(level)).save(tmp_path / "gray" / label / f"{number}.png")
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    run = visus.train(tmp_path / "gray", "globalpool, linear(classes)", recipe, output=tmp_path / "runs", progress=False)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (expected,) = run.predict(tmp_path / "one.png")
    for array in (pixels, pixels[None], pixels[..., None], pixels[None, ..., None]):
        assert [each.probabilities for each in run.predict(array)] == [expected.probabilities]


def test_small_arrays_that_are_no_8_bit_images_have_a_remedy(network: visus.Run) -> None:
    problem = "these values are float32, but this network was trained on uint8. Use the same type and range."
    small, whole = np.zeros((8, 8, 3), np.float32), np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(UsageError) as caught:
        list(network.predict(small))
    assert str(caught.value) == f"array 1: {problem}"
    assert [answer.error for answer in network.predict([small, small, whole, small])] == [problem, problem, None, problem]


def test_a_prediction_is_not_chosen_by_its_place(network: visus.Run) -> None:
    with pytest.raises(UsageError) as caught:
        network.predict(np.zeros((10, 10, 3), np.uint8))[0]
    assert str(caught.value) == (
        "predictions are computed one after the other, and have no place 0. Make a list first: list(predictions)[0]."
    )


def test_the_one_path_that_is_named_must_be_there(network: visus.Run, photos: Path) -> None:
    with pytest.raises(DataError) as caught:
        network.predict(photos / "darc")
    assert str(caught.value) == f"{photos / 'darc'}: there is no such file or folder. Did you mean '{photos / 'dark'}'?"
    with pytest.raises(DataError) as caught:
        network.predict(f"{photos}/*.gif")
    assert str(caught.value) == f"{photos}/*.gif: no file matches this pattern."
    with pytest.raises(DataError) as caught:
        network.predict(["nowhere", "*.nothing"])
    assert str(caught.value) == (
        "2 mistakes:\n  - nowhere: there is no such file or folder.\n  - *.nothing: no file matches this pattern."
    )
    first, second = network.predict([photos / "darc", photos / "dark" / "00.png"])
    assert (first.error, second.error) == ("there is no such file or folder.", None)


def test_a_number_among_files_is_refused_with_the_remedy(network: visus.Run) -> None:
    with pytest.raises(UsageError) as caught:
        list(network.predict([5]))  # type: ignore[list-item]
    assert str(caught.value) == (
        "files are paths, arrays or images of Pillow, and number 1 is a int. Give its file or its array."
    )


@pytest.mark.parametrize("num_threads", [2, 5])
def test_any_number_of_threads_reads_the_same_samples_and_notes_the_same_changes(
    network: visus.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 9, 12, 3), dtype=np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    for number in (3, 17):
        (tmp_path / f"{number:02}.png").write_bytes(b"damaged")
    found, threads = {}, set()
    read = predictions.read_sample

    def noted(*given: Any) -> Any:
        threads.add(threading.current_thread().name)
        return read(*given)

    monkeypatch.setattr(predictions, "read_sample", noted)
    for count in (1, num_threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        answers = network.predict(tmp_path, progress=False)
        found[count] = [str(each) for each in answers], answers.ledger.as_dict()
    assert found[1] == found[num_threads]
    assert found[1][1]["unreadable"]["samples"] == [str(tmp_path / "03.png"), str(tmp_path / "17.png")]
    assert len(threads) > 1
