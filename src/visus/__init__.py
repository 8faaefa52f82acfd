"""visus: design, train, look inside and ship convolutional networks, with nothing changed in silence.

The names below are all that is needed for the main job; each is loaded when it is first used, so ``import visus`` does not load
torch.

>>> import visus
>>> data = visus.open_data("photos")  # doctest: +SKIP
>>> run = visus.train(data)  # doctest: +SKIP
>>> [answer.label for answer in run.predict(["new.jpg"])]  # doctest: +SKIP
['cat']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Data": "visus.data.opened",
    "Design": "visus.design",
    "Recipe": "visus.training.recipe",
    "Run": "visus.workbench.runs.run",
    "VisusError": "visus.errors",
    "load": "visus.workbench.runs.run",
    "look": "visus.workbench.look.looking",
    "network": "visus.workbench.modules",
    "open_data": "visus.workbench.opening",
    "parse": "visus.design",
    "resume": "visus.workbench.train.training",
    "slow_down": "visus.networks.fast",
    "speed_up": "visus.networks.fast",
    "summary": "visus.workbench.summaries",
    "train": "visus.workbench.train.training",
}

__all__ = [
    "Data",
    "Design",
    "Recipe",
    "Run",
    "VisusError",
    "__version__",
    "load",
    "look",
    "network",
    "open_data",
    "parse",
    "resume",
    "slow_down",
    "speed_up",
    "summary",
    "train",
]

if TYPE_CHECKING:
    from visus.data.opened import Data
    from visus.design import Design, parse
    from visus.errors import VisusError
    from visus.networks.fast import slow_down, speed_up
    from visus.training.recipe import Recipe
    from visus.workbench.look.looking import look
    from visus.workbench.modules import network
    from visus.workbench.opening import open_data
    from visus.workbench.runs.run import Run, load
    from visus.workbench.summaries import summary
    from visus.workbench.train.training import resume, train


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
