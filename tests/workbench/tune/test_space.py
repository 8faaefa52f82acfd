"""A space is stated in one notation, survives its file, and refuses what no training can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import RecipeError, UsageError
from visus.training.facts import DataFacts, NetworkFacts, StartFacts
from visus.training.recipe import FIELDS, Recipe
from visus.training.resolve import resolve
from visus.workbench.tune.space import Choices, Range, Space, default_space, read_searches, refuse_contradictions

RATES = st.floats(1e-6, 1.0).map(lambda value: float(f"{value:.4g}"))
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": st.tuples(RATES, RATES).filter(lambda ends: ends[0] < ends[1]),
        "batch_size": st.tuples(st.integers(1, 64), st.integers(65, 512)),
        "optimizer": st.just(["adamw", "sgd"]),
        "label_smoothing": st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=2, unique=True),
    },
).filter(bool)


@given(SPACES)
def test_a_space_survives_its_file_and_the_notation_of_the_command_line(given_space: dict[str, Any]) -> None:
    space = Space.of(given_space)
    assert Space.from_yaml(space.to_yaml()) == space
    assert read_searches([f"{name}={values}" for name, values in space]) == space


@given(st.floats(1e-5, 1.0), st.floats(1.01, 1e4), st.floats(0, 1))
def test_a_rounded_value_stays_in_its_range(low: float, factor: float, place: float) -> None:
    values = Range(low, low * factor)
    value = min(values.high, low + place * (values.high - low))
    assert values.rounded(value) in values
    assert values.rounded(value) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 100)])
@pytest.mark.parametrize("start", [None, StartFacts(layer_decay=0.1, learning_rate=1e-3, epochs=4)])
@pytest.mark.parametrize("number", [30, 500, 50_000])
def test_the_default_space_holds_the_default_recipe_and_nothing_that_a_recipe_refuses(
    shape: tuple[int, ...], start: StartFacts | None, number: int
) -> None:
    data = DataFacts(number, shape, num_validation=10, is_varied=len(shape) == 3)
    resolved = resolve(Recipe(), data, NetworkFacts(), start)
    space = default_space(Recipe(), resolved, number)
    assert {"learning_rate", "label_smoothing", "weight_decay"} <= set(space.names)
    for name, values in space:
        assert getattr(resolved, name) in values, name
        for each in (values.low, values.high) if isinstance(values, Range) else values.values:
            resolve(Recipe().replace(**{name: each}), data, NetworkFacts(), start)


def test_what_the_recipe_sets_is_not_in_the_default_space() -> None:
    recipe = Recipe(learning_rate=0.01, label_smoothing=0.0)
    resolved = resolve(recipe, DataFacts(500, (3, 32, 32)), NetworkFacts())
    assert not {"learning_rate", "label_smoothing"} & set(default_space(recipe, resolved, 500).names)


def test_a_range_of_a_factor_of_ten_is_logarithmic() -> None:
    assert Space.of({"lr": "0.01..0.1"}).settings["learning_rate"].is_log  # type: ignore[union-attr]
    assert not Space.of({"lr": "0.01..0.09"}).settings["learning_rate"].is_log  # type: ignore[union-attr]
    assert not Space.of({"cutout": (0, 0.5)}).settings["cutout"].is_log  # type: ignore[union-attr]


def test_choices_keep_the_type_of_their_setting() -> None:
    space = Space.of({"batch_size": "16,32", "label_smoothing": [0, 0.1]})
    assert space.settings == {"batch_size": Choices((16, 32)), "label_smoothing": Choices((0.0, 0.1))}


def own_loss(outputs: object, labels: object) -> None:
    """A loss by name."""


def test_own_functions_and_the_default_are_choices() -> None:
    name = f"{__name__}:own_loss"
    for space in ({"loss": [None, own_loss]}, {"loss": f"none,{name}"}, {"loss": f"null, {name}"}):
        assert Space.of(space).settings["loss"] == Choices((None, name))
    with pytest.raises(UsageError) as caught:
        Space.of({"cutout": "none,0.5"})
    assert str(caught.value) == "cutout must be a number, not 'none'."
    assert Space.of({"class_weights": "none,balanced"}).settings["class_weights"] == Choices(("none", "balanced"))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"seed": "1,2"}, "seed cannot be searched: the best of many seeds is luck, not a better training. Leave it out."),
        (
            {"select": "accuracy,auroc"},
            "select cannot be searched: it is the metric by which trials are compared. Leave it out.",
        ),
        ({"tta": "none,flip"}, "tta cannot be searched: it changes predictions, not the training. Leave it out."),
        ({"lr": "0.1..0.2", "learning_rate": "0.1..0.3"}, "the space has learning_rate twice. Give it once."),
        ({}, "the space has no setting. Name one, such as learning_rate: 0.01..0.3, or leave out the space."),
        (
            {"optimizer": "sgd"},
            "optimizer has the single value sgd, so there is nothing to search. Give several (a,b,c), or set it in the recipe.",
        ),
        (
            {"lr": [0.1]},
            "learning_rate has the single value 0.1, so there is nothing to search. Give several (low..high, or a,b,c), or set it in the recipe.",
        ),
        ({"optimizer": "adamw..sgd"}, "optimizer is a word, so it has no range adamw..sgd. Give choices, such as a,b,c."),
        ({"lr": "0.1..b"}, "learning_rate: a range is low..high, such as 0.01..0.3, not '0.1..b'."),
        ({"batch_size": "8.5..16"}, "batch_size is a whole number, and the range 8.5..16 is not. Give whole ends."),
        ({"lr": "0.2..0.1"}, "learning_rate: the range 0.2..0.1 is empty. Give the lower end first."),
        ({"cutout": "0..2"}, "cutout must be between 0 and 0.9, not 2."),
        ({"optimizer": "adamw,sdg"}, "unknown optimizer 'sdg'. Did you mean 'sgd'? Known: adamw, muon, sgd."),
        (
            {"seed": "1,2", "lr": "0.2..0.1"},
            "2 mistakes:\n  - seed cannot be searched: the best of many seeds is luck, not a better training. Leave it out.\n"
            "  - learning_rate: the range 0.2..0.1 is empty. Give the lower end first.",
        ),
    ],
)
def test_an_impossible_space_is_refused(space: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Space.of(space)
    assert str(caught.value) == message


def test_an_unknown_setting_gets_the_closest_name() -> None:
    with pytest.raises(RecipeError) as caught:
        Space.of({"learning_rat": "0.1..0.2"})
    assert str(caught.value).startswith("unknown setting 'learning_rat'. Did you mean 'learning_rate'?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "space.yaml: this is not YAML: "),
        ("- lr", "space.yaml: a space is a table of settings, such as 'learning_rate: 0.01..0.3', not list."),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Space.from_yaml(text, where="space.yaml")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr"], "--search takes NAME=LOW..HIGH or NAME=A,B,C, such as lr=0.01..0.3, not 'lr'."),
        (["lr=1..2", "lr=1..3"], "--search gives lr twice. Give it once."),
    ],
)
def test_a_wrong_word_of_search_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_searches(words)
    assert str(caught.value) == message


def test_a_setting_is_searched_or_set() -> None:
    with pytest.raises(UsageError) as caught:
        refuse_contradictions(
            Space.of({"lr": "0.1..0.2", "flip": "none,random"}), Recipe(learning_rate=0.1), is_pretrained=True
        )
    assert str(caught.value) == (
        "2 mistakes:\n  - learning_rate is searched, and the recipe sets it to 0.1. Leave one of them out.\n"
        "  - flip decides how the head of pretrained weights is fitted, once for all trials, so it cannot be searched. Set it in the recipe."
    )


def test_every_setting_can_be_searched_or_says_why_not() -> None:
    refused = set()
    for name, rule in FIELDS.items():
        try:
            Space.of({name: list(rule.metadata["known"][:2]) or "1,2"})
        except UsageError as error:
            refused |= {name} if "cannot be searched" in str(error) else set()
    assert refused == {
        "seed",
        "tta",
        "device",
        "precision",
        "kernels",
        "checkpoint_every_s",
        "time_limit_s",
        "patience",
        "select",
    }
