"""The duration of scoring and report after the last step: measured earlier on this machine, or estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from visus.data.opened import Data
from visus.networks.fast import cache
from visus.units import write_shape
from visus.workbench.modules import BuiltNetwork, count_macs

PAGE_S: Final = 2.0  # of writing the pages, after the measurements
FIXED_S: Final = 10.0  # of the report's figures and pages
MACS_PER_S: Final = 3e10
PASSES: Final = 6.0  # forward passes over the held-out samples that scoring and report make, in all


@dataclass(frozen=True)
class Ending:
    """Measured seconds from the last step to the end of the command."""

    seconds: float


def ending_s(data: Data, made: BuiltNetwork) -> float:
    """Expected seconds for scoring and report."""
    known = cache.read_cached(cache.cache_file("endings"), _as_ending)
    if found := known.get(_key(data, made)):
        return found.seconds
    try:
        macs = count_macs(made.module, data.input_shape)
    except Exception:  # whatever a person's own module raises
        return FIXED_S
    return FIXED_S + PASSES * len(data.split(data.scored_split)) * macs / MACS_PER_S


def remember_ending(data: Data, made: BuiltNetwork, seconds: float) -> None:
    """Save the measured duration for the next training of this network with the same number of samples."""
    file = cache.cache_file("endings")
    cache.write(file, cache.read_cached(file, _as_ending) | {_key(data, made): Ending(seconds)})


def _key(data: Data, made: BuiltNetwork) -> str:
    num_samples = len(data.split(data.scored_split))
    return f"{write_shape(data.input_shape)}; {num_samples} samples; {' '.join(made.text.split())}"


def _as_ending(value: dict[str, Any]) -> Ending:
    """From its stored fields.

    Raises:
        ValueError: it cannot have been measured.
    """
    ending = Ending(float(value["seconds"]))
    if not 0 <= ending.seconds < 1e7:
        raise ValueError(ending)
    return ending
