"""Experiments with a trained run: train it again with one change, and compare both.

    mlp        the network beside multilayer perceptrons of equal parameters and equal width
    shuffle    the network beside itself, trained on images with all pixels in one random order
    task       its filters beside those of the same network, trained for another task
    antialias  the network beside its antialiased design, under shifts of the samples

Each function takes a run or its folder, trains new runs beside it, and compares all of them on
the same held-out samples. Results have text() and to_json().

>>> from visus import experiment
>>> twins = experiment.mlp("lenet5", input_shape=(1, 28, 28), num_classes=10)
>>> twins.twins[0].account.num_parameters
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
    home = import_module("visus.workbench.experiment.experiments")
    value = import_module("visus.workbench.keywords").checked(getattr(home, name))
    setattr(home, name, value)  # where pickle looks for it
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
