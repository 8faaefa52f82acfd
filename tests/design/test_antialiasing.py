"""Steadier designs: no stride drops pixels any more, nothing is tied to a place, and the output keeps its shape."""

from __future__ import annotations

import pytest

from visus.design import parse, resolve_network
from visus.design.antialiasing import with_blur_pooling, with_global_pooling
from visus.design.edits import leaves, trunk
from visus.design.layers.registry import Conv, Depthwise, Flatten, MaxPool

DESIGNS = [
    ("compact", (1, 28, 28)),
    ("compact", (1, 400)),
    ("resnet(18)", (3, 32, 32)),
    ("resnet(50)", (3, 96, 96)),
    ("vgg(11)", (3, 64, 64)),
    ("mobilenet", (3, 64, 64)),
    ("conv(4, 3, stride=(2, 1), padding=1), relu, 2 * [conv(4, 3, stride=2, padding=1)], flatten, linear(classes)", (1, 30, 31)),
    ("maxpool(3, stride=2, padding=1, ceil_mode=True), conv(4, 3), globalpool, linear(classes)", (2, 19, 20)),
    ("maxpool(2), conv(4, 3, padding=1), maxpool(2), globalpool, linear(classes)", (1, 16, 16, 16)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shape"), DESIGNS)
def test_a_blurred_design_has_no_other_stride_and_the_same_answer(text: str, shape: tuple[int, ...]) -> None:
    design = resolve_network(text, input_shape=shape, num_classes=7)
    changed = with_blur_pooling(design)
    assert changed is not None
    assert changed.output_shape(shape, 7) == (7,)
    assert parse(changed.text) == changed
    for node in leaves(changed.place(shape, 7)):
        if isinstance(node.layer, (Conv, Depthwise, MaxPool)):
            assert all(window.stride == 1 for window in node.layer.windows(len(shape) - 1)), node.path
    assert with_blur_pooling(changed) is None


@pytest.mark.parametrize(("text", "shape"), [*DESIGNS[:6]])
def test_the_last_map_keeps_its_size(text: str, shape: tuple[int, ...]) -> None:
    design = resolve_network(text, input_shape=shape, num_classes=7)
    changed = with_blur_pooling(design)
    assert changed is not None
    before, after = (trunk(each.place(shape, 7))[-1].output_shape for each in (design, changed))
    assert before == after


def test_maps_keep_their_sizes_where_pools_halve_them() -> None:
    design = parse("conv(4, 3, padding=1), maxpool(2), maxpool(3, stride=2, padding=1), conv(4, 3, stride=2, padding=1)")
    for side in range(14, 23):
        changed = with_blur_pooling(design)
        assert changed is not None
        assert changed.output_shape((1, side, side)) == design.output_shape((1, side, side))


def test_the_blur_is_as_wide_as_the_stride_needs() -> None:
    changed = with_blur_pooling(parse("maxpool(2), maxpool(3), maxpool(4), maxpool(8)"))
    assert changed is not None
    kernels = [node.layer.kernel_size for node in leaves(changed.place((1, 400))) if node.layer.word == "blurpool"]
    assert kernels == [3, 5, 7, 7]


def test_a_flattened_map_is_pooled_and_a_perceptron_is_left_alone() -> None:
    changed = with_global_pooling(parse("[conv(4, 3), relu], flatten, dropout(0.5), linear(9), relu, linear(classes)"))
    assert changed is not None
    assert changed.text == "[conv(4, 3), relu], globalpool, dropout(0.5), linear(9), relu, linear(classes)"
    assert not any(isinstance(node.layer, Flatten) for node in leaves(changed.place((1, 9, 9), 3)))
    for text in (
        "flatten, linear(classes)",
        "conv(4, 3), globalpool, linear(classes)",
        "maxpool(2), flatten, linear(classes)",
    ):
        assert with_global_pooling(parse(text)) is None


def test_what_has_no_stride_stays_as_it_is() -> None:
    for text in ("conv(4, 3), avgpool(2), globalpool, linear(classes)", "flatten, linear(classes)"):
        assert with_blur_pooling(parse(text)) is None


def test_branches_of_a_concat_stay_as_they_are() -> None:
    text = "conv(4, 3, stride=2), concat([maxpool(3, stride=2)], [conv(4, 3, stride=2)])"
    changed = with_blur_pooling(parse(text))
    assert changed is not None
    assert changed.text == "conv(4, 3), blurpool(3), concat([maxpool(3, stride=2)], [conv(4, 3, stride=2)])"
