"""The account: columns add up, receptive fields are the published ones, joins and global layers included."""

import json
import re
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.design import Account, account, alexnet, parse, resnet, resolve_network, vgg
from visus.design.layers.registry import conv, flatten, layernorm, linear, maxpool, relu, softmax
from visus.design.plan import Design
from visus.errors import DesignError, UsageError
from visus.geometry import Field
from visus.networks.build import build
from visus.networks.trace import trace


def fields(text, shape=(3, 32, 32)):
    return {row.path: row.fields for row in account(parse(text), shape, 10).rows}


def test_columns_add_up_to_the_totals_and_to_those_of_the_nodes():
    costs = account(resnet(50), (3, 64, 64), 10)
    nodes = resnet(50).place((3, 64, 64), 10)
    assert (
        costs.num_parameters == sum(row.num_parameters for row in costs.rows) == sum(node.num_parameters for node in nodes)
    )
    assert costs.macs == sum(row.macs for row in costs.rows) == sum(node.macs for node in nodes)


def last_field(design, path):
    (row,) = [row for row in account(design, (3, 224, 224), 1000).rows if row.path == path]
    return row.fields[0].size, row.fields[0].stride


def test_fields_of_alexnet_and_vgg16_are_the_published_ones():  # Araujo et al. 2019, doi:10.23915/distill.00021
    assert last_field(alexnet(), "pool3") == (195, 32)
    assert last_field(vgg(16), "stage5.pool1") == (212, 32)


def test_field_of_resnet18_is_the_sum_of_its_windows():
    stem, stage1 = 7 + 2 * 2, 4 * 2 * 4
    later = [2 * step + 3 * 2 * 2 * step for step in (4, 8, 16)]  # one window before the step doubles, three after
    assert last_field(resnet(18), "stage4.block2.relu1") == (stem + stage1 + sum(later), 32) == (435, 32)


def test_paths_that_meet_have_a_row_with_the_field_of_both():
    found = account(parse("residual(conv(8, 3, padding=1), norm, conv(8, 3, padding=1))"), (3, 32, 32)).rows
    assert [(row.path, row.layer) for row in found[-3:]] == [
        ("residual1.projection.conv1", "conv(8, 1, bias=False)"),
        ("residual1.projection.norm1", "norm"),
        ("residual1", "sum"),
    ]
    assert found[-1].fields == (Field(5, 1, -2), Field(5, 1, -2))
    assert found[-1].aligned


def test_paths_with_unequal_middles_are_not_aligned():
    rows = account(parse('concat([conv(8, 2, padding="same")], [conv(8, 3, padding=1)])'), (3, 32)).rows
    assert (rows[-1].layer, rows[-1].fields, rows[-1].aligned) == ("stack", (Field(3, 1, -1),), False)


def test_a_sum_with_the_input_itself_holds_the_field_of_the_input():
    (conv, total) = account(parse('residual(conv(3, 2, padding="same"))'), (3, 32)).rows
    assert (conv.fields, total.fields, total.aligned) == ((Field(2, 1, 0),), (Field(2, 1, 0),), False)


def test_layers_that_look_at_all_positions_see_the_whole_axis():
    found = fields("conv(8, (3, 5)), conv(8), globalpool, linear(4)", (3, 20, 30))
    assert found["conv1"] == (Field(3, 1, 0), Field(5, 1, 0))
    assert found["globalpool1"] == found["linear1"] == (Field.whole(20), Field.whole(30))


def test_a_norm_over_the_map_keeps_the_windows_and_sees_the_whole_axis():
    (first, second) = (fields("conv(8), groupnorm(2), conv(8)", (3, 20))[path][0] for path in ("groupnorm1", "conv2"))
    assert (first, second) == (Field(3, 1, 0, is_whole=True), Field(5, 1, 0, is_whole=True))
    assert (
        [first.interval(index) for index in (0, 17)] == [(0, 19), (0, 19)] == [second.interval(index) for index in (0, 15)]
    )


def test_features_see_their_window_and_linear_sees_all_that_is_read():
    found = fields("conv(8, 1, stride=2), flatten, norm, linear(4)", (3, 20))
    assert found["flatten1"] == found["norm1"] == (Field(1, 2, 0),)
    assert found["linear1"] == (Field(19, 0, 0, is_whole=True),)


def test_account_as_json_is_plain_data():
    plain = account(parse("conv(2, 3), relu, globalpool, linear(classes)"), (1, 8), 3).to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["rows"][0] == {
        "path": "conv1",
        "layer": "conv(2, 3, bias=True)",
        "output_shape": [2, 6],
        "num_parameters": 8,
        "macs": 36,
        "fields": [{"size": 3, "stride": "1", "start": 0, "is_whole": False, "is_exact": True}],
        "aligned": True,
        "notes": [],
        "bytes_weights": 32,
        "bytes_output": 48,
        "bytes_saved": 32,
        "unread_px": [0],
    }
    assert (plain["num_parameters"], plain["macs"], plain["bytes_weights"]) == (17, 42, 68)


def test_bytes_are_those_of_weights_and_buffers_and_of_one_output():
    found = {row.path: row for row in account(parse("conv(8, 3), norm, relu, blurpool(4), globalpool"), (3, 20, 30)).rows}
    assert [found[path].bytes_weights for path in found] == [4 * 8 * 27, 4 * 4 * 8 + 8, 0, 4 * 16, 0]
    assert [found[path].bytes_output for path in found] == [4 * 8 * 18 * 28] * 3 + [4 * 8 * 9 * 14, 32]


def test_border_that_no_window_reaches_is_counted_on_each_axis():
    found = {row.path: row.unread_px for row in account(parse("conv(8, 2, stride=2), relu, maxpool(3)"), (3, 9, 12)).rows}
    assert found == {"conv1": (1, 0), "relu1": (), "pool1": (1, 0)}


def test_a_gate_keeps_the_windows_and_sees_the_whole_axis():
    (gate,) = fields("conv(8), se(2)", (3, 20))["se1"]
    assert (gate, gate.interval(0)) == (Field(3, 1, 0, is_whole=True), (0, 19))


def test_up_and_down_again_next_to_its_input_is_aligned_unless_the_way_up_is_shifted():
    skip = "conv(8, 3, padding=1), concat([], [maxpool(2), conv(8, 3, padding=1), {}])"
    for up in ("upsample(2)", 'upsample(2, mode="linear")', "transposed(8, 4, stride=2, padding=1)"):
        rows = account(parse(skip.format(up)), (3, 32)).rows
        assert (rows[-1].layer, rows[-1].fields[0].stride, rows[-1].aligned) == ("stack", 1, True)
    shifted = skip.format("transposed(8, 3, stride=2, padding=1, output_padding=1)")
    assert not account(parse(shifted), (3, 32)).rows[-1].aligned


def test_upsampling_divides_the_step_and_keeps_the_size_of_the_largest_field():
    (near,) = fields("maxpool(4), upsample(2)", (3, 32))["upsample1"]
    (line,) = fields('maxpool(4), upsample(8, mode="linear")', (3, 32))["upsample1"]
    assert (near.size, near.stride, near.start, near.interval(1), near.interval(2)) == (4, 2, 0, (0, 3), (4, 7))
    assert (line.size, line.stride, line.start, line.interval(63)) == (8, Fraction(1, 2), -4, (28, 31))


SLIM_RESNET50 = """
conv(64, 7, stride=2, padding=3), norm, relu, maxpool(3, stride=2, padding=1),
sequence(2 * [{}, relu], {}, relu, name="stage1"), sequence(3 * [{}, relu], {}, relu, name="stage2"),
sequence(5 * [{}, relu], {}, relu, name="stage3"), sequence(3 * [{}, relu], name="stage4")
""".format(
    *(
        f"residual(conv({width}, 1), norm, relu, conv({width}, 3, stride={stride}, padding=1), norm, relu, conv({4 * width}, 1), norm)"
        for width, stride in ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1))
    )
)
SLIM_ALEXNET = """
conv(64, 11, stride=4), relu, maxpool(3, stride=2), conv(192, 5, padding=2), relu, maxpool(3, stride=2),
2 * [conv(384, 3, padding=1), relu], conv(256, 3, padding=1), relu, maxpool(3, stride=2)
"""
PUBLISHED_FIELDS = {  # size, step, padding up to the last map; Araujo, Norris and Sim 2019, doi:10.23915/distill.00021
    "alexnet_v2": (SLIM_ALEXNET, (195, 32, 64)),
    "alexnet with 2 px of padding first": ("alexnet", (195, 32, 66)),
    "vgg16": ("vgg(16)", (212, 32, 90)),
    "mobilenet_v1": ("mobilenet(1)", (315, 32, 157)),
    "inception_v3": ("inception(3)", (1311, 32, 618)),
    "resnet_v1_50, stride in the last unit of a stage": (SLIM_RESNET50, (483, 32, 241)),
    "resnet18": ("resnet(18)", (435, 32, 217)),
    "resnet34": ("resnet(34)", (899, 32, 449)),
    "resnet50": ("resnet(50)", (427, 32, 213)),
    "resnet101": ("resnet(101)", (971, 32, 485)),
    "resnet152": ("resnet(152)", (1451, 32, 725)),
    "densenet121": ("densenet(121)", (2071, 32, 1021)),
    "mobilenet_v2": ("mobilenet(2)", (491, 32, 245)),
    "convnext_tiny": ('convnext("tiny")', (1688, 32, 828)),
    "efficientnet_lite0": ("efficientnet_lite(0)", (851, 32, 425)),
}


@pytest.mark.parametrize("name", PUBLISHED_FIELDS)
def test_size_step_and_padding_of_the_last_map_are_the_published_ones(name):
    network, expected = PUBLISHED_FIELDS[name]
    rows = account(resolve_network(network, input_shape=(3, 321, 321), num_classes=10), (3, 321, 321), 10).rows
    last = [row for row in rows if len(row.output_shape) == 3][-1]
    for field in last.fields:
        assert (field.size, field.stride, -field.start) == expected
    assert all(row.aligned for row in rows)


# ---- a map laid out in a row ----


def features_poisoned(design, shape):
    """Which pixels each feature of what comes out depends on (features, *size), found by poisoning one after another."""
    module, count = build(design, shape, 3).double().eval(), torch.Size(shape[1:]).numel()
    with torch.no_grad():
        for values in module.parameters():
            values.copy_(torch.rand_like(values) + 0.5)
        batch = torch.rand(count, *shape, dtype=torch.float64)
        batch.flatten(2)[torch.arange(count), :, torch.arange(count)] = float("nan")
        return module(batch).isnan().T.reshape(-1, *shape[1:])


def ends_on(poisoned, axis):
    """First and last pixel of each feature on one axis."""
    others = tuple(each + 1 for each in range(poisoned.ndim - 1) if each != axis)
    lines = poisoned.any(dim=others) if others else poisoned
    return [(int(line.nonzero().min()), int(line.nonzero().max())) if line.any() else None for line in lines]


after_flatten = st.sampled_from([[], [relu], [linear(5)], [layernorm], [softmax], [relu, linear(4), relu]])


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.sampled_from([(9,), (6, 7), (3, 4, 5)]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.booleans(),
    after_flatten,
)
def test_each_feature_of_a_laid_out_map_reads_what_the_oracle_says(channels, size, kernel, stride, padding, pooled, after):
    pool = [maxpool(2, stride=1)] if pooled else []
    layer = conv(channels, kernel, stride=stride, padding=min(padding, kernel - 1))  # no window of padding alone
    design = Design([layer, *pool, flatten, *after])
    try:
        rows = account(design, (2, *size), 3).rows
    except DesignError:
        return
    poisoned = features_poisoned(design, (2, *size))
    for axis, field in enumerate(rows[-1].fields):
        assert [field.interval(unit) for unit in range(len(poisoned))] == ends_on(poisoned, axis)


def test_features_stacked_side_by_side_read_what_the_oracle_says():
    design = parse("conv(2, 2), concat([flatten], [maxpool(2), flatten, relu], [flatten, linear(3)]), norm")
    row = account(design, (1, 5, 6), 3).rows[-1]
    poisoned = features_poisoned(design, (1, 5, 6))
    for axis, field in enumerate(row.fields):
        assert [field.interval(unit) for unit in range(len(poisoned))] == ends_on(poisoned, axis)
    (stack,) = [row for row in account(design, (1, 5, 6), 3).rows if row.layer == "stack"]
    assert (stack.output_shape, stack.aligned) == ((40 + 8 + 3,), False)
    with pytest.raises(IndexError):
        stack.fields[0].interval(40 + 8 + 3)


def test_a_feature_that_is_not_there_has_no_box():
    row = account(parse("conv(4, 3), flatten"), (1, 9, 8)).rows[1]
    assert (row.output_shape, row.fields[0].interval(167), row.fields[1].interval(167)) == ((168,), (6, 8), (5, 7))
    with pytest.raises(IndexError) as caught:
        row.fields[0].interval(168)
    assert str(caught.value) == "there are 168 positions, and position 168 was asked for."


def test_a_norm_over_groups_of_features_is_said_not_to_be_exact():
    one, several = (account(parse(f"flatten, groupnorm({groups})"), (4, 6)).rows[1].fields[0] for groups in (1, 2))
    assert (one.is_whole, one.is_exact, several.is_whole, several.is_exact) == (True, True, True, False)


# ---- long signals and large images ----


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("compact", (1, 1_000_000)),
        ("16 * [conv(8, 3, stride=2, padding=1), norm, relu], globalpool, linear(classes)", (1, 1_000_000)),
        (
            "conv(8, 3), maxpool(2), conv(8, 5), maxpool(3), transposed(8, 4, stride=2), flatten, linear(classes)",
            (3, 4096, 4096),
        ),
        ("resnet(50)", (3, 4096, 4096)),
        ("conv(8, 400, padding=1000, dilation=7), blurpool(5, stride=8), upsample(3), flatten, norm", (1, 2_000_000)),
    ],
)
def test_a_long_signal_costs_no_more_time_than_a_short_one(text, shape):
    design = resolve_network(text, input_shape=shape, num_classes=5)
    seconds = []
    for _ in range(3):  # a collection of garbage or a cold cache may slow one
        start = time.process_time()
        costs = account(design, shape, 5)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3
    assert costs.rows[-1].fields[0].interval(0)


# ---- a row by its path ----


def test_a_row_is_found_by_its_path_with_the_values_of_its_window():
    costs = account(
        parse("conv(8, (5, 3), stride=2), relu, maxpool(3, 2), transposed(4, 2, stride=2), flatten, linear(classes)"),
        (1, 40, 40),
        3,
    )
    assert costs["conv1"] is costs.row("conv1") is costs.rows[0]
    assert [(each.kernel_size, each.stride) for each in costs.windows("conv1")] == [(5, 2), (3, 2)]
    assert [(each.kernel_size, each.stride) for each in costs.windows("pool1")] == [(3, 2), (3, 2)]
    assert [(each.kernel_size, each.stride) for each in costs.windows("transposed1")] == [(2, 2), (2, 2)]
    assert costs.windows("relu1") == costs.windows("linear1") == ()


def test_a_module_has_the_windows_of_its_design():
    design = parse("conv(8, 3, padding=1, dilation=1), norm, relu, maxpool(2), globalpool, linear(classes)")
    of_design, of_module = account(design, (3, 32, 32), 10), trace(build(design, (3, 32, 32), 10), (3, 32, 32))
    for path in ("conv1", "norm1", "pool1", "linear1"):
        assert of_module.windows(path) == of_design.windows(path)


@pytest.mark.parametrize("find", [Account.row, Account.__getitem__, Account.windows])
def test_an_unknown_row_is_refused_with_the_closest_one(find):
    with pytest.raises(UsageError) as caught:
        find(account(parse("conv(8, 3), relu, globalpool, linear(classes)"), (1, 8, 8), 3), "conv11")
    assert str(caught.value) == "unknown layer 'conv11'. Did you mean 'conv1'? Known: conv1, globalpool1, linear1, relu1."
    with pytest.raises(UsageError) as caught:
        find(account(resnet(18), (3, 64, 64), 3), "stage4.block2.residual1.conv")
    assert re.fullmatch(
        r"unknown layer 'stage4.block2.residual1.conv'. Did you mean 'stage4.block2.residual1.conv\d'\? There are \d+, from "
        r"conv1 to linear1; the summary of the network lists them.",
        str(caught.value),
    )
