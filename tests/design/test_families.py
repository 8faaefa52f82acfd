"""Families have their published numbers of parameters, and look at the image where they say so."""

import pytest

from visus.design import (
    account,
    alexnet,
    compact,
    convnext,
    densenet,
    efficientnet_lite,
    inception,
    lenet5,
    mlp,
    mobilenet,
    parse,
    resnet,
    resolve_network,
    vgg,
)
from visus.errors import DesignError

PUBLISHED = [  # for 1,000 classes at 224 x 224 pixels, as listed with the weights that torch offers
    ("alexnet", alexnet(), 61_100_840),
    ("resnet18", resnet(18), 11_689_512),
    ("resnet34", resnet(34), 21_797_672),
    ("resnet50", resnet(50), 25_557_032),
    ("resnet101", resnet(101), 44_549_160),
    ("resnet152", resnet(152), 60_192_808),
    ("vgg11_bn", vgg(11), 132_868_840),
    ("vgg13_bn", vgg(13), 133_053_736),
    ("vgg16_bn", vgg(16), 138_365_992),
    ("vgg19_bn", vgg(19), 143_678_248),
    ("inception_v3 without its auxiliary head", inception(), 23_834_568),
    ("densenet121", densenet(121), 7_978_856),
    ("densenet169", densenet(169), 14_149_480),
    ("densenet201", densenet(201), 20_013_928),
    ("mobilenet_v1", mobilenet(1), 4_231_976),
    ("mobilenet_v2", mobilenet(2), 3_504_872),
    ("convnext_tiny", convnext("tiny"), 28_589_128),
    ("convnext_small", convnext("small"), 50_223_688),
    ("convnext_base", convnext("base"), 88_591_464),
    ("efficientnet_lite0", efficientnet_lite(0), 4_652_008),
    ("efficientnet_lite1", efficientnet_lite(1), 5_416_680),
    ("efficientnet_lite2", efficientnet_lite(2), 6_092_072),
    ("efficientnet_lite3", efficientnet_lite(3), 8_197_096),
    ("efficientnet_lite4", efficientnet_lite(4), 13_006_568),
]


@pytest.mark.parametrize(("name", "design", "num_parameters"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_number_of_parameters_is_the_published_one(name, design, num_parameters):
    assert account(design, (3, 224, 224), 1000).num_parameters == num_parameters


def test_lenet5_has_its_61706_parameters():
    assert account(lenet5(), (1, 32, 32), 10).num_parameters == 61_706


def test_macs_of_resnet50_and_vgg16_are_the_published_ones():
    assert round(account(resnet(50), (3, 224, 224), 1000).macs / 1e9, 2) == 4.09
    assert round(account(vgg(16), (3, 224, 224), 1000).macs / 1e9, 2) == 15.47


@pytest.mark.parametrize(
    ("design", "size", "published"),
    [
        (inception(), 299, 5.713),
        (densenet(121), 224, 2.834),
        (mobilenet(1), 224, 0.569),
        (mobilenet(2), 224, 0.301),
        (convnext("tiny"), 224, 4.456),
        (efficientnet_lite(0), 224, 0.385),
    ],
    ids=["inception", "densenet121", "mobilenet_v1", "mobilenet_v2", "convnext_tiny", "efficientnet_lite0"],
)
def test_macs_in_billions_are_the_published_ones(design, size, published):
    assert round(account(design, (3, size, size), 1000).macs / 1e9, 3) == published


@pytest.mark.parametrize("size", [32, 64, 65, 224])
def test_resnet_keeps_the_size_of_small_images(size):
    design = resolve_network("resnet(18)", input_shape=(3, size, size), num_classes=10)
    assert (design.layers[0].text == "conv(64, 3, padding=1)") == (size <= 64)


@pytest.mark.parametrize(
    "family",
    ["resnet(18)", "vgg(11)", "mlp(64, 32)", "compact", "densenet", "mobilenet", "efficientnet_lite(0)", 'convnext("tiny")'],
)
@pytest.mark.parametrize("shape", [(1, 64), (3, 64, 64), (1, 32, 32, 32)])
def test_families_serve_signals_images_and_volumes(family, shape):
    assert resolve_network(family, input_shape=shape, num_classes=7).output_shape(shape, 7) == (7,)


@pytest.mark.parametrize(
    "design",
    [
        *(lenet5(), alexnet(), vgg(19), resnet(152), mlp(512, 512, dropout=0.2), compact((3, 32, 32), 10, 50_000)),
        *(inception(), densenet(121), mobilenet(1), mobilenet(2, width_mult=0.35), efficientnet_lite(4)),
        *(convnext("small"), convnext("tiny", drop_path_rate=0.1)),
    ],
)
def test_text_of_a_family_reads_back_as_the_same_design(design):
    assert parse(design.text) == design


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet(20)", "resnet comes in the depths 18, 34, 50, 101, 152, not 20."),
        ("resnet((1, 2))", "resnet comes in the depths 18, 34, 50, 101, 152, not (1, 2)."),
        ("densenet(120)", "densenet comes in the depths 121, 169, 201, not 120."),
        ("inception(2)", "inception comes in the versions 3, not 2."),
        ("mobilenet(3)", "mobilenet comes in the versions 1, 2, not 3."),
        ("mobilenet(2, width_mult=0)", "width_mult of mobilenet must be a factor above 0 and up to 16, not 0."),
        ("efficientnet_lite(5)", "efficientnet_lite comes in the sizes 0, 1, 2, 3, 4, not 5."),
        ('convnext("large")', "convnext comes in the sizes tiny, small, base, not 'large'."),
        ('convnext("tiny", drop_path_rate=1)', "drop_path_rate of convnext must be a probability from 0 to below 1, not 1."),
        ("mobilenet3", "mobilenet comes in the versions 1, 2, not 3."),
    ],
)
def test_a_member_of_a_family_that_does_not_exist_is_reported(network, message):
    with pytest.raises(DesignError) as caught:
        resolve_network(network, input_shape=(3, 224, 224), num_classes=10)
    assert str(caught.value) == message


def test_width_of_mobilenet_counts_in_eights_and_keeps_the_published_numbers():
    counts = {width: account(mobilenet(2, width_mult=width), (3, 224, 224), 1000).num_parameters for width in (0.5, 1.4)}
    assert counts == {0.5: 1_968_680, 1.4: 6_108_776}


def test_chances_of_convnext_grow_evenly_to_the_last_block():
    nodes = [node for top in convnext("tiny", drop_path_rate=0.17).place((3, 64, 64), 10) for node in top.walk()]
    chances = [node.layer.p for node in nodes if node.name.startswith("droppath")]
    assert chances == pytest.approx([0.01 * index for index in range(1, 18)])  # the first is never left out


def test_stages_and_blocks_of_resnet_are_named():
    paths = [node.path for top in resnet(18).place((3, 224, 224), 1000) for node in top.walk()]
    assert "stage2.block1.residual1.projection.conv1" in paths
    assert "stage1.block1.residual1.projection" not in paths
    assert "stage4.block2.residual1.norm2" in paths


def test_compact_for_features_alone_is_refused():
    with pytest.raises(DesignError) as caught:
        compact((784,), 10)
    assert str(caught.value) == "compact is made for maps, and the input has 784 features alone. Use mlp(256, 256)."
