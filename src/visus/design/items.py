"""The parts of a design: layers and groups of layers (sequence, residual, concat, repeat), as frozen values."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from visus.errors import DesignError, join_messages

LINE_LENGTH: Final = 110
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, repr=False)
class Item(ABC):
    """A part of a design: a layer (see ``visus.design.layers.registry``) or a group of items.

    >>> from visus.design import conv, relu, residual
    >>> [item.num_layers for item in (conv(8, 3), residual(conv(8, 3, padding=1), relu))]
    [1, 2]
    """

    prefix: ClassVar[str]  # the automatic name is the prefix and a number: conv1
    word: ClassVar[str]  # how it is written in a design

    name: str | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def text(self) -> str:
        """The item as the text of a design, on one line."""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """Number of single layers, every repeat written out."""

    @property
    def children(self) -> tuple[Item, ...]:
        """The items inside, in order; empty for a layer."""
        return ()

    def with_children(self, children: tuple[Item, ...]) -> Item:
        """The same group with other items inside."""
        return self

    def frame(self) -> tuple[str, str]:
        """The text before and after the children."""
        return self.text, ""

    def __repr__(self) -> str:
        return self.text

    def __post_init__(self) -> None:
        if mistakes := self._mistakes():
            raise DesignError(join_messages(mistakes))

    def __rmul__(self, times: int) -> Item:
        """``3 * sequence(...)``: the item three times in a row, each time with weights of its own."""
        return Repeat(times, self)

    def _mistakes(self) -> list[str]:
        """The mistakes in the arguments."""
        if self.name is None or (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            return []
        return [f"a name is made of letters, digits and _ and begins with a letter, unlike {self.name!r}."]


ItemLike = Any
"""An item; the class of a layer that needs no arguments (``relu``); or a list of these, which stands for a sequence."""


def as_item(value: ItemLike) -> Item:
    """Converts a value to an item.

    Raises:
        DesignError: the value cannot be part of a design, or it is a layer class that needs arguments.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, type) and issubclass(value, Item):
        try:
            return value()
        except TypeError:
            raise DesignError(f"{value.word} needs arguments: write {value.word}(...).") from None
    if isinstance(value, (list, tuple)):
        return Sequence(tuple(as_item(inner) for inner in value))
    raise DesignError(f"a design consists of layers, and {value!r} is not a layer.")


@dataclass(frozen=True, repr=False)
class _Group(Item):
    """An item around others. Abstract."""

    @property
    def text(self) -> str:
        before, after = self.frame()
        return before + ", ".join(child.text for child in self.children) + after

    @property
    def num_layers(self) -> int:
        return sum(child.num_layers for child in self.children)

    def _name_text(self) -> str:
        return "" if self.name is None else f', name="{self.name}"'


@dataclass(frozen=True, repr=False)
class Sequence(_Group):
    """Items in sequence. Written ``[...]``, or ``sequence(..., name="stage2")`` with a name.

    >>> from visus.design import conv, relu, sequence
    >>> sequence(conv(8, 3), relu, name="stem").text
    'sequence(conv(8, 3), relu, name="stem")'
    """

    prefix = "block"
    word = "sequence"

    layers: tuple[Item, ...]

    @property
    def children(self) -> tuple[Item, ...]:
        return self.layers

    def with_children(self, children: tuple[Item, ...]) -> Sequence:
        return Sequence(children, name=self.name)

    def frame(self) -> tuple[str, str]:
        return (
            ("[", "]")
            if self.name is None
            else ("sequence(", f"{self._name_text()})" if self.layers else f"{self._name_text()[2:]})")
        )

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_children(self.layers)


@dataclass(frozen=True, repr=False)
class Residual(_Group):
    """The items in a row, and their input added to their output. No activation follows; add it after the residual if needed.

    Where the shapes differ, the input goes through a projection: a convolution of kernel 1 with the stride of the items
    together (a linear layer for features), without bias, and a batch norm.

    >>> from visus.design import conv, relu, residual
    >>> residual(conv(3, 3, padding=1), relu).text
    'residual(conv(3, 3, padding=1), relu)'
    """

    prefix = word = "residual"

    layers: tuple[Item, ...]

    @property
    def children(self) -> tuple[Item, ...]:
        return self.layers

    def with_children(self, children: tuple[Item, ...]) -> Residual:
        return Residual(children, name=self.name)

    def frame(self) -> tuple[str, str]:
        return "residual(", f"{self._name_text()})"

    def _mistakes(self) -> list[str]:
        empty = [] if self.layers else ["residual needs at least one layer, as in residual(conv(64, 3, padding=1), norm)."]
        return super()._mistakes() + empty + check_children(self.layers)


@dataclass(frozen=True, repr=False)
class Concat(_Group):
    """Branches that all read the same input; their outputs are concatenated along the channels. An empty branch is the
    identity.

    >>> from visus.design import concat, conv
    >>> concat(conv(4, 1), conv(8, 3, padding=1)).text
    'concat([conv(4, 1)], [conv(8, 3, padding=1)])'
    """

    prefix = word = "concat"

    branches: tuple[Item, ...]

    @property
    def children(self) -> tuple[Item, ...]:
        return self.branches

    def with_children(self, children: tuple[Item, ...]) -> Concat:
        return Concat(children, name=self.name)

    def frame(self) -> tuple[str, str]:
        return "concat(", f"{self._name_text()})"

    def _mistakes(self) -> list[str]:
        lone = (
            []
            if len(self.branches) > 1
            else ["concat needs at least two branches, as in concat([conv(32, 1)], [maxpool(3)])."]
        )
        return super()._mistakes() + lone + check_children(self.branches, may_be_empty=True)


@dataclass(frozen=True, repr=False)
class Repeat(_Group):
    """An item repeated several times in sequence, each with its own weights. Written ``3 * [...]``.

    >>> from visus.design import conv, relu, repeat
    >>> repeat(2, conv(8, 3), relu).num_layers
    4
    """

    prefix = word = "repeat"

    times: int
    body: Item

    @property
    def children(self) -> tuple[Item, ...]:
        return (self.body,)

    def with_children(self, children: tuple[Item, ...]) -> Repeat:
        return Repeat(self.times, children[0])

    def frame(self) -> tuple[str, str]:
        return f"{self.times} * ", ""

    @property
    def num_layers(self) -> int:
        return self.times * self.body.num_layers

    def _mistakes(self) -> list[str]:
        mistakes = check_children((self.body,))
        if self.name is not None:
            mistakes.append("a repeat has no name of its own: name what is repeated.")
        if not isinstance(self.times, int) or isinstance(self.times, bool) or self.times < 1:
            mistakes.append(f"a repeat needs a whole number from 1 on, not {self.times!r}.")
        return mistakes


def sequence(*layers: ItemLike, name: str | None = None) -> Sequence:
    """Items in sequence, under one name.

    >>> from visus.design import conv, relu
    >>> sequence(conv(8), relu, name="stem")
    sequence(conv(8, 3), relu, name="stem")
    """
    return Sequence(tuple(as_item(layer) for layer in layers), name=name)


def residual(*layers: ItemLike, name: str | None = None) -> Residual:
    """The layers in a row, and their input added to their output (see ``Residual``).

    >>> from visus.design import Design, conv, relu
    >>> Design([residual(conv(3, 3, padding=1), relu)]).output_shape((3, 32, 32))
    (3, 32, 32)
    """
    return Residual(tuple(as_item(layer) for layer in layers), name=name)


def concat(*branches: ItemLike, name: str | None = None) -> Concat:
    """Branches that read the same input, concatenated along the channels. A single layer is a branch of one layer.

    >>> from visus.design import Design, conv
    >>> Design([concat(conv(4, 1), conv(8, 3, padding=1))]).output_shape((3, 32, 32))
    (12, 32, 32)
    """
    items = (as_item(branch) for branch in branches)
    return Concat(tuple(item if isinstance(item, Sequence) else Sequence((item,)) for item in items), name=name)


def repeat(times: int, *layers: ItemLike) -> Repeat:
    """The layers ``times`` times in a row. In the text of a design, ``3 * [...]`` means the same.

    In Python, ``3 * [conv, relu]`` is Python's own list of six layers, named conv1 to conv3; this makes block1 to block3.

    >>> from visus.design import conv, relu
    >>> repeat(3, conv(8), relu)
    3 * [conv(8, 3), relu]
    """
    return Repeat(times, Sequence(tuple(as_item(layer) for layer in layers)))


def write_items(items: Many[Item], indent: int = 0) -> str:
    """Items as the text of a design: on one line if short enough, else one item per line."""
    one_line = ", ".join(item.text for item in items)
    if len(one_line) + indent <= LINE_LENGTH:
        return one_line
    return (",\n" + " " * indent).join(_write_item(item, indent) for item in items)


def _write_item(item: Item, indent: int) -> str:
    if len(item.text) + indent <= LINE_LENGTH or not item.children:
        return item.text
    before, after = item.frame()
    if isinstance(item, Repeat):
        return before + _write_item(item.body, indent)
    pad = " " * (indent + 4)
    inner = f",\n{pad}".join(_write_item(child, indent + 4) for child in item.children)
    if after.startswith(", "):  # the name, on a line of its own
        return f"{before}\n{pad}{inner},\n{pad}{after[2:-1]},\n{' ' * indent})"
    return f"{before}\n{pad}{inner},\n{' ' * indent}{after}"


def check_children(children: tuple[Item, ...], *, may_be_empty: bool = False) -> list[str]:
    """The error messages for neighboring items: an empty one, or two with the same name."""
    mistakes = []
    if not may_be_empty and any(isinstance(child, Sequence) and not child.layers for child in children):
        mistakes.append("an empty sequence does nothing here; only a branch of concat may be empty.")
    names = Counter(child.name for child in children if child.name is not None)
    mistakes += [
        f"{count} neighbors have the name {name!r}. Give each a name of its own."
        for name, count in names.items()
        if count > 1
    ]
    return mistakes
