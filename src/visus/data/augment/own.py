"""A person's own transform of whole batches, called with its own random seed at each step.

Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

import inspect
import random as python_random
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values
from visus.errors import UsageError
from visus.own_callables import load_function
from visus.units import write_shape

_INSTALLED = (*(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[2]))
_MAX_GROWTH, _MAX_LEVEL = 50.0, 2.0  # of the mean absolute value: no change of values from 0 to 1 makes as much of it


@dataclass(frozen=True)
class OwnTransform(Transform):
    """Call a person's own function with a batch (N, C, *) of float32 values from 0 (black) to 1 (white); it returns the changed batch.

    Its code may use the random numbers of PyTorch, NumPy and Python: they are seeded before each call, from the seed of the training, the epoch and the
    step, and restored after it. It gets the whole batch on any number of processes, so its numbers are the same on all.

    Args:
        name: name of the function, ``package.module:callable``.
        function: the function.
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(compare=False)
    settings: ClassVar = ("transform",)
    values: ClassVar = Values.UNIT

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        name = settings.get("transform")
        return cls(str(name), load_function(str(name))) if name else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return [f"transformed by {self.name}"]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return (random.seed(),)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        shape, dtype, device = batch.shape, batch.dtype, batch.device
        level = float(batch.abs().mean())  # before the function, which may change the batch itself
        try:
            with seeded(int(drawn[0]), device):
                result = self.function(batch)
        except Exception as error:  # whatever a person's own code raises
            text = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"the transform stopped with {type(error).__name__}{f': {text}' if text else ''}{self._place(error)}.",
                where=self.name,
            ) from error
        wrong = ""
        if not isinstance(result, Tensor):
            wrong = f"it returned {'None' if result is None else type(result).__name__}"
        elif result.shape != shape:
            wrong = f"it returned a shape of {write_shape(result.shape)}"
        elif (result.dtype, result.device) != (dtype, device):
            wrong = f"it returned {str(result.dtype).removeprefix('torch.')} on {result.device}"
        elif not torch.isfinite(result).all():
            wrong = "it returned a value that is NaN or infinite"
        if wrong:
            raise UsageError(
                f"{wrong}{self._place()}. The transform must return a tensor of {write_shape(shape)} (samples, channels and axes of the batch), in float32 on "
                f"{device}, with finite values.",
                where=self.name,
            )
        found = float(result.abs().mean())
        if found > _MAX_LEVEL and found > _MAX_GROWTH * level:
            raise UsageError(
                f"it returned values of {found:.3g} on average for values of {level:.3g}{self._place()}. The transform gets values from 0 (black) to 1 (white), "
                "and must return such values too: leave out what multiplies them, such as * 255.",
                where=self.name,
            )
        return result.detach()

    def _place(self, error: BaseException | None = None) -> str:
        """File and line in the person's code, as a clause: where the error was raised, or where the function begins."""
        frames = [] if error is None else traceback.extract_tb(error.__traceback__)
        own = [each for each in frames if not each.filename.startswith(("<", *_INSTALLED))]
        if own:
            return f", at {own[-1].filename} line {own[-1].lineno}"
        function: Any = inspect.unwrap(self.function) if inspect.isroutine(self.function) else type(self.function).__call__
        code = getattr(function, "__code__", None)
        return f", at {code.co_filename} line {code.co_firstlineno}" if code is not None else ""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which PyTorch, NumPy and Python draw random numbers from ``seed``; their states are restored after it."""
    python_state, numpy_state = python_random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)
        python_random.seed(seed)
        try:
            yield
        finally:
            python_random.setstate(python_state)
            np.random.set_state(numpy_state)
