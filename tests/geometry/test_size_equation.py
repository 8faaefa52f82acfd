"""The formula solved for any letter: trying every number is the oracle."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import GeometryError
from visus.geometry import LETTERS, Solution, Solutions, solve

numbers = st.fixed_dictionaries(
    {
        "input_size": st.integers(1, 24),
        "kernel_size": st.integers(1, 6),
        "padding": st.integers(0, 5),
        "stride": st.integers(1, 8),
        "output_size": st.integers(1, 12),
    }
)
letters = st.sampled_from(sorted(LETTERS))


def what_comes_out(trial: dict[str, int], dilation: int) -> int:
    """The output size by counting the places of the window one by one; 0 where there is none."""
    end, span = trial["input_size"] + 2 * trial["padding"], dilation * (trial["kernel_size"] - 1) + 1
    return len(range(0, end - span + 1, trial["stride"]))


def all_tried(numbers: dict[str, int], dilation: int, missing: str) -> dict[int, int]:
    """What comes out of every number for the missing letter."""
    trials = {value: numbers | {missing: value} for value in range(missing != "padding", 150)}
    return {value: what_comes_out(each, dilation) for value, each in trials.items()}


def solved(numbers: dict[str, int], dilation: int, missing: str) -> Solutions:
    return solve(**{name: value for name, value in numbers.items() if name != missing}, dilation=dilation)


@given(numbers, letters, st.integers(1, 4))
def test_solve_finds_exactly_the_numbers_that_satisfy_the_formula(
    numbers: dict[str, int], missing: str, dilation: int
) -> None:
    found = solved(numbers, dilation, missing)
    if missing == "output_size":
        right = what_comes_out(numbers, dilation)
        expected = [right] if right else []
    else:
        tried = all_tried(numbers, dilation, missing)
        expected = [value for value, positions in tried.items() if positions == numbers["output_size"]]
    if found.maximum is None:
        assert (missing, expected) == ("stride", list(range(found.minimum, 150)))
        return
    assert [getattr(each, missing) for each in found] == expected
    assert (len(found), bool(found)) == (len(expected), bool(expected))
    assert all(each.gives == each.output_size for each in found)


@given(numbers, letters, st.integers(1, 4))
def test_where_there_is_no_solution_the_nearest_outputs_are_reported(
    numbers: dict[str, int], missing: str, dilation: int
) -> None:
    found = solved(numbers, dilation, missing)
    if found or missing == "output_size":
        assert found.nearest == ()
        return
    outputs = {positions for positions in all_tried(numbers, dilation, missing).values() if positions}
    below = max((each for each in outputs if each < numbers["output_size"]), default=None)
    above = min((each for each in outputs if each > numbers["output_size"]), default=None)
    assert [each.output_size for each in found.nearest] == [each for each in (below, above) if each is not None]
    for each in found.nearest:
        assert each.output_size == what_comes_out({name: getattr(each, name) for name in LETTERS}, dilation)


@given(numbers, st.integers(1, 4))
def test_a_solution_returns_what_a_torch_convolution_returns(numbers: dict[str, int], dilation: int) -> None:
    each = Solution(**numbers, dilation=dilation)
    if each.gives >= 1:
        layer = torch.nn.Conv1d(1, 1, each.kernel_size, each.stride, each.padding, dilation)
        assert layer(torch.zeros(1, 1, each.input_size)).shape[2] == each.gives
        used = (each.gives - 1) * each.stride + each.span
        assert each.unread_border == each.input_size + 2 * each.padding - used
        first = torch.nn.functional.pad(torch.ones(each.input_size), [each.padding] * 2)[: each.span]
        assert each.reads_padding_alone == (not first.any())


def test_numbers_of_any_size_are_solved_at_once() -> None:
    big, start = 10**15, time.process_time()
    found: list[Any] = [
        solve(kernel_size=3, padding=1, stride=big, output_size=big),
        solve(input_size=big, padding=0, stride=big, output_size=1),
        solve(input_size=1, kernel_size=big, stride=big, output_size=1),
        solve(input_size=big, kernel_size=3, padding=1, output_size=2),
        solve(input_size=big, kernel_size=3, padding=1, stride=2, dilation=7),
    ]
    assert [len(each) for each in found[:4]] == [big, big, big // 2, big // 2]
    assert [each.minimum for each in found] == [big * (big - 1) + 1, 1, (big - 1) // 2 + 1, big // 2, big // 2 - 6]
    assert time.process_time() - start < 0.5


def test_strides_without_end_are_not_counted() -> None:
    found = solve(input_size=224, kernel_size=3, padding=1, output_size=1)
    assert (found.minimum, found.maximum, bool(found), next(iter(found)).stride) == (224, None, True, 224)
    with pytest.raises(GeometryError) as caught:
        len(found)
    assert str(caught.value) == "every stride from 224 on is a solution, so they cannot be counted."


def test_solve_refuses_two_missing_numbers_and_wrong_ones_together() -> None:
    with pytest.raises(GeometryError) as caught:
        solve(input_size=32, kernel_size=0, stride=1, dilation=0)
    assert str(caught.value) == (
        "3 mistakes:\n  - kernel_size (K) must be at least 1, not 0.\n  - dilation must be at least 1, not 0.\n"
        "  - exactly one of the five numbers must be left out, not 2. Left out: padding (P), output_size (O)."
    )
    with pytest.raises(GeometryError) as caught:
        solve(input_size=32, kernel_size=3, stride=1, padding=1, output_size=32)
    assert str(caught.value) == (
        "exactly one of the five numbers must be left out, not 0. Leave out one of input_size (W), kernel_size (K), "
        "padding (P), stride (S), output_size (O)."
    )
