"""Which modules have the weights of a run of this process, so that a second training can say so."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Final

from torch import nn

_TRAINED: Final[weakref.WeakKeyDictionary[nn.Module, Path]] = weakref.WeakKeyDictionary()
"""The modules that this process has trained in place, and copies of those of runs, with the folder of the latest run of each."""


def remember_training(module: nn.Module, folder: Path) -> None:
    """Remember that a module has the weights of a run; the module itself is not changed."""
    _TRAINED[module] = folder


def trained_in(network: object) -> Path | None:
    """The folder of the run whose training gave a module its weights, in this process; None if there is none.

    >>> trained_in(nn.Linear(2, 2)) is None
    True
    """
    return _TRAINED.get(network) if isinstance(network, nn.Module) else None
