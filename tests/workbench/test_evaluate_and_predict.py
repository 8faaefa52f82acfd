"""``visus evaluate`` and ``visus predict`` on the run's own data and on other data."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.commands import Call

import visus
from visus.errors import ImageError, UsageError
from visus.evaluation.scores import Scores, score
from visus.workbench.training_lines import result_fact

pytestmark = pytest.mark.usefixtures("light_pages")

RECIPE = visus.Recipe(epochs=2, batch_size=8, precision="float32")
TWO_VIEWS = "Unsure predictions are the mean over 2 copies of the image: unchanged and mirrored (test-time augmentation)."


def test_scores_have_the_accuracy_without_test_time_augmentation(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    accuracies = {}
    for kind in ("unsure:flip+shift", "none"):
        changed = re.sub(r"(?m)^tta: \S+", f"tta: {kind}", recipe)
        (folder / "recipe.yaml").write_text(changed, encoding="utf-8")
        found = visus.load(folder).evaluate(progress=False)
        accuracies[kind] = found.accuracy, found.plain_accuracy
    assert accuracies["none"][1] is None
    assert accuracies["unsure:flip+shift"][1] == accuracies["none"][0]


def test_the_result_says_the_accuracy_of_the_table_where_augmentation_changes_it() -> None:
    scores = score([[0.9, 0.1], [0.6, 0.4]], [0, 1], ["cat", "dog"], split="val")
    plain = dataclasses.replace(scores, plain_accuracy=1.0)
    (_, text), (_, told) = result_fact(scores, "image"), result_fact(plain, "image")
    assert told == text.replace("90.5 %)", "90.5 %; 100.0 % without test-time augmentation)")
    assert told != text
    assert str(plain.text()[0]).endswith("90.5 %); 100.0 % without test-time augmentation")
    assert "; 100.0 % without test-time augmentation" in repr(plain)
    assert Scores.from_json(plain.to_json()) == plain


def test_values_of_another_format_size_or_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 1, 16)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x=values, y=np.arange(20) % 2)
    run = visus.train(tmp_path / "r.npz", "flatten, linear(classes)", RECIPE, output=tmp_path)
    broken = values.copy()
    broken[0, 0, 3] = np.nan
    first, second = list(run.predict(broken))[:2]
    assert (first.error, first.label, second.error) == (
        "a value is NaN or infinite. Repair the sample, or remove it.",
        None,
        None,
    )
    problems = []
    for array in (values.astype(np.float64), values[:, :, :8], broken[:1]):
        predictions = run.predict(array)
        with pytest.raises(UsageError) as caught:
            list(predictions)
        problems.append(str(caught.value))
    none = " None of the 20 samples can be used."
    assert problems == [
        "array 1[0]: these values are float64, but this network was trained on float32. Use the same type and range." + none,
        "array 1[0]: a sample of 8 is smaller than this network's input of 16; visus enlarges only 8-bit images, of gray or color. Resize the arrays first."
        + none,
        "array 1[0]: a value is NaN or infinite. Repair the sample, or remove it.",
    ]
    np.savez(tmp_path / "doubles.npz", x=values.astype(np.float64), y=np.arange(20) % 2)
    with pytest.raises(ImageError):
        run.evaluate(tmp_path / "doubles.npz")


def test_evaluating_on_the_training_data_scores_its_held_out_split(visus_command: Call, run: Path, photos: Path) -> None:
    facts = json.loads(visus_command("evaluate", run, photos, "--json").out)
    assert facts == json.loads(visus_command("evaluate", run, "--json").out)
    assert facts["split"] == "test"


def test_what_was_done_to_other_data_is_reported(
    visus_command: Call, run: Path, photos: Path, other_photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(other_photos, tmp_path / "other")
    for number in range(30):
        shutil.copy(photos / "light" / f"{number:02}.png", tmp_path / "other" / "light" / f"known {number}.png")
    (tmp_path / "other" / "dark" / "junk.png").write_text("junk")
    Image.new("RGB", (300, 200)).save(tmp_path / "other" / "dark" / "large.png")
    answer = visus_command("evaluate", run, tmp_path / "other")
    assert "ledger: 1 file could not be read and was left out (dark/junk.png): the file holds text ('junk')" in answer.err
    assert "1 sample was resized" in answer.err
    first, second = answer.out.splitlines()[:2]
    assert re.match(
        r"\d+ of 91 samples were in the training set and \d more were in the validation set, so the metrics are too good; accuracy on the 6\d new samples: ",
        first,
    )
    assert second.startswith("accuracy on 91 samples (all)")


def test_an_unfinished_training_is_said_when_it_is_scored(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "stopped"
    shutil.copytree(run, copy)
    for name in ("scores.json", "report.html"):
        (copy / name).unlink()
    (copy / "calibration.json").unlink(missing_ok=True)
    stopped, note = visus.load(copy), f"This training was stopped before its end. Go on with: visus.resume({str(copy)!r})"
    assert stopped.evaluate().notes == (TWO_VIEWS, note)
    uncalibrated = "Probabilities are not calibrated: this run keeps no temperature, and 5 validation samples are too few to fit one: 50 are needed."
    assert stopped.predict([]).notes == (note, uncalibrated, TWO_VIEWS)
    looked = stopped.look("test:0").facts.answer_notes
    assert (looked[0], looked[-1]) == (note, uncalibrated)
    compared = visus.load(run).compare(stopped)
    assert f"stopped: {note}" in compared.notes
    assert compared.pairs[0].sentence().endswith(" Stopped before its end: stopped.")
    assert "Stopped" not in visus.load(run).compare(visus.load(run)).pairs[0].sentence()


def test_a_damaged_npz_is_named(visus_command: Call, run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 10, 10), np.uint8))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.infolist()[0].header_offset + 200
    content[start] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(content)
    answer = visus_command("predict", run, tmp_path / "x.npz")
    assert (answer.code, answer.err) == (
        1,
        f"error: {tmp_path / 'x.npz'}: this is not a readable NumPy file of plain numbers.\n"
        "note: Probabilities are not calibrated: 5 samples of the validation set are too few to fit a temperature on; about 570 "
        f"more samples in the data allow it.\nnote: {TWO_VIEWS}\n",
    )


def test_predict_names_what_it_leaves_out_of_a_folder(visus_command: Call, run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "dark", tmp_path / "some")
    (tmp_path / "some" / "notes.txt").write_text("x")
    answer = visus_command("predict", run, tmp_path / "some")
    assert "ledger: 1 file was left out (notes.txt): text." in answer.err


def test_more_classes_than_there_are_cannot_be_reported(visus_command: Call, run: Path, photos: Path) -> None:
    answer = visus_command("predict", run, photos, "-k", "5")
    assert (answer.code, answer.err) == (2, "error: top is 5, and this network has 2 classes.\n")


def test_the_next_command_after_an_evaluation_names_its_data(
    visus_command: Call, run: Path, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other photos"
    shutil.copytree(photos / "dark", other / "light")
    shutil.copytree(photos / "light", other / "dark")
    last = visus_command("evaluate", run, other).out.splitlines()[-1]
    assert last == f"next: visus evaluate {run} '{other}' --mistakes"
    command = shlex.split(last.removeprefix("next: visus "))
    assert "mistakes" in visus_command(*command).out


def test_the_next_command_after_an_evaluation_repeats_how_its_data_is_read(
    visus_command: Call, run: Path, photos: Path, tmp_path: Path
) -> None:
    swapped = {"dark": "light", "light": "dark"}
    rows = [(each, swapped[each.parent.name]) for each in sorted(photos.glob("*/*.png"))]
    table = tmp_path / "new.csv"
    table.write_text(
        "".join(f"{file},{kind}\n" for file, kind in [("file", "kind"), *rows, (tmp_path / "gone.png", "dark")])
    )
    reading = ["--path-column", "file", "--label-column", "kind", "--skip-missing"]
    others = ["--max-unreadable", "0.2", "--cache-dir", tmp_path / "cache", "--raw"]
    last = visus_command("evaluate", run, table, *others, *reading).out.splitlines()[-1]
    assert last == f"next: visus evaluate {' '.join(map(str, (run, table, *reading, *others)))} --mistakes"
    assert "mistakes" in visus_command(*shlex.split(last.removeprefix("next: visus "))).out
