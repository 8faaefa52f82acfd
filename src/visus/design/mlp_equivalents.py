"""Multilayer perceptrons that correspond to a design: its cost without windows and weight sharing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Final

from visus.design.account import Account
from visus.design.account_walk import account
from visus.design.arguments import Shape
from visus.design.edits import leaves
from visus.design.graph import Node
from visus.design.items import Item
from visus.design.layers.registry import Convolution, Linear, flatten, linear, relu
from visus.design.plan import Design
from visus.design.wider_fields import activation_bytes
from visus.errors import DesignError
from visus.tables import Described, Table, Text, listed
from visus.units import write_bytes, write_count, write_shape

KINDS: Final = {
    "equal width": "each convolution becomes a dense layer with as many units as it has filters",
    "equal output": "each convolution becomes a dense layer with as many units as the next layer reads",
    "equal parameters": "all hidden layers have the one width that comes nearest to the parameters of the design",
}
"""The three twins and what each of them keeps."""


@dataclass(frozen=True)
class Twin:
    """A network of dense layers that stands for a design.

    Args:
        kind: one of ``KINDS``, or ``the design``.
        widths: units of each dense layer; empty for the design itself.
        design: the twin as a design.
        account: its account.
        note: a remark on the figures.
    """

    kind: str
    widths: tuple[int, ...]
    design: Design
    account: Account
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The twin as plain data."""
        return {
            "kind": self.kind,
            "widths": list(self.widths),
            "design": self.design.text,
            "num_parameters": self.account.num_parameters,
            "macs": self.account.macs,
            "weight_bytes": 4 * self.account.num_parameters,
            "activation_bytes": activation_bytes(self.account),
            "note": self.note,
        }


@dataclass(frozen=True, repr=False)
class Twins(Described):
    """A design and its equivalent perceptrons.

    Args:
        input_shape: shape of a sample, (channels, *spatial).
        twins: the design itself, then a perceptron for each of ``KINDS``.

    >>> import visus
    >>> [twin.kind for twin in visus.experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10)]
    ['the design', 'equal width', 'equal output', 'equal parameters']
    """

    input_shape: Shape
    twins: tuple[Twin, ...]

    def __iter__(self) -> Iterator[Twin]:
        return iter(self.twins)

    def __len__(self) -> int:
        return len(self.twins)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [
            (
                each.kind,
                f"{write_count(each.account.num_parameters)} parameters, {write_count(each.account.macs)} multiply-adds",
            )
            for each in self.twins
        ]
        return f"Equivalent perceptrons for samples of {write_shape(self.input_shape)}", rows

    def text(self) -> Text:
        """The design and its perceptrons with their costs, and what each of them keeps.

        >>> import visus
        >>> visus.experiment.mlp("conv(64, 3, padding=1)", input_shape=(3, 224, 224)).text()[-1]
        'for one sample of 3 x 224 x 224, 4 bytes per value'
        """
        rows = []
        for twin in self.twins:
            sizes = write_bytes(4 * twin.account.num_parameters), write_bytes(activation_bytes(twin.account))
            costs = (f"{twin.account.num_parameters:,}", write_count(twin.account.macs), *sizes)
            rows.append((twin.kind, *costs, listed([f"{width:,}" for width in twin.widths])))
        headings = ("network", "parameters", "multiply-adds", "weights", "activations", "widths")
        kept = (f"{each.kind}: {KINDS[each.kind]}{f'; {each.note}' if each.note else ''}" for each in self.twins[1:])
        last = f"for one sample of {write_shape(self.input_shape)}, 4 bytes per value"
        return Text((Table(tuple(rows), headings, (1, 2, 3, 4)), *kept, last))

    def to_json(self) -> list[dict[str, Any]]:
        """The networks as plain data.

        >>> import visus
        >>> [each["kind"] for each in visus.experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10).to_json()]
        ['the design', 'equal width', 'equal output', 'equal parameters']
        """
        return [twin.to_json() for twin in self.twins]


def perceptron_twins(design: Design, input_shape: Shape, num_classes: int | None = None) -> tuple[Twin, ...]:
    """The design itself and its three twins: by equal width, by equal output, by equal parameters.

    A twin flattens the image and has a dense layer for each convolution and each linear layer on the main path, projections
    excluded, with a relu between them; pools and norms are dropped. By equal output, a layer has as many units as the next
    layer with weights reads, so it includes the pools between them.

    Raises:
        DesignError: the design is impossible, or has no convolution.

    >>> from visus.design import parse
    >>> for twin in perceptron_twins(parse("conv(64, 3, padding=1)"), (3, 224, 224)):
    ...     print(twin.kind, twin.account.num_parameters, twin.account.macs)
    the design 1792 86704128
    equal width 9633856 9633792
    equal output 483388358656 483385147392
    equal parameters 150529 150528
    """
    costs = account(design, input_shape, num_classes)
    layers = [node for node in leaves(design.place(input_shape, num_classes)) if node.route is not None]
    weighted = [node for node in layers if isinstance(node.layer, (Convolution, Linear))]
    if not any(isinstance(node.layer, Convolution) for node in weighted):
        raise DesignError("this design has no convolution, so it is its own perceptron. Give a design with at least one.")
    twins = [Twin("the design", (), design, costs)]
    for kind, widths in (("equal width", _widths(weighted)), ("equal output", _outputs(weighted))):
        twins.append(_twin(kind, widths, input_shape))
    twins.append(_equal_parameters(weighted, input_shape, costs.num_parameters))
    return tuple(twins)


def _widths(weighted: Many[Node]) -> tuple[int, ...]:
    return tuple(node.output_shape[0] for node in weighted)


def _outputs(weighted: Many[Node]) -> tuple[int, ...]:
    """What each layer hands on: what the next one reads; of the last, what it gives."""
    handed = [math.prod(following.input_shape) for following in weighted[1:]]
    return (*handed, math.prod(weighted[-1].output_shape))


def _equal_parameters(weighted: Many[Node], input_shape: Shape, wanted: int) -> Twin:
    """The twin whose hidden layers have the one width that comes nearest to ``wanted`` parameters."""
    inputs = math.prod(input_shape)
    given = weighted[-1].output_shape[0] if isinstance(weighted[-1].layer, Linear) else None
    hidden = len(weighted) - (given is not None)

    def widths(width: int) -> tuple[int, ...]:
        return (width,) * hidden + ((given,) if given is not None else ())

    low, high = 1, 2
    while _num_parameters(inputs, widths(high)) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        half = (low + high) // 2
        low, high = (half, high) if _num_parameters(inputs, widths(half)) <= wanted else (low, half)
    nearest = min((low, high), key=lambda width: abs(_num_parameters(inputs, widths(width)) - wanted))
    least = _num_parameters(inputs, widths(1))
    note = f"even layers with one unit have {least:,} parameters" if least > wanted else ""
    return _twin("equal parameters", widths(nearest), input_shape, note)


def _num_parameters(inputs: int, widths: Many[int]) -> int:
    """Weights and biases of dense layers one after another."""
    return sum((before + 1) * width for before, width in zip((inputs, *widths), widths, strict=False))


def _twin(kind: str, widths: tuple[int, ...], input_shape: Shape, note: str = "") -> Twin:
    design = Design(_dense(widths))
    return Twin(kind, widths, design, account(design, input_shape), note)


def _dense(widths: Many[int]) -> Iterator[Item]:
    yield flatten()
    for index, width in enumerate(widths):
        if index:
            yield relu()
        yield linear(width)
