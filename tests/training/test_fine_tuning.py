"""What is trained of a network that knows something: nothing, where no improvement could be told from chance."""

from __future__ import annotations

import pytest

from visus.training.facts import HeadScore
from visus.training.fine_tuning import plan
from visus.training.recipe import Recipe


def head(accuracy: float) -> HeadScore:
    return HeadScore("accuracy", accuracy, 100, accuracy)


@pytest.mark.parametrize(
    ("num_right", "num_validation", "epochs"), [(98, 112, 0), (95, 153, 0), (88, 341, None), (98, 1000, None), (90, 8, 0)]
)
def test_a_head_that_leaves_too_few_wrong_is_not_trained_further(
    num_right: int, num_validation: int, epochs: int | None
) -> None:
    facts = plan(Recipe(), head(num_right / 100), num_validation, 1000)
    assert facts.epochs == epochs
    assert facts.reason.startswith(f"the head alone has a cross-validated accuracy of {num_right}.0 % on 100 samples")
    assert ("too few to show that further training helps" in facts.reason) == (epochs == 0)


def test_epochs_that_were_asked_for_are_trained() -> None:
    assert plan(Recipe(epochs=2), head(0.99), 10, 1000).epochs is None


def test_a_network_whose_head_cannot_be_judged_is_trained() -> None:
    assert plan(Recipe(), None, 10, 1000).epochs is None


@pytest.mark.parametrize(
    ("num_epochs", "num_training", "rate"),
    [(1, 160, 3.91e-5), (2, 160, 7.81e-5), (8, 160, 3.12e-4), (26, 160, 1e-3), (None, 1000, 1e-3)],
)
def test_few_steps_have_a_learning_rate_in_proportion(num_epochs: int | None, num_training: int, rate: float) -> None:
    facts = plan(Recipe(epochs=num_epochs), head(0.88), 1000, num_training)
    assert facts.learning_rate == pytest.approx(rate, rel=0.01)
    assert (facts.rate_reason == "") == (rate == 1e-3)


def test_steps_that_were_asked_for_and_are_too_few_come_with_a_remark() -> None:
    facts = plan(Recipe(epochs=2), head(0.88), 1000, 160)
    assert facts.epochs is None
    assert facts.note == (
        "10 steps of fine-tuning are few: fewer than 20 have not improved on a head yet; epochs=4 has enough, epochs=0 keeps the head alone"
    )
    assert "a longer time_limit_s has room for more" in plan(Recipe(epochs=50), head(0.88), 1000, 160, 7.9).note
    assert plan(Recipe(epochs=4), head(0.88), 1000, 160).note == ""
    assert plan(Recipe(epochs=0), head(0.88), 1000, 160).note == ""


def test_a_time_limit_that_has_too_few_steps_keeps_the_head() -> None:
    facts = plan(Recipe(), head(0.88), 1000, 160, 19.9)
    assert facts.epochs == 0
    assert facts.reason.endswith(
        "; only 19 steps of fine-tuning fit into the time limit, and fewer than 20 have not improved on a head yet (epochs=N trains anyway)"
    )
    enough = plan(Recipe(), head(0.88), 1000, 160, 32)
    assert (enough.epochs, enough.learning_rate) == (None, 2.5e-4)
    assert plan(Recipe(), None, 1000, 160, 3).learning_rate == 1e-3  # a new last layer must be trained


def test_a_learning_rate_far_above_the_default_comes_with_a_remark() -> None:
    note = (
        "learning_rate 0.003 is 21 times the default for 18 steps of fine-tuning (0.000141), and may spoil the pretrained features before the last "
        "steps settle them"
    )
    assert plan(Recipe(epochs=2, learning_rate=0.003), head(0.88), 1000, 288).note.startswith(
        f"{note}; 18 steps of fine-tuning are few"
    )
    assert plan(Recipe(epochs=3, learning_rate=0.003), head(0.88), 1000, 288).note.startswith(
        "learning_rate 0.003 is 14 times"
    )
    assert plan(Recipe(learning_rate=0.006), head(0.5), 1000, 1000).note.startswith("learning_rate 0.006 is 6 times")
    for recipe in (Recipe(epochs=3, learning_rate=0.001), Recipe(epochs=3, learning_rate=0.003, optimizer="sgd")):
        assert plan(recipe, head(0.88), 1000, 288).note == ""
    assert plan(Recipe(epochs=0, learning_rate=0.003), head(0.88), 1000, 288).note == ""


def test_a_head_for_numbers_is_trained_further_whatever_its_error() -> None:
    facts = plan(Recipe(), HeadScore("mae", 15.2, 72), 8, 1000)
    assert (facts.epochs, facts.layer_decay) == (None, 0.1)
    assert facts.reason == "the head alone has a cross-validated mean absolute error of 15.2 on 72 samples"
