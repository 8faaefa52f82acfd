"""Receptive fields: the fields of all positions are listed one by one and compared."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import GeometryError
from visus.geometry import Field, TransposedWindow, Upsampling, Window, join_fields

from .axis_operations import enlarging_operations

windows = st.lists(
    st.builds(
        Window,
        st.integers(1, 5),
        stride=st.integers(1, 3),
        padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
        dilation=st.integers(1, 2),
    ),
    max_size=4,
)


enlarging = enlarging_operations(4, 5)
axis_ops = st.lists(st.one_of(enlarging, *2 * [windows.filter(bool).map(lambda stack: stack[0])]), max_size=4)


@given(windows, st.integers(0, 5))
def test_through_returns_first_and_last_pixel_of_every_position(stack, position):
    field = Field()
    for window in stack:
        field = field.through(window)
    first = last = position
    for window in reversed(stack):
        first = first * window.stride - window.padding[0]
        last = last * window.stride - window.padding[0] + window.span - 1
    assert (field.start + position * field.stride, field.size) == (first, last - first + 1)


def test_resnet_stem_and_vgg16_have_their_published_fields():
    stem = Field().through(Window(7, 2, (3, 3))).through(Window(3, 2, (1, 1)))
    assert (stem.size, stem.stride) == (11, 4)
    vgg = Field()
    for num_convs in (2, 2, 3, 3, 3):
        for _ in range(num_convs):
            vgg = vgg.through(Window(3, 1, (1, 1)))
        vgg = vgg.through(Window(2, 2))
    assert (vgg.size, vgg.stride) == (212, 32)


def test_center_of_an_even_field_lies_between_two_pixels():
    assert Field(size=4, start=0).center == Fraction(3, 2)


def test_join_holds_all_paths_and_is_aligned_only_with_equal_middles():
    narrow, wide = Field(size=3, stride=2, start=-1), Field(size=7, stride=2, start=-3)
    assert join_fields([narrow, wide]).field == wide
    assert join_fields([narrow, wide]).aligned
    shifted = Field(size=3, stride=2, start=0)
    assert join_fields([narrow, shifted]).field == Field(size=4, stride=2, start=-1)
    assert not join_fields([narrow, shifted]).aligned


def test_join_of_unequal_steps_is_not_aligned():
    assert not join_fields([Field(size=1, stride=1), Field(size=1, stride=2)]).aligned


def test_join_with_a_gate_keeps_the_windows_and_is_whole():
    joined = join_fields([Field(size=3, stride=1, start=-1), Field.whole(10)])
    assert (joined.field, joined.aligned) == (Field(size=3, stride=1, start=-1, is_whole=True), True)
    assert join_fields([Field.whole(10), Field.whole(10)]).field == Field.whole(10)


def test_half_a_pixel_of_a_field_known_by_its_step_alone_is_rounded_outwards():
    half = Field(size=2, stride=Fraction(1, 2), start=0)
    assert (half.through(Window(3)).size, half.through(Window(2)).size) == (3, 3)
    assert [half.theoretical(index) for index in range(3)] == [(0, 1), (0, 2), (1, 2)]


@given(axis_ops, st.integers(-6, 6))
def test_theoretical_field_of_every_position_is_the_union_of_those_that_it_is_made_of(stack, position):
    field, pixels = Field(), {position}
    for axis_op in stack:
        field = field.through(axis_op)
    for axis_op in reversed(stack):
        pixels = {tap for each in pixels for tap in axis_op.taps(each)}
    assert field.theoretical(position) == ((min(pixels), max(pixels)) if pixels else None)


@given(axis_ops)
def test_size_is_the_largest_start_the_first_and_step_the_mean_of_all_positions(stack):
    field = Field()
    for axis_op in stack:
        field = field.through(axis_op)
    period = field.stride.denominator * math.prod(axis_op.jump.denominator for axis_op in stack)
    seen = [field.theoretical(index) for index in range(period)]
    assert field.size == max((last - first + 1 for first, last in filter(None, seen)), default=1)
    assert field.stride == math.prod(axis_op.jump for axis_op in stack)
    if seen[0]:
        assert field.start == seen[0][0]
        assert field.theoretical(period)[0] - seen[0][0] == period * field.stride


@given(axis_ops, st.integers(1, 12))
def test_box_after_enlarging_is_the_union_of_what_is_read(stack, input_size):
    field, pixels = Field.of_input(input_size), [{pixel} for pixel in range(input_size)]
    for axis_op in stack:
        if not axis_op.fits(len(pixels)):
            return
        field, size = field.through(axis_op), len(pixels)
        taps = [
            axis_op.taps_inside(place, size) if hasattr(axis_op, "taps_inside") else axis_op.taps(place)
            for place in range(axis_op.output_size(size))
        ]
        pixels = [set().union(*(pixels[tap] for tap in own if 0 <= tap < size)) for own in taps]
    assert [field.interval(index) for index in range(len(pixels))] == [
        (min(own), max(own)) if own else None for own in pixels
    ]


def test_size_is_the_largest_of_the_positions_that_the_map_has():
    sizes = [
        field.through(Upsampling(2)).through(Window(2)).size for field in (Field(), Field.of_input(1), Field.of_input(2))
    ]
    assert sizes == [2, 1, 2]


def test_up_and_down_again_meets_its_skip_in_the_middle():
    down = Field().through(Window(3, padding=(1, 1)))
    for up in (
        Upsampling(2),
        Upsampling(2, "linear"),
        TransposedWindow(2, stride=2),
        TransposedWindow(4, stride=2, padding=1),
    ):
        assert join_fields([down, down.through(Window(2, 2)).through(up)]).aligned
    shifted = TransposedWindow(3, stride=2, padding=1, output_padding=1)
    assert not join_fields([down, down.through(Window(2, 2)).through(shifted)]).aligned


def test_join_of_unlike_neighbors_holds_all_paths_at_every_position():
    near, line = (Field().through(Upsampling(2, mode)) for mode in ("nearest", "linear"))
    joined = join_fields([near, line]).field
    assert [joined.theoretical(index) for index in range(4)] == [(-1, 0), (0, 1), (0, 1), (1, 2)]
    assert (joined.size, joined.stride, joined.start) == (2, Fraction(1, 2), -1)


def test_fields_of_neighbors_without_end_are_given_up_and_said_so():
    field = Field()
    for _ in range(5):
        field = field.through(Upsampling(7)).through(Window(3, stride=2))
    assert (field.stride, field.is_exact, field.theoretical(0)[0]) == (Fraction(32, 7**5), False, field.start)
    odd, even = (Field().through(Upsampling(scale)).through(Window(1, stride=scale - 1)) for scale in (91, 90))
    assert not join_fields([replace(odd, stride=Fraction(1, 7)), replace(even, stride=Fraction(1, 7))]).field.is_exact


def test_a_mirrored_border_reads_pixels_inside():
    field = Field.of_input(6).through(Window(5, stride=2, padding=(2, 2), reflect=True))
    assert [field.interval(index) for index in range(3)] == [(0, 2), (0, 4), (2, 5)]
    assert (field.start, field.size, field.theoretical(0)) == (-2, 5, (-2, 2))
    assert Field.of_input(6).through(Window(2, stride=9, padding=(2, 0), reflect=True)).interval(0) == (1, 2)


def test_join_needs_a_path():
    with pytest.raises(GeometryError) as caught:
        join_fields([])
    assert str(caught.value) == "a join needs at least one path, and there is none."


@given(windows, st.integers(1, 30))
def test_box_is_what_each_position_really_reads_and_over_what_all_do(stack, input_size):
    field, pixels = Field.of_input(input_size), [{pixel} for pixel in range(input_size)]
    for window in stack:
        if not window.fits(len(pixels)):
            return
        field = field.through(window)
        starts = [place * window.stride - window.padding[0] for place in range(window.output_size(len(pixels)))]
        taps = [[start + tap * window.dilation for tap in range(window.kernel_size)] for start in starts]
        pixels = [set().union(*(pixels[tap] for tap in own if 0 <= tap < len(pixels))) for own in taps]
    assert [field.interval(index) for index in range(len(pixels))] == [
        (min(own), max(own)) if own else None for own in pixels
    ]
    together = set().union(*pixels)
    if together:
        assert (field.hull().start, field.hull().end, field.hull().stride) == (min(together), max(together) + 1, 0)


def test_box_needs_what_is_read_and_a_position_that_is_there():
    for ask in (Field().interval, Field().hull, Field().with_global_context):
        with pytest.raises(GeometryError) as caught:
            ask()
        assert str(caught.value) == "only the theoretical field is known here, not the exact one."
    with pytest.raises(IndexError) as missing:
        Field.of_input(3).interval(3)
    assert str(missing.value) == "there are 3 positions, and position 3 was asked for."
