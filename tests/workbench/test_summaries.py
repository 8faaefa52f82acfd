"""``compact`` gets no advice on the trade-offs that it makes on purpose; a design that a person wrote gets it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import visus
from visus.design.advice.advise import KINDS
from visus.design.facts import Facts
from visus.design.families.compact import SCALES, TRADE_OFFS, compact, is_compact
from visus.errors import UsageError
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


SMALL = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (28, 28, 1),
            "the input shape (28, 28, 1) looks like channels last; channels come first: (1, 28, 28), which this module accepts.",
        ),
        (
            (32, 1, 28, 28),
            "the input shape (32, 1, 28, 28) looks like one with the batch; leave out the batch: (1, 28, 28), which this module accepts.",
        ),
    ],
)
def test_a_shape_with_other_axes_names_the_one_that_fits(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        visus.summary(nn.Sequential(*SMALL), shape)
    assert str(caught.value) == message


def test_a_shape_that_fits_in_no_order_names_the_layer() -> None:
    with pytest.raises(UsageError, match=r"The layer takes 1 channel, and 28 come in: set its in_channels to 28"):
        visus.summary(nn.Sequential(*SMALL), (28, 28, 3))
