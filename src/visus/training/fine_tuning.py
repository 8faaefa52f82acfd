"""The defaults of fine-tuning, decided by the cross-validated accuracy of a head on pretrained features."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from visus.caller import for_caller, option
from visus.training.facts import HeadScore, StartFacts
from visus.training.recipe import Recipe
from visus.training.resolve import FINE_TUNING_BATCH, fine_tuning_epochs
from visus.units import write_number_of

MIN_WRONG = 10.0
"""Minimum number of wrong predictions on the validation set for which fine-tuning can show an improvement.

If fine-tuning corrects half of 10 and makes no new error, McNemar's p is 0.03. It rarely corrects more than half: on 3,068 photos of clothes it corrected
35 and 42 % of the head's errors (two runs). On 245 photos of ants and bees, of which the head had 8 of 153 wrong, none of 25 epochs corrected more than one."""
LEARNING_RATE, LAYER_DECAY = 0.001, 0.1
FULL_RATE_STEPS: Final = 128
"""Number of steps from which the learning rate is ``LEARNING_RATE``; for fewer it is proportional to their number.

AdamW moves each weight by about the learning rate in each step, and the features must not move far before the last steps have settled them. With 160 photos
of dogs and cats (``benchmarks/few_steps.py``), 5 and 10 steps at ``LEARNING_RATE`` took the validation accuracy from 87 to between 50 and 57 %."""
FEW_STEPS: Final = 20
"""Number of steps below which fine-tuning did not improve on the head significantly, at any learning rate (the same measurement)."""


HIGH_RATE: Final = 5.0
"""A learning rate so many times the default gets a note."""


def rate_for(steps: int) -> float:
    """The learning rate for a number of steps.

    >>> rate_for(10), rate_for(64), rate_for(300)
    (7.81e-05, 0.0005, 0.001)
    """
    return float(f"{LEARNING_RATE * min(1.0, max(1, steps) / FULL_RATE_STEPS):.3g}")


def num_steps(recipe: Recipe, num_training: int) -> int:
    """Number of steps of a fine-tuning, with the defaults for what a recipe leaves open.

    >>> num_steps(Recipe(epochs=2), 288), num_steps(Recipe(), 288)
    (18, 270)
    """
    batch_size = min(recipe.batch_size or FINE_TUNING_BATCH, num_training)
    epochs = fine_tuning_epochs(num_training) if recipe.epochs is None else recipe.epochs
    return epochs * max(1, num_training // batch_size)


def plan(
    recipe: Recipe,
    head: HeadScore | None,
    num_validation: int,
    num_training: int,
    steps_in_time: float = math.inf,
) -> StartFacts:
    """Facts for ``resolve`` about a pretrained start.

    The number of epochs is 0, so that the head alone is kept, if the head leaves too few validation errors to show any improvement, or if fewer than
    ``FEW_STEPS`` steps fit into the time limit. Few steps have a low learning rate.

    Args:
        recipe: requested settings; a requested number of epochs wins.
        head: how well the head predicts samples that it was not fitted on; None if it was not fitted.
        num_validation: number of validation samples.
        num_training: number of training samples.
        steps_in_time: number of steps that fit into the time limit.
    """
    steps = num_steps(recipe, num_training)
    planned = min(steps, math.floor(steps_in_time)) if math.isfinite(steps_in_time) else steps
    is_few = steps > 0 and planned < FEW_STEPS
    if head is None:
        return StartFacts(layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE)
    evidence = f"the head alone has a cross-validated {head.words()} on {head.num_samples:,} samples"
    why = f"proportional to the number of steps, {planned:,}, below {FULL_RATE_STEPS}" if planned < FULL_RATE_STEPS else ""
    start = StartFacts(layer_decay=LAYER_DECAY, learning_rate=rate_for(planned), reason=evidence, rate_reason=why)
    high = _high_rate_note(recipe, planned)
    if recipe.epochs is not None:
        few = _few_steps_note(recipe, planned, num_training, has_time=planned == steps) if is_few else ""
        return dataclasses.replace(start, note="; ".join(note for note in (high, few) if note))
    num_wrong = math.inf if head.share_right is None else (1 - head.share_right) * num_validation
    anyway = for_caller("--epochs N", "epochs=N")
    if num_wrong < MIN_WRONG:
        reason = f"{evidence}; it would leave about {num_wrong:.1f} of {num_validation:,} validation samples wrong, too few to show that further training helps ({anyway} trains anyway)"
        return dataclasses.replace(start, epochs=0, reason=reason)
    if is_few:
        where = "fit into the time limit" if planned < steps else "are all that the default number of epochs has"
        reason = f"{evidence}; only {_steps(planned)} of fine-tuning {where}, and fewer than {FEW_STEPS} have not improved on a head yet ({anyway} trains anyway)"
        return dataclasses.replace(start, epochs=0, reason=reason)
    return dataclasses.replace(start, note=high)


def _high_rate_note(recipe: Recipe, planned: int) -> str:
    """A sentence on a learning rate far above the default; empty for others."""
    times = 0.0 if recipe.learning_rate is None else recipe.learning_rate / rate_for(planned)
    if times <= HIGH_RATE or not planned or recipe.optimizer not in (None, "adamw"):
        return ""
    return (
        f"learning_rate {recipe.learning_rate:g} is {times:.0f} times the default for {_steps(planned)} of fine-tuning ({rate_for(planned):g}), and may "
        "spoil the pretrained features before the last steps settle them"
    )


def _few_steps_note(recipe: Recipe, planned: int, num_training: int, *, has_time: bool) -> str:
    """A sentence on a fine-tuning of few steps, and how to have enough."""
    enough = math.ceil(FEW_STEPS / num_steps(recipe.replace(epochs=1), num_training))
    remedy = (
        f"{option('epochs', enough)} has enough"
        if has_time
        else f"a longer {for_caller('--time-limit', 'time_limit_s')} has room for more"
    )
    return (
        f"{_steps(planned)} of fine-tuning {'is' if planned == 1 else 'are'} few: fewer than {FEW_STEPS} have not improved on a head yet; "
        f"{remedy}, {option('epochs', 0)} keeps the head alone"
    )


def _steps(number: int) -> str:
    return write_number_of(number, "step")
