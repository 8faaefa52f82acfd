"""Where paths of unequal stride meet and windows follow, what each position reads is what poison shows: for designs and for modules."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from visus.design import Design, account
from visus.networks import build
from visus.networks.trace import trace

from .nan_oracle import boxes, output_of
from .unequal_paths import unequal_design, unequal_designs


def wrong_boxes(design: Design, shape: tuple[int, int]) -> list[str]:
    """What the account and the trace say wrongly and call exact; also where the design's account gives up exactness."""
    module = build(design, shape, 2)
    true = boxes(output_of(module, shape, 0), 2)
    found = []
    for name, costs in (("account", account(design, shape, 2)), ("trace", trace(module, shape))):
        field = costs.rows[-1].fields[0]
        said = [field.interval(position) for position in range(len(true))]
        if said != true and (field.is_exact or name == "account"):
            bad = [(place, *pair) for place, pair in enumerate(zip(said, true, strict=True)) if pair[0] != pair[1]]
            found.append(f"{name} of {design.text} on {shape}: (position, said, true) {bad[:3]}")
    return found


@given(st.integers(0, 10**9))
@pytest.mark.long
def test_what_is_read_behind_paths_of_unequal_stride_is_what_poison_shows(seed: int) -> None:
    case = unequal_design(seed)
    assume(case is not None)
    assert case is not None
    assert wrong_boxes(*case) == []


@pytest.mark.slow
def test_two_thousand_designs_of_unequal_paths_have_no_wrong_box() -> None:
    tried = 0
    for _, design, shape in unequal_designs(0, 4500):
        assert wrong_boxes(design, shape) == []
        tried += 1
    assert tried > 2000
