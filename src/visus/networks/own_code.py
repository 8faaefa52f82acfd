"""What a person's own module does that a network of visus never does: other outputs than one tensor, errors of its own, state that is no tensor.

This file knows any ``nn.Module`` and its outputs, errors and copies.

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

_FIRST = ("logits",)  # the name of the answers where outputs have names, as in transformers and torchvision
_INSTALLED = (*(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))


# ---- outputs ----


def find_answers(output: object, num_samples: int, num_classes: int) -> tuple[Tensor, str] | None:
    """The answers (N, C) in whatever a module returned, and where they are; None where there are none.

    They are the output itself, the one called ``logits``, or the first tensor of that shape in a tuple, list, mapping or dataclass.

    >>> find_answers({"features": torch.zeros(2, 9), "answer": torch.ones(2, 3)}, 2, 3)[1]
    "'answer'"
    """
    for value, place in _inside(output, ""):
        if value.shape[:2] == (num_samples, num_classes) and value.numel() == num_samples * num_classes:
            return value.flatten(1), place
    return None


def _inside(output: object, place: str) -> Iterator[tuple[Tensor, str]]:
    """The tensors in an output, the likeliest first, each with its place."""
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
    """What a module returned, in a few words.

    >>> describe_output((torch.zeros(2, 3), None))
    'a tuple'
    """
    if isinstance(output, Tensor):
        return f"a tensor of {write_shape(output.shape) or 'one number'}"
    name = type(output).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


class ReadAnswers:
    """A forward hook that replaces what a module returns by the answers (N, C) in it; anything else stays as it is."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> object:
        num_samples = len(inputs[0]) if inputs else 0
        found = find_answers(output, num_samples, self.num_classes)
        return output if found is None else found[0]


def read_answers(module: nn.Module, num_classes: int) -> None:
    """Let a module return its answers alone, from now on and in its copies."""
    if not any(isinstance(hook, ReadAnswers) for hook in module._forward_hooks.values()):
        module.register_forward_hook(ReadAnswers(num_classes))


# ---- errors ----


def describe_failure(error: BaseException, module: nn.Module) -> str:
    """What an error says that a module raised, and in which part and line of it.

    >>> try:
    ...     _ = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))(torch.zeros(1, 3))
    ... except RuntimeError as error:
    ...     print(describe_failure(error, nn.Sequential()))
    RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 4x2)
    """
    said = " ".join(str(error).split()).rstrip(".")
    name = type(error).__name__
    return f"{name}{f': {said}' if said else ''}{place_in_module(error, module)}"


def place_in_module(error: BaseException, module: nn.Module) -> str:
    """Part of the module and line of a person's code where an error was raised, to be put behind it; empty where neither is known."""
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


def place_in_code(error: BaseException) -> str:
    """Where a person's own code was when it failed, to be put behind the error: the innermost line that is neither PyTorch's nor Python's own."""
    places = [each for each in traceback.extract_tb(error.__traceback__)[1:] if not each.filename.startswith("<")]
    own = [each for each in places if not each.filename.startswith(_INSTALLED)] or places
    return f", at {own[-1].filename} line {own[-1].lineno}" if own else ""


# ---- copies, and weights that have no shape yet ----


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that holds tensors which it computed, as caches and ``weight_norm`` do; those are detached in the copy.

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
        if isinstance(buffer, UninitializedBuffer):  # which PyTorch cannot copy
            memo[id(buffer)] = UninitializedBuffer(device=buffer.device, dtype=buffer.dtype)  # type: ignore[call-arg]
    with torch.no_grad():  # a scripted module copies its tensors by operations that would be recorded
        twin = copy.deepcopy(module, memo)
    for own, other in zip(twin.parameters(), module.parameters(), strict=True):
        if own.requires_grad != other.requires_grad:
            own.requires_grad_(other.requires_grad)
    return twin


def _held(attributes: Mapping[str, Any]) -> Iterator[Tensor]:
    """Tensors that a module holds as plain attributes, or in a list, tuple or dict of them."""
    for name, value in attributes.items():
        if name in ("_parameters", "_modules"):
            continue
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
        yield from (each for each in values if isinstance(each, Tensor))


def has_no_shapes(module: nn.Module) -> bool:
    """Whether some weights have no shape before a first forward pass, as those of ``nn.LazyLinear``."""
    values = (*module.parameters(), *module.buffers())
    return any(isinstance(value, (UninitializedParameter, UninitializedBuffer)) for value in values)


def give_shapes(module: nn.Module, input_shape: tuple[int, ...], seed: int = 0) -> None:
    """Run a module with lazy layers once on zeros, so that its weights get their shapes; others are left alone.

    Args:
        module: changed in place.
        input_shape: (channels, *spatial).
        seed: of the initial values that it then draws.
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
    """The module; of one with lazy layers a copy whose weights have their shapes, where it can run on such an input.

    >>> shaped(nn.LazyLinear(2), (3,)).weight.shape
    torch.Size([2, 3])
    """
    if not has_no_shapes(module):
        return module
    twin = copied(module)
    try:
        give_shapes(twin, input_shape)
    except Exception:  # what runs it next says why it cannot
        return module
    return twin
