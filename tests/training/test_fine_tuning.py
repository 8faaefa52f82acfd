"""What is trained of a network that knows something: nothing, where no improvement could be told from chance."""

from __future__ import annotations

import pytest

from visus.training.fine_tuning import plan
from visus.training.recipe import Recipe


@pytest.mark.parametrize(
    ("num_right", "num_validation", "epochs"), [(98, 112, 0), (95, 153, 0), (88, 341, None), (98, 1000, None), (90, 8, 0)]
)
def test_a_head_that_leaves_too_few_wrong_is_not_trained_further(
    num_right: int, num_validation: int, epochs: int | None
) -> None:
    facts = plan(Recipe(), num_right / 100, 100, num_validation)
    assert facts.epochs == epochs
    assert facts.reason.startswith(f"the head alone has a cross-validated accuracy of {num_right}.0 % on 100 samples")
    assert ("too few to show that further training helps" in facts.reason) == (epochs == 0)


def test_epochs_that_were_asked_for_are_trained() -> None:
    assert plan(Recipe(epochs=2), 0.99, 100, 10).epochs is None


def test_a_network_whose_head_cannot_be_judged_is_trained() -> None:
    assert plan(Recipe(), None, 0, 10).epochs is None
