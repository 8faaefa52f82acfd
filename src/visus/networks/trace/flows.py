"""What feeds each row of a traced module, and what it looks at it through: the view on which advice works, as a design gives it.

This file knows how the operations of one row are told in the words of ``visus.design.flow``; what it has no word for is
unknown, and advice is silent there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from torch import Tensor

from visus.design.flow import INPUT, Context, Flow, Kind, Normed
from visus.geometry import AxisOp, Window
from visus.networks.trace.calls import Axes, Call, mark_of
from visus.networks.trace.coordinates.axis_dims import own_dims
from visus.networks.trace.coordinates.dependence import Shape
from visus.networks.trace.coordinates.fields import fields_of

_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys((f"{kind}_pool{num}d" for kind in ("max", "avg") for num in (1, 2, 3)), "pool"),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), "pool"),
    **dict.fromkeys((f"adaptive_{kind}_pool{num}d" for kind in ("max", "avg") for num in (1, 2, 3)), "pool"),
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), "pool"),
    **dict.fromkeys(("mean", "amax"), "global pool"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"), "norm"),
    **dict.fromkeys(("native_layer_norm", "layer_norm", "native_group_norm", "group_norm"), "norm"),
    **dict.fromkeys(("_softmax", "softmax"), "softmax"),
    "add": "sum",
    "cat": "stack",
}
MOVES: Final = frozenset(
    ("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "clone", "alias", "detach",
     "_to_copy", "split", "split_with_sizes", "chunk", "unbind")
)  # fmt: skip
"""Operations that compute nothing: they move what is there."""

# ---- where values come from ----


def sources_of(value: Tensor) -> frozenset[int]:
    """The places of the rows whose outputs a tensor is made of, as far as they have no other row in between."""
    at = mark_of(value)
    while at is not None:
        if at.fed is not None:
            return at.fed
        at = at.source
    return frozenset()


def propagate_producers(call: Call, given: Sequence[Tensor]) -> None:
    """What comes out of an operation is made of what its inputs are made of; what is written into a part is in the whole too.

    Args:
        given: the inputs that depend on the network's input.
    """
    found = sources_of(given[0]) if len(given) == 1 else frozenset().union(*map(sources_of, given))
    for out in outputs(call):
        mark = mark_of(out)
        if mark is None or (mark.source is not None and out is not call.args[0]):
            continue  # a view has what its source has
        if mark.source is None and mark.axes is None:
            continue  # new values, such as zeros of the same shape
        mark.fed = found
        while mark.source is not None:
            mark = mark.source
            mark.fed = (mark.fed or frozenset()) | found


def give(output: Any, place: int) -> None:
    """All tensors of a row's output come from that row."""
    if isinstance(output, Tensor):
        mark = mark_of(output)
        if mark is not None:
            mark.fed = frozenset((place,))
    elif isinstance(output, dict):
        give(list(output.values()), place)
    elif isinstance(output, (list, tuple)):
        for value in output:
            give(value, place)


# ---- what a row does ----


Seen = tuple[Axes, Shape]
"""What a tensor sees, and its shape."""


class OperationRecord(NamedTuple):
    """An operation of a row.

    Args:
        name: the operation.
        given, out: what its inputs see, and what its first output does.
        axis_ops, pads: as in ``Call``.
        over: of a norm, the arguments that say over what it is taken; True for one that is taken over each sample alone.
        is_hull: whether nobody knows what it looks at.
    """

    name: str
    given: tuple[Seen, ...]
    out: Seen
    axis_ops: tuple[AxisOp, ...]
    pads: tuple[tuple[int, int], ...]
    over: Any
    is_hull: bool


def done(call: Call, given: Sequence[Tensor]) -> OperationRecord:
    """An operation, noted down; what follows from it is worked out when advice is asked for."""
    first = next(iter(outputs(call)), None)
    over = _over(call) if _KINDS.get(call.name) == "norm" else None
    return OperationRecord(call.name, tuple(map(_seen, given)), _seen(first), call.axis_ops, call.pads, over, call.is_hull)


def _seen(value: Any) -> Seen:
    mark = mark_of(value)
    return ((), ()) if mark is None else (mark.current() or (), mark.shape)


def _over(call: Call) -> Any:
    if "group" in call.name:
        return call.args[4:7]
    if "layer" in call.name:
        return call.args[1]
    return call.module is not None and type(call.module).__name__.startswith("InstanceNorm")


class RowRecord(NamedTuple):
    """A row as it was noted down.

    Args:
        operations: what it did, in order.
        out: what comes out of it.
        sources: the places of the rows that feed it.
    """

    operations: tuple[OperationRecord, ...]
    out: Seen
    sources: tuple[int, ...]


def noted(operations: Sequence[OperationRecord], out: Tensor | None) -> RowRecord:
    """A row, noted down before its output is said to come from it."""
    sources = () if out is None else tuple(sorted(sources_of(out), reverse=True))
    return RowRecord(tuple(operations), _seen(out), sources)


def flows_of_rows(rows: Sequence[RowRecord], input_shape: Shape) -> tuple[Flow, ...]:
    """The flows of a traced module's rows."""
    shapes = {place: row.out[1][1:] for place, row in enumerate(rows)} | {INPUT: input_shape}
    return tuple(_flow(row, [shapes[source] for source in row.sources]) for row in rows)


def _flow(row: RowRecord, shapes: Sequence[Shape]) -> Flow:
    """A row in the words of advice; ``shapes`` are those of what feeds it, without the batch axis."""
    work = _Work()
    for operation in row.operations:
        work.add(operation)
    axes, shape = row.out
    kind: Kind = work.kinds[0] if len(work.kinds) == 1 else "values" if work.kinds or not work.pads else "window"
    entered = row.operations[0].given if row.operations else (row.out,)  # nothing was done: what comes out is what came in
    ends = (*entered, row.out)
    is_known = not work.is_lost and bool(axes) and all(_lies_last(*each) for each in ends)
    is_known &= all(len(each[1]) == len(axes) + 2 for each in ends)
    is_known &= all(given in {each[1][1:] for each in entered} for given in shapes)
    context = _context(work, entered, row.out, is_known)
    return Flow(kind, shape[1:], row.sources, work.window() if is_known and context == "local" else (), context, work.normed)


def _context(work: _Work, entered: Sequence[Seen], out: Seen, is_known: bool) -> Context:
    if out[0] and all(field.stride == 0 for field in fields_of(*out)):
        return "global"
    looks = bool(work.axis_ops or work.pads)
    if not is_known or (looks and (work.mixes or work.num_joined)):
        return "unknown"
    if not work.mixes or work.axis_ops:
        return "local"
    pairs = zip(fields_of(*entered[0]), fields_of(*out), strict=True)
    same = all((one.size, one.stride, one.start) == (two.size, two.stride, two.start) for one, two in pairs)
    return "both" if same else "unknown"


class _Work:
    """What the operations of one row come to."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.axis_ops: tuple[AxisOp, ...] = ()
        self.pads: tuple[tuple[int, int, bool], ...] = ()  # before, after, whether mirrored
        self.normed: Normed | None = None
        self.num_joined = 0
        self.mixes = False  # whether something looked at more than its own position
        self.is_lost = False  # whether there is no word for what was looked at

    def add(self, operation: OperationRecord) -> None:
        """One more operation."""
        if operation.name in MOVES:
            return
        kind = _KINDS.get(operation.name)
        self.is_lost |= operation.is_hull
        if operation.axis_ops or operation.pads:
            self._look(operation, kind or "window")
        elif len(operation.given) > 1:
            self.num_joined += 1
            self.kinds.append(kind if kind in ("sum", "stack") else "values")
        else:
            is_calm = bool(operation.given) and _is_same(operation.given[0][0], operation.out[0])
            self.mixes |= not is_calm
            if kind in ("norm", "softmax") or (kind in ("pool", "global pool") and not is_calm):
                one = math.prod(operation.out[1][2:]) == 1
                self.kinds.append("global pool" if kind == "pool" and one else kind)
                self.normed = _normed(operation) if kind == "norm" else None
            elif not is_calm:
                self.kinds.append("values")

    def _look(self, operation: OperationRecord, kind: Kind) -> None:
        """A window, or padding in front of one."""
        axes, shape = operation.given[0]
        num_axes = len(axes)
        self.is_lost |= bool(self.axis_ops) or self.mixes or bool(self.num_joined) or not _lies_last(axes, shape)
        if operation.axis_ops:
            more, self.axis_ops = operation.axis_ops[:-num_axes], operation.axis_ops[-num_axes:]
            self.is_lost |= len(self.axis_ops) != num_axes or any(axis_op.span != 1 or axis_op.jump != 1 for axis_op in more)
            self.kinds.append(kind)
            return
        name, pads = operation.name, operation.pads
        known = name == "constant_pad_nd" or name.startswith("reflection")
        self.is_lost |= bool(self.pads) or not known or len(pads) > num_axes or min(map(min, pads)) < 0
        missing = ((0, 0),) * (num_axes - len(pads))
        self.pads = tuple((*pad, name[0] == "r") for pad in (*missing, *pads))

    def window(self) -> tuple[AxisOp, ...]:
        """What each axis is looked at through, padding in front of it included."""
        axis_ops = self.axis_ops or tuple(Window(1) for _ in self.pads)
        return tuple(map(_padded, axis_ops, self.pads)) if self.pads else axis_ops


def _padded(axis_op: AxisOp, pad: tuple[int, int, bool]) -> AxisOp:
    before, after, is_mirrored = pad
    if not isinstance(axis_op, Window):
        return axis_op
    padding = (axis_op.padding[0] + before, axis_op.padding[1] + after)
    return Window(axis_op.kernel_size, axis_op.stride, padding, axis_op.dilation, axis_op.ceil_mode, is_mirrored)


def _normed(operation: OperationRecord) -> Normed | None:
    shape, over = operation.given[0][1], operation.over
    if "group" in operation.name:
        channels, positions, num_groups = over
        return Normed("group", channels, num_groups, channels // num_groups * positions)
    if "layer" in operation.name:
        return Normed("layer", shape[1] if len(shape) > 1 else 1, 1, math.prod(over))
    return Normed("batch", shape[1], 1, math.prod(shape[2:])) if not over and len(shape) > 1 else None


def outputs(call: Call) -> Sequence[Any]:
    """The tensors that came out of an operation."""
    if isinstance(call.out, (list, tuple)):
        return call.out
    return () if call.out is None else (call.out,)


def _is_same(one: Axes, other: Axes) -> bool:
    """Whether two tensors see the same, place by place."""
    if one is other:
        return True
    if len(one) != len(other):
        return False
    return all(
        len(terms) == len(others) and all(a is b for a, b in zip(terms, others, strict=True))
        for terms, others in zip(one, other, strict=True)
    )


def _lies_last(axes: Axes | None, shape: Shape) -> bool:
    """Whether the axes of the input are the last dimensions of a tensor, in order."""
    if not axes or len(shape) < len(axes):
        return False
    first = len(shape) - len(axes)
    return all(own_dims((terms,)) == {first + axis} for axis, terms in enumerate(axes))
