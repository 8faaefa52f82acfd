"""Elementwise optimizers: each registration is complete, and a recipe can name it."""

from __future__ import annotations

import pytest
import torch

from visus.training.recipe import OPTIMIZERS, Recipe
from visus.training.update_rules import UPDATE_RULES


def test_every_rule_can_be_named_by_a_recipe() -> None:
    assert set(OPTIMIZERS) == {*UPDATE_RULES, "muon"}


@pytest.mark.parametrize("name", sorted(UPDATE_RULES))
@pytest.mark.parametrize("batch_size", [1, 64, 100_000])
def test_the_defaults_of_every_rule_are_settings_of_a_recipe(name: str, batch_size: int) -> None:
    rule = UPDATE_RULES[name]
    recipe = Recipe(
        optimizer=name,
        learning_rate=rule.learning_rate(batch_size),
        momentum=rule.momentum,
        weight_decay=rule.weight_decay,
    )
    assert recipe.replace(weight_decay=rule.small_weight_decay).optimizer == name


@pytest.mark.parametrize("name", sorted(UPDATE_RULES))
def test_every_rule_lowers_a_loss(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = UPDATE_RULES[name].build([{"params": [weight]}], 0.1, 0.9)
    before = float(weight.detach().square().sum())
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert float(weight.detach().square().sum()) < before
    assert optimizer.param_groups[0]["lr"] == 0.1
