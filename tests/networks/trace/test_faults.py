"""What a trace is never to do: blame the module for a fault of its own, call a guess exact, or count nothing and say nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visus
from visus.networks.trace import mode as trace_mode
from visus.networks.trace import rows as trace_rows
from visus.networks.trace import trace
from visus.networks.trace.operators.registry import RuleError

from .hard_modules import Made, conv
from .nan_oracle import boxes, output_of


def test_padding_in_front_of_a_window_is_reported_where_an_axis_was_given_up() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        padded[..., 0] = padded[..., -1]
        return m.conv(padded)

    def in_the_layer(m: Any, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        padded[..., 0] = padded[..., -1]
        return F.conv2d(padded, m.weight)

    inner = Made(in_the_layer)
    inner.weight = nn.Parameter(torch.ones(4, 4, 3, 3))
    for module in (Made(forward, conv=conv()), inner):
        assert trace(module, (4, 6, 6)).rows[-1].output_shape == (4, 6, 6)


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (trace_mode, "written", "the rule for add fails on tensors of shape (1, 4, 6, 6), (1, 4, 6, 6): "),
        (trace_rows, "_is_notable", "the rule for add fails on tensors of shape (1, 4, 6, 6), (1, 4, 6, 6): "),
        (trace_rows, "fields_of", "the row of conv cannot be written: "),
    ],
)
def test_what_fails_next_to_the_rules_is_a_fault_of_visus_too(
    owner: Any, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise IndexError("list index out of range")

    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(RuleError) as caught:
        trace(Made(lambda m, x: m.conv(x).add_(x), conv=conv(kernel=1)), (4, 6, 6))
    assert str(caught.value) == (
        f"{said}IndexError: list index out of range. This is a fault of visus, not of the module. Please report it with this line."
    )


def test_a_sparse_matrix_is_weighed_by_what_it_keeps_and_multiplied_by_what_is_not_zero() -> None:
    module = Made(lambda m, x: torch.sparse.mm(m.matrix, x[0]), matrix=torch.eye(6).to_sparse())
    costs = trace(module, (6, 5))
    assert (costs.macs, costs.bytes_weights) == (6 * 5, 6 * (2 * 8 + 4))


def test_nothing_is_written_where_a_slice_is_empty() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, :, 6:] = x[:, :, :0]
        y[:, :, 9:].mul_(2)
        return y

    assert trace(Made(lambda m, x: forward(m, _through_pixels(m, x))), (4, 6, 6)).output == (4, 6, 6)
    field = trace(Made(forward), (4, 6, 6)).rows[-1].fields[0]
    assert (field.intervals.pairs(), field.is_exact) == ([(place, place) for place in range(6)], True)


def test_a_map_without_rows_reads_nothing() -> None:
    costs = trace(Made(lambda m, x: x[:, :, :0].reshape(len(x), 4, 3, 0)), (4, 6, 6))
    assert costs.output == (4, 3, 0)
    assert costs.rows[-1].fields[0].interval(0) is None


def decorated(m: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return m.linear(F.relu(m.conv(x)).mean((2, 3)))


def test_inference_mode_changes_nothing() -> None:
    def plain(m: Any, x: Tensor) -> Tensor:
        return m.linear(F.relu(m.conv(x)).mean((2, 3)))

    def made(forward: Any) -> nn.Module:
        return Made(forward, conv=conv(), linear=nn.Linear(4, 2))

    known = trace(made(plain), (4, 8, 8))
    assert known.macs == 4 * 4 * 9 * 36 + 8
    with torch.inference_mode():
        inside, born_inside = trace(made(plain), (4, 8, 8)), made(plain)
    assert inside.rows == known.rows
    assert trace(born_inside, (4, 8, 8)).rows == known.rows
    assert trace(made(decorated), (4, 8, 8)).rows == known.rows


def test_an_lstm_is_counted_by_its_weights_at_every_step() -> None:
    layer = nn.LSTM(8, 6, batch_first=True)
    assert trace(layer, (20, 8)).macs == 20 * 4 * 6 * (8 + 6) == 6720
    deep = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
    assert trace(deep, (20, 8)).macs == 20 * 2 * 4 * 6 * ((8 + 6) + (12 + 6))


def test_what_is_not_counted_is_said() -> None:
    with torch.library._scoped_library("visus_test", "FRAGMENT") as library:
        library.define("mixed(Tensor x) -> Tensor")
        library.impl("mixed", lambda x: x.clone(), "CompositeExplicitAutograd")
        costs = trace(Made(lambda m, x: torch.ops.visus_test.mixed(x)), (4, 8, 8))
    assert [row.notes for row in costs.rows] == [("not counted", "hull")]
    assert "not counted" in costs.to_table()


def test_an_output_that_no_operation_leads_to_is_said() -> None:
    costs = visus.summary(Made(lambda m, x: torch.from_numpy(x.numpy() * 2)), (4, 8, 8))
    assert [(row.path, row.output_shape, row.notes) for row in costs.rows] == [("output", (4, 8, 8), ("not traced",))]


def told(module: nn.Module, shape: tuple[int, ...]) -> list[tuple[list[tuple[int, int] | None], bool]]:
    """For each axis the boxes of the last row, and whether they are said to be exact."""
    fields = trace(module, shape).rows[-1].fields
    return [([field.interval(index) for index in range(len(field.intervals or ()))], field.is_exact) for field in fields]


def test_a_recurrent_layer_behind_a_mean_reads_what_came_before() -> None:
    module = Made(lambda m, x: m.rnn(x.mean(-1).mT)[0].mT, rnn=nn.RNN(3, 5, batch_first=True))
    assert told(module, (3, 6, 4))[0] == ([(0, last) for last in range(6)], True)


def test_an_axis_is_found_again_where_it_lies_and_not_among_the_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.cat([x[:, :2], x[:, 2:].roll(1, -1)], 1)
        y = y - y.mean(-2, keepdim=True)
        return y.flatten(2).mul(2).reshape(x.shape)

    assert told(Made(forward), (4, 4, 6))[1] == ([(0, 5), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], True)


def _rolled(x: Tensor) -> Tensor:
    return x.roll(1, -1)


def test_each_place_behind_a_mask_that_is_known_reads_what_the_mask_takes() -> None:
    known, rolled = list(range(7)), [5, 6, 0, 1, 2, 3, 4]
    chosen = [(place, place) for place in rolled[:4] + known[4:]]
    module = Made(lambda m, x: torch.where(torch.arange(7) > 3, x, x.roll(2, -1)))
    assert told(module, (4, 5, 7)) == [([(place, place) for place in range(5)], True), (chosen, True)]
    module = Made(lambda m, x: _rolled(x).masked_fill(torch.arange(7) < 1, 0))
    assert told(module, (4, 5, 7))[1] == ([None, *((place, place) for place in range(6))], True)
    module = Made(lambda m, x: torch.where((torch.arange(4) > 1).view(4, 1, 1), x, _rolled(x)))
    assert told(module, (4, 5, 7))[1] == ([(0, 6), *((place, place + 1) for place in range(6))], True)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.where(torch.ones(300, 300).triu() > 0, x, _rolled(x)),
        lambda m, x: x.masked_fill(torch.ones(300, 300).triu() > 0, 0),
        lambda m, x: x.tril(),
    ],
)
def test_boxes_behind_a_mask_that_is_not_known_are_not_called_exact(forward: Any) -> None:
    row = trace(Made(forward), (1, 300, 300)).rows[-1]
    assert (row.fields[1].is_exact, "hull" in row.notes) == (False, True)


@pytest.mark.parametrize(
    ("forward", "box"),
    [
        (lambda m, x: torch.where(m.mask, x, _rolled(x)), (1, 1)),
        (lambda m, x: torch.where(~m.mask, x, _rolled(x)), (0, 0)),
        (lambda m, x: torch.where(m.mask, x, 0.0), (1, 1)),
        (lambda m, x: _rolled(x).masked_fill(~m.mask, 0.0), (0, 0)),
        (lambda m, x: _rolled(x).masked_fill(m.mask, x.sum()), (0, 6)),
        (lambda m, x: torch.where(x > 0, x, _rolled(x)), (0, 1)),
        (lambda m, x: _rolled(x).masked_fill(x > 0, 0.0), (0, 1)),
        (lambda m, x: torch.where(m.places > 3, x, x), (1, 1)),
    ],
)
def test_boxes_behind_a_mask_that_takes_one_of_two_are_those_of_that_one(forward: Any, box: tuple[int, int]) -> None:
    module = Made(forward, mask=torch.ones(7, dtype=torch.bool), places=torch.arange(7))
    boxes, is_exact = told(module, (4, 7, 7))[1]
    assert ((boxes * 7)[1], is_exact) == (box, True)


def _shifted_by_writes(m: Any, x: Tensor) -> Tensor:
    x = F.max_pool2d(x, 3, 3, 1)
    y = x.new_empty(x.shape[0], 4, x.shape[2] * 2, x.shape[3])
    y[:, :, 0::2] = x
    y[:, :, 1::2] = x.roll(1, -1)
    z = torch.zeros_like(y)
    z.transpose(2, 3)[:, :, 2:] = y.transpose(2, 3)[:, :, :-2]
    z[:, 1].copy_(y[:, 0])
    return z


def _through_pixels(m: Any, x: Tensor) -> Tensor:
    return F.pixel_shuffle(F.pixel_unshuffle(x, 2).roll(1, 1), 2)


def _flat_and_shifted(m: Any, x: Tensor) -> Tensor:
    y = _through_pixels(m, x)
    return F.pad((y - y.mean(-2, keepdim=True)).flatten(2), (1, 0))[..., :-1].reshape(x.shape)


def _partly_written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 3, 3:] = x[:, 0, 3:].flip(-1)
    y[:, :, 0] += x[:, :, -1]
    return y


def _written_across(m: Any, x: Tensor) -> Tensor:
    x = F.adaptive_avg_pool2d(x, (1, 3))
    y = torch.zeros_like(x)
    y.transpose(2, 3)[:, :, 1:] = x.transpose(2, 3)[:, :, :-1]
    y[:, 1].copy_(x[:, 0])
    return F.adaptive_avg_pool2d(y, (9, 2))


def _pooled_behind_a_mean(m: Any, x: Tensor) -> Tensor:
    y = _through_pixels(m, _partly_written(x))
    y = F.max_pool2d(y - y.mean(-1, keepdim=True), 3)
    return y.flatten(2).mul(2).reshape(y.shape)


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        (_shifted_by_writes, (4, 2, 7)),
        (_flat_and_shifted, (4, 2, 2)),
        (lambda m, x: F.max_pool2d(_through_pixels(m, _partly_written(x)), 3), (4, 6, 4)),
        (_pooled_behind_a_mean, (4, 6, 6)),
        (_written_across, (4, 2, 2)),
    ],
)
def test_boxes_called_exact_are_those_that_poison_shows(forward: Any, shape: tuple[int, ...]) -> None:
    for axis, (found, is_exact) in enumerate(told(Made(forward), shape)):
        shown = boxes(output_of(Made(forward), shape, axis), axis + 2)
        assert (found * len(shown) if len(found) == 1 else found) == shown
        assert is_exact
