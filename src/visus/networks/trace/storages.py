"""Counts the bytes of all storages that are alive while a module runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from visus.networks.trace.operators import operator_of


class StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the bytes of all storages that are allocated inside ``with``, and subtracts them when they are freed.

    Args:
        values: stand-ins of parameters and buffers, which do not count.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_paused = False
        self.total = self.peak = 0
        self.alive: dict[int, weakref.ref[Any]] = {}
        self.own = {value.untyped_storage()._cdata for value in values.values()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.is_paused:
            return out
        for value in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(value, Tensor):
                self.enter(value.untyped_storage())
        work = operator_of(func).workspace_bytes
        workspace = work(args, out) if work is not None else 0
        self.reach(func, self.total + workspace)
        return out

    def reach(self, func: Any, level: int) -> None:
        """Notes the bytes that are allocated during an operator."""
        self.peak = max(self.peak, level)

    def enter(self, storage: Any) -> None:
        """Counts a storage, if it is new."""
        key = storage._cdata
        if key not in self.alive and key not in self.own:
            num_bytes = storage.nbytes()
            self.total += num_bytes

            def freed(_: Any) -> None:
                del self.alive[key]
                self.total -= num_bytes

            self.alive[key] = weakref.ref(storage, freed)

    def leave(self, storage: Any) -> None:
        """Counts a storage as freed, though something still refers to it."""
        if self.alive.pop(storage._cdata, None) is not None:
            self.total -= storage.nbytes()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing that is allocated inside ``with``."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before
