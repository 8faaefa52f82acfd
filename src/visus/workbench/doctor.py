"""What this machine is, what is fast on it, and where decoded data lies.

This file knows which facts belong together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from visus.data.cache import cache_folder
from visus.networks.fast import why_no_kernels
from visus.networks.machine import choose, describe, quick_speed


def examine_machine() -> dict[str, Any]:
    """Versions and devices, a short measurement of each way of computing, the choice that visus makes, and the cache.

    Returns:
        ``machine`` (see ``networks.machine.describe``), ``speeds`` (name, samples_per_second, ratio to plain float32), ``choice``
        (one sentence), ``kernels`` (``ready``, or why visus's own are not used) and ``cache`` (folder, bytes).
    """
    cache = cache_folder()
    num_bytes = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    return {
        "machine": describe(cache),
        "speeds": [dataclasses.asdict(speed) | {"name": speed.name} for speed in quick_speed()],
        "choice": choose().reason,
        "kernels": why_no_kernels() or "ready",
        "cache": {"folder": str(cache), "bytes": num_bytes},
    }
