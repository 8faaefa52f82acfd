"""The account of a network: a row for each layer with shape, parameters, multiply-adds and receptive field; the totals."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

from visus.design.advice.pieces import Advice
from visus.design.arguments import Shape
from visus.design.flow import Flow
from visus.design.memory.moments import Memory
from visus.design.table import HEADINGS, cells, marks_in, write_fields, write_table
from visus.errors import UsageError, unknown_layer, unknown_name
from visus.geometry import Field, TransposedWindow, Window
from visus.tables import Brief, Described, Table, Text, listed, write_html_folded, write_html_rows, write_html_table
from visus.units import write_count, write_number_of, write_shape

Fields = tuple[Field, ...]
"""One receptive field for each axis of the input; none for an input of features."""

DETAILS: Final = ("layers", "operations")
"""What an account has rows for: each layer, or each tensor on the way."""

MAX_ROWS: Final = 200
"""Rows that a notebook shows at most; a longer account shows its totals alone."""

MAX_UNFOLDED: Final = 30
"""Rows that a notebook shows unfolded; of a longer account, each block is folded under its totals."""


def check_detail(detail: str) -> None:
    """Raise if there is no such detail.

    Raises:
        UsageError: with the closest name.
    """
    if detail not in DETAILS:
        raise UsageError(unknown_name("detail", detail, DETAILS))


@dataclass(frozen=True, repr=False)
class Row(Brief):
    """One row: a layer, or the join of a residual or a concat (which has no parameters and no multiply-adds).

    Args:
        path: the layer's path in the network.
        layer: the layer as it is written, with bias and number of classes; ``sum`` and ``stack`` for joins.
        output_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_parameters: number of trained values.
        macs: multiply-adds of convolutions and matrix products for one sample.
        fields: the receptive field on each axis of the input.
        aligned: whether the fields of all paths that meet here have the same center; True for a layer.
        notes: remarks on the figures, such as ``hull`` or ``batch-coupled``.
        bytes_weights: bytes of trained values and of buffers such as a running mean.
        bytes_output: bytes of the output for one sample, as float32.
        bytes_saved: bytes that autograd saves of the layer for one sample, as float32; a tensor counts for the layer that saves it
            first. None for a row of a traced module, which knows only its total.
        unread_px: pixels at the far edge of each axis of the input that no window reaches; empty for a layer without a window.
        is_approximate: whether the positions are unevenly spaced, so that the size of the fields is approximate.

    >>> account.rows[0]
    Row(conv1: conv(4, 3, bias=True) -> 4 x 6 x 6, 112 parameters, receptive field 3/1)
    """

    path: str
    layer: str
    output_shape: Shape
    num_parameters: int
    macs: int
    fields: Fields
    aligned: bool = True
    notes: tuple[str, ...] = ()
    bytes_weights: int = 0
    bytes_output: int = 0
    bytes_saved: int | None = None
    unread_px: tuple[int, ...] = ()
    is_approximate: bool = False

    def _words(self) -> str:
        fields = f", receptive field {write_fields(self)}" if self.fields else ""
        return f"{self.path}: {self.layer} -> {write_shape(self.output_shape)}, {self.num_parameters:,} parameters{fields}"

    @property
    def is_exact(self) -> bool:
        """Whether the fields are exact, neither an upper bound nor approximate.

        >>> account.rows[0].is_exact
        True
        """
        return not self.is_approximate and all(field.is_exact for field in self.fields)

    def to_json(self) -> dict[str, Any]:
        """The row as plain data; the stride of a field is a fraction as text.

        >>> account.rows[0].to_json()["output_shape"]
        [4, 6, 6]
        """
        return {
            "path": self.path,
            "layer": self.layer,
            "output_shape": list(self.output_shape),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "fields": [
                {
                    "size": field.size,
                    "stride": str(Fraction(field.stride)),
                    "start": _plain(field.start),
                    "is_whole": field.is_whole,
                    "is_exact": field.is_exact,
                }
                for field in self.fields
            ],
            "aligned": self.aligned,
            "notes": list(self.notes),
            "bytes_weights": self.bytes_weights,
            "bytes_output": self.bytes_output,
            "bytes_saved": self.bytes_saved,
            "unread_px": list(self.unread_px),
        }


def may_be_image_size(size: tuple[int, ...]) -> bool:
    """Whether two lengths may be the height and width of an image, rather than the channels and length of a signal.

    >>> may_be_image_size((224, 224)), may_be_image_size((12, 5000)), may_be_image_size((1, 28))
    (True, False, False)
    """
    return min(size) >= _MIN_SIDE and max(size) <= _MAX_RATIO * min(size)


_MIN_SIDE: Final = 8
"""Lengths below are channels rather than the height of an image, in px."""
_MAX_RATIO: Final = 4
"""Of the sides of an image."""


@dataclass(frozen=True, repr=False)
class Account(Described):
    """The rows of a network in the order of computation, and their totals.

    Two accounts are equal if their figures are; ``memory`` and ``find_flows``, computed on demand, are not compared.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        output: shape of the output, without the batch axis.
        rows: one for each layer.
        memory: computes the bytes of training and inference; None if the network failed before its end.
        find_flows: computes ``flows``; None if there is a row for each operation.
        ends: indices of the rows that compute the output, or that feed it if it has no row.
        advice: advice on the network, the most serious first. ``visus.summary`` adds it; otherwise it is empty.
        function_calls: for the path of each operation outside of layers, the function of torch that computes it and the number of its calls
            before; empty for a design.

    >>> account
    Account of 4 rows
      shapes  3 x 8 x 8 -> 3
      costs   127 parameters, 3.90 k multiply-adds
    """

    input_shape: Shape
    output: Shape
    rows: tuple[Row, ...]
    memory: Memory | None = field(default=None, repr=False, compare=False)
    find_flows: Callable[[], tuple[Flow, ...]] | None = field(default=None, repr=False, compare=False)
    ends: tuple[int, ...] = ()
    advice: tuple[Advice, ...] = ()
    function_calls: Mapping[str, tuple[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def flows(self) -> tuple[Flow, ...] | None:
        """The sources of each row, and how it reads them; None if there is a row for each operation.

        >>> len(account.flows) == len(account.rows)
        True
        """
        return None if self.find_flows is None else self.find_flows()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        shapes = f"{write_shape(self.input_shape)} -> {write_shape(self.output)}"
        costs = f"{self.num_parameters:,} parameters, {write_count(self.macs)} multiply-adds"
        rows = [("shapes", shapes), ("costs", costs)]
        if len(self.input_shape) == 2 and may_be_image_size(self.input_shape):
            channels, length = self.input_shape
            image = f"images have three numbers: (3, {channels}, {length})"
            rows.insert(1, ("input", f"read as a signal with {channels} channels of length {length}; {image}"))
        if self.advice:
            about = [f"{each.kind} ({each.path})" if each.path else each.kind for each in self.advice]
            rows.append(("advice", f"{listed(about)}; print(*account.advice)"))
        return f"Account of {write_number_of(len(self.rows), 'row')}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        if len(self.rows) > MAX_ROWS:
            return ()
        return (("layers", Table(tuple(tuple(cells(row)) for row in self.rows), HEADINGS, (3, 4))),)

    def _repr_html_(self) -> str:
        if not MAX_UNFOLDED < len(self.rows) <= MAX_ROWS:
            return super()._repr_html_()
        parts = [write_html_rows(*self._facts())]
        for block, rows in blocks_of(self.rows):
            title = f"{block}: {_totals(rows)}" if block else "layers"
            table = write_html_table(block or title, Table(tuple(map(cells, rows)), HEADINGS, (3, 4)))
            parts.append(write_html_folded(title, table) if block else table)
        return "".join(parts)

    def text(self) -> Text:
        """A row for each layer with the totals in the last one, what the marks mean, and the advice.

        >>> [type(each).__name__ for each in account.text()]
        ['Table']
        >>> account.text()[0].rows[-1]
        ('4 rows', '', '', '127', '3,900', '')
        """
        total = (write_number_of(len(self.rows), "row"), "", "", f"{self.num_parameters:,}", f"{self.macs:,}", "")
        table = Table((*map(cells, self.rows), total), HEADINGS, (3, 4))
        return Text((table, *marks_in(self.rows), *(each.text for each in self.advice)))

    def row(self, path: str) -> Row:
        """The row of a layer; ``account[path]`` is the same.

        Args:
            path: path of the layer, such as ``conv1`` or ``stage2.block1.conv1``.

        Raises:
            UsageError: no row has this path; the message has the closest one.

        >>> account.row("conv1").output_shape
        (4, 6, 6)
        """
        return self.rows[self._place(path)]

    def __getitem__(self, path: str) -> Row:
        """As ``row``.

        >>> account["conv1"].num_parameters
        112
        """
        return self.row(path)

    def windows(self, path: str) -> tuple[Window | TransposedWindow, ...]:
        """The window of a layer on each axis: kernel size, stride, padding and dilation.

        Args:
            path: path of a convolution, a transposed convolution or a pooling layer.

        Returns:
            One window for each axis of the input; empty if the layer has no window, or if the account has a row for each operation.

        Raises:
            UsageError: no row has this path; the message has the closest one.

        >>> [(window.kernel_size, window.stride) for window in account.windows("conv1")]
        [(3, 1), (3, 1)]
        >>> account.windows("relu1")
        ()
        """
        place = self._place(path)
        ops = self.flows[place].axis_ops if self.flows is not None else ()
        return tuple(each for each in ops if isinstance(each, (Window, TransposedWindow)))

    def _place(self, path: str) -> int:
        places = {row.path: place for place, row in enumerate(self.rows)}
        if path not in places:
            raise UsageError(unknown_layer(path, list(places)))
        return places[path]

    @property
    def num_parameters(self) -> int:
        """Number of trained values of the whole network.

        >>> account.num_parameters
        127
        """
        return sum(row.num_parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole network for one sample.

        >>> account.macs
        3900
        """
        return sum(row.macs for row in self.rows)

    @property
    def bytes_weights(self) -> int:
        """Bytes of trained values and of buffers such as a running mean.

        >>> account.bytes_weights
        508
        """
        return sum(row.bytes_weights for row in self.rows)

    def bytes_training(self, batch_size: int, optimizer: str = "adamw") -> int:
        """Maximum of the bytes that PyTorch allocates in a training step in float32 on a CPU, without the interpreter.

        A step is forward, cross-entropy, backward and the update of the optimizer, whose state exists already; gradients were freed
        before it (``zero_grad``). The batch is included, its labels are not. The buffers of convolutions are an upper bound
        for x86
        processors (``design.memory.convolution_buffers``).

        Args:
            batch_size: samples of the batch.
            optimizer: ``"adamw"`` keeps two values for each weight, ``"sgd"`` (with momentum) one, ``"none"`` none.

        Raises:
            UsageError: an argument is invalid, or the network failed before its end.

        >>> from visus.design import account, parse
        >>> account(parse("linear(10)"), (100,)).bytes_training(64)
        52320
        """
        return self._memory.training(batch_size, optimizer)

    def training_parts(self, batch_size: int, optimizer: str = "adamw") -> dict[str, int]:
        """The parts of ``bytes_training`` at its peak, by name; their sum is the total.

        Args:
            batch_size, optimizer: as for ``bytes_training``.

        Returns:
            Weights and buffers, the optimizer's state, and what is allocated at the peak: what autograd keeps for the backward pass, with
            gradients and temporary tensors beyond it; or, with few samples, gradients, the batch and the temporary tensors of the update.

        Raises:
            UsageError: as ``bytes_training``.

        >>> from visus.design import account, parse
        >>> account(parse("linear(10)"), (100,)).training_parts(64)
        {'weights': 4040, 'state of adamw': 8080, 'gradients': 4040, 'the batch and temporary tensors': 36160}
        """
        total, standing = self.bytes_training(batch_size, optimizer), self.bytes_standing(optimizer)
        weights = self.bytes_standing("none")
        parts = {"weights": weights} | ({f"state of {optimizer}": standing - weights} if standing > weights else {})
        gradients = self._memory.gradients_at_peak(batch_size, optimizer)
        if gradients is not None:
            return parts | {"gradients": gradients, "the batch and temporary tensors": total - standing - gradients}
        kept = self.bytes_saved(batch_size)
        return parts | {"kept for the backward pass": kept, "gradients and temporary tensors": total - standing - kept}

    def bytes_inference(self, batch_size: int = 1) -> int:
        """Maximum of the bytes that PyTorch allocates when it computes the output without gradients, as ``bytes_training``.

        Raises:
            UsageError: the batch size is not a positive integer, or the network failed before its end.

        >>> account.bytes_inference(64) > account.bytes_inference(1)
        True
        """
        return self._memory.inference(batch_size)

    def bytes_standing(self, optimizer: str = "adamw") -> int:
        """Bytes allocated throughout training: weights, buffers and the optimizer's state.

        Raises:
            UsageError: the optimizer is unknown, or the network failed before its end.

        >>> account.bytes_standing("none"), account.bytes_standing("sgd")
        (508, 1016)
        """
        return self._memory.standing(optimizer)

    def bytes_saved(self, batch_size: int) -> int:
        """Bytes that autograd saves for the backward pass, loss included.

        Raises:
            UsageError: the batch size is not a positive integer, or the network failed before its end.

        >>> account.bytes_saved(64) > account.bytes_saved(1)
        True
        """
        return self._memory.saved(batch_size)

    @property
    def _memory(self) -> Memory:
        if self.memory is None:
            raise UsageError("this account ends before its network does, so its memory is unknown. Fix the network first.")
        return self.memory

    def to_json(self) -> dict[str, Any]:
        """The account as plain data.

        >>> account.to_json()["num_parameters"]
        127
        """
        return {
            "input": list(self.input_shape),
            "output": list(self.output),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "bytes_weights": self.bytes_weights,
            "rows": [row.to_json() for row in self.rows],
            "advice": [advice.to_json() for advice in self.advice],
        }

    def to_table(self) -> str:
        """The account as plain text: a line for each row, exact numbers, totals in the last line.

        >>> print(Account((8,), (2,), (Row("linear1", "linear(2)", (2,), 18, 16, ()),)).to_table())
        path     layer      output  parameters  multiply-adds  receptive field
        linear1  linear(2)  2               18             16
        1 row                               18             16
        """
        return write_table(self.rows)


def blocks_of(rows: Sequence[Row]) -> list[tuple[str, tuple[Row, ...]]]:
    """Successive rows by the block of their paths; the name is empty for rows outside any block.

    The names of blocks have as few parts as make every block short enough to be shown unfolded, or as many as there are.

    >>> [(name, len(rows)) for name, rows in blocks_of(account.rows)]
    [('', 4)]
    """
    depths = range(1, max(row.path.count(".") for row in rows) + 1) if rows else range(0)
    for depth in depths or (1,):
        groups = [(name, tuple(group)) for name, group in itertools.groupby(rows, functools.partial(_block_of, depth=depth))]
        if all(len(group) <= MAX_UNFOLDED for name, group in groups if name):
            break
    return groups


def _block_of(row: Row, depth: int) -> str:
    """The first parts of the block's name; empty for a row outside any block."""
    return ".".join(row.path.split(".")[:-1][:depth])


def _totals(rows: Sequence[Row]) -> str:
    """What a block costs, and the shape of its output."""
    parameters, macs = sum(row.num_parameters for row in rows), sum(row.macs for row in rows)
    number = write_number_of(len(rows), "row")
    return f"{number}, {write_count(parameters)} parameters, {write_count(macs)} multiply-adds, output {write_shape(rows[-1].output_shape)}"


def _plain(number: int | Fraction) -> int | float:
    return int(number) if number == int(number) else float(number)
