"""Built networks: PyTorch is the oracle for shapes, parameters, multiply-adds, paths and receptive fields of random designs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from visus.design import Design, account, compact, concat, parse, residual, resnet, sequence
from visus.design.layers import (
    avgpool,
    classes,
    conv,
    depthwise,
    dropout,
    flatten,
    gelu,
    globalpool,
    groupnorm,
    layernorm,
    linear,
    maxpool,
    norm,
    relu,
    silu,
    softmax,
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
        multiplier=st.integers(1, 2),
        bias=st.none() | flags,
    ),
)
pools = st.one_of(
    st.builds(maxpool, st.integers(2, 3), stride=st.none() | st.integers(1, 2), padding=st.integers(0, 1), ceil_mode=flags),
    st.builds(avgpool, st.integers(2, 3), stride=st.none() | st.integers(1, 2), padding=st.integers(0, 1), ceil_mode=flags),
)
others = st.sampled_from([norm(), relu(), gelu(), silu(), dropout(0.5), layernorm(), groupnorm(3), softmax()])
same = st.builds(
    lambda kernel, width: conv(width, 2 * kernel + 1, padding=kernel), st.integers(0, 1), st.sampled_from([6, 12])
)
plain = st.lists(same | others, min_size=1, max_size=3)
parts = st.one_of(
    *(convs, pools, others),
    st.builds(lambda row: residual(*row), plain),
    st.builds(lambda row, width: residual(*row, conv(width, 3, stride=2, padding=1)), plain, st.sampled_from([6, 12])),
    st.builds(lambda one, two: concat(one, two, []), plain, plain),
    st.builds(lambda row: 2 * sequence(*row), plain),
)
heads = st.sampled_from([[globalpool], [globalpool("max")], [flatten], [flatten, linear(8), norm, relu]])
designs = st.builds(lambda row, head: Design([*row, *head, linear(classes)]), st.lists(parts, min_size=1, max_size=5), heads)


@st.composite
def placed(draw):
    """A design and an input that it accepts, on one to three axes."""
    design, num_axes = draw(designs), draw(st.integers(1, 3))
    smallest = design.smallest_input((6, *num_axes * [1]), 5)
    if smallest is None or max(smallest) > 24:
        return parse("conv(6), globalpool, linear(classes)"), (6, *num_axes * [5])
    shape = (6, *(length + draw(st.integers(0, 2)) for length in smallest[1:]))
    try:
        design.place(shape, 5)
    except DesignError:  # a residual or a concat that meets at some lengths alone
        shape = smallest
    return design, shape


@settings(max_examples=80)
@given(placed())
def test_shapes_parameters_macs_and_paths_are_those_of_torch(case):
    design, shape = case
    network = build(design, shape, 5).eval()
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
    assert account(design, shape, 5).macs * 2 * 2 == counter.get_total_flops()


@settings(max_examples=60)
@given(st.lists(parts, min_size=1, max_size=4).map(Design))
def test_receptive_fields_are_those_that_poisoned_pixels_show(design):
    smallest = design.smallest_input((6, 1))
    if smallest is None or smallest[1] > 40:
        return
    shape = (6, smallest[1] + 9)
    try:
        field = account(design, shape).rows[-1].fields[0]
    except DesignError:
        return
    network = build(design, shape).eval()
    for module in network.modules():  # new residuals pass their input on alone: give the last norms a say
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.data.fill_(1.0)
    seen = []
    with torch.no_grad():
        for pixel in range(shape[1]):
            x = torch.zeros(1, *shape)
            x[:, :, pixel] = math.nan
            seen.append(network(x)[0].isnan().any(dim=0))
    for position in range(seen[0].numel()):
        first = field.start + position * field.step
        touched = [pixel for pixel in range(shape[1]) if seen[pixel][position]]
        assert field.box(position) == ((touched[0], touched[-1]) if touched else None)
        if field.is_whole:
            continue
        assert all(first <= pixel < first + field.size for pixel in touched)
        if field.step > 0 and first >= 0 and first + field.size <= shape[1]:
            assert (touched[0], touched[-1] + 1) == (first, first + field.size)


def test_uneven_same_padding_is_that_of_torch():
    network = build(parse('conv(4, (2, 4), padding="same", dilation=(1, 3))'), (3, 9, 11))
    theirs = torch.nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(1, 3))
    theirs.load_state_dict(network.conv1.state_dict())
    x = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="even kernel lengths"):
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
    assert str(caught.value) == "stem.forward: the name 'forward' is kept by torch for its own use. Choose another."


def test_a_design_beyond_memory_is_refused_in_a_sentence():
    with pytest.raises(DesignError) as caught:
        build(parse("flatten, linear(1000000000)"), (3, 4096, 4096))
    assert str(caught.value) == (
        "the 50,331,649,000,000,000 parameters of this design do not fit into memory. Use fewer channels."
    )


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
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
    stem, last = network.conv1.weight, network.get_submodule("stage2.block2.residual1")
    assert abs(float(stem.detach().std()) - math.sqrt(2 / (64 * 9))) < 0.002
    assert float(last.norm2.weight.detach().abs().sum()) == 0.0
    assert float(last.norm1.weight.detach().min()) == 1.0
    x = torch.rand(2, 128, 8, 8)
    assert torch.equal(last(x), x)
    assert float(network.linear1.weight.detach().std()) < 0.011
    assert float(network.linear1.bias.detach().abs().sum()) == 0.0
    assert all(values.isfinite().all() for values in network.state_dict().values())


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
