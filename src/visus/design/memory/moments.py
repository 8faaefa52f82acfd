"""The moments at which most bytes are alive, for any batch size and optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from visus.design.memory.saved import Bytes
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
