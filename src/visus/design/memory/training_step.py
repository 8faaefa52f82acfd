"""The memory of a design: which tensors are alive at each moment of a training step or of an inference, and the largest total.

The forward pass notes what each layer allocates, what autograd saves, and what the containers hold while their layers run; the
backward pass frees it in reverse order while gradients come and go. Each moment has fixed bytes and bytes for each sample,
so one walk is enough for every batch size.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Residual
from visus.design.layers.layer import Layer
from visus.design.memory.moments import Moments
from visus.design.memory.saved import BYTES_PER_VALUE, EMPTY, Bytes, SavedForBackward, num_bytes
from visus.design.walk import Walk


def memory_of_nodes(nodes: Many[Node], input_shape: Shape) -> tuple[Moments, tuple[int, ...]]:
    """The memory of a sequence of nodes, and the bytes that autograd saves per row of the account and per sample.

    The loss is a cross-entropy, which saves as much as the output. The batch is included, its labels are not. Gradients are
    freed before
    the forward pass (``zero_grad``).
    """
    training = _Step(trains=True)
    y = training.through(nodes, training.input(input_shape))
    training.loss(y)
    training.backward()
    inference = _Step(trains=False)
    inference.through(nodes, inference.input(input_shape))
    inside = [node for top in nodes for node in top.walk()]
    layers = [(node.layer, node.input_shape) for node in inside if isinstance(node.layer, Layer)]
    saved = Bytes(training.saved_fixed, sum(training.rows) + training.saved_by_loss)
    moments = Moments(
        sum(layer.bytes_weights(shape) for layer, shape in layers),
        BYTES_PER_VALUE * sum(node.num_parameters for node in nodes),
        max((BYTES_PER_VALUE * layer.largest_weight(shape) for layer, shape in layers), default=0),
        _undominated(training.moments),
        _undominated(inference.moments),
        saved,
        Bytes(0, num_bytes(input_shape) + num_bytes(y.shape)),
    )
    return moments, tuple(training.rows)


def _undominated(moments: Iterable[Bytes]) -> tuple[Bytes, ...]:
    """The moments that can be the largest for some batch size."""
    found: list[Bytes] = []
    for moment in sorted(set(moments), key=lambda each: (-each.sample, -each.fixed)):
        if not found or moment.fixed > found[-1].fixed:
            found.append(moment)
    return tuple(found)


class _Storage:
    """Bytes of one sample of a tensor and its views, and the number of holders."""

    __slots__ = ("holders", "sample")

    def __init__(self, sample: int) -> None:
        self.sample, self.holders = sample, 0


class _Tensor(NamedTuple):
    shape: Shape
    storage: _Storage
    number: int  # of the tensor, in the order of computation
    has_gradient: bool
    is_channels_last: bool


@dataclass
class _Operation:
    """What the backward pass needs to know of a layer, a sum, a stack or the loss."""

    inputs: tuple[_Tensor, ...]
    output: _Tensor
    storages: list[_Storage] = field(default_factory=list)  # saved for backward
    saved: SavedForBackward = field(default_factory=SavedForBackward)
    weight_bytes: int = 0
    kind: Literal["layer", "sum", "stack", "loss"] = "layer"


class _Gradient(NamedTuple):
    storage: _Storage
    is_part: bool = False  # a view of some of the channels of a gradient
    is_channels_last: bool = False


class _Step(Walk[_Tensor]):
    """A training step or an inference: the bytes that are alive, and all moments so far."""

    def __init__(self, *, trains: bool) -> None:
        self.trains = trains
        self.fixed = self.sample = self.saved_fixed = self.saved_by_loss = 0
        self.moments: list[Bytes] = []
        self.rows: list[int] = []
        self.tape: list[_Operation] = []
        self.counted: set[int] = set()  # storages that are saved already
        self.num_tensors = 0

    # ---- references ----

    def hold(self, value: _Tensor) -> None:
        self.reference(value.storage)

    def release(self, value: _Tensor) -> None:
        self.dereference(value.storage)

    def reference(self, storage: _Storage) -> None:
        if storage.holders == 0:
            self.sample += storage.sample
        storage.holders += 1

    def dereference(self, storage: _Storage) -> None:
        storage.holders -= 1
        if storage.holders == 0:
            self.sample -= storage.sample

    def note(self, *buffers_at: Bytes) -> None:
        """Add one moment for each of these buffers: the live bytes plus the buffer."""
        for buffers in buffers_at or (EMPTY,):
            self.moments.append(Bytes(self.fixed + buffers.fixed, self.sample + buffers.sample))

    def tensor(
        self, shape: Shape, *, has_gradient: bool, is_channels_last: bool = False, view_of: _Storage | None = None
    ) -> _Tensor:
        """A new tensor with one holder."""
        self.num_tensors += 1
        found = _Tensor(shape, view_of or _Storage(num_bytes(shape)), self.num_tensors, has_gradient, is_channels_last)
        self.reference(found.storage)
        return found

    def input(self, shape: Shape) -> _Tensor:
        """The batch, which is held throughout."""
        x = self.tensor(shape, has_gradient=False)
        self.note()
        return x

    # ---- forward ----

    def join(self, node: Node, ends: Many[_Tensor]) -> _Tensor:
        """The sum or the concatenation of the outputs of several paths."""
        is_sum = isinstance(node.layer, Residual)
        has_gradient = any(end.has_gradient for end in ends)
        is_channels_last = ends[0].is_channels_last if is_sum else all(end.is_channels_last for end in ends)
        y = self.tensor(node.output_shape, has_gradient=has_gradient, is_channels_last=is_channels_last)
        self.note()
        self.rows.append(0)
        if self.trains and has_gradient:
            self.tape.append(_Operation(tuple(ends), y, kind="sum" if is_sum else "stack"))
        for end in ends:
            self.release(end)
        return y

    def layer(self, node: Node, layer: Layer, value: _Tensor) -> _Tensor:
        saved = layer.saved_for_backward(node.input_shape, node.output_shape, is_channels_last=value.is_channels_last)
        is_view = saved.is_view or (not self.trains and layer.is_training_only)
        weight_bytes = BYTES_PER_VALUE * node.num_parameters
        y = self.tensor(
            node.output_shape,
            has_gradient=value.has_gradient or weight_bytes > 0,
            is_channels_last=(value.is_channels_last or saved.to_channels_last) and len(node.output_shape) > 1,
            view_of=value.storage if is_view else None,
        )
        if self.trains and y.has_gradient:
            operation = _Operation((value,), y, saved=saved, weight_bytes=weight_bytes)
            self.save(operation)
            self.tape.append(operation)
            self.note(*saved.forward)
            return y
        if self.trains:
            self.rows.append(0)
        before = self.fixed, self.sample  # extra bytes are freed at once
        self.fixed, self.sample = self.fixed + saved.extra.fixed, self.sample + (0 if is_view else saved.extra.sample)
        self.note(*saved.forward)
        self.fixed, self.sample = before
        return y

    def save(self, operation: _Operation) -> None:
        """Hold what a layer saves for the backward pass: its input, its output, extra bytes."""
        saved, (x,), y = operation.saved, operation.inputs, operation.output
        operation.storages += [x.storage] * saved.input + [y.storage] * saved.output
        count = saved.extra.sample
        for storage in operation.storages:
            self.reference(storage)
            if id(storage) not in self.counted:
                self.counted.add(id(storage))
                count += storage.sample
        self.rows.append(count)
        self.fixed, self.sample = self.fixed + saved.extra.fixed, self.sample + saved.extra.sample
        self.saved_fixed += saved.extra.fixed

    def loss(self, y: _Tensor) -> None:
        """A cross-entropy: the log-probabilities have the size of the output, and are saved."""
        if not y.has_gradient:
            return
        log_probabilities = self.tensor(y.shape, has_gradient=True)
        self.saved_by_loss = log_probabilities.storage.sample
        self.tape.append(_Operation((y,), log_probabilities, [log_probabilities.storage], kind="loss"))
        self.note()

    # ---- backward ----

    def backward(self) -> None:
        """The backward pass: the last operation first."""
        if not self.tape:
            return
        gradients: dict[int, _Gradient] = {}
        last = self.tape[-1].output
        first = _Gradient(_Storage(last.storage.sample))
        self.reference(first.storage)
        gradients[last.number] = first
        for operation in reversed(self.tape):
            gradient = gradients.pop(operation.output.number, None)
            if gradient is not None:
                self.backward_of(operation, gradient, gradients)

    def backward_of(self, operation: _Operation, gradient: _Gradient, gradients: dict[int, _Gradient]) -> None:
        """The backward pass of one operation, given the gradient of its output."""
        inputs = [x for x in operation.inputs if x.has_gradient]
        to_inputs = []
        for x in inputs:
            if operation.kind in ("sum", "stack"):
                is_part = operation.kind == "stack" or gradient.is_part
                to_inputs.append(_Gradient(gradient.storage, is_part, gradient.is_channels_last))
            elif operation.saved.is_view:
                to_inputs.append(gradient)
            else:
                is_channels_last = _gradient_is_channels_last(operation, gradient)
                to_inputs.append(_Gradient(_Storage(x.storage.sample), False, is_channels_last))
            self.reference(to_inputs[-1].storage)
        if operation.kind in ("layer", "loss"):
            self.compute(operation, gradient, to_input=bool(inputs))
        for x, to_input in zip(inputs, to_inputs, strict=True):
            self.accumulate(x, to_input, gradients)
        self.dereference(gradient.storage)

    def compute(self, operation: _Operation, gradient: _Gradient, *, to_input: bool) -> None:
        """The moments while the gradients of a layer are computed; its saved tensors are freed afterwards."""
        self.fixed += operation.weight_bytes
        saved, output = operation.saved, operation.output
        is_in_format = not gradient.is_part and gradient.is_channels_last == output.is_channels_last
        copy = output.storage.sample if saved.copies and not is_in_format else 0
        buffers = (*saved.backward, *(saved.to_input if to_input else ())) or (EMPTY,)
        self.note(*(Bytes(each.fixed, each.sample + copy) for each in buffers))
        for storage in operation.storages:
            self.dereference(storage)
        self.fixed, self.sample = self.fixed - saved.extra.fixed, self.sample - saved.extra.sample

    def accumulate(self, x: _Tensor, gradient: _Gradient, gradients: dict[int, _Gradient]) -> None:
        """Add a gradient of a tensor to those from other readers of the tensor."""
        total = gradients.get(x.number)
        if total is None:
            gradients[x.number] = gradient
            return
        if total.is_part or total.storage.holders > 1:  # it is held elsewhere too, so the sum is a new tensor
            new = _Gradient(_Storage(x.storage.sample), False, total.is_channels_last)
            self.reference(new.storage)
            self.note()
            self.dereference(total.storage)
            total = new
        self.dereference(gradient.storage)
        gradients[x.number] = total


def _gradient_is_channels_last(operation: _Operation, gradient: _Gradient) -> bool:
    """Whether the gradient that a layer computes for its input is channels-last."""
    (x,) = operation.inputs
    if len(operation.output.shape) < len(x.shape):
        return False  # one number for all positions is expanded contiguously
    if operation.saved.copies or operation.output.shape != x.shape:
        return x.is_channels_last or operation.saved.to_channels_last
    return gradient.is_channels_last
