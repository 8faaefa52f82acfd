"""Sizes of maps on one axis: forward through the items of a design, backward from the output, and through the rows of an
account.

The axes of a map do not affect each other, so the search for a size that fits looks at each axis alone, without channels.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from collections.abc import Sequence as Many
from fractions import Fraction
from typing import Final

from visus.design.arguments import Shape
from visus.design.flow import INPUT, Flow
from visus.design.items import Concat, Item, Repeat, Residual
from visus.design.layers.layer import DoesNotFitError, Layer
from visus.errors import DesignError
from visus.geometry import Window

MAX_LENGTH: Final = 10**6
"""No search goes beyond this length of an axis, in pixels."""

_MAX_VISITS: Final = 40_000  # layers visited in one search


def output_length(items: Many[Item], axis: int, num_axes: int, length: int | None) -> int | None:
    """Length of one axis after the items; None once the map has become features.

    Raises:
        DoesNotFitError: a window does not fit the axis.

    >>> from visus.design import parse
    >>> output_length(parse("conv(8, 5), maxpool(2)").layers, 0, 2, 28)
    12
    """
    for item in items:
        if length is None:
            return None
        if isinstance(item, Layer):
            length = item.output_length(length, axis, num_axes)
        elif isinstance(item, Repeat):
            for _ in range(item.times):
                length = output_length((item.body,), axis, num_axes, length)
        elif isinstance(item, Residual):
            length = _after_residual(item, axis, num_axes, length)
        elif isinstance(item, Concat):
            lengths = {output_length((branch,), axis, num_axes, length) for branch in item.branches}
            if len(lengths) > 1:
                raise DoesNotFitError("the branches end in maps of different sizes.")
            length = lengths.pop()
        else:
            length = output_length(item.children, axis, num_axes, length)
    return length


def _after_residual(item: Residual, axis: int, num_axes: int, length: int) -> int | None:
    after = output_length(item.layers, axis, num_axes, length)
    if after in (length, None):
        return after
    stride = stride_product(item.layers, num_axes)[axis]
    if stride.denominator != 1 or Window(1, int(stride)).output_size(length) != after:
        raise DoesNotFitError("the projection does not end in a map of this size.")
    return after


def min_input_length(items: Many[Item], axis: int, num_axes: int, output_length: int = 1) -> int:
    """A lower bound for the input length that yields ``output_length`` positions; exact for a plain sequence."""
    needed = output_length
    for item in reversed(items):
        if isinstance(item, Layer):
            needed = item.min_input_length(needed, axis, num_axes)
        elif isinstance(item, Repeat):
            for _ in range(item.times):
                needed = min_input_length((item.body,), axis, num_axes, needed)
        elif isinstance(item, Concat):
            needed = max(min_input_length((branch,), axis, num_axes, needed) for branch in item.branches)
        else:
            needed = min_input_length(item.children, axis, num_axes, needed)
    return needed


def fitting_length(items: Many[Item], axis: int, num_axes: int, at_least: int = 1) -> int | None:
    """The smallest length of one axis, at least ``at_least``, that all layers accept; None if not found."""
    try:
        first = max(at_least, min_input_length(items, axis, num_axes))
        if first > MAX_LENGTH:
            return None
        for length in range(first, first + _num_tries(items, axis, num_axes)):
            try:
                output_length(items, axis, num_axes, length)
            except DoesNotFitError:
                continue
            return length
    except DesignError:  # a tuple with another number of axes
        return None
    return None


def _num_tries(items: Many[Item], axis: int, num_axes: int) -> int:
    """How many lengths in a row are worth a try: lengths that fit repeat with the strides, and time is limited."""
    period = int(stride_product(items, num_axes, all_paths=True)[axis])
    num_layers = sum(item.num_layers for item in items)
    return min(2 * period + 16, max(16, _MAX_VISITS // num_layers))


def projection_strides(item: Residual, size: Shape, output_size: Shape) -> tuple[int | Fraction, ...]:
    """Stride of the projection on each axis: the product of the body's strides, and 1 if the size stays the same.

    It is a fraction if the body enlarges the map, which a projection cannot do.
    """
    strides = stride_product(item.layers, len(size))
    return tuple(1 if before == after else stride for stride, before, after in zip(strides, size, output_size, strict=True))


def stride_product(items: Many[Item], num_axes: int, *, all_paths: bool = False) -> tuple[int | Fraction, ...]:
    """Input positions from one output position to the next, on each axis; a fraction if the map is enlarged.

    Args:
        all_paths: multiply the strides of all branches of a concat, instead of those of its first branch, and count layers
            that enlarge a map as 1. The lengths that fit repeat with this period.
    """
    product: tuple[int | Fraction, ...] = (1,) * num_axes
    for item in items:
        if isinstance(item, Layer):
            steps = (axis_op.jump for axis_op in item.axis_ops(num_axes))
            factors = tuple(max(1, step) if all_paths else step for step in steps) or (1,) * num_axes
        else:
            inner = item.children[:1] if isinstance(item, Concat) and not all_paths else item.children
            factors = stride_product(inner, num_axes, all_paths=all_paths)
        if isinstance(item, Repeat):
            factors = tuple(stride**item.times for stride in factors)
        product = tuple(map(operator.mul, product, factors))
    return product


def size_after(flow: Flow, size: Shape) -> Shape | None:
    """Size of the map after the axis operations of a row; None if they do not fit."""
    if len(flow.axis_ops) != len(size) or not all(map(lambda axis_op, length: axis_op.fits(length), flow.axis_ops, size)):
        return None
    return tuple(axis_op.output_size(length) for axis_op, length in zip(flow.axis_ops, size, strict=True))


def row_lengths(flows: Many[Flow], axis: int, length: int, num_axes: int) -> Iterator[tuple[int, int] | None]:
    """Length of one axis before and after each row, for another length of the input; ends with None at a row whose window
    does not fit.

    Rows whose output has other axes than the input, and those with global context, keep the length of their first source.
    """
    lengths = {INPUT: length}
    for place, flow in enumerate(flows):
        before = after = lengths[flow.sources[0]]
        if has_own_windows(flow, num_axes):
            axis_op = flow.axis_ops[axis]
            if not axis_op.fits(before):
                yield None
                return
            after = axis_op.output_size(before)
        lengths[place] = after
        yield before, after


def has_own_windows(flow: Flow, num_axes: int) -> bool:
    """Whether a row of a map reads its source by axis operations alone."""
    return bool(flow.axis_ops) and flow.context == "local" and len(flow.output_shape) == num_axes + 1
