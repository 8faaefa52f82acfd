"""Errors in a module's forward pass: the layer, what it received, the line of a person's code, and what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from torch import nn

from visus.units import write_number_of

_RESHAPE: Final = re.compile(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)")
_TOO_SMALL: Final = re.compile(r"Kernel size can't be greater|Output size is too small|kernel_size.*larger than")


def remedy_for(error: BaseException, layer: nn.Module | None, shape: Sequence[int], *, num_samples: int = 1) -> str | None:
    """What to do about an error in a forward pass, as sentences; None if its cause is unknown.

    Args:
        error: as PyTorch raised it.
        layer: the layer that failed.
        shape: shape of its input, without the batch axis.
        num_samples: samples of the batch.

    >>> remedy_for(RuntimeError("shapes cannot be multiplied"), nn.Linear(400, 10), (2704,))
    'The layer takes 400 values, and 2,704 come in: use nn.Linear(2704, 10), or give another input shape.'
    """
    if (reshape := _RESHAPE.search(str(error))) is not None:
        return _apart(reshape, num_samples)
    if _TOO_SMALL.search(str(error)):
        return "The map is too small for this window here: give larger images, or use fewer strides and pools before it."
    if (
        isinstance(layer, nn.modules.conv._ConvNd)
        and len(shape) == len(layer.kernel_size) + 1
        and shape[0] != layer.in_channels
    ):
        come = "comes" if shape[0] == 1 else "come"
        return (
            f"The layer takes {write_number_of(layer.in_channels, 'channel')}, and {shape[0]:,} {come} in: set its in_channels to {shape[0]}, "
            "or change the layer before it."
        )
    if isinstance(layer, nn.Linear) and shape and shape[-1] != layer.in_features:
        if len(shape) > 1:
            return (
                f"The layer takes {write_number_of(layer.in_features, 'value')} in the last dimension, and {shape[-1]:,} come in: "
                "flatten or pool the map before it."
            )
        return (
            f"The layer takes {write_number_of(layer.in_features, 'value')}, and {shape[-1]:,} come in: "
            f"use nn.Linear({shape[-1]}, {layer.out_features}), or give another input shape."
        )
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and shape and shape[0] != layer.num_features:
        return f"The layer takes {write_number_of(layer.num_features, 'channel')}, and {shape[0]:,} come in: set its num_features to {shape[0]}."
    return None


def flattened_batch(layer: nn.Module | None, shape: Sequence[int], num_samples: int) -> str | None:
    """What to do if all samples of a batch enter a linear layer as one row, as after ``x.flatten()``; None if they do not.

    Args:
        layer: the layer that failed.
        shape: shape of its input, with the batch axis where there is one.
        num_samples: samples of the batch, at least 2.

    >>> flattened_batch(nn.Linear(8, 2), (16,), 2)
    'The batch axis was flattened away: the 16 values of 2 samples come in as one row. Use x.flatten(1), which keeps the samples apart.'
    """
    num_values = math.prod(shape)
    if not isinstance(layer, nn.Linear) or tuple(shape) not in ((num_values,), (1, num_values)) or num_values % num_samples:
        return None
    each = num_values // num_samples
    sized = "" if each == layer.in_features else f", and nn.Linear({each}, {layer.out_features}) after it"
    return (
        f"The batch axis was flattened away: the {num_values:,} values of {num_samples} samples come in as one row. "
        f"Use x.flatten(1), which keeps the samples apart{sized}."
    )


def _apart(reshape: re.Match[str], num_samples: int) -> str:
    """What to do about rows that do not hold whole samples."""
    rows, num_values = tuple(map(int, reshape[1].split(","))), int(reshape[2])
    each = num_values // num_samples
    if len(rows) == 2 and rows[0] == -1:
        return (
            f"A sample has {each:,} values here, and the reshape asks for rows of {rows[1]:,}: use x.flatten(1), "
            f"and give the next layer {each:,} inputs."
        )
    return f"A sample has {each:,} values here: reshape to sizes with this product, after the batch axis."
