"""Every layer is complete: a word, a public name, a documented reference, a memory rule, a builder, initial values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch

import visus.design
from visus.design import LAYERS, Design, Layer
from visus.networks.build import _BUILDERS, build
from visus.networks.initialize import initialize


def subclasses(cls: type[Layer]) -> Iterator[type[Layer]]:
    """The class and all classes below it that visus has."""
    yield cls
    for below in cls.__subclasses__():
        if below.__module__.startswith("visus."):
            yield from subclasses(below)


def example(cls: type[Layer]) -> Layer:
    """A layer of this class; each argument without a default is 2."""
    needed = [each.name for each in dataclasses.fields(cls) if each.default is dataclasses.MISSING]
    return cls(**dict.fromkeys(needed, 2))


def input_shape(word: str) -> tuple[int, ...]:
    """An input that a layer takes."""
    return (8,) if word == "linear" else (4, 8, 8)


every_layer = pytest.mark.parametrize("word", sorted(LAYERS))


def test_every_class_with_a_word_is_in_the_table() -> None:
    final = {cls.word: cls for cls in subclasses(Layer) if "word" in vars(cls)}
    assert final == LAYERS
    assert all(cls.__name__.lower() == word or word == "se" for word, cls in LAYERS.items())


@every_layer
def test_a_layer_is_public_and_documented(word: str) -> None:
    assert getattr(visus.design, word) is LAYERS[word]
    assert word in visus.design.__all__
    assert (LAYERS[word].__doc__ or "").strip()
    assert "reference" in vars(LAYERS[word]), f"{word} has no reference: its formulas and an example"


@every_layer
def test_a_layer_has_a_memory_rule(word: str) -> None:
    cls = LAYERS[word]
    assert hasattr(cls, "saved") or cls.saved_for_backward is not Layer.saved_for_backward, (
        f"{word} says not what autograd saves"
    )


@every_layer
def test_a_layer_has_a_builder_and_initial_values(word: str) -> None:
    assert LAYERS[word] in _BUILDERS
    layer, shape = example(LAYERS[word]), input_shape(word)
    network = build(Design([layer]), shape, 3)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.fill_(float("nan"))
    initialize(network)
    missing = [name for name, value in network.state_dict().items() if value.isnan().any()]
    assert not missing, f"{word} has no initial values for {', '.join(missing)}"
    node = Design([layer]).place(shape)[0]
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) == node.num_parameters
    largest = max((value.numel() for value in network.parameters() if value.requires_grad), default=0)
    assert node.layer.largest_weight(shape) == largest
