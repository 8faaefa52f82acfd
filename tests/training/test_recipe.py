"""The recipe: refused values, round trip."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import visus
from visus.data.augment import SETTINGS as AUGMENTATION
from visus.errors import RecipeError, UsageError
from visus.other_libraries import SETTINGS
from visus.own_callables import load_function
from visus.training.recipe import ELSEWHERE, FIELDS, OTHER_WAYS, Recipe

RECIPES = st.builds(
    Recipe,
    epochs=st.none() | st.integers(1, 500),
    learning_rate=st.none() | st.floats(1e-6, 10),
    optimizer=st.none() | st.sampled_from(["adamw", "muon", "sgd"]),
    flip=st.none() | st.sampled_from(["alternating", "none", "random"]),
    progressive_resize=st.none() | st.sampled_from(["1", "0.5, 1", "0.75, 0.875, 1"]),
    tta=st.none() | st.sampled_from(["none", "flip", "shift", "flip+shift"]),
    zoom=st.none() | st.floats(0, 0.9),
    seed=st.integers(0, 2**31 - 1),
    time_limit_s=st.none() | st.floats(1, 1e6),
)


@given(RECIPES)
def test_yaml_round_trip_keeps_every_setting(recipe: Recipe) -> None:
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_yaml_reports_the_meaning_of_every_setting() -> None:
    lines = Recipe().to_yaml().splitlines()
    assert [line.split(":")[0] for line in lines] == list(FIELDS)
    assert all(line.split("  # ")[1] for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0, not -1."),
        ({"epochs": 2.5}, "epochs must be a whole number, not 2.5."),
        ({"flip": "half"}, "unknown flip 'half'. Known: alternating, none, random."),
        (
            {"tta": "flips"},
            "unknown tta 'flips'. Did you mean 'flip'? Known: flip, flip+shift, none, shift, unsure:flip, unsure:flip+shift, unsure:shift.",
        ),
        (
            {"progressive_resize": "0.1, 1"},
            "progressive_resize must be fractions of the side between 0.25 and 1, such as 0.75, 0.875, 1, not '0.1, 1'.",
        ),
        (
            {"progressive_resize": "small"},
            "progressive_resize must be fractions of the side between 0.25 and 1, such as 0.75, 0.875, 1, not 'small'.",
        ),
        (
            {"progressive_resize": 0.5},
            "progressive_resize must end with 1, since the network is used at full size, not with 0.5.",
        ),
        (
            {"policy": "strong"},
            "policy must be a number of operations (1 to 8) x a magnitude (0 to 30), such as 2x9, not 'strong'.",
        ),
        (
            {"policy": "2x31"},
            "policy must be a number of operations (1 to 8) x a magnitude (0 to 30), such as 2x9, not '2x31'.",
        ),
        ({"transform": "flip"}, "transform must be the name of a function, package.module:callable, not 'flip'."),
        ({"transform": 3}, "transform must be a word, not 3."),
        ({"vertical_flip": True}, "vertical_flip must be one of the words none, random, not True."),
        ({"degrees": 10}, "unknown setting 'degrees'. Did you mean 'rotate'?"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'."),
        ({"learning_rate": float("nan")}, "learning_rate must be between 1e-12 and 100, not nan."),
        ({"optimizer": 3}, "optimizer must be one of the words adamw, muon, sgd, not 3."),
        ({"flip": False}, "flip must be one of the words alternating, none, random, not False. Did you mean 'none'?"),
        ({"device": 3}, "device must be a word, not 3. Did you mean 'cuda:3'?"),
        ({"device": True}, "device must be a word, not True."),
        ({"imgsz": 64}, "a recipe has no setting 'imgsz': img_size is an argument of visus.open_data."),
        ({"project": "x"}, "a recipe has no setting 'project': output is an argument of visus.train."),
        ({"lr0": 1}, "unknown setting 'lr0'. Did you mean 'learning_rate'?"),
        (
            {"time_limit_s": "soon"},
            "time_limit_s must be a number of seconds, or a duration such as 90s, 5m or 1h30m, not 'soon'.",
        ),
        ({"lr": 1e-3}, "unknown setting 'lr'. Did you mean 'learning_rate'?"),
        ({"img_size": 64}, "a recipe has no setting 'img_size': img_size is an argument of visus.open_data."),
        ({"bs": 8}, "unknown setting 'bs'. Did you mean 'batch_size'?"),
        ({"earlystopping": 3}, "unknown setting 'earlystopping'. Did you mean 'patience'?"),
        (
            {"criterion": "focal", "callbacks": [], "dropout": 0.2},
            "3 mistakes:\n  - a recipe has no setting 'criterion': the setting is loss, as mylosses:focal (module, colon, function)."
            "\n  - a recipe has no setting 'callbacks': loop over the events of visus.Training and answer them, or give on_event to visus.train."
            "\n  - a recipe has no setting 'dropout': dropout is a layer of the network, as in 'globalpool, dropout(0.2), linear(classes)'.",
        ),
        (
            {"verbose": 1, "metrics": ["f1"]},
            "2 mistakes:\n  - a recipe has no setting 'verbose': progress=False of visus.train shows nothing.\n  - a recipe has no setting "
            "'metrics': select is the metric that decides which epoch is kept; run.evaluate() has all of them.",
        ),
        ({"weights": "x.pt"}, "a recipe has no setting 'weights': weights is an argument of visus.train."),
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv'. Did you mean 'adamw'? Known: adamw, muon, sgd."),
        (
            {"translate": 0.7, "zoom": -1},
            "2 mistakes:\n  - translate must be between 0 and 0.5, not 0.7.\n  - zoom must be between 0 and 0.9, not -1.",
        ),
    ],
)
def test_bad_settings_are_refused_together(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_unknown_setting_in_a_file_names_the_closest(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("epoch: 3\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.read(file)
    assert str(caught.value).startswith(
        f"{file}: unknown setting 'epoch'. Did you mean 'epochs'? Known: accumulate, batch_size, bias_lr, "
    )


def test_several_unknown_settings_list_the_known_ones_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(epoch=3, shade="red", lr=1)  # type: ignore[call-arg]
    message = str(caught.value)
    assert message.startswith(
        "3 mistakes:\n  - unknown setting 'epoch'. Did you mean 'epochs'?\n  - unknown setting 'shade'.\n  - "
    )
    assert message.count("Known: accumulate, batch_size, bias_lr, ") == 1
    assert message.splitlines()[-1].startswith("Known: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "recipe: a recipe is a table of settings, such as 'epochs: 20', not list."),
        ("a: [", "recipe: this is not YAML: while parsing a flow node expected the node content, but found '<stream end>' "),
    ],
)
def test_text_that_is_no_recipe_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text)
    assert str(caught.value).startswith(message)


def test_recipe_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.read(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: there is no such file. Give the path of a text file."


def test_the_size_of_images_is_no_setting_and_it_is_said_where_it_belongs() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(image_size=64)  # type: ignore[call-arg]
    assert str(caught.value) == "a recipe has no setting 'image_size': img_size is an argument of visus.open_data."


def own_loss(outputs: object, labels: object) -> object:
    return outputs


def test_an_own_loss_and_metric_are_kept_by_their_names() -> None:
    assert Recipe(loss=own_loss, select=own_loss).loss == f"{__name__}:own_loss"  # type: ignore[arg-type]
    assert Recipe.from_yaml(Recipe(loss="a.b:c", select="a.b:d").to_yaml()) == Recipe(loss="a.b:c", select="a.b:d")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": "focal"},
            "loss must be the name of a function, such as mylosses:focal (module, colon, function), not 'focal'.",
        ),
        (
            {"select": "acuracy"},
            "unknown metric 'acuracy'. Did you mean 'accuracy'? Known: accuracy, auroc, average_precision, balanced_accuracy, exact_match, log_loss, "
            "macro_f1, mae, r2, rmse, top5_accuracy.",
        ),
    ],
)
def test_a_loss_or_metric_that_cannot_be_found_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_words_of_other_libraries_name_settings() -> None:
    assert set(SETTINGS.values()) <= set(FIELDS)
    assert not set(SETTINGS) & set(FIELDS)
    assert not set(OTHER_WAYS) & {*FIELDS, *SETTINGS, *ELSEWHERE}
    for name, function in ELSEWHERE.items():
        assert name in inspect.signature(getattr(visus, function.removeprefix("visus."))).parameters


def test_an_unknown_setting_of_a_copy_is_refused_in_the_same_words() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().replace(lr=1e-3)
    assert str(caught.value) == "unknown setting 'lr'. Did you mean 'learning_rate'?"


def test_help_explains_every_setting() -> None:
    words = " ".join((Recipe.__doc__ or "").split())
    for name, rule in FIELDS.items():
        assert f" {name}: {rule.metadata['describe']}." in words
    assert list(inspect.signature(Recipe).parameters) == list(FIELDS)


def test_a_time_limit_is_a_duration_in_python_too() -> None:
    assert Recipe(time_limit_s="1h30m").time_limit_s == 5400.0  # type: ignore[arg-type]
    assert Recipe.from_yaml("time_limit_s: 5m").time_limit_s == 300.0


def test_a_recipe_is_read_from_a_path_as_text(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("epochs: 3\n")
    assert Recipe.read(str(tmp_path / "recipe.yaml")) == Recipe(epochs=3)


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert visus.Recipe.from_yaml("learning_rate: 1e-3\n").learning_rate == 0.001


def test_every_augmentation_is_a_setting_of_its_name() -> None:
    settings = {field.name: field.metadata["group"] for field in dataclasses.fields(visus.Recipe)}
    assert dict.fromkeys(AUGMENTATION, "Augmentation").items() <= settings.items()
    others = {"progressive_resize", "tta"}
    assert {name for name, group in settings.items() if group == "Augmentation"} == {*AUGMENTATION, *others}


def test_a_transform_given_as_an_object_is_stored_by_its_name_and_found_again() -> None:
    recipe = visus.Recipe(transform=str.upper)  # a callable
    assert recipe.transform == "builtins:str.upper"
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert load_function(str(again.transform))("a") == "A"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": 0.5}, "a recipe has no setting 'time': time_limit_s is the limit, in seconds or as '30m' or '1h30m'."),
        (
            {"half": True},
            "a recipe has no setting 'half': precision is the setting: 'auto', 'bfloat16', 'float16' or 'float32'.",
        ),
        ({"cos_lr": True}, "a recipe has no setting 'cos_lr': schedule is the setting. Write schedule='cosine'."),
        (
            {"hsv_v": 0.4},
            "a recipe has no setting 'hsv_v': color is one number for brightness, contrast and saturation, such as color=0.3; "
            "the hue turns by up to a tenth of it.",
        ),
        (
            {"augment": True},
            "a recipe has no setting 'augment': training samples are augmented by default; "
            "flip, translate, zoom, cutout, rotate, color and policy set how.",
        ),
        (
            {"flip": 0.5},
            "flip must be one of the words alternating, none, random, not 0.5. 'random' flips half of the samples.",
        ),
        ({"vertical_flip": 0.0}, "vertical_flip must be one of the words none, random, not 0.0. Write 'none' for 0."),
        (
            {"frozen": 10},
            'frozen must be the paths of layers, such as "stage1, stage2.*", or a list of them, not 10; visus.summary lists the paths.',
        ),
    ],
)
def test_settings_of_other_libraries_name_the_way(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(**settings)
    assert str(caught.value) == message


def test_frozen_layers_may_be_a_list() -> None:
    recipe = Recipe(frozen=["stem", "stage1.*"])  # type: ignore[arg-type]
    assert recipe == Recipe(frozen="stem, stage1.*")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
