"""Sets of positions as bits: equal to a loop over the taps of every position."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from visus.geometry import AxisOp, TransposedWindow, Upsampling, Window
from visus.geometry.bitsets import bits_read, positions_read, spread_bits, subsample_bits

from .axis_operations import enlarging, taps_of, windows


@given(st.one_of(windows, enlarging), st.integers(1, 40), st.integers(0))
def test_bits_read_are_those_of_all_taps(axis_op: AxisOp, input_size: int, positions: int) -> None:
    assume(axis_op.fits(input_size))
    positions &= (1 << axis_op.output_size(input_size)) - 1
    found = {
        tap
        for place in range(positions.bit_length())
        if positions >> place & 1
        for tap in taps_of(axis_op, place, input_size)
    }
    assert bits_read(axis_op, input_size, positions) == sum(1 << tap for tap in found)


@given(st.one_of(windows, enlarging), st.integers(1, 40))
def test_all_positions_together_read_what_each_reads(axis_op: AxisOp, input_size: int) -> None:
    assume(axis_op.fits(input_size))
    output_size = axis_op.output_size(input_size)
    found = {tap for place in range(output_size) for tap in taps_of(axis_op, place, input_size)}
    assert bits_read(axis_op, input_size, (1 << output_size) - 1) == sum(1 << tap for tap in found)


@given(st.one_of(windows, enlarging), st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**12))
def test_positions_that_begin_later_read_the_same(axis_op: AxisOp, input_size: int, first: int, bits: int) -> None:
    assume(axis_op.fits(input_size))
    bits &= (1 << max(0, axis_op.output_size(input_size) - first)) - 1
    start, read = positions_read(axis_op, input_size, (first, bits))
    assert read << start == bits_read(axis_op, input_size, bits << first)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", range(1, 6))
def test_every_single_position_of_an_upsampling_reads_its_taps(scale: int, mode: Any) -> None:
    axis_op = Upsampling(scale, mode)
    for place in range(scale * 7):
        assert bits_read(axis_op, 7, 1 << place) == sum(1 << tap for tap in axis_op.taps_inside(place, 7))


@given(st.integers(0, 2**70), st.integers(1, 9))
def test_bits_are_spread_and_subsampled_again(bits: int, stride: int) -> None:
    moved = spread_bits(bits, stride)
    assert {place for place in range(700) if moved >> place & 1} == {
        place * stride for place in range(80) if bits >> place & 1
    }
    assert subsample_bits(moved, stride) == bits


def test_a_million_bits_are_read_at_once() -> None:
    start = time.process_time()
    bits = 1 << 500
    for _ in range(10):
        bits = bits_read(Window(3, stride=4, padding=(1, 1)), 10**6, bits)
    bits = bits_read(TransposedWindow(3, stride=1), 10**6, (1 << 10**6) - 1)
    assert bits.bit_count() == 10**6
    assert time.process_time() - start < 1
