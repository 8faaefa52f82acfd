"""Text and design: an exact round trip, nothing evaluated, all mistakes told together."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.design import (
    FAMILIES,
    LAYERS,
    Design,
    Repeat,
    avgpool,
    blurpool,
    classes,
    concat,
    conv,
    depthwise,
    dropout,
    droppath,
    elu,
    globalpool,
    groupnorm,
    leakyrelu,
    linear,
    maxpool,
    norm,
    parse,
    relu,
    repeat,
    residual,
    resnet,
    resolve_network,
    scale,
    se,
    sequence,
    transposed,
    upsample,
    vgg,
    whiten,
)
from visus.errors import DesignError
from visus.networks.build import build

KNOWN = ", ".join(sorted([*LAYERS, *FAMILIES, "concat", "residual", "sequence"])) + "."
names = st.none() | st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
counts = st.integers(1, 600)
sizes = st.integers(1, 7) | st.tuples(*3 * [st.integers(1, 7)]) | st.tuples(st.integers(1, 7))
pads = st.integers(0, 4) | st.tuples(st.integers(0, 4), st.integers(0, 4))
flags = st.booleans()
leaves = st.one_of(
    st.builds(
        conv,
        counts | st.just(classes),
        sizes,
        stride=sizes,
        padding=pads,
        dilation=sizes,
        groups=counts,
        bias=st.none() | flags,
        name=names,
    ),
    st.builds(conv, counts, sizes, padding=st.just("same"), name=names),
    st.builds(whiten, sizes, stride=sizes, padding=pads, name=names),
    st.builds(whiten, sizes, padding=st.just("same"), name=names),
    st.builds(depthwise, sizes, sizes, padding=pads, depth_multiplier=counts, bias=st.none() | flags, name=names),
    st.builds(maxpool, st.integers(2, 5), stride=st.none() | sizes, padding=st.integers(0, 1), ceil_mode=flags, name=names),
    st.builds(avgpool, sizes, name=names),
    st.builds(globalpool, st.sampled_from(["avg", "max"]), name=names),
    st.builds(groupnorm, counts, name=names),
    st.builds(linear, counts | st.just(classes), bias=flags, name=names),
    st.builds(dropout, st.floats(0, 1, exclude_max=True), name=names),
    st.builds(
        transposed,
        counts | st.just(classes),
        sizes,
        stride=sizes,
        padding=pads,
        dilation=sizes,
        groups=counts,
        bias=st.none() | flags,
        name=names,
    ),
    st.builds(upsample, sizes, mode=st.sampled_from(["nearest", "linear"]), name=names),
    st.builds(blurpool, st.integers(3, 7), stride=sizes, name=names),
    st.builds(
        se,
        counts,
        activation=st.sampled_from(["relu", "silu"]),
        scale_activation=st.sampled_from(["sigmoid", "hardsigmoid"]),
        name=names,
    ),
    st.builds(scale, st.floats(-10, 10), name=names),
    st.builds(droppath, st.floats(0, 1, exclude_max=True), name=names),
    st.builds(leakyrelu, st.floats(0, 1), name=names),
    st.builds(elu, st.floats(0, 4), name=names),
    st.builds(norm, eps=st.floats(1e-8, 1), name=names),
    st.sampled_from([layer for layer in LAYERS.values() if not vars(layer).get("__annotations__")]).flatmap(
        lambda layer: st.builds(layer, name=names)
    ),
)


@st.composite
def rows(draw, depth):
    """A row of items, groups of groups among them, no two neighbors with the same name."""
    return draw(st.lists(item(depth), min_size=1, max_size=4, unique_by=lambda each: each.name or id(each)))


@st.composite
def item(draw, depth):
    group = draw(st.sampled_from([*3 * ["layer"], "sequence", "residual", "concat", "repeat"])) if depth else "layer"
    if group == "layer":
        return draw(leaves)
    if group == "repeat":
        return draw(st.integers(1, 4)) * draw(item(depth - 1))
    branches = [*draw(rows(depth - 1)), *([[]] if group == "concat" else [])]
    return {"sequence": sequence, "residual": residual, "concat": concat}[group](*branches, name=draw(names))


@given(rows(depth=3).map(Design))
def test_text_of_a_design_reads_back_as_the_same_design(design):
    assert parse(design.text) == design
    assert parse(design.text).text == design.text


def test_readme_design_is_written_as_it_was_read():
    text = (
        "conv(32, 3, padding=1),\nnorm,\nrelu,\nmaxpool(2),\n"
        "2 * [residual(conv(64, 3, padding=1), norm, relu, conv(64, 3, padding=1), norm), relu],\nglobalpool,\nlinear(classes)"
    )
    assert parse(text).text == text


def test_python_names_build_the_same_design_as_the_text():
    built = Design(
        [conv(8, (3, 5)), relu, repeat(2, norm, relu), concat([conv(4, 1)], []), globalpool("max"), linear(classes)]
    )
    assert built == parse(
        'conv(8, (3, 5)), relu, 2 * [norm, relu], concat([conv(4, 1)], []), globalpool("max"), linear(classes)'
    )


def test_a_short_design_is_written_on_one_line():
    assert parse("conv(8),\nrelu").text == "conv(8, 3), relu"


def test_a_list_alone_stands_for_its_layers():
    assert parse("[relu, norm]") == parse("relu, norm") == Design([[relu, norm]])


def test_comments_line_breaks_and_a_last_comma_are_fine():
    assert parse("conv(8),  # eight (filters\n  relu,\n") == Design([conv(8), relu])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "conv(32),\n  maxpol(2), resnet18, norm(3), conv(8, stribe=2), linear",
            "5 mistakes:\n"
            "  - line 2, column 3: unknown layer 'maxpol'. Did you mean 'maxpool'?\n"
            "  - line 2, column 14: unknown layer 'resnet18'. Did you mean resnet(18)?\n"
            "  - line 2, column 29: norm takes no arguments without a name, not 1.\n"
            "  - line 2, column 41: unknown argument of conv 'stribe'. Did you mean 'stride'? Known: bias, dilation, groups, "
            "kernel_size, name, out_channels, padding, stride.\n"
            "  - line 2, column 52: linear needs out_features, as in linear(classes).\n"
            "Known layers: " + KNOWN,
        ),
        (
            "conv(-1, 0, in_channels=3)",
            "3 mistakes:\n"
            "  - line 1, column 13: in_channels is not written: it is inferred from what comes before.\n"
            "  - line 1, column 1: out_channels must be a whole number from 1 on or classes, not -1.\n"
            "  - line 1, column 1: kernel_size must be a whole number from 1 on, or a tuple of one for each axis, not 0.",
        ),
        ("", "the design has no layers. Write at least one, as in flatten, linear(classes)."),
        ("relu, conv(3", "line 1, column 11: '(' is never closed."),
        ("relu), (relu", "line 1, column 5: ')' closes nothing."),
        ("relu, conv(3]", "line 1, column 13: ']' does not close the '(' of line 1, column 11."),
        ("resnet(18), relu", "line 1, column 1: resnet is a family, a whole network of its own: write it alone."),
        (
            "99999 * [99999 * [relu]]",
            "the design has 9,999,800,001 layers once repeats are written out; at most 10,000 are allowed.",
        ),
        ("relu, " + 50 * "[" + "relu" + 50 * "]", "line 1, column 47: the design is nested too deeply; 40 levels are read."),
        (
            "1 * " * 50 + "relu",
            f"line 1, column 1: '{'1 * ' * 9}1...' is no repeat: write a whole number, * and one item, as in 3 * [conv(64), relu].",
        ),
        (
            "2 * 3",
            "line 1, column 1: '2 * 3' is no repeat: write a whole number, * and one item, as in 3 * [conv(64), relu].",
        ),
        ("0 * [relu]", "line 1, column 1: a repeat needs a whole number from 1 on, not 0."),
        ("lambda: relu", "line 1, column 1: 'lambda: relu' cannot be part of a design: it is no layer."),
        (
            "(relu, norm)",
            "line 1, column 1: '(relu, norm)' cannot be part of a design: a sequence is written in square brackets, [...].",
        ),
        ("os.system('ls')", "line 1, column 1: \"os.system('ls')\" cannot be part of a design: it is no layer."),
        (
            "conv(len('abc'))",
            "line 1, column 6: \"len('abc')\" is not a value: write a number, a tuple of numbers, a text, True, False or classes.",
        ),
        ("classes", "line 1, column 1: classes is the number of classes and no layer: write linear(classes)."),
        (
            'conv(8, padding="same", stride=2)',
            'line 1, column 1: padding="same" needs a stride of 1, and the stride is 2. Give the padding as a number.',
        ),
        (
            "maxpool(2, padding=2)",
            "line 1, column 1: padding=2 is more than half of kernel_size=2: a window would see only padding. Use less padding or a "
            "larger kernel.",
        ),
        ("se", "line 1, column 1: se needs squeeze_channels, as in se(16)."),
        ("transposed(8)", "line 1, column 1: transposed needs kernel_size, as in transposed(64, 2, stride=2)."),
        (
            'se(0, activation="gelu", scale_activation="relu")',
            "3 mistakes:\n"
            "  - line 1, column 1: squeeze_channels must be a whole number from 1 on, not 0.\n"
            '  - line 1, column 1: activation of se is "relu" or "silu", not \'gelu\'.\n'
            '  - line 1, column 1: scale_activation of se is "sigmoid" or "hardsigmoid", not \'relu\'.',
        ),
        (
            "transposed(8, 3, stride=(2, 1), output_padding=1)",
            "line 1, column 1: output_padding=1 must be less than stride=(2, 1) or dilation=1, as torch demands.",
        ),
        (
            'transposed(8, 3, padding="same")',
            "line 1, column 1: padding must be a whole number from 0 on, or a tuple of one for each axis, not 'same'.",
        ),
        (
            'upsample(0, mode="cubic")',
            "2 mistakes:\n"
            "  - line 1, column 1: scale_factor must be a whole number from 1 on, or a tuple of one for each axis, not 0.\n"
            '  - line 1, column 1: mode of upsample is "nearest" or "linear" (on two axes bilinear, on three trilinear), not \'cubic\'.',
        ),
        ("upsample(64)", "line 1, column 1: scale_factor must be at most 32, not 64."),
        ("blurpool(2)", "line 1, column 1: kernel_size of a blurpool must be a whole number from 3 to 7, not 2."),
        ('scale("x")', "line 1, column 1: init must be a number, not 'x'."),
        ("hardswich", "line 1, column 1: unknown layer 'hardswich'. Did you mean 'hardswish'? Known: " + KNOWN),
        (
            "meanpool, dense(10), maxpool2d(2), BatchNorm2d",
            "4 mistakes:\n"
            "  - line 1, column 1: unknown layer 'meanpool'. Did you mean 'avgpool'?\n"
            "  - line 1, column 11: unknown layer 'dense'. Did you mean 'linear'?\n"
            "  - line 1, column 22: unknown layer 'maxpool2d'. Did you mean 'maxpool'?\n"
            "  - line 1, column 36: unknown layer 'BatchNorm2d'. Did you mean 'norm'?\n"
            "Known layers: " + KNOWN,
        ),
        (
            "conv(1, 16, 3), relu, conv(16, 32, 3, 1, 1), relu, flatten, linear(400, 120), linear(120, classes)",
            "4 mistakes:\n"
            "  - line 1, column 1: conv(1, 16, 3) is 1 filter with a window of 16 at stride 3. Channels that come in are not written: write "
            "conv(16, 3) for 16 filters with a window of 3. If you mean the stride, name it: conv(1, 16, stride=3).\n"
            "  - line 1, column 23: conv(16, 32, 3, 1, 1) is 16 filters with a window of 32 at stride 3. Channels that come in are not "
            "written: write conv(32, 3, 1, 1) for 32 filters with a window of 3. If you mean the stride, name it: conv(16, 32, stride=3).\n"
            "  - line 1, column 61: features that come in are not written: write linear(120).\n"
            "  - line 1, column 79: features that come in are not written: write linear(classes).",
        ),
        ("dropout(1.5)", "line 1, column 1: p must be a probability from 0 to below 1, not 1.5."),
        ('globalpool("sum")', 'line 1, column 1: a global pool is "avg" or "max", not \'sum\'.'),
        (
            'relu(name="2x"), sequence(relu, size=3)',
            "2 mistakes:\n  - line 1, column 1: a name is made of letters, digits and _ and begins with a letter, unlike '2x'.\n"
            "  - line 1, column 33: sequence takes items and name, not size.",
        ),
        ('relu(name="a"), norm(name="a")', "2 neighbors have the name 'a'. Give each a name of its own."),
        (
            "residual(), concat([relu])",
            "2 mistakes:\n  - line 1, column 1: residual needs at least one layer, as in residual(conv(64, 3, padding=1), norm).\n"
            "  - line 1, column 13: concat needs at least two branches, as in concat([conv(32, 1)], [maxpool(3)]).",
        ),
        ("[], relu", "an empty sequence does nothing here; only a branch of concat may be empty."),
        ("conv(8, 3, kernel_size=3)", "line 1, column 12: conv is given kernel_size twice."),
        (
            "vgg(17)",
            "vgg comes in the depths 11, 13, 16, 19, not 17.",
        ),
        ("vgg(depht=16)", "unknown argument of vgg 'depht'. Did you mean 'depth'? Known: depth."),
        ("lenet5(3)", "lenet5 takes (), and too many positional arguments."),
        ("lenet5(size=3)", "lenet5 takes no arguments, and size is given."),
        ("relu] + [relu", "line 1, column 5: ']' closes nothing."),
        (
            "resnet(18)",
            "resnet depends on the data (input_shape), which the text does not contain. Use "
            'visus.design.resolve_network("resnet", input_shape=..., num_classes=...).',
        ),
    ],
)
def test_mistakes_are_reported_with_their_place_and_a_remedy(text, message):
    with pytest.raises(DesignError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_text_that_is_not_python_is_reported_with_its_place():
    with pytest.raises(DesignError, match=r"line 2, column 3: this cannot be read near 'conv\(8\) relu'"):
        parse("norm,\n  conv(8) relu")


def test_text_that_is_python_and_no_row_of_layers_is_reported():
    with pytest.raises(DesignError) as caught:
        parse("relu for relu in relu")
    assert str(caught.value) == (
        "a design is a row of layers, such as conv(32, 3, padding=1), norm, relu, globalpool, linear(classes)."
    )


@pytest.mark.parametrize("text", ["1*" * 20_000 + "relu", "-" * 20_000 + "1"])
def test_text_beyond_what_python_parses_is_a_design_error(text):
    with pytest.raises(DesignError) as caught:
        parse(text)
    assert str(caught.value) == (
        "the design is nested too deeply or holds characters that no design has; 40 levels are read."
    )


@pytest.mark.parametrize("text", ["x = 3", "\0", "'", "relu;", "*relu", "relu[0]", "f'{relu}'", "relu == norm"])
def test_text_that_is_no_design_is_a_design_error(text):
    with pytest.raises(DesignError):
        parse(text)


@given(st.text(alphabet="conv(3,)[]*2 relu=\"'#\n\\.-", max_size=40))
def test_any_text_is_a_design_or_a_design_error(text):
    try:
        design = parse(text)
    except DesignError:
        return
    assert parse(design.text) == design


def test_a_text_of_unusual_length_is_refused():
    with pytest.raises(DesignError) as caught:
        parse("relu," * 30_000)
    assert str(caught.value) == "the text of the design has 150,000 characters; at most 100,000 are allowed."


def test_resolve_takes_a_design_its_text_and_family_calls():
    facts = {"input_shape": (3, 32, 32), "num_classes": 10}
    design = parse("globalpool, linear(classes)")
    assert resolve_network(design, **facts) == resolve_network(design.text, **facts) == design
    assert (
        resolve_network("vgg", **facts)
        == resolve_network("vgg(16)", **facts)
        == resolve_network("vgg(depth=16)", **facts)
        == vgg(16)
    )
    assert resolve_network("resnet(18)", **facts) == resnet(18, input_shape=(3, 32, 32)) != resnet(18)
    assert resolve_network("compact", **facts) == resolve_network("compact()", **facts)


def test_a_repeat_has_no_name_of_its_own():
    with pytest.raises(DesignError) as caught:
        Repeat(2, relu(), name="twice")
    assert str(caught.value) == "a repeat has no name of its own: name what is repeated."


def test_layers_that_need_arguments_cannot_stand_bare_in_python():
    with pytest.raises(DesignError) as caught:
        Design([conv])
    assert str(caught.value) == "conv needs arguments: write conv(...)."
    with pytest.raises(DesignError) as caught:
        Design(["relu"])
    assert str(caught.value) == "a design consists of layers, and 'relu' is not a layer."


@pytest.mark.parametrize(
    ("text", "told"), [("norm(eps=0)", "eps must be above 0, not 0."), ("norm(eps=None)", "eps must be a number, not None.")]
)
def test_an_eps_that_is_no_small_number_is_refused(text, told):
    with pytest.raises(DesignError) as caught:
        parse(f"conv(4, 3), {text}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("resnet18", "resnet(18)"),
        (" vgg16\n", "vgg(16)"),
        ("densenet121", "densenet(121)"),
        ("efficientnet_lite0", "efficientnet_lite(0)"),
    ],
)
def test_the_usual_name_of_a_family_is_its_call(name: str, call: str) -> None:
    facts: dict[str, Any] = {"input_shape": (3, 64, 64), "num_classes": 10}
    assert resolve_network(name, **facts) == resolve_network(call, **facts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet19", "resnet"),
        ("renset18", "line 1, column 1: unknown layer 'renset18'. Did you mean 'resnet'?"),
        ("resnet18(2)", "line 1, column 1: unknown layer 'resnet18'. Did you mean resnet(18)?"),
    ],
)
def test_a_usual_name_that_is_none_is_reported(text: str, message: str) -> None:
    with pytest.raises(DesignError) as caught:
        resolve_network(text, input_shape=(3, 64, 64), num_classes=10)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "conv(64, 7, 2)",
        "conv(64, 11, 4)",
        "conv(32, 8, 4)",
        "conv(768, 16, 16)",
        "conv(8, 3, 2)",
        "conv(16, 3, 1)",
        "conv(1, 16, stride=3)",
    ],
)
def test_a_convolution_that_can_be_meant_is_no_habit_of_another_library(text):
    assert parse(text).layers


@pytest.mark.parametrize("in_channels", [1, 3, 6, 16, 64, 256])
@pytest.mark.parametrize("out_channels", [6, 16, 32, 64, 512])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_convolution_written_as_in_pytorch_is_refused_with_the_right_form(in_channels, out_channels, kernel_size):
    with pytest.raises(DesignError) as caught:
        parse(f"conv({in_channels}, {out_channels}, {kernel_size})")
    right = f"conv({out_channels}, {kernel_size})"
    assert f"write {right} for {out_channels} filters" in str(caught.value)
    module = build(parse(right), (in_channels, 32, 32), 10)
    torch_layer = nn.Conv2d(in_channels, out_channels, kernel_size)
    assert next(module.parameters()).shape == torch_layer.weight.shape
