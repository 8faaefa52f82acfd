"""Whether a time limit leaves the time to compile the kernels of visus."""

from __future__ import annotations

import math
from typing import Final

import torch

from visus.networks.fast import why_no_kernels
from visus.networks.fast.compiler import TOO_LATE, allow_compiling
from visus.networks.machine import choose
from visus.progress import SILENT, Monitor, Progress
from visus.training.arithmetic import WITHOUT_KERNELS, uses_kernels
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
    is_used = uses_kernels(choose(given.device, given.precision), given.kernels)
    warning = compile_in_time(limit, group, monitor, times, is_used=is_used, can_skip=True)
    return (given.replace(kernels="pytorch"), (warning,)) if warning else (given, ())


def compile_in_time(
    limit: TimeLimit, group: Group, monitor: Monitor, times: CommandTimes, *, is_used: bool, can_skip: bool
) -> str:
    """Compile the kernels now, if there is a time limit that leaves the time for it; a warning if it does not, else empty.

    What is not compiled then is compiled no later, until ``allow_compiling`` is called.

    Args:
        limit, group, monitor, times: as for ``kernels_in_time``.
        is_used: whether this training uses the kernels.
        can_skip: as for ``compile_kernels``.
    """
    if math.isinf(limit.seconds):
        return ""
    left_s = limit.left(0.0)
    has_time = is_used and left_s * BEGUN_SHARE >= COMPILING_S
    allow_compiling(left_s * ENDED_SHARE if has_time else 0.0)
    is_late = compile_kernels(group, monitor if has_time else SILENT, can_skip=can_skip) == TOO_LATE
    if has_time:
        times.mark("kernels")
    is_late = bool(group.all_reduce(torch.tensor(float(is_late))))
    if not (is_used and is_late):
        return ""
    return (
        "the kernels of visus are not compiled here yet, and the time limit leaves no time for it: PyTorch's own compute this training. "
        "To compile them once: visus doctor."
    )


def compile_kernels(group: Group, monitor: Monitor, *, can_skip: bool) -> str:
    """Compile the kernels unless they are, first in one process of each machine; why there are none, or empty.

    Args:
        group: the processes that train together.
        monitor: receives the progress.
        can_skip: whether another setting would skip it; a resumed training keeps its settings.
    """
    monitor.emit(Progress("compiling the kernels, once on this machine", 0, skipped_by=WITHOUT_KERNELS if can_skip else ()))
    with group.local_first():
        return why_no_kernels()
