"""Saliency of modules as people have them: of any dtype, with several outputs, recurrent, compiled, in any mode; right, or one sentence."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import networks_to_look_into as networks
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.examine import activations, deletion_and_insertion, grad_cam, gradient_saliency, integrated_gradients, occlusion
from visus.examine.layer_outputs import first_tensor, is_activation, with_first
from visus.examine.saliency_types import Saliency
from visus.workbench.look.looking import look

METHODS: dict[str, Callable[..., Saliency]] = {
    "grad-cam": grad_cam,
    "gradient": gradient_saliency,
    "integrated gradients": lambda *each: integrated_gradients(*each, steps=4),
    "occlusion": lambda *each: occlusion(*each, window=6),
}
Two = namedtuple("Two", ["features", "logits"])


def plain(shape: tuple[int, ...] = (2, 12, 12)) -> nn.Module:
    return networks.designed("conv(6, 3), relu, maxpool(2), conv(6, 3), relu, globalpool, linear(3)", shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_module_of_any_dtype_returns_float32_maps_near_those_of_float32(method: str, dtype: torch.dtype) -> None:
    pytest.importorskip("captum")
    module, samples = plain(), networks.noise(2, 2, 12, 12)
    expected = METHODS[method](module, samples, [0, 1])
    module.to(dtype)
    for given in (samples, samples.to(dtype)):
        found = METHODS[method](module, given, [0, 1])
        assert found.map.dtype == found.scores.dtype == np.float32
        assert np.corrcoef(found.map.ravel(), expected.map.ravel())[0, 1] > 0.95  # rounding changes which pixel a pool takes
    curves = deletion_and_insertion(module, samples, found, steps=4)
    assert curves.deletion[0] == pytest.approx(curves.insertion[-1])


def test_the_dtype_is_that_of_the_first_layer_with_weights() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.conv = nn.Parameter(torch.ones(())), nn.Conv2d(1, 4, 3).half()

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).float().mean((2, 3)) * self.scale

    assert gradient_saliency(Scaled(), torch.rand(1, 1, 6, 6)).map.dtype == np.float32


def outputs(kind: str) -> Callable[[Tensor, Tensor], Any]:
    kinds: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "tuple": lambda logits, maps: (logits, maps),
        "maps first": lambda logits, maps: [maps, {"logits": logits}],
        "dictionary": lambda logits, maps: {"maps": maps, "logits": logits},
        "named tuple": lambda logits, maps: Two(maps, logits),
    }
    return kinds[kind]


class Several(nn.Module):
    """Returns its maps beside its classes."""

    def __init__(self, build: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.act, self.head, self.build = nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Linear(5, 3), build

    def forward(self, x: Tensor) -> Any:
        maps = self.act(self.conv(x))
        return self.build(self.head(maps.mean((2, 3))), maps)


@pytest.mark.parametrize("kind", ["tuple", "maps first", "dictionary", "named tuple"])
@pytest.mark.parametrize("method", METHODS)
def test_classes_are_read_from_the_first_tensor_of_samples_and_classes(method: str, kind: str) -> None:
    pytest.importorskip("captum")
    torch.manual_seed(0)
    several, samples = Several(outputs(kind)).eval(), networks.noise(2, 2, 9, 9)
    alone = Several(lambda logits, maps: logits).eval()
    alone.load_state_dict(several.state_dict())
    found, expected = METHODS[method](several, samples), METHODS[method](alone, samples)
    np.testing.assert_allclose(found.map, expected.map, atol=1e-6)
    number = 1 if kind == "tuple" else 2
    note = f"The module returns 2 tensors; the class scores are number {number}, the first of shape (samples, classes)."
    assert found.notes[-1:] == (note,)
    assert expected.notes == ()
    assert deletion_and_insertion(several, samples, found, steps=2).deletion[0] > 0


def test_a_look_says_which_output_is_read() -> None:
    torch.manual_seed(0)
    found = look(Several(outputs("maps first")), torch.rand(2, 9, 9))
    assert found.facts.answer is not None
    assert found.facts.answer.note in found.page()


class Recurrent(nn.Module):
    """Convolution, a recurrent layer, and its last step or the mean of all."""

    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv1d(1, 8, 3, padding=1), nn.ReLU(), nn.Linear(6, 2)
        self.steps, self.batch_first = kind(8, 6, batch_first=batch_first), batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)).transpose(1, 2)
        x = self.steps(x if self.batch_first else x.transpose(0, 1))[0]
        return self.head(x.mean(1 if self.batch_first else 0))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_keeps_its_tuple_and_its_steps(kind: type[nn.RNNBase], batch_first: bool) -> None:
    torch.manual_seed(0)
    module = Recurrent(kind, batch_first=batch_first).eval()
    for count in (1, 2, 3):
        samples = networks.noise(count, 1, 16)
        found = grad_cam(module, samples)
        assert (found.layer, found.map.shape) == ("act", (count, 16))
        of_steps = grad_cam(module, samples, found.target, layer="steps")
        assert of_steps.layer_map is not None
        assert of_steps.layer_map.shape == (count, 16)
        np.testing.assert_allclose(of_steps.scores, found.scores, atol=1e-6)
    seen = activations(module, samples)
    assert seen["steps"].shape == (6, 16)
    assert seen["steps"].values is not None
    with torch.no_grad():
        raw = module.steps(module.act(module.conv(samples)).permute((0, 2, 1) if batch_first else (2, 0, 1)))[0]
    np.testing.assert_allclose(seen["steps"].values, raw.permute((0, 2, 1) if batch_first else (1, 2, 0)).numpy(), atol=1e-6)


def test_a_pool_that_returns_its_indices_keeps_them() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.back = (
                nn.Conv2d(1, 4, 3, padding=1),
                nn.MaxPool2d(2, return_indices=True),
                nn.MaxUnpool2d(2),
            )
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            values, indices = self.pool(torch.relu(self.conv(x)))
            return self.head(self.back(values, indices).mean((2, 3)))

    torch.manual_seed(0)
    module = Pooled().eval()
    for count in (1, 2, 3):
        found = grad_cam(module, networks.noise(count, 1, 12, 12), layer="pool")
        assert found.map.shape == (count, 12, 12)
        assert float(found.map.max()) > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_they_are_off(context: Any, method: str) -> None:
    pytest.importorskip("captum")
    module = plain()
    expected = METHODS[method](module, networks.noise(2, 2, 12, 12))
    with context():
        found = METHODS[method](module, networks.noise(2, 2, 12, 12))
        curves = deletion_and_insertion(module, networks.noise(2, 2, 12, 12), found, steps=2)
        assert torch.is_grad_enabled() is False
    np.testing.assert_allclose(found.map, expected.map, atol=1e-6)
    assert len(curves.shares) == 3


def test_a_module_built_in_inference_mode_is_explained() -> None:
    with torch.inference_mode():
        module = plain()
    samples = networks.noise(1, 2, 12, 12)
    np.testing.assert_allclose(grad_cam(module, samples).map, grad_cam(plain(), samples).map, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_returns_what_its_samples_give_one_by_one(method: str) -> None:
    pytest.importorskip("captum")
    module, samples = plain(), networks.noise(3, 2, 12, 12)
    together = METHODS[method](module, samples, [0, 1, 2])
    for place in range(3):
        alone = METHODS[method](module, samples[place : place + 1], place)
        np.testing.assert_allclose(together.map[place], alone.map[0], atol=1e-5 * max(1.0, float(np.abs(alone.map).max())))


def test_mode_gradients_hooks_and_inputs_are_as_before() -> None:
    module, samples = plain(), networks.noise(2, 2, 12, 12).requires_grad_(True)
    module.train()
    module[0].eval() if isinstance(module, nn.Sequential) else None
    modes = [part.training for part in module.modules()]
    first = next(iter(module.parameters())).requires_grad_(False)
    hooked: list[int] = []
    handle = next(part for part in module.modules() if isinstance(part, nn.Conv2d)).register_forward_hook(
        lambda *_: hooked.append(1)
    )
    for method in (grad_cam, gradient_saliency):
        method(module, samples)
    handle.remove()
    assert hooked
    assert [part.training for part in module.modules()] == modes
    assert not first.requires_grad
    assert all(each.requires_grad for each in list(module.parameters())[1:])
    assert samples.requires_grad
    assert samples.grad is None
    assert all(each.grad is None for each in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.long
def test_a_compiled_module_and_a_compiled_part_are_run_as_they_are_written() -> None:
    samples = networks.noise(1, 2, 12, 12)
    expected = grad_cam(plain(), samples)
    whole = torch.compile(plain(), backend="eager")
    in_place = plain()
    in_place.compile(backend="eager")
    for module in (whole, in_place):
        with torch.no_grad():
            module(samples)
        np.testing.assert_allclose(grad_cam(module, samples).map, expected.map, atol=1e-6)
    assert in_place._compiled_call_impl is not None
    body = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU())
    part = nn.Sequential(torch.compile(body, backend="eager"), nn.Flatten(), nn.Linear(500, 3))
    with torch.no_grad():
        part(samples)
    found = grad_cam(part, samples)
    assert found.layer == "0._orig_mod.1"
    assert found.notes == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_module_is_refused_in_one_sentence() -> None:
    module = torch.jit.trace(plain(), torch.zeros(1, 2, 12, 12))
    with pytest.raises(UsageError) as told:
        grad_cam(module, networks.noise(1, 2, 12, 12))
    assert str(told.value) == (
        "a TorchScript module runs outside of Python, so its layers take no hooks. Give the Python module that it was made from."
    )


def test_lazy_weights_are_reported_with_their_place() -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(UsageError) as told:
        grad_cam(module, torch.rand(1, 1, 8, 8))
    assert str(told.value) == (
        "0.weight: its weights have no shape before the first forward pass. Run the module once on a sample first."
    )
    assert look(module, torch.rand(1, 8, 8)).layers


def test_a_norm_over_channels_first_is_reported_from_one_over_the_last_dimension() -> None:
    class ChannelsFirst(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    module = nn.Sequential(nn.Conv2d(1, 4, 3), ChannelsFirst(4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 64, 2)).eval()
    assert activations(module, networks.noise(1, 1, 10, 10))["1"].shape == (4, 8, 8)
    assert grad_cam(module, networks.noise(1, 1, 10, 10)).layer_map.shape == (1, 8, 8)  # type: ignore[union-attr]


def test_the_first_tensor_is_changed_in_outputs_of_every_build() -> None:
    one, two = torch.zeros(2), torch.ones(2)
    for output in (one, (one, 3), [[], one], {"a": None, "b": one}, Two("text", one), ((one, one), one)):
        changed = with_first(output, two)
        assert type(changed) is type(output)
        assert first_tensor(changed) is two
        assert first_tensor(output) is one


def test_activations_are_reported_from_other_layers() -> None:
    class Swishy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    class GELUTanh(Swishy):
        pass

    assert all(is_activation(each) for each in (nn.ReLU(), nn.PReLU(), nn.SiLU(), GELUTanh(), Swishy()))
    assert not any(
        is_activation(each) for each in (nn.Softmax(1), nn.Conv2d(1, 1, 1), nn.Identity(), nn.MaxPool2d(2), nn.Dropout())
    )
