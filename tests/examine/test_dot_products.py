"""One output taken apart: every term is there, and they add up to what the network itself made of it."""

from __future__ import annotations

from typing import Any

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.errors import UsageError
from visus.examine import filters, output_terms

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    padding: Any = draw(st.sampled_from(["same", tuple(draw(st.integers(0, 2)) for _ in range(rank))]))
    stride = 1 if padding == "same" else tuple(draw(st.integers(1, 2)) for _ in range(rank))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    torch.manual_seed(draw(st.integers(0, 99)))
    module = CONVS[rank](
        4, 6, kernel, stride=stride, padding=padding, dilation=draw(st.integers(1, 2)), groups=groups, bias=draw(st.booleans()),
        padding_mode=mode,
    )  # fmt: skip
    return nn.Sequential(module, nn.ReLU()), (4, *(9, 7, 8)[:rank])


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # once in a process
@given(convolutions(), st.data())
def test_the_terms_of_any_convolution_add_up_to_its_output(
    made: tuple[nn.Module, tuple[int, ...]], data: st.DataObject
) -> None:
    module, shape = made
    samples = networks.noise(1, *shape)
    with torch.no_grad():
        output = module[0](samples)[0]  # type: ignore[index]
    place = tuple(data.draw(st.integers(0, length - 1)) for length in output.shape[1:])
    channel = data.draw(st.integers(0, 5))
    found = output_terms(module, samples, "0", channel, place)
    assert found.value == pytest.approx(float(output[(channel, *place)]), rel=1e-5, abs=1e-5)
    assert found.sum == pytest.approx(found.value, rel=1e-5, abs=1e-5)
    np.testing.assert_array_equal(found.kernel, filters(module, "0").kernels[channel])
    source = samples[0].numpy()[list(found.channels_in)]
    for tap in np.ndindex(*found.patch.shape[1:]):
        places = [int(line[index]) for line, index in zip(found.places, tap, strict=True)]
        read = np.zeros(len(source)) if -1 in places else source[(slice(None), *places)]
        np.testing.assert_array_equal(found.patch[(slice(None), *tap)], read)


def test_uneven_padding_of_a_design_adds_up_too() -> None:
    module = networks.designed("conv(4, 4, padding='same'), relu", (2, 9, 9))
    for place in [(0, 0), (4, 4), (2, 3)]:
        found = output_terms(module, networks.noise(1, 2, 9, 9), "conv1", 2, place)
        assert found.sum == pytest.approx(found.value, abs=1e-5)


def test_a_linear_layer_adds_up_alone_and_over_a_map_and_when_called_again() -> None:
    module = networks.twice()
    samples = networks.noise(1, 2, 8, 8)
    for layer, place in (("head", (3, 4)), ("conv#2", (7, 0)), ("conv", None)):
        found = output_terms(module, samples, layer, 1, place)
        assert found.sum == pytest.approx(found.value, abs=1e-6)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    found = output_terms(plain, networks.noise(1, 3, 4), "1", 2)
    assert (found.position, found.places, found.patch.shape) == ((), (), (12,))
    assert found.sum == pytest.approx(found.value, abs=1e-6)


def test_filters_of_a_transposed_convolution_have_filters_first() -> None:
    module = nn.ConvTranspose2d(4, 6, (2, 3), groups=2)
    found = filters(module, "")
    assert (found.kernels.shape, found.groups) == ((6, 2, 2, 3), 2)
    x = torch.zeros(1, 4, 1, 1)
    x[0, 3] = 1.0  # the second channel of the second group
    with torch.no_grad():
        answer = (module(x) - module(0 * x))[0].numpy()
    np.testing.assert_allclose(answer[3:], found.kernels[3:, 1], atol=1e-6)
    np.testing.assert_allclose(answer[:3], 0, atol=1e-7)


def test_shown_filters_lie_between_0_and_1_with_weight_0_in_the_middle() -> None:
    module = nn.Conv1d(2, 3, 3)
    module.weight.data[2] = 0
    found = filters(module, "")
    shown = found.shown()
    assert found.axes == ("filter", "input channel", "length")
    assert found.bias is not None
    assert (shown[2] == 0.5).all()
    assert np.abs(shown[:2] - 0.5).max(axis=(1, 2)) == pytest.approx([0.5, 0.5])
    assert (np.sign(shown - 0.5) == np.sign(found.kernels)).all()
    assert np.abs(found.shown(together=True) - 0.5).max() == pytest.approx(0.5)
    assert filters(nn.Linear(4, 2, bias=False), "").bias is None


def test_mistakes_are_reported() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ConvTranspose2d(2, 2, 2))
    sample = networks.noise(1, 1, 5, 5)
    for call, sentence in (
        (lambda: output_terms(module, sample, "3", 0), "unknown layer '3'. Known: 0, 1, 2."),
        (
            lambda: output_terms(module, sample, "1", 0),
            "1: only convolutions and linear layers are sums of products, and this is ReLU.",
        ),
        (
            lambda: output_terms(module, sample, "2", 0),
            "2: only convolutions and linear layers are sums of products, and this is ConvTranspose2d(2, 2).",
        ),
        (
            lambda: output_terms(module, sample, "0", 2),
            "0: there are 2 channels, counted from 0; channel 2 does not exist.",
        ),
        (
            lambda: output_terms(module, sample, "0", 0, (3, 0)),
            "0: the feature map has the size (3, 3); position (3, 0) does not exist.",
        ),
        (
            lambda: output_terms(module, networks.noise(2, 1, 5, 5), "0", 0),
            "one sample is needed, with its batch axis, and 2 were given. Give inputs[:1].",
        ),
        (lambda: filters(module, "4"), "unknown layer '4'. Known: 0, 1, 2."),
        (lambda: filters(module, "1"), "1: ReLU has no kernels. Layers that have: 0, 2."),
        (lambda: filters(nn.ReLU(), ""), "ReLU has no kernels. Layers that have: none."),
    ):
        with pytest.raises(UsageError) as told:
            call()
        assert str(told.value) == sentence
