"""Advice on what is seen: fields larger than the picture or smaller than its objects, borders never read, gaps.

This file knows what follows from windows and positions. It must not know costs of other kinds, nor how advice is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import Any, Final

from visus.design.account import Row
from visus.design.advised import Advice, Facts, costs, per_axis_text
from visus.design.arguments import Shape
from visus.design.changes import appended, trunk, with_arguments, with_layer, with_window, without
from visus.design.graph import Node
from visus.design.items import Residual
from visus.design.layers import Depthwise, Layer, Pool, Windowed, conv, norm, relu
from visus.design.plan import Design
from visus.design.reading import everything, first_read, has_holes, middle, num_positions, read_by, shadow
from visus.errors import DesignError
from visus.geometry import Window
from visus.units import write_count, write_number_of, write_shape, write_share

LEAST_SHARE: Final = 0.01  # a smaller share of a map that is never read is not worth a word
_MOST_LAYERS: Final = 50  # more layers added are no remedy
_MOST_PX: Final = 32  # a larger change of the picture's size is no remedy


def unproductive(facts: Facts) -> Iterator[Advice]:
    """Layers that can add no new part of the picture: the field of what enters them is as long as it on every axis.

    The criterion of Richter et al. 2021 (arXiv:2106.12307). Only layers with windows larger than 1 are meant: no other layer adds any.
    """
    size = facts.input_size
    found = _unproductive_nodes(facts) if facts.nodes else _unproductive_rows(facts.account.rows, size)
    if not found:
        return
    rows = [row for row in facts.account.rows if row.path in found]
    parameters, macs = sum(row.num_parameters for row in rows), sum(row.macs for row in rows)
    first = found[rows[0].path]
    one = len(rows) == 1
    sentence = (
        f"what enters this layer has a receptive field of {per_axis_text(first)} px, and the picture of {write_shape(size)} fits into it: "
        f"this layer{'' if one else f' and {len(rows) - 1} later'} can add no new part of the picture (Richter et al. 2021). "
        f"{'It holds' if one else 'They hold'} {write_count(parameters)} parameters "
        f"({write_share(parameters / max(1, facts.account.num_parameters))} of all) and {write_count(macs)} macs."
    )
    yield Advice("unproductive", rows[0].path, sentence, tuple(_more_use(facts, found)), tuple(row.path for row in rows))


def object_size(facts: Facts) -> Iterator[Advice]:
    """The last map sees less than an object: none of its positions can see one whole."""
    row, wanted = facts.last_map(), facts.object_px
    if wanted is None or row is None or min(field.size for field in row.fields) >= wanted:
        return
    sizes = [field.size for field in row.fields]
    sentence = (
        f"the last map sees {per_axis_text(sizes)} px, {wanted - min(sizes)} less than an object of {wanted} px: "
        "no position of it can see such an object whole, and a detector cannot find the border of what it does not see."
    )
    yield Advice("object", row.path, sentence, tuple(_wider_sight(facts, row, wanted)), (row.path,))


def unread(facts: Facts) -> Iterator[Advice]:
    """Positions of a map that no window reads: at its far edge, between windows, or by the whole network."""
    if not facts.nodes:
        yield from _unread_rows(facts)
        return
    found = [advice for node in _entered_maps(facts.nodes) if (advice := _unread_before(facts, node))]
    yield from found
    if not found and len(facts.account.input_shape) > 1:
        total = num_positions(everything(facts.input_size))
        read = num_positions(read_by(facts.nodes, everything(facts.account.output[1:])))
        if total - read >= LEAST_SHARE * total:
            yield _unread_picture(total, read)


def gaps(facts: Facts) -> Iterator[Advice]:
    """Pixels inside the field of one position that it never reads, as under windows dilated by the same number again and again."""
    body = trunk(facts.nodes)
    widened = [node for node in facts.leaves if isinstance(node.layer, Windowed)]
    if not body or not widened:
        return
    counted = _gaps_of(body, facts.input_size)
    if counted is None:
        return
    read, spans = counted
    box = 1
    for span in spans:
        box *= span
    inside = [node.path for node in body for node in node.walk() if node in widened]
    sentence = (
        f"one position in the middle of the last map sees {write_shape(spans)} px and reads {read:,} of these {box:,}: its windows step "
        f"over {write_share((box - read) / box)} of what lies between (gridding)."
    )
    yield Advice("gaps", inside[-1], sentence, tuple(_closed_gaps(facts, body)), (inside[-1],))


# ---- layers that add nothing ----


def _unproductive_nodes(facts: Facts) -> dict[str, tuple[int, ...]]:
    """The field of what enters each layer that can add nothing, by path."""
    entries = facts.entries()
    found = {}
    for node in facts.leaves:
        fields = entries[node.path]
        if len(node.input_shape) < 2 or not node.num_parameters or not _is_spatial(node):
            continue
        covers = [field.step != 0 and field.size >= length for field, length in zip(fields, facts.input_size, strict=True)]
        if all(covers):
            found[node.path] = tuple(field.size for field in fields)
    return found


def _unproductive_rows(rows: Many[Row], size: Shape) -> dict[str, tuple[int, ...]]:
    """The same where only rows are known: those after the last that has not seen everything, in the order of computation."""
    if not size:
        return {}

    def covers(row: Row) -> bool:
        pairs = zip(row.fields, size, strict=False)
        return len(row.fields) == len(size) and all(field.step != 0 and field.size >= length for field, length in pairs)

    spatial = [row for row in rows if len(row.output_shape) == len(size) + 1]
    last = max((index for index, row in enumerate(spatial) if not covers(row)), default=-1)
    found = {}
    for before, row in zip(spatial[last + 1 :], spatial[last + 2 :], strict=False):
        wider = all(own.size > other.size for own, other in zip(row.fields, before.fields, strict=True))
        if row.num_parameters and wider:
            found[row.path] = tuple(field.size for field in before.fields)
    return found


def _is_spatial(node: Node) -> bool:
    windows = node.layer.windows(len(node.input_shape) - 1) if isinstance(node.layer, Layer) else ()
    return any(window.span > 1 for window in windows)


def _more_use(facts: Facts, found: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """A larger picture, and the design without the blocks that add nothing."""
    needed = max(max(sizes) for sizes in found.values()) + 1
    if not facts.nodes:
        if needed <= 2 * max(facts.input_size):
            yield f"pictures of {needed} px or more"
        return
    shape = (facts.account.input_shape[0], *(max(length, needed) for length in facts.input_size))
    is_near = max(shape[1:]) <= 2 * max(facts.input_size)
    larger = facts.again(without(facts.nodes, ()), shape) if is_near else None
    if larger is not None and not _unproductive_nodes(_on(facts, shape)):
        yield f"pictures of {write_shape(shape[1:])} ({write_count(larger.macs)} macs)"
    blocks = list(_droppable(facts.nodes, set(found)))
    smaller = facts.again(without(facts.nodes, blocks)) if blocks else None
    if smaller is not None:
        named = blocks[0] if len(blocks) == 1 else f"{blocks[0]} and {len(blocks) - 1} more such"
        yield f"leaving out {named} ({costs(smaller)})"


def _on(facts: Facts, shape: Shape) -> Facts:
    """The facts of the same design on another input."""
    design = without(facts.nodes, ())
    account = facts.again(design, shape)
    assert design is not None
    assert account is not None
    return Facts(account, design.place(shape))


def _droppable(nodes: Many[Node], useless: set[str]) -> Iterator[str]:
    """The outermost items that keep the shape, are no lone layer's part and whose windows all add nothing."""
    for node in nodes:
        spatial = {
            each.path for each in node.walk() if isinstance(each.layer, Layer) and each.num_parameters and _is_spatial(each)
        }
        lone = isinstance(node.layer, Depthwise)  # what mixes its channels would stay
        if node.input_shape == node.output_shape and spatial and spatial <= useless and not lone:
            yield node.path
        else:
            for branch in node.branches:
                yield from _droppable(branch if not isinstance(node.layer, Residual) else [], useless)


# ---- objects ----


def _wider_sight(facts: Facts, row: Row, wanted: int) -> Iterator[str]:
    sizes = [field.size for field in row.fields]
    body = trunk(facts.nodes)
    if body:
        yield from _dilated(facts, body, wanted)
        step = min(float(field.step) for field in row.fields)
        count = int(-(-(wanted - min(sizes)) // (2 * step)))
        layers = [part for _ in range(count) for part in (conv(row.output_shape[0], 3, padding=1), norm(), relu())]
        account = facts.again(appended(facts.nodes, layers)) if count <= _MOST_LAYERS else None
        if account is not None and _sees(account, wanted):
            yield f"{write_number_of(count, 'more layer')} of conv({row.output_shape[0]}, 3, padding=1), norm, relu ({costs(account)})"
    reduced = [length * min(sizes) // wanted for length in facts.input_size]
    if 4 * min(sizes) >= wanted:
        yield f"pictures reduced to {write_shape(reduced)}, on which the object has {wanted * reduced[0] / facts.input_size[0]:.3g} px"


def _dilated(facts: Facts, body: Many[Node], wanted: int) -> Iterator[str]:
    """The last convolution with the smallest dilation that is wide enough, where it leaves no gaps."""
    num_axes = len(facts.input_size)
    convs = [node for outer in body for node in outer.walk() if _is_spatial(node) and not isinstance(node.layer, Pool)]
    if not convs:
        return
    node: Any = convs[-1]
    reach = max(window.kernel_size // 2 for window in node.layer.windows(num_axes))
    for dilation in range(2, min(node.output_shape[1:]) // (2 * reach) + 1):  # further taps read nothing but padding
        layer = with_window(node.layer, num_axes, dilation=dilation)
        design = with_layer(facts.nodes, node.path, layer) if layer else None
        account = facts.again(design)
        if account is not None and _sees(account, wanted):
            if _closed(facts, design) is not None:
                yield f"dilation={dilation} in {node.path} ({costs(account)})"
            return


def _sees(account: Any, wanted: int) -> bool:
    row = Facts(account).last_map()
    return row is not None and min(field.size for field in row.fields) >= wanted


# ---- positions never read ----


def _entered_maps(nodes: Many[Node], *, first_is_told: bool = False) -> Iterator[Node]:
    """Each item that a map enters, the outermost of those that the same map enters."""
    for index, node in enumerate(nodes):
        if (index or not first_is_told) and len(node.input_shape) > 1:
            yield node
        for branch in node.branches:
            yield from _entered_maps(branch, first_is_told=True)


def _unread_before(facts: Facts, node: Node) -> Advice | None:
    size = node.input_shape[1:]
    area = first_read(node)
    total, read = num_positions(everything(size)), num_positions(area)
    if total - read < LEAST_SHARE * total:
        return None
    reader: Any = next((each for each in node.walk() if isinstance(each.layer, Layer)), node)
    windows = reader.layer.windows(len(size)) if isinstance(reader.layer, Layer) else ()
    worst = next((axis for axis in range(len(size)) if shadow(area, axis).bit_count() < size[axis]), None)
    if worst is None or not windows:
        return None
    share = f"{total - read:,} of its {total:,} positions, {write_share((total - read) / total)}, are never read"
    window: Window = windows[worst]
    if not has_holes(shadow(area, worst)):
        missing = size[worst] - shadow(area, worst).bit_length()
        sentence = (
            f"{window.sum_text(size[worst])}, and the last {'position' if missing == 1 else f'{missing} positions'} of {size[worst]} on "
            f"{'each' if len(set(size)) == 1 and len(size) > 1 else 'the'} axis {'is' if missing == 1 else 'are'} left over: {share}."
        )
        return Advice("border", reader.path, sentence, tuple(_read_borders(facts, reader)), (reader.path,))
    if window.stride > window.span:
        sentence = (
            f"a window of {window.kernel_size} that moves {window.stride} positions at a time steps over "
            f"{window.stride - window.span} of every {window.stride}: on a map of {write_shape(size)}, {share}."
        )
        return Advice("stride", reader.path, sentence, tuple(_closer_windows(facts, reader, window)), (reader.path,))
    sentence = (
        f"a window of {window.kernel_size} with dilation {window.dilation} that moves {window.stride} positions at a time never meets "
        f"those between: on a map of {write_shape(size)}, {share}."
    )
    return Advice("gaps", reader.path, sentence, tuple(_closer_windows(facts, reader, window)), (reader.path,))


def _read_borders(facts: Facts, node: Node) -> Iterator[str]:
    """Ceil mode, more padding, and the next sizes of the picture with which every map is read whole."""
    layer: Any = node.layer
    changes: list[tuple[str, object]] = [("ceil_mode", True)] if isinstance(layer, Pool) else []
    if isinstance(layer.padding, int):
        changes.append(("padding", layer.padding + 1))
    for name, value in changes:
        new = with_arguments(layer, **{name: value})
        account = facts.again(with_layer(facts.nodes, node.path, new)) if new else None
        if account is not None and new is not None and _reads_all(new, node.input_shape):
            yield f"{name}={value} (a map of {write_shape(new.output_shape(node.input_shape)[1:])}, {write_count(account.macs)} macs)"
    design = without(facts.nodes, ())
    sizes = [_next_size(design, facts.account.input_shape, step) for step in (1, -1)] if design else []
    if fitting := [write_shape(size[1:]) for size in sizes if size]:
        yield f"pictures of {' or '.join(fitting)}"


def _reads_all(layer: Layer, shape: Shape) -> bool:
    node = Node("", layer, shape, layer.output_shape(shape))
    return num_positions(first_read(node)) == num_positions(everything(shape[1:]))


def _next_size(design: Design, shape: Shape, step: int) -> Shape | None:
    """The nearest larger (or smaller) picture of which, and of whose maps, everything is read."""
    for change in range(1, _MOST_PX + 1):
        tried = (shape[0], *(length + step * change for length in shape[1:]))
        if min(tried) < 1:
            return None
        try:
            nodes = design.place(tried)
        except DesignError:
            continue
        if all(
            num_positions(first_read(node)) == num_positions(everything(node.input_shape[1:]))
            for node in _entered_maps(nodes)
        ):
            return tried
    return None


def _closer_windows(facts: Facts, node: Node, window: Window) -> Iterator[str]:
    """A kernel as large as the stride, no dilation, or a stride as small as the kernel."""
    num_axes = len(node.input_shape) - 1
    layer: Any = node.layer
    tries = [
        (f"kernel_size={size}", with_arguments(layer, kernel_size=size)) for size in range(window.stride, window.stride + 2)
    ]
    if window.dilation > 1:
        tries.insert(0, ("dilation=1", with_window(layer, num_axes, dilation=1)))
        both = f"kernel_size={window.stride}, dilation=1"
        tries.append((both, with_arguments(layer, kernel_size=window.stride, dilation=1)))
    tries.append((f"stride={window.kernel_size}", with_arguments(layer, stride=window.kernel_size)))
    told = 0
    for text, new in tries:
        account = facts.again(with_layer(facts.nodes, node.path, new)) if new else None
        if told < 2 and account is not None and new is not None and _reads_all(new, node.input_shape):
            told += 1
            yield f"{text} ({costs(account)})"


def _unread_rows(facts: Facts) -> Iterator[Advice]:
    """Pixels of the picture that the last map does not reach, from the rows alone."""
    rows = [row for row in facts.account.rows if row.fields and all(field.reads is not None for field in row.fields)]
    if not rows or len(rows[-1].fields) != len(facts.input_size):
        return
    read, total = 1, 1
    for field, length in zip(rows[-1].fields, facts.input_size, strict=True):
        first, last = field.over().box() or (0, -1)
        read, total = read * (last - first + 1), total * length
    if total - read >= LEAST_SHARE * total:
        yield _unread_picture(total, read)


def _unread_picture(total: int, read: int) -> Advice:
    return Advice(
        "border",
        "",
        f"of the {total:,} px of the picture, {total - read:,} are never read by what comes out: {write_share((total - read) / total)}.",
    )


# ---- gaps in the field of one position ----


def _gaps_of(body: Many[Node], input_size: Shape) -> tuple[int, list[int]] | None:
    """Pixels read by a position in the middle, and the lengths of the box around them; None where there is no gap."""
    area = read_by(body, middle(body[-1].output_shape[1:]), gates=False)
    shadows = [shadow(area, axis) for axis in range(len(input_size))]
    if not any(map(has_holes, shadows)):
        return None
    spans = [each.bit_length() - (each & -each).bit_length() + 1 for each in shadows]
    return num_positions(area), spans


def _closed_gaps(facts: Facts, body: Many[Node]) -> Iterator[str]:
    """The dilation that closes all gaps and keeps the largest field, and one more layer that does."""
    num_axes = len(facts.input_size)
    found: list[tuple[int, str]] = []
    for node in (each for outer in body for each in outer.walk() if isinstance(each.layer, Windowed)):
        layer: Any = node.layer
        largest = max(window.dilation for window in layer.windows(num_axes))
        for dilation in range(1, largest):
            new = with_window(layer, num_axes, dilation=dilation)
            design = with_layer(facts.nodes, node.path, new) if new else None
            if (size := _closed(facts, design)) is not None:
                found.append((size, f"dilation={dilation} in {node.path} (a field of {size} px)"))
    if found:
        yield max(found, key=lambda each: each[0])[1]
    channels = body[-1].output_shape[0]
    design = appended(facts.nodes, [conv(channels, 3, padding=1)])
    account = facts.again(design)
    if account is not None and (size := _closed(facts, design)) is not None:
        yield f"conv({channels}, 3, padding=1) after the last map (a field of {size} px, {costs(account)})"


def _closed(facts: Facts, design: Design | None) -> int | None:
    """The length of the field of the last map of a design without gaps; None where it has some, or is impossible."""
    account = facts.again(design)
    if design is None or account is None:
        return None
    body = trunk(design.place(facts.account.input_shape))
    row = Facts(account).last_map()
    if row is None or not body or _gaps_of(body, facts.input_size) is not None:
        return None
    return min(field.size for field in row.fields)
