"""Remedies for a layer that does not fit: the smallest accepted input, and changes that were tried and work."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many

from visus.design.arguments import Shape
from visus.design.graph import Impossible, Node, Route, propagate
from visus.design.items import Item
from visus.design.layers.registry import Convolution, Pool, Windowed
from visus.design.rewrite import item_at, replaced, with_arguments
from visus.design.sizes import fitting_length
from visus.errors import DesignError
from visus.units import write_shape

_TRIES = 16  # changes of one kind that are tried
_SUBJECTS = {1: "The shortest signal", 2: "The smallest image", 3: "The smallest volume"}


def explain(items: Many[Item], input_shape: Shape, num_classes: int | None, failure: Impossible) -> DesignError:
    """The error for an item that does not fit: its path, the calculation, the smallest input, remedies, and a hint about
    swapped axes."""
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


def smallest_shape(items: Many[Item], input_shape: Shape, num_classes: int | None) -> Shape | None:
    """The smallest input of these channels and this number of axes that the design accepts; None if not found."""
    num_axes = len(input_shape) - 1
    sizes = [fitting_length(items, axis, num_axes) for axis in range(num_axes)]
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
    larger = [fitting_length(items, axis, num_axes, length) for axis, length in enumerate(input_shape[1:])]
    shape = (input_shape[0], *(size for size in larger if size is not None))
    if None in larger or not fits(items, shape, num_classes):
        least = f"{_SUBJECTS[num_axes]} for this design is {write_shape(smallest[1:])}"
        return f"{least}; no size of at least yours ({yours}) was found to fit."
    return f"{sentence} The next larger size that fits is {write_shape(shape[1:])}."


def _remedies(items: Many[Item], input_shape: Shape, num_classes: int | None, failure: Impossible) -> list[str]:
    """Changes of the design, as people would write them, each tried on the whole design."""

    def works(changed: tuple[Item, ...] | None) -> bool:
        return changed is not None and fits(changed, input_shape, num_classes)

    if failure.kind == "window" and isinstance(failure.item, Windowed) and failure.route is not None:
        found = []
        tries = {"padding": failure.item.paddings_to_try(), "kernel_size": failure.item.kernels_to_try()}
        for name, values in tries.items():
            value = next((value for value in values if works(_with_argument(items, failure.route, name, value))), None)
            if value is not None:
                found.append(f"{name}={value}")
        earlier = _fewer_steps(items, failure)
        found += [text for text, changed in earlier if works(changed)][:1]
        return found
    if failure.kind == "join" and failure.route is not None:
        return [text for text, changed in _kept_sizes(items, failure) if works(changed)][:1]
    return []


def _fewer_steps(items: Many[Item], failure: Impossible) -> Iterator[tuple[str, tuple[Item, ...] | None]]:
    """Designs that shrink their map less: without one pool (the nearest first), then with one stride of 1."""
    reached = [*failure.before, Node(failure.path, failure.item, (), (), (), failure.route)]
    written = [(node.path, node.layer, node.route) for node in reversed(reached) if node.route is not None]
    pools = [(path, route) for path, layer, route in written if isinstance(layer, Pool)]
    strided = [(path, route) for path, layer, route in written if isinstance(layer, Convolution) and layer.stride != 1]
    for path, route in pools[:_TRIES]:
        yield f"drop {path}", replaced(items, route, [])
    for path, route in strided[:_TRIES]:
        yield f"stride=1 in {path}", _with_argument(items, route, "stride", 1)


def _kept_sizes(items: Many[Item], failure: Impossible) -> Iterator[tuple[str, tuple[Item, ...] | None]]:
    """Designs in which layers inside the item that does not join keep the size of their map."""
    padded = []
    for node in failure.before:
        layer = node.layer
        if node.route is None or not node.path.startswith(failure.path + ".") or not isinstance(layer, (Convolution, Pool)):
            continue
        spans = {window.span for window in layer.windows(len(node.input_shape) - 1)}
        span = spans.pop()
        if not spans and span % 2 == 1 and layer.padding not in ("same", span // 2):
            padded.append((node.path, node.route, span // 2))
    for path, route, padding in padded[:_TRIES]:
        yield f"padding={padding} in {path}", _with_argument(items, route, "padding", padding)
    changed: tuple[Item, ...] | None = tuple(items)
    for _, route, padding in padded:
        changed = changed and _with_argument(changed, route, "padding", padding)
    yield " and ".join(f"padding={padding} in {path}" for path, _, padding in padded), changed


def _with_argument(items: Many[Item], route: Route, name: str, value: object) -> tuple[Item, ...] | None:
    """The design with one argument of the layer at ``route`` changed; None if the layer does not allow that value."""
    layer = with_arguments(item_at(items, route), **{name: value})
    return replaced(items, route, [layer]) if layer is not None else None


def _swapped_axes_hint(items: Many[Item], input_shape: Shape, num_classes: int | None) -> str:
    """The hint for (height, width, channels) given as (channels, height, width), where the other order would have worked."""
    swapped = (input_shape[-1], *input_shape[:-1])
    if len(input_shape) < 3 or input_shape[-1] > 4 or input_shape[0] <= 4 or not fits(items, swapped, num_classes):
        return ""
    return (
        f"The input {write_shape(input_shape)} looks like channels last; channels must come first: {write_shape(swapped)},"
        " which this design accepts."
    )
