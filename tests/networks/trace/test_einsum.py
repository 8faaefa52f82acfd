"""An einsum has one row with its equation; rows without a map do not show the receptive field of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visus.design.table import PAIRS, write_fields
from visus.networks.trace import trace

from .hard_modules import HARD, Made, conv


def test_an_einsum_is_one_row_with_its_equation_parameters_and_multiply_adds() -> None:
    module = Made(
        lambda m, x: torch.einsum("nchw, cd -> ndhw", m.conv(x), m.weight),
        conv=conv(),
        weight=nn.Parameter(torch.ones(4, 3)),
    )
    rows = trace(module, (4, 9, 8)).rows
    assert [(row.path, row.layer, row.output_shape) for row in rows] == [
        ("conv", "Conv2d(4, 3)", (4, 7, 6)),
        ("einsum", "einsum(nchw,cd->ndhw)", (3, 7, 6)),
    ]
    assert (rows[1].num_parameters, rows[1].macs, write_fields(rows[1])) == (4 * 3, 4 * 3 * 7 * 6, "3/1")


def test_an_einsum_of_weights_alone_is_counted_in_the_next_row() -> None:
    module = Made(
        lambda m, x: nn.functional.conv2d(m.conv(x), torch.einsum("oi,ihw->oihw", m.mix, m.kernel)),
        mix=nn.Parameter(torch.ones(2, 4)),
        kernel=nn.Parameter(torch.ones(4, 3, 3)),
        conv=conv(),
    )
    row = trace(module, (4, 9, 8)).rows[1]
    assert (row.num_parameters, row.layer) == (2 * 4 + 4 * 9, "convolution")


def test_operations_of_an_einsum_keep_their_rows_if_operations_are_asked_for() -> None:
    make, shape = HARD["einsum"]
    assert len(trace(make(), shape, detail="operations").rows) > len(trace(make(), shape).rows)


@pytest.mark.parametrize(
    "score",
    [
        lambda q, k: torch.einsum("nic,njc->nij", q, k),
        lambda q, k: q @ k.transpose(1, 2),
    ],
)
def test_scores_between_positions_show_no_field_of_a_map(score: object) -> None:
    module = Made(lambda m, x: score(*2 * (m.conv(x).flatten(2).transpose(1, 2),)), conv=conv())  # type: ignore[operator]
    row = trace(module, (4, 7, 6)).rows[-1]
    assert row.output_shape == (20, 20)
    assert write_fields(row) == PAIRS


def test_a_sum_over_the_map_and_windows_of_it_are_no_pairs() -> None:
    for forward in (lambda m, x: torch.einsum("nchw->nc", m.conv(x)), lambda m, x: m.conv(x).unfold(2, 3, 1)):
        assert PAIRS not in trace(Made(forward, conv=conv()), (4, 9, 8)).rows[-1].notes
