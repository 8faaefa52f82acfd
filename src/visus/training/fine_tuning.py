"""The defaults of fine-tuning, decided by the cross-validated accuracy of a head on pretrained features."""

from __future__ import annotations

from visus.training.recipe import Recipe
from visus.training.resolve import StartFacts
from visus.units import write_share

MIN_WRONG = 10.0
"""Minimum number of wrong predictions on the validation set for which fine-tuning can show an improvement.

If fine-tuning corrects half of 10 and makes no new error, McNemar's p is 0.03. It rarely corrects more than half: on 3,068 photos of clothes it corrected
35 and 42 % of the head's errors (two runs). On 245 photos of ants and bees, of which the head had 8 of 153 wrong, none of 25 epochs corrected more than one."""
LEARNING_RATE, LAYER_DECAY = 0.001, 0.1


def plan(recipe: Recipe, accuracy: float | None, num_samples: int, num_validation: int) -> StartFacts:
    """Facts for ``resolve`` about a pretrained start.

    If the head alone leaves too few validation errors to show any improvement, the number of epochs is 0.

    Args:
        recipe: requested settings; a requested number of epochs wins.
        accuracy: cross-validated accuracy of the head, 0 to 1; None if it is unknown.
        num_samples: number of samples behind ``accuracy``.
        num_validation: number of validation samples.
    """
    if accuracy is None:
        return StartFacts(layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason="usual for fine-tuning")
    num_wrong = (1 - accuracy) * num_validation
    evidence = f"the head alone has a cross-validated accuracy of {write_share(accuracy)} on {num_samples:,} samples"
    if num_wrong < MIN_WRONG and recipe.epochs is None:
        reason = f"{evidence}; it would leave about {num_wrong:.1f} of {num_validation:,} validation samples wrong, too few to show that further training helps (--epochs N trains anyway)"
        return StartFacts(epochs=0, layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason=reason)
    return StartFacts(layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason=evidence)
