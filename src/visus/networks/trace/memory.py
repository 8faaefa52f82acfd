"""The memory of any module: a training step or an inference on tensors without data, which tracks every storage until it is
freed.

The pass runs only on request, not during the trace. A training step with its backward pass takes ten times as long as a
trace, and most accounts do not need it. Autograd itself saves and frees the tensors, so no table of saved tensors is needed;
the registrations of operators add their internal buffers. A figure describes the module at the time of the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from visus.design.memory.moments import checked_batch_size, optimizer_of
from visus.errors import UsageError
from visus.networks.failures import flattened_batch
from visus.networks.own_code import layer_and_input
from visus.networks.trace.inputs import Inputs
from visus.networks.trace.operators.shapes import bytes_of
from visus.networks.trace.recurrent_memory import ShortSequences
from visus.networks.trace.running import values_without_data
from visus.networks.trace.storages import StorageCounter


class _Pass(NamedTuple):
    """Bytes of one pass, without parameters and buffers: the peak, and what is alive at its end."""

    peak: int
    end: int


@dataclass(frozen=True)
class ModuleMemory:
    """The memory of a module, computed on request.

    Args:
        module: the module.
        inputs: shapes and dtypes of its inputs.
    """

    module: nn.Module
    inputs: Inputs
    _found: dict[tuple[str, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def training(self, batch_size: int, optimizer: str) -> int:
        """Peak bytes of a training step."""
        step = self._cached("training", batch_size, self._step)
        return self.standing(optimizer) + int(max(step.peak, self._update(step, optimizer)))

    def gradients_at_peak(self, batch_size: int, optimizer: str) -> int | None:
        """Bytes of all gradients if the peak is during the optimizer's update; else None."""
        step = self._cached("training", batch_size, self._step)
        return sum(self._trained()) if step.peak < self._update(step, optimizer) else None

    def _update(self, step: _Pass, optimizer: str) -> int:
        """Bytes during the optimizer's update, without weights and its state."""
        return step.end + optimizer_of(optimizer).buffers * max(self._trained(), default=0)

    def inference(self, batch_size: int) -> int:
        """Peak bytes of an inference."""
        return self._weights() + int(self._cached("inference", batch_size, self._inference).peak)

    def saved(self, batch_size: int) -> int:
        """Bytes that autograd saves for the backward pass."""
        return int(self._cached("saved", batch_size, self._saved))

    def standing(self, optimizer: str) -> int:
        """Bytes of parameters, buffers and optimizer states, which are allocated all the time."""
        return self._weights() + optimizer_of(optimizer).states * sum(self._trained())

    def _cached(self, name: str, batch_size: int, work: Callable[[int], Any]) -> Any:
        key = name, checked_batch_size(batch_size)
        if key not in self._found:
            self._found[key] = work(batch_size)
        return self._found[key]

    def _trained(self) -> list[int]:
        """Bytes of each parameter that requires a gradient."""
        return [value.nbytes for value in self.module.parameters() if value.requires_grad]

    def _weights(self) -> int:
        """Bytes of parameters and buffers; one that several modules share counts once."""
        values = {id(value): value for value in (*self.module.parameters(), *self.module.buffers())}
        return sum(bytes_of(value) for value in values.values())

    def _step(self, batch_size: int) -> _Pass:
        with (
            values_without_data(self.module, training=True) as values,
            StorageCounter(values) as counter,
            ShortSequences(counter),
        ):
            run = self._run(values, batch_size)
            loss = _loss(run[1])
            if loss is not None:
                _backward(loss)
            del loss
            return _Pass(counter.peak, counter.total)

    def _inference(self, batch_size: int) -> _Pass:
        with (
            torch.no_grad(),
            values_without_data(self.module, training=False) as values,
            StorageCounter(values) as counter,
            ShortSequences(counter),
        ):
            self._run(values, batch_size)
            return _Pass(counter.peak, counter.total)

    def _saved(self, batch_size: int) -> int:
        found: dict[int, Any] = {}

        def pack(value: Tensor) -> None:  # it returns nothing, for there is no backward pass here
            storage = value.untyped_storage()
            found[storage._cdata] = storage

        with values_without_data(self.module, training=True) as values:
            own = {value.untyped_storage()._cdata for value in values.values()}
            with saved_tensors_hooks(pack, lambda nothing: nothing), ShortSequences():
                _loss(self._run(values, batch_size)[1])
        return sum(storage.nbytes() for key, storage in found.items() if key not in own)

    def _run(self, values: dict[str, Tensor], batch_size: int) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """The batch, which stays alive during a step, and the outputs."""
        kinds = zip(self.inputs.shapes, self.inputs.dtypes, strict=True)
        batch = tuple(torch.empty(batch_size, *shape, dtype=dtype) for shape, dtype in kinds)
        try:
            return batch, list(_float_tensors(torch.func.functional_call(self.module, values, batch)))
        except Exception as error:
            sentence = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            remedy = flattened_batch(*layer_and_input(error, self.module), batch_size) if batch_size > 1 else None
            reason = f"a batch of {batch_size} fails" if remedy else "it fails on tensors without data"
            raise UsageError(
                f"the memory of this module is not known, for {reason}: {sentence}. "
                f"{remedy or 'Ask for the other figures only, or measure it with torch.profiler.'}"
            ) from error


def _backward(loss: Tensor) -> None:
    """The backward pass.

    Raises:
        UsageError: it fails, as after a change in place of a tensor that it needs.
    """
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        sentence = " ".join(str(error).split(" Hint:")[0].split()).rstrip(".")
        remedy = " Change no tensor in place that a layer before used: y = y * 2 instead of y *= 2." * (
            "inplace" in sentence
        )
        raise UsageError(
            f"the memory of this module is not known, for its backward pass fails: {sentence}.{remedy}"
        ) from error


def _float_tensors(output: Any) -> Iterator[Tensor]:
    """All floating-point tensors in an output, however deep; complex ones as real and imaginary part."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
        elif output.is_complex():
            yield torch.view_as_real(output)
    elif isinstance(output, dict):
        yield from _float_tensors(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _float_tensors(each)


def _loss(outputs: Sequence[Tensor]) -> Tensor | None:
    """A loss for all outputs that have a gradient; it saves, and its backward pass allocates, what a cross-entropy does."""
    losses = [output.log_softmax(min(1, output.dim() - 1)).mean() for output in outputs if output.requires_grad]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0] if losses else None
