"""What to do about an impossible layer: the smallest input that a design accepts, and changes that were tried and work.

This file knows how to vary a design and ask again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import Any

from visus.design.arguments import Shape
from visus.design.graph import Impossible, Node, Route, projection_window, propagate, stride_product
from visus.design.items import Concat, Item, Repeat, Residual
from visus.design.layers.registry import Conv, Depthwise, Flatten, GlobalPool, Layer, Pool, Transposed, Windowed
from visus.errors import DesignError
from visus.units import write_shape

_BUDGET = 40_000  # layers visited in one search for a size
_MAX_SIZE = 10**6  # a longer axis is no help to anybody
_TRIES = 16  # changes of one kind that are tried
_SUBJECTS = {1: "The shortest signal", 2: "The smallest image", 3: "The smallest volume"}


class _NoFit(Exception):  # noqa: N818  # never leaves this file
    """An axis of this length does not go through."""


def explain(items: Many[Item], input_shape: Shape, num_classes: int | None, failure: Impossible) -> DesignError:
    """The error for an impossible item: where, the sum, the smallest input, remedies, a hint at swapped axes."""
    parts = [failure.sentence]
    found = _remedies(items, input_shape, num_classes, failure)
    size_text = _size_sentence(items, input_shape, num_classes) if failure.kind else ""
    if size_text:
        parts.append(size_text)
    if found:
        parts.append(f"{'Or' if size_text else 'What works'}: {'; or '.join(found)}.")
    if hint := _swapped_axes_hint(items, input_shape, num_classes):
        parts.append(hint)
    return DesignError(" ".join(parts), where=failure.path)


def fits(items: Many[Item], input_shape: Shape, num_classes: int | None) -> bool:
    """Whether a design accepts an input of this shape."""
    try:
        propagate(items, input_shape, num_classes)
    except (Impossible, DesignError):
        return False
    return True


def fitting_size(items: Many[Item], axis: int, num_axes: int, at_least: int = 1) -> int | None:
    """The smallest length of one axis, from ``at_least`` on, that goes through all layers; None where none is found.

    Axes do not see each other, so each can be searched alone. What is independent of size (channels) is not looked at.
    """
    try:
        first = max(at_least, _lower_bound(items, axis, num_axes, 1))
        if first > _MAX_SIZE:
            return None
        for size in range(first, first + _num_tries(items, axis, num_axes)):
            try:
                _length_after(items, axis, num_axes, size)
            except _NoFit:
                continue
            return size
    except DesignError:  # a tuple with another number of axes
        return None
    return None


def _num_tries(items: Many[Item], axis: int, num_axes: int) -> int:
    """How many lengths in a row are worth a try: what goes through recurs with the strides, and time is limited."""
    recurrence = int(stride_product(items, num_axes, all_paths=True)[axis])
    num_layers = sum(item.num_layers for item in items)
    return min(2 * recurrence + 16, max(16, _BUDGET // num_layers))


def _length_after(items: Many[Item], axis: int, num_axes: int, size: int | None) -> int | None:
    """Length of one axis after the items; None once the map has become features."""
    for item in items:
        if size is None:
            return None
        if isinstance(item, Layer):
            size = _after_layer(item, axis, num_axes, size)
        elif isinstance(item, Repeat):
            for _ in range(item.times):
                size = _length_after((item.body,), axis, num_axes, size)
        elif isinstance(item, Residual):
            size = _after_residual(item, axis, num_axes, size)
        elif isinstance(item, Concat):
            lengths = {_length_after((branch,), axis, num_axes, size) for branch in item.branches}
            if len(lengths) > 1:
                raise _NoFit
            size = lengths.pop()
        else:
            size = _length_after(item.children, axis, num_axes, size)
    return size


def _after_layer(layer: Layer, axis: int, num_axes: int, size: int) -> int | None:
    if isinstance(layer, (Flatten, GlobalPool)):
        return None
    if not isinstance(layer, Windowed):
        return size
    axis_op = layer.axis_ops(num_axes)[axis]
    if not layer.fits(axis_op, size, num_axes):
        raise _NoFit
    return axis_op.output_size(size)


def _after_residual(item: Residual, axis: int, num_axes: int, size: int) -> int | None:
    after = _length_after(item.layers, axis, num_axes, size)
    if after in (size, None):
        return after
    stride = stride_product(item.layers, num_axes)[axis]
    if stride.denominator != 1 or projection_window(int(stride)).output_size(size) != after:
        raise _NoFit
    return after


def _lower_bound(items: Many[Item], axis: int, num_axes: int, needed: int) -> int:
    """A length of the axis below which fewer than ``needed`` positions come out; exact for a plain sequence."""
    for item in reversed(items):
        if isinstance(item, (Flatten, GlobalPool)):
            needed = 1
        elif isinstance(item, Layer):
            axis_ops = item.axis_ops(num_axes)
            needed = axis_ops[axis].smallest_input(needed) if axis_ops else needed
        elif isinstance(item, Repeat):
            for _ in range(item.times):
                needed = _lower_bound((item.body,), axis, num_axes, needed)
        elif isinstance(item, Concat):
            needed = max(_lower_bound((branch,), axis, num_axes, needed) for branch in item.branches)
        else:
            needed = _lower_bound(item.children, axis, num_axes, needed)
    return needed


def smallest_shape(items: Many[Item], input_shape: Shape, num_classes: int | None) -> Shape | None:
    """The smallest input of these channels and this number of axes that the design accepts; None where none is found."""
    num_axes = len(input_shape) - 1
    sizes = [fitting_size(items, axis, num_axes) for axis in range(num_axes)]
    if not sizes or None in sizes:
        return None
    shape = (input_shape[0], *(size for size in sizes if size is not None))
    return shape if fits(items, shape, num_classes) else None


def _size_sentence(items: Many[Item], input_shape: Shape, num_classes: int | None) -> str:
    """The smallest input, beside the present one; or the next larger, where the present one is not too small."""
    smallest = smallest_shape(items, input_shape, num_classes)
    num_axes = len(input_shape) - 1
    if smallest is None or num_axes not in _SUBJECTS:
        return ""
    yours = write_shape(input_shape[1:])
    sentence = f"{_SUBJECTS[num_axes]} for this design is {write_shape(smallest[1:])} (yours: {yours})."
    if any(least > length for least, length in zip(smallest[1:], input_shape[1:], strict=True)):
        return sentence
    larger = [fitting_size(items, axis, num_axes, length) for axis, length in enumerate(input_shape[1:])]
    shape = (input_shape[0], *(size for size in larger if size is not None))
    if None in larger or not fits(items, shape, num_classes):
        least = f"{_SUBJECTS[num_axes]} for this design is {write_shape(smallest[1:])}"
        return f"{least}; from yours on ({yours}) none was found that goes through."
    return f"{sentence} The next larger that goes through is {write_shape(shape[1:])}."


def _remedies(items: Many[Item], input_shape: Shape, num_classes: int | None, failure: Impossible) -> list[str]:
    """Changes of the design, as people would write them, each tried on the whole design."""

    def works(changed: tuple[Item, ...] | None) -> bool:
        return changed is not None and fits(changed, input_shape, num_classes)

    if failure.kind == "window" and isinstance(failure.item, Layer) and failure.route is not None:
        found = []
        own, route = failure.item, failure.route
        for name, values in (("padding", _other_padding(own)), ("kernel_size", _smaller_kernels(own))):
            value = next((value for value in values if works(_with_argument(items, route, name, value))), None)
            if value is not None:
                found.append(f"{name}={value}")
        earlier = _fewer_steps(items, failure)
        found += [text for text, changed in earlier if works(changed)][:1]
        return found
    if failure.kind == "join" and failure.route is not None:
        return [text for text, changed in _kept_sizes(items, failure) if works(changed)][:1]
    return []


def _other_padding(layer: Layer) -> Iterator[int]:
    """More padding, the least first; for a transposed convolution, whose padding takes away, less."""
    values: Any = layer
    if isinstance(layer, Transposed):
        yield from range(layer.padding - 1, -1, -1) if isinstance(layer.padding, int) else ()
    elif isinstance(getattr(layer, "padding", None), int):
        yield from range(values.padding + 1, max(window.span for window in layer.windows(_num_numbers(layer))))


def _num_numbers(layer: Layer) -> int:
    """How many axes the arguments of a layer speak of; 1 where each is one number for all."""
    return max(len(value) if isinstance(value, tuple) else 1 for value in vars(layer).values())


def _smaller_kernels(layer: Layer) -> Iterator[object]:
    values: Any = layer
    least = 2 if isinstance(layer, Pool) else 1
    if isinstance(values.kernel_size, int):
        yield from range(values.kernel_size - 1, least - 1, -1)
    else:
        for shrink in range(1, max(values.kernel_size)):
            yield tuple(max(least, size - shrink) for size in values.kernel_size)


def _fewer_steps(items: Many[Item], failure: Impossible) -> Iterator[tuple[str, tuple[Item, ...] | None]]:
    """Designs that shrink their map less: without one pool (the nearest first), then with one stride of 1."""
    reached = [*failure.before, Node(failure.path, failure.item, (), (), (), failure.route)]
    written = [(node.path, node.layer, node.route) for node in reversed(reached) if node.route is not None]
    pools = [(path, route) for path, layer, route in written if isinstance(layer, Pool)]
    strided = [(path, route) for path, layer, route in written if isinstance(layer, (Conv, Depthwise)) and layer.stride != 1]
    for path, route in pools[:_TRIES]:
        yield f"drop {path}", _replaced(items, route, None)
    for path, route in strided[:_TRIES]:
        yield f"stride=1 in {path}", _with_argument(items, route, "stride", 1)


def _kept_sizes(items: Many[Item], failure: Impossible) -> Iterator[tuple[str, tuple[Item, ...] | None]]:
    """Designs in which layers inside the item that does not join keep the size of their map."""
    keeping = []
    for node in failure.before:
        values: Any = node.layer
        if (
            node.route is None
            or not node.path.startswith(failure.path + ".")
            or not isinstance(values, (Conv, Depthwise, Pool))
        ):
            continue
        spans = {window.span for window in values.windows(len(node.input_shape) - 1)}
        span = spans.pop()
        if not spans and span % 2 == 1 and values.padding not in ("same", span // 2):
            keeping.append((node.path, node.route, span // 2))
    for path, route, padding in keeping[:_TRIES]:
        yield f"padding={padding} in {path}", _with_argument(items, route, "padding", padding)
    changed: tuple[Item, ...] | None = tuple(items)
    for _, route, padding in keeping:
        changed = changed and _with_argument(changed, route, "padding", padding)
    yield " and ".join(f"padding={padding} in {path}" for path, _, padding in keeping), changed


def _with_argument(items: Many[Item], route: Route, name: str, value: object) -> tuple[Item, ...] | None:
    """The design with one argument of the layer at ``route`` changed; None where the layer does not allow that value."""
    item = _at(items, route)
    try:
        return _replaced(items, route, dataclasses.replace(item, **{name: value}))  # type: ignore[arg-type]
    except DesignError:
        return None


def _at(items: Many[Item], route: Route) -> Item:
    item = items[route[0]]
    for index in route[1:]:
        item = item.children[index]
    return item


def _replaced(items: Many[Item], route: Route, new: Item | None) -> tuple[Item, ...] | None:
    """The design with the item at ``route`` replaced, or taken out; None where what is left is no design."""
    index, inner = route[0], route[1:]
    if inner:
        children = _replaced(items[index].children, inner, new)
        if not children:
            return None
        try:
            new = items[index].with_children(children)
        except DesignError:
            return None
    kept = (*items[:index], *(() if new is None else (new,)), *items[index + 1 :])
    return kept or None


def _swapped_axes_hint(items: Many[Item], input_shape: Shape, num_classes: int | None) -> str:
    """The hint for (height, width, channels) given as (channels, height, width), where the other order would have worked."""
    swapped = (input_shape[-1], *input_shape[:-1])
    if len(input_shape) < 3 or input_shape[-1] > 4 or input_shape[0] <= 4 or not fits(items, swapped, num_classes):
        return ""
    return (
        f"The input {write_shape(input_shape)} looks like one with its channels last; they go first: {write_shape(swapped)},"
        " which this design accepts."
    )
