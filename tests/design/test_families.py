"""Families have their published numbers of parameters, and look at the picture where they say so."""

import pytest

from visus.design import account, alexnet, compact, lenet5, mlp, parse, resnet, resolve, vgg
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
]


@pytest.mark.parametrize(("name", "design", "num_parameters"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_number_of_parameters_is_the_published_one(name, design, num_parameters):
    assert account(design, (3, 224, 224), 1000).num_parameters == num_parameters


def test_lenet5_has_its_61706_parameters():
    assert account(lenet5(), (1, 32, 32), 10).num_parameters == 61_706


def test_macs_of_resnet50_and_vgg16_are_the_published_ones():
    assert round(account(resnet(50), (3, 224, 224), 1000).macs / 1e9, 2) == 4.09
    assert round(account(vgg(16), (3, 224, 224), 1000).macs / 1e9, 2) == 15.47


@pytest.mark.parametrize("size", [32, 64, 65, 224])
def test_resnet_keeps_the_size_of_small_pictures(size):
    design = resolve("resnet(18)", input_shape=(3, size, size), num_classes=10)
    assert (design.layers[0].text == "conv(64, 3, padding=1)") == (size <= 64)


@pytest.mark.parametrize("family", ["resnet(18)", "vgg(11)", "mlp(64, 32)", "compact"])
@pytest.mark.parametrize("shape", [(1, 64), (3, 64, 64), (1, 32, 32, 32)])
def test_families_serve_recordings_pictures_and_volumes(family, shape):
    assert resolve(family, input_shape=shape, num_classes=7).output_shape(shape, 7) == (7,)


@pytest.mark.parametrize(
    "design", [lenet5(), alexnet(), vgg(19), resnet(152), mlp(512, 512, drop=0.2), compact((3, 32, 32), 10, 50_000)]
)
def test_text_of_a_family_reads_back_as_the_same_design(design):
    assert parse(design.text) == design


def test_a_depth_that_does_not_exist_is_told():
    with pytest.raises(DesignError) as caught:
        resnet(20)
    assert str(caught.value) == "resnet comes in the depths 18, 34, 50, 101, 152, not 20."


def test_stages_and_blocks_of_resnet_are_named():
    paths = [node.path for top in resnet(18).place((3, 224, 224), 1000) for node in top.walk()]
    assert "stage2.block1.residual1.projection.conv1" in paths
    assert "stage1.block1.residual1.projection" not in paths
    assert "stage4.block2.residual1.norm2" in paths


def test_compact_for_features_alone_is_refused():
    with pytest.raises(DesignError) as caught:
        compact((784,), 10)
    assert str(caught.value) == "compact is made for maps, and the input has 784 features alone. Use mlp(256, 256)."
