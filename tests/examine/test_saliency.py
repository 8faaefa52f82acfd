"""Saliency: the methods against their definitions and against captum, and nothing outside of what a unit can see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from torch import nn

from visus.errors import MissingExtraError, UsageError
from visus.examine import Unit, activations, grad_cam, gradient_saliency, integrated_gradients, occlusion, share_outside

SMALL = (
    "conv(6, 3, padding=1), norm, relu, conv(8, 3, stride=2, padding=1), norm, relu, conv(8, 3), relu, globalpool, linear(4)"
)


def small(shape: tuple[int, ...] = (2, 14, 13)) -> nn.Module:
    return networks.designed(SMALL, shape, 4)


def unit_of_every_layer(module: nn.Module, shape: tuple[int, ...]) -> list[Unit]:
    """In each layer with a map the unit that is highest in the first sample, so that its gate is open."""
    units = []
    for each in activations(module, networks.noise(1, *shape)).layers:
        assert each.values is not None
        if len(each.shape) == len(shape):
            place = np.unravel_index(int(each.values[0].argmax()), each.shape)
            units.append(Unit(each.path, int(place[0]), tuple(int(index) for index in place[1:])))
    return units


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (small, (2, 14, 13)),
        (networks.u_net, (1, 16, 16)),
        (lambda: small((2, 25)), (2, 25)),
        (lambda: small((2, 9, 9, 9)), (2, 9, 9, 9)),
        (networks.twice, (2, 8, 8)),
    ],
    ids=["image", "u-net", "signal", "volume", "twice"],
)
def test_no_map_of_a_unit_has_anything_outside_its_box(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    pytest.importorskip("captum")
    module, samples = make(), networks.noise(1, *shape)
    num_partial = 0
    for unit in unit_of_every_layer(module, shape):
        maps = [
            gradient_saliency(module, samples, unit),
            integrated_gradients(module, samples, unit, steps=3),
            occlusion(module, samples, unit, window=3, stride=2),
        ]
        if unit.layer not in {"conv1", "fine.0", "conv"}:
            maps.append(grad_cam(module, samples, unit))
        for each in maps:
            assert each.outside_box == 0.0, (each.method, unit)
            assert each.box is not None
            num_partial += np.prod([last - first + 1 for first, last in each.box]) < np.prod(shape[1:])
        assert np.abs(maps[0].map).sum() > 0, "there is a map at all"
    assert num_partial > 0


def test_the_gradient_is_that_of_the_module() -> None:
    module, samples = small(), networks.noise(3, 2, 14, 13)
    x = samples.clone().requires_grad_(True)
    scores = module(x)[torch.arange(3), torch.tensor([0, 3, 2])]
    (expected,) = torch.autograd.grad(scores.sum(), x)
    found = gradient_saliency(module, samples, (0, 3, 2))
    np.testing.assert_allclose(found.values, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.map, expected.abs().amax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.scores, scores.detach().numpy(), atol=1e-6)
    assert found.target == (0, 3, 2)
    assert all(values.requires_grad for values in module.parameters())


def test_without_a_target_the_modules_own_answer_is_explained() -> None:
    module, samples = small(), networks.noise(5, 2, 14, 13)
    with torch.no_grad():
        answers = tuple(module(samples).argmax(1).tolist())
    assert gradient_saliency(module, samples).target == grad_cam(module, samples).target == answers


def test_grad_cam_equals_captums() -> None:
    attr = pytest.importorskip("captum.attr")
    module, samples = small(), networks.noise(3, 2, 14, 13)
    for layer in ("relu2", "conv2", "relu3"):
        found = grad_cam(module, samples, 1, layer=layer)
        theirs = attr.LayerGradCam(module, module.get_submodule(layer)).attribute(
            samples.clone().requires_grad_(True), target=1, relu_attributions=True
        )
        np.testing.assert_allclose(found.layer_map, theirs.detach().numpy()[:, 0], atol=1e-6)
        assert (found.layer, found.reason, found.clipped_share) == (layer, "", 0.0)


def test_grad_cam_chooses_the_last_layer_with_more_than_one_place_and_says_why() -> None:
    module, samples = small(), networks.noise(2, 2, 14, 13)
    found = grad_cam(module, samples, 2)
    assert found.reason == ("'relu3' is the last layer after an activation whose map has more than one position (5 x 5).")
    np.testing.assert_allclose(found.layer_map, grad_cam(module, samples, 2, layer="relu3").layer_map, atol=1e-7)
    of_unit = grad_cam(module, samples, Unit("conv3", 1, (0, 0)))
    assert of_unit.layer == "relu2"
    assert of_unit.reason.startswith(
        "'relu2' is the last layer before 'conv3' after an activation whose map has more than one position (7 x 7)."
    )
    assert of_unit.clipped_share > 0, "the map was cut off where the unit cannot see"


def test_grad_cam_runs_the_module_once_on_the_samples() -> None:
    module, calls = small(), []
    module.get_submodule("conv1").register_forward_hook(lambda layer, args, output: calls.append(output.device.type))
    grad_cam(module, networks.noise(1, 2, 14, 13))
    assert calls.count("cpu") == 1, "the trace runs on tensors without data"


def test_integrated_gradients_add_up_to_the_change_of_the_score() -> None:
    pytest.importorskip("captum")
    module, samples = small(), networks.noise(2, 2, 14, 13)
    found = integrated_gradients(module, samples, (1, 2), steps=64)
    with torch.no_grad():
        plain = module(torch.zeros(1, 2, 14, 13))[0, [1, 2]].numpy()
    assert found.values is not None
    assert found.convergence_delta is not None
    np.testing.assert_allclose(found.values.sum((1, 2, 3)), found.scores - plain + found.convergence_delta, atol=1e-4)
    assert np.abs(found.convergence_delta).max() < 0.05 * np.abs(found.scores - plain).max() + 0.05
    np.testing.assert_allclose(found.map, found.values.sum(1), atol=1e-6)


def test_occlusion_is_the_fall_of_the_score() -> None:
    pytest.importorskip("captum")
    module, samples = small(), networks.noise(2, 2, 14, 13)
    found = occlusion(module, samples, (1, 2), window=(7, 13), stride=(7, 13))
    for sample, target in enumerate((1, 2)):
        for rows in (slice(0, 7), slice(7, 14)):
            blotted = samples[sample : sample + 1].clone()
            blotted[:, :, rows] = 0
            with torch.no_grad():
                fall = float(module(samples[sample : sample + 1])[0, target] - module(blotted)[0, target])
            np.testing.assert_allclose(found.values[sample, :, rows], fall, atol=1e-5)  # type: ignore[index]


def test_a_unit_that_reads_padding_alone_has_an_empty_map() -> None:
    pytest.importorskip("captum")
    module, unit = nn.Conv2d(1, 1, 1, padding=1), Unit("", 0, (0, 0))
    for method in (gradient_saliency, integrated_gradients, occlusion):
        found = method(module, networks.noise(1, 1, 4, 4), unit)
        assert (found.box, found.outside_box, float(np.abs(found.map).sum())) == (None, 0.0, 0.0)


def test_outside_share_reports_what_spills() -> None:
    maps = np.zeros((1, 4, 4))
    maps[0, 0, 0], maps[0, 2, 2] = -1, 3
    assert share_outside(maps, ((1, 3), (1, 3))) == 0.25
    assert share_outside(maps, None) == 1.0
    assert share_outside(0 * maps, None) == 0.0


def test_without_captum_the_pip_line_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    for method in (integrated_gradients, occlusion):
        with pytest.raises(MissingExtraError) as told:
            method(small(), networks.noise(1, 2, 14, 13))
        assert str(told.value) == (
            "integrated gradients and occlusion need the package captum, which is not installed. "
            "Install it with: pip install 'captum>=0.8' 'scipy>=1.13'"
        )
    assert grad_cam(small(), networks.noise(1, 2, 14, 13)).map.shape == (1, 14, 13)


def test_mistakes_are_reported() -> None:
    pytest.importorskip("captum")
    module, samples = small(), networks.noise(2, 2, 14, 13)
    for call, sentence in (
        (
            lambda: gradient_saliency(module, samples, 4),
            "there are 4 classes, counted from 0; class 4 does not exist.",
        ),
        (
            lambda: gradient_saliency(module, samples, [1, 2, 3]),
            "3 classes were given for 2 samples: give one class, or one for each sample.",
        ),
        (
            lambda: gradient_saliency(networks.u_net(), networks.noise(1, 1, 8, 8)),
            "a class needs a module that returns (samples, classes), and this one returns a tensor of shape (1, 4, 8, 8). Give a Unit as target.",
        ),
        (
            lambda: gradient_saliency(module, samples, Unit("relu4", 0)),
            "unknown layer 'relu4'. Did you mean 'relu3'? Known: conv1, conv2, conv3, globalpool1, linear1, norm1, norm2, relu1, relu2, relu3.",
        ),
        (
            lambda: grad_cam(module, samples, Unit("relu4", 0)),
            "unknown layer 'relu4'. Did you mean 'relu3'? Known: conv1, conv2, conv3, globalpool1, linear1, norm1, norm2, relu1, relu2, relu3.",
        ),
        (
            lambda: grad_cam(module, samples, layer="relu"),
            "unknown layer 'relu'. Did you mean 'relu3'? Known: conv1, conv2, conv3, globalpool1, linear1, norm1, norm2, relu1, relu2, relu3.",
        ),
        (
            lambda: grad_cam(module, samples, layer="linear1"),
            "linear1: Grad-CAM needs a feature map, and the output of this layer has the shape (4,).",
        ),
        (
            lambda: grad_cam(module, samples, Unit("relu1", 0), layer="relu2"),
            "the layer 'relu2' does not come before 'relu1', whose unit is the target. Choose an earlier one.",
        ),
        (
            lambda: grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), networks.noise(1, 2, 2, 2)),
            "Grad-CAM needs a layer whose map has more than one position, and there is none here. Use gradient_saliency.",
        ),
        (
            lambda: grad_cam(
                nn.Sequential(nn.Flatten(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)), networks.noise(1, 2, 2, 2), layer="1"
            ),
            "a 1-D map does not fit a 2-D input. Choose a layer whose map has 2 axes.",
        ),
        (lambda: integrated_gradients(module, samples, steps=0), "integrated gradients need at least 1 step, not 0."),
        (lambda: occlusion(module, samples, window=(20, 3)), "window must be from 1 to 14 x 13, and is 20 x 3."),
        (lambda: occlusion(module, samples, window=3, stride=4), "stride must be from 1 to 3 x 3, and is 4 x 4."),
    ):
        with pytest.raises(UsageError) as told:
            call()
        assert str(told.value) == sentence


def test_one_sample_without_its_samples_axis_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(UsageError) as told:
        grad_cam(module, torch.zeros(3, 8, 8))
    assert str(told.value) == "these inputs of shape (3, 8, 8) are one sample without a batch axis. Give inputs[None]."


@pytest.mark.slow
def test_loading_captum_in_a_notebook_without_ipywidgets_warns_of_nothing() -> None:
    pytest.importorskip("captum")
    notebook = """
import sys, types
for name in ("IPython", "ipykernel.zmqshell"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["IPython"].get_ipython = lambda: None
sys.modules["ipywidgets"] = None
from visus.examine.saliency import _captum
_captum()
assert "tqdm.auto" in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", notebook], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "IProgress" not in done.stderr
