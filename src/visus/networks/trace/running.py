"""Runs a module without side effects: ``ModuleState`` saves and restores its state.

A forward may store its results anywhere: in attributes, lists, caches by size, objects of its own, closures of hooks, tables
of its
class or of its Python module. A leftover tensor without data breaks the next real forward. So everything reachable from the
module is recorded before a run and restored afterwards; its tensors are the same objects with the same values as before.
"""

from __future__ import annotations

import functools
import logging
import random
import sys
import types
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, torch.dtype, torch.device, torch.Size)
_PLAIN_TYPES = frozenset(_PLAIN)
_MAX_ARRAY = 1 << 26  # bytes of a NumPy array that is copied, so that it can be put back


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """Disables fused attention: PyTorch's choice depends on whether tensors have data, and fusion hides the matrix
    products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def values_without_data(module: nn.Module, *, training: bool) -> Iterator[dict[str, Tensor]]:
    """Substitutes without data for parameters and buffers, to run the module on; its state is restored."""
    with ModuleState(module).unchanged(training=training), _without_log(), FakeTensorMode(allow_non_fake_inputs=True):
        values: dict[str, Tensor] = {
            name: nn.Parameter(_stand_in(value), requires_grad=value.requires_grad)
            for name, value in module.named_parameters()
        }
        values.update((name, _stand_in(value)) for name, value in module.named_buffers())
        yield values


@contextmanager
def _without_log() -> Iterator[None]:
    """Keeps back what PyTorch logs about an operator that fails on tensors without data: the error says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _stand_in(value: Tensor) -> Tensor:
    """A tensor of the same kind on the CPU, without data."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")


@contextmanager
def _random_states() -> Iterator[None]:
    """All global random generators come back as they were: Python's, NumPy's, PyTorch's on the CPU and on every accelerator."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    generators = {id(each): (each, each.get_state()) for each in _accelerator_generators()}
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
        for generator in _accelerator_generators():
            if id(generator) in generators:
                generator.set_state(generators[id(generator)][1])
            else:  # the run was the first to use this accelerator
                generator.manual_seed(generator.initial_seed())


def _accelerator_generators() -> Iterator[torch.Generator]:
    """The global generators of all accelerators that were used so far."""
    yield from torch.cuda.default_generators
    yield from torch.xpu.default_generators
    if torch.backends.mps.is_available():
        yield torch.mps._get_default_mps_generator()


class ModuleState:
    """The present state of everything reachable from a module.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.seen: dict[int, Any] = {}
        self.modes = [(each, each.training) for each in module.modules()]
        self.tables: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self.lists: list[tuple[list[Any] | deque[Any], list[Any]]] = []
        self.sets: list[tuple[set[Any], set[Any]]] = []
        self.cells: list[tuple[types.CellType, Any]] = []
        self.slots: list[tuple[Any, str, Any]] = []
        self.classes: list[tuple[type, dict[str, Any]]] = []
        self.caches: list[tuple[Any, int]] = []
        self.arrays: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        self.generators: list[tuple[Any, Any]] = []
        self.tensors: list[tuple[Tensor, Any, bool, int | None]] = []
        self.bases: set[type] = set()
        self.saved: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        own = (*module.parameters(), *module.buffers())
        self.held = {id(value) for value in own}
        waiting: list[Any] = [module, *own]
        while waiting:  # not by recursion: a chain of objects can be long
            waiting.extend(each for each in self._note(waiting.pop()) if type(each) not in _PLAIN_TYPES)

    @contextmanager
    def unchanged(self, *, training: bool) -> Iterator[None]:
        """The module in one mode, eager even if it was compiled; its state is restored at the end.

        Only ``save`` copies the values of parameters and buffers: callers run on substitutes, or call ``save`` before
        overwriting them.
        """
        with ExitStack() as stack:
            stack.callback(self._restore)
            stack.enter_context(_random_states())
            if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to load it takes seconds
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            for each, _ in self.modes:
                _set_mode(each, training)
            self._use_copies()
            yield

    @cached_property
    def _own_storages(self) -> frozenset[int]:
        return frozenset(_address(value) for value in (*self.module.parameters(), *self.module.buffers()))

    def owns(self, value: Tensor) -> bool:
        """Whether a tensor is, or is a view of, a parameter or buffer."""
        return _address(value) in self._own_storages

    def save(self, value: Tensor) -> None:
        """Save the values of a parameter or buffer (or of the one that a tensor views) before they are overwritten."""
        storage = value.untyped_storage()
        if storage._cdata not in self.saved:
            self.saved[storage._cdata] = storage, storage.clone()  # type: ignore[no-untyped-call]

    def _note(self, thing: Any) -> Iterator[Any]:
        """Notes one object; yields what it refers to."""
        if isinstance(thing, _PLAIN) or id(thing) in self.seen:
            return
        self.seen[id(thing)] = thing
        if isinstance(thing, Tensor):
            if isinstance(thing, nn.Parameter) or thing.is_leaf:
                self.tensors.append((thing, thing.grad, thing.requires_grad, _version(thing)))
        elif isinstance(thing, dict):
            self.tables.append((thing, dict(thing)))
            yield from thing.values()
        elif isinstance(thing, (list, deque)):
            self.lists.append((thing, list(thing)))
            yield from list(thing)
        elif isinstance(thing, (set, frozenset, tuple)):
            if isinstance(thing, set):
                self.sets.append((thing, set(thing)))
            yield from list(thing)
        elif isinstance(thing, np.ndarray):
            if thing.nbytes <= _MAX_ARRAY and thing.dtype != object:
                self.arrays.append((thing, thing.copy()))
        elif isinstance(thing, (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)):
            self.generators.append((thing, _generator_state(thing)))
        elif callable(thing) and not isinstance(thing, nn.Module):
            yield from self._note_function(thing)
        else:
            yield from self._note_object(thing)

    def _note_object(self, thing: Any) -> Iterator[Any]:
        if _is_of_torch(type(thing)) and not isinstance(thing, nn.Module):
            return
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            yield attributes
        for name in _slots_of(type(thing)):
            if hasattr(thing, name):
                value = getattr(thing, name)
                self.slots.append((thing, name, value))
                yield value
        if id(type(thing)) in self.seen:
            return
        self.seen[id(type(thing))] = type(thing)
        for base in type(thing).__mro__[::-1]:
            if base is object or _is_of_torch(base) or base.__module__ == "builtins" or base in self.bases:
                continue
            self.bases.add(base)
            self.classes.append((base, dict(base.__dict__)))
            yield from [value for name, value in base.__dict__.items() if not name.startswith("__")]

    def _note_function(self, thing: Any) -> Iterator[Any]:
        """Yields what a function, a method, a partial or a cached function refers to."""
        if hasattr(thing, "cache_info") and hasattr(thing, "cache_clear"):
            with suppress(Exception):
                self.caches.append((thing, thing.cache_info().misses))
        if isinstance(thing, types.MethodType):
            yield from (thing.__self__, thing.__func__)
        elif isinstance(thing, functools.partial):
            yield from (thing.func, thing.args, thing.keywords)
        elif isinstance(thing, types.FunctionType):
            if _is_of_torch(thing):
                return
            yield thing.__dict__
            yield from thing.__defaults__ or ()
            for cell in thing.__closure__ or ():
                with suppress(ValueError):
                    self.cells.append((cell, cell.cell_contents))
                    yield cell.cell_contents
            for name in _names_in(thing.__code__):
                value = thing.__globals__.get(name)
                if isinstance(value, (dict, list, set, deque)) or hasattr(value, "cache_info") or _is_users(value):
                    yield value
        elif hasattr(thing, "__wrapped__"):
            yield thing.__wrapped__
        elif not isinstance(thing, types.BuiltinFunctionType):
            yield from self._note_object(thing)

    def _use_copies(self) -> None:
        """Replaces the tensors in attributes and lists by copies during a run, so that what is written into them is lost."""
        copies: dict[int, Any] = {}

        def copied(value: Any) -> Any:
            if type(value) is not Tensor or id(value) in self.held or value.is_meta:
                return value
            if id(value) not in copies:
                try:
                    copies[id(value)] = value.detach().clone()
                except (RuntimeError, NotImplementedError):
                    copies[id(value)] = value
            return copies[id(value)]

        for table, _ in self.tables:
            for key, value in table.items():
                if isinstance(value, Tensor) and (copy := copied(value)) is not value:
                    table[key] = copy
        for row, _ in self.lists:
            for place, value in enumerate(row):
                if isinstance(value, Tensor) and (copy := copied(value)) is not value:
                    row[place] = copy

    def _restore(self) -> None:
        """Puts everything back."""
        for storage, saved in self.saved.values():
            storage.copy_(saved)
        for each, mode in self.modes:
            _set_mode(each, mode)
        for table, content in self.tables:
            if not _same(table, content):
                table.clear()
                table.update(content)
        for row, values in self.lists:
            if len(row) != len(values) or any(one is not other for one, other in zip(row, values, strict=True)):
                row.clear()
                row.extend(values)
        for group, members in self.sets:
            if group != members:
                group.clear()
                group.update(members)
        for cell, value in self.cells:
            cell.cell_contents = value
        for thing, name, value in self.slots:
            if getattr(thing, name, None) is not value:
                object.__setattr__(thing, name, value)
        for kind, attributes in self.classes:
            _restore_class(kind, attributes)
        for cache, misses in self.caches:
            if cache.cache_info().misses != misses:
                cache.cache_clear()  # what this run cached cannot be told from what was there
        for array, numbers in self.arrays:
            if array.flags.writeable and not np.array_equal(array, numbers, equal_nan=array.dtype.kind in "fc"):
                array[...] = numbers
        for generator, state in self.generators:
            _set_generator_state(generator, state)
        for value, grad, requires_grad, version in self.tensors:
            if value.grad is not grad:
                value.grad = grad
            if value.requires_grad is not requires_grad:
                value.requires_grad_(requires_grad)
            if version is not None and _version(value) != version:
                torch._C._autograd._unsafe_set_version_counter((value,), (version,))


def _set_mode(module: nn.Module, training: bool) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        module.training = training
    else:
        module.__dict__["training"] = training


def _address(value: Tensor) -> int:
    """What identifies the memory of a tensor; 0 for one that has none of its own."""
    try:
        return int(value.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return 0


def _same(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    """Whether both have the same objects in the same order."""
    if len(one) != len(other):
        return False
    return all(
        key is known and value is before for (key, value), (known, before) in zip(one.items(), other.items(), strict=True)
    )


def _version(value: Tensor) -> int | None:
    try:
        return int(value._version)
    except RuntimeError:  # tensors of inference mode have none
        return None


def _is_of_torch(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "") or "").split(".")[0] == "torch"


def _is_users(value: Any) -> bool:
    """Whether this is a function, or an object of a class, that is neither torch's nor Python's own."""
    if isinstance(value, types.FunctionType):
        return not _is_of_torch(value)
    return isinstance(value, nn.Module)


_SLOTS: dict[type, tuple[str, ...]] = {}


def _slots_of(kind: type) -> tuple[str, ...]:
    """The slots of a class and of its bases, without those of torch and Python."""
    if kind not in _SLOTS:
        found: list[str] = []
        for base in kind.__mro__:
            if not _is_of_torch(base) and base.__module__ != "builtins":
                names = base.__dict__.get("__slots__", ())
                found.extend((names,) if isinstance(names, str) else names)
        _SLOTS[kind] = tuple(name for name in found if not name.startswith("__"))
    return _SLOTS[kind]


def _names_in(code: types.CodeType) -> Iterator[str]:
    """Global names that a function uses, and those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _restore_class(kind: type, attributes: dict[str, Any]) -> None:
    for name in [name for name in kind.__dict__ if name not in attributes]:
        with suppress(AttributeError, TypeError):
            delattr(kind, name)
    for name, value in attributes.items():
        if kind.__dict__.get(name) is not value:
            with suppress(AttributeError, TypeError):
                setattr(kind, name, value)


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_generator_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
