"""Words that typer refuses, and what the message proposes instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.commands import Call

OPTIONS = "options are written --NAME VALUE."
KEPT = "Leave imgsz out: a run keeps the preprocessing and the settings of its training."
PAGE = "docs/how-to/coming-from.md lists the words of other tools."
NETS = "import torch.nn\n\n\nclass Small(torch.nn.Module):\n    pass\n\n\nclass Large(Small):\n    pass\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images in a folder whose name has a space, a file of networks, weights, and two run folders."""
    for seconds, name in enumerate(("old", "new")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").touch()
        os.utime(tmp_path / "runs" / name, (seconds, seconds))
    (tmp_path / "kept.pt").touch()
    (tmp_path / "pet photos").mkdir()
    (tmp_path / "nets_typed.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [(), ("experiment",)])
def test_a_group_without_a_command_prints_its_help(visus_command: Call, words: tuple[str, ...]) -> None:
    answer = visus_command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[0] == f"Usage: {' '.join(['visus', *words])} [OPTIONS] COMMAND [ARGS]..."
    assert "error" not in answer.err


@pytest.mark.parametrize(
    ("words", "message", "of_command"),
    [
        (["val"], "No such command 'val'. Did you mean 'evaluate'?", ""),
        (["infer"], "No such command 'infer'. Did you mean 'predict'?", ""),
        (["pet photos"], "pet photos is data, and the command comes first. Write: visus train 'pet photos'", ""),
        (["runs/old"], "runs/old is a run, and the command comes first. Write: visus predict runs/old FILES", ""),
        (
            ["experiment", "runs/old"],
            "runs/old comes after the name of the experiment. Write: visus experiment mlp runs/old (known: mlp, shuffle, task, antialias)",
            "experiment",
        ),
        (["train", "pet photos", "--lr", "abc"], "--lr takes a number, not 'abc'.", "train"),
        (
            ["train", "pet", "photos"],
            "unexpected argument 'photos'. Did you mean 'pet photos'? Put a name with spaces in quotes.",
            "train",
        ),
        (["train", "pet", "cats"], "Got unexpected extra argument(s) (cats)", "train"),
        (
            ["train", "--data", "pet photos"],
            "No such option: --data. Write: visus train 'pet photos'",
            "train",
        ),
        (
            ["train", "pets", "--criterion", "focal"],
            "No such option: --criterion. The setting is loss, as mylosses:focal (module, colon, function).",
            "train",
        ),
        (
            ["train", "pets", "mixup=0.2"],
            f"mixup=0.2: {OPTIONS} Write: visus train pets --mixup 0.2",
            "train",
        ),
        (["check", "--data=pets"], "No such option: --data. Write: visus check pets", "check"),
        (["train", "pets", "epochs=3"], f"epochs=3: {OPTIONS} Write: visus train pets --epochs 3", "train"),
        (
            ["train", "pets", "batch_size=4", "epochs=3", "lr0=2", "-j", "2"],
            f"batch_size=4 epochs=3 lr0=2: {OPTIONS} Write: visus train pets --batch-size 4 --epochs 3 --lr 2 -j 2",
            "train",
        ),
        (["train", "pets", "epohcs=3"], "epohcs=3: there is no --epohcs. Did you mean --epochs 3?", "train"),
        (["train", "pets", "epochs=x"], "epochs=x: epochs must be a whole number, not 'x'.", "train"),
        (
            ["train", "pets", "resume=True", "epochs=3"],
            f"resume=True epochs=3: {OPTIONS} Write: visus train --resume runs/new",
            "train",
        ),
        (["train", "pets", "resume=False"], f"resume=False: {OPTIONS} Write: visus train pets", "train"),
        (["train", "pets", "device=0"], f"device=0: {OPTIONS} Write: visus train pets --device cuda:0", "train"),
        (
            ["train", "pets", "device=0,1"],
            "device=0,1: several GPUs: start visus by torchrun, see docs/how-to/several-processes.md.",
            "train",
        ),
        (
            ["train", "pets", "freeze=10"],
            'freeze=10: --frozen takes the paths of layers, such as "stage1, stage2.*"; visus summary lists them.',
            "train",
        ),
        (
            ["train", "pets", "model=yolo11n-cls.pt"],
            f"model=yolo11n-cls.pt: {OPTIONS} yolo11n-cls.pt is not here; --pretrained starts from ImageNet weights. "
            "Write: visus train pets --pretrained",
            "train",
        ),
        (
            ["train", "pets", "model=yolo11n-cls.yaml"],
            f"model=yolo11n-cls.yaml: {OPTIONS} Leave yolo11n-cls.yaml out: visus chooses the network, or -m takes a design. "
            "Write: visus train pets",
            "train",
        ),
        (
            ["train", "pets", "model=kept.pt", "pretrained=False"],
            f"model=kept.pt pretrained=False: {OPTIONS} Write: visus train pets --weights kept.pt --no-pretrained",
            "train",
        ),
        (["train", "pets", "--imgsz", "64"], "No such option: --imgsz. Write: visus train pets --img-size 64", "train"),
        (
            ["train", "pets", "--batch=16", "--imgsz", "64", "--cos-lr"],
            "No such option: --batch. Write: visus train pets --batch-size 16 --img-size 64 --schedule cosine",
            "train",
        ),
        (["train", "pets", "--project", "out"], "No such option: --project. Write: visus train pets --output out", "train"),
        (["train", "pets", "--cfg", "my.yaml"], "No such option: --cfg. Write: visus train pets --recipe my.yaml", "train"),
        (
            ["predict", "runs/new", "a.jpg", "--conf", "0.5"],
            "No such option: --conf. Leave it out: visus has no threshold, and each prediction has its probability.",
            "predict",
        ),
        (["predict", "a.jpg"], "the run folder is missing. Write: visus predict runs/new a.jpg", "predict"),
        (["predict", "runs/old"], "the files are missing. Write: visus predict runs/old FILES", "predict"),
        (["predict"], "a run and files are missing. Write: visus predict runs/new FILES", "predict"),
        (
            ["predict", "source=a.jpg"],
            "source=a.jpg: arguments are written without NAME=. Write: visus predict runs/new a.jpg",
            "predict",
        ),
        (
            ["predict", "runs/typo", "--source", "a.jpg"],
            "No such option: --source. Write: visus predict runs/typo a.jpg",
            "predict",
        ),
        (
            ["predict", "runs/new", "a.jpg", "--imgsz", "64"],
            f"No such option: --imgsz. {KEPT} Write: visus predict runs/new a.jpg",
            "predict",
        ),
        (
            ["yolo", "classify", "val", "model=runs/old", "batch=8"],
            f"No such command 'yolo'. {KEPT.replace('imgsz', 'batch')} {PAGE} Write: visus evaluate runs/old",
            "",
        ),
        (["train", "pets", "callbacks=x"], "callbacks=x: there is no --callbacks.", "train"),
        (["evaluate", "runs/typo", "--data", "x"], "No such option: --data. Write: visus evaluate runs/typo x", "evaluate"),
        (["tune", "pets", "-b", "16"], "No such option: -b. Write: --set batch_size=16", "tune"),
        (["tune", "pets", "-b16"], "No such option: -b. Write: --set batch_size=16", "tune"),
        (["tune", "pets", "--epochs", "2"], "No such option: --epochs. Write: --set epochs=2", "tune"),
        (["tune", "pets", "--epochs=2"], "No such option: --epochs. Write: --set epochs=2", "tune"),
        (["tune", "pets", "--lr0", "0.1"], "No such option: --lr0. Write: --set learning_rate=0.1", "tune"),
        (["tune", "pets", "--lr"], "No such option: --lr. Write: --set learning_rate=VALUE", "tune"),
        (
            ["predict", "runs/new", "a.jpg", "--save-txt"],
            "No such option: --save-txt. Leave it out: predictions are printed, and --out FILE.csv writes them to a table.",
            "predict",
        ),
        (["info"], "No such command 'info'. Did you mean 'summary'?", ""),
        (["train", "pets", "--half"], "No such option: --half. Write: visus train pets --precision float16", "train"),
        (["train", "pets", "amp=False"], f"amp=False: {OPTIONS} Write: visus train pets --precision float32", "train"),
        (
            ["train", "pets", "--hsv_s", "0.7"],
            "No such option: --hsv_s. Color is one number for brightness, contrast and saturation, such as color=0.3; "
            "the hue turns by up to a tenth of it.",
            "train",
        ),
        (
            ["train", "pets", "augment=True"],
            "augment=True: there is no --augment. Training samples are augmented by default; "
            "flip, translate, zoom, cutout, rotate, color and policy set how.",
            "train",
        ),
        (["evaluate", "--data", "x"], "No such option: --data. Write: visus evaluate runs/new x", "evaluate"),
        (
            ["classify", "train", "data=pet photos", "epochs=20", "imgsz=224"],
            f"No such command 'classify'. {PAGE} Write: visus train 'pet photos' --epochs 20 --img-size 224",
            "",
        ),
        (
            ["yolo", "classify", "predict", "model=best.pt", "source=a.jpg"],
            f"No such command 'yolo'. {PAGE} Write: visus predict runs/new a.jpg",
            "",
        ),
        (
            ["yolo", "task=classify", "mode=val", "model=runs/old"],
            f"No such command 'yolo'. {PAGE} Write: visus evaluate runs/old",
            "",
        ),
        (["classify", "a.jpg"], f"No such command 'classify'. {PAGE} Write: visus predict runs/new a.jpg", ""),
        (
            ["yolo", "export", "model=runs/old", "format=onnx"],
            f"No such command 'yolo'. {PAGE} Write: visus export runs/old --format onnx",
            "",
        ),
        (
            ["classify", "train", "data=pets", "epohcs=3"],
            f"No such command 'classify'. Did you mean 'train'? there is no --epohcs. Did you mean --epochs 3? {PAGE}",
            "",
        ),
        (
            ["detect", "train", "data=coco.yaml"],
            "No such command 'detect'. visus classifies whole samples: it has no detection, segmentation, pose or tracking.",
            "",
        ),
    ],
)
def test_refused_words_name_what_is_meant(visus_command: Call, words: list[str], message: str, of_command: str) -> None:
    help_of = " ".join(["visus", *([of_command] if of_command else [])])
    assert visus_command(*words) == (2, "", f"error: {message}\nHelp: {help_of} --help\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "epochs=3"], 2, f"epochs=3: {OPTIONS} Write: visus train --epochs 3"),
        (
            ["solve", "O=(W-K+2P)/S+1"],
            2,
            "O=(W-K+2P)/S+1: solve takes numbers, and finds the one that is left out. Write: visus solve --in 224 --kernel 7 --stride 2 --out 112",
        ),
        (["solve", "inn=3"], 2, "inn=3: there is no --inn. Did you mean --in 3?"),
        (["train", "data=pets"], 2, "data=pets: arguments are written without NAME=. Write: visus train pets"),
        (
            ["predict", "runs/new", "https://x.org/a.jpg"],
            2,
            "https://x.org/a.jpg: visus does not download. Download it first, and give the file.",
        ),
        (
            ["predict", "runs/new", "source=a.jpg"],
            2,
            "source=a.jpg: arguments are written without NAME=. Write: visus predict runs/new a.jpg",
        ),
        (
            ["predict", "a.jpg", "b.jpg"],
            2,
            "a.jpg: the run folder comes first. Write: visus predict runs/new a.jpg b.jpg",
        ),
        (
            ["train", "--set", "imgsz=64"],
            2,
            "--set takes settings of the training, and 'imgsz' is none. Write --img-size 64",
        ),
        (["train", "--set", "batch=64"], 2, "unknown setting 'batch'. Did you mean 'batch_size'?"),
        (["train", "--set", "cos_lr=True"], 2, "unknown setting 'cos_lr'. Write --set schedule=cosine"),
        (["train", "--set", "time=0.5"], 2, "unknown setting 'time'. Write --time-limit 0.5h"),
        (
            ["train", "--set", "hsv_h=0.1"],
            2,
            "unknown setting 'hsv_h': color is one number for brightness, contrast and saturation, such as color=0.3; "
            "the hue turns by up to a tenth of it.",
        ),
        (
            ["train", "nowhere", "--flip", "0.5", "-q"],
            2,
            "unknown flip '0.5'. Known: alternating, none, random. 'random' flips half of the samples.",
        ),
        (
            ["export", "runs/new", "--format", "tflite"],
            2,
            "unknown format 'tflite'. Known: onnx, openvino, torch. "
            '"What visus does not have" in docs/how-to/coming-from.md shows how PyTorch exports the network of a run.',
        ),
        (["train", "pet fotos", "-q"], 1, "pet fotos: there is no such file or folder. Did you mean 'pet photos'?"),
        (
            ["train", "nowhere", "--device", "0", "-q"],
            2,
            "unknown device '0'. Did you mean 'cuda:0'? Known: auto, cpu, cuda, mps, cuda:N.",
        ),
        (
            ["train", "nowhere", "-m", "x.pt", "-q"],
            2,
            "x.pt: this is the name of a weights file. Weights go to --weights FILE; "
            "-m takes a family, a design or package.module:callable.",
        ),
        (
            ["summary", "nets_typed.py"],
            2,
            "nets_typed.py: a Python file: write nets_typed:CLASS (its classes: Small, Large).",
        ),
        (["summary", "models/nets.py"], 2, "models/nets.py: a Python file: write models.nets:CLASS."),
        (["summary", "nets_typed:UNet"], 2, "nets_typed:UNet: nets_typed has no UNet. Its classes: Small, Large."),
    ],
)
def test_wrong_arguments_name_what_is_meant(visus_command: Call, words: list[str], code: int, message: str) -> None:
    assert visus_command(*words) == (code, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["5"], "note: --time-limit 5 is 5 seconds; write 5m for minutes.\n"),
        (["5", "-q"], ""),
        (["5s"], ""),
        (["60"], ""),
    ],
)
def test_a_short_time_limit_without_a_unit_is_noted(visus_command: Call, words: list[str], note: str) -> None:
    answer = visus_command("train", "nowhere", "--time-limit", *words)
    assert answer.err == f"{note}error: nowhere: there is no such file or folder.\n"


def test_a_file_for_predictions_is_answered_by_what_works(visus_command: Call, run: Path) -> None:
    answer = visus_command("predict", run, "photos", "--output", "x.csv")
    assert answer.err.splitlines()[0] == (
        "error: No such option: --output. Predictions are printed; to write them to a table: visus predict RUN FILES --out x.csv. "
        "To sort the files into folders: --sort-into FOLDER"
    )
    assert answer.code == 2


def test_without_runs_the_line_has_a_word_for_one(
    visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "pet photos")
    assert visus_command("predict", "a.jpg").err.startswith(
        "error: the run folder is missing. Write: visus predict RUN a.jpg\n"
    )
    assert "Write: visus train --resume RUN\n" in visus_command("train", "a", "resume=True").err


def test_a_file_whose_name_has_an_equals_sign_is_a_file(visus_command: Call, tmp_path: Path) -> None:
    (tmp_path / "epochs=3").mkdir()
    assert "NAME" not in visus_command("check", "epochs=3").err
    assert "Write: visus train epochs=3 --seed 1\n" in visus_command("train", "epochs=3", "seed=1").err


def test_compare_names_the_option_for_an_equals_sign(visus_command: Call) -> None:
    answer = visus_command("compare", "runs/old", "runs/new", "split=val")
    assert answer == (2, "", f"error: split=val: {OPTIONS} Write: visus compare runs/old runs/new --split val\n")
