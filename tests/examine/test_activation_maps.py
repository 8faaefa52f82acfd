"""Activation maps: those of the module itself, in the order of computation, with figures that can be counted again."""

from __future__ import annotations

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.errors import UsageError
from visus.examine import activations
from visus.networks.trace import trace


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_maps_are_those_of_the_modules_own_layers(rank: int) -> None:
    shape = (2, *(11, 9, 8)[:rank])
    module = networks.designed(
        "conv(4, 3, padding=1), norm, relu, maxpool(2), conv(6, 3), relu, globalpool, linear(3)", shape
    )
    samples = networks.noise(5, *shape)
    found = activations(module, samples)
    x = samples
    for layer, each in zip(module, found.layers, strict=True):
        with torch.no_grad():
            x = layer(x)
        np.testing.assert_array_equal(each.values, x.numpy())
        assert each.shape == tuple(x.shape[1:])
    assert (found.input_shape, found.num_samples) == (shape, 5)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(networks.small_compact, (1, 28, 28)), (networks.u_net, (1, 16, 16)), (networks.twice, (2, 8, 8))],
)
def test_paths_texts_and_fields_are_those_of_the_trace(make: object, shape: tuple[int, ...]) -> None:
    module = make()  # type: ignore[operator]
    found = activations(module, networks.noise(2, *shape))
    layers = {path for path, part in module.named_modules() if not part._modules}
    rows = [row for row in trace(module, shape).rows if row.path.partition("#")[0] in layers]
    assert [(row.path, row.layer, row.fields) for row in rows] == [
        (each.path, each.layer, each.fields) for each in found.layers
    ]


def test_a_map_is_kept_as_it_was_before_a_function_wrote_over_it() -> None:
    module = networks.twice()
    samples = networks.noise(3, 2, 8, 8)
    found = activations(module, samples)
    assert found.paths == ("conv", "conv#2", "head")
    with torch.no_grad():
        np.testing.assert_allclose(found["conv"].values, module.conv(samples).numpy(), atol=1e-6)  # type: ignore[operator,union-attr]
    assert found["conv"].values.min() < 0  # type: ignore[union-attr]
    assert found["head"].shape == (3, 8, 8), "channels come first, although the layer has them last"


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_figures_do_not_depend_on_batches_nor_on_keeping_maps(lengths: list[int]) -> None:
    module = networks.u_net()
    samples = networks.noise(sum(lengths), 1, 8, 8)
    whole = activations(module, samples)
    streamed = activations(module, samples.split(lengths), summary_only=True)
    for one, other in zip(whole.layers, streamed.layers, strict=True):
        assert other.values is None
        assert one.values is not None
        axes = (0, *range(2, one.values.ndim))
        np.testing.assert_array_equal(one.zero_share, (one.values == 0).mean(axes))
        np.testing.assert_allclose(one.zero_share, other.zero_share, atol=1e-3)
        np.testing.assert_allclose(one.statistics.mean, one.values.mean(axes), atol=1e-5)
        for name in ("lowest", "highest", "mean"):
            np.testing.assert_allclose(getattr(one.statistics, name), getattr(other.statistics, name), atol=1e-4)


def test_dead_and_sparse_filters_are_named_behind_a_relu_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    module[0].weight.data[:] = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(4, 1, 1, 1)
    module[0].bias.data[:] = torch.tensor([0.0, -1.0, -2.0, 1.0])
    samples = torch.zeros(1, 1, 10, 10)
    samples[0, 0, 0, 0] = 3.0
    found = activations(module, samples)
    assert (found["1"].dead, found["1"].sparse) == ((1,), (0, 2))
    assert (found["0"].dead, found["0"].never_positive) == ((), (1,))
    np.testing.assert_allclose(found["1"].zero_share, [0.99, 1.0, 0.99, 0.0])


def test_the_module_comes_back_as_it_was() -> None:
    module = networks.u_net().train()
    module.fine.eval()
    before = {name: values.clone() for name, values in module.state_dict().items()}
    activations(module, networks.noise(2, 1, 8, 8))
    assert (module.training, module.fine.training, module.fine[2].inplace) == (True, False, True)  # type: ignore[union-attr,index]
    assert all(values.requires_grad for values in module.parameters())
    assert all(torch.equal(before[name], values) for name, values in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_nothing_after_the_last_wanted_layer_is_computed() -> None:
    class Loud(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("was computed")

    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ReLU())
    assert activations(module, networks.noise(1, 1, 5, 5), ["0"]).paths == ("0",)
    calls: list[int] = []
    module[2].register_forward_hook(lambda *_: calls.append(1))
    activations(module, networks.noise(1, 1, 5, 5), "0", summary_only=True)
    assert len(calls) == 1, "once to learn the names of the layers, and not again"


def test_arrays_cannot_be_written_to() -> None:
    found = activations(nn.Sequential(nn.ReLU()), networks.noise(1, 1, 4))
    with pytest.raises(ValueError, match="read-only"):
        found.layers[0].values[:] = 0  # type: ignore[index]


def test_mistakes_are_reported() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    samples = networks.noise(1, 1, 5, 5)
    with pytest.raises(UsageError) as told:
        activations(networks.u_net(), networks.noise(1, 1, 8, 8), "coarce.0")
    assert str(told.value) == (
        "unknown layer 'coarce.0'. Did you mean 'coarse.0'? Known: coarse.0, coarse.1, fine.0, fine.1, fine.2, last, pool, up."
    )
    with pytest.raises(UsageError) as told:
        activations(module, samples)["2"]
    assert str(told.value) == "unknown layer '2'. Known: 0, 1."
    with pytest.raises(UsageError) as told:
        activations(networks.small_resnet(), networks.noise(1, 3, 32, 32), "linear")
    assert str(told.value) == (
        "unknown layer 'linear'. Did you mean 'linear1'? There are 59, from conv1 to linear1; the summary of the network lists them."
    )
    with pytest.raises(UsageError) as told:
        activations(module, [])
    assert str(told.value) == "at least one sample is needed, and there is none."
    with pytest.raises(UsageError) as told:
        activations(module, np.zeros((0, 1, 5, 5), dtype=np.float32))
    assert str(told.value) == (
        "inputs need the shape (samples, channels, *spatial) and at least one sample, not (0, 1, 5, 5)."
    )
