"""Experiments with a trained run: train it again with one change, and compare both on the same held-out samples.

==============  =================================================================================
``mlp``         the network beside multilayer perceptrons of equal parameters and of equal width
``shuffle``     the network beside itself, trained on images whose pixels are in one random order
``task``        the filters of the network beside those of the same network trained for another task
``antialias``   the network beside its antialiased design, which answers more evenly under shifts
==============  =================================================================================

Each takes a run or its folder, trains new runs beside it, and returns a comparison with ``text()`` and ``to_json()``.

>>> from visus import experiment
>>> experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10).twins[0].account.num_parameters
44426
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["antialias", "mlp", "shuffle", "task"]

if TYPE_CHECKING:
    from visus.workbench.experiment.experiments import antialias, mlp, shuffle, task


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'visus.experiment' has no attribute {name!r}")
    value = getattr(import_module("visus.workbench.experiment.experiments"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
