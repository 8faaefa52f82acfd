"""Ways to reach a receptive field, each a design with its costs, and the reason why others fail."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from visus.design.account import Account
from visus.design.account_walk import account, account_of_nodes
from visus.design.arguments import Shape, classes
from visus.design.dependence import has_holes, middle, projection, read_by
from visus.design.edits import appended, changed, flat, leaves, trunk, with_layers
from visus.design.facts import Facts
from visus.design.graph import Node
from visus.design.items import Item
from visus.design.layers.registry import Convolution, Layer, conv, globalpool, linear, maxpool, norm, relu
from visus.design.plan import Design
from visus.design.rewrite import with_arguments, with_window
from visus.design.table import without_bias
from visus.errors import DesignError
from visus.tables import Described, Table, Text
from visus.units import write_bytes, write_count, write_number_of, write_shape

_MAX: Final = {"more layers": 200, "larger kernels": 64, "stride": 12, "pooling": 12, "dilation": 12}
_NO_FURTHER: Final = {
    "stride": "no other convolution with a window larger than 1 has a stride of 1",
    "pooling": "no other position is left for a pool",
}
"""Why a way ends that cannot be gone on with."""


@dataclass(frozen=True)
class Way:
    """A design with the requested receptive field, and its cost.

    Args:
        kind: ``as it is``, ``more layers``, ``larger kernels``, ``stride``, ``pooling`` or ``dilation``.
        change: description of the change.
        design: the changed design.
        account: its account.
        has_gaps: whether a position of the last map skips pixels inside its field.
    """

    kind: str
    change: str
    design: Design
    account: Account
    has_gaps: bool

    @property
    def field_px(self) -> tuple[int, ...]:
        """Size of the receptive field of the last map on each axis."""
        row = Facts(self.account).last_map()
        return tuple(field.size for field in row.fields) if row else ()

    @property
    def final_map(self) -> Shape:
        """Shape of the last map."""
        row = Facts(self.account).last_map()
        return row.output_shape if row else ()

    @property
    def activation_bytes(self) -> int:
        """Bytes of the outputs of all layers for one sample, as float32."""
        return activation_bytes(self.account)

    def to_json(self) -> dict[str, Any]:
        """The change as plain data."""
        return {
            "kind": self.kind,
            "change": self.change,
            "design": self.design.text,
            "field": list(self.field_px),
            "num_parameters": self.account.num_parameters,
            "macs": self.account.macs,
            "activation_bytes": self.activation_bytes,
            "final_map": list(self.final_map),
            "has_gaps": self.has_gaps,
        }


@dataclass(frozen=True)
class NoWay:
    """A kind of change that cannot reach the field, with the field that it reaches and the reason."""

    kind: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The kind and the reason as plain data."""
        return {"kind": self.kind, "reason": self.reason}


@dataclass(frozen=True, repr=False)
class Ways(Described):
    """Every kind of change: those that reach the wanted receptive field and those that do not. It is false if none does.

    Args:
        field_px: the wanted receptive field of the last map on every axis, in px.
        now: the design as it is.
        found: one for each kind that reaches the field.
        missing: the other kinds.

    >>> ways_to_see(2000, (3, 64, 64), 10).missing[0].kind
    'more layers'
    """

    field_px: int
    now: Way
    found: tuple[Way, ...]
    missing: tuple[NoWay, ...]

    def __bool__(self) -> bool:
        return bool(self.found)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = f"Ways to a receptive field of {self.field_px:,} px, from {write_shape(self.now.field_px)}"
        rows = [(each.kind, each.change) for each in self.found]
        if self.missing:
            rows.append(("no way", f"{', '.join(each.kind for each in self.missing)}; the reasons are in .missing"))
        return title, rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("ways and their costs", self._way_table()),)

    def _way_table(self) -> Table:
        rows = []
        for way in (self.now, *self.found):
            sees = write_shape(way.field_px) + (" with gaps" if way.has_gaps else "")
            costs = (f"{way.account.num_parameters:,}", write_count(way.account.macs), write_bytes(way.activation_bytes))
            rows.append((way.kind, way.change, sees, *costs, write_shape(way.final_map)))
        headings = ("way", "change", "field", "parameters", "multiply-adds", "activations", "last map")
        return Table(tuple(rows), headings, (3, 4, 5))

    def text(self) -> Text:
        """A row for each way with its cost and for the design as it is, the reason why other ways fail, and the design before and after.

        >>> ways_to_see(30, (3, 64, 64), 10).text()[1]
        'wanted: 30 px on every axis; activations: outputs of all layers for one sample, 4 bytes per value'
        """
        lines: list[str | Table] = [self._way_table()]
        lines.append(
            f"wanted: {self.field_px} px on every axis; activations: outputs of all layers for one sample, 4 bytes per value"
        )
        for way in self.found:
            ratio = way.activation_bytes / self.now.activation_bytes
            if way.kind in ("stride", "pooling") and ratio < 1:
                lines.append(
                    f"{way.kind}: {way.field_px[0]} px instead of {self.now.field_px[0]} in {ratio:.2g} times the memory of the design as it is"
                )
        lines += [f"{each.kind}: no way: {each.reason}." for each in self.missing]
        if not self.found:
            return Text(lines)
        design = " ".join(self.now.design.text.split())
        short = write_number_of(len(self.now.account.rows), "row") + ", which the summary lists"
        lines.append(f"before: {design if len(design) <= _MAX_TEXT else short}")
        return Text((*lines, *(f"after, {way.kind}: {_changes(self.now, way)}" for way in self.found)))

    def to_json(self) -> dict[str, Any]:
        """All of them as plain data.

        >>> list(ways_to_see(30, (3, 64, 64), 10).to_json())
        ['field', 'now', 'ways', 'no_way']
        """
        return {
            "field": self.field_px,
            "now": self.now.to_json(),
            "ways": [way.to_json() for way in self.found],
            "no_way": [each.to_json() for each in self.missing],
        }


_MAX_TEXT: Final = 400  # characters of a design that is printed
_MAX_CHANGES: Final = 3  # layers that are printed as they were and as they are


def _changes(before: Way, after: Way) -> str:
    """The layers that a way changes or adds, each as it was and as it is; of many the first."""
    rows = before.account.rows
    ours, others = ([without_bias(row.layer) for row in way.account.rows] for way in (before, after))
    texts = []
    for tag, begin, end, first, last in SequenceMatcher(None, ours, others, autojunk=False).get_opcodes():
        if tag == "replace" and end - begin == last - first:
            pairs = zip(rows[begin:end], ours[begin:end], others[first:last], strict=True)
            texts += [f"{row.path} was {old}, is {new}" for row, old, new in pairs]
        elif tag in ("replace", "insert"):
            place = f"after {rows[begin - 1].path}" if begin else "first"
            texts.append(
                f"{', '.join(others[first:last][:_MAX_CHANGES])}{', ...' if last - first > _MAX_CHANGES else ''} is new, {place}"
            )
    more = len(texts) - _MAX_CHANGES
    return "; ".join(texts[:_MAX_CHANGES]) + (f"; and {write_number_of(more, 'more change')}" if more > 0 else "")


def activation_bytes(costs: Account) -> int:
    """Bytes of the outputs of all layers for one sample, as float32; flatten adds none."""
    return sum(row.bytes_output for row in costs.rows if row.layer != "flatten")


def plain_stack() -> Design:
    """Six 3 x 3 convolutions with 32, 64 and 128 channels at stride 1: the default design to start from.

    >>> plain_stack().text.count("conv(")
    6
    """
    layers = [part for width in (32, 32, 64, 64, 128, 128) for part in (conv(width, 3, padding=1), norm, relu)]
    return Design([*layers, globalpool, linear(classes)])


def ways_to_see(field_px: int, input_shape: Shape, num_classes: int | None, design: Design | None = None) -> Ways:
    """Changes of a design whose last map then has a receptive field of ``field_px`` on every axis; for the others, the
    reason.

    - more layers: 3 x 3 convolutions with norm and relu after the last map, as many as are needed;
    - larger kernels: every convolution with a window larger than 1, enlarged by the same even number;
    - stride: 2 in as few of the first of these as are needed;
    - pooling: 2 x 2 before as few of the first of them as are needed;
    - dilation: 2, 4, 8, ... in as few of the last ones as are needed; where that is not enough in all of them, more in the last one,
      as long as its window fits the map that it reads.

    Raises:
        DesignError: the design is impossible, has no convolution with a window larger than 1, or already has this receptive
            field.

    >>> ways = ways_to_see(30, (3, 64, 64), 10)
    >>> for way in (ways.now, *ways.found):
    ...     print(way.kind, way.field_px, way.final_map)
    as it is (13, 13) (128, 64, 64)
    more layers (31, 31) (128, 64, 64)
    larger kernels (37, 37) (128, 64, 64)
    stride (39, 39) (128, 16, 16)
    pooling (42, 42) (128, 16, 16)
    dilation (35, 35) (128, 64, 64)
    >>> ways_to_see(2000, (3, 64, 64), 10).missing[0].reason
    'at least 994 more convolutions are needed, and 200 are tried at most'
    """
    design = design or plain_stack()
    nodes = design.place(input_shape, num_classes)
    facts = Facts(account(design, input_shape, num_classes), nodes)
    now = _way("as it is", "", design, nodes, facts.account)
    if now is None or not _neighbor_convs(nodes):
        raise DesignError(
            "there is no convolution with a window larger than 1, so the receptive field cannot grow. Give a design with one."
        )
    if min(now.field_px) >= field_px:
        seen = " x ".join(map(str, now.field_px))
        raise DesignError(
            f"the last map of this design sees {seen} px already, and {field_px} px were requested. Request more."
        )
    answers = [_search(facts, kind, field_px) for kind in _MAKERS]
    found = tuple(each for each in answers if isinstance(each, Way))
    return Ways(field_px, now, found, tuple(each for each in answers if isinstance(each, NoWay)))


# ---- the ways ----

_Made = tuple[str, Design | None]


def _search(facts: Facts, kind: str, field_px: int) -> Way | NoWay:
    """The least change of a kind that leads to the field, or why none does."""
    make, most = _MAKERS[kind], _MAX[kind]
    least = _least_layers(facts, field_px) if kind == "more layers" else 1
    if least > most:
        return NoWay(kind, f"at least {least:,} more convolutions are needed, and {most} are tried at most")
    shape, so_far, end = facts.account.input_shape, "", "nothing beyond is tried"
    for count in range(least, most + 1):
        made = make(facts.nodes, count)
        if made is None:
            if kind == "dilation" and count > 1:
                return _dilated_further(facts, count - 1, field_px, so_far)
            end = _NO_FURTHER.get(kind, "")
            break
        change, design = made
        if design is None:
            end = "not every layer that it needs can be changed this way"
            break
        try:
            nodes = design.place(shape)
        except DesignError as error:
            end = f"{change} is impossible: {str(error).rstrip('.')}"
            break
        way = _way(kind, change, design, nodes, account_of_nodes(nodes, shape))
        if way is None:
            end = f"{change} leaves no map"
            break
        if min(way.field_px) >= field_px:
            return way
        so_far = f"with {change} it is {' x '.join(map(str, way.field_px))} px, and "
    return NoWay(kind, so_far + end)


def _way(kind: str, change: str, design: Design, nodes: Many[Node], costs: Account) -> Way | None:
    """A way with its costs; None if no map has fields that differ from position to position."""
    if Facts(costs).last_map() is None:
        return None
    body = trunk(nodes)
    area = read_by(body, middle(body[-1].output_shape[1:]), gates=False) if body else ()
    holes = bool(area) and any(has_holes(projection(area, axis)) for axis in range(len(costs.input_shape) - 1))
    return Way(kind, change, design, costs, holes)


def _neighbor_convs(nodes: Many[Node]) -> list[Node]:
    """The convolutions before the last map whose windows are larger than 1."""
    found = []
    for node in leaves(trunk(nodes)):
        if isinstance(node.layer, Convolution) and node.route is not None:
            spans = [window.span for window in node.layer.windows(len(node.input_shape) - 1)]
            found += [node] if max(spans) > 1 else []
    return found


def _least_layers(facts: Facts, field_px: int) -> int:
    """How many 3 x 3 convolutions are needed at the step of the last map at least."""
    row = facts.last_map()
    fields = row.fields if row else ()
    return max((-(-(field_px - field.size) // (2 * max(1, int(field.stride)))) for field in fields), default=1) or 1


def _more_layers(nodes: Many[Node], count: int) -> _Made:
    channels = trunk(nodes)[-1].output_shape[0]
    layers: list[Item] = [part for _ in range(count) for part in (conv(channels, 3, padding=1), norm(), relu())]
    return f"{count} * [conv({channels}, 3, padding=1), norm, relu] after the last map", appended(nodes, layers)


def _larger_kernels(nodes: Many[Node], count: int) -> _Made:
    def enlarged(node: Node) -> Layer | None:
        layer: Any = node.layer
        num_axes = len(node.input_shape) - 1
        return (
            with_window(layer, num_axes, kernel_size=layer.kernel_size + 2 * count)
            if isinstance(layer.kernel_size, int)
            else None
        )

    made = {node.path: enlarged(node) for node in _neighbor_convs(nodes)}
    sizes = sorted({getattr(layer, "kernel_size", 0) for layer in made.values() if layer})
    return f"kernels of {', '.join(map(str, sizes))}", _replaced(nodes, made)


def _strides(nodes: Many[Node], count: int) -> _Made | None:
    still: list[Any] = [node for node in _neighbor_convs(nodes) if getattr(node.layer, "stride", 2) == 1]
    if count > len(still):
        return None
    made: dict[str, Layer | None] = {}
    for node in still[:count]:
        layer = node.layer
        pad = [window.padding[0] for window in layer.windows(len(node.input_shape) - 1)]
        plain = layer.padding if layer.padding != "same" else pad[0] if len(set(pad)) == 1 else tuple(pad)
        made[node.path] = with_arguments(layer, stride=2, padding=plain)
    return f"stride=2 in {_named(list(made))}", _replaced(nodes, made)


def _pools(nodes: Many[Node], count: int) -> _Made | None:
    body = flat(trunk(nodes))
    starts = [node.path for node in body[1:] if not isinstance(node.layer, Layer) or node in _neighbor_convs(nodes)]
    if count > len(starts):
        return None
    chosen = set(starts[:count])

    def pooled(node: Node) -> list[Item] | None:
        if node.path not in chosen:
            return None
        kept = changed([node], lambda each: None)
        return [maxpool(2), *kept.layers] if kept else None

    return f"maxpool(2) before {_named(starts[:count])}", changed(nodes, pooled)


def _dilated_further(facts: Facts, count: int, field_px: int, so_far: str) -> Way | NoWay:
    """More dilation in the last of ``count`` convolutions than twice that of the one before: the field grows evenly with it."""
    node, shape = _neighbor_convs(facts.nodes)[-1], facts.account.input_shape
    placed = []
    for factor in (2**count, 2**count + 1):
        made = _dilations(facts.nodes, count, factor)
        tried = facts.tried(made[1]) if made else None
        row = Facts(tried.account).last_map() if tried else None
        placed.append([field.size for field in row.fields] if row else [])
    growth = [(each, after - each) for each, after in zip(*placed, strict=False)]
    if not growth or min(more for _, more in growth) < 1:
        return NoWay("dilation", f"{so_far}more of it is not possible in {node.path}")
    factor = 2**count + max(-((each - field_px) // more) for each, more in growth)
    layer: Any = node.layer
    span = max(window.span - 1 for window in layer.windows(len(shape) - 1)) * factor + 1
    made = _dilations(facts.nodes, count, factor)
    change, design = made or ("", None)
    if span > min(node.input_shape[1:]):
        size = write_shape(node.input_shape[1:])
        return NoWay("dilation", f"{so_far}{change} spans {span:,} px in {node.path}, where the map is {size}")
    nodes = design.place(shape) if design is not None else ()
    way = _way("dilation", change, design, nodes, account_of_nodes(nodes, shape)) if design is not None else None
    return way or NoWay("dilation", f"{so_far}more of it is not possible in {node.path}")


def _dilations(nodes: Many[Node], count: int, last: int | None = None) -> _Made | None:
    convs = _neighbor_convs(nodes)
    if count > len(convs):
        return None
    factors = [2**power for power in range(1, count + 1)]
    factors[-1] = last or factors[-1]
    made: dict[str, Layer | None] = {}
    for node, factor in zip(convs[-count:], factors, strict=True):
        layer: Any = node.layer
        num_axes = len(node.input_shape) - 1
        made[node.path] = (
            with_window(layer, num_axes, dilation=factor * layer.dilation) if isinstance(layer.dilation, int) else None
        )
    return f"dilation={', '.join(map(str, factors))} in {_named(list(made))}", _replaced(nodes, made)


_MAKERS: Final[dict[str, Callable[[Many[Node], int], _Made | None]]] = {
    "more layers": _more_layers,
    "larger kernels": _larger_kernels,
    "stride": _strides,
    "pooling": _pools,
    "dilation": _dilations,
}


def _replaced(nodes: Many[Node], made: dict[str, Layer | None]) -> Design | None:
    """The design with these layers in their places; None if one of them cannot be made."""
    layers = {path: layer for path, layer in made.items() if layer is not None}
    return with_layers(nodes, layers) if layers and len(layers) == len(made) else None


def _named(paths: Many[str]) -> str:
    """The paths, or the first and the last of many."""
    return ", ".join(paths) if len(paths) <= 3 else f"{paths[0]} to {paths[-1]}"
