"""Rows read ahead are the rows that were asked for, whatever was begun."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_batches import batches

from visus.data import batches as batches_module
from visus.data.rows_ahead import RowsAhead

places = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@given(st.lists(st.tuples(places, places)))
def test_rows_are_those_of_the_places(steps: list[tuple[list[int], list[int]]]) -> None:
    stored = torch.arange(10) ** 2
    rows = RowsAhead(stored.__getitem__, torch.device("cpu"), is_ahead=True)
    for begun, wanted in steps:
        rows.start(np.array(begun))
        assert rows.get(np.array(wanted)).tolist() == [place**2 for place in wanted]


def test_each_row_of_an_epoch_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    whole = batches(23, 4)
    expected = [batch.inputs for batch in whole.epoch(1)]

    class Watched(RowsAhead):
        def __init__(self, rows: object, device: torch.device) -> None:
            def watched(places: np.ndarray) -> torch.Tensor:
                read.append(places.tolist())
                return rows(places)  # type: ignore[operator,no-any-return]

            super().__init__(watched, device, is_ahead=True)

    monkeypatch.setattr(batches_module, "RowsAhead", Watched)
    ahead = batches(23, 4)
    steps = ahead.epoch(1)
    first = next(steps)
    assert len(read) == 2, "the rows of the next step are read before this one is computed"
    found = [first.inputs, *(batch.inputs for batch in steps)]
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))
    assert len(read) == len({tuple(each) for each in read}) == 5


@pytest.mark.gpu
def test_rows_on_a_gpu_are_those_of_the_places() -> None:
    stored = torch.randn(1000, 3, 32, 32)
    rows = RowsAhead(lambda places: stored[torch.from_numpy(places)], torch.device("cuda"))
    order = np.random.default_rng(0).permutation(1000).reshape(10, 100)
    for number, wanted in enumerate(order):
        found = rows.get(wanted)
        if number + 1 < len(order):
            rows.start(order[number + 1])
        busy = torch.randn(2000, 2000, device="cuda") @ torch.randn(2000, 2000, device="cuda")
        assert torch.equal(found.cpu(), stored[torch.from_numpy(wanted)])
        assert bool(torch.isfinite(busy).all())
