"""The memory of a design: which tensors are alive at each moment of a training step or of an inference, and the most at once.

A walk forward notes what each layer allocates, what it keeps for the backward pass, and what the containers hold while their layers run; a
walk back releases it in reverse order while gradients come and go. Each moment is a number of bytes that is there once and one for each
sample of the batch, so one walk answers every batch size. The figures are those of PyTorch's allocator on the CPU in float32.

This file knows tensors by their size and by who holds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers.layer import BYTES_PER_VALUE, Layer
from visus.design.saved_tensors import EMPTY, Bytes, SavedForBackward, keeping, largest_weight, num_bytes
from visus.errors import UsageError, unknown_name


class Optimizer(NamedTuple):
    """What an optimizer needs.

    Args:
        states: numbers that it keeps for each trained number.
        buffers: copies of the largest weight while it is updated.
    """

    states: int
    buffers: int


OPTIMIZERS: Final = {"adamw": Optimizer(2, 2), "sgd": Optimizer(1, 2), "none": Optimizer(0, 0)}
"""As PyTorch computes them on a CPU: adamw; sgd with Nesterov momentum and decay, as visus trains; a step that keeps nothing."""


class Memory(Protocol):
    """What an account asks for its bytes."""

    def training(self, batch_size: int, optimizer: str) -> int:
        """Most bytes at once in a training step."""

    def inference(self, batch_size: int) -> int:
        """Most bytes at once in an inference."""

    def saved(self, batch_size: int) -> int:
        """Bytes that are kept for the backward pass."""

    def standing(self, optimizer: str) -> int:
        """Bytes of weights, buffers and the optimizer's numbers, which are there at every moment."""


@dataclass(frozen=True)
class Moments:
    """The moments of a training step and of an inference at which most bytes are alive, for any batch size.

    Args:
        weights: bytes of trained values and buffers.
        trained: bytes of trained values.
        largest: bytes of the largest weight.
        step: the moments of forward and backward, weights left out.
        forward: the moments of an inference, weights left out.
        kept: what is kept for the backward pass.
        after: what is still alive when the optimizer works, weights and gradients left out.
    """

    weights: int
    trained: int
    largest: int
    step: tuple[Bytes, ...]
    forward: tuple[Bytes, ...]
    kept: Bytes
    after: Bytes

    def training(self, batch_size: int, optimizer: str) -> int:
        """Most bytes at once in a training step."""
        checked_batch_size(batch_size)
        needs = optimizer_of(optimizer)
        update = self.after.of(batch_size) + self.trained + needs.buffers * self.largest
        most = max([update, *(moment.of(batch_size) for moment in self.step)])
        return self.standing(optimizer) + most

    def inference(self, batch_size: int) -> int:
        """Most bytes at once in an inference."""
        checked_batch_size(batch_size)
        return self.weights + max((moment.of(batch_size) for moment in self.forward), default=0)

    def saved(self, batch_size: int) -> int:
        """Bytes that are kept for the backward pass."""
        return self.kept.of(checked_batch_size(batch_size))

    def standing(self, optimizer: str) -> int:
        """Bytes of weights, buffers and the optimizer's numbers, which are there at every moment."""
        return self.weights + optimizer_of(optimizer).states * self.trained


def optimizer_of(name: str) -> Optimizer:
    """What the optimizer of this name needs.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in OPTIMIZERS:
        raise UsageError(unknown_name("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def checked_batch_size(batch_size: int) -> int:
    """The batch size.

    Raises:
        UsageError: it is no whole number from 1 on.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise UsageError(f"the batch size must be a whole number from 1 on, not {batch_size!r}.")
    return batch_size


def memory_of_nodes(nodes: Many[Node], input_shape: Shape) -> tuple[Moments, tuple[int, ...]]:
    """The memory of nodes one after another, and what each row of their account keeps for one sample, in the rows' order.

    The loss is a cross-entropy, and keeps as much as goes out. The batch is counted, its labels are not. Gradients are given back before
    the forward pass.
    """
    training = _Walk(keeps=True)
    x = training.given(input_shape)
    y = training.through(nodes, x)
    training.loss(y)
    training.back()
    inference = _Walk(keeps=False)
    inference.through(nodes, inference.given(input_shape))
    inside = [node for top in nodes for node in top.walk()]
    layers = [(node.layer, node.input_shape) for node in inside if isinstance(node.layer, Layer)]
    kept = Bytes(training.kept_fixed, sum(training.rows) + training.kept_by_loss)
    moments = Moments(
        sum(layer.bytes_weights(shape) for layer, shape in layers),
        BYTES_PER_VALUE * sum(node.num_parameters for node in nodes),
        max((BYTES_PER_VALUE * largest_weight(layer, shape) for layer, shape in layers), default=0),
        _undominated(training.moments),
        _undominated(inference.moments),
        kept,
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
    """Bytes of one sample of a tensor and of its views; how many hold them."""

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
class _Step:
    """What the backward pass needs to know of a layer, a sum, a stack or the loss."""

    inputs: tuple[_Tensor, ...]
    output: _Tensor
    kept: list[_Storage] = field(default_factory=list)
    keeping: SavedForBackward = field(default_factory=SavedForBackward)
    trained: int = 0
    kind: Literal["layer", "sum", "stack", "loss"] = "layer"


class _Gradient(NamedTuple):
    storage: _Storage
    is_part: bool = False  # a view of some of the channels of a gradient
    is_channels_last: bool = False  # its channels lie side by side in memory


class _Walk:
    """One walk through a design: what is alive, and the most that ever was."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.fixed = self.sample = self.kept_fixed = self.kept_by_loss = 0
        self.moments: list[Bytes] = []
        self.rows: list[int] = []
        self.tape: list[_Step] = []
        self.counted: set[int] = set()  # storages that a layer keeps already
        self.num_tensors = 0

    # ---- who holds what ----

    def hold(self, storage: _Storage) -> None:
        if storage.holders == 0:
            self.sample += storage.sample
        storage.holders += 1

    def drop(self, storage: _Storage) -> None:
        storage.holders -= 1
        if storage.holders == 0:
            self.sample -= storage.sample

    def note(self, *more: Bytes) -> None:
        """A moment: what is alive, and the largest of the buffers beside it."""
        for buffers in more or (EMPTY,):
            self.moments.append(Bytes(self.fixed + buffers.fixed, self.sample + buffers.sample))

    def tensor(
        self, shape: Shape, *, has_gradient: bool, is_channels_last: bool = False, view_of: _Storage | None = None
    ) -> _Tensor:
        """A new tensor, held by whoever asked for it."""
        self.num_tensors += 1
        found = _Tensor(shape, view_of or _Storage(num_bytes(shape)), self.num_tensors, has_gradient, is_channels_last)
        self.hold(found.storage)
        return found

    def given(self, shape: Shape) -> _Tensor:
        """The input, which its owner holds throughout."""
        x = self.tensor(shape, has_gradient=False)
        self.note()
        return x

    # ---- forward ----

    def through(self, nodes: Many[Node], x: _Tensor) -> _Tensor:
        """What nodes one after another make of ``x``, which the caller goes on holding."""
        current = x
        self.hold(x.storage)
        for node in nodes:
            following = self.node(node, current)
            self.drop(current.storage)
            current = following
        return current

    def node(self, node: Node, x: _Tensor) -> _Tensor:
        item = node.layer
        if isinstance(item, Layer):
            return self.layer(item, x, node)
        if isinstance(item, Residual):
            return self.residual(node, x)
        ends = [self.through(branch, x) for branch in node.branches]
        if not isinstance(item, Concat):
            for other in ends[1:]:  # branches of a design that failed
                self.drop(other.storage)
            return ends[0]
        return self.joined("stack", tuple(ends), node.output_shape)

    def residual(self, node: Node, x: _Tensor) -> _Tensor:
        body = self.through(node.branches[0], x)
        shortcut = self.through(node.branches[1] if len(node.branches) > 1 else (), x)
        return self.joined("sum", (body, shortcut), node.output_shape)

    def joined(self, kind: Literal["sum", "stack"], ends: tuple[_Tensor, ...], shape: Shape) -> _Tensor:
        """The sum or the stack of the ends of paths."""
        has_gradient = any(end.has_gradient for end in ends)
        is_channels_last = ends[0].is_channels_last if kind == "sum" else all(end.is_channels_last for end in ends)
        y = self.tensor(shape, has_gradient=has_gradient, is_channels_last=is_channels_last)
        self.note()
        self.rows.append(0)
        if self.keeps and has_gradient:
            self.tape.append(_Step(ends, y, kind=kind))
        for end in ends:
            self.drop(end.storage)
        return y

    def layer(self, layer: Layer, x: _Tensor, node: Node) -> _Tensor:
        kept = keeping(layer, node.input_shape, node.output_shape, is_channels_last=x.is_channels_last)
        is_view = kept.is_view or (not self.keeps and layer.word in ("dropout", "droppath"))
        trained = BYTES_PER_VALUE * node.num_parameters
        y = self.tensor(
            node.output_shape,
            has_gradient=x.has_gradient or trained > 0,
            is_channels_last=(x.is_channels_last or kept.turns) and len(node.output_shape) > 1,
            view_of=x.storage if is_view else None,
        )
        step = _Step((x,), y, keeping=kept, trained=trained)
        if self.keeps and y.has_gradient:
            self.keep(step)
            self.tape.append(step)
            self.note(*kept.forward)
            return y
        if self.keeps:
            self.rows.append(0)
        before = self.fixed, self.sample  # what is made beside is given back at once
        self.fixed, self.sample = self.fixed + kept.extra.fixed, self.sample + (0 if is_view else kept.extra.sample)
        self.note(*kept.forward)
        self.fixed, self.sample = before
        return y

    def keep(self, step: _Step) -> None:
        """Keep for the backward pass what the layer needs of its input, its output, and what it made beside."""
        kept, (x,), y = step.keeping, step.inputs, step.output
        step.kept += [x.storage] * kept.input + [y.storage] * kept.output
        count = kept.extra.sample
        for storage in step.kept:
            self.hold(storage)
            if id(storage) not in self.counted:
                self.counted.add(id(storage))
                count += storage.sample
        self.rows.append(count)
        self.fixed, self.sample = self.fixed + kept.extra.fixed, self.sample + kept.extra.sample
        self.kept_fixed += kept.extra.fixed

    def loss(self, y: _Tensor) -> None:
        """A cross-entropy: the logarithm of the softmax has the size of what goes out, and is kept."""
        if not y.has_gradient:
            return
        shares = self.tensor(y.shape, has_gradient=True)
        self.kept_by_loss = shares.storage.sample
        self.tape.append(_Step((y,), shares, [shares.storage], kind="loss"))
        self.note()

    # ---- backward ----

    def back(self) -> None:
        """The backward pass: the last step first."""
        if not self.tape:
            return
        gradients: dict[int, _Gradient] = {}
        last = self.tape[-1].output
        first = _Gradient(_Storage(last.storage.sample))
        self.hold(first.storage)
        gradients[last.number] = first
        for step in reversed(self.tape):
            arrived = gradients.pop(step.output.number, None)
            if arrived is not None:
                self.step_back(step, arrived, gradients)

    def step_back(self, step: _Step, given: _Gradient, gradients: dict[int, _Gradient]) -> None:
        """One step of it: ``given`` is the gradient of what went out."""
        inputs = [x for x in step.inputs if x.has_gradient]
        found = []
        for x in inputs:
            if step.kind in ("sum", "stack"):
                found.append(_Gradient(given.storage, step.kind == "stack" or given.is_part, given.is_channels_last))
            elif step.keeping.is_view:
                found.append(given)
            else:
                found.append(_Gradient(_Storage(x.storage.sample), False, _turned_after(step, given)))
            self.hold(found[-1].storage)
        if step.kind in ("layer", "loss"):
            self.work(step, given, to_input=bool(inputs))
        for x, gradient in zip(inputs, found, strict=True):
            self.arrive(x, gradient, gradients)
        self.drop(given.storage)

    def work(self, step: _Step, given: _Gradient, *, to_input: bool) -> None:
        """The moments while the gradients of a layer are computed; what it kept is given back after them."""
        self.fixed += step.trained
        is_in_order = not given.is_part and given.is_channels_last == step.output.is_channels_last
        in_order = step.output.storage.sample if step.keeping.copies and not is_in_order else 0
        buffers = (*step.keeping.backward, *(step.keeping.to_input if to_input else ())) or (EMPTY,)
        self.note(*(Bytes(each.fixed, each.sample + in_order) for each in buffers))
        for storage in step.kept:
            self.drop(storage)
        self.fixed, self.sample = self.fixed - step.keeping.extra.fixed, self.sample - step.keeping.extra.sample

    def arrive(self, x: _Tensor, found: _Gradient, gradients: dict[int, _Gradient]) -> None:
        """A gradient comes to a tensor, and is added to what is there."""
        there = gradients.get(x.number)
        if there is None:
            gradients[x.number] = found
            return
        total = there
        if total.is_part or total.storage.holders > 1:  # another looks at it, so that the sum needs a place of its own
            total = _Gradient(_Storage(x.storage.sample), False, there.is_channels_last)
            self.hold(total.storage)
            self.note()
            self.drop(there.storage)
        self.drop(found.storage)
        gradients[x.number] = total


def _turned_after(step: _Step, given: _Gradient) -> bool:
    """Whether the channels of the gradient that a layer makes lie side by side in memory."""
    (x,) = step.inputs
    if len(step.output.shape) < len(x.shape):
        return False  # the same number for all positions, written in the usual order
    if step.keeping.copies or step.output.shape != x.shape:
        return x.is_channels_last or step.keeping.turns
    return given.is_channels_last
