"""Weights on disk: whole or not there, damage told, and every layer named that does not fit."""

import os

import pytest
import torch

from visus.design import parse
from visus.errors import WeightsError
from visus.networks import build, weights

DESIGN = "conv(4, 3), norm, relu, globalpool, linear(classes)"


def network(text=DESIGN, num_classes=3, seed=0):
    return build(parse(text), (1, 8, 8), num_classes, seed=seed)


def test_saved_weights_load_into_the_same_network(tmp_path):
    path = tmp_path / "best.safetensors"
    weights.save(network(seed=1), path, {"epoch": "3"})
    tensors, metadata = weights.load(path)
    other = network(seed=2)
    weights.fit_weights(other, tensors)
    assert all(torch.equal(values, other.state_dict()[name]) for name, values in network(seed=1).state_dict().items())
    assert metadata == {"epoch": "3"}
    assert os.listdir(tmp_path) == ["best.safetensors"]


def test_channels_last_and_shared_tensors_are_saved_by_value(tmp_path):
    shared = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    plain = shared.contiguous()
    weights.save({"one": shared, "two": shared, "three": plain, "four": plain[:, 1:]}, tmp_path / "w.safetensors")
    tensors, _ = weights.load(tmp_path / "w.safetensors")
    assert torch.equal(tensors["one"], shared)
    assert torch.equal(tensors["two"], shared)
    assert torch.equal(tensors["three"], plain)
    assert torch.equal(tensors["four"], plain[:, 1:])


def test_a_missing_file_and_a_damaged_one_are_reported(tmp_path):
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "w.safetensors")
    assert str(caught.value) == f"{tmp_path}/w.safetensors: there is no such weights file."
    path = tmp_path / "w.safetensors"
    weights.save({"x": torch.zeros(100)}, path)
    for damaged in (path.read_bytes()[:-1], b"", b"not a safetensors file at all"):
        path.write_bytes(damaged)
        with pytest.raises(
            WeightsError, match=r"w\.safetensors: this is not a complete safetensors file \(.*Use another copy of it\."
        ):
            weights.load(path)


def test_every_layer_that_does_not_fit_is_named():
    given = network("conv(4, 5), norm, relu, globalpool, linear(classes, name='head')", num_classes=5).state_dict()
    given["norm1.num_batches_tracked"] = torch.tensor(0.5)
    ours = network()
    before = {name: values.clone() for name, values in ours.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        weights.fit_weights(ours, given)
    assert str(caught.value) == (
        "the weights do not match the network. 6 mistakes:\n"
        "  - conv1.weight is 4 x 1 x 5 x 5 in the weights and 4 x 1 x 3 x 3 in the network.\n"
        "  - norm1.num_batches_tracked is float32 in the weights and int64 in the network.\n"
        "  - linear1.weight (3 x 4) is missing from the weights.\n"
        "  - linear1.bias (3) is missing from the weights.\n"
        "  - head.weight is in the weights, and the network has no such layer. Was it 'linear1.weight'?\n"
        "  - head.bias is in the weights, and the network has no such layer. Was it 'linear1.bias'?"
    )
    assert all(torch.equal(values, ours.state_dict()[name]) for name, values in before.items())


def test_many_layers_that_do_not_fit_are_counted():
    with pytest.raises(WeightsError) as caught:
        weights.fit_weights(network("9 * [conv(4, 1), norm], globalpool, linear(classes)"), {})
    assert str(caught.value).splitlines()[0] == "the weights do not match the network. 56 mistakes; the first 10:"
