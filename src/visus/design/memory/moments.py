"""The moments at which most bytes are alive, for any batch size and optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from visus.design.memory.saved import Bytes
from visus.errors import UsageError, unknown_name


class Optimizer(NamedTuple):
    """The memory of an optimizer.

    Args:
        states: values that it keeps for each parameter.
        buffers: copies of the largest weight while it is updated.
    """

    states: int
    buffers: int


OPTIMIZERS: Final = {"adamw": Optimizer(2, 2), "sgd": Optimizer(1, 2), "none": Optimizer(0, 0)}
"""As PyTorch computes them on a CPU: adamw; sgd with Nesterov momentum and decay, as visus trains; a step that keeps nothing."""


class Memory(Protocol):
    """The interface through which an account computes its bytes."""

    def training(self, batch_size: int, optimizer: str) -> int:
        """Peak memory of a training step, in bytes."""

    def inference(self, batch_size: int) -> int:
        """Peak memory of an inference, in bytes."""

    def saved(self, batch_size: int) -> int:
        """Bytes that are kept for the backward pass."""

    def standing(self, optimizer: str) -> int:
        """Bytes of weights, buffers and the optimizer's state, which are always allocated."""

    def gradients_at_peak(self, batch_size: int, optimizer: str) -> int | None:
        """Bytes of all gradients if the peak is during the optimizer's update, when nothing is kept for the backward pass; else None."""


@dataclass(frozen=True)
class Moments:
    """The moments of a training step and of an inference at which most bytes are alive, for any batch size.

    Args:
        weights: bytes of trained values and buffers.
        trained: bytes of trained values.
        largest: bytes of the largest weight.
        step: the moments of forward and backward, without weights.
        forward: the moments of an inference, without weights.
        kept: bytes kept for the backward pass.
        after: bytes still allocated during the optimizer's update, without weights and gradients.
    """

    weights: int
    trained: int
    largest: int
    step: tuple[Bytes, ...]
    forward: tuple[Bytes, ...]
    kept: Bytes
    after: Bytes

    def training(self, batch_size: int, optimizer: str) -> int:
        """Peak memory of a training step, in bytes."""
        checked_batch_size(batch_size)
        most = max([self._update(batch_size, optimizer), *(moment.of(batch_size) for moment in self.step)])
        return self.standing(optimizer) + most

    def gradients_at_peak(self, batch_size: int, optimizer: str) -> int | None:
        """Bytes of all gradients if the peak is during the optimizer's update; else None."""
        is_update = all(moment.of(batch_size) < self._update(batch_size, optimizer) for moment in self.step)
        return self.trained if is_update else None

    def _update(self, batch_size: int, optimizer: str) -> int:
        """Bytes during the optimizer's update, without weights and its state."""
        return self.after.of(batch_size) + self.trained + optimizer_of(optimizer).buffers * self.largest

    def inference(self, batch_size: int) -> int:
        """Peak memory of an inference, in bytes."""
        checked_batch_size(batch_size)
        return self.weights + max((moment.of(batch_size) for moment in self.forward), default=0)

    def saved(self, batch_size: int) -> int:
        """Bytes that are kept for the backward pass."""
        return self.kept.of(checked_batch_size(batch_size))

    def standing(self, optimizer: str) -> int:
        """Bytes of weights, buffers and the optimizer's state, which are always allocated."""
        return self.weights + optimizer_of(optimizer).states * self.trained


def optimizer_of(name: str) -> Optimizer:
    """The memory of the optimizer with this name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in OPTIMIZERS:
        raise UsageError(unknown_name("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def checked_batch_size(batch_size: int) -> int:
    """The batch size.

    Raises:
        UsageError: it is not a positive integer.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise UsageError(f"the batch size must be a whole number from 1 on, not {batch_size!r}.")
    return batch_size
