"""Advice: the exact text for each kind of waste, and beside each text a law that finds its numbers in another way.

The other way is PyTorch: modules that are built and run, pixels that are poisoned one after another, parameters that are counted.
"""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from torch import nn

from visus.design import FAMILIES, account, parse, resolve_network
from visus.design.account import Account
from visus.design.advice.advise import KINDS, MODULE_KINDS, advise
from visus.design.advice.cost import limited_output
from visus.design.advice.receptive_field import unproductive
from visus.design.facts import Facts
from visus.design.layers.registry import Conv
from visus.design.rewrite import with_window
from visus.networks.build import build
from visus.units import write_count
from visus.workbench.modules import count_macs
from visus.workbench.summaries import summarize

from .poison import pixels_that_matter

WASTEFUL = {
    "border": (
        "conv(4, 3, padding=1), relu, maxpool(2), conv(8, 3, padding=1), relu, globalpool, linear(classes)",
        (1, 15, 15),
        None,
        "pool1: (15 - 2 + 2*0)/2 + 1 = 7.5, rounded down to 7, so no window reads the last position of 15 on each axis: 29 of 225 positions (12.9 %) are never read. Set ceil_mode=True: a map of 8 x 8, 26.6 k multiply-adds; or set padding=1: a map of 8 x 8, 26.6 k multiply-adds; or use images of 16 x 16 or 14 x 14.",
    ),
    "stride": (
        "conv(8, 2, stride=4), relu, globalpool, linear(classes)",
        (3, 32, 32),
        None,
        "conv1: a window of 2 with stride 4 skips 2 of every 4 positions: on a map of 32 x 32, 768 of 1,024 positions (75.0 %) are never read. Set kernel_size=4: 482 parameters, 24.7 k multiply-adds; or set stride=2: 194 parameters, 24.7 k multiply-adds.",
    ),
    "gaps in a map": (
        "conv(4, 3, stride=4, dilation=2), relu, globalpool, linear(classes)",
        (3, 32, 32),
        None,
        "conv1: a window of 3 with dilation 2 and stride 4 skips the positions in between: on a map of 32 x 32, 799 of 1,024 positions (78.0 %) are never read. Set kernel_size=4, dilation=1: 246 parameters, 12.3 k multiply-adds.",
    ),
    "gaps in a field": (
        "2 * [conv(8, 3, padding=2, dilation=2), relu], globalpool, linear(classes)",
        (3, 32, 32),
        None,
        "block2.conv1: one position in the middle of the last map has a receptive field of 9 x 9 px and reads 25 of these 81: its windows skip 69.1 % (gridding). Set dilation=1 in block1.conv1: a receptive field of 7 px; or add conv(8, 3, padding=1) after the last map: a receptive field of 11 px, 1.48 k parameters, 1.40 M multiply-adds.",
    ),
    "channels": (
        "conv(32, 3, padding=1), relu, maxpool(2), conv(8, 3, padding=1), relu, globalpool, linear(classes)",
        (3, 32, 32),
        None,
        "conv2: the channels fall from 32 to 8 while the map shrinks from 32 x 32 to 16 x 16: of 32 x 1,024 = 32,768 values per sample, 8 x 256 = 2,048 remain (6.2 %). Use 32 channels from there on: 10.5 k parameters, 3.24 M multiply-adds.",
    ),
    "linear": (
        "conv(8, 3, padding=1), relu, maxpool(2), flatten, linear(64), relu, linear(classes)",
        (1, 28, 28),
        None,
        "linear1: this layer holds 99.3 % of all parameters: 8 x 14 x 14 x 64 = 100,352 weights. With global pooling before it, it has 576 parameters instead of 100 k. Replace flatten1 with globalpool: 101 k to 1.31 k parameters, 57.6 k multiply-adds.",
    ),
    "pool": (
        "conv(8, 8), relu, maxpool(3, stride=1, padding=1), flatten, linear(classes)",
        (1, 8, 8),
        None,
        "pool1: this layer pools a map of 1 x 1: the maximum and the mean of 1 value are that value. Remove it: 610 parameters, 592 multiply-adds.",
    ),
    "softmax": (
        "conv(8, 3), relu, globalpool, linear(classes), softmax",
        (1, 12, 12),
        None,
        "softmax1: the network ends with a softmax, and the cross-entropy loss applies softmax itself: the second softmax maps the probabilities of 10 classes to at most e/(e + 9) = 23.2 %, and the gradient becomes small where a prediction is confident. Remove softmax1, which has no weights.",
    ),
    "norm over a group": (
        "conv(6, 3), relu, globalpool, groupnorm(6), linear(classes)",
        (1, 12, 12),
        None,
        "groupnorm1: 6 channels / 6 groups x 1 position = 1 value in each group. A single value minus its own mean is 0, so the output is the learned bias for every image. Use groupnorm(3), with 2 values in each group: 142 parameters, 5.46 k multiply-adds.",
    ),
    "norm over a batch": (
        "conv(6, 3), relu, globalpool, norm, linear(classes)",
        (1, 12, 12),
        None,
        "norm1: in a batch of 1 sample, each channel is normalized over 1 sample x 1 position = 1 value. A single value minus its own mean is 0, and PyTorch raises an error. Use batches of 2 samples or more; or use layernorm, over 6 channels of each sample: 142 parameters, 5.46 k multiply-adds.",
    ),
    "output": (
        "conv(8, 3), relu, globalpool, linear(classes), sigmoid",
        (3, 32, 32),
        None,
        "sigmoid1: the network ends with a sigmoid, and the cross-entropy loss applies softmax itself: values from 0 to 1 give a class at most e/(e + 9) = 23.2 %. Remove sigmoid1, which has no weights.",
    ),
    "activation": (
        "conv(8, 3, padding=1), norm, conv(16, 3, stride=2, padding=1), relu, globalpool, linear(classes)",
        (3, 16, 16),
        None,
        "conv2: there is no activation between conv1 and this layer, so the two convolutions compute no more than one with a window of 5 x 5 (3 + (3 - 1) x 1 = 5): 3 x 16 x 25 = 1,200 weights instead of 216 + 1,152 = 1,368. Put relu before conv2: 1.57 k parameters, 129 k multiply-adds.",
    ),
    "activation of features": (
        "flatten, linear(32), relu, linear(20), dropout(0.5), linear(classes)",
        (1, 6, 6),
        None,
        "linear3: there is no activation between linear2 and this layer, so the two linear layers compute no more than one: 32 x 10 = 320 weights instead of 640 + 200 = 840. Put relu before linear3: 2.05 k parameters, 1.99 k multiply-adds.",
    ),
    "unproductive": (
        "conv(8, 5, padding=2), relu, 4 * [residual(conv(8, 5, padding=2), norm), relu], globalpool, linear(classes)",
        (1, 8, 8),
        None,
        "block4.residual1.conv1: every position of the input of this layer already sees the whole image of 8 x 8 (receptive field 17 px): this layer cannot add context. It holds 1.60 k parameters (23.7 % of all) and 102 k multiply-adds. From block2.residual1.conv1 on, the middle position sees the whole image (Richter et al. 2021 count these layers too), but the fields of the outermost positions still grow from 5 to 8 px. Use images of 10 x 10: 660 k multiply-adds; or remove block4: 5.15 k parameters, 320 k multiply-adds.",
    ),
    "object": (
        "conv(8, 3, padding=1), relu, maxpool(2), conv(16, 3, padding=1), relu, globalpool, linear(classes)",
        (3, 32, 32),
        14,
        "relu2: the last map has a receptive field of 8 px, 6 less than an object of 14 px: no position sees such an object whole, and a detector cannot find a border that it does not see. Add 2 layers of conv(16, 3, padding=1), norm, relu: 6.23 k parameters, 1.70 M multiply-adds; or resize images to 18 x 18, where the object has 7.88 px.",
    ),
}


BATCHES = {"norm over a batch": 1}  # of so many items; of the other designs nothing depends on it


def advice_on(name):
    text, shape, object_px, _ = WASTEFUL[name]
    design = parse(text)
    return advise(account(design, shape, 10), design, 10, object_px=object_px, batch_size=BATCHES.get(name))


@pytest.mark.parametrize("name", WASTEFUL)
def test_a_wasteful_design_is_reported_so_once_with_its_sum_and_its_remedies(name):
    assert [advice.text for advice in advice_on(name)] == [WASTEFUL[name][3]]


def test_every_kind_has_its_wasteful_design():
    assert {advice_on(name)[0].kind for name in WASTEFUL} == set(KINDS) - set(MODULE_KINDS)


def test_a_design_without_waste_has_no_advice():
    text = "conv(8, 3, padding=1), norm, relu, maxpool(2), conv(16, 3, padding=1), norm, relu, globalpool, linear(classes)"
    assert advise(account(parse(text), (3, 32, 32), 10), parse(text), 10, object_px=8) == ()


def test_advice_as_json_has_four_names():
    (advice,) = advice_on("softmax")
    assert advice.to_json() == {
        "kind": "softmax",
        "path": "softmax1",
        "sentence": advice.sentence,
        "remedies": ["remove softmax1, which has no weights"],
    }


# ---- the numbers of the sentences, found in another way ----


def never_read(text, shape):
    """Of a layer alone: pixels that change nothing, and all pixels, by poisoning."""
    matter = pixels_that_matter(parse(text), shape)
    return int((~matter).sum()), matter.numel()


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("border", "maxpool(2)", (1, 15, 15)),
        ("stride", "conv(8, 2, stride=4)", (3, 32, 32)),
        ("gaps in a map", "conv(4, 3, stride=4, dilation=2)", (3, 32, 32)),
    ],
)
def test_positions_never_read_are_those_that_change_nothing_when_poisoned(name, layer, shape):
    unread, total = never_read(layer, shape)
    assert f"{unread:,} of {total:,} positions ({100 * unread / total:.1f} %) are never read" in WASTEFUL[name][3]


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("border", "maxpool(2, ceil_mode=True)", (1, 15, 15)),
        ("border", "maxpool(2, padding=1)", (1, 15, 15)),
        ("border", "maxpool(2)", (1, 16, 16)),
        ("border", "maxpool(2)", (1, 14, 14)),
        ("stride", "conv(8, 4, stride=4)", (3, 32, 32)),
        ("stride", "conv(8, 2, stride=2)", (3, 32, 32)),
        ("gaps in a map", "conv(4, 4, stride=4)", (3, 32, 32)),
    ],
)
def test_the_remedies_against_unread_positions_read_all(name, layer, shape):
    assert never_read(layer, shape)[0] == 0


def test_no_smaller_change_of_the_image_reads_the_whole_map():
    assert never_read("maxpool(2)", (1, 15, 15))[0] > 0  # 14 and 16 are the neighbors of 15


def seen_from_the_middle(text, shape):
    """Pixels that change the middle of the map, and the box around them, by poisoning."""
    design = parse(text)
    at = [length // 2 for length in design.output_shape(shape)[1:]]
    matter = pixels_that_matter(design, shape, at=at)
    rows, columns = (torch.nonzero(matter.any(axis))[:, 0] for axis in (1, 0))
    spans = [int(each.max() - each.min()) + 1 for each in (rows, columns)]
    return int(matter.sum()), spans


@pytest.mark.slow
def test_pixels_in_gaps_are_those_that_change_nothing_in_the_middle():
    block = "conv(8, 3, padding=2, dilation=2), relu"
    read, spans = seen_from_the_middle(f"{block}, {block}", (3, 32, 32))
    box = math.prod(spans)
    told = f"field of {spans[0]} x {spans[1]} px and reads {read} of these {box}: its windows skip {100 * (box - read) / box:.1f} %"
    assert told in WASTEFUL["gaps in a field"][3]
    for remedied, size in ((f"conv(8, 3, padding=1), relu, {block}", 7), (f"{block}, {block}, conv(8, 3, padding=1)", 11)):
        assert seen_from_the_middle(remedied, (3, 32, 32)) == (size**2, [size, size])
        assert f": a receptive field of {size} px" in WASTEFUL["gaps in a field"][3]


def test_numbers_on_falling_channels_are_those_of_the_tensors():
    sizes = []
    module = build(parse(WASTEFUL["channels"][0]), (3, 32, 32), 10)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _given, output: sizes.append(output[0].numel()))
    module(torch.zeros(1, 3, 32, 32))
    assert f"= {sizes[0]:,} values per sample, 8 x 256 = {sizes[1]:,} remain ({100 * sizes[1] / sizes[0]:.1f} %)" in (
        WASTEFUL["channels"][3].replace("6.2 %", f"{100 * sizes[1] / sizes[0]:.1f} %")
    )


def test_the_share_of_the_first_linear_layer_is_that_of_its_weights():
    module = build(parse(WASTEFUL["linear"][0]), (1, 28, 28), 10)
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    own, total = sum(each.numel() for each in first.parameters()), sum(each.numel() for each in module.parameters())
    assert (
        f"holds {100 * own / total:.1f} % of all parameters: 8 x 14 x 14 x 64 = {first.weight.numel():,} weights"
        in (WASTEFUL["linear"][3])
    )
    pooled = nn.Linear(8, first.out_features)
    assert (
        f"has {write_count(sum(each.numel() for each in pooled.parameters()))} parameters instead of {write_count(own)}."
        in WASTEFUL["linear"][3]
    )


def test_pooling_one_position_changes_nothing():
    given = torch.randn(2, 8, 1, 1)
    assert torch.equal(nn.functional.max_pool2d(given, 3, 1, 1), given)


def test_a_second_softmax_returns_at_most_the_share_that_is_reported():
    sure = torch.zeros(10)
    sure[3] = 1
    assert f"= {100 * sure.softmax(0).max():.1f} %" in WASTEFUL["softmax"][3]


def test_a_norm_over_one_value_forgets_it():
    layer = nn.GroupNorm(6, 6)
    nn.init.normal_(layer.bias)
    assert torch.allclose(
        layer(torch.randn(4, 6)), layer.bias.expand(4, 6), atol=1e-3
    )  # float32 leaves a little of the value
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(6)(torch.randn(1, 6))


def test_one_convolution_computes_what_two_in_a_row_compute():
    first, second = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 16, 3, stride=2, bias=False)
    one = nn.Conv2d(3, 16, 5, stride=2, bias=False)
    kernel = nn.functional.conv_transpose2d(second.weight, first.weight)  # 16 x 3 x 5 x 5
    one.weight.data = kernel
    given = torch.randn(2, 3, 16, 16)
    assert torch.allclose(one(given), second(first(given)), atol=1e-5)
    own = sum(each.weight.numel() for each in (first, second))
    assert f"= {one.weight.numel():,} weights instead of 216 + 1,152 = {own:,}" in WASTEFUL["activation"][3]


@pytest.mark.parametrize(
    "text",
    [
        "conv(64, 1), relu, conv(16, 1), conv(64, 1), relu",  # a narrow middle
        "conv(16, 1), relu, depthwise(3, padding=1), conv(32, 1), relu",
        "conv(16, 1), relu, conv(16, (1, 5)), conv(16, (5, 1)), relu",
        "conv(64, 1), relu, conv(32, 1), conv(32, 3), relu",  # a 1 x 1 convolution that saves weights
        "conv(16, 3), maxpool(2), conv(16, 3), relu",
        "conv(16, 3), avgpool(2), relu, conv(16, 3), relu",
        "conv(64, 1), relu, conv(16, 1), avgpool(2), conv(64, 1), relu",  # a narrow middle
        "conv(16, 3), groupnorm(2), conv(16, 3), relu",
        "conv(16, 3), residual(relu, conv(16, 3, padding=1)), conv(16, 3), relu",
    ],
)
def test_a_deliberate_factorization_and_an_activation_of_any_kind_are_no_waste(text):
    design = parse(f"{text}, globalpool, linear(classes)")
    assert "activation" not in {each.kind for each in advise(account(design, (3, 32, 32), 10), design, 10)}


@pytest.mark.parametrize(
    ("activation", "sentence"),
    [
        (
            "relu",
            "needs values of both signs: one below 0 becomes 0 and gets no gradient, so its class may never be learned.",
        ),
        (
            "relu6",
            "needs values of both signs: one below 0 becomes 0 and gets no gradient, so its class may never be learned.",
        ),
        ("sigmoid", "applies softmax itself: values from 0 to 1 give a class at most e/(e + 9) = 23.2 %."),
        ("hardsigmoid", "applies softmax itself: values from 0 to 1 give a class at most e/(e + 9) = 23.2 %."),
        ("tanh", "applies softmax itself: values from -1 to 1 give a class at most e^2/(e^2 + 9) = 45.1 %."),
    ],
)
@pytest.mark.long
def test_an_activation_after_the_last_layer_is_named_with_what_it_does(activation, sentence):
    design = resolve_network(
        f"flatten, linear(8), relu, linear(classes), {activation}", input_shape=(1, 4, 4), num_classes=10
    )
    own = build(design, (1, 4, 4), 10)
    path = f"{activation}{2 if activation == 'relu' else 1}"
    for network in (design, own):
        (advice,) = [each for each in summarize(network, (1, 4, 4), 10).advice if each.kind == "output"]
        assert advice.text == (
            f"{path}: the network ends with a {activation}, and the cross-entropy loss {sentence} Remove {path}, which has no weights."
        )


def test_the_most_that_limited_logits_give_a_class_is_that_of_torch():
    for low, named in ((0.0, "sigmoid"), (-1.0, "tanh")):
        logits = torch.full((10,), low)
        logits[0] = 1.0
        assert limited_output(named, 10).endswith(f"= {100 * float(logits.softmax(0)[0]):.1f} %.")


@pytest.mark.parametrize(
    "text",
    [
        "flatten, linear(classes)",
        "flatten, linear(8), relu, linear(classes), gelu",
        "flatten, linear(1), sigmoid",
        "conv(4, 3), relu",
        "conv(4, 3), relu, globalpool",
    ],
)
def test_logits_that_nothing_limits_get_no_advice(text):
    design = resolve_network(text, input_shape=(1, 4, 4), num_classes=10)
    for network in (design, build(design, (1, 4, 4), 10)):
        assert "output" not in {each.kind for each in summarize(network, (1, 4, 4), 10).advice}


def test_the_first_layer_of_a_perceptron_on_large_images_is_named_with_its_sum():
    text = "flatten, linear(512), relu, linear(classes)"
    design = resolve_network(text, input_shape=(3, 224, 224), num_classes=10)
    sentence = (
        "this layer holds 100.0 % of all parameters: 3 x 224 x 224 x 512 = 77,070,336 weights, one for each value of the image and each "
        "output. A convolution uses the same weights at every position."
    )
    (advice,) = [each for each in summarize(design, (3, 224, 224), 10).advice if each.kind == "linear"]
    assert advice.sentence == sentence
    assert advice.remedies == (
        "replace flatten1 with conv(32, 3, stride=2), relu, conv(64, 3, stride=2), relu, globalpool: "
        "77.1 M to 57.8 k parameters, 66.4 M multiply-adds",
    )
    own = Flattened(lambda x: x.flatten(1), torch.relu)
    own.conv, own.first, own.second = nn.Identity(), nn.Linear(3 * 224 * 224, 512), nn.Linear(512, 10)
    (advice,) = [each for each in summarize(own, (3, 224, 224), 10).advice if each.kind == "linear"]
    assert advice.text == f"first: {sentence}"
    assert summarize(design, (1, 28, 28), 10).advice == ()


def activation_advice(network, shape):
    return [each.text for each in summarize(network, shape, 10).advice if each.kind == "activation"]


def test_an_average_pool_between_convolutions_is_no_activation():
    text = "conv(16, 3), norm, avgpool(2), conv(16, 3), relu, globalpool, linear(classes)"
    assert activation_advice(text, (3, 32, 32)) == [
        "conv2: there is no activation between conv1 and this layer, so the two convolutions and the average pool pool1 compute no more "
        "than one convolution. Put relu before conv2: 2.95 k parameters, 778 k multiply-adds."
    ]
    body = build(parse("conv(16, 3), norm, avgpool(2), conv(16, 3)"), (3, 32, 32), 10).eval()
    x, y, zero = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(body(x + y), body(x) + body(y) - body(zero), atol=1e-5)


class Flattened(nn.Module):
    """Two linear layers in a row after a flattening in forward."""

    def __init__(self, flatten, between):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 20), nn.Linear(20, 10)
        self.flatten, self.between = flatten, between

    def forward(self, x):
        return self.second(self.between(self.first(self.flatten(torch.relu(self.conv(x))))))


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(x.shape[0], -1),
        lambda x: x.view(-1, 8 * 36),
        lambda x: x.reshape(len(x), -1),
    ],
)
def test_linear_layers_in_a_row_are_found_however_a_module_flattens(flatten):
    assert activation_advice(Flattened(flatten, nn.Identity()), (3, 8, 8)) == [
        "second: there is no activation between first and this layer, so the two linear layers compute no more than one: "
        "288 x 10 = 2,880 weights instead of 5,760 + 200 = 5,960. Apply an activation between them, such as a ReLU."
    ]
    for between in (torch.relu, torch.tanh, lambda x: x * x, lambda x: x * x.sigmoid()):
        assert activation_advice(Flattened(flatten, between), (3, 8, 8)) == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_layer_of_a_family_lacks_an_activation(family):
    shape = {"lenet5": (1, 32, 32), "mlp": (1, 28, 28), "inception": (3, 108, 97)}.get(family, (3, 65, 64))
    design = resolve_network("mlp(16)" if family == "mlp" else family, input_shape=shape, num_classes=10)
    assert activation_advice(design, shape) == activation_advice(build(design, shape, 10), shape) == []


def field_of(text):
    """Pixels that change the middle of the map on one axis of a larger image, the hull of them, by poisoning."""
    return seen_from_the_middle(text, (1, 24, 24))[1][0]


@pytest.mark.slow
def test_the_field_that_enters_an_unproductive_layer_is_the_poisoned_one():
    block, text = ", residual(conv(8, 5, padding=2), norm), relu", WASTEFUL["unproductive"][3]
    first = "conv(8, 5, padding=2), relu"
    assert f"(receptive field {seen_from_the_middle(first + 3 * block, (1, 32, 32))[1][0]} px)" in text
    module = build(parse(WASTEFUL["unproductive"][0]), (1, 8, 8), 10)
    own = sum(each.numel() for each in module.get_submodule("block4.residual1.conv1").parameters())
    total = sum(each.numel() for each in module.parameters())
    assert f"holds {write_count(own)} parameters ({100 * own / total:.1f} % of all)" in text


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (WASTEFUL["unproductive"][0], (1, 8, 8)),
        (
            "conv(4, 7, stride=2, padding=3), relu, 9 * [conv(4, 3, padding=1), relu], globalpool, linear(classes)",
            (1, 17, 13),
        ),
        ("resnet(18)", (3, 97, 97)),
        ("convnext", (3, 64, 64)),
    ],
)
def test_into_layers_that_cannot_add_context_every_position_brings_the_whole_image(text, shape):
    """The exact intervals decide; the first layer that is named as still growing has a position that sees less."""
    design = resolve_network(text, input_shape=shape, num_classes=10)
    facts = Facts(account(design, shape, 10), design.place(shape, 10))
    (advice,) = (found.advice for found in unproductive(facts))

    def intervals(path):
        source = facts.source(facts.places[path])
        return [field.intervals.pairs() for field in facts.fields_at(source)]

    for path in advice.paths:
        assert [set(pairs) for pairs in intervals(path)] == [{(0, length - 1)} for length in shape[1:]], path
    growing = advice.sentence.split(" From ")[1].split(" on,")[0]
    smallest = min(last - first + 1 for pairs in intervals(growing) for first, last in pairs)
    assert growing not in advice.paths
    assert f"grow from {smallest} to " in advice.sentence
    assert all((0, length - 1) in pairs for pairs, length in zip(intervals(growing), shape[1:], strict=True))


def test_the_field_that_is_smaller_than_an_object_is_the_poisoned_one():
    convs = "conv(8, 3, padding=1), relu, maxpool(2), conv(16, 3, padding=1), relu"
    size, more = field_of(convs), ", conv(16, 3, padding=1)"
    assert f"a receptive field of {size} px, {14 - size} less than an object of 14 px" in WASTEFUL["object"][3]
    assert field_of(convs + more) < 14 <= field_of(convs + 2 * more)  # so two more layers are needed, and are enough
    assert 14 * 18 / 32 <= size < 14 * 19 / 32  # so 18 px is the largest image on which the object fits
    assert f"the object has {14 * 18 / 32:.3g} px" in WASTEFUL["object"][3]


# ---- the costs of the remedies, counted in modules that are built ----

REMEDIED = [
    (
        "border",
        "conv(4, 3, padding=1), relu, maxpool(2, ceil_mode=True), conv(8, 3, padding=1), relu, globalpool, linear(classes)",
    ),
    (
        "border",
        "conv(4, 3, padding=1), relu, maxpool(2, padding=1), conv(8, 3, padding=1), relu, globalpool, linear(classes)",
    ),
    ("stride", "conv(8, 4, stride=4), relu, globalpool, linear(classes)"),
    ("stride", "conv(8, 2, stride=2), relu, globalpool, linear(classes)"),
    ("gaps in a map", "conv(4, 4, stride=4), relu, globalpool, linear(classes)"),
    ("gaps in a field", "2 * [conv(8, 3, padding=2, dilation=2), relu], conv(8, 3, padding=1), globalpool, linear(classes)"),
    ("channels", "conv(32, 3, padding=1), relu, maxpool(2), conv(32, 3, padding=1), relu, globalpool, linear(classes)"),
    ("linear", "conv(8, 3, padding=1), relu, maxpool(2), globalpool, linear(64), relu, linear(classes)"),
    ("pool", "conv(8, 8), relu, flatten, linear(classes)"),
    (
        "activation",
        "conv(8, 3, padding=1), norm, relu, conv(16, 3, stride=2, padding=1), relu, globalpool, linear(classes)",
    ),
    ("activation of features", "flatten, linear(32), relu, linear(20), dropout(0.5), relu, linear(classes)"),
    ("norm over a group", "conv(6, 3), relu, globalpool, groupnorm(3), linear(classes)"),
    ("norm over a batch", "conv(6, 3), relu, globalpool, layernorm, linear(classes)"),
    (
        "unproductive",
        "conv(8, 5, padding=2), relu, 3 * [residual(conv(8, 5, padding=2), norm), relu], globalpool, linear(classes)",
    ),
    (
        "object",
        "conv(8, 3, padding=1), relu, maxpool(2), conv(16, 3, padding=1), relu, 2 * [conv(16, 3, padding=1), norm, relu], "
        "globalpool, linear(classes)",
    ),
]


@pytest.mark.parametrize(("name", "text"), REMEDIED)
def test_the_costs_of_a_remedy_are_those_of_the_module(name, text):
    shape = WASTEFUL[name][1]
    module = build(parse(text), shape, 10)
    parameters, macs = sum(each.numel() for each in module.parameters()), count_macs(module, shape)
    told = "; ".join(advice_on(name)[0].remedies)
    assert f"{write_count(macs)} multiply-adds" in told
    if "parameters" in told:
        assert f"{write_count(parameters)} parameters" in told


def test_several_norms_over_a_batch_are_reported_once_with_all_their_rows():
    design = parse("conv(6, 3), globalpool, norm, linear(5), norm, linear(classes)")
    (advice,) = advise(account(design, (1, 12, 12), 10), design, 10, batch_size=1)
    assert advice.paths == ("norm1", "norm2")
    assert "over 1 sample x 1 position = 1 value, here and in 1 later norm. A single value" in advice.sentence
    assert advice.remedies[1].startswith("use layernorm, over 5 to 6 channels of each sample")


@pytest.mark.parametrize("batch_size", [None, 2, 64])
def test_a_batch_norm_of_features_is_no_norm_over_one_value(batch_size):
    design = parse("flatten, linear(16), norm, relu, linear(classes)")
    assert advise(account(design, (1, 8, 8), 10), design, 10, batch_size=batch_size) == ()
    assert build(design, (1, 8, 8), 10).train()(torch.rand(2, 1, 8, 8)).std(0).min() > 0


# ---- where there is nothing to say ----

OWN_SIZES = {"lenet5": (1, 32, 32), "mlp": (1, 28, 28), "compact": (3, 32, 32), "inception": (3, 299, 299)}
OWN_ARGUMENTS = {"mlp": "mlp(512)"}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_well_known_families_have_no_advice_but_what_is_known_of_them(family):
    shape = OWN_SIZES.get(family, (3, 224, 224))
    design = resolve_network(OWN_ARGUMENTS.get(family, family), input_shape=shape, num_classes=1000)
    num_classes = 1000 if shape[1] > 32 else 10
    found = advise(account(design, shape, num_classes), design, num_classes)
    known = {"unproductive", "linear"} | (
        {"border"} if family == "compact" else set()
    )  # whitening leaves 31 of 32 px to pools of 2
    assert {advice.kind for advice in found} <= known
    assert ("linear" in {advice.kind for advice in found}) == (family in ("lenet5", "alexnet", "vgg"))


def test_resnet18_has_no_unproductive_layer_where_the_field_is_larger_than_the_image_but_no_position_sees_it_whole():
    design = resolve_network("resnet(18)", input_shape=(3, 224, 224), num_classes=1000)
    costs = account(design, (3, 224, 224), 1000)
    assert advise(costs, design, 1000) == ()
    field = next(row.fields[0] for row in costs.rows if row.path == "stage4.block1.residual1.relu1")
    assert field.size >= 224
    assert (0, 223) not in field.intervals.pairs()


def test_blocks_that_can_go_are_counted_and_named():
    design = parse(
        "conv(8, 5, padding=2), relu, 5 * [residual(conv(8, 5, padding=2), norm), relu], globalpool, linear(classes)"
    )
    (advice,) = advise(account(design, (1, 8, 8), 10), design, 10)
    assert "remove 2 blocks (block4, block5): 5.15 k parameters, " in "; ".join(advice.remedies)


# ---- from rows alone, as of a traced module ----


@pytest.mark.parametrize("name", WASTEFUL)
def test_rows_alone_report_the_same_sentence(name):
    text, shape, object_px, _ = WASTEFUL[name]
    costs = account(parse(text), shape, 10)
    (alone,), (known,) = advise(costs, object_px=object_px, batch_size=BATCHES.get(name)), advice_on(name)
    assert (alone.kind, alone.path, alone.sentence) == (known.kind, known.path, known.sentence)


def test_borders_that_are_small_on_each_map_are_reported_together():
    design = parse("maxpool(2), maxpool(2), globalpool, linear(classes)")
    assert [advice.text for advice in advise(account(design, (1, 255), 10), design, 10)] == [
        "the output never reads 3 of the 255 px of the image (1.2 %). Use images of 256 or 252."
    ]
    assert [never_read("maxpool(2), maxpool(2)", (1, length))[0] for length in (252, 253, 254, 255, 256)] == [0, 1, 2, 3, 0]


def test_rows_of_which_it_is_not_known_what_feeds_them_are_not_taken_to_leave_gaps():
    costs = account(parse("conv(4, 4, stride=8), relu, globalpool, linear(classes)"), (1, 31, 31), 10)
    assert [advice.kind for advice in advise(costs)] == ["stride"]
    assert advise(dataclasses.replace(costs, find_flows=None)) == ()


# ---- objects and images ----


def test_an_object_larger_than_the_image_is_said():
    design = parse("lenet5")
    (object_, _) = advise(account(design, (1, 32, 32), 10), design, 10, object_px=60)
    assert object_.text == (
        "an object of 60 px does not fit into the image of 32 x 32, so no image shows one whole. Give the size of objects in "
        "images of this size, or use larger images."
    )


def test_images_are_reduced_no_further_than_the_design_allows():
    design = parse("conv(6, 5), maxpool(2), conv(16, 5), maxpool(2), flatten, linear(classes)")
    assert design.smallest_input((1, 32, 32), 10) == (1, 16, 16)
    (advice,) = [
        each for each in advise(account(design, (1, 32, 32), 10), design, 10, object_px=31) if each.kind == "object"
    ]
    assert advice.remedies[-1] == "resize images to 16 x 16, where the object has 15.5 px"
    reduced = advice.changes[-1]
    assert (reduced.input_shape, reduced.object_px) == ((1, 16, 16), 16)
    assert "object" not in {each.kind for each in advise(account(reduced.design, (1, 16, 16)), reduced.design, object_px=16)}


# ---- strides and dilations that need more than one change ----


@pytest.mark.parametrize(
    ("text", "shape", "told"),
    [
        (
            "conv(16, 3, stride=5), globalpool, linear(classes)",
            (3, 224, 224),
            "conv1: a window of 3 with stride 5 skips 2 of every 5 positions: on a map of 224 x 224, 31,951 of 50,176 positions (63.7 %) are never read. Set kernel_size=5, padding=1: 1.39 k parameters, 2.43 M multiply-adds; or set kernel_size=6, padding=1: 1.91 k parameters, 3.50 M multiply-adds.",
        ),
        (
            "conv(16, 3, dilation=100), globalpool, linear(classes)",
            (3, 224, 224),
            "conv1: a window of 3 with dilation 100 and stride 1 skips the positions in between: on a map of 224 x 224, 44,992 of 50,176 positions (89.7 %) are never read. Set dilation=1: 618 parameters, 21.3 M multiply-adds; or set kernel_size=2: 378 parameters, 2.95 M multiply-adds.",
        ),
        (
            "conv(16, 3, padding=50, dilation=50), relu, conv(16, 3, padding=100, dilation=100), globalpool, linear(classes)",
            (3, 224, 224),
            "conv2: one position in the middle of the last map has a receptive field of 201 x 201 px and reads 25 of these 40,401: its windows skip 99.9 % (gridding). Set dilation=1 in all 2 dilated layers: a receptive field of 5 px.",
        ),
    ],
)
def test_strides_and_dilations_of_any_size_have_a_remedy(text, shape, told):
    design = parse(text)
    assert [advice.text for advice in advise(account(design, shape, 10), design, 10)] == [told]


def test_the_remedies_of_a_wide_stride_read_all():
    assert [
        never_read(text, (1, 44, 44))[0] for text in ("conv(1, 5, stride=5, padding=1)", "conv(1, 6, stride=5, padding=1)")
    ] == [0, 0]


def test_a_softmax_over_one_answer_is_said_to_be_one():
    design = parse("conv(8, 3), globalpool, linear(1), softmax")
    (advice,) = advise(account(design, (1, 12, 12)), design)
    assert advice.text == (
        "softmax1: the network ends with a softmax over 1 output, which is 1 for every image. "
        "Remove softmax1, which has no weights."
    )
    assert torch.randn(5, 1).softmax(1).unique().tolist() == [1.0]


def test_what_is_left_after_a_remedy_is_reported_with_it():
    design = resolve_network("resnet(18)", input_shape=(3, 97, 97), num_classes=1000)
    (advice,) = (each for each in advise(account(design, (3, 97, 97), 1000), design, 1000) if each.kind == "unproductive")
    assert [remedy.removes for remedy in advice.changes] == [True, False]
    assert advice.remedies[1].startswith("remove stage4.block2: ")
    assert advice.remedies[1].endswith(", which leaves 2 of these 4 layers")
    again = advise(account(advice.changes[1].design, (3, 97, 97)), advice.changes[1].design)
    assert [each.paths for each in again if each.kind == "unproductive"] == [
        ("stage4.block1.residual1.conv1", "stage4.block1.residual1.conv2")
    ]


def test_an_account_without_rows_has_no_advice():
    assert advise(Account((1, 4, 4), (1, 4, 4), ())) == ()


def test_signals_and_volumes_are_reported_on_their_own_axes():
    design = parse("conv(4, 3), relu, maxpool(2), globalpool, linear(classes)")
    (signal,) = advise(account(design, (1, 17), 3), design, 3)
    assert (
        "no window reads the last position of 15 on the axis: 1 of 15 positions (6.7 %) are never read." in signal.sentence
    )
    (volume,) = advise(account(design, (1, 9, 9, 9), 3), design, 3)
    assert (
        "no window reads the last position of 7 on each axis: 127 of 343 positions (37.0 %) are never read."
        in volume.sentence
    )
    assert 7**3 - 6**3 == 127


def test_a_window_that_cannot_keep_the_size_is_not_offered():
    assert with_window(Conv(4, 4), 1, kernel_size=3) is None
    assert re.fullmatch(r"conv\(4, 5, padding=1\)", with_window(Conv(4, 3), 1, kernel_size=5).text)


def test_numbers_that_pools_take_away_are_not_laid_to_the_channels():
    text = "conv(16, 3, padding=1), 5 * maxpool(2), conv(8, 1), globalpool, linear(classes)"
    design = parse(text)
    (found,) = [each for each in advise(account(design, (3, 32, 32), 10), design, 10) if each.kind == "channels"]
    assert found.text == (
        "conv2: the channels fall from 16 to 8 while the map shrinks from 32 x 32 to 1 x 1: of 16 x 1,024 = 16,384 values per sample, "
        "the smaller map alone leaves 16 x 1 = 16, and fewer channels leave 8 x 1 = 8 (50.0 % of those). Use 16 channels from "
        "there on: 890 parameters, 443 k multiply-adds."
    )
