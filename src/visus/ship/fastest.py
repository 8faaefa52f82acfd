"""The fastest engine of a bundle on this machine: measured once, and kept in the cache folder."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from visus import __version__
from visus.data.cache import cache_folder
from visus.errors import StorageError
from visus.files import write_json
from visus.limits import processor_features, processor_name, usable_cores
from visus.progress import SILENT, Monitor
from visus.ship.engine_times import measure_engines
from visus.ship.engines import ENGINES
from visus.ship.files import BundleFiles
from visus.ship.manifest import digest

TIME_LIMIT_S: Final = 20.0
ROUNDS: Final = 5


@dataclass(frozen=True)
class Choice:
    """The engine that was the fastest within its tolerance.

    Args:
        engine: its name.
        precision: of its arithmetic.
        num_measured: engines and precisions that were measured.
        factor: samples per second beside those of the slowest of them within its tolerance, the geometric mean over the batches.
    """

    engine: str
    precision: str
    num_measured: int
    factor: float

    def sentence(self) -> str:
        """The choice in a few words.

        >>> Choice("openvino", "int8", 3, 2.414).sentence()
        'the fastest of 3 measured on this machine, 2.41 times as fast as the slowest'
        """
        if self.num_measured == 1:
            return "the only one within its tolerance on this machine"
        return f"the fastest of {self.num_measured} measured on this machine, {self.factor:.3g} times as fast as the slowest"


def fastest_engine(files: BundleFiles, precision: str, threads: int | None, monitor: Monitor = SILENT) -> Choice:
    """Choose the engine: the one kept for this bundle on this machine, else the one that is measured now.

    The engines that need no PyTorch take part. An engine must answer as the run did, within the tolerance of its precision.

    Args:
        files: the bundle.
        precision: of the arithmetic; empty for any.
        threads: of one prediction; None for all.
        monitor: follows the work.

    Raises:
        UsageError: no engine answers within its tolerance.
    """
    names = [each.name for each in ENGINES if not each.needs_torch and each.is_installed]
    path = _path(files, names, precision, threads)
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Choice(**json.loads(path.read_text(encoding="utf-8")))
    choice = _measured(files, names, precision, threads, monitor)
    with contextlib.suppress(StorageError, OSError):  # a choice that cannot be kept is measured again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(choice))
    return choice


def _measured(files: BundleFiles, names: list[str], precision: str, threads: int | None, monitor: Monitor) -> Choice:
    count = threads or usable_cores()
    found = measure_engines(
        files,
        engines=names,
        precisions=(precision,) if precision else (),
        threads=(count,),
        rounds=ROUNDS,
        time_limit_s=TIME_LIMIT_S,
        monitor=monitor,
    )
    best = found.fastest(count).check
    rates = [found.rate(each.check.engine, each.check.precision, count) for each in found.scores if each.is_within]
    return Choice(best.engine, best.precision, len(rates), max(rates) / min(rates))


def _path(files: BundleFiles, names: list[str], precision: str, threads: int | None) -> Path:
    """The file of the choice: its name follows from the bundle, the machine and the versions of the engines."""
    facts = {
        "bundle": files.digest,
        "processor": [processor_name(), *processor_features()],
        "threads": threads or usable_cores(),
        "precision": precision,
        "engines": {name: _version(name) for name in names},
        "visus": __version__,
    }
    return cache_folder() / "engines" / f"{digest(json.dumps(facts, sort_keys=True))[:32]}.json"


def _version(name: str) -> str:
    package = next(each.package for each in ENGINES if each.name == name)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""
