"""Axes that grow: torch's own sizes are the oracle, and impossible numbers are told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import GeometryError
from visus.geometry import TransposedWindow, Upsampling, Window


@st.composite
def transposed(draw):
    stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return TransposedWindow(
        draw(st.integers(1, 6)),
        stride=stride,
        padding=draw(st.integers(0, 4)),
        output_padding=draw(st.integers(0, max(stride, dilation) - 1)),
        dilation=dilation,
    )


def layer_of(window):
    return torch.nn.ConvTranspose1d(
        *(1, 1, window.kernel_size, window.stride, window.padding, window.output_padding),
        bias=False,
        dilation=window.dilation,
    )


@given(transposed(), st.integers(1, 12))
def test_output_size_is_that_of_a_torch_layer(window, input_size):
    if window.fits(input_size):
        assert layer_of(window)(torch.zeros(1, 1, input_size)).shape[2] == window.output_size(input_size)
    else:
        with pytest.raises(RuntimeError):
            layer_of(window)(torch.zeros(1, 1, input_size))


@given(transposed(), st.integers(1, 12))
def test_taps_are_the_positions_that_torch_multiplies(window, input_size):
    if not window.fits(input_size):
        return
    matrix = torch.nn.functional.conv_transpose1d(
        torch.eye(input_size)[:, None],
        torch.ones(1, 1, window.kernel_size),
        stride=window.stride,
        padding=window.padding,
        output_padding=window.output_padding,
        dilation=window.dilation,
    )[:, 0]
    for position in range(window.output_size(input_size)):
        taps = [tap for tap in window.taps(position) if 0 <= tap < input_size]
        assert taps == matrix[:, position].nonzero().flatten().tolist()


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 4), st.integers(1, 2), st.integers(-20, 20), st.integers(-9, 9))
def test_a_transposed_window_reads_where_the_window_would_have_written(kernel_size, stride, padding, dilation, here, there):
    window = Window(kernel_size, stride, (padding, padding), dilation)
    turned = TransposedWindow(kernel_size, stride, padding, dilation=dilation)
    assert (here in window.taps(there)) == (there in turned.taps(here))


@given(st.one_of(transposed(), st.builds(Upsampling, st.integers(1, 5))), st.integers(1, 12))
def test_smallest_input_reaches_the_output_size_and_one_less_does_not(axis_op, output_size):
    smallest = axis_op.smallest_input(output_size)
    assert axis_op.output_size(smallest) >= output_size
    assert smallest == 1 or not axis_op.fits(smallest - 1) or axis_op.output_size(smallest - 1) < output_size


@given(st.integers(1, 9), st.sampled_from(["nearest", "linear"]), st.integers(1, 9))
def test_upsampling_reads_what_a_poisoned_pixel_reaches_in_torch(scale, mode, input_size):
    x = torch.zeros(input_size, 1, input_size, dtype=torch.float64)
    x[range(input_size), 0, range(input_size)] = torch.nan
    seen = torch.nn.functional.interpolate(x, scale_factor=float(scale), mode=mode)[:, 0].isnan()
    axis_op = Upsampling(scale, mode)
    assert seen.shape[1] == axis_op.output_size(input_size)
    for position in range(seen.shape[1]):
        assert seen[:, position].nonzero().flatten().tolist() == list(axis_op.taps_inside(position, input_size))


@given(st.integers(1, 9), st.integers(0, 40))
def test_shares_of_linear_upsampling_are_those_of_the_two_nearest_pixels(scale, position):
    place = (position + 0.5) / scale - 0.5
    assert all(abs(tap - place) < 1 for tap in Upsampling(scale, "linear").taps(position))


def test_transposed_window_names_all_numbers_that_are_out_of_range():
    with pytest.raises(GeometryError) as caught:
        TransposedWindow(0, stride=2, output_padding=2)
    assert str(caught.value) == (
        "2 mistakes:\n  - kernel_size must be at least 1, not 0.\n"
        "  - output_padding=2 must be less than the stride (2) or the dilation (1), as torch demands."
    )


def test_a_transposed_window_of_which_nothing_is_left_is_reported():
    with pytest.raises(GeometryError) as caught:
        TransposedWindow(3, stride=2, padding=2).output_size(1)
    assert str(caught.value) == (
        "padding=2 leaves nothing of what a transposed window makes of 1 px: (1 - 1)*2 - 2*2 + 1*(3 - 1) + 0 + 1 = -1. "
        "Use less padding."
    )


def test_an_upsampling_by_nothing_is_refused():
    with pytest.raises(GeometryError) as caught:
        Upsampling(0)
    assert str(caught.value) == "scale_factor must be at least 1, not 0."
    assert Upsampling(2).sum_text(7) == "7*2 = 14"


def test_an_axis_too_short_for_its_mirror_is_reported():
    window = Window(5, padding=(2, 2), reflect=True)
    assert (window.smallest_input(), window.output_size(3)) == (3, 3)
    with pytest.raises(GeometryError) as caught:
        window.output_size(2)
    assert (
        str(caught.value) == "an axis of 2 px cannot be mirrored 2 px beyond its ends. It needs 3 px, or a smaller kernel."
    )
