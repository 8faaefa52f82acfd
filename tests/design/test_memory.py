"""The memory of designs: every layer has its entry, hand-worked sums hold, and autograd and the allocator say the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from visus.design import Account, account, parse
from visus.design.account_walk import account_so_far
from visus.errors import UsageError
from visus.networks.build import build

# Layers that fit any map of two axes with 4 x n channels and an even length of at least 8, and keep the map's size.
PLAIN = (
    *("conv(8, 3, padding=1)", "conv(8, 1)", "conv(8, 4, padding='same')", "conv(8, 3, padding=1, bias=True)"),
    *("depthwise(3, padding=1)", "norm", "layernorm", "groupnorm(4)"),
    *("relu", "relu6", "leakyrelu", "elu", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "softmax"),
    *("se(2)", "se(3, activation='silu', scale_activation='hardsigmoid')", "scale"),
    *("dropout(0.5)", "dropout(0)", "droppath(0.5)", "droppath(0)"),
    *("residual(conv(8, 3, padding=1), relu)", "residual(conv(4, 1), norm, relu)", "concat([], [conv(4, 1), relu])"),
    *("concat([maxpool(3, stride=1, padding=1)], [conv(4, 1)])", "residual(concat([relu], [sigmoid]), conv(8, 1))"),
)
RESIZING = (
    *("maxpool(2)", "avgpool(2)", "blurpool(3)", "upsample(2)", "upsample(2, mode='linear')"),
    *("conv(8, 3, stride=2, padding=1)", "transposed(4, 4, stride=2, padding=1)", "sequence(relu, maxpool(2))"),
)
IN_BLOCKS_OF_16 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="few channels fill blocks of 16 on processors with AVX-512"
)

HEADS = ("globalpool", 'globalpool("max")', "flatten", "flatten, linear(12), norm, relu, dropout(0.5)")


def designs() -> st.SearchStrategy[str]:
    """Texts of small designs: layers of all kinds, some that resize, a head, and classes."""
    layers = st.lists(st.sampled_from(PLAIN), max_size=4)
    resizing = st.sampled_from(("", *RESIZING))
    return st.builds(
        lambda first, middle, last, head: ", ".join(
            ["conv(8, 3, padding=1)", *first, *([middle] if middle else []), *last, head, "linear(classes)"]
        ),
        layers,
        resizing,
        layers,
        st.sampled_from(HEADS),
    ).map(lambda text: text.replace("'", '"'))


def kept_by_autograd(module: nn.Module, x: Tensor) -> int:
    """Bytes of all storages that autograd keeps for the loss, parameters and buffers left out."""
    own = {value.untyped_storage()._cdata for value in (*module.parameters(), *module.buffers())}
    kept: dict[int, Any] = {}

    def pack(value: Tensor) -> Tensor:
        kept[value.untyped_storage()._cdata] = value.untyped_storage()
        return value.detach()

    with saved_tensors_hooks(pack, lambda value: value):
        module(x).log_softmax(1).sum()
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def test_a_linear_layer_is_as_worked_out_by_hand() -> None:
    costs = account(parse("linear(10)"), (100,))
    weights, batch, given = 4 * 1010, 4 * 64 * 100, 4 * 64 * 10
    update = batch + given + weights + 2 * 4 * 1000  # gradients, and twice the weight while adamw divides
    assert costs.bytes_training(64) == 3 * weights + update == 52_320
    assert costs.bytes_training(64, "sgd") == 2 * weights + update
    assert costs.bytes_saved(64) == batch + given  # its input, and the logarithms of the shares
    assert costs.rows[0].bytes_saved == 4 * 100
    assert costs.bytes_inference(64) == weights + batch + given
    assert costs.bytes_standing() == 3 * weights


def test_a_small_network_is_as_worked_out_by_hand() -> None:
    costs = account(parse("conv(4, 3, padding=1), norm, relu, maxpool(2), flatten, linear(2)"), (1, 4, 4))
    image, maps, pooled, out = 4 * 16, 4 * 64, 4 * 16, 4 * 2
    assert [row.bytes_saved for row in costs.rows] == [
        image,  # the convolution keeps its input
        maps,  # and norm its own
        maps,  # relu keeps what it made; the pool needs it too, but it is there already
        8 * 16,  # the pool keeps places as int64
        0,  # flatten is a view
        pooled,  # linear keeps its input
    ]
    statistics = 2 * 4 * 4
    kept = image + 2 * maps + 8 * 16 + pooled + out
    assert costs.bytes_saved(3) == 3 * kept + statistics
    weights = 4 * (4 * 9 + 8 + 34) + 4 * 8 + 8  # the running values of norm, and its count of batches
    assert costs.bytes_weights == weights
    standing = weights + 2 * 4 * (4 * 9 + 8 + 34)
    # The fullest moment is the way back through the convolution: the gradient of its output lies in a block of 16 channels too.
    blocked = 3 * (image + out + maps + 4 * maps) + 4 * (34 + 8 + 4 * 9)
    # Or the way back through norm: batch, outputs and kept maps are there, the gradients of its input and
    # output, a buffer of its input's size, and the gradients of the linear layer and of norm.
    way_back = statistics + 3 * (image + maps + out + 3 * maps) + 4 * (34 + 8)
    # Or in the pool: all maps and the places, the gradients of what goes in and out, and those of the linear layer.
    pool = statistics + 3 * (image + 2 * maps + 8 * 16 + out + pooled + maps) + 4 * 34
    assert costs.bytes_training(3) == standing + max(blocked, way_back, pool)


@settings(max_examples=40, deadline=None)
@given(text=designs(), length=st.sampled_from((8, 12)), channels=st.sampled_from((1, 4)), num_samples=st.integers(2, 3))
def test_what_is_kept_is_what_autograd_keeps(text: str, length: int, channels: int, num_samples: int) -> None:
    design, shape = parse(text), (channels, length, length)
    costs = account(design, shape, 5)
    module = build(design, shape, 5).train()
    assert costs.bytes_saved(num_samples) == kept_by_autograd(module, torch.rand(num_samples, *shape))


@settings(max_examples=30, deadline=None)
@given(text=designs(), num_samples=st.integers(1, 300))
def test_more_items_never_need_less_and_the_parts_are_in_the_whole(text: str, num_samples: int) -> None:
    costs = account(parse(text), (4, 8, 8), 5)
    assert costs.bytes_training(num_samples) <= costs.bytes_training(num_samples + 1)
    assert costs.bytes_training(num_samples) >= costs.bytes_standing() + costs.bytes_saved(num_samples)
    for optimizer in ("adamw", "sgd", "none"):
        parts = costs.training_parts(num_samples, optimizer)
        assert sum(parts.values()) == costs.bytes_training(num_samples, optimizer)
        assert min(parts.values()) >= 0
        trained = sum(4 * row.num_parameters for row in costs.rows)
        assert parts.get("gradients", trained) == trained
    assert costs.bytes_inference(num_samples) <= costs.bytes_training(num_samples, "none")
    assert sum(row.bytes_saved or 0 for row in costs.rows) <= costs.bytes_saved(1)


@pytest.mark.parametrize(
    "text",
    [
        "conv(32, 3, padding=1), norm, relu, maxpool(2), conv(64, 3, padding=1), norm, relu, globalpool, linear(classes)",
        "conv(16, 3, padding=1), relu, 2 * [residual(conv(16, 3, padding=1), norm, relu, conv(16, 3, padding=1), norm), relu], "
        "residual(conv(32, 3, stride=2, padding=1), norm), relu, flatten, linear(64), relu, dropout(0.5), linear(classes)",
        "conv(32, 4, stride=4), layernorm, 2 * [residual(depthwise(7, padding=3), layernorm, conv(128, 1), gelu, conv(32, 1), scale)], "
        "globalpool, layernorm, linear(classes)",
        "conv(32, 3, padding=1), 2 * [concat([], [norm, relu, conv(16, 3, padding=1)])], norm, silu, globalpool, linear(classes)",
        "gelu, norm, flatten, linear(classes)",
        pytest.param(
            "whiten(2), gelu, conv(32, 3, padding=1, bias=False), maxpool(2), norm, gelu, globalpool, linear(classes)",
            marks=IN_BLOCKS_OF_16,
        ),
        pytest.param("blurpool(5), conv(4, 3), relu, globalpool, linear(classes)", marks=IN_BLOCKS_OF_16),
        pytest.param("upsample(2), conv(4, 3), relu, globalpool, linear(classes)", marks=IN_BLOCKS_OF_16),
        pytest.param("conv(16, 3), relu, blurpool(5), globalpool, linear(classes)", marks=IN_BLOCKS_OF_16),
    ],
)
def test_the_most_at_once_is_what_the_allocator_hands_out(
    text: str, highest_total: Callable[[Callable[[], Any]], int]
) -> None:
    said, measured = said_and_measured(text, (3, 48, 48), 16, highest_total)
    assert said == pytest.approx(measured, rel=0.02)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="the bound is that of oneDNN on x86 processors"
)
@pytest.mark.parametrize(
    ("text", "shape", "num_samples"),
    [
        (
            "depthwise(5, padding=1, stride=2), transposed(4, 3, stride=3), blurpool(5), flatten, linear(16), relu, linear(classes)",
            (3, 48, 48),
            16,
        ),
        (
            "conv(12, 3), relu, conv(24, 3, groups=4), relu, conv(6, 3, stride=2), transposed(3, 3, padding=1), globalpool, linear(classes)",
            (3, 48, 48),
            16,
        ),
        ("transposed(16, 2), globalpool, linear(classes)", (2, 48, 40), 2),
        ("conv(6, 3, padding=1, groups=2), globalpool, linear(classes)", (20, 32, 40), 2),
        ("layernorm, depthwise(5, padding=1, depth_multiplier=2), globalpool, linear(classes)", (4, 48, 16), 4),
    ],
)
def test_unusual_convolutions_take_at_most_what_is_said_and_at_least_a_third(
    text: str, shape: tuple[int, ...], num_samples: int, highest_total: Callable[[Callable[[], Any]], int]
) -> None:
    for said, measured in zip(*said_and_measured(text, shape, num_samples, highest_total), strict=True):
        assert said / 3 <= measured <= 1.025 * said


def said_and_measured(
    text: str, shape: tuple[int, ...], num_samples: int, highest_total: Callable[[Callable[[], Any]], int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Bytes of a training step and of an inference, as the account says them and as the allocator hands them out."""
    design = parse(text)
    module = build(design, shape, 10).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x, labels = torch.rand(num_samples, *shape), torch.zeros(num_samples, dtype=torch.int64)
        logits = module(x)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    costs = account(design, shape, 10)
    training = costs.bytes_standing() + highest_total(step)

    def infer() -> None:
        with torch.no_grad():
            module(torch.rand(num_samples, *shape))

    module.eval()
    infer()
    inference = costs.bytes_weights + highest_total(infer)
    return (costs.bytes_training(num_samples), costs.bytes_inference(num_samples)), (training, inference)


def test_an_account_that_ends_early_has_no_memory() -> None:
    costs = account_so_far(parse("conv(8, 3), linear(2)"), (1, 8, 8))
    with pytest.raises(UsageError) as caught:
        costs.bytes_training(4)
    assert str(caught.value) == "this account ends before its network does, so its memory is unknown. Fix the network first."
    assert account_so_far(parse("conv(8, 3)"), (1, 8, 8)).bytes_training(4) > 0


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda costs: costs.bytes_training(0), "the batch size must be a whole number from 1 on, not 0."),
        (lambda costs: costs.bytes_inference(1.5), "the batch size must be a whole number from 1 on, not 1.5."),
        (
            lambda costs: costs.bytes_training(1, "adam"),
            "unknown optimizer 'adam'. Did you mean 'adamw'? Known: adamw, none, sgd.",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Callable[[Account], int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(account(parse("linear(2)"), (3,)))
    assert str(caught.value) == message


def test_volumes_and_signals_are_counted_along_all_their_axes() -> None:
    for shape in ((2, 12), (2, 6, 8, 8)):
        text = "conv(8, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)"
        costs = account(parse(text), shape, 3)
        module = build(parse(text), shape, 3).train()
        assert costs.bytes_saved(2) == kept_by_autograd(module, torch.rand(2, *shape))
        assert costs.rows[0].bytes_saved == 4 * math.prod(shape)
