"""Built networks: PyTorch is the oracle for shapes, parameters, multiply-adds, paths and receptive fields of random designs."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from visus.design import (
    Design,
    account,
    compact,
    concat,
    convnext,
    densenet,
    efficientnet_lite,
    inception,
    mobilenet,
    parse,
    residual,
    resnet,
    sequence,
)
from visus.design.layers.registry import (
    avgpool,
    blurpool,
    classes,
    conv,
    depthwise,
    dropout,
    droppath,
    elu,
    flatten,
    gelu,
    globalpool,
    groupnorm,
    hardsigmoid,
    hardswish,
    layernorm,
    leakyrelu,
    linear,
    maxpool,
    norm,
    relu,
    relu6,
    scale,
    se,
    sigmoid,
    silu,
    softmax,
    tanh,
    transposed,
    upsample,
    whiten,
)
from visus.errors import DesignError
from visus.networks import build

kernels = st.integers(1, 4)
flags = st.booleans()
convs = st.one_of(
    st.builds(
        lambda groups, kernel, stride, padding, dilation, bias: conv(12, kernel, stride, padding, dilation, groups, bias),
        *(st.sampled_from([1, 2, 3]), kernels, st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.none() | flags),
    ),
    st.builds(conv, st.sampled_from([6, 12]), kernels, padding=st.just("same"), dilation=st.integers(1, 2)),
    st.builds(
        depthwise,
        kernels,
        stride=st.integers(1, 2),
        padding=st.integers(0, 1),
        depth_multiplier=st.integers(1, 2),
        bias=st.none() | flags,
    ),
)
pools = st.one_of(
    st.builds(maxpool, st.integers(2, 3), stride=st.none() | st.integers(1, 2), padding=st.integers(0, 1), ceil_mode=flags),
    st.builds(avgpool, st.integers(2, 3), stride=st.none() | st.integers(1, 2), padding=st.integers(0, 1), ceil_mode=flags),
)
others = st.sampled_from(
    [
        *(norm(), relu(), gelu(), silu(), dropout(0.5), layernorm(), groupnorm(3), softmax()),
        *(relu6(), leakyrelu(0.2), elu(), hardswish(), sigmoid(), hardsigmoid(), tanh(), scale(0.5), droppath(0.2)),
        *(se(2), se(3, activation="silu", scale_activation="hardsigmoid")),
    ]
)
growing = st.one_of(
    st.builds(upsample, st.integers(1, 3), mode=st.sampled_from(["nearest", "linear"])),
    st.builds(
        lambda kernel, stride, padding, extra, dilation, groups, bias: transposed(
            *(12, kernel, stride, padding, min(extra, max(stride, dilation) - 1), dilation, groups, bias)
        ),
        *(kernels, st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 2)),
        *(st.sampled_from([1, 2, 3]), st.none() | flags),
    ),
)
mirrored = st.builds(blurpool, st.integers(3, 7), stride=st.integers(1, 2))
same = st.builds(
    lambda kernel, width: conv(width, 2 * kernel + 1, padding=kernel), st.integers(0, 1), st.sampled_from([6, 12])
)
plain = st.lists(same | others, min_size=1, max_size=3)
parts = st.one_of(
    *(convs, pools, others, growing, mirrored),
    st.builds(lambda row: residual(*row), plain),
    st.builds(lambda row: residual(maxpool(2), *row, upsample(2, "linear")), plain),
    st.builds(lambda row, width: residual(*row, conv(width, 3, stride=2, padding=1)), plain, st.sampled_from([6, 12])),
    st.builds(lambda one, two: concat(one, two, []), plain, plain),
    st.builds(lambda row: 2 * sequence(*row), plain),
)
heads = st.sampled_from([[globalpool], [globalpool("max")], [flatten], [flatten, linear(8), norm, relu]])
whitening = st.builds(whiten, st.integers(1, 2), stride=st.integers(1, 2), padding=st.sampled_from([0, 1]))
stems = st.sampled_from([[], [], [whiten(2, padding="same")]]) | whitening.map(lambda layer: [layer])
designs = st.builds(
    lambda stem, row, head: Design([*stem, *row, *head, linear(classes)]),
    *(stems, st.lists(parts, min_size=1, max_size=5), heads),
)


def largest_map(design, shape):
    """Positions of the largest map on the way; upsamplings in a row make it large."""
    return max(math.prod(node.output_shape[1:]) for top in design.place(shape, 5) for node in top.walk())


stemless = st.builds(
    lambda row, head: Design([*row, *head, linear(classes)]), st.lists(parts, min_size=1, max_size=5), heads
)


@st.composite
def placed(draw, designs=designs):
    """A design and an input that it accepts, on one to three axes."""
    design, num_axes = draw(designs), draw(st.integers(1, 3))
    smallest = design.smallest_input((6, *num_axes * [1]), 5)
    if smallest is None or max(smallest) > 24 or largest_map(design, smallest) > 40_000:
        return parse("conv(6), globalpool, linear(classes)"), (6, *num_axes * [5])
    shape = (6, *(length + draw(st.integers(0, 2)) for length in smallest[1:]))
    try:
        design.place(shape, 5)
    except DesignError:  # a residual or a concat that meets at some lengths alone
        shape = smallest
    return design, shape


@settings(max_examples=80)
@given(placed())
@pytest.mark.long
def test_shapes_parameters_macs_and_paths_are_those_of_torch(case):
    design, shape = case
    network = build(design, shape, 5).eval()
    rows = {row.path: row for row in account(design, shape, 5).rows}
    nodes = {node.path: node for top in design.place(shape, 5) for node in top.walk()}
    modules = dict(network.named_modules())
    assert list(modules)[1:] == list(nodes)
    reached = {}
    for path in nodes:
        modules[path].register_forward_hook(
            lambda _, args, output, path=path: reached.update({path: (args[0].shape, output.shape)})
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(2, *shape))
    for path, node in nodes.items():
        assert reached[path] == ((2, *node.input_shape), (2, *node.output_shape)), path
        assert sum(values.numel() for values in modules[path].parameters()) == node.num_parameters, path
        if path in rows and not node.branches:
            kept = (*modules[path].parameters(), *modules[path].buffers())
            assert rows[path].bytes_weights == sum(values.nbytes for values in kept), path
            assert rows[path].bytes_output == 4 * math.prod(reached[path][1][1:]), path
    assert account(design, shape, 5).macs * 2 * 2 == counter.get_total_flops()


@settings(max_examples=100)
@given(st.lists(parts, min_size=1, max_size=4).map(Design))
@pytest.mark.long
def test_receptive_fields_are_those_that_poisoned_pixels_show(design):
    smallest = design.smallest_input((6, 1))
    if smallest is None or smallest[1] > 40:
        return
    shape = (6, smallest[1] + 9)
    try:
        field = account(design, shape).rows[-1].fields[0]
        num_positions = largest_map(design, shape)
    except DesignError:
        return
    if num_positions > 3_000:
        return
    network = build(design, shape).eval().double()
    for module in network.modules():  # new layers that pass their input on alone: give each a say
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.data.fill_(1.0)
    x = torch.zeros(shape[1], *shape, dtype=torch.float64)
    for pixel in range(shape[1]):
        x[pixel, :, pixel] = math.nan
    with torch.no_grad():
        seen = network(x).isnan().any(dim=1)
    touched = [seen[:, position].nonzero().flatten().tolist() for position in range(seen.shape[1])]
    assert [field.interval(index) for index in range(len(touched))] == [
        (own[0], own[-1]) if own else None for own in touched
    ]
    if field.is_whole or any(word in design.text for word in ("blurpool", "transposed", "upsample")):
        return  # a mirror or an edge that is held shows other pixels than the theoretical field
    for position, own in enumerate(touched):
        first, last = field.theoretical(position)
        assert all(first <= pixel <= last for pixel in own)
        if field.stride > 0 and first >= 0 and last < shape[1]:
            assert (own[0], own[-1]) == (first, last)


FAMILIES = {  # made for 224 x 224 pixels and more; macs do not depend on which, once flop_counter agrees on one size
    "inception": (inception(), 139),
    "densenet": (densenet(121), 64),
    "mobilenet": (mobilenet(2), 64),
    "efficientnet_lite": (efficientnet_lite(1), 64),
    "convnext": (convnext("tiny", drop_path_rate=0.1), 64),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_macs_and_bytes_of_families_are_those_of_torch(name):
    design, size = FAMILIES[name]
    network = build(design, (3, size, size), 7).eval()
    costs = account(design, (3, size, size), 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 7)
    assert 2 * costs.macs == counter.get_total_flops()
    assert costs.num_parameters == sum(values.numel() for values in network.parameters())
    assert costs.bytes_weights == sum(values.nbytes for values in (*network.parameters(), *network.buffers()))


def test_se_is_the_squeeze_and_excite_of_its_paper():
    network = build(parse('se(2, activation="silu")'), (4, 5, 6), seed=1)
    gate = network.se1
    torch.nn.init.normal_(gate.excite_weight, generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    hidden = torch.nn.functional.silu(x.mean((2, 3)) @ gate.squeeze_weight.T)
    assert torch.allclose(network(x), x * (hidden @ gate.excite_weight.T).sigmoid()[:, :, None, None], atol=1e-6)


def test_blurpool_is_a_mirrored_binomial_blur_and_keeps_what_is_constant():
    network = build(parse("blurpool(4)"), (2, 9, 7))
    assert network(torch.ones(1, 2, 9, 7)).tolist() == torch.ones(1, 2, 5, 4).tolist()
    assert list(network.parameters()) == []
    assert list(network.state_dict()) == []
    x = torch.randn(1, 2, 9, 7, generator=torch.Generator().manual_seed(1))
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (row[:, None] * row / 64).expand(2, 1, 4, 4)
    mirrored = torch.nn.functional.pad(x, (1, 2, 1, 2), mode="reflect")
    assert torch.allclose(network(x), torch.nn.functional.conv2d(mirrored, kernel, stride=2, groups=2), atol=1e-6)


def test_droppath_leaves_out_samples_in_training_and_keeps_the_mean():
    network = build(parse("droppath(0.25)"), (3, 4))
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 4)
    kept = network(x)
    assert {float(value) for value in kept.flatten(1).unique()} == {0.0, float(torch.tensor(1.0).div(0.75))}
    assert bool((kept.flatten(1) == kept[:, 0, :1]).all())
    assert abs(float(kept.mean()) - 1) < 0.05
    assert network.eval()(x) is x


def test_layer_scale_begins_at_its_init_on_maps_and_features():
    assert build(parse("scale(0.5)"), (3, 4))(torch.ones(1, 3, 4)).unique().tolist() == [0.5]
    assert build(parse("scale(1e-6)"), (3,)).scale1.weight.tolist() == [pytest.approx(1e-6)] * 3


def test_a_new_residual_whose_path_may_be_dropped_passes_its_input_on():
    network = build(parse("residual(conv(4, 1), norm, droppath(0.5)), residual([conv(4, 1), norm, droppath(0.5)])"), (4, 6))
    x = torch.rand(2, 4, 6)
    assert torch.equal(network(x), x)


def test_uneven_same_padding_is_that_of_torch():
    network = build(parse('conv(4, (2, 4), padding="same", dilation=(1, 3))'), (3, 9, 11))
    theirs = torch.nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(1, 3))
    theirs.load_state_dict(network.conv1.state_dict())
    x = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():  # torch warns once in a process, so it may have done so before
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
        expected = theirs(x)
    assert torch.allclose(network(x), expected, atol=1e-6)


def test_residual_adds_its_input_and_layer_norm_sees_channels_alone():
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(build(parse("residual(relu)"), (4, 5, 6))(x), x.relu() + x)
    expected = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
    assert torch.allclose(build(parse("layernorm"), (4, 5, 6))(x), expected)


def test_a_name_that_torch_keeps_is_refused():
    with pytest.raises(DesignError) as caught:
        build(parse('sequence(relu(name="forward"), name="stem")'), (3, 8, 8))
    assert str(caught.value) == "stem.forward: PyTorch reserves the name 'forward'. Choose another."


def test_a_design_beyond_memory_is_refused_in_a_sentence():
    with pytest.raises(DesignError) as caught:
        build(parse("flatten, linear(1000000000)"), (3, 4096, 4096))
    assert str(caught.value) == (
        "the 50,331,649,000,000,000 parameters of this design do not fit into memory. Use fewer channels."
    )


def test_the_same_seed_returns_the_same_weights_and_leaves_the_global_state_alone():
    design = compact((3, 32, 32), 10, 1000)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(design, (3, 32, 32), 10, seed=7).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    two = build(design, (3, 32, 32), 10, seed=7).state_dict()
    other = build(design, (3, 32, 32), 10, seed=8).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["linear1.weight"], other["linear1.weight"])


def test_initial_values_are_kaiming_normal_and_residuals_pass_their_input_on():
    network = build(resnet(18, input_shape=(3, 32, 32)), (3, 32, 32), 10)
    last = network.get_submodule("stage2.block2.residual1")
    assert abs(float(last.conv1.weight.detach().std()) - math.sqrt(2 / (128 * 9))) < 0.002
    assert float(last.norm2.weight.detach().abs().sum()) == 0.0
    assert float(last.norm1.weight.detach().min()) == 1.0
    x = torch.rand(2, 128, 8, 8)
    assert torch.equal(last(x), x)
    assert float(network.linear1.weight.detach().std()) < 0.011
    assert float(network.linear1.bias.detach().abs().sum()) == 0.0
    assert all(values.isfinite().all() for values in network.state_dict().values())


@pytest.mark.parametrize(("kernel", "shape"), [(9, (4, 20)), (3, (4, 9, 9)), (3, (4, 6, 6, 6))])
def test_convolutions_that_keep_positions_begin_by_handing_their_map_on(kernel, shape):
    network = build(
        parse(f"conv(7, {kernel}, padding={kernel // 2}), conv(3, {kernel}, padding={kernel - 1}, dilation=2)"), shape
    )
    x = torch.randn(2, *shape)
    made = network.conv1(x).detach()
    assert torch.equal(made[:, :4], x)
    assert float(made[:, 4:].abs().min()) > 0
    assert torch.equal(network(x), x[:, :3])


@pytest.mark.parametrize(
    "layer", ["conv(8, 3)", "conv(8, 3, stride=2, padding=1)", "conv(8, 2)", "conv(8, 1)", "conv(8, 3, padding=1, groups=4)"]
)
def test_other_convolutions_begin_at_random(layer):
    weight = build(parse(layer), (4, 8, 8)).conv1.weight
    assert abs(float(weight.detach().std()) - math.sqrt(2 / (8 // network_groups(layer) * weight[0, 0].numel()))) < 0.15
    assert float(weight.detach().abs().max()) != 1


def network_groups(layer):
    return 4 if "groups=4" in layer else 1


def test_the_last_layer_begins_smaller_the_more_it_reads():
    deviations = [
        float(build(parse("linear(40), relu, linear(classes)"), (shape,), 500).linear2.weight.detach().std())
        for shape in (3,)
    ]
    wide = build(parse("linear(classes)"), (2000,), 50).linear1.weight.detach().std()
    assert deviations[0] == pytest.approx(0.01, rel=0.05)
    assert float(wide) == pytest.approx(1 / 2000, rel=0.05)


def test_depthwise_filters_begin_as_large_as_those_of_other_convolutions():
    network = build(parse("depthwise(3)"), (512, 8, 8))
    assert abs(float(network.depthwise1.weight.detach().std()) - math.sqrt(2 / 9)) < 0.02


def test_a_built_network_learns():
    x = torch.randn(64, 1, 12, generator=torch.Generator().manual_seed(0))
    y = (x.mean(dim=(1, 2)) > 0).long()
    network = build(
        parse("conv(8, 3, padding=1), norm, relu, residual(conv(8, 3, padding=1), norm), globalpool, linear(classes)"),
        (1, 12),
        2,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert float((network(x).argmax(1) == y).float().mean()) > 0.9


def test_a_norm_has_the_eps_of_its_design():
    network = build(parse("conv(4, 3), norm(eps=0.001), norm"), (1, 8, 8))
    assert (network.norm1.eps, network.norm2.eps) == (0.001, 1e-5)
