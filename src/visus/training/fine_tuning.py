"""How a network that already knows pictures goes on learning from a few of one's own.

This file knows settings of a recipe. It must not know where the weights came from.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from visus.training.recipe import Recipe

GOOD_FEATURES = 0.97
ITEMS_SEEN = 4_000
DEEPER_RATE, DEEPER_EPOCHS = 0.001, 3
FEWEST_EPOCHS, MOST_EPOCHS = 4, 30

# Chosen by few noisy trials on dogs and cats (benchmarks/LOG.md); benchmarks/pretrained.py measures what they give.
SETTINGS: Final = {
    "batch_size": 32,
    "optimizer": "adamw",
    "learning_rate": 0.0003,
    "momentum": 0.9,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "label_smoothing": 0.1,
    "shift": 0.1,
    "zoom": 0.2,
    "cutout": 0.0,
    "curriculum": "1",
    "norm_statistics": "stored",
}


def fine_tuning(recipe: Recipe, num_items: int, frozen: str) -> Recipe:
    """The recipe with its open settings decided for weights that already know pictures; what is still open suits any training.

    First layers see edges and textures, which are the same in all photos, so they stay (``frozen``); norms go by what they have stored, so
    that the head's answers are the same when the training begins as when it was fitted.

    Args:
        recipe: what was asked for.
        num_items: number of training items.
        frozen: layers that stay where the recipe says nothing.

    >>> tuned = fine_tuning(Recipe(learning_rate=0.01), 1_000, "stage1")
    >>> tuned.epochs, tuned.learning_rate, tuned.frozen
    (4, 0.01, 'stage1')
    """
    open_settings = {name: value for name, value in SETTINGS.items() if getattr(recipe, name) is None}
    return recipe.replace(
        **open_settings,
        epochs=recipe.epochs or fine_tuning_epochs(num_items),
        frozen=frozen if recipe.frozen is None else recipe.frozen,
    )


def deepened(recipe: Recipe, val_accuracy: float, settings: Collection[str]) -> Recipe:
    """The recipe for a head that answers ``val_accuracy`` of the validation items right on features that stayed as they were.

    Where that is less than 97 %, or not known, the features are those of other things than these pictures show: all layers are trained,
    at a higher rate and for three times as many epochs. Kumar et al. 2022 (arXiv:2202.10054): the better the features, the more is lost by changing them.

    Args:
        recipe: a settled recipe for good features.
        val_accuracy: 0 to 1, or not a number.
        settings: those of ``epochs``, ``frozen``, ``learning_rate`` and ``tta`` that nobody decided.
    """
    if val_accuracy >= GOOD_FEATURES:
        return recipe
    deeper = {"epochs": DEEPER_EPOCHS * (recipe.epochs or 0), "frozen": "", "learning_rate": DEEPER_RATE, "tta": "none"}
    return recipe.replace(**{name: value for name, value in deeper.items() if name in settings})


def fine_tuning_epochs(num_items: int) -> int:
    """So many that 4,000 items are seen, at least 4 and at most 30.

    >>> [fine_tuning_epochs(number) for number in (60, 1_000, 1_500, 10_000)]
    [30, 4, 4, 4]
    """
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, math.ceil(ITEMS_SEEN / num_items)))
