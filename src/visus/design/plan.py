"""A whole design as one frozen value, with its text and its placed nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from visus.design.arguments import Shape
from visus.design.graph import Impossible, Node, propagate
from visus.design.items import Item, ItemLike, Sequence, as_item, check_children, write_items
from visus.design.remedies import explain, smallest_shape
from visus.errors import DesignError, join_messages
from visus.tables import listed, write_rows
from visus.units import write_number_of

MAX_LAYERS: Final = 10_000
MAX_INPUT: Final = 10_000_000
MAX_ITEM: Final = 30  # characters of an item in the short form of a design
MAX_REPR: Final = 400  # characters of a design that its repr has as Python code; of a longer one it has the first items


@dataclass(frozen=True, init=False, repr=False)
class Design:
    """A network as plain data. Input channels and flattened sizes are inferred, not written.

    Args:
        layers: layers and groups, classes of layers that need no arguments (``relu``), lists for sequences. A single list stands
            for its layers.

    Raises:
        DesignError: there is no layer, an item is not a layer, or there are more than 10,000 layers once repeats are written
            out.

    >>> from visus.design import classes, conv, globalpool, linear, maxpool, norm, relu
    >>> design = Design([conv(32, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)])
    >>> design.text
    'conv(32, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)'
    >>> [node.path for node in design.place((3, 32, 32), num_classes=10)][-1]
    'linear1'
    """

    layers: tuple[Item, ...]

    def __init__(self, layers: Iterable[ItemLike]) -> None:
        items = tuple(as_item(layer) for layer in layers)
        while len(items) == 1 and isinstance(items[0], Sequence) and items[0].name is None:
            items = items[0].layers
        if not items:
            raise DesignError("the design has no layers. Write at least one, as in flatten, linear(classes).")
        if mistakes := check_children(items):
            raise DesignError(join_messages(mistakes))
        num_layers = sum(item.num_layers for item in items)
        if num_layers > MAX_LAYERS:
            shown = f"{num_layers:,}" if num_layers < 10**15 else "more than a quadrillion"
            raise DesignError(
                f"the design has {shown} layers once repeats are written out; at most {MAX_LAYERS:,} are allowed."
            )
        object.__setattr__(self, "layers", items)

    @property
    def text(self) -> str:
        """The text of the design, which ``parse`` reads back. Long designs have one item per line.

        >>> from visus.design import parse
        >>> parse("conv( 8,3 ),relu").text
        'conv(8, 3), relu'
        """
        return write_items(self.layers)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        whole = f"Design([{', '.join(' '.join(item.text.split()) for item in self.layers)}])"
        if len(whole) <= MAX_REPR:
            return whole
        layers = write_number_of(sum(item.num_layers for item in self.layers), "layer")
        items = listed([_short_item(item) for item in self.layers])
        return write_rows(f"Design of {layers}", [("items", items), ("next", "design.text has all of it")])

    def place(self, input_shape: Shape, num_classes: int | None = None) -> tuple[Node, ...]:
        """The nodes of the design for one input, with paths and shapes.

        Args:
            input_shape: ``(channels, *spatial)`` with one to three axes, or ``(features,)``; no batch axis.
            num_classes: the value of ``classes``.

        Raises:
            DesignError: a layer cannot take the shape that reaches it. The error names the layer, shows the calculation and
                the smallest accepted input, and lists remedies that work.

        >>> from visus.design import parse
        >>> [node.output_shape for node in parse("conv(8, 3), relu").place((3, 32, 32))]
        [(8, 30, 30), (8, 30, 30)]
        """
        shape = check_input_shape(input_shape)
        if num_classes is not None and num_classes < 1:
            raise DesignError(f"the number of classes must be at least 1, not {num_classes}.")
        try:
            return propagate(self.layers, shape, num_classes)
        except Impossible as failure:
            raise explain(self.layers, shape, num_classes, failure) from None

    def output_shape(self, input_shape: Shape, num_classes: int | None = None) -> Shape:
        """Shape of the output for one input.

        Raises:
            DesignError: as for ``place``.

        >>> from visus.design import parse
        >>> parse("conv(8, 3), relu").output_shape((3, 32, 32))
        (8, 30, 30)
        """
        return self.place(input_shape, num_classes)[-1].output_shape

    def smallest_input(self, input_shape: Shape, num_classes: int | None = None) -> Shape | None:
        """The smallest shape with these channels and this number of axes that the design accepts; None if there is none.

        >>> from visus.design import parse
        >>> parse("conv(8, 5), maxpool(2), conv(8, 5)").smallest_input((1, 28, 28))
        (1, 14, 14)
        """
        shape = check_input_shape(input_shape)
        return smallest_shape(self.layers, shape, num_classes) if len(shape) > 1 else shape


def check_input_shape(input_shape: Iterable[int]) -> Shape:
    """The shape as a tuple of plain whole numbers.

    Raises:
        DesignError: it is not the shape of one sample.
    """
    shape = tuple(input_shape)
    if not 1 <= len(shape) <= 4 or any(not isinstance(length, int) or length < 1 for length in shape):
        raise DesignError(
            "an input shape is (channels, *spatial) with one to three axes, or (features,), with positive integers and no batch "
            f"axis, not {shape}."
        )
    check_lengths(shape)
    return shape


def check_lengths(input_shape: Shape) -> None:
    """Reject axes that are too long to compute exact receptive fields in a short time.

    Raises:
        DesignError: an axis is longer than ``MAX_INPUT``.
    """
    longest = max((length for length in input_shape[1:] if isinstance(length, int)), default=1)
    if longest > MAX_INPUT:
        raise DesignError(
            f"an input with an axis of {longest:,} px is too long: at most {MAX_INPUT:,} px are allowed. Give a shorter one."
        )


def _short_item(item: Item) -> str:
    """The text of an item; a long one by its name and its number of layers."""
    text = " ".join(item.text.split())
    return text if len(text) <= MAX_ITEM else f"{item.name or type(item).__name__.lower()} of {item.num_layers} layers"
