"""Order, branches and joins: shapes propagated through a design, and a path for every layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from visus.design.arguments import Shape
from visus.design.items import Concat, Item, Repeat, Residual, Sequence
from visus.design.layers.registry import Conv, DoesNotFitError, Layer, Linear, Norm
from visus.design.sizes import projection_strides
from visus.errors import DesignError
from visus.units import write_shape

Route = tuple[int, ...]
"""Where an item stands in the design as it is written: the index among its parent's children, from the outermost in."""


@dataclass(frozen=True)
class Node:
    """An item placed in a network: its path, its shapes and its inner nodes.

    Args:
        path: the names from the outermost to the innermost, joined by dots, such as ``stage2.block1.conv1``.
        layer: the item, with the number of classes and the bias of convolutions filled in.
        input_shape, output_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        branches: the nodes inside. A sequence has one branch; a residual has its body and, where shapes differ, one more with
            the projection; a concat has one for each branch, each holding one sequence; a layer has none.
        route: position of the item in the design text; None for a projection, which is implicit.

    >>> from visus.design import parse
    >>> node = parse("conv(8, 3), relu").place((3, 32, 32))[0]
    >>> node.path, node.input_shape, node.output_shape
    ('conv1', (3, 32, 32), (8, 30, 30))
    """

    path: str
    layer: Item
    input_shape: Shape
    output_shape: Shape
    branches: tuple[tuple[Node, ...], ...] = ()
    route: Route | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def num_parameters(self) -> int:
        """Number of trained values, those of the nodes inside included."""
        if isinstance(self.layer, Layer):
            return self.layer.num_parameters(self.input_shape)
        return sum(node.num_parameters for branch in self.branches for node in branch)

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample, those of the nodes inside included."""
        if isinstance(self.layer, Layer):
            return self.layer.macs(self.input_shape)
        return sum(node.macs for branch in self.branches for node in branch)

    def walk(self) -> Iterator[Node]:
        """The node and all nodes inside it, parents first, in order."""
        yield self
        for branch in self.branches:
            for node in branch:
                yield from node.walk()


class Impossible(Exception):  # noqa: N818  # not a mistake of the user yet: remedies.py makes the sentence
    """An item that cannot take the shape that reaches it.

    Args:
        sentence: the message with its numbers.
        path, route, item: which item.
        kind: "window" where a window does not fit its map, "join" where shapes do not meet, else "".
        before: the layers that were placed so far, in order.

    ``nodes`` holds the same layers inside the finished groups; unjoined branches are in one node.
    """

    def __init__(self, sentence: str, *, path: str, route: Route | None, item: Item, kind: str, before: Many[Node]) -> None:
        super().__init__(sentence)
        self.sentence, self.path, self.route, self.item, self.kind = sentence, path, route, item, kind
        self.before = tuple(before)
        self.nodes: tuple[Node, ...] = ()


def propagate(items: Many[Item], input_shape: Shape, num_classes: int | None) -> tuple[Node, ...]:
    """The nodes of a design, each with its shapes.

    Raises:
        Impossible: an item cannot take the shape that reaches it; it describes the first such item.
    """
    return _Propagation(num_classes).sequence(items, input_shape, path="", route=(), norm_follows=False)


class _Propagation:
    """One walk through a design from its input to its output."""

    def __init__(self, num_classes: int | None) -> None:
        self.num_classes = num_classes
        self.placed: list[Node] = []

    def sequence(self, items: Many[Item], shape: Shape, *, path: str, route: Route, norm_follows: bool) -> tuple[Node, ...]:
        """The nodes of a sequence of items. ``norm_follows``: whether a batch norm comes right after the last."""
        entries = _written_out(items, route)
        nodes: list[Node] = []
        for index, (item, name, own_route) in enumerate(entries):
            follower = _cancels_bias(entries[index + 1][0]) if index + 1 < len(entries) else norm_follows
            own_path = f"{path}.{name}" if path else name
            try:
                nodes.append(self.item(item, shape, path=own_path, route=own_route, norm_follows=follower))
            except Impossible as failure:
                failure.nodes = (*nodes, *failure.nodes)
                raise
            shape = nodes[-1].output_shape
        return tuple(nodes)

    def item(self, item: Item, shape: Shape, *, path: str, route: Route, norm_follows: bool) -> Node:
        if isinstance(item, Layer):
            return self.leaf(item, shape, path=path, route=route, norm_follows=norm_follows)
        if isinstance(item, Residual):
            return self.residual(item, shape, path=path, route=route)
        if isinstance(item, Concat):
            return self.concat(item, shape, path=path, route=route)
        inner = self.sequence(item.children, shape, path=path, route=route, norm_follows=norm_follows)
        return Node(path, item, shape, inner[-1].output_shape if inner else shape, (inner,), route)

    def leaf(self, layer: Layer, shape: Shape, *, path: str, route: Route | None, norm_follows: bool) -> Node:
        layer = layer.resolved(self.num_classes, norm_follows=norm_follows)
        try:
            output_shape = layer.output_shape(shape)
        except DesignError as error:
            kind = "window" if isinstance(error, DoesNotFitError) else ""
            raise self.impossible(error.message, path, route, layer, kind) from None
        node = Node(path, layer, shape, output_shape, (), route)
        self.placed.append(node)
        return node

    def residual(self, item: Residual, shape: Shape, *, path: str, route: Route) -> Node:
        body = self.sequence(item.layers, shape, path=path, route=route, norm_follows=False)
        output_shape = body[-1].output_shape
        if output_shape == shape:
            return Node(path, item, shape, shape, (body,), route)
        try:
            projection = self.projection_of(item, shape, body, path=path, route=route)
        except Impossible as failure:
            failure.nodes = body
            raise
        return Node(path, item, shape, output_shape, (body, (projection,)), route)

    def projection_of(self, item: Residual, shape: Shape, body: Many[Node], *, path: str, route: Route) -> Node:
        """The projection of a residual whose body changes the shape."""
        if any(node.name == "projection" for node in body):
            sentence = "the name projection is kept for the layers that fit the input to the sum. Choose another name."
            raise self.impossible(sentence, path, route, item, "")
        return self.projection(item, shape, body[-1].output_shape, path=path, route=route)

    def projection(self, item: Residual, shape: Shape, output_shape: Shape, *, path: str, route: Route) -> Node:
        """The layers that bring the input of a residual to the shape of its body's output."""
        if len(shape) != len(output_shape):
            sentence = (
                f"the layers turn {_shape_text(shape)} into {_shape_text(output_shape)}, which cannot be added to the input."
                " Keep flatten and globalpool out of the residual."
            )
            raise self.impossible(sentence, path, route, item, "")
        if len(shape) == 1:
            layer: Layer = Linear(output_shape[0], bias=False)
        else:
            strides = self.strides(item, shape, output_shape, path=path, route=route)
            layer = Conv(output_shape[0], 1, stride=strides[0] if len(set(strides)) == 1 else strides, bias=False)
            reached = layer.output_shape(shape)
            if reached != output_shape:
                step = write_shape(strides) if len(set(strides)) > 1 else str(strides[0])
                sentence = (
                    f"the layers turn a map of {write_shape(shape[1:])} into {write_shape(output_shape[1:])}, which cannot be added "
                    f"to the input: a projection of stride {step} makes it {write_shape(reached[1:])}."
                )
                raise self.impossible(sentence, path, route, item, "join")
        body = Sequence((layer, Norm()))
        own_path = f"{path}.projection"
        first = self.leaf(layer, shape, path=f"{own_path}.{layer.prefix}1", route=None, norm_follows=True)
        second = self.leaf(Norm(), output_shape, path=f"{own_path}.norm1", route=None, norm_follows=False)
        return Node(own_path, body, shape, output_shape, ((first, second),), None)

    def strides(self, item: Residual, shape: Shape, output_shape: Shape, *, path: str, route: Route) -> tuple[int, ...]:
        """The strides of the projection; none if the body enlarges the map."""
        strides = projection_strides(item, shape[1:], output_shape[1:])
        if any(stride.denominator != 1 for stride in strides):
            sentence = (
                f"the layers turn a map of {write_shape(shape[1:])} into {write_shape(output_shape[1:])}, which cannot be added "
                "to the input: a projection does not enlarge. Keep what enlarges the map out of the residual."
            )
            raise self.impossible(sentence, path, route, item, "join")
        return tuple(int(stride) for stride in strides)

    def concat(self, item: Concat, shape: Shape, *, path: str, route: Route) -> Node:
        names = _names(item.branches, "branch")
        branches: list[Node] = []
        try:
            for index, (branch, name) in enumerate(zip(item.branches, names, strict=True)):
                branches.append(self.item(branch, shape, path=f"{path}.{name}", route=(*route, index), norm_follows=False))
            return self.stack(item, names, branches, path=path, route=route)
        except Impossible as failure:
            side_by_side = (*((branch,) for branch in branches), failure.nodes)
            failure.nodes = (Node(path, Sequence(()), shape, shape, side_by_side, route),)
            raise

    def stack(self, item: Concat, names: Many[str], branches: Many[Node], *, path: str, route: Route) -> Node:
        """The node of a concat, whose outputs are concatenated along the channels."""
        shape = branches[0].input_shape
        shapes = [branch.output_shape for branch in branches]
        for name, other in zip(names[1:], shapes[1:], strict=True):
            if other[1:] != shapes[0][1:]:
                sentence = (
                    f"{names[0]} ends in {_shape_text(shapes[0])} and {name} in {_shape_text(other)}. "
                    "To be stacked, they must agree in all but the channels."
                )
                raise self.impossible(sentence, path, route, item, "join")
        output_shape = (sum(other[0] for other in shapes), *shapes[0][1:])
        return Node(path, item, shape, output_shape, tuple((branch,) for branch in branches), route)

    def impossible(self, sentence: str, path: str, route: Route | None, item: Item, kind: str) -> Impossible:
        return Impossible(sentence, path=path, route=route, item=item, kind=kind, before=self.placed)


def _written_out(items: Many[Item], route: Route) -> list[tuple[Item, str, Route]]:
    """Items with repeats written out: each with its name among its neighbors and where it stands as written."""
    flat: list[tuple[Item, Route, bool]] = []

    def add(item: Item, own_route: Route, repeated: bool) -> None:
        if isinstance(item, Repeat):
            for _ in range(item.times):
                add(item.body, (*own_route, 0), True)
        else:
            flat.append((item, own_route, repeated))

    for index, item in enumerate(items):
        add(item, (*route, index), False)
    names = _names([item for item, _, _ in flat], repeated=[again for _, _, again in flat])
    return [(item, name, own_route) for (item, own_route, _), name in zip(flat, names, strict=True)]


def _names(items: Many[Item], prefix: str = "", repeated: Many[bool] = ()) -> list[str]:
    """A name for each of the items: its own, or its prefix and a number counted from 1 among its neighbors."""
    numbered = list(repeated) or [False] * len(items)
    fixed = [item.name for item, number in zip(items, numbered, strict=True) if item.name is not None and not number]
    counts: Counter[str] = Counter()
    names = []
    for item, number in zip(items, numbered, strict=True):
        if item.name is not None and not number:
            names.append(item.name)
            continue
        stem = item.name or prefix or item.prefix
        counts[stem] += 1
        while f"{stem}{counts[stem]}" in fixed:
            counts[stem] += 1
        names.append(f"{stem}{counts[stem]}")
    return names


def _cancels_bias(item: Item) -> bool:
    """Whether the first layer of the item is a batch norm, which makes a bias right before it useless."""
    if isinstance(item, (Sequence, Repeat)):
        return bool(item.children) and _cancels_bias(item.children[0])
    return isinstance(item, Layer) and item.cancels_bias


def _shape_text(shape: Shape) -> str:
    return f"{shape[0]} features" if len(shape) == 1 else f"a map of {write_shape(shape)}"
