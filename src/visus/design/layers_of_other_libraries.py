"""Names and argument orders that people bring from PyTorch and Keras, and what a design writes instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_RANK: Final = re.compile(r"[123]d$")
_OTHER_NAMES: Final = {
    "conv": ("convolution", "lazyconv"),
    "transposed": ("convtranspose", "conv1dtranspose", "conv2dtranspose", "conv3dtranspose", "deconv", "upconv"),
    "depthwise": ("depthwiseconv", "dwconv"),
    "linear": ("dense", "fc", "fullyconnected", "lazylinear"),
    "maxpool": ("maxpooling", "pool", "pooling"),
    "avgpool": ("meanpool", "meanpooling", "averagepool", "averagepooling", "avgpooling"),
    "globalpool": (
        *("gap", "globalavgpool", "globalaveragepool", "globalaveragepooling", "globalavgpooling", "globalmeanpool"),
        *("adaptiveavgpool", "adaptivepool", "adaptivemaxpool", "globalmaxpool", "globalmaxpooling"),
    ),
    "norm": ("batchnorm", "batchnormalization", "bn"),
    "layernorm": ("layernormalization", "ln"),
    "groupnorm": ("groupnormalization", "gn"),
    "silu": ("swish",),
    "hardswish": ("hswish",),
    "leakyrelu": ("lrelu",),
    "dropout": ("spatialdropout",),
    "droppath": ("stochasticdepth",),
    "upsample": ("upsampling", "interpolate"),
    "se": ("squeezeexcite", "squeezeexcitation"),
    "residual": ("shortcut", "skip", "add"),
    "concat": ("concatenate", "cat"),
    "sequence": ("sequential",),
}
_WORDS: Final = {other: word for word, others in _OTHER_NAMES.items() for other in others}
_MAX_KERNEL: Final = 11  # a longer window is meant where it is as long as its stride, as for patches


def usual_word(name: str, known: Sequence[str]) -> str | None:
    """The word of a design for a layer that PyTorch or Keras names otherwise; None if there is none.

    Args:
        name: the unknown name.
        known: the words of a design.

    >>> usual_word("Conv2d", ["conv"]), usual_word("Dense", []), usual_word("wavelet", [])
    ('conv', 'linear', None)
    """
    folded = name.lower().replace("_", "")
    for each in (folded, _RANK.sub("", folded)):
        if each in _WORDS or each in known:
            return _WORDS.get(each, each)
    return None


def with_in_channels(word: str, values: Sequence[object]) -> str | None:
    """The message for a convolution written as in PyTorch, with the channels that come in; None if it may be meant as it is.

    A design writes the filters, the window and the stride. As these, ``conv(1, 16, 3)`` has one filter with a window of 16 at stride 3:
    nobody means a window longer than 11 that does not lie edge to edge, an even window at an odd stride from 3 on, or so few filters
    at such a stride.

    Args:
        word: of the layer.
        values: its arguments without names.

    >>> with_in_channels("conv", (64, 7, 2)) is None
    True
    >>> print(with_in_channels("conv", (1, 16, 3)))
    conv(1, 16, 3) is 1 filter with a window of 16 at stride 3. Channels that come in are not written: write conv(16, 3) for 16 filters with a window of 3. If you mean the stride, name it: conv(1, 16, stride=3).
    """
    if len(values) < 3 or not all(isinstance(value, int) and not isinstance(value, bool) for value in values[:3]):
        return None
    filters, kernel, stride = (int(str(value)) for value in values[:3])
    is_edge_to_edge = kernel == stride
    is_unusual = kernel > _MAX_KERNEL or (stride >= 3 and stride % 2 == 1 and (kernel % 2 == 0 or filters <= 4))
    if is_edge_to_edge or not is_unusual or stride > kernel:
        return None
    rest = "".join(f", {value}" for value in values[3:])
    return (
        f"{word}({filters}, {kernel}, {stride}{rest}) is {filters} {'filter' if filters == 1 else 'filters'} with a window of {kernel} at stride {stride}. "
        f"Channels that come in are not written: write {word}({kernel}, {stride}{rest}) for {kernel} filters with a window of {stride}. "
        f"If you mean the stride, name it: {word}({filters}, {kernel}, stride={stride})."
    )
