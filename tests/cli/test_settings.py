"""Settings are written once, in ``Recipe``: options, ``--set`` and help follow from its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from tests.commands import Call

from visus.cli import settings
from visus.cli.app import app
from visus.errors import UsageError
from visus.training.recipe import FIELDS, Recipe

VALUES: dict[str, str] = {
    "optimizer": "sgd",
    "schedule": "cosine",
    "class_weights": "balanced",
    "sampling": "balanced",
    "flip": "random",
    "progressive_resize": "0.5, 1",
    "tta": "flip",
    "frozen": "stage1",
    "vertical_flip": "random",
    "rotate90": "random",
    "policy": "2x9",
    "transform": "own.changes:darker",
    "loss": "own.losses:focal",
    "select": "auroc",
    "norm_statistics": "stored",
    "kernels": "pytorch",
    "precision": "float32",
    "device": "cpu",
    "time_limit_s": "1m30s",
}


def train_options() -> dict[str, Any]:
    """The options of ``visus train`` by the names of their arguments."""
    group: Any = typer.main.get_command(app)
    return {each.name: each for each in group.commands["train"].params}


def test_every_setting_is_an_option_in_a_group_with_the_words_of_its_field() -> None:
    options = train_options()
    for name, field in FIELDS.items():
        option = options[name]
        assert settings.option_of(name) in option.opts
        assert option.rich_help_panel == field.metadata["group"] in settings.GROUPS
        assert option.help.lower() == f"{field.metadata['describe']}.".lower()
        assert option.hidden is not field.metadata["is_basic"]


def test_the_short_help_shows_about_fifteen_options_and_the_long_one_all(visus_command: Call) -> None:
    options = [each for each in train_options().values() if each.param_type_name == "option"]
    shown = [each.name for each in options if not each.hidden]
    assert len(shown) <= 20
    assert {"epochs", "patience", "time_limit_s"} <= set(shown)
    short, whole = visus_command("train", "--help").out, visus_command("train", "--help-all").out
    assert visus_command("train", "--help").out == short
    for each in options:
        assert f" {max(each.opts, key=len)}" in whole
        assert (f" {max(each.opts, key=len)} " in short.split("\nExamples:")[0]) is (each.name in shown), each.name
    heads = [line.rstrip(":") for line in whole.splitlines() if line.rstrip(":") in settings.GROUPS]
    assert heads == list(settings.GROUPS)


@pytest.mark.parametrize("name", FIELDS)
def test_set_returns_what_the_option_returns(name: str) -> None:
    low = FIELDS[name].metadata["low"]
    text = VALUES.get(name, "1" if low is None else f"{max(low, 0.1) if settings._KINDS[name] is float else max(low, 1):g}")
    typed = settings._KINDS[name](text) if name != "time_limit_s" else text
    received: list[Any] = []

    @settings.with_settings
    def command(*, assignments: list[str] | None = None, given: dict[str, Any]) -> None:
        received.append(given)

    for written in (name, settings.option_of(name).removeprefix("--")):
        command(assignments=[f"{written}={text}"], **dict.fromkeys(FIELDS))
    command(assignments=None, **dict.fromkeys(FIELDS) | {name: typed})
    assert received[0] == received[1] == received[2]
    Recipe().replace(**received[0])  # and the recipe takes it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr"], "--set takes NAME=VALUE, such as weight_decay=0.01, not 'lr'."),
        (["lr= "], "--set takes NAME=VALUE, such as weight_decay=0.01, not 'lr= '."),
        (["lr=0.1", "learning_rate=0.2"], "--set gives learning_rate twice. Give it once."),
    ],
)
def test_a_wrong_word_of_set_is_reported(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.read_assignments(words)
    assert str(caught.value) == message


def test_unknown_names_and_values_out_of_range_are_reported(visus_command: Call, tmp_path: Path) -> None:
    for words, message in {
        ("--set", "epoch=3"): "unknown setting 'epoch'. Did you mean 'epochs'? Known: accumulate, batch_size, bias_lr, ",
        ("--set", "epochs=x"): "--epochs must be a whole number, not 'x'.",
        ("--set", "label_smoothing=2"): "--label-smoothing must be between 0 and 0.9, not 2.",
        ("--set", "epochs=3", "--epochs", "2"): "--epochs is also given by --set. Give it once.",
    }.items():
        answer = visus_command("train", *words, "-o", tmp_path)
        assert answer.code == 2
        assert answer.err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_training_takes_settings_by_set(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    network = "conv(4, 3, padding=1), relu, globalpool, linear(classes)"
    words = ("--model", network, "--set", "epochs=1", "--set", "final-ema=0", "--set", "lr=0.01", "-o", tmp_path, "-q")
    answer = visus_command("train", photos, *words)
    recipe = Recipe.read(Path(answer.out.strip()) / "recipe.yaml")
    assert (recipe.epochs, recipe.final_ema, recipe.learning_rate) == (1, 0, 0.01)
