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


def test_join_with_a_gate_keeps_the_windows_and_is_whole():
    joined = join([Field(size=3, step=1, start=-1), Field.whole(10)])
    assert (joined.field, joined.aligned) == (Field(size=3, step=1, start=-1, is_whole=True), True)
    assert join([Field.whole(10), Field.whole(10)]).field == Field.whole(10)


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
    assert [field.box(index) for index in range(len(pixels))] == [(min(own), max(own)) if own else None for own in pixels]
    together = set().union(*pixels)
    if together:
        assert (field.over().start, field.over().end, field.over().step) == (min(together), max(together) + 1, 0)


def test_box_needs_what_is_read_and_a_position_that_is_there():
    for ask in (Field().box, Field().over, Field().gated):
        with pytest.raises(GeometryError) as caught:
            ask()
        assert str(caught.value) == "only the textbook's field is known here, and not what is really read."
    with pytest.raises(IndexError) as missing:
        Field.of_input(3).box(3)
    assert str(missing.value) == "there are 3 positions, and position 3 was asked for."
