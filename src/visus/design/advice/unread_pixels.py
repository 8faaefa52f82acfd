"""Advice on unread pixels: borders that no window reaches, strides and dilations that leave gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, Final

from visus.design.advice.pieces import Advice
from visus.design.dependence import (
    Area,
    areas_read,
    everything,
    has_holes,
    middle,
    num_positions,
    projection,
    read_through,
    smallest,
)
from visus.design.edits import appended, changed, trunk, with_layer, without
from visus.design.facts import AdviceFound, Candidate, Facts, costs
from visus.design.flow import INPUT
from visus.design.layers.registry import Layer, Pool, Windowed, conv
from visus.design.plan import Design
from visus.design.rewrite import with_arguments, with_window
from visus.design.sizes import has_own_windows, row_lengths
from visus.geometry import AxisOp, Window, bits_read
from visus.units import write_count, write_shape, write_share

MIN_SHARE: Final = 0.01  # a smaller share of a map that is never read is not worth a word
_MAX_PX: Final = 32  # a larger change of the image's size is no remedy
_MAX_DILATION: Final = 8  # so far dilations are tried in search of one that closes all gaps


def unread(facts: Facts) -> Iterator[AdviceFound]:
    """Positions of a map that no later layer reads, at its far edge or between windows; or unread pixels of the image."""
    sizes = cache(lambda: _next_sizes(facts))
    found = [each for source in facts.readers for each in _unread_of(facts, source, sizes)]
    yield from found
    if not found and len(facts.input_shape) > 1 and facts.account.ends:
        needed = {end: everything(facts.shape_at(end)[1:]) for end in facts.account.ends}
        read = num_positions(areas_read(facts.flows, facts.input_shape, needed)[INPUT])
        total = math.prod(facts.input_size)
        if total - read >= MIN_SHARE * total:
            sentence = f"the output never reads {total - read:,} of the {total:,} px of the image ({write_share((total - read) / total)})."
            yield AdviceFound(Advice("border", "", sentence), lambda: _other_sizes(facts, sizes))


def gaps(facts: Facts) -> Iterator[AdviceFound]:
    """Pixels inside the receptive field that a position never reads, as under repeated windows of the same dilation
    (gridding)."""
    row = facts.last_map()
    if row is None or len(facts.input_shape) < 2 or not facts.is_exact(facts.places[row.path]):
        return
    last = facts.places[row.path]
    areas = areas_read(facts.flows[: last + 1], facts.input_shape, {last: middle(row.output_shape[1:])}, gates=False)
    projections = [projection(areas[INPUT], axis) for axis in range(len(facts.input_size))]
    inside = [facts.rows[place].path for place in sorted(areas) if place != INPUT and facts.flows[place].axis_ops]
    if not inside or not any(map(has_holes, projections)):
        return
    spans = [each.bit_length() - (each & -each).bit_length() + 1 for each in projections]
    read, box = num_positions(areas[INPUT]), math.prod(spans)
    sentence = (
        f"one position in the middle of the last map has a receptive field of {write_shape(spans)} px and reads {read:,} of these {box:,}: "
        f"its windows skip {write_share((box - read) / box)} (gridding)."
    )
    yield AdviceFound(Advice("gaps", inside[-1], sentence, paths=(inside[-1],)), lambda: _closed_gaps(facts))


# ---- positions never read ----


def _unread_of(facts: Facts, source: int, sizes: Callable[[], list[Facts]]) -> Iterator[AdviceFound]:
    """What is said of the map that comes out of one row, or in."""
    shape, readers = facts.shape_at(source), facts.readers[source]
    size = shape[1:]
    if not size:
        return
    area: Area = ()
    for place in readers:
        flow = facts.flows[place]
        area = smallest((*area, *read_through(flow, shape, everything(flow.output_shape[1:]))))
        if area == everything(size):
            return
    total, read = math.prod(size), num_positions(area)
    first, windows = facts.rows[readers[0]], facts.flows[readers[0]].windows
    worst = next((axis for axis in range(len(size)) if projection(area, axis).bit_count() < size[axis]), None)
    if total - read < MIN_SHARE * total or worst is None or not windows:
        return
    share = f"{total - read:,} of {total:,} positions ({write_share((total - read) / total)}) are never read"
    window = windows[worst]
    if not has_holes(projection(area, worst)):
        missing = size[worst] - projection(area, worst).bit_length()
        sentence = (
            f"{window.sum_text(size[worst])}, so no window reads the last {'position' if missing == 1 else f'{missing} positions'} of "
            f"{size[worst]} on {'each' if len(set(size)) == 1 and len(size) > 1 else 'the'} axis: {share}."
        )
        yield AdviceFound(
            Advice("border", first.path, sentence, paths=(first.path,)), lambda: _read_borders(facts, first.path, sizes), 4
        )
    elif window.stride > window.span:
        sentence = (
            f"a window of {window.kernel_size} with stride {window.stride} skips {window.stride - window.span} of every {window.stride} "
            f"positions: on a map of {write_shape(size)}, {share}."
        )
        advice = Advice("stride", first.path, sentence, paths=(first.path,))
        yield AdviceFound(advice, lambda: _closer_windows(facts, first.path, window), 2)
    else:
        sentence = (
            f"a window of {window.kernel_size} with dilation {window.dilation} and stride {window.stride} skips the positions in between: "
            f"on a map of {write_shape(size)}, {share}."
        )
        advice = Advice("gaps", first.path, sentence, paths=(first.path,))
        yield AdviceFound(advice, lambda: _closer_windows(facts, first.path, window), 2)


def _read_borders(facts: Facts, path: str, sizes: Callable[[], list[Facts]]) -> Iterator[Candidate]:
    """Ceil mode, more padding, and other sizes of the image."""
    node = facts.node(path)
    if node is None:
        return
    layer: Any = node.layer
    changes: list[tuple[str, object]] = [("ceil_mode", True)] if isinstance(layer, Pool) else []
    if isinstance(getattr(layer, "padding", None), int):
        changes.append(("padding", layer.padding + 1))
    for name, value in changes:
        for candidate in _whole(facts, path, with_arguments(layer, **{name: value})):
            size = write_shape(candidate.facts.shape_at(candidate.facts.places[path])[1:]) if candidate.facts else ""
            macs = write_count(candidate.facts.account.macs) if candidate.facts else ""
            yield Candidate(f"set {name}={value}: a map of {size}, {macs} multiply-adds", candidate.design, candidate.facts)
    yield from _other_sizes(facts, sizes)


def _other_sizes(facts: Facts, sizes: Callable[[], list[Facts]]) -> Iterator[Candidate]:
    """The next sizes of the image with which every map is read whole."""
    if facts.nodes and (others := sizes()):
        text = f"use images of {' or '.join(write_shape(other.input_size) for other in others)}"
        yield Candidate(text, without(facts.nodes, (), named=True), others[0])


def _whole(facts: Facts, path: str, layer: Layer | None) -> Iterator[Candidate]:
    """The design with another layer at ``path``, if nothing is left unread there then."""
    design = with_layer(facts.nodes, path, layer, named=True) if layer is not None else None
    tried = facts.tried(design, with_fields=False)
    if tried is not None and not any(path in each.advice.paths for each in unread(tried)):
        yield Candidate("", design, tried)


def _next_sizes(facts: Facts) -> list[Facts]:
    """The nearest larger and the nearest smaller image of which, and of whose maps, everything is read."""
    design = without(facts.nodes, (), named=True)
    return [found for step in (1, -1) if (found := _next_size(facts, design, step)) is not None]


def _next_size(facts: Facts, design: Design | None, step: int) -> Facts | None:
    for change in range(step, step * (_MAX_PX + 1), step):
        size = tuple(length + change for length in facts.input_size)
        if min(size) < 1:
            return None
        if all(_reads_all(facts, axis, length) for axis, length in enumerate(size)):
            tried = facts.tried(design, (facts.input_shape[0], *size), with_fields=False)
            if tried is not None and not any(True for _ in unread(tried)):
                return tried
    return None


def _reads_all(facts: Facts, axis: int, length: int) -> bool:
    """Whether all of an axis of this length, and of that axis of every map on the way, is read."""
    num_axes = len(facts.input_size)
    candidates = {source: len(readers) for source, readers in facts.readers.items()}  # readers that may still read all of it
    for flow, lengths in zip(facts.flows, row_lengths(facts.flows, axis, length, num_axes), strict=False):
        if lengths is None:
            return False
        before, after = lengths
        if not has_own_windows(flow, num_axes):
            candidates.update((source, 0) for source in flow.sources)
            continue
        source = flow.sources[0]
        if _is_all_read(flow.axis_ops[axis], before, after):
            candidates[source] = 0
        elif candidates[source]:
            candidates[source] -= 1
            if not candidates[source]:  # the last of its readers, and none reads it all
                return False
    return True


@lru_cache(maxsize=4096)
def _is_all_read(axis_op: AxisOp, input_size: int, output_size: int) -> bool:
    return bits_read(axis_op, input_size, (1 << output_size) - 1) == (1 << input_size) - 1


def _closer_windows(facts: Facts, path: str, window: Window) -> Iterator[Candidate]:
    """A kernel as large as the stride, no dilation, or a stride as small as the kernel, with the padding that leaves no border."""
    node = facts.node(path)
    if node is None:
        return
    layer: Any = node.layer
    tries: list[dict[str, int]] = [{"kernel_size": size} for size in (window.stride, window.stride + 1) if size > 1]
    if window.dilation > 1:
        tries = [{"dilation": 1}, *tries, *({**each, "dilation": 1} for each in tries[:1])]
    tries.append({"stride": window.kernel_size})
    found: list[Candidate | None] = [each for arguments in tries for each in _whole_with(facts, path, layer, arguments)]
    if not found:  # a border that is left over needs padding too
        pads = range(max(window.padding) + 1, max(window.stride, window.kernel_size) // 2 + 1)
        padded = [[arguments | {"padding": padding} for padding in pads] for arguments in tries]
        found = [next((each for more in tried for each in _whole_with(facts, path, layer, more)), None) for tried in padded]
    yield from (each for each in found if each is not None)


def _whole_with(facts: Facts, path: str, layer: Layer, arguments: dict[str, int]) -> Iterator[Candidate]:
    """The layer with other arguments, if nothing is left unread there then."""
    for each in _whole(facts, path, with_arguments(layer, **arguments)):
        text = ", ".join(f"{name}={value}" for name, value in arguments.items())
        yield Candidate(f"set {text}: {costs(each.facts.account)}" if each.facts else f"set {text}", each.design, each.facts)


# ---- gaps in the field of one position ----


def _closed_gaps(facts: Facts) -> Iterator[Candidate]:
    """The dilation that closes all gaps and keeps the largest field, one more layer that does, no dilation at all."""
    if not facts.nodes:
        return
    found: list[tuple[int, Candidate]] = []
    num_axes, body = len(facts.input_size), trunk(facts.nodes)
    dilated: dict[str, Any] = {}
    for node in (each for outer in body for each in outer.walk() if isinstance(each.layer, Windowed)):
        layer: Any = node.layer
        largest = max((window.dilation for window in layer.windows(num_axes)), default=1)
        if largest > 1:
            dilated[node.path] = layer
        for dilation in range(1, min(largest, _MAX_DILATION + 1)):
            design = with_layer(facts.nodes, node.path, _redilated(layer, num_axes, dilation), named=True)
            if (closed := _closed(facts, design)) is not None:
                text = f"set dilation={dilation} in {node.path}: a receptive field of {_field_px(closed)} px"
                found.append((_field_px(closed), Candidate(text, design, closed)))
    if found:
        yield max(found, key=lambda each: each[0])[1]
    if body:
        channels = body[-1].output_shape[0]
        design = appended(facts.nodes, [conv(channels, 3, padding=1)], named=True)
        if (closed := _closed(facts, design)) is not None:
            text = f"add conv({channels}, 3, padding=1) after the last map: a receptive field of {_field_px(closed)} px, {costs(closed.account)}"
            yield Candidate(text, design, closed)
    if not found and len(dilated) > 1:
        design = changed(
            facts.nodes,
            lambda node: [_redilated(dilated[node.path], num_axes, 1)] if node.path in dilated else None,
            named=True,
        )
        if (closed := _closed(facts, design)) is not None:
            yield Candidate(
                f"set dilation=1 in all {len(dilated)} dilated layers: a receptive field of {_field_px(closed)} px",
                design,
                closed,
            )


def _redilated(layer: Any, num_axes: int, dilation: int) -> Layer:
    """The layer with another dilation, and the padding that keeps the size of its map if there is one."""
    kept = with_window(layer, num_axes, dilation=dilation) or with_arguments(layer, dilation=dilation)
    return kept if kept is not None else layer


def _closed(facts: Facts, design: Design | None) -> Facts | None:
    """The facts of a changed design without gaps; None if it has some, or is impossible."""
    tried = facts.tried(design)
    if tried is None or tried.account.output != facts.account.output or any(True for _ in gaps(tried)):
        return None
    return tried if tried.last_map() is not None else None


def _field_px(facts: Facts) -> int:
    row = facts.last_map()
    return min(field.size for field in row.fields) if row is not None else 0
