"""Whether a time limit leaves the time to compile the kernels of visus."""

from __future__ import annotations

import math
from typing import Final

import torch

from visus.networks.fast import why_no_kernels
from visus.networks.fast.compiler import TOO_LATE, allow_compiling
from visus.networks.machine import choose
from visus.progress import Monitor, Progress
from visus.training.distribution import Group
from visus.training.recipe import Recipe
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.time_limit import TimeLimit

COMPILING_S: Final = 40.0
"""Seconds that compiling takes on two cores that do other work too."""
BEGUN_SHARE: Final = 0.25
"""Compiling begins if it is expected to take at most this share of the time that is left."""
ENDED_SHARE: Final = 0.5
"""Compiling ends without kernels once it has taken this share of the time that was left."""


def kernels_in_time(
    given: Recipe, limit: TimeLimit, group: Group, monitor: Monitor, times: CommandTimes
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe for a time limit, with PyTorch's own kernels if compiling those of visus takes too long, and a warning then.

    Kernels that are compiled already are used, however short the limit is.

    Args:
        given: the recipe as the user set it.
        limit: the time limit of the command.
        group: the processes that train together; all of them use the same kernels.
        monitor: receives the progress.
        times: the parts of the command's time.
    """
    if math.isinf(limit.seconds):
        return given, ()
    machine, left_s = choose(given.device, given.precision), limit.left(0.0)
    has_use = (machine.device.type, machine.precision, given.kernels) == ("cpu", "bfloat16", "auto")
    has_time = has_use and left_s * BEGUN_SHARE >= COMPILING_S
    allow_compiling(left_s * ENDED_SHARE if has_time else 0.0)
    if has_time:
        monitor.emit(Progress("compiling the kernels, once on this machine", 0))
    with group.local_first():
        is_late = why_no_kernels() == TOO_LATE
    if has_time:
        times.mark("kernels")
    is_late = bool(group.all_reduce(torch.tensor(float(is_late))))
    if not (has_use and is_late):
        return given, ()
    return given.replace(kernels="pytorch"), (
        "the kernels of visus are not compiled here yet, and the time limit leaves no time for it: PyTorch's own compute this training. "
        "To compile them once: visus doctor.",
    )
