"""How a source is read is asked for by options, kept in the run, and used again: from the command line and from Python."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.commands import SMALL, Call

import visus
from visus.errors import DataError, UsageError
from visus.workbench.report import reports

pytestmark = pytest.mark.usefixtures("light_pages")

ONCE = ("--epochs", "1", "--no-pretrained", "-q")


@pytest.fixture
def tabled(photos: Path, tmp_path: Path) -> Path:
    """The photos in one folder with a table of other heads, of which one row has no file."""
    (tmp_path / "set/images").mkdir(parents=True)
    rows = ["File Name;Kind"]
    for label in ("dark", "light"):
        for file in sorted((photos / label).iterdir()):
            shutil.copy(file, tmp_path / "set/images" / f"{label}{file.name}")
            rows.append(f"{label}{file.name};{label}")
    (tmp_path / "set/labels.csv").write_text("\n".join([*rows, "gone.png;dark"]))
    return tmp_path / "set"


def test_what_a_question_names_is_what_works(visus_command: Call, tabled: Path, tmp_path: Path) -> None:
    asked = visus_command("check", tabled)
    assert asked.code == 1
    typed = asked.err.split("to train by the table: visus ")[1].strip()
    assert typed == f"check {tabled}/labels.csv --path-column 'File Name' --label-column Kind"
    words = ["check", f"{tabled}/labels.csv", "--path-column", "File Name", "--label-column", "Kind"]
    missing = visus_command(*words)
    assert missing.code == 1
    assert "gone.png (row 62)" in missing.err
    told = visus_command(*words, "--skip-missing")
    assert told.code == 0
    assert "warning: 1 row of 61 left out: their files do not exist." in told.out


def test_a_run_reads_its_data_again_as_it_was_trained_on(visus_command: Call, tabled: Path, tmp_path: Path) -> None:
    words = (f"{tabled}/labels.csv", "--path-column", "File Name", "--label-column", "Kind", "--skip-missing")
    trained = visus_command("train", *words, *SMALL, *ONCE, "-o", tmp_path / "runs", "--name", "one")
    assert trained.code == 0, trained.err
    folder = tmp_path / "runs/one"
    assert json.loads((folder / "data.json").read_text())["reading"] == {
        "path_column": "File Name",
        "label_column": "Kind",
        "skip_missing": True,
    }
    assert visus_command("evaluate", folder).code == 0
    assert visus_command("evaluate", folder, *words).code == 0
    refused = visus_command("evaluate", folder, "--skip-missing", "--path-column", "File Name")
    assert refused.code == 2
    assert refused.err.splitlines()[-1].endswith(
        "--path-column, --skip-missing without other data: the run reads its own as it was trained on. Leave it out."
    )
    again = visus_command("train", "--resume", folder, "--path-column", "File Name", "--skip-missing")
    assert again.code == 2
    assert "--path-column, --skip-missing cannot be given with --resume" in again.err


@pytest.mark.long
def test_printed_commands_repeat_how_the_data_of_a_run_was_read(visus_command: Call, tabled: Path, tmp_path: Path) -> None:
    table, runs = tabled / "labels.csv", tmp_path / "runs"
    table.write_text(table.read_text().rpartition("\n")[0])  # without the row whose file is missing
    reading = ["--path-column", "File Name", "--label-column", "Kind"]
    assert visus_command("train", table, *reading, *SMALL, *ONCE, "-o", runs, "--name", "one").code == 0
    for number in range(30):  # other data: every second photo was replaced
        shutil.copy(tabled / "images/light00.png", tabled / f"images/dark{number:02}.png")
    assert visus_command("train", table, *reading, *SMALL, *ONCE, "-o", runs, "--name", "two").code == 0
    split = runs / "one/split.csv"
    typed = f"{table} {shlex.join(reading)}"
    assert visus_command("train", "--resume", runs / "one").err.endswith(
        f"also moved ones: visus evaluate {runs / 'one'} {typed}. To train on the data as it is now, with known samples in their splits: "
        f"visus train {typed} --split-file {split}\n"
    )
    with pytest.raises(DataError) as caught:
        visus.load(runs / "one").evaluate(progress=False)
    opened = f"open_data({str(table)!r}, path_column='File Name', label_column='Kind'"
    run = f"visus.load({str(runs / 'one')!r})"
    assert str(caught.value).endswith(
        f"also moved ones: {run}.evaluate({run}.{opened})). To train on the data as it is now, with known samples in their splits: "
        f"visus.train(visus.open_data({str(table)!r}, split={str(split)!r}, path_column='File Name', label_column='Kind'))"
    )
    assert visus.load(runs / "one").evaluate(
        visus.load(runs / "one").open_data(table, path_column="File Name", label_column="Kind")
    )
    assert visus_command("compare", runs / "one", runs / "two").err.endswith(
        f"train with its split: visus train {typed} --split-file {split}\n"
    )
    facts = json.loads((runs / "two/data.json").read_text())
    assert reports._check_command(facts) == f"visus check {typed}"
    assert reports._check_command({**facts, "labels": "time"}) == f"visus check {typed} --labels time"


def test_folders_may_be_named_as_labels_where_a_table_lies_next_to_them(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "set")
    rows = [f"{file.parent.name}/{file.name},{number % 3}" for number, file in enumerate(sorted(photos.rglob("*.png")))]
    (tmp_path / "set/other.csv").write_text("\n".join(["file,camera", *rows]))
    data = visus.open_data(tmp_path / "set", labels="folders")
    assert (data.classes, data.warnings, data.labels) == (("dark", "light"), (), "folders")
    run = visus.train(data, SMALL[1], visus.Recipe(epochs=1, batch_size=8), output=tmp_path / "runs")
    assert visus.load(run.folder).open_data().classes == ("dark", "light")


def test_levels_of_folders_are_asked_for_and_kept(photos: Path, tmp_path: Path) -> None:
    for site in ("one", "two"):
        shutil.copytree(photos, tmp_path / "set" / site)
    for file in (tmp_path / "set/two").rglob("*.png"):
        file.write_bytes(file.read_bytes() + b" ")
    data = visus.open_data(tmp_path / "set", class_depth=2)
    assert data.classes == ("dark", "light")
    run = visus.train(data, SMALL[1], visus.Recipe(epochs=1, batch_size=8), output=tmp_path / "runs")
    loaded = visus.load(run.folder)
    assert loaded.open_data().fingerprint == data.fingerprint
    assert loaded.open_data(tmp_path / "set").classes == ("dark", "light")
    with pytest.raises(UsageError) as caught:
        loaded.open_data(class_depth=2)
    assert str(caught.value) == ("class_depth without other data: the run reads its own as it was trained on. Leave it out.")


def test_prediction_passes_over_thumbnails(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "dark", tmp_path / "some")
    shutil.copytree(photos / "light", tmp_path / "some/@eaDir/thumbs")
    assert len(list(visus.load(run).predict([tmp_path / "some"]))) == 30


def test_stated_axes_of_arrays_are_kept_for_all_that_follows(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 30, 20), dtype=np.uint8)
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(40) % 2)
    np.savez(tmp_path / "other.npz", x=255 - x, y=np.arange(40) % 2)
    data = visus.open_data(tmp_path / "s.npz", layout="ncl")
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    run = visus.train(data, "globalpool, linear(classes)", recipe, output=tmp_path / "runs")
    assert json.loads((run.folder / "data.json").read_text())["reading"] == {"layout": "NCL"}
    assert run.open_data().input_shape == run.open_data(tmp_path / "other.npz").input_shape == (30, 20)
    assert (run.evaluate().split, run.evaluate(tmp_path / "s.npz").split, run.evaluate(tmp_path / "other.npz").split) == (
        "test",
        "test",
        "all",
    )
    assert len(list(run.predict(tmp_path / "s.npz"))) == 40
