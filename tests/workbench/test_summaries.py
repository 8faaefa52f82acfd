"""``compact`` gets no advice on the trade-offs that it makes on purpose; a design that a person wrote gets it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import visus
from visus.design.advice.advise import KINDS
from visus.design.facts import Facts
from visus.design.families.compact import SCALES, TRADE_OFFS, compact, is_compact
from visus.workbench.summaries import summarize


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


class Tokens(nn.Module):
    """Patches, then attention with one head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N C H W -> N 2."""
        x = self.embed(x).flatten(2).transpose(1, 2)[:, None]
        x = ((x @ x.transpose(-2, -1)).softmax(-1) @ x)[:, 0]
        return self.head(self.norm(x)[:, 0])


def test_after_attention_tokens_see_objects_whole_and_no_row_inside_it_is_the_last_map() -> None:
    found = summarize(Tokens(), (3, 64, 64), 2, object_px=40)
    assert found.fits == "objects of 40 px fit: every token of norm sees the whole image of 64 x 64."
    row = Facts(found.account).last_map()
    assert row is not None
    assert row.path == "embed"
