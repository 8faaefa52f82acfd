"""The sources of each row of an account, and how the row reads them, in one form for designs and traced modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from visus.design.arguments import Shape
from visus.geometry import AxisOp, Window

INPUT: Final = -1
"""The network's input among the sources of a row."""

Kind = Literal["window", "pool", "global pool", "norm", "softmax", "sum", "stack", "values"]
"""The kind of a row; ``values`` is any other."""

Context = Literal["local", "global", "both", "unknown"]
"""What each output position depends on: its window (or its own position), all positions, both, or unknown."""


@dataclass(frozen=True)
class Normed:
    """The values over which a norm takes a mean and a standard deviation.

    Args:
        by: ``"batch"``, ``"group"`` or ``"layer"``.
        channels: channels or features of the input.
        num_groups: groups of a group norm, else 1.
        num_values: number of values of one sample that share a mean and a standard deviation. A batch norm adds those of the
            other samples.
    """

    by: Literal["batch", "group", "layer"]
    channels: int
    num_groups: int
    num_values: int


@dataclass(frozen=True)
class Flow:
    """The sources of a row, and how the row reads them.

    Args:
        kind: what the row does.
        output_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        sources: the indices of the rows that it reads; ``INPUT`` for the input of the network.
        axis_ops: the window or the enlargement of each axis; empty if each position reads only itself, or ``context`` says
            otherwise.
        context: dependence of each output position.
        normed: the values of a norm; None for any other row.
        is_affine: whether the row is a weighted sum of what it reads plus a constant, as a convolution is, and no activation.
        is_direct: whether no activation without a row, such as ``F.relu`` in a module, lies between its sources and the row.
    """

    kind: Kind
    output_shape: Shape
    sources: tuple[int, ...]
    axis_ops: tuple[AxisOp, ...] = ()
    context: Context = "local"
    normed: Normed | None = None
    is_affine: bool = False
    is_direct: bool = True

    @property
    def windows(self) -> tuple[Window, ...]:
        """The window on each axis; empty if the row has none, or enlarges an axis."""
        windows = tuple(axis_op for axis_op in self.axis_ops if isinstance(axis_op, Window))
        return windows if len(windows) == len(self.axis_ops) else ()
