"""Words that typer refuses, and what the message proposes instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.commands import Call

NO_EXPORT = (
    "there is no export yet. The weights of a run are in RUN/weights/best.safetensors, its network is in RUN/design.txt, "
    "and visus.load(RUN).module is the trained torch.nn.Module."
)
NETS = "import torch.nn\n\n\nclass Small(torch.nn.Module):\n    pass\n\n\nclass Large(Small):\n    pass\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a folder of images whose name has a space, and a file of networks."""
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
        (["export"], NO_EXPORT, ""),
        (
            ["train", "pet", "photos"],
            "unexpected argument 'photos'. Did you mean 'pet photos'? Put a name with spaces in quotes.",
            "train",
        ),
        (["train", "pet", "cats"], "Got unexpected extra argument(s) (cats)", "train"),
        (
            ["train", "--data", "pet photos"],
            "No such option: --data. DATA is an argument: visus train 'pet photos'",
            "train",
        ),
        (["check", "--data=pets"], "No such option: --data. DATA is an argument: visus check pets", "check"),
        (
            ["train", "pets", "--loss", "focal"],
            "No such option: --loss. visus trains with cross-entropy (--label-smoothing, --class-weights). For a loss of your own, write the "
            "loop yourself: see the how-to page on an own augmentation or loss.",
            "train",
        ),
        (["train", "pets", "epochs=3"], "epochs=3: options are written --epochs 3.", "train"),
        (
            ["train", "pets", "batch_size=4", "epochs=3", "lr0=2"],
            "batch_size=4 epochs=3 lr0=2: options are written --batch-size 4 --epochs 3; "
            "options are written --NAME VALUE, and there is no --lr0. Did you mean --lr 2?",
            "train",
        ),
    ],
)
def test_refused_words_name_what_is_meant(visus_command: Call, words: list[str], message: str, of_command: str) -> None:
    help_of = " ".join(["visus", *([of_command] if of_command else [])])
    assert visus_command(*words) == (2, "", f"error: {message}\nHelp: {help_of} --help\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "epochs=3"], 2, "epochs=3: options are written --epochs 3."),
        (["train", "data=pets"], 2, "data=pets: DATA is an argument: visus train pets."),
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
    answer = visus_command("predict", run, "photos", "-o", "x.csv")
    assert answer.err.splitlines()[0] == (
        "error: No such option: -o. Predictions are printed; to write them to a file: visus predict RUN FILES > x.csv. "
        "To sort the files into folders: --sort-into FOLDER"
    )
    assert answer.code == 2
