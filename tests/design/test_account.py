"""The account: columns add up, receptive fields are the published ones, joins and global layers included."""

import json

from visus.design import account, alexnet, parse, resnet, vgg
from visus.geometry import Field


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
    return row.fields[0].size, row.fields[0].step


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
    assert [first.box(index) for index in (0, 17)] == [(0, 19), (0, 19)] == [second.box(index) for index in (0, 15)]


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
        "fields": [{"size": 3, "step": "1", "start": 0, "is_whole": False, "is_exact": True}],
        "aligned": True,
        "notes": [],
    }
    assert (plain["num_parameters"], plain["macs"]) == (17, 42)
