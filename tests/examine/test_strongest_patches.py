"""Templates: the strongest units are found, and their patches alone excite them just as much, which ties the receptive field to truth."""

from __future__ import annotations

from collections.abc import Callable

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.data.batches import Part
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError
from visus.examine import activations, templates, unit_values


@pytest.mark.parametrize(
    ("make", "shape", "max_channels"),
    [
        pytest.param(networks.small_resnet, (3, 32, 32), 2, marks=pytest.mark.slow),
        (networks.small_compact, (1, 28, 28), 4),
        (networks.u_net, (1, 16, 16), 99),
        (lambda: networks.designed(networks.SQUEEZED, (2, 20, 15)), (2, 20, 15), 99),
        (lambda: networks.designed("conv(4, 9, padding=4), relu, maxpool(4), conv(4, 9), relu, globalpool, linear(2)", (1, 70)), (1, 70), 99),
        (lambda: networks.designed("conv(3, 3), norm, relu, maxpool(2), conv(3, 3, padding=1), relu", (1, 9, 8, 7)), (1, 9, 8, 7), 99),
        (networks.twice, (2, 8, 8), 99),
    ],
    ids=["resnet", "compact", "u-net", "squeezed", "signal", "volume", "twice"],
)  # fmt: skip
def test_a_patch_fed_alone_returns_the_same_activation_in_every_layer(
    make: Callable[[], nn.Module], shape: tuple[int, ...], max_channels: int
) -> None:
    module = make()
    found = templates(module, networks.noise(6, *shape), top=2)
    rubbish = (30 * networks.noise(1, *shape, seed=9)[0]).numpy()
    num_partial = 0
    for layer in found.layers:
        scale = max(abs(each.value) for channel in layer.channels for each in channel) + 1e-3
        for channel, units in enumerate(layer.channels[:max_channels]):
            for each in units:
                fed = torch.from_numpy(each.pasted_into(rubbish))[None]
                num_partial += each.patch.size < rubbish.size
                value = float(unit_values(module, fed, layer.path, channel, each.position)[0])
                assert value == pytest.approx(each.value, abs=2e-5 * scale), (layer.path, channel, each.position, each.box)
    assert num_partial > 0, "some patches are smaller than the sample, else nothing was tested"


@given(lengths=st.lists(st.integers(1, 3), min_size=1, max_size=5), top=st.integers(1, 4), per_sample=st.integers(1, 3))
@pytest.mark.long
def test_the_strongest_are_found_whatever_the_batches(lengths: list[int], top: int, per_sample: int) -> None:
    module = networks.u_net()
    samples = networks.noise(sum(lengths), 1, 8, 8).round(decimals=1)
    found = templates(module, samples.split(lengths), "coarse.1", top=top, per_sample=per_sample)
    values = activations(module, samples)["coarse.1"].values
    assert values is not None
    assert (found.num_samples, [each.path for each in found.layers]) == (len(samples), ["coarse.1"])
    for channel, units in enumerate(found["coarse.1"].channels):
        each_sample = np.sort(values[:, channel].reshape(len(samples), -1), axis=1)[:, -per_sample:]
        np.testing.assert_allclose([each.value for each in units], np.sort(each_sample.ravel())[::-1][:top], atol=1e-5)
        assert max(np.bincount([each.sample for each in units])) <= per_sample
        for each in units:
            assert each.value == pytest.approx(float(values[(each.sample, channel, *each.position)]), abs=1e-5)
            assert each.box is not None
            inside = tuple(slice(first, last + 1) for first, last in each.box)
            np.testing.assert_array_equal(each.patch, samples[each.sample].numpy()[(slice(None), *inside)])


def test_a_split_is_searched_like_its_scaled_samples() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 1, 8, 8), dtype=np.uint8)
    chosen = np.array([7, 2, 5, 3])
    part = Part("train", pixels, chosen, np.zeros(4, dtype=np.int64), tuple("abcd"))
    preprocessing = Preprocessing("array", 1, (8, 8), "squash", "uint8", "min-max", (10.0,), (50.0,))
    module = networks.u_net()
    one = templates(module, part, "last", top=3, preprocessing=preprocessing)
    other = templates(module, preprocessing.scaled(torch.from_numpy(pixels[chosen])), "last", top=3)
    for mine, theirs in zip(one["last"].channels, other["last"].channels, strict=True):
        assert [(each.sample, each.position, each.box) for each in mine] == [
            (each.sample, each.position, each.box) for each in theirs
        ]
        for here, there in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(here.patch, there.patch)


def test_no_more_samples_are_kept_than_are_still_among_the_strongest() -> None:
    from visus.examine.strongest_patches import _Search

    search = _Search(nn.Conv2d(1, 3, 3).eval().requires_grad_(False), top=2, per_sample=1, keeps_samples=True)
    for seed in range(10):
        search.look(networks.noise(5, 1, 6, 6, seed=seed), None)
        assert len(search.samples) <= 3 * 2
    assert search.num_samples == 50


def test_a_unit_that_reads_padding_alone_has_an_empty_patch() -> None:
    module = nn.Conv2d(1, 1, 1, padding=1)
    module.bias.data.fill_(9.0)  # type: ignore[union-attr]
    best = templates(module, -torch.ones(1, 1, 3, 3) * module.weight.sign().item(), top=1)[""].channels[0][0]
    assert (best.value, best.box, best.patch.shape) == (9.0, None, (1, 0, 0))
    np.testing.assert_array_equal(best.pasted_into(np.ones((1, 3, 3))), np.ones((1, 3, 3)))


def test_mistakes_are_reported() -> None:
    module = networks.u_net()
    samples = networks.noise(1, 1, 8, 8)
    part = Part("val", np.zeros((1, 1, 8, 8), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64), ("a",))
    for call, sentence in (
        (lambda: templates(module, samples, top=0), "top must be at least 1, not 0."),
        (lambda: templates(module, samples, per_sample=-1), "per_sample must be at least 1, not -1."),
        (lambda: templates(module, []), "templates need at least one sample, and there is none."),
        (lambda: templates(module, part), "the samples of a split are not normalized: give its preprocessing too."),
        (lambda: templates(module, samples, "up")["down"], "unknown layer 'down'. Known: up."),
        (
            lambda: unit_values(module, samples, "lost", 0),
            "unknown layer 'lost'. Did you mean 'last'? Known: coarse.0, coarse.1, fine.0, fine.1, fine.2, last, pool, up.",
        ),
    ):
        with pytest.raises(UsageError) as told:
            call()
        assert str(told.value) == sentence
