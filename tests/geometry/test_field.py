"""Receptive fields: the fields of all positions are listed one by one and compared."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import GeometryError
from visus.geometry import Field, Window, join

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


@given(windows, st.integers(0, 5))
def test_through_gives_first_and_last_pixel_of_every_position(stack, position):
    field = Field()
    for window in stack:
        field = field.through(window)
    first = last = position
    for window in reversed(stack):
        first = first * window.stride - window.padding[0]
        last = last * window.stride - window.padding[0] + window.span - 1
    assert (field.start + position * field.step, field.size) == (first, last - first + 1)


def test_resnet_stem_and_vgg16_have_their_published_fields():
    stem = Field().through(Window(7, 2, (3, 3))).through(Window(3, 2, (1, 1)))
    assert (stem.size, stem.step) == (11, 4)
    vgg = Field()
    for num_convs in (2, 2, 3, 3, 3):
        for _ in range(num_convs):
            vgg = vgg.through(Window(3, 1, (1, 1)))
        vgg = vgg.through(Window(2, 2))
    assert (vgg.size, vgg.step) == (212, 32)


def test_centre_of_an_even_field_lies_between_two_pixels():
    assert Field(size=4, start=0).centre == Fraction(3, 2)


def test_join_holds_all_paths_and_is_aligned_only_with_equal_middles():
    narrow, wide = Field(size=3, step=2, start=-1), Field(size=7, step=2, start=-3)
    assert join([narrow, wide]).field == wide
    assert join([narrow, wide]).aligned
    shifted = Field(size=3, step=2, start=0)
    assert join([narrow, shifted]).field == Field(size=4, step=2, start=-1)
    assert not join([narrow, shifted]).aligned


def test_join_of_unequal_steps_is_not_aligned():
    assert not join([Field(size=1, step=1), Field(size=1, step=2)]).aligned


def test_join_with_a_path_that_sees_the_whole_axis_is_the_whole_axis():
    joined = join([Field(size=3, step=1, start=-1), Field.whole(10)])
    assert joined.field == Field(size=10, step=0, start=0)
    assert joined.field.through(Window(3, 2, (1, 1))) == Field.whole(10)


def test_through_with_half_steps_refuses_a_field_of_half_pixels():
    half = Field(size=2, step=Fraction(1, 2), start=0)
    assert half.through(Window(3)).size == 3
    with pytest.raises(GeometryError) as caught:
        half.through(Window(2))
    assert str(caught.value) == "a window spanning 2 positions 1/2 px apart covers no whole number of pixels."


def test_join_needs_a_path():
    with pytest.raises(GeometryError) as caught:
        join([])
    assert str(caught.value) == "a join needs at least one path, and there is none."


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.integers(1, 20))
def test_over_holds_the_pixels_of_all_positions_and_no_others(size, stride, padding, input_size):
    window = Window(size, stride, (padding, padding))
    if not window.fits(input_size):
        return
    places = range(window.output_size(input_size))
    seen = [place * stride - padding + tap for place in places for tap in range(size)]
    inside = [pixel for pixel in seen if 0 <= pixel < input_size]
    field = Field().through(window).over(len(places), input_size)
    if inside:
        assert (field.start, field.end, field.step) == (min(inside), max(inside) + 1, 0)
