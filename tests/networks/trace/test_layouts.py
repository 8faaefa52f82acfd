"""Maps that are cut, merged and put together again: what is said of each position is what poison shows, or more and said so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visus.design import Row
from visus.networks.trace import trace

from .hard_modules import Made
from .nan_oracle import boxes, output_of
from .rearranged_modules import REARRANGED, STEPS, Chain, attended, cut, put_together

Box = tuple[int, int] | None


def holds(outer: list[Box], inner: list[Box]) -> bool:
    """Whether every box holds the other."""
    return len(outer) == len(inner) and all(
        small is None or (large is not None and large[0] <= small[0] and small[1] <= large[1])
        for large, small in zip(outer, inner, strict=True)
    )


def assert_law(module: nn.Module, shape: tuple[int, ...]) -> Row:
    """The boxes of the output are those that poison shows; where they are not said to be exact, they may be larger."""
    module = nn.Sequential(module, nn.Identity())
    costs = trace(module, shape)
    row = next(row for row in costs.rows if row.path == "1")
    for axis in range(len(shape) - 1):
        touched = output_of(module, shape, axis)
        assert costs.output == row.output_shape == tuple(touched.shape[1:])
        field = row.fields[axis]
        told = field.intervals.pairs()
        usual = axis + 2 if touched.dim() == len(shape) + 1 else None
        if len(told) == 1 and usual is not None:
            told = told * touched.shape[usual]
        dims = [usual, *range(1, touched.dim())] if len(told) > 1 else [usual]
        shown = [boxes(touched, dim) for dim in dims if dim is None or touched.shape[dim] == len(told)]
        if field.is_exact:
            assert told in shown, (axis, told, shown)
        else:
            assert any(holds(told, each) for each in shown), (axis, told, shown)
    return row


@pytest.mark.parametrize("name", REARRANGED)
def test_a_rearranged_map_reads_what_poison_shows(name: str) -> None:
    make, shape = REARRANGED[name]
    torch.manual_seed(0)
    row = assert_law(make(), shape)
    assert all(field.is_exact for field in row.fields)
    assert "hull" not in row.notes


EVEN = (
    *("windows and back", "windows, perceptron", "windows, attention", "windows, tokens mixed", "windows of a sequence"),
    *("shifted windows and back", "shifted windows, perceptron", "HaloNet, keys beyond the window", "class token"),
    *("fold of unfold", "fold of unfold, patches", "fold of unfold, patches mixed", "pixel shuffle by hand, unequal"),
    *("flattened map, every second", "flattened map, in reverse", "height into channels", "Fourier in windows"),
)


@pytest.mark.parametrize("name", EVEN)
def test_the_theoretical_field_inside_the_image_is_what_is_read(name: str) -> None:
    make, shape = REARRANGED[name]
    row = next(row for row in trace(nn.Sequential(make(), nn.Identity()), shape).rows if row.path == "1")
    assert row.notes == ()
    for field, length in zip(row.fields, shape[1:], strict=True):
        for index in range(len(field.intervals)):
            first, last = field.theoretical(index)
            assert (max(first, 0), min(last, length - 1)) == field.interval(index)


def test_where_there_is_no_theoretical_field_the_row_says_so() -> None:
    noted = {
        name
        for name, (make, shape) in REARRANGED.items()
        if "size approximate"
        in next(row for row in trace(nn.Sequential(make(), nn.Identity()), shape).rows if row.path == "1").notes
    }
    assert noted == {
        *("roll of the flattened map", "roll without dimensions", "flattened map, every fifth", "flattened map, picked"),
        *("flattened map, halves exchanged", "flattened map, other width", "height and width exchanged by a reshape"),
    }


def test_windows_of_a_smaller_map_keep_the_fields_that_larger_windows_gave() -> None:
    """Patches merged after windows: 14 positions in windows of 7 become 7, of which no two are alike."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = put_together(attended(cut(x.permute(0, 2, 3, 1), 7)), 7, 14, 14)
        return y.view(-1, 7, 2, 7, 2, 4).permute(0, 1, 3, 4, 2, 5).flatten(3)

    row = trace(Made(forward), (4, 14, 14)).rows[-1]
    assert (row.fields[0].size, row.fields[0].stride, row.fields[0].intervals.pairs()[2:5]) == (
        14,
        2,
        [(0, 6), (0, 13), (7, 13)],
    )
    assert row.notes == ()


def test_windows_in_the_batch_are_known_by_what_all_read() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.conv(cut(x.permute(0, 2, 3, 1), 4).transpose(1, 2).reshape(-1, 4, 4, 4))

    row = trace(Made(forward, conv=nn.Conv2d(4, 4, 3)), (4, 8, 12)).rows[-1]
    assert (row.output_shape, [field.intervals.pairs() for field in row.fields]) == ((6, 4, 2, 2), [[(0, 7)], [(0, 11)]])


STEP = st.tuples(st.sampled_from(sorted(STEPS)), *[st.integers(0, 11)] * 3)


@settings(max_examples=150)
@given(st.lists(STEP, min_size=1, max_size=7), st.sampled_from([(4, 6, 8), (2, 9, 6), (1, 4, 4), (3, 5, 7)]))
@example([("windows", 0, 0, 2), ("roll", 2, 1, 0), ("windows", 0, 1, 2), ("convolution", 1, 0, 1)], (4, 6, 8))
@example([("convolution", 0, 0, 1), ("reshape", 0, 0, 0)], (4, 6, 8))
@example([("permute", 2, 0, 0), ("convolution", 0, 0, 1)], (2, 9, 6))
@example([("flat", 0, 3, 0), ("convolution", 1, 1, 1), ("reshape", 2, 3, 0)], (4, 6, 8))
@pytest.mark.long
def test_a_chain_of_steps_reads_what_poison_shows(steps: list[tuple[str, int, int, int]], shape: tuple[int, ...]) -> None:
    assert_law(Chain(steps), shape)
