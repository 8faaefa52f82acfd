"""Deep families with joined paths: sums (ResNet), concatenated branches (Inception), concatenation of all earlier maps
(DenseNet)."""

from __future__ import annotations

from typing import Any, Final

from visus.design.arguments import Shape, known_choice
from visus.design.families.reference import Paper, Size, documented
from visus.design.items import Item, ItemLike, concat, residual, sequence
from visus.design.layers.registry import avgpool, classes, conv, dropout, globalpool, linear, maxpool, norm, relu
from visus.design.plan import Design

SMALL_IMAGE: Final = 64  # up to so many pixels on the longest axis, resnet begins without shrinking its map

_RESNET: Final = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_DENSENET: Final = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}


@documented(
    Paper("K. He, X. Zhang, S. Ren and J. Sun", 2016, "Deep residual learning for image recognition", "arXiv:1512.03385"),
    sizes=(
        Size("resnet(18)", published=11_689_512, known_as="resnet18"),
        Size("resnet(34)", published=21_797_672, known_as="resnet34"),
        Size("resnet(50)", published=25_557_032, known_as="resnet50"),
        Size("resnet(101)", published=44_549_160, known_as="resnet101"),
        Size("resnet(152)", published=60_192_808, known_as="resnet152"),
        Size("resnet(18)", (3, 32, 32), 10),
    ),
)
def resnet(depth: int = 18, *, input_shape: Shape | None = None) -> Design:
    """ResNet (He et al. 2016, arXiv:1512.03385); from depth 50 on, the stride is on the 3 x 3 layer, as is usual today.

    Args:
        depth: 18, 34, 50, 101 or 152 layers with weights.
        input_shape: ``(channels, *spatial)``. Up to 64 pixels on the longest axis, the stem is a 3 x 3 convolution of stride
            1 without pooling. Otherwise, and by default, it is a 7 x 7 convolution of stride 2 and a pool of stride 2.

    Raises:
        DesignError: there is no ResNet of that depth.

    >>> sum(node.num_parameters for node in resnet(18).place((3, 224, 224), 1000))
    11689512
    """
    small = input_shape is not None and len(input_shape) > 1 and max(input_shape[1:]) <= SMALL_IMAGE
    stem = (
        [conv(64, 3, padding=1), norm, relu]
        if small
        else [conv(64, 7, stride=2, padding=3), norm, relu, maxpool(3, stride=2, padding=1)]
    )
    stages = []
    for index, num_blocks in enumerate(known_choice("resnet", "depths", depth, _RESNET)):
        width = 64 * 2**index
        block = _basic_block if depth < 50 else _bottleneck_block
        first = sequence(block(width, 1 if index == 0 else 2), relu)
        others = [(num_blocks - 1) * sequence(block(width, 1), relu)]
        stages.append(sequence(first, *others, name=f"stage{index + 1}"))
    return Design([*stem, *stages, globalpool, linear(classes)])


@documented(
    Paper(
        "C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna",
        2016,
        "Rethinking the Inception architecture for computer vision",
        "arXiv:1512.00567",
    ),
    sizes=(Size("inception(3)", (3, 299, 299), 1000, 23_834_568, "inception_v3 without its auxiliary head"),),
)
def inception(version: int = 3) -> Design:
    """Inception-v3 (Szegedy et al. 2016, arXiv:1512.00567) without its auxiliary head. Made for 299 x 299 pixels; 75 x 75 at least.

    Args:
        version: 3.

    Raises:
        DesignError: there is no other version here.

    >>> sum(node.num_parameters for node in inception().place((3, 299, 299), 1000))
    23834568
    """
    known_choice("inception", "versions", version, {3: None})
    stem = [
        *(*_unit(32, 3, stride=2), *_unit(32, 3), *_unit(64, 3, padding=1), maxpool(3, stride=2)),
        *(*_unit(80, 1), *_unit(192, 3), maxpool(3, stride=2)),
    ]
    fine = [_fine_block(width) for width in (32, 64, 64)]
    factorised = [_factorised_block(width) for width in (128, 160, 160, 192)]
    to_coarse = concat(
        [*_unit(192, 1), *_unit(320, 3, stride=2)],
        [*_unit(192, 1), *_unit(192, (1, 7), padding=(0, 3)), *_unit(192, (7, 1), padding=(3, 0)), *_unit(192, 3, stride=2)],
        maxpool(3, stride=2),
    )
    return Design(
        [
            sequence(*stem, name="stem"),
            sequence(*fine, _halving_block(), name="stage1"),
            sequence(*factorised, to_coarse, name="stage2"),
            sequence(_wide_block(), _wide_block(), name="stage3"),
            *(globalpool, dropout(0.5), linear(classes)),
        ]
    )


@documented(
    Paper(
        "G. Huang, Z. Liu, L. van der Maaten and K. Q. Weinberger",
        2017,
        "Densely connected convolutional networks",
        "arXiv:1608.06993",
    ),
    sizes=(
        Size("densenet(121)", published=7_978_856, known_as="densenet121"),
        Size("densenet(169)", published=14_149_480, known_as="densenet169"),
        Size("densenet(201)", published=20_013_928, known_as="densenet201"),
    ),
)
def densenet(depth: int = 121) -> Design:
    """DenseNet (Huang et al. 2017, arXiv:1608.06993): each layer reads all maps before it in its block, and adds 32 channels.

    Args:
        depth: 121, 169 or 201 layers with weights.

    Raises:
        DesignError: there is no DenseNet of that depth.

    >>> sum(node.num_parameters for node in densenet(121).place((3, 224, 224), 1000))
    7978856
    """
    growth = 32
    layer = concat([], [norm, relu, conv(4 * growth, 1), norm, relu, conv(growth, 3, padding=1, bias=False)])
    channels, parts = 64, []
    block_sizes = known_choice("densenet", "depths", depth, _DENSENET)
    for index, num_layers in enumerate(block_sizes, 1):
        channels += num_layers * growth
        shrink: list[ItemLike] = []
        if index < len(block_sizes):
            channels //= 2
            shrink = [norm, relu, conv(channels, 1, bias=False), avgpool(2)]
        parts.append(sequence(num_layers * layer, *shrink, name=f"stage{index}"))
    stem = [conv(64, 7, stride=2, padding=3), norm, relu, maxpool(3, stride=2, padding=1)]
    return Design([*stem, *parts, norm, relu, globalpool, linear(classes)])


def _basic_block(width: int, stride: int) -> Item:
    step = conv(width, 3, stride=stride, padding=1)
    return residual(step, norm, relu, conv(width, 3, padding=1), norm)


def _bottleneck_block(width: int, stride: int) -> Item:
    return residual(
        conv(width, 1), norm, relu, conv(width, 3, stride=stride, padding=1), norm, relu, conv(4 * width, 1), norm
    )


def _unit(width: int, kernel_size: int | tuple[int, int], **arguments: Any) -> tuple[ItemLike, ...]:
    """A convolution, normalized and rectified."""
    return conv(width, kernel_size, **arguments), norm, relu


def _fine_block(pool_width: int) -> Item:
    """Windows of 1, 5 and twice 3 side by side, and a pool: figure 5 of the paper."""
    return concat(
        _unit(64, 1),
        [*_unit(48, 1), *_unit(64, 5, padding=2)],
        [*_unit(64, 1), *_unit(96, 3, padding=1), *_unit(96, 3, padding=1)],
        [avgpool(3, stride=1, padding=1), *_unit(pool_width, 1)],
    )


def _halving_block() -> Item:
    return concat(
        _unit(384, 3, stride=2),
        [*_unit(64, 1), *_unit(96, 3, padding=1), *_unit(96, 3, stride=2)],
        maxpool(3, stride=2),
    )


def _factorised_block(width: int) -> Item:
    """Windows of 7 as a row and a column, once and twice: figure 6."""
    row, column = {"padding": (0, 3)}, {"padding": (3, 0)}
    return concat(
        _unit(192, 1),
        [*_unit(width, 1), *_unit(width, (1, 7), **row), *_unit(192, (7, 1), **column)],
        [
            *(*_unit(width, 1), *_unit(width, (7, 1), **column), *_unit(width, (1, 7), **row)),
            *(*_unit(width, (7, 1), **column), *_unit(192, (1, 7), **row)),
        ],
        [avgpool(3, stride=1, padding=1), *_unit(192, 1)],
    )


def _wide_block() -> Item:
    """Rows and columns of 3 side by side: figure 7."""
    fork = concat(_unit(384, (1, 3), padding=(0, 1)), _unit(384, (3, 1), padding=(1, 0)))
    return concat(
        _unit(320, 1),
        [*_unit(384, 1), fork],
        [*_unit(448, 1), *_unit(384, 3, padding=1), fork],
        [avgpool(3, stride=1, padding=1), *_unit(192, 1)],
    )
