"""The inputs that a module is traced with: their shapes and dtypes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus.errors import UsageError

Shape = tuple[int, ...]

_TOKENS: Final = torch.int64
_MAX_MIXED: Final = 4  # up to this many inputs, each combination of dtypes is tried


@dataclass(frozen=True)
class Inputs:
    """Inputs of one sample.

    Args:
        shapes: shape of each input, without the batch axis.
        dtypes: dtype of each input.
        note: note for the first row if the first choice of dtypes failed; else empty.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[torch.dtype, ...]
    note: str = ""

    def make(self, num_samples: int, device: torch.device) -> tuple[Tensor, ...]:
        """A batch of random numbers, or of ones for integers; without data on the device ``meta``."""
        made = []
        generator = torch.Generator().manual_seed(0)
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = (num_samples, *shape)
            if device.type == "meta":
                made.append(torch.empty(size, dtype=dtype, device=device))
            elif dtype == _TOKENS:
                made.append(torch.ones(size, dtype=dtype, device=device))
            else:
                made.append(torch.rand(size, generator=generator).to(dtype).to(device))
        return tuple(made)


def shapes_of(input_shape: Sequence[Any]) -> tuple[Shape, ...]:
    """One shape, or several for a module of several inputs, as a tuple of shapes.

    Raises:
        UsageError: a shape is empty, or has a length that is no positive integer.

    >>> shapes_of((3, 8, 8)), shapes_of([(1, 5), (2,)])
    (((3, 8, 8),), ((1, 5), (2,)))
    """
    given = tuple(input_shape)
    is_several = bool(given) and all(isinstance(each, (tuple, list, torch.Size)) for each in given)
    shapes = tuple(tuple(each) for each in given) if is_several else (given,)
    for shape in shapes:
        if not shape or not all(isinstance(length, int) and length > 0 for length in shape):
            raise UsageError(f"the input shape is (channels, *spatial) in whole numbers from 1 on, not {shape}.")
    return shapes


def check_num_inputs(module: nn.Module, shapes: Sequence[Shape]) -> None:
    """Check that the number of inputs of ``forward`` equals the number of shapes.

    Raises:
        UsageError: it does not; the message has the right call.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return
    try:
        wanted = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [each for each in wanted if each.kind in kinds]
    needed = [each.name for each in places if each.default is inspect.Parameter.empty]
    takes_all = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in wanted)
    name, given = type(module).__name__, len(shapes)
    if given < len(needed):
        example = [shapes[min(place, given - 1)] for place in range(len(needed))]
        options = " ".join(f"--input {','.join(map(str, shape))}" for shape in example)
        raise UsageError(
            f"the forward of {name} takes {len(needed)} inputs ({', '.join(needed)}), and {given} shape{'s are' if given > 1 else ' is'} "
            f"given. Give one for each: {example}, or {options}."
        )
    if given > len(places) and not takes_all:
        raise UsageError(
            f"the forward of {name} takes {len(places)} input{'' if len(places) == 1 else 's'} "
            f"({', '.join(each.name for each in places)}), and {given} shapes are given. Give {len(places)}."
        )


def possible_inputs(module: nn.Module, shapes: tuple[Shape, ...]) -> Iterator[Inputs]:
    """The inputs to try, in order: in the dtype of the first weight, in those of other weights, and as integers."""
    weights = [value.dtype for value in (*module.parameters(), *module.buffers())]
    numbers = list(dict.fromkeys(dtype for dtype in weights if dtype.is_floating_point or dtype.is_complex))
    dtypes = list(dict.fromkeys([*numbers, torch.get_default_dtype(), _TOKENS]))
    for place, dtype in enumerate(dtypes):
        yield Inputs(shapes, (dtype,) * len(shapes), f"{_word(dtype)} input" if place else "")
    if 1 < len(shapes) <= _MAX_MIXED:
        for several in itertools.product((dtypes[0], _TOKENS), repeat=len(shapes)):
            if len(set(several)) > 1:
                yield Inputs(shapes, several, f"{' and '.join(map(_word, several))} inputs")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
