"""One axis: torch's own sizes are the oracle."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from visus.errors import GeometryError
from visus.geometry import Window, same_padding

windows = st.builds(
    Window,
    kernel_size=st.integers(1, 7),
    stride=st.integers(1, 5),
    padding=st.integers(0, 4).map(lambda pad: (pad, pad)),
    dilation=st.integers(1, 3),
)


@given(windows, st.integers(1, 40))
def test_output_size_is_that_of_a_torch_convolution(window, input_size):
    layer = torch.nn.Conv1d(1, 1, window.kernel_size, window.stride, window.padding[0], window.dilation, bias=False)
    if window.fits(input_size):
        assert layer(torch.zeros(1, 1, input_size)).shape[2] == window.output_size(input_size)
    else:
        with pytest.raises(RuntimeError):
            layer(torch.zeros(1, 1, input_size))


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 3), st.integers(1, 30))
def test_output_size_with_ceil_mode_is_that_of_a_torch_pooling(kernel_size, stride, padding, input_size):
    assume(padding <= kernel_size // 2)
    window = Window(kernel_size, stride, (padding, padding), ceil_mode=True)
    layer = torch.nn.MaxPool1d(kernel_size, stride, padding, ceil_mode=True)
    if window.fits(input_size):
        assert layer(torch.zeros(1, 1, input_size)).shape[2] == window.output_size(input_size)
    else:
        with pytest.raises(RuntimeError):
            layer(torch.zeros(1, 1, input_size))


@given(windows, st.booleans(), st.integers(1, 12))
def test_smallest_input_reaches_the_output_size_and_one_less_does_not(window, ceil_mode, output_size):
    window = Window(window.kernel_size, window.stride, window.padding, window.dilation, ceil_mode)
    smallest = window.smallest_input(output_size)
    assert window.output_size(smallest) >= output_size
    assert smallest == 1 or not window.fits(smallest - 1) or window.output_size(smallest - 1) < output_size


@given(windows, st.integers(1, 40))
def test_unread_border_counts_the_pixels_after_the_last_one_that_is_read(window, input_size):
    assume(window.fits(input_size))
    last = (window.output_size(input_size) - 1) * window.stride + window.span - 1 - window.padding[0]
    assert window.unread_border(input_size) == max(0, input_size - 1 - last)


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 40))
def test_same_padding_keeps_the_size(kernel_size, dilation, input_size):
    window = Window(kernel_size, padding=same_padding(kernel_size, dilation), dilation=dilation)
    assert window.output_size(input_size) == input_size


def test_window_that_does_not_fit_says_how_many_pixels_are_missing():
    with pytest.raises(GeometryError) as caught:
        Window(7).output_size(6)
    assert str(caught.value) == (
        "a window spanning 7 px does not fit an axis of 6 px padded by (0, 0): 1 px short. "
        "Add 1 px of padding, or use a smaller kernel."
    )


def test_window_names_all_numbers_that_are_out_of_range():
    with pytest.raises(GeometryError) as caught:
        Window(0, stride=0, padding=(-1, 0))
    assert str(caught.value) == (
        "3 mistakes:\n  - kernel_size must be at least 1, not 0.\n  - stride must be at least 1, not 0.\n"
        "  - padding must be at least 0, not (-1, 0)."
    )


@pytest.mark.parametrize(
    ("window", "input_size", "text"),
    [
        (Window(5), 2, "(2 - 5 + 2*0)/1 + 1 = -2"),
        (Window(3, stride=2, padding=(1, 1)), 32, "(32 - 3 + 2*1)/2 + 1 = 16.5, rounded down to 16"),
        (Window(2, stride=2, ceil_mode=True), 7, "(7 - 2 + 2*0)/2 + 1 = 3.5, rounded up to 4"),
        (Window(4, padding=(1, 2)), 8, "(8 - 4 + 1 + 2)/1 + 1 = 8"),
        (Window(3, dilation=2), 4, "(4 - 5 + 2*0)/1 + 1 = 0"),
    ],
)
def test_sum_text_shows_the_sum(window, input_size, text):
    assert window.sum_text(input_size) == text


def test_smallest_input_of_a_long_stride_is_found_at_once():
    assert Window(3, stride=10**12, ceil_mode=True).smallest_input(3) == 2 * 10**12 + 1
    assert Window(3, stride=10**12).smallest_input(3) == 2 * 10**12 + 3
