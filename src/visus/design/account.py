"""The account of a network: a row for each layer with shape, parameters, multiply-adds and receptive field; the totals.

This file knows rows and how they are added up. It must not know how a row came about, nor how a table is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from visus.design.arguments import Shape
from visus.geometry import Field

Fields = tuple[Field, ...]
"""One receptive field for each axis of the input; none for an input of features."""


@dataclass(frozen=True)
class Row:
    """A layer, or the place where the paths of a residual or a concat meet (which costs no parameters and no multiply-adds).

    Args:
        path: the layer's path in the network.
        layer: the layer as it is written, its bias and number of classes decided; ``sum`` and ``stack`` where paths meet.
        output_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_parameters: number of trained values.
        macs: multiply-adds for one item; those of convolutions and matrix products, nothing else.
        fields: the receptive field on each axis of the input.
        aligned: whether all paths that meet here look at the same middle; True for a layer.
        notes: what a reader must know beside the figures, such as ``hull`` or ``batch-coupled``.
    """

    path: str
    layer: str
    output_shape: Shape
    num_parameters: int
    macs: int
    fields: Fields
    aligned: bool = True
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain data; the step of a field is a fraction as text."""
        return {
            "path": self.path,
            "layer": self.layer,
            "output_shape": list(self.output_shape),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "fields": [
                {
                    "size": field.size,
                    "step": str(Fraction(field.step)),
                    "start": _plain(field.start),
                    "is_whole": field.is_whole,
                    "is_exact": field.is_exact,
                }
                for field in self.fields
            ],
            "aligned": self.aligned,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Account:
    """The rows of a network in the order of computation, and their totals.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        output: shape of what comes out, without the batch axis.
        rows: one for each layer.
    """

    input_shape: Shape
    output: Shape
    rows: tuple[Row, ...]

    @property
    def num_parameters(self) -> int:
        """Number of trained values of the whole network."""
        return sum(row.num_parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole network for one item."""
        return sum(row.macs for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The account as plain data."""
        return {
            "input": list(self.input_shape),
            "output": list(self.output),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "rows": [row.to_json() for row in self.rows],
        }


def _plain(number: int | Fraction) -> int | float:
    return int(number) if number == int(number) else float(number)
