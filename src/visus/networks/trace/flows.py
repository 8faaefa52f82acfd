"""Each row of a traced module as a ``visus.design.flow.Flow``: its sources and how it reads them, as input of the advice.

If a flow cannot describe the operators of a row, its context is unknown, and there is no advice about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from visus.design.flow import INPUT, Context, Flow, Kind, Normed
from visus.geometry import AxisOp, Window
from visus.networks.trace.annotation import Axes, annotation_of
from visus.networks.trace.coordinates.axis_dims import own_dims
from visus.networks.trace.coordinates.dependence import Shape
from visus.networks.trace.coordinates.fields import fields_of
from visus.networks.trace.operators.registry import Call, Operator

# ---- where values come from ----


def sources_of(value: Tensor) -> frozenset[int]:
    """The indices of the rows that a tensor is computed from, without another row in between."""
    at = annotation_of(value)
    while at is not None:
        if at.producers is not None:
            return at.producers
        at = at.source
    return frozenset()


def is_nonlinear(value: Tensor) -> bool:
    """Whether a nonlinear operator lies between a tensor and the rows that it comes from."""
    at = annotation_of(value)
    while at is not None and at.producers is None and at.source is not None:
        at = at.source
    return at is not None and at.is_nonlinear


def propagate_producers(call: Call, inputs: Sequence[Tensor]) -> None:
    """The outputs of a call come from the rows that its inputs come from; so does a tensor if a view of it was written into.

    Args:
        call: the call.
        inputs: the inputs that depend on the network's input.
    """
    found = sources_of(inputs[0]) if len(inputs) == 1 else frozenset().union(*map(sources_of, inputs))
    nonlinear = not (call.is_affine and len(inputs) == 1) or any(map(is_nonlinear, inputs))
    for out in outputs(call):
        annotation = annotation_of(out)
        if annotation is None or (annotation.source is not None and out is not call.args[0]):
            continue  # a view has what its source has
        if annotation.source is None and annotation.axes is None:
            continue  # new values, such as zeros of the same shape
        annotation.producers, annotation.is_nonlinear = found, nonlinear
        while annotation.source is not None:
            annotation = annotation.source
            annotation.is_nonlinear |= nonlinear
            annotation.producers = (annotation.producers or frozenset()) | found


def set_producer(output: Any, row: int) -> None:
    """All tensors of a row's output come from that row, given by its index."""
    if isinstance(output, Tensor):
        annotation = annotation_of(output)
        if annotation is not None:
            annotation.producers, annotation.is_nonlinear = frozenset((row,)), False
    elif isinstance(output, dict):
        set_producer(list(output.values()), row)
    elif isinstance(output, (list, tuple)):
        for value in output:
            set_producer(value, row)


# ---- what a row does ----


AxesAndShape = tuple[Axes, Shape]
"""What a tensor depends on, and its shape."""


class OperationRecord(NamedTuple):
    """A call of an operator within a row.

    Args:
        operator: the registered operator.
        inputs, out: dependences of its inputs and its first output.
        axis_ops, pads: as in ``Call``.
        normed: for a norm, the values whose standard deviation it divides by.
        is_hull: whether no rule covers its output.
        is_affine: whether it is affine in the one input that it has.
        is_direct: whether no nonlinear operator lies between the rows before and its inputs.
    """

    operator: Operator
    inputs: tuple[AxesAndShape, ...]
    out: AxesAndShape
    axis_ops: tuple[AxisOp, ...]
    pads: tuple[tuple[int, int], ...]
    normed: Normed | None
    is_hull: bool
    is_affine: bool
    is_direct: bool


def record_operation(call: Call, inputs: Sequence[Tensor]) -> OperationRecord:
    """The record of a call that advice needs later."""
    first = next(iter(outputs(call)), None)
    known = call.operator
    normed = None if known.normalizes is None else known.normalizes(call)
    return OperationRecord(
        known,
        tuple(map(_axes_and_shape, inputs)),
        _axes_and_shape(first),
        call.axis_ops,
        call.pads,
        normed,
        call.is_hull,
        call.is_affine and len(inputs) == 1,
        not any(map(is_nonlinear, inputs)),
    )


def _axes_and_shape(value: Any) -> AxesAndShape:
    annotation = annotation_of(value)
    return ((), ()) if annotation is None else (annotation.current() or (), annotation.shape)


class RowRecord(NamedTuple):
    """The record of a row that advice needs later. Args:
    operations: the calls within it, in order.
    out: dependence of its output.
    sources: the indices of the rows that feed it.
    """

    operations: tuple[OperationRecord, ...]
    out: AxesAndShape
    sources: tuple[int, ...]


def record_row(operations: Sequence[OperationRecord], out: Tensor | None) -> RowRecord:
    """The record of a row; call it before ``set_producer``."""
    sources = () if out is None else tuple(sorted(sources_of(out), reverse=True))
    return RowRecord(tuple(operations), _axes_and_shape(out), sources)


def flows_of_rows(rows: Sequence[RowRecord], input_shape: Shape) -> tuple[Flow, ...]:
    """The flows of a traced module's rows."""
    shapes = {index: row.out[1][1:] for index, row in enumerate(rows)} | {INPUT: input_shape}
    return tuple(_flow(row, [shapes[source] for source in row.sources]) for row in rows)


def _flow(row: RowRecord, shapes: Sequence[Shape]) -> Flow:
    """The flow of a row; ``shapes`` are those of what feeds it, without the batch axis."""
    summary = RowSummary()
    for operation in row.operations:
        summary.add(operation)
    axes, shape = row.out
    kind: Kind = summary.kinds[0] if len(summary.kinds) == 1 else "values" if summary.kinds or not summary.pads else "window"
    inputs = row.operations[0].inputs if row.operations else (row.out,)  # no call: the output is the input
    ends = (*inputs, row.out)
    is_known = not summary.is_unknown and bool(axes) and all(_are_last_dims(*each) for each in ends)
    is_known &= all(len(each[1]) == len(axes) + 2 for each in ends)
    is_known &= all(shape in {each[1][1:] for each in inputs} for shape in shapes)
    context = _context(summary, inputs, row.out, is_known)
    return Flow(
        kind,
        shape[1:],
        row.sources,
        summary.window() if is_known and context == "local" else (),
        context,
        summary.normed,
        all(operation.is_affine for operation in row.operations),
        all(operation.is_direct for operation in row.operations),
    )


def _context(summary: RowSummary, inputs: Sequence[AxesAndShape], out: AxesAndShape, is_known: bool) -> Context:
    if out[0] and all(field.stride == 0 for field in fields_of(*out)):
        return "global"
    has_window = bool(summary.axis_ops or summary.pads)
    if not is_known or (has_window and (summary.mixes_positions or summary.num_joined)):
        return "unknown"
    if not summary.mixes_positions or summary.axis_ops:
        return "local"
    pairs = zip(fields_of(*inputs[0]), fields_of(*out), strict=True)
    is_same = all((one.size, one.stride, one.start) == (two.size, two.stride, two.start) for one, two in pairs)
    return "both" if is_same else "unknown"


class RowSummary:
    """The summary of the calls within one row."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.axis_ops: tuple[AxisOp, ...] = ()
        self.pads: tuple[tuple[int, int, bool], ...] = ()  # before, after, whether reflected
        self.normed: Normed | None = None
        self.num_joined = 0
        self.mixes_positions = False  # whether an output depends on more than its own position
        self.is_unknown = False  # whether a flow has no word for it

    def add(self, operation: OperationRecord) -> None:
        """Adds a call."""
        kind = operation.operator.kind
        if kind == "move":
            return
        self.is_unknown |= operation.is_hull
        if operation.axis_ops or operation.pads:
            self._add_window(operation, kind)
        elif len(operation.inputs) > 1:
            self.num_joined += 1
            self.kinds.append(kind if kind in ("sum", "stack") else "values")
        else:
            is_elementwise = bool(operation.inputs) and _is_same(operation.inputs[0][0], operation.out[0])
            self.mixes_positions |= not is_elementwise
            if kind in ("norm", "softmax") or (kind in ("pool", "global pool") and not is_elementwise):
                one = math.prod(operation.out[1][2:]) == 1
                self.kinds.append("global pool" if kind == "pool" and one else kind)
                self.normed = operation.normed
            elif not is_elementwise:
                self.kinds.append("values")

    def _add_window(self, operation: OperationRecord, kind: Kind) -> None:
        """Adds a window, or padding in front of one."""
        axes, shape = operation.inputs[0]
        num_axes = len(axes)
        self.is_unknown |= (
            bool(self.axis_ops) or self.mixes_positions or bool(self.num_joined) or not _are_last_dims(axes, shape)
        )
        if operation.axis_ops:
            more, self.axis_ops = operation.axis_ops[:-num_axes], operation.axis_ops[-num_axes:]
            self.is_unknown |= len(self.axis_ops) != num_axes or any(
                axis_op.span != 1 or axis_op.jump != 1 for axis_op in more
            )
            self.kinds.append(kind)
            return
        pads, mode = operation.pads, operation.operator.pad_mode
        known = mode in ("constant", "reflect")
        self.is_unknown |= bool(self.pads) or not known or len(pads) > num_axes or min(map(min, pads)) < 0
        missing = ((0, 0),) * (num_axes - len(pads))
        self.pads = tuple((*pad, mode == "reflect") for pad in (*missing, *pads))

    def window(self) -> tuple[AxisOp, ...]:
        """The window on each axis, including padding layers before it."""
        axis_ops = self.axis_ops or tuple(Window(1) for _ in self.pads)
        return tuple(map(_padded, axis_ops, self.pads)) if self.pads else axis_ops


def _padded(axis_op: AxisOp, pad: tuple[int, int, bool]) -> AxisOp:
    before, after, is_mirrored = pad
    if not isinstance(axis_op, Window):
        return axis_op
    padding = (axis_op.padding[0] + before, axis_op.padding[1] + after)
    return Window(axis_op.kernel_size, axis_op.stride, padding, axis_op.dilation, axis_op.ceil_mode, is_mirrored)


def outputs(call: Call) -> Sequence[Any]:
    """The outputs of a call."""
    if isinstance(call.out, (list, tuple)):
        return call.out
    return () if call.out is None else (call.out,)


def _is_same(one: Axes, other: Axes) -> bool:
    """Whether two tensors depend on the same, position by position."""
    if one is other:
        return True
    if len(one) != len(other):
        return False
    return all(
        len(terms) == len(others) and all(a is b for a, b in zip(terms, others, strict=True))
        for terms, others in zip(one, other, strict=True)
    )


def _are_last_dims(axes: Axes | None, shape: Shape) -> bool:
    """Whether the axes of the input are the last dimensions of a tensor, in order."""
    if not axes or len(shape) < len(axes):
        return False
    first = len(shape) - len(axes)
    return all(own_dims((terms,)) == {first + axis} for axis, terms in enumerate(axes))
