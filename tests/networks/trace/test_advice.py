"""One engine for advice: a design and the module that is built from it are told the same, and every remedy is one.

The other answers: the trace of the built module, which knows no design; the changed design, built, counted and advised anew.
"""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import visus
from visus.design import (
    FAMILIES,
    Account,
    Design,
    account,
    avgpool,
    concat,
    conv,
    maxpool,
    parse,
    relu,
    residual,
    resolve_network,
)
from visus.design.advice.advise import Advice, advise
from visus.design.advice.unread_pixels import unread
from visus.design.facts import Candidate, Facts, remedied
from visus.design.flow import Flow
from visus.errors import DesignError
from visus.geometry import Upsampling
from visus.networks.build import build
from visus.networks.trace import trace
from visus.units import write_count
from visus.workbench.summaries import summarize

from ..test_build import placed

ConvProblem = tuple[Design, tuple[int, ...]]


def place_of(path: str) -> str:
    """A path as the design has it: a trace names the operation at which paths meet."""
    return re.sub(r"\.?(add|cat)$", "", path)


def told(advice: tuple[Advice, ...]) -> list[tuple[str, ...]]:
    """Kind, places and sentence of each piece of advice."""
    return [(each.kind, place_of(each.path), each.sentence, *map(place_of, each.paths)) for each in advice]


def assert_same(design: Design, shape: tuple[int, ...], object_px: int | None = None, batch_size: int | None = None) -> None:
    """The module is told what the design is told."""
    asked = {"object_px": object_px, "batch_size": batch_size}
    by_design = advise(account(design, shape, 5), design, 5, **asked)
    by_module = advise(trace(build(design, shape, 5), shape), **asked)
    assert told(by_module) == told(by_design)


windows = st.builds(
    lambda kernel, stride, padding, dilation: conv(4, kernel, stride=stride, padding=padding, dilation=dilation),
    *(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2), st.integers(1, 4)),
)
pools = st.sampled_from([maxpool(2), avgpool(3, 4), maxpool(3, 2, padding=1, ceil_mode=True)])
wide = st.sampled_from([8, 2]).map(lambda width: conv(width, 3, padding=1))
keeping = st.sampled_from([conv(4, 3, padding=1), conv(4, 3, padding=2, dilation=2), relu()])
blocks = st.one_of(
    *(windows, windows, pools, wide, keeping),
    st.lists(keeping, min_size=1, max_size=2).map(lambda row: residual(*row)),
    st.lists(keeping, min_size=1, max_size=2).map(lambda row: concat(row, [])),
)
tails = st.sampled_from(
    [
        *(
            "globalpool, linear(classes)",
            "globalpool, norm, linear(classes), softmax",
            "flatten, linear(64), linear(classes)",
        ),
        *("globalpool, groupnorm(2), linear(classes)", "globalpool, linear(1), layernorm, linear(classes)"),
    ]
)


@st.composite
def wasteful(draw: st.DrawFn) -> ConvProblem:
    """A design with much to say about it, and an input that it accepts."""
    inner = draw(st.lists(blocks, min_size=1, max_size=4))
    design = Design([*inner, *parse(draw(tails)).layers])
    shape = (2, draw(st.integers(6, 20)), draw(st.integers(6, 20)))
    try:
        design.place(shape, 5)
    except DesignError:
        return parse("conv(4, 1, stride=3), globalpool, linear(classes)"), shape
    return design, shape


# ---- a design and its module ----


@settings(max_examples=60)
@given(case=placed() | wasteful(), object_px=st.none() | st.integers(3, 16), batch_size=st.sampled_from([None, 1]))
@pytest.mark.long
def test_a_design_and_its_module_are_reported_the_same(
    case: ConvProblem, object_px: int | None, batch_size: int | None
) -> None:
    assert_same(*case, object_px, batch_size)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_and_its_module_are_reported_the_same(family: str) -> None:
    shape = {"lenet5": (1, 32, 32), "mlp": (1, 28, 28), "inception": (3, 108, 97)}.get(family, (3, 65, 64))
    design = resolve_network("mlp(16)" if family == "mlp" else family, input_shape=shape, num_classes=5)
    assert_same(design, shape, object_px=40, batch_size=1)


def feeding(costs: Account) -> dict[str, tuple[Flow, set[str]]]:
    """For each row its flow and the names of what feeds it; layers that pass their input on are left out, as torch may do."""

    flows = costs.flows

    def real(place: int) -> int:
        while place >= 0 and re.match("dropout|droppath|sequential", costs.rows[place].layer, re.IGNORECASE):
            (place,) = flows[place].sources
        return place

    names = {place: place_of(row.path) for place, row in enumerate(costs.rows)} | {-1: ""}
    return {names[at]: (flow, {names[real(each)] for each in flow.sources}) for at, flow in enumerate(flows)}


def assert_same_flows(design: Design, shape: tuple[int, ...]) -> None:
    mine, theirs = (feeding(costs) for costs in (account(design, shape, 5), trace(build(design, shape, 5), shape)))
    for path, (flow, sources) in mine.items():
        other, others = theirs[path]
        assert (other.kind, other.output_shape, others) == (flow.kind, flow.output_shape, sources), path
        if (
            Upsampling(1) not in flow.axis_ops and Upsampling(1, "linear") not in flow.axis_ops
        ):  # of which torch does nothing
            assert other.axis_ops == flow.axis_ops, path


@settings(max_examples=60)
@given(case=placed() | wasteful())
@pytest.mark.long
def test_what_feeds_a_row_is_the_same_for_a_design_and_its_module(case: ConvProblem) -> None:
    assert_same_flows(*case)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
@pytest.mark.parametrize(
    "text",
    [
        *(
            'conv(4, 4, padding="same", dilation=3)',
            "blurpool(4)",
            "blurpool(3, stride=3)",
            "transposed(4, 3, stride=2, output_padding=1)",
        ),
        *(
            "maxpool(3, 2, padding=1, ceil_mode=True)",
            "avgpool(2)",
            'upsample(2, mode="linear")',
            "depthwise(3, padding=1), se(2)",
        ),
        *("residual(norm, conv(6, 3, stride=2, padding=1))", "concat([layernorm], [groupnorm(2)], [])"),
    ],
)
def test_every_window_is_the_same_for_a_design_and_its_module(text: str, num_axes: int) -> None:
    assert_same_flows(parse(f"{text}, globalpool, linear(3)"), (4, *(9, 11, 10)[:num_axes]))


def test_what_is_written_into_a_part_feeds_what_reads_the_whole() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = x.new_zeros(x.shape[0], 4, *x.shape[2:])
            y[:, :2] = self.one(x)
            y[:, 2:] = self.two(x)
            return self.last(y)

    flow, sources = feeding(trace(Halves(), (1, 6, 6)))["last"]
    assert {"one", "two"} <= sources
    assert "" not in sources  # what was there before the writing did not come from the input
    assert flow.context == "unknown"  # neither half has the shape of the whole


# ---- remedies ----


def assert_remedied(design: Design, shape: tuple[int, ...], object_px: int | None, batch_size: int | None) -> int:
    """Each change that is told removes what it is told for, or says what is left, and its figures are those of the module."""
    num_remedies = 0
    for advice in advise(account(design, shape, 5), design, 5, object_px=object_px, batch_size=batch_size):
        for remedy in advice.changes:
            if remedy.design is None:
                assert remedy.text == "use batches of 2 samples or more"
                continue
            num_remedies += 1
            changed = account(remedy.design, remedy.input_shape)
            assert changed.output == account(design, shape, 5).output
            again = advise(changed, remedy.design, object_px=remedy.object_px, batch_size=batch_size)
            stays = [each for each in again if each.kind == advice.kind and set(each.paths) & set(advice.paths)]
            if advice.kind in ("object", "unproductive") or "(gridding)" in advice.sentence:
                stays = [each for each in again if each.kind == advice.kind]
            assert bool(stays) != remedy.removes, remedy.text
            if not remedy.removes:
                assert remedy.text.endswith(f", which leaves {len(stays[0].paths)} of these {len(advice.paths)} layers")
            module = build(remedy.design, changed.input_shape)
            if "parameters" in remedy.text:
                assert f"{write_count(sum(each.numel() for each in module.parameters()))} parameters" in remedy.text
            if "macs" in remedy.text:
                assert f"{write_count(trace(module, changed.input_shape).macs)} multiply-adds" in remedy.text
    return num_remedies


@settings(max_examples=60)
@given(case=wasteful(), object_px=st.none() | st.integers(3, 16), batch_size=st.sampled_from([None, 1]))
@pytest.mark.long
def test_a_remedy_removes_what_it_is_reported_for(case: ConvProblem, object_px: int | None, batch_size: int | None) -> None:
    assert_remedied(*case, object_px, batch_size)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("resnet(18)", (3, 97, 97)),
        pytest.param("inception(3)", (3, 108, 97), marks=pytest.mark.slow),
        ("lenet5", (1, 33, 33)),
    ],
)
def test_the_remedies_of_families_remove_what_they_are_reported_for(text: str, shape: tuple[int, ...]) -> None:
    design = resolve_network(text, input_shape=shape, num_classes=5)
    assert assert_remedied(design, shape, 30, None)


def test_a_change_after_which_the_same_is_said_is_no_remedy() -> None:
    design = parse("conv(4, 3, stride=5), globalpool, linear(classes)")
    facts = Facts(account(design, (1, 20, 20), 5), design.place((1, 20, 20), 5))
    (found,) = unread(facts)
    texts = {
        "nothing": "conv(4, 3, stride=5), globalpool, linear(5)",
        "a wider kernel": "conv(4, 5, stride=5), globalpool, linear(5)",
    }
    tries = [Candidate(name, parse(text), facts.tried(parse(text))) for name, text in texts.items()]
    assert remedied(dataclasses.replace(found, candidates=lambda: tries), unread).remedies == ("a wider kernel",)


# ---- modules of any kind ----


class Functional(nn.Module):
    """Windows, a pool and shares as plain functions, and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.zeros(8, 3, 3, 3)), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.conv2d(x, self.weight, padding=1))
        y += y.tanh()
        y = F.max_pool2d(y, 2, stride=4)
        return F.softmax(self.last(y.mean((2, 3))), 1)


def advice_on(module: nn.Module, shape: tuple[int, ...], **asked: int) -> list[str]:
    return [advice.text for advice in visus.summary(module, shape, **asked).advice]


def test_pixels_between_the_windows_of_a_module_are_reported_as_of_a_design() -> None:
    design = parse("conv(8, 3, stride=8)")
    (known,) = advise(account(design, (3, 64, 64)), design)
    assert advice_on(nn.Sequential(nn.Conv2d(3, 8, 3, stride=8)), (3, 64, 64)) == [f"0: {known.sentence}"]
    assert "3,520 of 4,096 positions (85.9 %) are never read" in known.sentence


def test_operations_outside_of_layers_are_advised_on() -> None:
    found = visus.summary(Functional(), (3, 32, 32), object_px=10).advice
    assert [(advice.kind, advice.path) for advice in found] == [
        *(("object", "max_pool2d"), ("softmax", "softmax"), ("stride", "max_pool2d")),
    ]


def test_a_pool_of_one_position_in_a_module_is_reported() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert [text for text in advice_on(module, (1, 8, 8)) if "pools a map" in text] == [
        "1: this layer pools a map of 1 x 1: the maximum and the mean of 1 value are that value."
    ]


def test_a_group_norm_over_one_value_is_traced_and_reported() -> None:
    module = build(parse("conv(6, 3), globalpool, groupnorm(6), linear(3)"), (1, 12, 12))
    assert advice_on(module, (1, 12, 12)) == [
        "groupnorm1: 6 channels / 6 groups x 1 position = 1 value in each group. A single value minus its own mean is 0, so the "
        "output is the learned bias for every image."
    ]


def test_a_map_that_another_branch_reads_whole_has_no_border() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.sparse, self.dense = (
                nn.Conv2d(1, 2, 1),
                nn.Conv2d(2, 2, 1, stride=4),
                nn.Conv2d(2, 2, 4, stride=4),
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.sparse(y) + self.dense(y)

    assert advice_on(Beside(), (1, 16, 16)) == []


def test_what_has_no_rule_is_not_advised_on() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 4, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.linalg.inv(self.first(x)))

    costs = visus.summary(Odd(), (1, 8, 8))
    assert any("hull" in row.notes for row in costs.rows)
    assert costs.advice == ()


def test_the_last_map_behind_a_hull_sees_at_most_what_is_reported() -> None:
    class Rough(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x[:, :, ::2, ::2])

    (sentence, *_) = advice_on(Rough(), (1, 32, 32), object_px=9)
    assert "a receptive field of 5 px, 4 less than an object of 9 px" in sentence


def test_advice_on_operations_is_that_on_layers() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.Flatten(), nn.Linear(512, 3), nn.Softmax(dim=1))
    found = [summarize(module, (3, 64, 64), detail=detail).advice for detail in ("layers", "operations")]
    assert told(found[0]) == told(found[1])
    assert {advice.kind for advice in found[0]} == {"stride", "softmax", "linear"}


def test_the_advice_stands_on_the_account_and_in_its_json() -> None:
    costs = visus.summary("conv(8, 3), globalpool, linear(classes), softmax", (1, 12, 12), 3)
    assert [advice.kind for advice in costs.advice] == ["softmax"]
    assert costs.to_json()["advice"] == [advice.to_json() for advice in costs.advice]
