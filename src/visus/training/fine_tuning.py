"""What is trained of a network that already knows something, and how: decided by how well its head answers samples that it was not fitted on."""

from __future__ import annotations

from visus.training.recipe import Recipe
from visus.training.resolve import StartFacts
from visus.units import write_share

MIN_WRONG = 10.0
"""Wrong answers on the validation set of which half could be mended beyond chance: five mended and none made has p = 0.03 (McNemar). More than half is
not to be hoped for: on 3,068 photos of clothes fine-tuning mended 35 and 42 % of what the head had wrong (two runs), and on 245 photos of ants and bees, where the
head had 8 of 153 wrong, none of 25 epochs mended more than one."""
LEARNING_RATE, LAYER_DECAY = 0.001, 0.1


def plan(recipe: Recipe, accuracy: float | None, num_samples: int, num_validation: int) -> StartFacts:
    """What follows for the training.

    Where the head alone leaves so few validation samples wrong that no training could be told from chance, it is not trained any further.

    Args:
        recipe: what was asked for; epochs that were asked for are trained.
        accuracy: of the head on samples that it was not fitted on; None where it could not be judged.
        num_samples: that this accuracy is of.
        num_validation: samples by which the training is going to be judged.
    """
    if accuracy is None:
        return StartFacts(layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason="usual for fine-tuning")
    num_wrong = (1 - accuracy) * num_validation
    answers = f"the head alone answers {write_share(accuracy)} of {num_samples:,} samples right that it was not fitted on"
    if num_wrong < MIN_WRONG and recipe.epochs is None:
        reason = f"{answers}; of {num_validation:,} validation samples it would leave about {num_wrong:.1f} wrong, too few to show that further training helps (--epochs N trains it all the same)"
        return StartFacts(epochs=0, layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason=reason)
    return StartFacts(layer_decay=LAYER_DECAY, learning_rate=LEARNING_RATE, reason=answers)
