"""Maps that are cut, merged and put together again: what is said of each position is what poison shows, or more and said so."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from visus.design import Row
from visus.networks.trace import trace

from .nan_oracle import boxes, output_of
from .rearranged_modules import REARRANGED, STEPS, Chain

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
        told = field.reads.pairs()
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


STEP = st.tuples(st.sampled_from(sorted(STEPS)), *[st.integers(0, 11)] * 3)


@settings(max_examples=150)
@given(st.lists(STEP, min_size=1, max_size=7), st.sampled_from([(4, 6, 8), (2, 9, 6), (1, 4, 4), (3, 5, 7)]))
@example([("windows", 0, 0, 2), ("roll", 2, 1, 0), ("windows", 0, 1, 2), ("convolution", 1, 0, 1)], (4, 6, 8))
@example([("permute", 2, 0, 0), ("convolution", 0, 0, 1)], (2, 9, 6))
@example([("flat", 0, 3, 0), ("convolution", 1, 1, 1), ("reshape", 2, 3, 0)], (4, 6, 8))
def test_a_chain_of_steps_reads_what_poison_shows(steps: list[tuple[str, int, int, int]], shape: tuple[int, ...]) -> None:
    assert_law(Chain(steps), shape)
