"""Support for any ``nn.Module`` of a user: outputs other than one tensor, exceptions in its code, copies, lazy weights.

Shape letters: N samples, C classes.
"""

from __future__ import annotations

import copy
import dataclasses
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from visus.units import write_shape

_FIRST = ("logits",)  # name of the logits in outputs of transformers
_INSTALLED = (*(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))


# ---- outputs ----


def find_answers(output: object, num_samples: int, num_classes: int) -> tuple[Tensor, str] | None:
    """The logits (N, C) in the output of a module, and their place in it; None if there are none.

    They are the output itself, its entry ``logits``, or the first tensor of that shape in a tuple, list, mapping or dataclass.

    >>> find_answers({"features": torch.zeros(2, 9), "answer": torch.ones(2, 3)}, 2, 3)[1]
    "'answer'"
    """
    for value, place in _inside(output, ""):
        if value.shape[:2] == (num_samples, num_classes) and value.numel() == num_samples * num_classes:
            return value.flatten(1), place
    return None


def _inside(output: object, place: str) -> Iterator[tuple[Tensor, str]]:
    """Yield the tensors in an output with their places, ``logits`` first."""
    if isinstance(output, Tensor):
        yield output, place
        return
    named: dict[Any, object] = {}
    if isinstance(output, Mapping):
        named = dict(output)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        named = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        named = dict(zip(output._fields, output, strict=True))
    elif isinstance(output, (tuple, list)):
        for number, value in enumerate(output):
            yield from _inside(value, f"{place}[{number}]")
    for name in sorted(named, key=lambda name: name not in _FIRST):
        yield from _inside(named[name], f"{place}[{name!r}]" if place else repr(name))


def describe_output(output: object) -> str:
    """A short description of a module's output.

    >>> describe_output((torch.zeros(2, 3), None))
    'a tuple'
    """
    if isinstance(output, Tensor):
        return f"a tensor of {write_shape(output.shape) or 'one number'}"
    name = type(output).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


class ReadAnswers:
    """A forward hook that replaces a module's output by the logits (N, C) in it, if there are any."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> object:
        first = inputs[0] if inputs else ()
        num_samples = (
            first.shape[0] if isinstance(first, Tensor) else len(first)
        )  # len would fix the batch size of an export
        found = find_answers(output, num_samples, self.num_classes)
        return output if found is None else found[0]


def read_answers(module: nn.Module, num_classes: int) -> None:
    """Make a module, and its later copies, return only its logits."""
    if not any(isinstance(hook, ReadAnswers) for hook in module._forward_hooks.values()):
        module.register_forward_hook(ReadAnswers(num_classes))


# ---- errors ----


def describe_failure(error: BaseException, module: nn.Module) -> str:
    """A short description of an exception in a module, with the submodule and the line that raised it.

    >>> try:
    ...     _ = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))(torch.zeros(1, 3))
    ... except RuntimeError as error:
    ...     print(describe_failure(error, nn.Sequential()))
    RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 4x2)
    """
    text = " ".join(str(error).split()).rstrip(".")
    name = type(error).__name__
    return f"{name}{f': {text}' if text else ''}{place_in_module(error, module)}"


def place_in_module(error: BaseException, module: nn.Module) -> str:
    """Submodule and line of a person's code that raised an error, as a clause to append; empty if both are unknown."""
    paths = {id(part): path for path, part in module.named_modules()}
    part: nn.Module | None = None
    own: tuple[str, int] | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            part = owner
        file = frame.f_code.co_filename
        if not file.startswith(("<", *_INSTALLED)):
            own = file, line
    words = ""
    if part is not None and (paths[id(part)] or not type(part).__module__.startswith(("torch.", "visus."))):
        path = paths[id(part)]
        words = f", in {path} ({type(part).__name__})" if path else f", in {type(part).__name__}"
    return f"{words}, at {own[0]} line {own[1]}" if own and part is not None else words


def line_of_code(error: BaseException) -> str:
    """File and line of a person's code that raised an error, the innermost; empty if none of it is in the traceback."""
    own = [each for each in _frames(error) if not each.filename.startswith(_INSTALLED)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [each for each in traceback.extract_tb(error.__traceback__)[1:] if not each.filename.startswith("<")]


def layer_and_input(error: BaseException, module: nn.Module) -> tuple[nn.Module | None, tuple[int, ...]]:
    """The innermost layer of a module that raised an error, and the shape of its first input; None and () if they are unknown."""
    parts = set(module.modules())
    found: tuple[nn.Module | None, tuple[int, ...]] = None, ()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names, owner = frame.f_code.co_varnames, frame.f_locals.get("self")
        if frame.f_code.co_name == "forward" and isinstance(owner, nn.Module) and owner in parts and len(names) > 1:
            value = frame.f_locals.get(names[1])
            found = owner, tuple(value.shape) if isinstance(value, Tensor) else ()
    return found


def place_in_code(error: BaseException) -> str:
    """The innermost line of a person's code that raised an error, as a clause to append; not a line of PyTorch or Python."""
    places = _frames(error)
    own = [each for each in places if not each.filename.startswith(_INSTALLED)] or places
    return f", at {own[-1].filename} line {own[-1].lineno}" if own else ""


# ---- copies, and lazy weights ----


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, even of a module with computed tensors, such as caches and those of ``weight_norm``; the copy detaches them.

    >>> network = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    >>> network.last = network.weight * 1
    >>> copied(network).last.requires_grad
    False
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in _held(vars(part)):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    for buffer in module.buffers():
        if isinstance(buffer, UninitializedBuffer):  # PyTorch cannot copy it
            memo[id(buffer)] = UninitializedBuffer(device=buffer.device, dtype=buffer.dtype)  # type: ignore[call-arg]
    with torch.no_grad():  # autograd would record the copies of a scripted module
        twin = copy.deepcopy(module, memo)
    for own, other in zip(twin.parameters(), module.parameters(), strict=True):
        if own.requires_grad != other.requires_grad:
            own.requires_grad_(other.requires_grad)
    return twin


def _held(attributes: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors in a module's plain attributes, and in their lists, tuples and dicts."""
    for name, value in attributes.items():
        if name in ("_parameters", "_modules"):
            continue
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
        yield from (each for each in values if isinstance(each, Tensor))


def has_no_shapes(module: nn.Module) -> bool:
    """Whether some weights have no shape before the first forward pass, as in ``nn.LazyLinear``."""
    values = (*module.parameters(), *module.buffers())
    return any(isinstance(value, (UninitializedParameter, UninitializedBuffer)) for value in values)


def give_shapes(module: nn.Module, input_shape: tuple[int, ...], seed: int = 0) -> None:
    """Run a module with lazy layers once on zeros, so that its weights get their shapes; others are left alone.

    Args:
        module: changed in place.
        input_shape: (channels, *spatial).
        seed: seed of the initial values that it then draws.
    """
    if not has_no_shapes(module):
        return
    was_training = [(part, part.training) for part in module.modules()]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module.eval()(torch.zeros(2, *input_shape))
    for part, training in was_training:
        part.training = training


def shaped(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The module itself; for a module with lazy layers, a copy with shapes if it can run on such an input.

    >>> shaped(nn.LazyLinear(2), (3,)).weight.shape
    torch.Size([2, 3])
    """
    if not has_no_shapes(module):
        return module
    twin = copied(module)
    try:
        give_shapes(twin, input_shape)
    except Exception:  # the next forward pass will report the error
        return module
    return twin
