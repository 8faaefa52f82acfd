"""What was measured on this machine, kept on the disk as a table of plain values by name.

This file knows files, and what a measurement holds for.
"""

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


def place(name: str) -> Path:
    """The file in the user's cache folder for what holds for this processor, version of PyTorch and kernels alone."""
    return cache_folder() / f"{name}-{_identity()}.json"


def read(file: Path, make: Callable[[dict[str, Any]], _Value]) -> dict[str, _Value]:
    """The values in a file; none where it is absent or was spoilt.

    Args:
        file: that ``write`` wrote.
        make: gives a value from its stored fields, or raises ValueError for one that cannot have been meant.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): make(value) for key, value in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def write(file: Path, values: Mapping[str, Any]) -> None:
    """Keep values, which are dataclasses, in a file; a folder that cannot be written is no reason to stop."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {key: dataclasses.asdict(value) for key, value in sorted(values.items())})
    except (OSError, StorageError):
        return


def _identity() -> str:
    """Names the processor, the version of PyTorch and the kernels."""
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    facts = (processor, torch.__version__, torch.backends.cpu.get_cpu_capability(), kernels() is not None)
    return hashlib.blake2b(source() + repr(facts).encode(), digest_size=6).hexdigest()
