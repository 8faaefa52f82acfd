"""The recipe: refused values, settled values, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import RecipeError, UsageError
from visus.training.recipe import EARLIER_SETTINGS, FIELDS, LATER_SETTINGS, Recipe, default_batch_size, default_epochs

RECIPES = st.builds(
    Recipe,
    epochs=st.none() | st.integers(1, 500),
    learning_rate=st.none() | st.floats(1e-6, 10),
    optimizer=st.none() | st.sampled_from(["adamw", "muon", "sgd"]),
    flip=st.none() | st.booleans() | st.sampled_from(["alternating", "none", "random"]),
    curriculum=st.none() | st.sampled_from(["1", "0.5, 1", "0.75, 0.875, 1"]),
    tta=st.none() | st.sampled_from(["none", "flip", "shift", "flip+shift"]),
    zoom=st.none() | st.floats(0, 0.9),
    seed=st.integers(0, 2**31 - 1),
    time_limit_s=st.none() | st.floats(1, 1e6),
)


@given(RECIPES)
def test_yaml_round_trip_keeps_every_setting(recipe: Recipe) -> None:
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_yaml_tells_the_meaning_of_every_setting() -> None:
    lines = Recipe().to_yaml().splitlines()
    assert [line.split(":")[0] for line in lines] == list(FIELDS)
    assert all(line.split("  # ")[1] for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0."),
        ({"epochs": 2.5}, "epochs must be a whole number, not 2.5."),
        ({"flip": "half"}, "unknown flip 'half'. Known: alternating, none, random."),
        (
            {"tta": "flips"},
            "unknown tta 'flips'. Did you mean 'flip'? Known: flip, flip+shift, none, shift, unsure:flip, unsure:flip+shift, unsure:shift.",
        ),
        (
            {"curriculum": "0.1, 1"},
            "curriculum must be parts of the side between 0.25 and 1, such as 0.75, 0.875, 1, not '0.1, 1'.",
        ),
        (
            {"curriculum": "small"},
            "curriculum must be parts of the side between 0.25 and 1, such as 0.75, 0.875, 1, not 'small'.",
        ),
        ({"curriculum": 0.5}, "curriculum must end with 1, since the network is used at the whole size, not with 0.5."),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'."),
        ({"learning_rate": float("nan")}, "learning_rate must be between 1e-12 and 100, not nan."),
        ({"optimizer": 3}, "optimizer must be a word, not 3."),
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv'. Did you mean 'adamw'? Known: adamw, muon, sgd."),
        (
            {"shift": 0.7, "zoom": -1},
            "2 mistakes:\n  - shift must be between 0 and 0.5, not 0.7.\n  - zoom must be between 0 and 0.9, not -1.",
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
        f"{file}: unknown setting 'epoch'. Did you mean 'epochs'? Known: averaging, batch_size, "
    )


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
    assert (
        str(caught.value)
        == f"{tmp_path / 'none.yaml'}: this file cannot be read as text. Give the path of a UTF-8 text file."
    )


def test_settled_recipe_has_no_open_setting_but_those_that_mean_never() -> None:
    settled = Recipe().settled(num_items=1000, input_shape=(3, 96, 96), is_colour=True, is_varied=True)
    assert {name for name in FIELDS if getattr(settled, name) is None} == {"clip_norm", "patience", "time_limit_s"}
    assert (settled.optimizer, settled.flip, settled.zoom) == ("muon", "alternating", 0.4)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_of_head_biases_and_gains_are_open_where_there_is_one_rate_for_all(optimizer: str) -> None:
    recipe = Recipe(optimizer=optimizer)
    settled = recipe.settled(num_items=1000, input_shape=(3, 96, 96), is_colour=True, is_varied=True)
    assert (settled.head_rate, settled.bias_rate, settled.gain_rate) == (None, None, None)
    assert (settled.momentum, settled.warmup, settled.label_smoothing) == (0.9, 0.2, 0.1)


@pytest.mark.parametrize(
    ("shape", "num_items", "epochs"),
    [
        ((1, 28, 28), 58_000, 15),
        ((3, 28, 28), 58_000, 11),
        ((1, 41, 41), 58_000, 11),
        ((1, 28, 28), 19_999, 19),
        ((1, 8000), 58_000, 11),
    ],
)
def test_many_small_grey_pictures_are_seen_more_often(shape: tuple[int, ...], num_items: int, epochs: int) -> None:
    settled = Recipe().settled(num_items=num_items, input_shape=shape, is_colour=shape[0] == 3, is_varied=False)
    assert settled.epochs == epochs


@pytest.mark.parametrize(("given_rate", "gain_rate"), [(None, 0.0099), (0.3, 0.03), (1e-6, 1e-7), (1e-12, 1e-12)])
def test_gains_move_at_a_tenth_of_the_rate_of_biases(given_rate: float | None, gain_rate: float) -> None:
    recipe = Recipe(bias_rate=given_rate, batch_size=1000)
    settled = recipe.settled(num_items=50_000, input_shape=(3, 32, 32), is_colour=True, is_varied=False)
    assert settled.gain_rate == pytest.approx(gain_rate, rel=1e-3)


def test_a_network_without_convolutions_is_trained_by_adamw() -> None:
    settled = Recipe().settled(
        num_items=1000, input_shape=(1, 28, 28), is_colour=False, is_varied=False, has_filters=False, takes_any_size=False
    )
    assert (settled.optimizer, settled.curriculum, settled.flip, settled.tta) == ("adamw", "1", "none", "unsure:shift")


def test_given_settings_are_never_overruled() -> None:
    given_settings = {
        "epochs": 7,
        "batch_size": 10,
        "optimizer": "muon",
        "learning_rate": 0.5,
        "head_rate": 0.3,
        "bias_rate": 0.2,
        "gain_rate": 0.4,
        "momentum": 0.1,
        "averaging": 0.9,
        "tail": 0.1,
        "floor": 0.2,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "label_smoothing": 0.0,
        "flip": "none",
        "zoom": 0.0,
        "shift": 0.2,
        "cutout": 0.0,
        "curriculum": "0.5, 1",
        "tta": "shift",
        "frozen": "",
        "norm_statistics": "batch",
    }
    recipe = Recipe(**given_settings)  # type: ignore[arg-type]
    settled = recipe.settled(num_items=1000, input_shape=(3, 96, 96), is_colour=True, is_varied=True)
    assert settled == recipe


def test_flip_as_earlier_recipes_say_it_is_read() -> None:
    assert [Recipe.from_yaml(f"flip: {word}").flip for word in ("true", "false", "null")] == ["random", "none", None]


EARLIER_FILE = """\
epochs: 30  # times that the training data is gone through
batch_size: 64
optimizer: adamw
learning_rate: 0.002
momentum: 0.9
weight_decay: 0.5
schedule: linear
warmup: 0.2
label_smoothing: 0.1
clip_norm: null
averaging: 0.998
class_weights: none
flip: true
shift: 0.05
zoom: 0.0
cutout: 0.4
patience: null
time_limit_s: null
checkpoint_every_s: 30.0
precision: auto
device: auto
seed: 0
"""


def test_a_whole_recipe_of_an_earlier_run_keeps_its_meaning() -> None:
    """Its settings as they stand, and nothing of what came after it, even where it is settled anew."""
    recipe = Recipe.from_yaml(EARLIER_FILE)
    assert (recipe.optimizer, recipe.flip, recipe.sides, recipe.tta, recipe.floor) == (
        "adamw",
        "random",
        (1.0,),
        "none",
        0.0,
    )
    assert recipe.settled(num_items=1000, input_shape=(3, 96, 96), is_colour=True, is_varied=True) == recipe
    short = Recipe.from_yaml("epochs: 30\n")
    assert (short.optimizer, short.tta) == (None, None)


def test_settings_are_of_the_first_version_or_say_what_was_before_them() -> None:
    first = {line.split(":")[0] for line in EARLIER_FILE.splitlines()}
    assert set(EARLIER_SETTINGS) == first
    assert set(FIELDS) == first | set(LATER_SETTINGS)


@given(st.integers(1, 10**7))
def test_larger_sets_have_larger_batches_fewer_epochs_and_more_steps_with_muon(num_items: int) -> None:
    sizes = [default_batch_size(number, is_muon=True) for number in (num_items, num_items + 1)]
    epochs = [default_epochs(number, is_muon=True) for number in (num_items, num_items + 1)]
    assert 16 <= sizes[0] <= sizes[1] <= 2000
    assert 48 >= epochs[0] >= epochs[1] >= 8


@pytest.mark.parametrize(
    ("batch_size", "rate", "momentum"), [(2000, 0.16, 0.6), (500, 0.08, 0.8), (4000, 0.16, 0.6), (20, 0.016, 0.96)]
)
def test_muon_steps_less_and_remembers_more_where_batches_are_small(batch_size: int, rate: float, momentum: float) -> None:
    recipe = Recipe(batch_size=batch_size)
    settled = recipe.settled(num_items=50_000, input_shape=(3, 32, 32), is_colour=True, is_varied=False)
    assert (settled.learning_rate, settled.momentum) == (rate, momentum)


@given(st.integers(1, 10**7))
def test_larger_sets_have_fewer_epochs_but_more_items_in_all(num_items: int) -> None:
    assert 11 <= default_epochs(num_items + 1) <= default_epochs(num_items) <= 80
