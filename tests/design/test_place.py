"""Shapes, paths and joins of placed designs, and the errors of impossible ones, remedies included."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from visus.design import Design, blurpool, conv, depthwise, maxpool, parse, resnet, sequence, transposed, upsample, vgg
from visus.design.graph import Impossible, propagate
from visus.errors import DesignError


def paths(text, shape=(3, 32, 32), num_classes=10):
    return [node.path for top in parse(text).place(shape, num_classes) for node in top.walk()]


def layers(text, shape=(3, 32, 32), num_classes=10):
    return {node.path: node.layer.text for top in parse(text).place(shape, num_classes) for node in top.walk()}


def test_paths_count_each_kind_from_one_and_names_win():
    assert paths(
        'conv(8), relu, maxpool(2), conv(8, name="middle"), conv(8), avgpool(2), relu, globalpool, linear(classes)'
    ) == (["conv1", "relu1", "pool1", "middle", "conv2", "pool2", "relu2", "globalpool1", "linear1"])


def test_paths_of_repeats_and_named_sequences():
    assert paths('2 * [conv(8)], 2 * relu, sequence(conv(8), name="last"), [conv(8)], 2 * sequence(norm, name="part")') == [
        *(
            "block1",
            "block1.conv1",
            "block2",
            "block2.conv1",
            "relu1",
            "relu2",
            "last",
            "last.conv1",
            "block3",
            "block3.conv1",
        ),
        *("part1", "part1.norm1", "part2", "part2.norm1"),
    ]


def test_automatic_names_avoid_those_that_are_given():
    assert paths('conv(8, name="conv2"), conv(8), conv(8)') == ["conv2", "conv1", "conv3"]


def test_residual_has_a_projection_only_where_shapes_differ():
    assert paths("residual(conv(3, 3, padding=1), norm)") == ["residual1", "residual1.conv1", "residual1.norm1"]
    wider = layers("residual(conv(8, 3, stride=2, padding=1), norm)")
    assert wider["residual1.projection.conv1"] == "conv(8, 1, stride=2, bias=False)"
    assert list(wider)[-3:] == ["residual1.projection", "residual1.projection.conv1", "residual1.projection.norm1"]


def test_residual_of_features_is_projected_by_a_linear_layer():
    assert layers("flatten, residual(linear(8), relu)")["residual1.projection.linear1"] == "linear(8, bias=False)"


def test_concat_stacks_channels_and_an_empty_branch_passes_the_input_on():
    nodes = parse("concat([conv(8, 1)], [maxpool(3, stride=1, padding=1), conv(4, 1)], [])").place((3, 16, 16))
    assert nodes[0].output_shape == (15, 16, 16)
    assert [branch[0].path for branch in nodes[0].branches] == ["concat1.branch1", "concat1.branch2", "concat1.branch3"]


def test_convolution_has_no_bias_only_where_a_batch_norm_follows_directly():
    found = layers(
        "[conv(8)], norm, conv(8), relu, norm, conv(8, bias=True), norm, residual(conv(8, 1)), groupnorm(2), depthwise(3), norm"
    )
    assert found["block1.conv1"] == "conv(8, 3, bias=False)"
    assert found["conv1"] == found["conv2"] == "conv(8, 3, bias=True)"
    assert found["residual1.conv1"] == "conv(8, 1, bias=True)"
    assert found["depthwise1"] == "depthwise(3, bias=False)"
    assert layers("transposed(8, 2), norm")["transposed1"] == "transposed(8, 2, bias=False)"


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            "conv(16, 3), maxpool(3, stride=1), conv(16, 3), maxpool(5), conv(32, 5)",
            (3, 16, 16),
            "conv3: a 5 x 5 window does not fit a 2 x 2 map: (2 - 5 + 2*0)/1 + 1 = -2. The smallest image for this design is "
            "31 x 31 (yours: 16 x 16). Or: padding=2; or kernel_size=2; or drop pool2.",
        ),
        (
            "conv(8, 9), maxpool(2), relu, conv(8, 9)",
            (1, 20),
            "conv2: a window of 9 does not fit a length of 6: (6 - 9 + 2*0)/1 + 1 = -2. The shortest signal for this design is "
            "26 (yours: 20). Or: padding=2; or kernel_size=6; or drop pool1.",
        ),
        (
            "conv(8, 3, stride=2), conv(8, 3, dilation=2)",
            (1, 8, 8, 8),
            "conv2: a 3 x 3 x 3 window that spans 5 x 5 x 5 does not fit a 3 x 3 x 3 map: (3 - 5 + 2*0)/1 + 1 = -1. The smallest "
            "volume for this design is 11 x 11 x 11 (yours: 8 x 8 x 8). Or: padding=1; or kernel_size=2; or stride=1 in conv1.",
        ),
        (
            "5 * [maxpool(2)]",
            (3, 28, 28),
            "block5.pool1: a 2 x 2 window does not fit a 1 x 1 map: (1 - 2 + 2*0)/2 + 1 = 0.5, rounded down to 0. The smallest "
            "image for this design is 32 x 32 (yours: 28 x 28). Or: padding=1.",
        ),
        (
            "maxpool(2), conv(8, 5), globalpool, groupnorm(3)",
            (3, 8, 8),
            "conv1: a 5 x 5 window does not fit a 4 x 4 map: (4 - 5 + 2*0)/1 + 1 = 0.",
        ),
        (
            "residual(conv(8), relu, conv(8))",
            (3, 32, 32),
            "residual1: the layers turn a map of 32 x 32 into 28 x 28, which cannot be added to the input: a projection of stride 1 "
            "makes it 32 x 32. What works: padding=1 in residual1.conv1 and padding=1 in residual1.conv2.",
        ),
        (
            "residual(maxpool(2))",
            (3, 31, 31),
            "residual1: the layers turn a map of 31 x 31 into 15 x 15, which cannot be added to the input: a projection of stride 2 "
            "makes it 16 x 16. The smallest image for this design is 2 x 2 (yours: 31 x 31). The next larger size that fits is "
            "32 x 32.",
        ),
        (
            "residual(flatten, linear(8))",
            (3, 8, 8),
            "residual1: the layers turn a map of 3 x 8 x 8 into 8 features, which cannot be added to the input. Keep flatten and "
            "globalpool out of the residual.",
        ),
        (
            "concat([conv(8)], [conv(4, 1)])",
            (3, 8, 8),
            "concat1: branch1 ends in a map of 8 x 6 x 6 and branch2 in a map of 4 x 8 x 8. To be stacked, they must agree in all but "
            "the channels. What works: padding=1 in concat1.branch1.conv1.",
        ),
        (
            "conv(8), linear(4)",
            (3, 8, 8),
            "linear1: linear needs features, but its input is a map of 8 x 6 x 6. Add flatten or globalpool before it.",
        ),
        (
            "flatten, conv(8)",
            (3, 8, 8),
            "conv1: conv needs a map (channels and at least one axis), and gets 192 features. Put it before flatten, globalpool or linear.",
        ),
        (
            "conv(8, groups=3)",
            (6, 8, 8),
            "conv1: groups=3 must divide the 6 channels that come in and the 8 that go out. Groups that do: 1, 2.",
        ),
        (
            "conv(10), groupnorm(4)",
            (3, 8, 8),
            "groupnorm1: 10 channels cannot be cut into 4 equal groups. Nearest that can: 5.",
        ),
        (
            "conv(8, (3, 5))",
            (3, 8),
            "conv1: kernel_size=(3, 5) has 2 numbers, and the map has 1 axis. Give one number for all axes, or 1.",
        ),
        (
            "conv(8), transposed(4, 3, padding=4)",
            (3, 4, 4),
            "transposed1: a 3 x 3 transposed window does not fit a 2 x 2 map: (2 - 1)*1 - 2*4 + 1*(3 - 1) + 0 + 1 = -4. The smallest "
            "image for this design is 9 x 9 (yours: 4 x 4). Or: padding=1.",
        ),
        (
            "maxpool(2), blurpool(5)",
            (3, 5, 5),
            "blurpool1: a blurpool of 5 mirrors 2 px at the border and needs 3 px on every axis, and gets a 2 x 2 map. The smallest "
            "image for this design is 6 x 6 (yours: 5 x 5). Or: kernel_size=3; or drop pool1.",
        ),
        (
            "residual(upsample(2))",
            (3, 8, 8),
            "residual1: the layers turn a map of 8 x 8 into 16 x 16, which cannot be added to the input: a projection does not "
            "enlarge. Keep what enlarges the map out of the residual.",
        ),
        (
            "conv(8, 3, padding=1), concat([], [maxpool(2), upsample(2)])",
            (3, 31, 31),
            "concat1: branch1 ends in a map of 8 x 31 x 31 and branch2 in a map of 8 x 30 x 30. To be stacked, they must agree in all "
            "but the channels. The smallest image for this design is 2 x 2 (yours: 31 x 31). The next larger size that fits is "
            "32 x 32.",
        ),
        (
            "concat([], [6 * maxpool(2), 6 * upsample(2)])",
            (3, 65, 65),
            "concat1: branch1 ends in a map of 3 x 65 x 65 and branch2 in a map of 3 x 64 x 64. To be stacked, they must agree in all "
            "but the channels. The smallest image for this design is 64 x 64 (yours: 65 x 65). The next larger size that fits is "
            "128 x 128.",
        ),
        (
            "5 * upsample(32)",
            (3, 8, 8),
            "upsample4: upsample makes an axis of 8,388,608 px; at most 1,000,000 are allowed. Enlarge the map less.",
        ),
        (
            "globalpool, se(4)",
            (3, 8, 8),
            "se1: se needs a map (channels and at least one axis), and gets 3 features. Put it before flatten, globalpool or linear.",
        ),
        (
            "transposed(8, 2, groups=2)",
            (3, 8),
            "transposed1: groups=2 must divide the 3 channels that come in and the 8 that go out. Groups that do: 1.",
        ),
        (
            "globalpool, linear(classes)",
            (3, 8, 8),
            "linear1: out_features=classes stands for the number of classes, which is not known here. Give num_classes.",
        ),
        (
            "relu",
            (0, 8),
            "an input shape is (channels, *spatial) with one to three axes, or (features,), with positive integers and no batch axis, not (0, 8).",
        ),
    ],
)
def test_impossible_designs_are_reported_with_numbers_and_remedies(text, shape, message):
    with pytest.raises(DesignError) as caught:
        parse(text).place(shape)
    assert str(caught.value) == message


def test_channels_given_last_are_hinted_at():
    with pytest.raises(DesignError) as caught:
        vgg(16).place((224, 224, 3), 10)
    assert str(caught.value).endswith(
        "The input 224 x 224 x 3 looks like channels last; channels must come first: 3 x 224 x 224, which this design accepts."
    )


def test_no_layer_of_a_projected_residual_may_be_called_projection():
    with pytest.raises(DesignError) as caught:
        parse('residual(conv(8, 1, name="projection"))').place((3, 8, 8))
    assert str(caught.value) == (
        "residual1: the name projection is kept for the layers that fit the input to the sum. Choose another name."
    )


windowed = st.one_of(
    st.builds(conv, st.integers(1, 4), st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 2)),
    st.builds(depthwise, st.integers(1, 5), stride=st.integers(1, 2), dilation=st.integers(1, 3)),
    st.builds(maxpool, st.integers(2, 4), stride=st.integers(1, 3), padding=st.integers(0, 1), ceil_mode=st.booleans()),
    st.builds(transposed, st.integers(1, 4), st.integers(1, 4), stride=st.integers(1, 2), padding=st.integers(0, 2)),
    st.builds(upsample, st.integers(1, 2)),
    st.builds(blurpool, st.integers(3, 5), stride=st.integers(1, 2)),
)
stacks = st.lists(
    windowed | st.lists(windowed, min_size=1, max_size=3).map(lambda row: 2 * sequence(*row)), min_size=1, max_size=5
)


def fits(design, shape):
    try:
        propagate(design.layers, shape, None)
    except (DesignError, Impossible):
        return False
    return True


@given(stacks.map(Design), st.integers(1, 3))
def test_smallest_input_goes_through_and_one_pixel_less_on_any_axis_does_not(design, num_axes):
    smallest = design.smallest_input((2, *num_axes * [1]))
    assume(smallest is not None)
    assert fits(design, smallest)
    for axis in range(1, num_axes + 1):
        less = tuple(length - (index == axis) for index, length in enumerate(smallest))
        assert less[axis] == 0 or not fits(design, less)


joins = st.one_of(
    st.builds(lambda row: f"residual({', '.join(item.text for item in row)})", st.lists(windowed, min_size=1, max_size=2)),
    st.builds(lambda one, two: f"concat({one.text}, {two.text})", windowed, windowed),
    windowed.map(lambda item: item.text),
)


@given(st.lists(joins, min_size=1, max_size=3).map(", ".join).map(parse))
def test_smallest_input_of_designs_with_joins_is_the_first_that_goes_through(design):
    sizes = [size for size in range(1, 60) if fits(design, (2, size))]
    smallest = design.smallest_input((2, 1))
    assert smallest == ((2, sizes[0]) if sizes else None) or (not sizes and smallest is not None and smallest[1] >= 60)


@given(stacks.map(Design), st.integers(1, 12))
def test_every_remedy_that_is_offered_works(design, size):
    try:
        design.place((2, size, size))
    except DesignError as error:
        text = str(error)
    else:
        return
    where = text.partition(":")[0]
    for remedy in re.findall(r"(?:Or: |What works: |; or )([^;]*?)(?=;|\.$|\. )", text):
        change, _, place = remedy.partition(" in ")
        assert fits(changed(design, change, place or where), (2, size, size)), remedy


def changed(design, change, where):
    """The design with one written layer changed, found by the path of one of its placed copies."""
    if change.startswith("drop "):
        where = change.removeprefix("drop ")
    counts = {}
    rows = [(item, None) if not item.children else (item.body, item.times) for item in design.layers]
    found = []
    for row, (item, times) in enumerate(rows):
        if times is None:
            counts[item.prefix] = counts.get(item.prefix, 0) + 1
            found.append((f"{item.prefix}{counts[item.prefix]}", row, None))
            continue
        for _ in range(times):
            counts["block"] = counts.get("block", 0) + 1
            inner = {}
            for index, child in enumerate(item.children):
                inner[child.prefix] = inner.get(child.prefix, 0) + 1
                found.append((f"block{counts['block']}.{child.prefix}{inner[child.prefix]}", row, index))
    _, row, index = next(entry for entry in found if entry[0] == where)
    texts = [[item.text] if times is None else [child.text for child in item.children] for item, times in rows]
    place = 0 if index is None else index
    if change.startswith("drop "):
        del texts[row][place]
    else:
        name = change.partition("=")[0]
        old = texts[row][place]
        without = re.sub(rf", {name}=[^,)]*(?=[,)])", "", old)
        if name == "kernel_size":
            head, _, tail = old.partition(")")[0].partition("(")
            arguments = tail.split(", ")
            arguments[1 if head == "conv" else 0] = change.partition("=")[2]
            texts[row][place] = f"{head}({', '.join(arguments)})"
        else:
            texts[row][place] = f"{without[:-1]}, {change})"
    parts = [
        text[0] if times is None else f"{times} * [{', '.join(text)}]"
        for (_, times), text in zip(rows, texts, strict=True)
        if text
    ]
    return parse(", ".join(parts))


def test_a_number_of_classes_below_one_is_refused():
    with pytest.raises(DesignError) as caught:
        parse("globalpool, linear(classes)").place((3, 8, 8), 0)
    assert str(caught.value) == "the number of classes must be at least 1, not 0."


def test_torch_averages_no_volume_that_is_shorter_than_the_window():
    with pytest.raises(DesignError) as caught:
        parse("avgpool(3, padding=1)").place((1, 2, 4, 4))
    assert str(caught.value) == (
        "pool1: torch averages volumes only where the map without its padding is as long as the window, 3, and it is 2 x 4 x 4. "
        "The smallest volume for this design is 3 x 3 x 3 (yours: 2 x 4 x 4). Or: kernel_size=2."
    )


def test_an_error_about_a_design_of_ten_thousand_halvings_stays_short():
    with pytest.raises(DesignError) as caught:
        parse("10000 * maxpool(2)").place((3, 8, 8))
    assert len(str(caught.value)) < 300


@pytest.mark.long
def test_a_deep_network_of_joins_is_explained_in_little_time():
    with pytest.raises(DesignError, match=r"residual1"):
        parse("residual(conv(8), relu), 500 * [residual(conv(8, 3, padding=1), norm), relu]").place((3, 32, 32))


def test_resnet_text_uses_one_line_for_each_part():
    assert resnet(18).text.splitlines()[:2] == ["conv(64, 7, stride=2, padding=3),", "norm,"]
    assert max(map(len, resnet(152).text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            "residual(transposed(4, 1, stride=2)), globalpool",
            (4, 18, 17),
            "residual1: the layers turn a map of 18 x 17 into 35 x 33, which cannot be added to the input: a projection does not enlarge. "
            "Keep what enlarges the map out of the residual. The smallest image for this design is 1 x 1; no size of at least yours (18 x 17) was found to fit.",
        ),
        (
            "conv(8, 11), globalpool",
            (3, 8, 8),
            "conv1: an 11 x 11 window does not fit an 8 x 8 map: (8 - 11 + 2*0)/1 + 1 = -2. The smallest image for this design is "
            "11 x 11 (yours: 8 x 8). Or: padding=2; or kernel_size=8.",
        ),
    ],
)
def test_sizes_are_reported_in_words_that_fit_them(text, shape, message):
    with pytest.raises(DesignError) as caught:
        parse(text).place(shape)
    assert str(caught.value) == message
