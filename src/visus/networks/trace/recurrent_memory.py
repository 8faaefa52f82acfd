"""The memory of recurrent layers on long sequences, computed from two short ones.

PyTorch runs a recurrent layer step by step. Every step allocates, saves and frees the same bytes, so after each operator the
allocated bytes are a linear function of the number of steps. Two short runs give this function, and a long sequence costs
no more time than they do. Lengths up to the longer one run as they are.

A bidirectional layer runs step by step, for its two directions share memory.

Letters of shapes: T time steps, N samples, F features, H hidden features.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from visus.networks.trace.operators.recurrent import recurrent_operator
from visus.networks.trace.storages import StorageCounter

LENGTHS: Final = (8, 9)
"""Time steps of the two short runs: enough that the first and the last steps, which differ from the others, are apart."""


class ShortSequences(TorchFunctionMode):
    """Replaces each recurrent layer on a long sequence by one operator that allocates, saves and frees as many bytes.

    Args:
        counter: counts the bytes of the run; None if nobody counts.
    """

    def __init__(self, counter: StorageCounter | None = None) -> None:
        super().__init__()
        self.counter = counter
        self.found: dict[Any, _Runs | None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs or recurrent_operator(func, args) is None or args[0].dim() != 3:
            return func(*args, **(kwargs or {}))
        has_projection = len(args[2]) == args[4] * (5 if args[3] else 3)
        if func is torch.lstm and not has_projection and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return func(*args)  # oneDNN's layer is one operator already
        is_long = not args[7] and args[0].shape[1 if args[8] else 0] > LENGTHS[1]
        return self._stacked(func, args) if is_long else func(*args)

    def _stacked(self, func: Any, args: Sequence[Any]) -> Any:
        """All layers of ``func(x, hx, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)``."""
        x, hx, weights, has_biases, num_layers, dropout, is_training, _, is_batch_first = args
        states = [hx] if isinstance(hx, Tensor) else list(hx)
        num_own = len(weights) // num_layers
        values, ends = x.transpose(0, 1) if is_batch_first else x, []
        for layer in range(num_layers):
            own = weights[layer * num_own : (layer + 1) * num_own]
            values, *last = self._one(func, values, [state[layer : layer + 1] for state in states], own, has_biases)
            ends.append(last)
            if dropout and is_training and layer < num_layers - 1:
                values = torch.dropout(values, dropout, is_training)
        last = ends[0] if len(ends) == 1 else [torch.cat(each) for each in zip(*ends, strict=True)]
        return (values.transpose(0, 1) if is_batch_first else values, *last)

    def _one(self, func: Any, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], has_biases: bool) -> Any:
        """One layer in one direction, T N F: as one operator, or as it is if its steps do not all allocate the same."""
        tensors = (x, *states, *weights)
        key = (
            func,
            torch.is_grad_enabled(),
            tuple((value.shape, value.dtype, value.requires_grad) for value in tensors),
            _order(x),
        )
        if key not in self.found:
            short_runs = _Runs(func, tensors, len(states), has_biases, self.counter)
            self.found[key] = short_runs if short_runs.are_alike() else None
        runs = self.found[key]
        if runs is None:
            hx = states[0] if len(states) == 1 else list(states)
            return func(x, hx, list(weights), has_biases, 1, 0.0, False, False, False)
        return _AsOne.apply(runs, *tensors)  # type: ignore[no-untyped-call]


@dataclass
class _Run:
    """One short run: the operators with the bytes that are allocated after each.

    Args:
        outputs: shapes of the outputs.
        forward: operators of the forward pass, and bytes.
        backward: operators of the backward pass, and bytes beyond those at its start; empty without gradients.
        alive: bytes that stay allocated for the backward pass, without inputs, weights and outputs.
        saved: bytes of them that autograd saves.
        saved_inputs: places of the inputs and first states that autograd saves.
    """

    outputs: list[tuple[int, ...]]
    forward: list[tuple[Any, int]]
    backward: list[tuple[Any, int]]
    alive: int
    saved: int
    saved_inputs: list[int]


class _Runs:
    """Two short runs of a layer in one direction, and what follows from them for a long one.

    Args:
        func: the function of torch.
        tensors: the input, T N F, the first states and the weights.
        num_states: number of first states.
        has_biases: whether the weights have biases.
        counter: counts the bytes of the long run, and nothing of the short ones.
    """

    def __init__(
        self, func: Any, tensors: Sequence[Tensor], num_states: int, has_biases: bool, counter: StorageCounter | None
    ) -> None:
        self.func, self.has_biases, self.num_states, self.counter = func, has_biases, num_states, counter
        self.kinds = [(tuple(value.shape), value.dtype, value.requires_grad) for value in tensors]
        self.order = _order(tensors[0])
        self.num_outputs = 1 + num_states
        self.found: dict[tuple[bool, ...], tuple[_Run, _Run]] = {}

    @property
    def num_steps(self) -> int:
        """T of the long run."""
        return self.kinds[0][0][0]

    def are_alike(self) -> bool:
        """Whether the longer run only repeats steps of the shorter: else the bytes are no linear function of the steps."""
        short, long = self.of((True,) * self.num_outputs)
        return all(_same_ends(one, other) for one, other in ((short.forward, long.forward), (short.backward, long.backward)))

    def of(self, used: tuple[bool, ...]) -> tuple[_Run, _Run]:
        """Both runs, with a gradient for the outputs that are used."""
        if used not in self.found:
            with self.counter.paused() if self.counter is not None else nullcontext():
                self.found[used] = self._run(LENGTHS[0], used), self._run(LENGTHS[1], used)
        return self.found[used]

    def at_length(self, short: int, long: int) -> int:
        """Bytes of the long run that are so many in the short ones."""
        return short + (long - short) * (self.num_steps - LENGTHS[0])

    def peak(self, short: Sequence[tuple[Any, int]], long: Sequence[tuple[Any, int]]) -> int:
        """Peak bytes of the long run: operators of the first steps are matched from the start, those of the last from the end."""
        half = len(short) // 2
        matched = [*zip(short[:half], long[:half], strict=True), *zip(short[half:], long[half - len(short) :], strict=True)]
        return max((self.at_length(one, other) for (_, one), (_, other) in matched), default=0)

    def _run(self, num_steps: int, used: tuple[bool, ...]) -> _Run:
        tensors = [torch.empty(shape, dtype=dtype, requires_grad=grad) for shape, dtype, grad in self.kinds[1:]]
        sizes = (num_steps, *self.kinds[0][0][1:])
        x = torch.empty([sizes[dim] for dim in self.order], dtype=self.kinds[0][1])
        x = x.permute([self.order.index(dim) for dim in range(3)]).requires_grad_(self.kinds[0][2])
        states, weights = tensors[: self.num_states], tensors[self.num_states :]
        own = {value.untyped_storage()._cdata: place for place, value in enumerate((x, *tensors))}
        saved: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            saved[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()
            return value

        steps = _Steps({str(place): value for place, value in enumerate((x, *tensors))})
        with steps, saved_tensors_hooks(pack, lambda value: value):
            hx = states[0] if self.num_states == 1 else states
            outputs = self.func(x, hx, weights, self.has_biases, 1, 0.0, False, False, False)
            num_forward, end = len(steps.levels), steps.total
            shapes = [tuple(out.shape) for out in outputs]
            bytes_saved = sum(num_bytes for key, num_bytes in saved.items() if key not in own)
            saved_inputs = [place for key, place in own.items() if key in saved and place <= self.num_states]
            alive = end - sum(out.untyped_storage().nbytes() for out in outputs)
            marked = [out for out, is_used in zip(_Start.apply(steps, *outputs), used, strict=True) if is_used]  # type: ignore[no-untyped-call]
            if outputs[0].requires_grad:
                torch.stack([out.mean() for out in marked]).sum().backward()  # type: ignore[no-untyped-call]
        backward = [(func, level - steps.start[1]) for func, level in steps.levels[steps.start[0] :]] if steps.start else []
        return _Run(shapes, steps.levels[:num_forward], backward, alive, bytes_saved, saved_inputs)


class _Steps(StorageCounter):  # type: ignore[no-untyped-call]
    """Notes the allocated bytes after each operator, and where the backward pass of the layer starts."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__(values)
        self.levels: list[tuple[Any, int]] = []
        self.start: tuple[int, int] | None = None

    def reach(self, func: Any, level: int) -> None:
        if (
            func.namespace != "prim" and not func.is_view
        ):  # they allocate nothing, and their number at the start grows with T
            self.levels.append((func, level))


class _Start(torch.autograd.Function):
    """Passes tensors on; notes when their gradients are there."""

    @staticmethod
    def forward(ctx: Any, steps: _Steps, *values: Tensor) -> Any:
        ctx.steps = steps
        ctx.set_materialize_grads(False)
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        ctx.steps.start = len(ctx.steps.levels), ctx.steps.total
        return (None, *gradients)


class _AsOne(torch.autograd.Function):
    """A layer in one direction as one operator, without data."""

    @staticmethod
    def forward(ctx: Any, runs: _Runs, *tensors: Tensor) -> Any:
        short, long = runs.of((True,) * runs.num_outputs)
        counter, x = runs.counter, tensors[0]
        if counter is not None:
            counter.reach(runs.func, counter.total + runs.peak(short.forward, long.forward))
        ctx.runs = runs
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad):
            num_bytes = (short.saved, long.saved) if counter is None else (short.alive, long.alive)
            kept = torch.empty(runs.at_length(*num_bytes), dtype=torch.uint8)
            ctx.save_for_backward(kept, *(tensors[place] for place in short.saved_inputs))
        return tuple(
            x.new_empty((runs.num_steps, *shape[1:]) if place == 0 else shape) for place, shape in enumerate(short.outputs)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        runs: _Runs = ctx.runs
        with torch.enable_grad():
            short, long = runs.of(tuple(each is not None for each in gradients))
        if runs.counter is not None:
            runs.counter.reach(runs.func, runs.counter.total + runs.peak(short.backward, long.backward))
            runs.counter.leave(ctx.saved_tensors[0].untyped_storage())
        kinds = zip(runs.kinds, ctx.needs_input_grad[1:], strict=True)
        return (None, *(torch.empty(shape, dtype=dtype) if is_needed else None for (shape, dtype, _), is_needed in kinds))


def _same_ends(short: Sequence[tuple[Any, int]], long: Sequence[tuple[Any, int]]) -> bool:
    """Whether the longer list of operators starts with the first half of the shorter, and ends with its second half."""
    one, other, half = [func for func, _ in short], [func for func, _ in long], len(short) // 2
    return len(other) >= len(one) and one[:half] == other[:half] and one[half:] == other[len(other) - (len(one) - half) :]


def _order(value: Tensor) -> tuple[int, ...]:
    """The dimensions of a tensor from the longest stride to the shortest."""
    strides = value.stride()
    return tuple(sorted(range(value.dim()), key=lambda dim: -strides[dim]))
