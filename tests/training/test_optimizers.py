"""What the optimizer changes, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

import visus
from visus.training.checkpoints import Position
from visus.training.facts import DataFacts, NetworkFacts
from visus.training.optimizers import make_optimizer
from visus.training.recipe import Recipe
from visus.training.resolve import resolve
from visus.training.steps import TrainingSteps

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


def test_weight_decay_leaves_biases_and_norms_alone() -> None:
    module = visus.network(NETWORK, (1, 8, 8), 3)
    groups = make_optimizer(
        module,
        resolve(Recipe(optimizer="adamw"), DataFacts(10, (1, 8, 8)), NetworkFacts()),
    ).param_groups
    assert [(group["weight_decay"], {each.ndim for each in group["params"]}) for group in groups] == [
        (0.5, {2, 4}),
        (0.0, {1}),
    ]


@pytest.mark.long
def test_what_whitening_adds_is_trained_at_first_and_then_stays(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, list[float]]] = []
    average = TrainingSteps._update_average

    def note(self: TrainingSteps, at: Position) -> None:
        bias = self.module.get_parameter("whiten1.bias")
        seen.append((bias.requires_grad, bias.detach().tolist()))
        average(self, at)

    monkeypatch.setattr(TrainingSteps, "_update_average", note)
    for optimizer in ("muon", "adamw", "sgd"):
        seen.clear()
        text = "whiten(2), gelu, conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"
        visus.train(squares, text, quick.replace(optimizer=optimizer), output=tmp_path)
        trained = [is_trained for is_trained, _ in seen]
        assert trained == [True] * 6 + [False] * 9  # three eighths of 15 steps
        assert seen[0][1] != seen[5][1] == seen[14][1]
