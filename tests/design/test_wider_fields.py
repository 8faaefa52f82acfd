"""Ways to a receptive field, perceptron twins, two accounts side by side, and the table: each held against another way to count."""

from __future__ import annotations

import math
import re

import pytest
import torch

from visus.design import Account, Row, account, lenet5, parse, resnet, resolve_network
from visus.design.difference import pairs
from visus.design.edits import changed, trunk
from visus.design.mlp_equivalents import KINDS, perceptron_twins
from visus.design.table import without_bias
from visus.design.wider_fields import NoWay, activation_bytes, plain_stack, ways_to_see
from visus.geometry import Field
from visus.networks.build import build

from .poison import pixels_that_matter

SMALL = parse(
    "conv(2, 3, padding=1), relu, conv(2, 3, padding=1), relu, conv(2, 3, padding=1), relu, globalpool, linear(classes)"
)


def seen_by_poison(design, shape):
    """Which pixels change one position in the middle of the last map."""
    maps = changed(trunk(design.place(shape, 3)), lambda node: None)
    at = [length // 2 for length in maps.output_shape(shape)[1:]]
    return torch.nonzero(pixels_that_matter(maps, shape, at=at))[:, 0]


# ---- ways ----


@pytest.mark.parametrize("wanted", [9, 11, 14])
def test_each_way_really_sees_so_much_and_no_less(wanted):
    shape = (1, 64)
    found = ways_to_see(wanted, shape, 3, SMALL)
    ways = [found.now, *found.found]
    assert [way.kind for way in ways] == ["as it is", "more layers", "larger kernels", "stride", "pooling", "dilation"]
    assert found.missing == ()
    for way in ways:
        seen = seen_by_poison(way.design, shape)
        assert (int(seen.max() - seen.min()) + 1,) == way.field_px
        assert way.has_gaps == (len(seen) < way.field_px[0])
        assert way.kind == "as it is" or way.field_px[0] >= wanted
        assert way.account == account(way.design, shape, 3)
    module = build(ways[1].design, shape, 3)
    assert ways[1].account.num_parameters == sum(each.numel() for each in module.parameters())


def test_ways_are_the_smallest_of_their_kind():
    found = ways_to_see(12, (1, 64, 64), 3, SMALL)
    assert (found.now.kind, found.now.change, found.now.field_px) == ("as it is", "", (7, 7))
    assert {way.kind: (way.change, way.field_px[0]) for way in found.found} == {
        "more layers": ("3 * [conv(2, 3, padding=1), norm, relu] after the last map", 13),
        "larger kernels": ("kernels of 5", 13),
        "stride": ("stride=2 in conv1, conv2", 15),
        "pooling": ("maxpool(2) before conv2", 12),
        "dilation": ("dilation=2, 4 in conv2, conv3", 15),
    }


def test_stride_and_pooling_cost_less_memory_than_the_plain_stack_and_the_same_parameters():
    found = ways_to_see(100, (3, 224, 224), 1000)
    ways = {way.kind: way for way in found.found}
    for kind in ("stride", "pooling"):
        assert ways[kind].account.num_parameters == account(plain_stack(), (3, 224, 224), 1000).num_parameters
        assert ways[kind].activation_bytes < found.now.activation_bytes
        assert ways[kind].account.macs < found.now.account.macs


def test_activation_bytes_are_those_of_the_tensors():
    module, seen = build(SMALL, (1, 16, 16), 3), []
    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _layer, _given, output: seen.append(output.numel() * output.element_size()))
    module(torch.zeros(1, 1, 16, 16))
    assert activation_bytes(account(SMALL, (1, 16, 16), 3)) == sum(seen)


def test_ways_lead_through_residual_networks_too():
    for way in ways_to_see(440, (3, 224, 224), 10, resnet(18)).found:
        assert min(way.field_px) >= 440
        assert way.account == account(way.design, (3, 224, 224))


KINDS_OF_WAYS = ["more layers", "larger kernels", "stride", "pooling", "dilation"]


@pytest.mark.parametrize("wanted", [8, 15, 30, 150, 3000])
@pytest.mark.parametrize("shape", [(1, 64), (1, 12, 9)])
def test_each_kind_of_way_is_found_or_reported_why_not(wanted, shape):
    found = ways_to_see(wanted, shape, 3, SMALL)
    assert sorted([*(way.kind for way in found.found), *(each.kind for each in found.missing)]) == sorted(KINDS_OF_WAYS)
    assert all(min(way.field_px) >= wanted for way in found.found)


def test_ways_that_do_not_lead_there_say_how_far_they_lead_and_what_ends_them():
    stack = "conv(2, 3, padding=1), relu, conv(2, (3, 5), padding=(1, 2), dilation=(1, 1)), relu, conv(2, 3, padding=1), globalpool"
    found = ways_to_see(5000, (1, 40, 40), 3, parse(stack))
    assert found.found == ()
    assert found.missing == (
        NoWay("more layers", "at least 2,497 more convolutions are needed, and 200 are tried at most"),
        NoWay("larger kernels", "not every layer that it needs can be changed this way"),
        NoWay(
            "stride",
            "with stride=2 in conv1, conv2, conv3 it is 15 x 19 px, and no other convolution with a window larger than 1 has a stride of 1",
        ),
        NoWay("pooling", "with maxpool(2) before conv2, conv3 it is 18 x 22 px, and no other position is left for a pool"),
        NoWay(
            "dilation", "with dilation=2 in conv3 it is 9 x 11 px, and not every layer that it needs can be changed this way"
        ),
    )
    plain = {each.kind: each.reason for each in ways_to_see(900, (1, 64, 64), 3, SMALL).missing}
    assert plain["larger kernels"] == "with kernels of 131 it is 391 x 391 px, and nothing beyond is tried"
    assert plain["dilation"] == (
        "with dilation=2, 4, 8 in conv1, conv2, conv3 it is 29 x 29 px, and dilation=2, 4, 444 in conv1, conv2, conv3 spans 889 px "
        "in conv3, where the map is 64 x 64"
    )
    tight = parse("conv(2, 3), conv(2, 3), conv(2, 3), globalpool")
    (stride,) = [each.reason for each in ways_to_see(40, (1, 12, 12), 3, tight).missing if each.kind == "stride"]
    assert stride.startswith(
        "with stride=2 in conv1 it is 11 x 11 px, and stride=2 in conv1, conv2 is impossible: conv3: a 3 x 3 window"
    )


@pytest.mark.parametrize("wanted", [50, 51, 63])
def test_dilation_goes_on_in_the_last_convolution_where_doubling_ends(wanted):
    ways = {way.kind: way for way in ways_to_see(wanted, (3, 64, 64), 10, parse("conv(8, 3), globalpool, linear(10)")).found}
    dilation = wanted // 2
    assert (ways["dilation"].change, ways["dilation"].has_gaps) == (f"dilation={dilation} in conv1", True)
    assert ways["dilation"].field_px == (2 * dilation + 1,) * 2
    assert min(ways["dilation"].field_px) >= wanted > 2 * (dilation - 1) + 1


# ---- twins ----


def test_twins_of_one_convolution_have_the_published_costs():
    layer = torch.nn.Conv2d(3, 64, 3, padding=1)
    design, width, output, parameters = perceptron_twins(parse("conv(64, 3, padding=1)"), (3, 224, 224))
    assert (design.account.num_parameters, design.account.macs) == (1_792, 86_704_128)
    assert sum(each.numel() for each in layer.parameters()) == 1_792
    assert (width.account.num_parameters, width.account.macs) == (9_633_856, 9_633_792)
    assert output.account.num_parameters == 3 * 224 * 224 * 64 * 224 * 224 + 64 * 224 * 224 == 483_388_358_656
    assert parameters.note == "even layers with one unit have 150,529 parameters"


def test_twins_give_what_the_design_returns_and_have_the_parameters_of_torch():
    for twin in perceptron_twins(lenet5(), (1, 32, 32), 10):
        module = build(twin.design, (1, 32, 32), 10)
        assert module(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
        assert twin.account.num_parameters == sum(each.numel() for each in module.parameters())


def test_twins_keep_what_their_kind_says():
    design, width, output, parameters = perceptron_twins(lenet5(), (1, 32, 32), 10)
    assert [twin.kind for twin in (width, output, parameters)] == list(KINDS)
    assert width.widths == (6, 16, 120, 84, 10)
    assert output.widths == (6 * 14 * 14, 16 * 5 * 5, 120, 84, 10)
    narrower, wider = ((parameters.widths[0] + step, *parameters.widths[1:]) for step in (-1, 1))
    assert len(set(parameters.widths[:-1])) == 1
    miss = abs(parameters.account.num_parameters - design.account.num_parameters)
    for widths in (narrower, wider):
        other = (widths[0],) * (len(widths) - 1) + (10,)
        sizes = zip((1024, *other), other, strict=False)
        assert miss <= abs(sum((before + 1) * after for before, after in sizes) - design.account.num_parameters)


# ---- two accounts ----


def test_an_account_does_not_differ_from_itself_and_every_row_has_its_place():
    one, other = (account(resnet(depth), (3, 64, 64), 10) for depth in (18, 34))
    assert not any(pair.differs for pair in pairs(one, one))
    matched = pairs(one, other)
    assert [pair.left for pair in matched if pair.left] == list(one.rows)
    assert [pair.right for pair in matched if pair.right] == list(other.rows)


# ---- the table ----


@pytest.mark.parametrize(
    ("design", "shape"), [(resnet(18), (3, 64, 64)), (lenet5(), (1, 32, 32)), (parse("flatten"), (2, 3))]
)
def test_columns_of_the_table_add_up_to_its_last_line(design, shape):
    costs = account(design, shape, 10)
    heading, *lines = costs.to_table().splitlines()
    total = next(line for line in lines if re.match(r"[\d,]+ rows?\b", line))
    rows = lines[: lines.index(total)]
    assert len(rows) == len(costs.rows) == int(total.split()[0])
    for name, whole in (("parameters", costs.num_parameters), ("multiply-adds", costs.macs)):
        end = heading.index(name) + len(name)
        column = [int(line[:end].split()[-1].replace(",", "")) for line in (*rows, total)]
        assert sum(column[:-1]) == column[-1] == whole
    assert [line.split()[0] for line in rows] == [row.path for row in costs.rows]


def test_a_table_says_what_its_marks_mean():
    lines = account(parse("conv(4, 3), groupnorm(1)"), (1, 8, 8)).to_table().splitlines()
    assert (
        lines[-1]
        == "* every position also depends on positions beyond its window, as through a gate, a norm over the spatial axes or a running sum"
    )
    assert lines[2].split()[-1] == "3/1*"
    assert math.prod((4, 6, 6)) * 9 == int(lines[1].split()[-2].replace(",", ""))


def test_a_table_shows_the_notes_of_a_row():
    row = Row("odd", "fft", (4, 6, 6), 0, 0, (Field(6, 1, 0, is_exact=False),), notes=("hull",))
    assert Account((4, 6, 6), (4, 6, 6), (row,)).to_table().splitlines()[1].split()[-2:] == ["6/1~", "hull"]


def test_the_design_is_shown_before_and_after_each_change():
    ways = ways_to_see(
        20, (3, 32, 32), 10, parse("conv(8, 3, padding=1), relu, conv(16, 3, padding=1), relu, globalpool, linear(classes)")
    )
    assert [line for line in ways.text() if isinstance(line, str) and line.startswith(("before", "after"))] == [
        "before: conv(8, 3, padding=1), relu, conv(16, 3, padding=1), relu, globalpool, linear(classes)",
        "after, more layers: conv(16, 3, padding=1), norm, relu, ... is new, after relu2",
        "after, larger kernels: conv1 was conv(8, 3, padding=1), is conv(8, 11, padding=5); conv2 was conv(16, 3, padding=1), is "
        "conv(16, 11, padding=5)",
        "after, dilation: conv1 was conv(8, 3, padding=1), is conv(8, 3, padding=2, dilation=2); conv2 was conv(16, 3, padding=1), is "
        "conv(16, 3, padding=8, dilation=8)",
    ]


@pytest.mark.parametrize("text", ["resnet(18)", "vgg(11)", "mobilenet"])
def test_layers_before_a_change_are_rows_of_the_design_and_those_after_it_of_the_changed_one(text):
    design = resolve_network(text, input_shape=(3, 64, 64), num_classes=10)
    ways = ways_to_see(500, (3, 64, 64), 10, design)
    before = {row.path: without_bias(row.layer) for row in ways.now.account.rows}
    lines = {line.split(":")[0]: line for line in ways.text() if isinstance(line, str) and line.startswith("after")}
    for way in ways.found:
        after = {without_bias(row.layer) for row in way.account.rows}
        changes = re.findall(r"(\S+) was (.+?), is (.+?)(?:;|$)", lines[f"after, {way.kind}"])
        assert all(before[path] == old and new in after for path, old, new in changes)
        assert changes or " is new, " in lines[f"after, {way.kind}"]
