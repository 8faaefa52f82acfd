"""Modules of unusual inputs: several of them, integers, complex numbers, mixed precision, compiled and scripted code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.networks.trace import trace
from visus.workbench.summaries import summary


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 64, 10), nn.Linear(64, 1)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return self.last((self.conv(one).mean((2, 3)) - self.conv(two).mean((2, 3))).abs())


class TwoSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 5), nn.Linear(8, 2)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return self.last(torch.cat([self.fine(fine).amax((2, 3)), self.coarse(coarse).amax((2, 3))], 1))


class Captioned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.conv, self.last = nn.Embedding(100, 8), nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, image: Tensor, words: Tensor, scale: float = 1.0) -> Tensor:
        return self.last(self.conv(image).mean((2, 3)) + scale * self.words(words).mean(1))


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 16)
        self.convs, self.last = nn.ModuleList(nn.Conv1d(16, 8, kernel) for kernel in (3, 4, 5)), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        words = self.words(x).transpose(1, 2)
        return self.last(torch.cat([conv(words).amax(2) for conv in self.convs], 1))


class HalfInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.conv = nn.Parameter(torch.ones(())), nn.Conv2d(3, 8, 3).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).float() * self.scale


class Attention(nn.Module):
    """Attention of one kind behind a convolution, which may look at values first."""

    def __init__(self, kind: str, looks: bool) -> None:
        super().__init__()
        self.kind, self.looks = kind, looks
        self.cut = nn.Conv2d(1, 8, 4, 4)
        if kind == "multihead":
            self.layer: nn.Module = nn.MultiheadAttention(8, 2, batch_first=True)
        elif kind == "layer":
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0)
        elif kind == "encoder":
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0)
            self.layer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        if self.looks and float(tokens.sum()) > 1e9:
            tokens = tokens + 1
        if self.kind == "multihead":
            return self.layer(tokens, tokens, tokens)[0]  # type: ignore[no-any-return]
        if self.kind == "plain":
            heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
        return self.layer(tokens)  # type: ignore[no-any-return]


def test_two_inputs_of_one_size_are_read_as_one_image() -> None:
    costs = summary(Siamese(), [(1, 105, 105), (1, 105, 105)])
    assert (costs.num_parameters, costs.macs) == (64 * 100 + 64 + 65, 2 * 96 * 96 * 6400 + 64)
    assert [(row.path, row.fields[0].size, row.fields[0].is_exact) for row in costs.rows[:3]] == [
        ("conv", 10, True),
        ("mean", 105, True),
        ("conv#2", 10, True),
    ]
    assert costs.bytes_training(4) > costs.bytes_training(2)


def test_no_field_is_reported_a_second_input_of_another_size() -> None:
    costs = summary(TwoSizes(), [(1, 8, 8), (1, 9, 10)])
    assert [(row.path, row.output_shape, row.macs, len(row.fields)) for row in costs.rows] == [
        ("fine", (4, 6, 6), 1296, 2),
        ("amax", (4,), 0, 2),
        ("coarse", (4, 5, 6), 3000, 0),
        ("cat", (8,), 0, 2),
        ("last", (2,), 16, 2),
    ]
    assert all(field.is_exact for row in costs.rows for field in row.fields)
    assert costs.advice is not None


def test_an_image_and_words_are_a_float_and_integers() -> None:
    costs = summary(Captioned(), [(3, 8, 8), (12,)])
    assert (costs.num_parameters, costs.macs) == (800 + 224 + 18, 36 * 216 + 16)
    assert costs.rows[0].notes == ("float32 and int64 inputs",)


@pytest.mark.parametrize(
    ("module", "shapes", "said"),
    [
        (
            Siamese(),
            (1, 9, 9),
            "the forward of Siamese takes 2 inputs (one, two), and 1 shape is given. "
            "Give one for each: [(1, 9, 9), (1, 9, 9)], or --input 1,9,9 --input 1,9,9.",
        ),
        (
            nn.Conv2d(1, 1, 1),
            [(1, 9, 9), (1, 9, 9)],
            "the forward of Conv2d takes 1 input (input), and 2 shapes are given. Give 1.",
        ),
        (
            "conv(8, 3)",
            [(1, 9, 9), (1, 9, 9)],
            "a design takes one input, and 2 shapes are given. Give one, or a module with several inputs.",
        ),
    ],
)
def test_too_few_and_too_many_shapes_are_reported(module: nn.Module | str, shapes: list[tuple[int, ...]], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        summary(module, shapes)
    assert str(caught.value) == said


def test_words_are_integers_and_the_first_row_says_so() -> None:
    costs = trace(Text(), (20,))
    assert (costs.num_parameters, costs.macs) == (3210, 25904)
    assert (costs.rows[0].path, costs.rows[0].notes) == ("words", ("int64 input",))
    assert costs.bytes_training(8) > costs.bytes_inference(8) > 4 * 3210


def test_a_module_that_fails_in_every_dtype_says_what_it_said_first() -> None:
    with pytest.raises(UsageError, match=r"^0: Linear\(2\) fails on an input of shape \(5,\): RuntimeError: "):
        trace(nn.Sequential(nn.Linear(6, 2)), (5,))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_dtype_gets_inputs_of_it(dtype: torch.dtype) -> None:
    costs = trace(nn.Conv2d(2, 4, 3, dtype=dtype), (2, 8, 8))
    (row,) = costs.rows
    assert (row.output_shape, row.num_parameters, row.notes, row.fields[0].size) == ((4, 6, 6), 76, (), 3)
    assert (row.bytes_weights, row.bytes_output) == (76 * dtype.itemsize, 144 * dtype.itemsize)
    assert costs.bytes_training(2) > 0


def test_a_module_of_several_dtypes_gets_the_one_that_runs() -> None:
    costs = trace(HalfInside(), (3, 8, 8))
    assert (costs.macs, costs.num_parameters, costs.rows[0].notes) == (7776, 225, ("float16 input",))


@pytest.mark.parametrize(("kind", "macs"), [("multihead", 5376), ("plain", 2304), ("layer", 8448), ("encoder", 16896)])
def test_attention_is_counted_alike_with_and_without_data(kind: str, macs: int) -> None:
    blind, looking = (trace(Attention(kind, looks), (1, 16, 12)) for looks in (False, True))
    assert blind.macs == looking.macs == 1536 + macs
    rows = [
        [(row.path, row.output_shape, row.macs, row.fields, row.notes) for row in each.rows if row.path != "sum"]
        for each in (blind, looking)
    ]
    assert rows[0] == rows[1]
    assert torch.backends.mha.get_fastpath_enabled()


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


class Around(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "made",
    [
        torch.compile,
        lambda net: torch.jit.script(net.eval()),
        lambda net: torch.jit.trace(net.eval(), torch.rand(1, 3, 16, 16)),
        torch.fx.symbolic_trace,
    ],
)
@pytest.mark.long
def test_compiled_and_scripted_modules_have_the_figures_of_the_plain_one(made: Callable[[nn.Module], nn.Module]) -> None:
    plain = trace(_net(), (3, 16, 16))
    costs, around = trace(made(_net()), (3, 16, 16)), trace(Around(made(_net())), (3, 16, 16))
    for each, more in ((costs, 0), (around, 1)):
        assert (each.num_parameters, each.macs) == (plain.num_parameters + 6 * more, plain.macs + 4 * more)
        assert [row.fields[0].size for row in each.rows if row.macs] == [3, 16, *[16] * more]


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of PyTorch's own modules, at the first torch.compile of a process
@pytest.mark.long
def test_paths_inside_of_a_compiled_module_are_those_of_the_module() -> None:
    costs = trace(Around(torch.compile(_net())), (3, 16, 16))  # type: ignore[arg-type]
    assert [row.path for row in costs.rows] == [*(f"body.{place}" for place in range(6)), "head"]
