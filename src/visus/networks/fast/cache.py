"""Cache files for measurements on this machine: JSON tables of dataclasses by key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from visus.errors import StorageError
from visus.files import write_json
from visus.networks.fast.compiler import cache_folder, kernels, source

_Value = TypeVar("_Value")


def cache_file(name: str) -> Path:
    """Path in the user's cache folder for measurements of this processor, PyTorch version and kernels."""
    return cache_folder() / f"{name}-{_identity()}.json"


def read_cached(file: Path, make: Callable[[dict[str, Any]], _Value]) -> dict[str, _Value]:
    """The values in a file; empty if the file is missing or damaged.

    Args:
        file: a file of ``write``.
        make: makes a value from its stored fields; raises ValueError for an invalid one.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): make(value) for key, value in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def write(file: Path, values: Mapping[str, Any]) -> None:
    """Write dataclass values to a file; if the folder is not writable, do nothing."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {key: dataclasses.asdict(value) for key, value in sorted(values.items())})
    except (OSError, StorageError):
        return


def _identity() -> str:
    """A hash of the processor, the PyTorch version and the kernels."""
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    facts = (processor, torch.__version__, torch.backends.cpu.get_cpu_capability(), kernels() is not None)
    return hashlib.blake2b(source() + repr(facts).encode(), digest_size=6).hexdigest()
