"""Recurrent layers as one operator each: fields against the oracle that knows no rules, multiply-adds against the equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visus.design.table import write_field
from visus.errors import UsageError
from visus.networks.trace import trace

from .hard_modules import Made
from .nan_oracle import boxes, output_of
from .recurrent_modules import RECURRENT, SIGNAL, steps_last
from .test_nan_oracle import dim_of

CASES = [(name, axis) for name, (_, shape) in RECURRENT.items() for axis in range(len(shape) - 1)]


@pytest.mark.parametrize(("name", "axis"), CASES)
def test_a_recurrent_layer_reads_what_poison_shows(name: str, axis: int) -> None:
    make, shape = RECURRENT[name]
    torch.manual_seed(0)
    module = nn.Sequential(make(), nn.Identity())
    costs = trace(module, shape)
    last = costs.rows[-1]
    touched = output_of(module, shape, axis)
    assert (last.path, costs.output) == ("1", tuple(touched.shape[1:]))
    field = last.fields[axis]
    assert field.intervals is not None
    assert field.intervals.pairs() == boxes(touched, dim_of(last, axis))
    assert field.is_exact == (name != "packed")  # whose steps torch computes, in an order of its own
    assert any("hull" in row.notes for row in costs.rows) == (name == "packed")


@pytest.mark.parametrize("name", [name for name in RECURRENT if name not in ("packed", "enlarged before it")])
def test_the_multiply_adds_are_the_products_that_torch_carries_out(name: str) -> None:
    make, shape = RECURRENT[name]
    module = make().eval()
    torch._C._set_mkldnn_enabled(False)  # else an LSTM is one operator, which the counter omits
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.rand(1, *shape))
    finally:
        torch._C._set_mkldnn_enabled(True)
    costs = trace(module, shape)
    assert 2 * costs.macs == counter.get_total_flops()
    assert costs.num_parameters == sum(values.numel() for values in module.parameters())


@pytest.mark.parametrize(("kind", "num_gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)])
def test_the_multiply_adds_follow_the_equations(kind: Any, num_gates: int) -> None:
    assert trace(kind(8, 6, batch_first=True), (20, 8)).macs == 20 * num_gates * 6 * (8 + 6)
    deep = kind(8, 6, num_layers=2, bidirectional=True, batch_first=True)
    assert trace(deep, (20, 8)).macs == 20 * 2 * num_gates * 6 * ((8 + 6) + (12 + 6))


@pytest.mark.parametrize("name", ["GRU", "both directions", "two layers, both directions", "time steps first"])
def test_a_trace_with_and_without_data_are_one_account(name: str) -> None:
    make, shape = RECURRENT[name]
    layer = make()
    branching = Made(lambda m, x: m.layer(x) if x.sum() > -1e9 else x, layer=layer)
    known, other = trace(layer, shape), trace(branching, shape)
    assert [(row.layer, row.output_shape, row.macs, row.fields, row.notes) for row in known.rows] == [
        (row.layer, row.output_shape, row.macs, row.fields, row.notes) for row in other.rows if row.layer != "sum"
    ]
    assert other.rows[0].layer == "sum"


def test_a_recurrent_layer_reads_everything_before_and_a_bidirectional_one_everything() -> None:
    for layer, written in (
        (nn.GRU(4, 5), "all before"),
        (nn.LSTM(4, 5, bidirectional=True), "all"),
        (nn.RNN(4, 5, 2), "all before"),
    ):
        row = trace(steps_last(layer), SIGNAL).rows[-1]
        field = row.fields[0]
        assert (row.notes, row.aligned, row.is_approximate) == ((), True, False)
        assert (field.size, field.stride, field.start, field.is_whole, field.is_exact) == (12, 0, 0, True, True)
        assert write_field(field) == written
    backwards = trace(RECURRENT["the half that reads backwards"][0](), SIGNAL).rows[-1]
    assert write_field(backwards.fields[0]) == "all after"


def test_a_recurrent_layer_is_one_operation_however_many_steps_it_has() -> None:
    rows = trace(nn.GRU(3, 5, batch_first=True), (4000, 3), detail="operations").rows
    assert [(row.path, row.output_shape) for row in rows] == [("gru", (4000, 5)), ("gru[1]", (1, 5)), ("output", (4000, 5))]


def test_a_recurrent_layer_of_the_wrong_width_fails_with_the_words_of_torch() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        weights = list(m.layer.parameters())
        return torch.gru(x, x.new_zeros(1, len(x), 5), weights, True, 1, 0.0, False, False, True)[0]

    with pytest.raises(
        UsageError, match="fails on an input of shape \\(7, 4\\): RuntimeError: mat1 and mat2 shapes cannot be"
    ):
        trace(Made(forward, layer=nn.GRU(3, 5, batch_first=True)), (7, 4))
    assert trace(Made(forward, layer=nn.GRU(3, 5, batch_first=True)), (7, 3)).macs == 7 * 3 * 5 * 8
