"""Random numbers of a batch, which are the same on any number of processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BatchRandom:
    """Random numbers for a shard of a batch.

    The numbers are drawn for the whole batch, so a sample gets the same numbers on any number of processes.

    Args:
        generator: generator on the CPU, so that all devices get the same numbers.
        num_samples: number of samples of the whole batch.
        shard: slice or indices of the whole batch.
        mirrored: which samples of the shard are mirrored (N,) if flips alternate, on the CPU.
    """

    generator: torch.Generator
    num_samples: int
    shard: slice | torch.Tensor
    mirrored: torch.Tensor | None = None

    def uniform(self, *shape: int) -> torch.Tensor:
        """Uniform numbers in [0, 1), of this shape for each sample."""
        return torch.rand(self.num_samples, *shape, generator=self.generator)[self.shard]

    def integers(self, below: int, *shape: int) -> torch.Tensor:
        """Integers in [0, ``below``), of this shape for each sample."""
        return torch.randint(0, below, (self.num_samples, *shape), generator=self.generator)[self.shard]

    def seed(self) -> torch.Tensor:
        """A seed (1,) for the code of others, the same for every sample."""
        return torch.randint(0, 2**31 - 1, (1,), generator=self.generator)


def batch_random(source: torch.Generator | BatchRandom, batch: torch.Tensor) -> BatchRandom:
    """Random numbers for ``batch``, which is a whole batch if ``source`` is a generator."""
    return source if isinstance(source, BatchRandom) else BatchRandom(source, len(batch), slice(None))
