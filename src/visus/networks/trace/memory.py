"""The memory of any module: a training step or an inference on tensors without data, each storage followed from its making to its end.

The pass is made when its figure is asked for, not while a module is traced: a step in training mode, with its backward pass, takes ten times as
long as a trace, and most accounts are never asked. It needs no table of what each operation keeps, for autograd itself holds and drops the
tensors; only the buffers inside of operations are added, by the same rules as for designs. So it is the second, independent answer to the
memory of a design. A figure is that of the module as it is when it is first asked for; the module comes back untouched.

This file knows storages, and how a module is run for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from visus.design.memory.convolution_buffers import ConvolutionBuffers
from visus.design.memory.moments import checked_batch_size, optimizer_of
from visus.design.memory.saved import Bytes
from visus.errors import UsageError
from visus.networks.trace.inputs import Inputs
from visus.networks.trace.operators.shapes import bytes_of
from visus.networks.trace.running import unchanged


class _Pass(NamedTuple):
    """What one pass came to, in bytes: the most at once, and what is alive at its end; weights left out of both."""

    highest: int
    end: int


@dataclass(frozen=True)
class ModuleMemory:
    """The bytes of a module at work, found when they are asked for.

    Args:
        module: the module.
        inputs: shapes and dtypes of what it takes.
    """

    module: nn.Module
    inputs: Inputs
    _found: dict[tuple[str, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def training(self, batch_size: int, optimizer: str) -> int:
        """Most bytes at once in a training step."""
        needs = optimizer_of(optimizer)
        step = self._once("training", batch_size, self._step)
        most = max(step.highest, step.end + needs.buffers * max(self._trained(), default=0))
        return self.standing(optimizer) + int(most)

    def inference(self, batch_size: int) -> int:
        """Most bytes at once in an inference."""
        return self._weights() + int(self._once("inference", batch_size, self._inference).highest)

    def saved(self, batch_size: int) -> int:
        """Bytes that are kept for the backward pass."""
        return int(self._once("saved", batch_size, self._saved))

    def standing(self, optimizer: str) -> int:
        """Bytes of weights, buffers and the optimizer's numbers, which are there at every moment."""
        return self._weights() + optimizer_of(optimizer).states * sum(self._trained())

    def _once(self, name: str, batch_size: int, work: Callable[[int], Any]) -> Any:
        key = name, checked_batch_size(batch_size)
        if key not in self._found:
            self._found[key] = work(batch_size)
        return self._found[key]

    def _trained(self) -> list[int]:
        """Bytes of each parameter that is trained."""
        return [value.nbytes for value in self.module.parameters() if value.requires_grad]

    def _weights(self) -> int:
        """Bytes of parameters and buffers; what several modules share counts once."""
        values = {id(value): value for value in (*self.module.parameters(), *self.module.buffers())}
        return sum(bytes_of(value) for value in values.values())

    def _step(self, batch_size: int) -> _Pass:
        with _without_data(self.module, training=True) as values, _Ledger(values) as ledger:
            run = self._run(values, batch_size)
            loss = _loss(run[1])
            if loss is not None:
                loss.backward()  # type: ignore[no-untyped-call]
            del loss
            return _Pass(ledger.highest, ledger.total)

    def _inference(self, batch_size: int) -> _Pass:
        with torch.no_grad(), _without_data(self.module, training=False) as values, _Ledger(values) as ledger:
            self._run(values, batch_size)
            return _Pass(ledger.highest, ledger.total)

    def _saved(self, batch_size: int) -> int:
        found: dict[int, Any] = {}

        def pack(value: Tensor) -> None:  # autograd is given nothing back, for nothing goes backward here
            storage = value.untyped_storage()
            found[storage._cdata] = storage

        with _without_data(self.module, training=True) as values:
            own = {value.untyped_storage()._cdata for value in values.values()}
            with saved_tensors_hooks(pack, lambda nothing: nothing):
                _loss(self._run(values, batch_size)[1])
        return sum(storage.nbytes() for key, storage in found.items() if key not in own)

    def _run(self, values: dict[str, Tensor], batch_size: int) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """The batch, which its owner holds on to, and the outputs."""
        kinds = zip(self.inputs.shapes, self.inputs.dtypes, strict=True)
        batch = tuple(torch.empty(batch_size, *shape, dtype=dtype) for shape, dtype in kinds)
        try:
            return batch, list(_numbers(torch.func.functional_call(self.module, values, batch)))
        except Exception as error:
            sentence = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise UsageError(
                f"the memory of this module is not known, for it fails on tensors without data: {sentence}. "
                "Ask for the other figures only, or measure it with torch.profiler."
            ) from error


def _numbers(output: Any) -> Iterator[Tensor]:
    """All tensors of numbers in an output, however deep; complex ones as their two parts."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
        elif output.is_complex():
            yield torch.view_as_real(output)
    elif isinstance(output, dict):
        yield from _numbers(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _numbers(each)


def _loss(outputs: Sequence[Tensor]) -> Tensor | None:
    """The sum of a number for each output that has a gradient; it keeps, and makes on its way back, what a cross-entropy does."""
    losses = [output.log_softmax(min(1, output.dim() - 1)).mean() for output in outputs if output.requires_grad]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0] if losses else None


@contextmanager
def _without_data(module: nn.Module, *, training: bool) -> Iterator[dict[str, Tensor]]:
    """Stand-ins without data for parameters and buffers; the module comes back as it was."""
    with unchanged(module, training=training), FakeTensorMode(allow_non_fake_inputs=True):
        values: dict[str, Tensor] = {
            name: nn.Parameter(_stand_in(value), requires_grad=value.requires_grad)
            for name, value in module.named_parameters()
        }
        values.update((name, _stand_in(value)) for name, value in module.named_buffers())
        yield values


def _stand_in(value: Tensor) -> Tensor:
    """A tensor of the same kind on the CPU, without data."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all storages that are made while it is on, and takes them off when they go.

    Args:
        values: stand-ins of parameters and buffers, which do not count.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.highest = 0
        self.alive: dict[int, weakref.ref[Any]] = {}
        self.own = {value.untyped_storage()._cdata for value in values.values()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(value, Tensor):
                self.enter(value.untyped_storage())
        work = _BUFFERS.get(func)
        moments = work(args, out) if work is not None else 0
        self.highest = max(self.highest, self.total + moments)
        return out

    def enter(self, storage: Any) -> None:
        """Count a storage, if it is new."""
        key = storage._cdata
        if key not in self.alive and key not in self.own:
            num_bytes = storage.nbytes()
            self.total += num_bytes

            def left(_: Any) -> None:
                del self.alive[key]
                self.total -= num_bytes

            self.alive[key] = weakref.ref(storage, left)


def _convolution_of(
    x: Tensor, weight: Tensor, y_shape: Sequence[int], stride: Sequence[int], is_transposed: bool, groups: int
) -> ConvolutionBuffers:
    return ConvolutionBuffers(
        tuple(x.shape[1:]),
        tuple(y_shape[1:]),
        weight.nbytes,
        num_taps=weight[0, 0].numel(),
        num_groups=groups,
        is_strided=any(step > 1 for step in stride),
        is_transposed=is_transposed,
        is_channels_last=_is_turned(x),
    )


def _is_turned(value: Tensor) -> bool:
    """Whether the channels of a map lie side by side in memory."""
    return value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def _most(moments: Sequence[Bytes], num_samples: int) -> int:
    return max((moment.of(num_samples) for moment in moments), default=0)


def _forward_convolution(args: Any, out: Any) -> int:
    x, weight, _, stride, _, _, is_transposed, _, groups = args
    return _most(_convolution_of(x, weight, out.shape, stride, is_transposed, groups).forward(), len(x))


def _backward_convolution(args: Any, out: Any) -> int:
    given, x, weight, _, stride, _, _, is_transposed, _, groups = args[:10]
    facts = _convolution_of(x, weight, given.shape, stride, is_transposed, groups)
    moments = (*(facts.backward() if out[1] is not None else ()), *(facts.to_input() if out[0] is not None else ()))
    is_in_order = _is_turned(given) if facts.is_channels_last else given.is_contiguous()
    return _most(moments, len(x)) + (0 if is_in_order else given.nbytes)


def _copies(*places: int) -> Callable[[Any, Any], int]:
    """Copies of the arguments at these places that do not lie in order."""

    def count(args: Any, out: Any) -> int:
        return sum(_size(args[place]) for place in places if not args[place].is_contiguous())

    return count


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _backward_batch_norm(args: Any, out: Any) -> int:
    made = _size(args[1]) if args[9][0] else 0  # where it is not asked for, the gradient of the input is made all the same
    return made + (0 if args[0].is_contiguous() == args[1].is_contiguous() else _size(args[0]))


def _forward_upsample(args: Any, out: Any) -> int:
    return 0 if _is_turned(args[0]) else _size(args[0]) + _size(out)


_aten: Final = torch.ops.aten
_BUFFERS: Final[dict[Any, Callable[[Any, Any], int]]] = {
    _aten.convolution.default: _forward_convolution,
    _aten.convolution_backward.default: _backward_convolution,
    _aten.native_batch_norm_backward.default: _backward_batch_norm,
    _aten.native_layer_norm.default: _copies(0),
    _aten.native_layer_norm_backward.default: _copies(0, 1),
    _aten.upsample_nearest2d.default: _forward_upsample,
    _aten.upsample_bilinear2d.default: _forward_upsample,
}
"""Bytes of the buffers of an operation while it is computed, beside what comes in and out."""
