"""The random policy: each operation alone, exact where an oracle knows it."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from visus.data.augment import BatchRandom, SampleFacts
from visus.data.augment.policy import OPERATIONS, RandomPolicy, require_kornia
from visus.data.batches import random_stream
from visus.errors import MissingExtraError


def only(name: str, batch: torch.Tensor, magnitude: int = 30, sign: int = 0) -> torch.Tensor:
    """The batch after one operation."""
    count = len(batch)
    numbers = torch.full((count, 1), OPERATIONS.index(name)), torch.full((count, 1), sign)
    return RandomPolicy(1, magnitude).apply(batch, numbers)


@pytest.fixture
def batch() -> torch.Tensor:
    """Four color images in steps of 1/255, without black and white."""
    return torch.randint(20, 200, (4, 3, 32, 28), generator=random_stream(0)).float() / 255


def test_identity_and_magnitude_zero_change_nothing(batch: torch.Tensor) -> None:
    assert torch.equal(only("identity", batch), batch)
    for name in ("rotate", "shear x", "shear y", "translate x", "translate y", "brightness", "contrast", "saturation"):
        assert torch.allclose(only(name, batch, 0), batch, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_every_operation_changes_images_within_their_range(name: str, batch: torch.Tensor) -> None:
    found = only(name, batch)
    assert found.shape == batch.shape
    assert not torch.allclose(found, batch, atol=1e-3)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_solarize_posterize_and_autocontrast_follow_their_formulas(batch: torch.Tensor) -> None:
    half = only("solarize", batch, 15)
    assert torch.allclose(half, torch.where(batch >= 0.5, 1 - batch, batch), atol=1e-6)
    assert torch.equal((only("posterize", batch, 30) * 255).round().long() & 0b1111, torch.zeros_like(batch).long())
    stretched = only("autocontrast", batch)
    assert torch.equal(stretched.amin((2, 3)), torch.zeros(4, 3))
    assert torch.equal(stretched.amax((2, 3)), torch.ones(4, 3))


def test_a_flat_image_keeps_its_value_under_autocontrast() -> None:
    assert torch.equal(only("autocontrast", torch.full((1, 3, 4, 4), 0.3)), torch.full((1, 3, 4, 4), 0.3))


def test_directions_are_opposite(batch: torch.Tensor) -> None:
    there = only("translate x", batch, 10, sign=0)
    back = only("translate x", batch.flip(-1), 10, sign=1).flip(-1)
    assert torch.allclose(there, back, atol=1e-5)


def test_a_sample_gets_the_same_in_every_batch(batch: torch.Tensor) -> None:
    policy = RandomPolicy(2, 9)
    numbers = policy.draw(BatchRandom(random_stream(1), 4, slice(None)), (32, 28))
    together = policy.apply(batch, numbers)
    for place in range(4):
        alone = policy.apply(batch[place : place + 1], tuple(each[place : place + 1] for each in numbers))
        assert torch.allclose(together[place], alone[0], atol=1e-6)


def test_all_operations_are_drawn() -> None:
    chosen, signs = RandomPolicy(2, 9).draw(BatchRandom(random_stream(0), 2000, slice(None)), (8, 8))
    assert chosen.unique().tolist() == list(range(len(OPERATIONS)))
    assert signs.unique().tolist() == [0, 1]


def test_without_kornia_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.setitem(sys.modules, "kornia.enhance", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        RandomPolicy.of({"policy": "2x9"}, SampleFacts((8, 8)))
    assert str(caught.value) == (
        "random policies need the package kornia, which is not installed. Install it with: pip install 'kornia>=0.8'"
    )
    monkeypatch.undo()
    require_kornia()
