"""The reference of layers is true: its formulas agree with the layers and with PyTorch, and its PyTorch code computes the same."""

from __future__ import annotations

import ast
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tests.docs import formula_values
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visus.design import LAYERS, Concat, Layer, Repeat, Residual, Sequence, parse
from visus.design.items import Item
from visus.errors import DesignError
from visus.networks import build

GROUPS: tuple[type[Item], ...] = (Sequence, Repeat, Residual, Concat)
MORE = {  # further arguments of the layers that have some
    "conv": [
        "conv(6, 2, stride=2, groups=2, bias=False)",
        "conv(4, 4, padding='same', dilation=2)",
        "conv(8, 3, 2, 2, 2, 4)",
    ],
    "depthwise": ["depthwise(2, stride=2, padding=1, depth_multiplier=3, bias=False)", "depthwise(4, padding='same')"],
    "whiten": ["whiten(3, stride=2, padding=1)", "whiten(2, padding='same')"],
    "transposed": ["transposed(6, 3, 3, 1, output_padding=2)", "transposed(3, 2, stride=2, dilation=3, bias=False)"],
    "maxpool": ["maxpool(3, stride=2, padding=1)", "maxpool(3, stride=2, ceil_mode=True)", "maxpool(2, 3, 1, True)"],
    "avgpool": ["avgpool(3, stride=1, padding=1)", "avgpool(3, stride=2)"],
    "blurpool": ["blurpool(4, stride=1)", "blurpool(5, stride=3)"],
    "upsample": ["upsample(3)", "upsample(2, mode='linear')", "upsample(3, mode='linear')", "upsample(1, mode='linear')"],
    "globalpool": ["globalpool('max')"],
    "norm": ["norm(eps=0.1)"],
    "groupnorm": ["groupnorm(2)", "groupnorm(8)"],
    "leakyrelu": ["leakyrelu(0.3)"],
    "elu": ["elu(0.5)"],
    "se": ["se(3, activation='silu', scale_activation='hardsigmoid')"],
    "scale": ["scale(0.5)"],
    "linear": ["linear(7, bias=False)"],
    "dropout": ["dropout(0.1)"],
    "droppath": ["droppath(0.5)"],
}
OUTSIDE = {"maxpool": "never", "blurpool": "mirrored", "upsample": "continued"}
SHAPES = ((8, 11), (8, 9, 10), (4, 7, 6, 8))
MIN_TRIES = 3
SEED = 5


def in_example(word: str) -> str:
    """The layer as it is written in its own example."""
    nodes = [
        node
        for top in parse(LAYERS[word].reference.example).place(LAYERS[word].reference.input_shape)
        for node in top.walk()
    ]
    return next(node.layer.text for node in nodes if node.layer.word == word)


def cases() -> list[tuple[str, tuple[int, ...]]]:
    """(text of a layer, shape of an input that it accepts), several for each layer."""
    found = []
    for word in sorted(LAYERS):
        shapes = [(8,), (5,), (64,)] if word == "linear" else [*SHAPES, (8,)]
        tried = [
            (text, shape) for text in (in_example(word), *MORE.get(word, ())) for shape in shapes if accepts(text, shape)
        ]
        assert len(tried) >= MIN_TRIES, word
        found += tried
    return found


def accepts(text: str, shape: tuple[int, ...]) -> bool:
    try:
        parse(text).place(shape)
    except DesignError:
        return False
    return True


def layer_of(text: str, shape: tuple[int, ...]) -> Layer:
    """The layer with its undecided arguments decided."""
    layer = parse(text).place(shape)[0].layer
    assert isinstance(layer, Layer)
    return layer


every_case = pytest.mark.parametrize(("text", "shape"), cases())


@every_case
def test_formulas_of_shape_and_costs_agree_with_the_layer_and_with_pytorch(text: str, shape: tuple[int, ...]) -> None:
    layer, module = layer_of(text, shape), build(parse(text), shape)
    expected = tuple(module(torch.zeros(2, *shape)).shape[1:])
    assert formula_values.output_shape(layer, shape) == layer.output_shape(shape) == expected
    num_parameters = sum(each.numel() for each in module.parameters() if each.requires_grad)
    formula = layer.reference.parameters
    assert formula_values.cost(formula, layer, shape) == layer.num_parameters(shape) == num_parameters
    assert formula_values.cost(layer.reference.macs, layer, shape) == layer.macs(shape)


@every_case
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_pytorch_code_computes_the_same_at_the_same_cost(text: str, shape: tuple[int, ...]) -> None:
    module, layer = built(text, shape), layer_of(text, shape)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        found = run_code(layer.torch_code(shape), module, x)
    torch.manual_seed(SEED)
    expected = module(x)
    assert found.output.shape[1:] == expected.shape[1:] == formula_values.output_shape(layer, shape)
    assert torch.allclose(found.output, expected, atol=1e-5)
    assert found.num_parameters == formula_values.cost(layer.reference.parameters, layer, shape)
    assert counter.get_total_flops() == 2 * len(x) * formula_values.cost(layer.reference.macs, layer, shape)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.word)
def test_pytorch_code_of_a_group_computes_the_same(group: type[Item]) -> None:
    reference = group.reference
    module = built(reference.example, reference.input_shape)
    x = torch.randn(4, *reference.input_shape, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        found = run_code(reference.twin.strip(), module, x)
    assert found.output.shape == module(x).shape
    assert torch.allclose(found.output, module(x), atol=1e-5)
    nodes = parse(reference.example).place(reference.input_shape)
    assert found.num_parameters == sum(node.num_parameters for node in nodes)
    assert counter.get_total_flops() == 2 * len(x) * sum(node.macs for node in nodes)


@pytest.mark.parametrize(("text", "shape"), [case for case in cases() if len(case[1]) <= 2])
def test_formula_computes_what_the_built_layer_computes(text: str, shape: tuple[int, ...]) -> None:
    layer = layer_of(text, shape)
    if layer.word == "transposed" and layer.groups > 1:
        pytest.skip("the formula is for one group")
    features = len(shape) == 1 and layer.word not in ("linear",)
    shape = (shape[0], 1) if features and accepts(text, (shape[0], 1)) else shape
    module = built(text, shape)
    x = 4 * torch.randn(5, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.manual_seed(2)
    y = module.double()(x).detach().numpy()
    formula = layer.reference.computes
    if formula.startswith("y ="):
        check_each_value(formula, layer, x.numpy(), y)
        return
    names = formula_values.arguments_of(layer, 1, 0) | weights_of(layer, module, y)
    ranges = {
        "c": shape[0],
        "o": y.shape[1],
        "q": y.shape[-1] if layer.reference.length else shape[-1],
        "s": names.get("squeeze_channels", 0),
    }
    names |= {"C_in": shape[0], "L_in": shape[-1], "group": lambda channel: group_of(layer, shape[0], channel)}
    if formula.startswith("y[n"):
        names |= {"x": formula_values.Values(x.numpy()), "keep": kept(layer.word, y)}
        check_table(formula_values.evaluate(formula, names, ranges | {"n": len(x)}), y)
        return
    if isinstance(names.get("padding"), str):
        names["padding"] = names.get("dilation", 1) * (names["kernel_size"] - 1) // 2
    samples, outputs = x.numpy(), y
    if layer.word == "softmax":  # at each position
        samples, outputs = (values.swapaxes(1, 2).reshape(-1, shape[0]) for values in (samples, outputs))
    for sample, expected in zip(samples, outputs, strict=True):
        names |= {"x": formula_values.Values(sample, OUTSIDE.get(layer.word, "zero")), "C_out": ranges["o"]}
        check_table(formula_values.evaluate(formula, names, ranges), expected)


def check_each_value(formula: str, layer: Layer, x: np.ndarray, y: np.ndarray) -> None:
    """The formula of an activation, at values near and far from zero."""
    names: dict[str, Any] = formula_values.functions() | {name: getattr(math, name) for name in ("exp", "sqrt", "erf")}
    names |= vars(layer)
    for given, expected in zip(x.ravel(), y.ravel(), strict=True):
        local = names | {"x": float(given)}
        exec(formula, local)
        assert local["y"] == pytest.approx(expected, abs=1e-9)


def check_table(found: formula_values.Table, expected: np.ndarray) -> None:
    assert len(found) == expected.size
    for key, value in found.items():
        assert value == pytest.approx(expected[key], abs=1e-6)


def kept(word: str, y: np.ndarray) -> np.ndarray:
    """What dropout and droppath drew, read from the output."""
    drawn = y != 0
    return drawn.any(axis=(1, 2)) if word == "droppath" else drawn


def group_of(layer: Layer, channels: int, channel: int) -> slice:
    size = channels // getattr(layer, "num_groups", 1) if layer.word == "groupnorm" else channels
    return slice(channel // size * size, channel // size * size + size)


def weights_of(layer: Layer, module: nn.Module, y: np.ndarray) -> dict[str, Any]:
    """The weights of a built layer by their names in the formula; a missing bias is zero."""
    values: dict[str, Any] = {name.rpartition(".")[2]: value.detach().numpy() for name, value in module.state_dict().items()}
    values = {name: value for name, value in values.items() if value.ndim}
    if layer.word == "depthwise":
        values["weight"] = values["weight"][:, 0]
    if layer.word == "se":
        functions = {
            "relu": lambda x: max(0.0, x),
            "silu": lambda x: x / (1 + math.exp(-x)),
            "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
            "hardsigmoid": lambda x: min(max(0.0, x + 3), 6) / 6,
        }
        values |= {name: functions[getattr(layer, name)] for name in ("activation", "scale_activation")}
    if "bias" not in values:
        values["bias"] = np.zeros(y.shape[1])
    return values


def test_the_mean_of_a_cut_window_is_over_the_positions_up_to_its_end() -> None:
    values = torch.arange(1.0, 7.0).reshape(1, 1, 6)
    pooled = build(parse("avgpool(3, stride=2, ceil_mode=True)"), (1, 6))(values)
    assert pooled[0, 0, -1].item() == (5 + 6) / 2


def test_dropout_and_droppath_drop_with_their_probability() -> None:
    x = torch.ones(4000, 2, 3)
    torch.manual_seed(0)
    share = (build(parse("dropout(0.3)"), (2, 3))(x) == 0).double().mean().item()
    samples = build(parse("droppath(0.3)"), (2, 3))(x).sum((1, 2)) == 0
    assert share == pytest.approx(0.3, abs=0.02)
    assert samples.double().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("word", ["dropout", "droppath"])
def test_a_layer_that_drops_returns_its_input_outside_training(word: str) -> None:
    x = torch.randn(3, 4, 5)
    assert torch.equal(build(parse(word), (4, 5)).eval()(x), x)


def built(text: str, shape: tuple[int, ...]) -> nn.Module:
    """The network in training, with random weights and biases."""
    module = build(parse(text), shape)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and "running" not in name:
                value.normal_(generator=generator)
    return module


class Ran(NamedTuple):
    """What PyTorch code computed, and how many trained values its names have."""

    output: torch.Tensor
    num_parameters: int


def run_code(code: str, module: nn.Module, x: torch.Tensor) -> Ran:
    """Execute PyTorch code on ``x``, with the weights of ``module`` and the random numbers of one seed.

    A single expression is a module; otherwise the last line computes ``y`` from the names before it.
    """
    is_module = not code.rpartition("\n")[2].startswith("y = ")
    *definitions, result = ast.parse(f"layer = {code}\ny = layer(x)" if is_module else code).body
    names: dict[str, Any] = {"torch": torch, "x": x}
    torch.manual_seed(SEED)
    exec(compile(ast.Module(definitions, []), "code", "exec"), names)
    parts = nn.ModuleList([each for each in names.values() if isinstance(each, nn.Module)])
    own = [each for each in names.values() if isinstance(each, nn.Parameter)]
    if "layer" in names:
        names["layer"].load_state_dict({name.rpartition(".")[2]: value for name, value in module.state_dict().items()})
        torch.manual_seed(SEED)
    else:
        with torch.no_grad():
            for twin, value in zip((*parts.parameters(), *own), module.parameters(), strict=True):
                twin.copy_(value.reshape(twin.shape))
    exec(compile(ast.Module([result], []), "code", "exec"), names)
    return Ran(names["y"], sum(value.numel() for value in (*parts.parameters(), *own) if value.requires_grad))
