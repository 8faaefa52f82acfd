"""What once went wrong in a reader's hands, and must not again."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visus
from visus.errors import DataError, DesignError, ImageError, UsageError
from visus.workbench.modules import make_network

from .conftest import SMALL, Call

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = SMALL[1]
RECIPE = visus.Recipe(epochs=2, batch_size=8, precision="float32")

TWO_VIEWS = "When the top two probabilities (before calibration) are within 0.5 of each other, visus averages the predictions for 2 copies: the image itself and its mirror image."


def test_an_output_that_is_a_file_is_refused_at_once(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path / "runs")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == (
        f"error: {tmp_path / 'runs' / photos.name}: the run folder cannot be created: File exists. Choose another place with --output."
    )


def test_data_of_which_nothing_can_be_held_out_is_refused_before_training(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "same.npz",
        x=np.arange(2, dtype=np.uint8).repeat(3)[:, None, None] + np.zeros((6, 1, 9), np.uint8),
        y=[0, 0, 0, 1, 1, 1],
    )
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "same.npz")
    assert str(caught.value) == (
        f"{tmp_path / 'same.npz'}: nothing is left to validate or to score on: copies and groups stay on one side of a split, "
        "and here each class is one group or one copied sample. Add samples, or name other groups."
    )


@pytest.mark.parametrize(
    "changes", [{}, {"time_limit_s": 1.0, "epochs": 100_000}, {"patience": 1, "epochs": 200, "learning_rate": 1e-12}]
)
def test_resuming_a_finished_training_changes_nothing(photos: Path, tmp_path: Path, changes: dict[str, float]) -> None:
    run = visus.train(photos, "flatten, linear(classes)", RECIPE.replace(**changes), output=tmp_path)
    before = {
        name: (run.folder / name).read_bytes()
        for name in ("results.csv", "weights/best.safetensors", "weights/last.safetensors")
    }
    again = visus.resume(run.folder)
    assert {name: (run.folder / name).read_bytes() for name in before} == before
    assert again.scores == run.scores


def test_a_table_beside_another_is_found_again(photos: Path, tmp_path: Path) -> None:
    rows = [f"{photos / label / f'{number:02}.png'},{label}" for label in ("dark", "light") for number in range(10)]
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("\n".join(["path,label", *rows]) + "\n")
    run = visus.train(tmp_path / "one.csv", NETWORK, RECIPE, output=tmp_path / "runs")
    assert run.name == "one"
    assert visus.load(run.folder).evaluate().num_samples == 4


def test_a_design_with_the_wrong_end_is_refused_before_training() -> None:
    for text, gives in (("conv(8, 3)", "8 x 8 x 8"), ("globalpool, linear(5)", "5")):
        with pytest.raises(DesignError) as caught:
            make_network(text, (3, 10, 10), 2)
        assert str(caught.value) == (
            f"this design gives {gives} numbers for a sample, and 2 are needed: one for each class. End it with globalpool, linear(classes)."
        )


def test_a_module_without_parameters_is_refused() -> None:
    import torch

    with pytest.raises(UsageError) as caught:
        make_network(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), (2, 8, 8), 2)
    assert str(caught.value) == "Sequential: this module has no parameter that can be trained."


def test_values_of_another_format_size_or_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 1, 16)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x=values, y=np.arange(20) % 2)
    run = visus.train(tmp_path / "r.npz", "flatten, linear(classes)", RECIPE, output=tmp_path)
    broken = values.copy()
    broken[0, 0, 3] = np.nan
    problems = [next(iter(run.predict([array]))).problem for array in (values.astype(np.float64), values[:, :, :8], broken)]
    assert problems == [
        "these values are float64, and this network was trained on float32. Give them in the same format and range.",
        "a sample of 8 is smaller than the 16 of this network; arrays are only made smaller.",
        "a value is not a finite number. Repair the sample, or leave it out.",
    ]
    np.savez(tmp_path / "doubles.npz", x=values.astype(np.float64), y=np.arange(20) % 2)
    with pytest.raises(ImageError):
        run.evaluate(tmp_path / "doubles.npz")


def test_a_batch_is_never_said_to_be_larger_than_the_training_split(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, NETWORK, RECIPE.replace(batch_size=1000), output=tmp_path)
    assert run.recipe.batch_size == 43


def test_class_names_with_brackets_are_shown_as_they_are(visus_command: Call, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "b.npz",
        x=np.arange(20, dtype=np.float32)[:, None, None] + np.zeros((20, 1, 9), np.float32),
        y=np.arange(20) % 2,
        classes=np.array(["[/b]", "[red]ok"]),
    )
    out = visus_command("check", tmp_path / "b.npz").out
    assert "[/b]" in out
    assert "[red]ok" in out


def test_evaluating_on_the_training_data_scores_its_held_out_split(visus_command: Call, run: Path, photos: Path) -> None:
    facts = json.loads(visus_command("evaluate", run, photos, "--json").out)
    assert facts == json.loads(visus_command("evaluate", run, "--json").out)
    assert facts["split"] == "test"


def test_what_was_done_to_other_data_is_told(
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
    (copy / "scores.json").unlink()
    assert visus.load(copy).evaluate().notes == (
        TWO_VIEWS,
        f"This training was stopped before its end. Go on with: visus train --resume {copy}",
    )


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
        "note: Probabilities are not calibrated: 5 samples of the validation set are too few to fit a temperature on: 50 are "
        f"needed.\nnote: {TWO_VIEWS}\n",
    )


def test_what_a_person_s_own_code_prints_stays_off_stdout(
    visus_command: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talkative.py").write_text(
        "from torch import nn\nprint('imported')\n\ndef net(**options):\n    print('called')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(300, options['num_classes']))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "talkative", raising=False)
    answer = visus_command("train", photos, "-m", "talkative:net", "--epochs", "1", "--name", "t")
    assert (answer.code, answer.out) == (0, "runs/t\n")


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert visus.Recipe.from_yaml("learning_rate: 1e-3\n").learning_rate == 0.001


def test_runs_within_the_data_are_not_data(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    run = visus.train(data, NETWORK, RECIPE, output=data / "runs")
    assert run.evaluate().num_samples == 12
    again = visus.open_data(data)
    assert again.classes == ("dark", "light")
    assert again.ledger.examples("left out: hidden or not an image") == ["runs"]


def test_settings_that_could_only_be_ignored_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32), y=np.arange(40) % 2)
    with pytest.raises(UsageError) as caught:
        visus.train(tmp_path / "r.npz", None, RECIPE.replace(zoom=0.5), output=tmp_path)
    assert str(caught.value) == "zoom stretches a signal, which changes its pitch. Leave it out."
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).normal(size=(4, 1, 16)).astype(np.float32), y=np.arange(4) % 2)
    with pytest.raises(UsageError) as caught:
        visus.train(tmp_path / "few.npz", None, RECIPE.replace(patience=3), output=tmp_path)
    assert str(caught.value) == "patience needs a validation set, and this data has none. Leave it out."
    with pytest.raises(UsageError) as caught:
        visus.open_data(tmp_path / "r.npz", rule="crop")
    assert (
        str(caught.value) == f"{tmp_path / 'r.npz'}: the rule crop is for image files, and these are arrays. Leave it out."
    )


def test_predict_names_what_it_leaves_out_of_a_folder(visus_command: Call, run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "dark", tmp_path / "some")
    (tmp_path / "some" / "notes.txt").write_text("x")
    answer = visus_command("predict", run, tmp_path / "some")
    assert "ledger: 1 file was left out (notes.txt): text." in answer.err


def test_a_long_design_is_not_taken_for_a_file(visus_command: Call) -> None:
    design = ", ".join(["conv(8, 3, padding=1), relu"] * 30 + ["globalpool, linear(classes)"])
    assert visus_command("summary", design, "--input", "3,8,8").code == 0
