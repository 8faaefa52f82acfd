"""``compact`` gets no advice on the trade-offs that it makes on purpose; a design that a person wrote gets it."""

from __future__ import annotations

import pytest

import visus
from visus.design.advice.advise import KINDS
from visus.design.families.compact import SCALES, TRADE_OFFS, compact, is_compact


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 32, 32), (3, 96, 96), (3, 224, 224), (1, 8000), (2, 200), (1, 12, 12, 12)]
)
def test_the_default_network_gets_no_advice_at_any_scale(shape: tuple[int, ...]) -> None:
    for scale in SCALES:
        assert visus.summary(f"compact(scale={scale})", shape, 10).advice == ()


def test_the_same_layers_with_one_change_get_the_advice() -> None:
    design = compact((1, 28, 28), 10)
    changed = design.text.replace("conv(32, 3, padding=1, bias=False)", "conv(24, 3, padding=1, bias=False)")
    assert not is_compact(visus.parse(changed), (1, 28, 28))
    kinds = {each.kind for each in visus.summary(changed, (1, 28, 28), 10).advice}
    assert kinds == {"border"}
    assert kinds <= set(TRADE_OFFS) <= set(KINDS)


def test_advice_that_the_reader_can_act_on_stays() -> None:
    advice = visus.summary("compact", (3, 224, 224), 10, object_px=900).advice
    assert [each.kind for each in advice] == ["object"]
