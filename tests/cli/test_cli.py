"""The command line: data on stdout, talk on stderr, exit codes, one clear error for each mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.errors import DataError


@pytest.mark.long
def test_train_prints_the_run_folder_alone_on_stdout(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path, "--name", "first")
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'first'}\n")
    lines = answer.err.splitlines()
    assert lines[0].startswith(f"data      {photos.name}: 2 classes; 3 x 10 x 10 images: 43 training, 5 validation, 12 test")
    assert [line.split()[0] for line in lines if re.match(r"\d+/4 ", line)] == ["1/4", "2/4", "3/4", "4/4"]
    assert lines[-1] == f"next      visus predict {tmp_path / 'first'} FILES..."


@pytest.mark.long
def test_train_is_silent_when_quiet_and_prints_one_object_as_json(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path, "--json", "-q")
    assert (answer.code, answer.err) == (0, "")
    facts = json.loads(answer.out)
    assert facts["run"] == str(tmp_path / photos.name)
    assert {"accuracy", "accuracy_low", "accuracy_high", "baseline", "num_samples"} <= facts.keys()


@pytest.mark.usefixtures("light_pages")
@pytest.mark.long
def test_run_folders_are_never_overwritten(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    names = [
        Path(visus_command("train", photos, *SMALL, "-o", tmp_path, "-q", "--name", "a b").out.strip()).name
        for _ in range(3)
    ]
    assert names == ["a-b", "a-b-2", "a-b-3"]


def test_evaluate_prints_json_with_the_promised_names(visus_command: Call, run: Path) -> None:
    answer = visus_command("evaluate", run, "--json")
    facts = json.loads(answer.out)
    assert answer.code == 0
    assert facts["num_samples"] == 12
    assert 0 <= facts["accuracy_low"] <= facts["accuracy"] <= facts["accuracy_high"] <= 1
    assert facts["baseline"] == 0.5
    assert [row["name"] for row in facts["per_class"]] == ["dark", "light"]


def test_evaluate_prints_a_table_and_draws_the_confusion(visus_command: Call, run: Path, tmp_path: Path) -> None:
    answer = visus_command("evaluate", run, "--confusion-png", tmp_path / "confusion.png")
    assert answer.out.startswith("accuracy on 12 samples (test): ")
    assert "always guessing dark: 50.0 %" in answer.out
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) > 100


def test_evaluate_scores_other_data_whole(visus_command: Call, run: Path, other_photos: Path) -> None:
    assert json.loads(visus_command("evaluate", run, other_photos, "--json").out)["num_samples"] == 60


def test_evaluate_refuses_a_class_that_the_network_does_not_know(visus_command: Call, run: Path, tmp_path: Path) -> None:
    for name in ("dark", "lights"):
        (tmp_path / "other" / name).mkdir(parents=True)
        Image.new("RGB", (10, 10)).save(tmp_path / "other" / name / "a.png")
    answer = visus_command("evaluate", run, tmp_path / "other")
    assert answer.code == 1
    assert "lights" in answer.err
    assert "Did you mean 'light'?" in answer.err


def test_predict_prints_csv_for_files_folders_and_lists(
    visus_command: Call, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos / 'dark' / '01.png'}\n\n"))
    answer = visus_command("predict", run, photos / "light", photos / "dark" / "00.png", "-", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert answer.code == 0
    assert len(rows) == 32
    assert list(rows[0]) == ["file", "label", "probability", "label_2", "probability_2", "error"]
    assert [Path(row["file"]).name for row in rows[-2:]] == ["00.png", "01.png"]
    assert all(float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1, abs=1e-5) for row in rows)
    assert {row["label"] for row in rows[:30]} == {"light"}


def test_predict_prints_a_json_list(visus_command: Call, run: Path, photos: Path) -> None:
    found = json.loads(visus_command("predict", run, photos / "dark" / "00.png", "--json").out)
    assert [set(each) for each in found] == [{"file", "label", "probability", "error"}]
    assert found[0]["label"] == "dark"


def test_predict_names_a_file_that_is_not_there_and_answers_the_rest(visus_command: Call, run: Path, photos: Path) -> None:
    answer = visus_command("predict", run, "nowhere.png", photos / "dark" / "00.png")
    assert (answer.code, answer.err) == (
        1,
        "error: nowhere.png: there is no such file or folder.\n"
        "note: Probabilities are not calibrated: 5 samples of the validation set are too few to fit a temperature on; about 570 more samples in the data allow it.\n"
        "note: Unsure predictions are the mean over 2 copies of the image: unchanged and mirrored (test-time augmentation).\n"
        "ledger: 1 sample has the same content as a sample that the network learned from, so its prediction says little about new data "
        f"({photos / 'dark' / '00.png'}).\n",
    )
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [(row["label"], row["error"]) for row in rows] == [("", "there is no such file or folder."), ("dark", "")]


def test_predict_without_any_file_is_an_error_alone(
    visus_command: Call, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visus.workbench.runs.run.load", None)  # the network is not loaded
    assert visus_command("predict", run, photos / "darc") == (
        1,
        "",
        f"error: {photos / 'darc'}: there is no such file or folder. Did you mean '{photos / 'dark'}'?\n",
    )
    assert visus_command("predict", run, "nowhere", "*.nothing") == (
        1,
        "",
        "error: 2 mistakes:\n  - nowhere: there is no such file or folder.\n  - *.nothing: no file matches this pattern.\n",
    )


def test_predict_refuses_missing_files_alike_as_json_and_in_python(
    visus_command: Call, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError) as caught:
        visus.load(run).predict(photos / "darc")
    monkeypatch.setattr("visus.workbench.runs.run.load", None)  # the network is not loaded
    answer = visus_command("predict", run, photos / "darc", "--json")
    assert answer == (caught.value.exit_code, "", f"error: {caught.value}\n")
    assert answer.code == 1


@pytest.mark.long
def test_a_file_that_cannot_be_read_is_null_in_json(visus_command: Call, run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("this is text, not an image")
    answer = visus_command("predict", run, tmp_path / "bad.jpg", photos / "dark" / "00.png", "--json", "--top", "2")
    bad, good = json.loads(answer.out)
    assert (bad["label"], bad["probability"], bad["top"]) == (None, None, [])
    assert bad["error"].startswith("the file holds text")
    assert (good["label"], good["error"]) == ("dark", None)


def test_predict_answers_the_rest_where_a_file_cannot_be_read(
    visus_command: Call, run: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("this is text, not an image")
    answer = visus_command("predict", run, tmp_path / "bad.jpg", photos / "dark" / "00.png")
    assert answer.code == 1
    assert [row["label"] for row in csv.DictReader(io.StringIO(answer.out))] == ["", "dark"]
    assert answer.err.startswith(f"error: {tmp_path / 'bad.jpg'}: the file holds text")


def test_predictions_of_an_sample_do_not_depend_on_its_neighbors(visus_command: Call, run: Path, photos: Path) -> None:
    alone = json.loads(visus_command("predict", run, photos / "light" / "07.png", "--json").out)[0]
    together = json.loads(visus_command("predict", run, photos, "--json").out)
    same = next(each for each in together if each["file"] == alone["file"])
    assert same["probability"] == pytest.approx(alone["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "--epcohs", "3"], 2, "error: No such option: --epcohs"),
        (["trian"], 2, "error: No such command 'trian'. Did you mean 'train'?"),
        (
            ["train", "{photos}", "-m", "resnett(18)"],
            2,
            "error: line 1, column 1: unknown layer 'resnett'. Did you mean 'resnet'?",
        ),
        (
            ["train", "{photos}", "-m", "conv(8), reluu, globalpool, linear(classes)"],
            2,
            "unknown layer 'reluu'. Did you mean 'relu'?",
        ),
        (
            ["train", "{photos}", "--optimizer", "adamv"],
            2,
            "error: unknown optimizer 'adamv'. Did you mean 'adamw'? Known: adamw, muon, sgd.",
        ),
        (["train", "{photos}", "--time-limit", "soon"], 2, "error: 'soon' is not a duration."),
        (
            ["train", "{photos}", "--img-size", "big"],
            2,
            "error: --img-size takes whole numbers such as 96 or 96x128, not 'big'.",
        ),
        (["train", "{photos}", "--device", "cuda:7"], 2, "error: "),
        (["train", "nowhere"], 1, "error: nowhere: there is no such file or folder."),
        (
            ["train", "{photos}", "-m", "no.such:thing"],
            2,
            "error: no.such:thing: the module no.such cannot be imported: No module named 'no'.",
        ),
        (
            ["train", "{photos}", "-m", "json:dumps"],
            2,
            "error: json:dumps: dumps cannot be called with num_classes, input_shape or in_channels alone: ",
        ),
        (["train", "--resume", "nowhere"], 1, "error: nowhere: there is no such run folder."),
        (
            ["train", "--name", "x", "--resume", "{run}"],
            2,
            "error: --name cannot be given with --resume: the run has its own. Leave it out, or start a new run.",
        ),
        (
            ["train", "--resume", "{run}", "--epochs", "9"],
            2,
            "epochs cannot change in a resumed training: the run keeps its recipe.",
        ),
        (["evaluate", "{photos}"], 1, "error: {photos}: this is not a run folder of visus: it has no recipe.yaml."),
        (["predict", "{run}"], 2, "error: the files are missing. Write: visus predict "),
        (
            ["predict", "{run}", "{photos}", "--top", "0"],
            2,
            "error: top must be at least 1, not 0.",
        ),
        (["summary", "resnet(17)"], 2, "error: "),
        (["summary", "conv(8)", "--input", "3,x"], 2, "error: --input takes whole numbers such as 3,224,224, not '3,x'."),
    ],
)
def test_a_mistake_has_one_clear_error_and_the_right_exit_code(
    visus_command: Call,
    photos: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"photos": photos, "run": run}
    answer = visus_command(*(word.format(**places) if word.startswith("{") else word for word in words))
    wanted = message.format(**places) if "{photos}" in message else message
    assert (answer.code, answer.out) == (code, "")
    assert wanted in answer.err
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classes.txt", "{run}: classes.txt is missing from this run folder. Put it back, or train again with visus train."),
        (
            "weights/best.safetensors",
            "{run}: the weights weights/best.safetensors are missing from this run folder. Continue the training: visus train --resume {run}",
        ),
    ],
)
def test_a_run_folder_from_which_a_file_was_removed_names_it(
    visus_command: Call, run: Path, tmp_path: Path, name: str, message: str
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / name).unlink()
    answer = visus_command("evaluate", copy)
    assert (answer.code, answer.err) == (1, f"error: {message.format(run=copy)}\n")


def test_check_reports_classes_ledger_and_warnings(visus_command: Call, photos: Path) -> None:
    facts = json.loads(visus_command("check", photos, "--json").out)
    assert facts["classes"] == ["dark", "light"]
    assert facts["num_samples"] == {"train": 43, "val": 5, "test": 12}
    assert facts["warnings"] == []
    text = visus_command("check", photos).out
    assert text.startswith(f"no warnings: {photos.name} (folder), 60 images of 3 x 10 x 10, 2 classes\n")
    assert text.endswith(f"\nnext: visus train {photos}\n")
    assert visus_command("check", f"{photos}/../{photos.name}").out.endswith(
        f"\nnext: visus train {photos}/../{photos.name}\n"
    )


def test_the_next_step_of_a_check_has_the_options_of_the_check(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    options = ["--img-size", "12", "--val", "0.2", "--no-pretrained", "--augment", "--set", "color=0.3"]
    text = visus_command("check", photos, *options, "-o", tmp_path / "sheet.png").out
    assert text.endswith(f"\nnext: visus train {photos} --img-size 12 --val 0.2 --no-pretrained --set color=0.3\n")
    found = visus.check(photos, img_size=12, pretrained=False, progress=False)
    assert str(found.text()).endswith(
        f"next: visus.train(visus.open_data({str(photos)!r}, img_size=12, pretrained=False), pretrained=False)"
    )


def test_summary_reports_every_layer_and_the_totals(visus_command: Call) -> None:
    facts = json.loads(visus_command("summary", "resnet(18)", "--json").out)
    assert facts["num_parameters"] == 11_689_512
    text = visus_command(
        "summary", "conv(8, 3), relu, globalpool, linear(classes)", "--input", "3,32,32", "--classes", "10"
    ).out
    assert "conv1" in text
    assert text.splitlines()[-2:] == [
        "314 parameters, 194 k multiply-adds for one sample",
        "memory of a training step with batches of 64: 6,175 KiB = 1 KiB weights + 3 KiB state of adamw + 2,572 KiB kept for the backward pass + 3,599 KiB gradients and temporary tensors",
    ]


def test_summary_reads_a_design_file(visus_command: Call, tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("conv(8, 3), relu,  # first\nglobalpool, linear(classes)\n")
    assert visus_command("summary", tmp_path / "net.txt", "--input", "3,32,32").code == 0


@pytest.mark.long
def test_doctor_reports_versions_and_speeds(visus_command: Call) -> None:
    facts = json.loads(visus_command("doctor", "--json").out)
    assert facts["machine"]["python"] == sys.version.split()[0]
    assert facts["speeds"][0]["ratio"] == 1


@pytest.mark.slow
def test_doctor_prints_memory_and_disk_space_with_their_unit(visus_command: Call) -> None:
    lines = visus_command("doctor").out.splitlines()
    (memory,), (disk,) = (
        [line.split() for line in lines if line.startswith(f" {name}")] for name in ("memory", "free disk space")
    )
    assert memory[2:] in (["GiB"], ["TiB"], ["MiB"]) or memory[1:] == ["unknown"]
    assert disk[4:] in (["GiB"], ["TiB"], ["MiB"])


def test_version_is_that_of_the_package(visus_command: Call) -> None:

    assert visus_command("--version").out == f"{visus.__version__}\n"


@pytest.mark.long
def test_recipe_file_is_used_and_options_win(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("epochs: 7\nbatch_size: 11\nlabel_smoothing: 0.2\n")
    answer = visus_command("train", photos, *SMALL[:2], "-c", tmp_path / "r.yaml", "--epochs", "2", "-o", tmp_path, "-q")
    text = (Path(answer.out.strip()) / "recipe.yaml").read_text()
    assert "epochs: 2  #" in text
    assert "batch_size: 11  #" in text
    assert "label_smoothing: 0.2  #" in text


@pytest.mark.long
def test_signals_and_volumes_train_score_and_predict_with_the_same_commands(visus_command: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    for name, shape in (("signals", (1, 64)), ("volumes", (1, 8, 8, 8))):
        values = rng.normal(size=(40, *shape)).astype(np.float32) + labels.reshape(-1, *[1] * len(shape)) * 2
        np.savez(tmp_path / f"{name}.npz", x=values, y=labels)
        answer = visus_command("train", tmp_path / f"{name}.npz", "--epochs", "3", "-o", tmp_path, "-q")
        folder = answer.out.strip()
        assert json.loads(visus_command("evaluate", folder, "--json").out)["num_samples"] == 8
        found = json.loads(visus_command("predict", folder, tmp_path / f"{name}.npz", "--json").out)
        assert len(found) == 40
        assert found[3]["file"] == f"{tmp_path / name}.npz:x[3]"


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_the_training_can_go_on(photos: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "visus",
        "train",
        str(photos),
        *SMALL[:2],
        "--epochs",
        "2000",
        "-o",
        str(tmp_path),
        "--name",
        "long",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        limit = time.monotonic() + 60
        while not (tmp_path / "long" / "results.csv").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert f"\nnext      visus train --resume {tmp_path / 'long'}\n" in err
    assert "Traceback" not in err
