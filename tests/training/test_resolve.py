"""What is done: decided from what was asked and the facts, with reasons; what could only be ignored is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import RecipeError
from visus.training.facts import DataFacts, NetworkFacts, StartFacts
from visus.training.recipe import FIELDS, Recipe
from visus.training.resolve import default_batch_size, default_epochs, for_new_network, resolve
from visus.training.resolved_recipe import FORMER_VALUES, OFF_VALUES, ResolvedRecipe

PHOTOS = DataFacts(1000, (3, 96, 96), 100, is_varied=True)
IMAGES = DataFacts(1000, (1, 28, 28), 100)
SIGNALS = DataFacts(1000, (1, 256), 100)
NETWORK = NetworkFacts()
DATA = st.builds(
    DataFacts,
    num_training=st.integers(1, 10**6),
    input_shape=st.sampled_from([(3,), (1, 8), (1, 256), (1, 28, 28), (3, 224, 160), (1, 16, 16, 16)]),
    num_validation=st.integers(0, 2000),
    is_varied=st.booleans(),
    is_shuffled=st.booleans(),
    keeps_class_mirrored=st.none() | st.booleans(),
    mirroring=st.just("measured on the samples"),
)
NETWORKS = st.builds(
    NetworkFacts,
    has_filters=st.booleans(),
    unknown_matrices=st.sampled_from([(), ("position",)]),
    other_norms=st.sampled_from([(), ("norm1",)]),
    takes_smaller=st.booleans(),
)
STARTS = st.none() | st.builds(StartFacts, epochs=st.none() | st.integers(0, 9))


@given(DATA, NETWORKS, STARTS)
def test_nothing_is_left_open_whatever_the_facts(data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> None:
    decided = resolve(Recipe(), data, network, start)
    assert all(getattr(decided, name) is not None for name in FIELDS)
    assert {name for name in FIELDS if getattr(Recipe(), name) is None} - set(decided.reasons) <= set(OFF_VALUES)
    assert all(decided.reasons.values())


@given(DATA, NETWORKS, STARTS)
def test_what_was_decided_is_decided_again_from_its_own_file(
    data: DataFacts, network: NetworkFacts, start: StartFacts | None
) -> None:
    decided = resolve(Recipe(), data, network, start)
    asked = Recipe.from_yaml(decided.to_yaml())
    assert ResolvedRecipe.of(asked) == decided
    assert resolve(asked, data, network, start) == decided


def test_the_fields_are_those_of_the_recipe() -> None:
    assert {field.name for field in dataclasses.fields(ResolvedRecipe)} == {*FIELDS, "reasons"}


def test_the_file_returns_the_reason_next_to_the_value(tmp_path: Path) -> None:
    text = resolve(Recipe(), IMAGES, NETWORK).to_yaml()
    assert "optimizer: muon  # muon (" in text
    assert "; here: every matrix is a filter or the head, and norms use batch statistics\n" in text
    (tmp_path / "recipe.yaml").write_text("epochs: 3\n")
    with pytest.raises(RecipeError) as caught:
        ResolvedRecipe.read(tmp_path / "recipe.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'recipe.yaml'}: this recipe does not set {_open_settings()}. "
        "Use the recipe.yaml of a run, which holds every setting."
    )


def _open_settings() -> str:
    names = [
        name for name in FIELDS if getattr(Recipe(epochs=3), name) is None and name not in {**OFF_VALUES, **FORMER_VALUES}
    ]
    return f"{', '.join(names[:-1])} and {names[-1]}"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_of_muon_are_out_of_use_where_there_is_one_rate_for_all(optimizer: str) -> None:
    decided = resolve(Recipe(optimizer=optimizer), PHOTOS, NETWORK)
    assert (decided.head_lr, decided.bias_lr, decided.norm_lr, decided.matrix_lr) == (0, 0, 0, 0)
    assert (decided.momentum, decided.warmup, decided.label_smoothing) == (0.9, 0.2, 0.1)
    assert decided.request.head_lr is None


@pytest.mark.parametrize(
    ("shape", "num_samples", "epochs"),
    [
        ((1, 28, 28), 58_000, 15),
        ((3, 28, 28), 58_000, 11),
        ((1, 41, 41), 58_000, 11),
        ((1, 28, 28), 19_999, 19),
        ((1, 8000), 58_000, 11),
    ],
)
def test_many_small_gray_images_are_seen_more_often(shape: tuple[int, ...], num_samples: int, epochs: int) -> None:
    assert resolve(Recipe(), DataFacts(num_samples, shape), NETWORK).epochs == epochs


@pytest.mark.parametrize(("given_rate", "norm_lr"), [(None, 0.0099), (0.3, 0.03), (1e-6, 1e-7), (1e-12, 1e-12)])
def test_gains_move_at_a_tenth_of_the_rate_of_biases(given_rate: float | None, norm_lr: float) -> None:
    recipe = Recipe(bias_lr=given_rate, batch_size=1000)
    decided = resolve(recipe, DataFacts(50_000, (3, 32, 32)), NETWORK)
    assert decided.norm_lr == pytest.approx(norm_lr, rel=1e-3)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (NetworkFacts(has_filters=False, takes_smaller=False), "the network has no convolutions"),
        (
            NetworkFacts(unknown_matrices=("position", "blocks.0.in_proj_weight", "token")),
            "muon has no rule for position, blocks.0.in_proj_weight and 1 more",
        ),
        (NetworkFacts(other_norms=("norm",)), "norm does not normalize over the batch"),
        (NetworkFacts(other_norms=("norm1", "norm2")), "norm1 and norm2 do not normalize over the batch"),
    ],
)
def test_muon_trains_only_what_it_knows(network: NetworkFacts, reason: str) -> None:
    decided = resolve(Recipe(), IMAGES, network)
    assert (decided.optimizer, decided.progressive_resize, decided.reasons["optimizer"]) == ("adamw", "1", reason)
    assert resolve(Recipe(optimizer="muon"), IMAGES, network).optimizer == "muon"


def test_signals_are_never_resampled() -> None:
    decided = resolve(Recipe(), SIGNALS, NETWORK)
    assert (decided.optimizer, decided.progressive_resize, decided.zoom, decided.flip) == ("muon", "1", 0.0, "none")
    assert resolve(Recipe(), IMAGES, NETWORK).sides[0] < 1


def test_mirroring_follows_the_data() -> None:
    for keeps, flip in ((True, "alternating"), (False, "none"), (None, "none")):
        facts = dataclasses.replace(IMAGES, keeps_class_mirrored=keeps, mirroring="measured")
        decided = resolve(Recipe(), facts, NETWORK)
        assert decided.flip == flip
        assert (decided.reasons["flip"] == "measured") == (keeps is not None)


def test_a_start_that_knows_something_is_fine_tuned() -> None:
    start = StartFacts(layer_decay=0.1, learning_rate=1e-3, reason="the head alone answers 90 %")
    decided = resolve(Recipe(), PHOTOS, NETWORK, start)
    assert (decided.optimizer, decided.norm_statistics, decided.progressive_resize) == ("adamw", "stored", "1")
    assert (decided.frozen, decided.layer_decay, decided.learning_rate, decided.epochs) == ("", 0.1, 1e-3, 12)
    assert decided.reasons["frozen"] == "layer_decay slows the first layers instead"
    assert decided.reasons["learning_rate"] == "the head alone answers 90 %"
    assert resolve(Recipe(), PHOTOS, NETWORK, StartFacts(epochs=0, reason="good enough")).epochs == 0


def test_given_settings_are_never_overruled() -> None:
    given_settings: dict[str, Any] = {
        "epochs": 7,
        "batch_size": 10,
        "optimizer": "muon",
        "learning_rate": 0.5,
        "head_lr": 0.3,
        "bias_lr": 0.2,
        "norm_lr": 0.4,
        "matrix_lr": 0.1,
        "layer_decay": 1.0,
        "momentum": 0.1,
        "ema_decay": 0.0,
        "final_ema": 0.1,
        "min_lr_ratio": 0.2,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "label_smoothing": 0.0,
        "flip": "none",
        "zoom": 0.0,
        "translate": 0.2,
        "cutout": 0.0,
        "color": 0.1,
        "progressive_resize": "0.5, 1",
        "tta": "shift",
        "frozen": "",
        "norm_statistics": "batch",
        "patience": 3,
        "time_limit_s": 60.0,
        "clip_norm": 1.0,
        "select": "auroc",
    }
    recipe = Recipe(**given_settings)
    decided = resolve(recipe, PHOTOS, NETWORK)
    assert decided.request == recipe
    assert decided.reasons == {}


@pytest.mark.parametrize(
    ("recipe", "data", "start", "message"),
    [
        (
            Recipe(ema_decay=0.998, final_ema=0.03),
            IMAGES,
            None,
            "ema_decay=0.998 averages all steps, and final_ema=0.03 averages the last ones; only one average is possible. Leave one of them out.",
        ),
        (
            Recipe(optimizer="adamw", head_lr=50, norm_lr=90),
            IMAGES,
            None,
            "head_lr and norm_lr are learning rates of muon. adamw has a single learning rate. Leave them out, or set learning_rate.",
        ),
        (
            Recipe(bias_lr=1),
            IMAGES,
            StartFacts(),
            "bias_lr is a learning rate of muon. adamw, the optimizer of this training (it starts from pretrained weights), has a single learning rate. Leave it out, or set learning_rate.",
        ),
        (
            Recipe(frozen="conv1"),
            IMAGES,
            None,
            "frozen='conv1' does not train these layers, and this network starts from random weights. Leave it out, or start from pretrained weights.",
        ),
        (
            Recipe(norm_statistics="stored"),
            IMAGES,
            None,
            "norm_statistics=stored needs stored statistics, and this network is new. Leave it out, or start from pretrained weights.",
        ),
        (
            Recipe(sampling="balanced", class_weights="balanced"),
            IMAGES,
            None,
            "sampling=balanced already draws every class equally often. class_weights=balanced would weight rare classes a second time, and the network "
            "would predict them for every sample. Leave one of them out.",
        ),
        (
            Recipe(epochs=0),
            IMAGES,
            None,
            "epochs=0 trains nothing, and this network starts from random weights. Leave it out, or start from pretrained weights.",
        ),
        (
            Recipe(optimizer="muon"),
            IMAGES,
            StartFacts(),
            "muon rescales every filter, which destroys pretrained weights. Use adamw or sgd, or leave the optimizer out.",
        ),
        (
            Recipe(layer_decay=0.5),
            IMAGES,
            None,
            "layer_decay works with adamw and sgd; muon has its own learning rates. Leave it out, or set optimizer.",
        ),
        (Recipe(zoom=0.3), SIGNALS, None, "zoom stretches a signal, which changes its pitch. Leave it out."),
        (
            Recipe(progressive_resize="0.5, 1"),
            SIGNALS,
            None,
            "progressive_resize resamples a signal, which changes its pitch. Leave it out.",
        ),
        (
            Recipe(translate=0.1),
            DataFacts(100, (8,)),
            None,
            "zoom, translate and cutout need samples with positions, and these are vectors. Leave them out.",
        ),
        (
            Recipe(patience=3),
            DataFacts(100, (1, 8, 8)),
            None,
            "patience needs a validation set, and this data has none. Leave it out.",
        ),
        (
            Recipe(flip="none", tta="flip"),
            IMAGES,
            None,
            "tta=flip mirrors samples, and this training does not (flip=none). Leave it out, or train with flips.",
        ),
        (
            Recipe(rotate=10),
            SIGNALS,
            None,
            "rotate=10 turns samples in a plane: it is made for images and volumes, and these are signals. Leave it out.",
        ),
        (
            Recipe(crop=0.5),
            SIGNALS,
            None,
            "crop=0.5 enlarges a window, which changes the pitch of a signal: it is made for images and volumes, and these are signals. Leave it out.",
        ),
        (
            Recipe(cutmix=1.0),
            DataFacts(100, (8,)),
            None,
            "cutmix=1.0 replaces a part of the positions of a sample: it is made for samples with positions, and these are vectors. Leave it out.",
        ),
        (
            Recipe(policy="2x9"),
            DataFacts(100, (1, 8, 8, 8)),
            None,
            "policy=2x9 turns, shears and recolors images: it is made for images, and these are volumes. Leave it out.",
        ),
        (
            Recipe(policy="2x9"),
            DataFacts(100, (2, 8, 8)),
            None,
            "policy=2x9 needs 8-bit images, gray or in color, and these samples are none. Leave it out, or use rotate and color.",
        ),
        (
            Recipe(rotate90="random"),
            DataFacts(100, (3, 8, 9)),
            None,
            "rotate90=random turns samples by 90 degrees: the last two axes must be equally long, and these samples are 8 x 9. "
            "Leave it out, or set a square img_size.",
        ),
        (
            Recipe(tta="shift"),
            DataFacts(9, (3, 1)),
            None,
            "tta=shift shifts samples, and these have a single position. Leave it out.",
        ),
        (
            Recipe(tta="shift"),
            dataclasses.replace(IMAGES, is_shuffled=True),
            None,
            "tta=shift needs samples whose positions are in order, and these are shuffled. Leave it out.",
        ),
    ],
)
def test_a_setting_that_could_only_be_ignored_is_refused(
    recipe: Recipe, data: DataFacts, start: StartFacts | None, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(recipe, data, NETWORK, start)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["vertical_flip", "rotate90", "rotate", "color", "policy"])
def test_what_moves_or_colors_images_is_refused_for_signals_and_vectors(name: str) -> None:
    value = {"rotate": 5.0, "color": 0.3, "policy": "2x9"}.get(name, "random")
    for shape in ((1, 256), (8,)):
        with pytest.raises(RecipeError, match=f"^{name}={value} "):
            resolve(Recipe(**{name: value}), DataFacts(100, shape), NETWORK)  # type: ignore[arg-type]
    assert getattr(resolve(Recipe(**{name: value}), DataFacts(100, (3, 8, 8)), NETWORK), name) == value  # type: ignore[arg-type]


def test_mixup_is_for_every_sample_and_cutmix_for_all_with_positions() -> None:
    for shape in ((8,), (1, 256), (3, 8, 8), (1, 8, 8, 8)):
        assert resolve(Recipe(mixup=0.2), DataFacts(100, shape), NETWORK).mixup == 0.2
        assert len(shape) == 1 or resolve(Recipe(cutmix=1.0), DataFacts(100, shape), NETWORK).cutmix == 1


@pytest.mark.parametrize(
    ("recipe", "facts", "start", "color", "reason"),
    [
        (Recipe(), PHOTOS, None, 0.3, "photos of one class differ in light and color"),
        (
            Recipe(),
            dataclasses.replace(PHOTOS, task="multi-label"),
            None,
            0.3,
            "photos of one class differ in light and color",
        ),
        (Recipe(), PHOTOS, StartFacts(), 0.0, "pretrained features know other light and colors"),
        (Recipe(policy="2x9"), PHOTOS, None, 0.0, "the policy recolors images already"),
        (
            Recipe(),
            dataclasses.replace(PHOTOS, task="regression"),
            None,
            0.0,
            "it may change a number, such as a brightness",
        ),
        (Recipe(), dataclasses.replace(PHOTOS, num_training=20_000), None, 0.0, "no fewer than 20,000 training samples"),
        (Recipe(), IMAGES, None, 0.0, "measured on color photos of many sizes only"),
        (Recipe(), SIGNALS, None, 0.0, "measured on color photos of many sizes only"),
    ],
)
def test_new_networks_on_few_photos_see_other_colors(
    recipe: Recipe, facts: DataFacts, start: StartFacts | None, color: float, reason: str
) -> None:
    decided = resolve(recipe, facts, NETWORK, start)
    assert (decided.color, decided.reasons["color"]) == (color, reason)


def test_a_random_crop_takes_the_place_of_zoom_and_translation_and_cutmix_that_of_cutout() -> None:
    cropped = resolve(Recipe(crop=0.35), PHOTOS, NETWORK)
    assert (cropped.zoom, cropped.translate, cropped.cutout) == (0, 0, 0.3)
    assert cropped.reasons["zoom"] == "random crops enlarge and move the samples already"
    assert cropped.epochs == resolve(Recipe(), PHOTOS, NETWORK).epochs, "as many as with zoom"
    assert resolve(Recipe(crop=0.35, translate=0.1), PHOTOS, NETWORK).translate == 0.1
    mixed = resolve(Recipe(cutmix=1.0), PHOTOS, NETWORK)
    assert (mixed.cutout, mixed.reasons["cutout"]) == (0, "CutMix covers a part of each sample already")


def test_a_network_that_takes_one_size_alone_is_not_given_smaller_samples() -> None:
    fixed = NetworkFacts(takes_smaller=False)
    assert resolve(Recipe(), IMAGES, fixed).progressive_resize == "1"
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(progressive_resize="0.5, 1"), IMAGES, fixed)
    assert str(caught.value) == (
        "progressive_resize needs a network that also accepts smaller samples, for example one with globalpool. This one does not. Leave it out."
    )


def test_contradictions_are_reported_together() -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(ema_decay=0.9, final_ema=0.1, frozen="a"), IMAGES, NETWORK)
    assert str(caught.value).startswith("2 mistakes:\n  - ema_decay=0.9 ")


def test_a_resolved_recipe_is_changed_as_a_recipe_is() -> None:
    decided = resolve(Recipe(), IMAGES, NETWORK)
    assert decided.replace(time_limit_s=60.0).time_limit_s == 60
    assert math.isinf(decided.time_limit_s)
    with pytest.raises(RecipeError):
        decided.replace(seed=-1)


def test_a_recipe_of_a_fine_tuned_run_trains_a_new_network_too() -> None:
    tuned = resolve(Recipe(frozen="conv1"), PHOTOS, NETWORK, StartFacts(layer_decay=0.1, epochs=0)).request
    again = resolve(for_new_network(tuned), PHOTOS, NETWORK)
    assert (again.frozen, again.norm_statistics, again.layer_decay) == ("", "batch", 1.0)
    assert again.epochs > 0


@given(st.integers(1, 10**7))
def test_larger_sets_have_larger_batches_fewer_epochs_and_more_steps_with_muon(num_samples: int) -> None:
    sizes = [default_batch_size(number, is_muon=True) for number in (num_samples, num_samples + 1)]
    epochs = [default_epochs(number, is_muon=True) for number in (num_samples, num_samples + 1)]
    assert 16 <= sizes[0] <= sizes[1] <= 2000
    assert 48 >= epochs[0] >= epochs[1] >= 8


@pytest.mark.parametrize(
    ("batch_size", "rate", "momentum"), [(2000, 0.16, 0.6), (500, 0.08, 0.8), (4000, 0.16, 0.6), (20, 0.016, 0.96)]
)
def test_muon_steps_less_and_remembers_more_where_batches_are_small(batch_size: int, rate: float, momentum: float) -> None:
    decided = resolve(Recipe(batch_size=batch_size), DataFacts(50_000, (3, 32, 32)), NETWORK)
    assert (decided.learning_rate, decided.momentum) == (rate, momentum)


@given(st.integers(1, 10**7))
def test_larger_sets_have_fewer_epochs_but_more_samples_in_all(num_samples: int) -> None:
    assert 11 <= default_epochs(num_samples + 1) <= default_epochs(num_samples) <= 80


@pytest.mark.parametrize(("epochs", "num_sizes"), [(1, 1), (19, 1), (20, 3)])
def test_a_training_of_few_steps_sees_one_size_alone(epochs: int, num_sizes: int) -> None:
    few = DataFacts(30, (3, 64, 64), num_validation=6)
    decided = resolve(Recipe(epochs=epochs, batch_size=30), few, NETWORK)
    assert len(set(decided.sides)) == num_sizes
    assert decided.sides[-1] == 1
    if num_sizes == 1:
        assert decided.reasons["progressive_resize"] == f"{epochs} steps are too few for several sizes"
