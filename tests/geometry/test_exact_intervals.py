"""What is really read, told by rules: held against walks that look at every position, one by one."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from visus.geometry import AxisOp, ExactIntervals, Field, Upsampling, Window, concatenate, union

from .axis_operations import enlarging, taps_of, windows

axis_ops = st.lists(st.one_of(windows, windows, enlarging), max_size=5)
few = st.lists(st.one_of(windows, windows, enlarging), max_size=2)


def walked_back(stack: list[AxisOp], sizes: list[int], place: int) -> tuple[int, int] | None:
    """First and last pixel that one position after all axis operations reads: back through each of them."""
    pixels = {place}
    for axis_op, size in zip(reversed(stack), reversed(sizes[:-1]), strict=True):
        pixels = {tap for each in pixels for tap in taps_of(axis_op, each, size)}
    return (min(pixels), max(pixels)) if pixels else None


def through(stack: list[AxisOp], input_size: int) -> tuple[list[int], ExactIntervals]:
    """The lengths of all maps, and what the positions of the last one read."""
    sizes, reads = [input_size], ExactIntervals.identity(input_size)
    for axis_op in stack:
        assume(axis_op.fits(sizes[-1]))
        sizes.append(axis_op.output_size(sizes[-1]))
        reads = reads.through(axis_op)
    return sizes, reads


@settings(max_examples=50)
@given(axis_ops, st.integers(1, 160))
def test_every_position_reads_what_a_walk_back_finds(stack: list[AxisOp], input_size: int) -> None:
    sizes, reads = through(stack, input_size)
    assert reads.pairs() == [walked_back(stack, sizes, place) for place in range(sizes[-1])]
    assert len(reads) == sizes[-1]


@settings(max_examples=50)
@given(axis_ops, st.integers(10**5, 10**7), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 40))
@pytest.mark.long
def test_a_long_axis_is_read_as_a_walk_back_finds(
    stack: list[AxisOp], input_size: int, shares: list[float], border: int
) -> None:
    sizes, reads = through(stack, input_size)
    last = sizes[-1] - 1
    for place in [border, last - border, *(int(share * last) for share in shares)]:
        assert reads.at(place) == walked_back(stack, sizes, place)
    ends = [each for each in map(reads.at, [*range(300), *range(last - 300, last + 1)]) if each]
    assert reads.collapsed().at(0) == (min(each[0] for each in ends), max(each[1] for each in ends))


@given(axis_ops, axis_ops, st.integers(1, 160), st.booleans())
def test_paths_that_meet_read_what_all_of_them_read(
    left: list[AxisOp], right: list[AxisOp], input_size: int, is_gated: bool
) -> None:
    paths = [through(stack, input_size)[1] for stack in (left, right)]
    if is_gated:
        paths[1] = paths[0].collapsed().repeated(len(paths[0]))
    assume(len(paths[0]) == len(paths[1]))
    found = union(paths).pairs()
    for both in zip(found, paths[0].pairs(), paths[1].pairs(), strict=True):
        seen = [each for each in both[1:] if each]
        assert both[0] == ((min(each[0] for each in seen), max(each[1] for each in seen)) if seen else None)


@settings(max_examples=25)
@given(axis_ops, st.integers(1, 40), st.integers(1, 4), st.integers(1, 3))
def test_values_laid_out_read_what_their_positions_do(
    stack: list[AxisOp], input_size: int, each: int, channels: int
) -> None:
    sizes, reads = through(stack, input_size)
    laid = reads.flattened(each, channels * sizes[-1] * each)
    assert laid.pairs() == [one for _ in range(channels) for one in reads.pairs() for _ in range(each)]
    assert laid.collapsed().pairs() == reads.collapsed().pairs()
    assert union([laid, reads.collapsed()]).pairs() == reads.collapsed().pairs() * len(laid)
    assert concatenate([laid, reads]).pairs() == laid.pairs() + reads.pairs()
    assert concatenate([laid, reads]).collapsed().pairs() == reads.collapsed().pairs()


def test_a_window_as_long_as_the_axis_is_no_slower() -> None:
    reads, start = ExactIntervals.identity(200_000).through(Window(3, padding=(9, 9))), time.process_time()
    wide = reads.through(Window(100_001, padding=(50_000, 50_000)))
    assert (wide.at(0), wide.at(100_000), wide.at(200_015)) == ((0, 49_993), (49_991, 149_993), (150_006, 199_999))
    assert time.process_time() - start < 5  # by comparing all of them one by one it would be an hour


def test_a_long_axis_costs_no_more_than_a_short_one() -> None:
    start = time.process_time()
    field = Field.of_input(10**12)
    for _ in range(50):
        field = field.through(Window(9, padding=(4, 4))).through(Window(3, stride=2, padding=(1, 1))).through(Upsampling(2))
    assert field.interval(len(field.intervals or ()) - 1)
    assert time.process_time() - start < 1


def test_what_is_read_behind_a_window_over_paths_of_unequal_stride() -> None:
    paths = [
        ExactIntervals.identity(24).through(Window(7, stride=2)),
        ExactIntervals.identity(24).through(Window(2, stride=3, padding=(1, 1))),
    ]
    found = union(paths).through(Window(2, padding=(1, 1)))
    by_hand = [(0, 6), (0, 8), (2, 10), (4, 12), (6, 14), (8, 16), (10, 18), (12, 21), (14, 23), (16, 23)]
    assert found.pairs()[1:-1] == by_hand[1:-1]


@settings(max_examples=30)
@given(few, few, few, st.integers(1, 60))
def test_windows_behind_unequal_paths_read_what_a_walk_back_through_each_finds(
    left: list[AxisOp], right: list[AxisOp], after: list[AxisOp], input_size: int
) -> None:
    lengths = [through(stack, input_size)[0][-1] for stack in (left, right)]
    left, right = ([*stack, Window(1 + length - min(lengths))] for stack, length in zip((left, right), lengths, strict=True))
    paths = [through(stack, input_size) for stack in (left, right)]
    reads, sizes = union([path[1] for path in paths]), [len(paths[0][1])]
    for axis_op in after:
        assume(axis_op.fits(sizes[-1]))
        sizes.append(axis_op.output_size(sizes[-1]))
        reads = reads.through(axis_op)
    for place, found in enumerate(reads.pairs()):
        pixels = {place}
        for axis_op, size in zip(reversed(after), reversed(sizes[:-1]), strict=True):
            pixels = {tap for each in pixels for tap in taps_of(axis_op, each, size)}
        ends = [
            walked_back(stack, path[0], each) for stack, path in zip((left, right), paths, strict=True) for each in pixels
        ]
        seen = [each for each in ends if each]
        assert found == ((min(each[0] for each in seen), max(each[1] for each in seen)) if seen else None)


@given(axis_ops, st.integers(1, 60))
def test_a_copy_reads_the_same(stack: list[AxisOp], input_size: int) -> None:
    reads = through(stack, input_size)[1]
    for other in (copy.deepcopy(reads), pickle.loads(pickle.dumps(reads))):
        assert (other.pairs(), other.hull()) == (reads.pairs(), reads.hull())


def test_a_chain_of_hundreds_of_maps_is_copied_and_walked() -> None:
    reads = ExactIntervals.identity(50)
    for _ in range(600):
        reads = union([reads, reads.through(Window(3, padding=(1, 1)))])
    assert (copy.deepcopy(reads).at(7), reads.at(7)) == ((0, 49), (0, 49))
