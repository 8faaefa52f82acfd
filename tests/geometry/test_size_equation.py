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
        assert each.unread_border + each.unread_padding == each.input_size + 2 * each.padding - used
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


@given(st.integers(1, 24), st.integers(1, 6), st.integers(0, 9), st.integers(1, 12), st.integers(1, 4))
def test_the_pixels_that_are_not_read_have_no_gradient_in_torch(
    input_size: int, kernel_size: int, padding: int, stride: int, dilation: int
) -> None:
    found = Solution(input_size, kernel_size, padding, stride, 1, dilation)
    if found.gives < 1:
        return
    image = torch.zeros(1, 1, input_size, requires_grad=True)
    weight = torch.ones(1, 1, kernel_size)
    torch.nn.functional.conv1d(image, weight, stride=stride, padding=padding, dilation=dilation).sum().backward()
    assert image.grad is not None
    is_read = [bool(value) for value in image.grad[0, 0]]
    end = (found.gives - 1) * stride + found.span - padding  # the first pixel after the last window
    assert found.unread_border == len(is_read[max(0, end) :])
    assert found.unread_gaps == is_read.count(False) - found.unread_border
    assert found.unread_padding == input_size + 2 * padding - max(input_size + padding, end + padding)


@pytest.mark.parametrize(
    ("numbers", "unread"),
    [
        ((32, 3, 1, 2, 16), "; 1 px of the padding at the far edge is not read"),
        ((33, 3, 1, 2, 17), ""),
        ((10, 3, 0, 4, 2), "; 3 px at the far edge are not read; 1 px between the windows is not read"),
        ((9, 3, 0, 2, 3, 2), "; 4 px between the pixels of the dilated windows are not read; K_eff = 2*(3 - 1) + 1 = 5"),
    ],
)
def test_the_calculation_names_what_is_not_read(numbers: tuple[int, ...], unread: str) -> None:
    assert Solution(*numbers).calculation.partition(";")[1:] == tuple(unread.partition(";")[1:])


def test_gaps_between_windows_are_counted_on_long_axes_too() -> None:
    windows = Solution(10**12, 2, 0, 10**6, 10**6)
    assert windows.unread_gaps == 10**12 - 2 * 10**6 - windows.unread_border
    assert Solution(10**12, 3, 0, 2, 1, dilation=2).unread_gaps is None
