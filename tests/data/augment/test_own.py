"""A person's own transform: its random numbers are those of the step, and its mistakes are named with their place."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visus.data.augment import Augmentation, SampleFacts
from visus.data.batches import random_stream
from visus.errors import UsageError
from visus.own_callables import FunctionName, load_function


def augmented(function: Callable[..., Any], seed: int = 0) -> torch.Tensor:
    """Four images after a person's transform."""
    augmentation = Augmentation.of({"transform": FunctionName.of(function)}, SampleFacts((5, 6)))
    batch = torch.rand(4, 3, 5, 6, generator=random_stream(9))
    return augmentation(batch, random_stream(seed))


def noisy(batch: torch.Tensor) -> torch.Tensor:
    """Noise by three libraries."""
    return batch + torch.rand_like(batch) + np.random.rand() + random.random()


def test_its_random_numbers_are_those_of_the_step_and_the_others_go_on() -> None:
    states = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()
    first = augmented(noisy)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    torch.rand(5), np.random.rand(), random.random()
    assert torch.equal(augmented(noisy), first)
    assert not torch.equal(augmented(noisy, seed=1), first)


def test_it_gets_values_from_0_to_1_and_may_change_them_in_place() -> None:
    seen: list[torch.Tensor] = []

    def keep(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch.mul_(0)

    found = augmented(keep)
    assert seen[0].dtype == torch.float32
    assert float(seen[0].min()) > 0.4  # two standard deviations below the mean are 0
    assert torch.allclose(found, torch.full_like(found, -2.0))


def cropped(batch: torch.Tensor) -> torch.Tensor:
    """Another shape."""
    return batch[..., 1:]


def broken(batch: torch.Tensor) -> torch.Tensor:
    """An error."""
    raise ValueError("no such color")


def empty(batch: torch.Tensor) -> None:
    """Nothing."""


def doubled(batch: torch.Tensor) -> torch.Tensor:
    """Another dtype."""
    return batch.double()


def infinite(batch: torch.Tensor) -> torch.Tensor:
    """No finite value."""
    return batch / 0


NEEDED = "The transform must return a tensor of 4 x 3 x 5 x 6 (samples, channels and axes of the batch), in float32 on cpu, with finite values."


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (cropped, "it returned a shape of 4 x 3 x 5 x 5"),
        (empty, "it returned None"),
        (doubled, "it returned float64 on cpu"),
        (infinite, "it returned a value that is NaN or infinite"),
    ],
)
def test_a_wrong_result_is_named_with_the_place_of_the_function(function: Callable[..., Any], found: str) -> None:
    with pytest.raises(UsageError) as caught:
        augmented(function)
    name = FunctionName.of(function)
    assert str(caught.value) == f"{name}: {found}, at {__file__} line {function.__code__.co_firstlineno}. {NEEDED}"


def times_255(batch: torch.Tensor) -> torch.Tensor:
    """Values of 8 bits, in place."""
    return batch.mul_(255)


def test_values_of_another_scale_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        augmented(times_255)
    name, line = FunctionName.of(times_255), times_255.__code__.co_firstlineno
    assert re.fullmatch(
        re.escape(f"{name}: it returned values of ")
        + r"\d+ on average for values of 0\.\d+"
        + re.escape(
            f", at {__file__} line {line}. The transform gets values from 0 (black) to 1 (white), and must return such values too: leave out what multiplies "
            "them, such as * 255."
        ),
        str(caught.value),
    )


def test_strong_changes_of_values_are_taken() -> None:
    augmented(steep)
    augmented(blank)


def steep(batch: torch.Tensor) -> torch.Tensor:
    """More noise than image, not clamped."""
    return 3 * (batch - 0.5) + torch.randn_like(batch)


def blank(batch: torch.Tensor) -> torch.Tensor:
    """Nothing is left."""
    return torch.zeros_like(batch)


def test_an_error_in_it_is_named_with_its_line() -> None:
    with pytest.raises(UsageError) as caught:
        augmented(broken)
    line = broken.__code__.co_firstlineno + 2
    assert str(caught.value) == (
        f"{FunctionName.of(broken)}: the transform stopped with ValueError: no such color, at {__file__} line {line}."
    )


class Brighter:
    """A callable object."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch."""
        return batch[:1]


def test_a_callable_object_is_a_transform_too() -> None:
    with pytest.raises(UsageError) as caught:
        augmented(Brighter())
    line = Brighter.__call__.__code__.co_firstlineno
    assert f"it returned a shape of 1 x 3 x 5 x 6, at {__file__} line {line}." in str(caught.value)


def test_a_function_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_changes.py").write_text("def darker(batch):\n    return batch / 2\nlimit = 3\n")
    monkeypatch.chdir(tmp_path)
    assert load_function("own_changes:darker")(4) == 2
    for name, message in [
        ("own_changes:darkr", "own_changes:darkr: own_changes has no darkr. Did you mean 'darker'?"),
        ("own_changes:limit", "own_changes:limit: limit is not callable: it is int."),
        (
            "no_module_here:f",
            "no_module_here:f: the module no_module_here cannot be imported: No module named 'no_module_here'.",
        ),
        (
            "__main__:f.<locals>.g",
            "__main__:f.<locals>.g: this function was given as an object in Python, and its name does not lead to it in another process. Define it in a "
            "module, outside of any function, and name it package.module:callable.",
        ),
    ]:
        with pytest.raises(UsageError) as caught:
            load_function(name)
        assert str(caught.value) == message


def test_an_object_keeps_its_name_and_is_found_in_this_process() -> None:
    def inner(batch: torch.Tensor) -> torch.Tensor:
        return batch

    name = FunctionName.of(inner)
    assert name.endswith(".<locals>.inner")
    assert load_function(str(name)) is inner
