"""The whole state of a training in one file, from which it goes on as if it had never stopped.

This file knows tensors, counters and random states. A checkpoint is one safetensors file: tensors by name (``model.``,
``average.``, ``optimizer.<number>.``, ``random.torch``) and, in its header, everything else as JSON. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from visus.errors import RunError, WeightsError
from visus.files import write_file
from visus.networks.states import plain_state, put_other_state, state_of
from visus.training.selection import Selection

FORMAT = "visus checkpoint 2"


@dataclass
class Position:
    """Where a training is.

    Args:
        epoch: the epoch of the next step, from 0.
        step: the next step within that epoch.
        num_steps: steps done in all.
        elapsed_s: seconds of training so far.
        loss_sum, num_right, num_seen: sums over this epoch's samples so far.
        epoch_s: seconds in this epoch so far.
        history: finished epochs, one row of ``results.csv`` each.
        selection: which epoch is kept so far, and what the next ones are compared with.
        smooth_loss: running mean of the loss, by which divergence is seen.
        num_averaged: steps whose weights are in the average so far.
        size: part of the full input size at which the last step saw its samples.
        until_s: seconds of training after which to be done; None for no such limit.
    """

    epoch: int = 0
    step: int = 0
    num_steps: int = 0
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    num_right: int = 0
    num_seen: int = 0
    epoch_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    selection: Selection = field(default_factory=Selection)
    smooth_loss: float | None = None
    num_averaged: int = 0
    size: float = 1.0
    until_s: float | None = None

    @property
    def best_epoch(self) -> int:
        """The epoch that is kept so far, from 0; -1 for none, or for the weights that the training started from."""
        return self.selection.best_epoch

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Position:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**facts | {"selection": Selection.from_json(facts["selection"])})


def write_checkpoint(
    path: Path,
    position: Position,
    module: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, str],
    num_processes: int = 1,
) -> None:
    """Write the whole state to ``path``, atomically.

    Args:
        identity: what must be the same when the training goes on (design, data, recipe), by name.
        num_processes: that train together.

    Raises:
        StorageError: the file cannot be written; the one before it is untouched.
    """
    tensors = {f"model.{name}": value for name, value in state_of(module).items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in state_of(average).items()}
    scalars: dict[str, dict[str, Any]] = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    tensors["random.torch"] = torch.get_rng_state()
    numpy_kind, numpy_keys, *numpy_rest = np.random.get_state()
    version, python_keys, gauss = random.getstate()
    header = {
        "format": FORMAT,
        "position": dataclasses.asdict(position),
        "identity": identity,
        "optimizer": scalars,
        "random": {
            "python": [version, list(python_keys), gauss],
            "numpy": [numpy_kind, [int(key) for key in numpy_keys], *numpy_rest],
        },
        "num_threads": torch.get_num_threads(),
        "num_processes": num_processes,
    }
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_file(path, safetensors.torch.save(plain, {"visus": json.dumps(header)}))


def read_checkpoint(
    path: Path,
    module: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, str],
    num_processes: int = 1,
) -> Position:
    """Put the state in ``path`` into module, average, optimizer and the random generators.

    The number of threads becomes that of the training too, where as many processes share the cores as did then.

    Returns:
        Where the training is.

    Raises:
        RunError: there is no checkpoint.
        WeightsError: the file is damaged, or belongs to another design, data set or recipe.
    """
    tensors, header = _read(path)
    for name, value in identity.items():
        was = header["identity"].get(name, "")
        if was != value:
            raise WeightsError(
                f"this checkpoint belongs to another {name}: {_short(was)}, not {_short(value)}. "
                f"Go on with the same {name}, or start a new run without --resume.",
                where=str(path),
            )
    _fill(module, tensors, "model.", path)
    if average is not None:
        _fill(average, tensors, "average.", path)
    _fill_optimizer(optimizer, tensors, header["optimizer"])
    torch.set_rng_state(tensors["random.torch"])
    version, keys, gauss = header["random"]["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numpy_keys, *rest = header["random"]["numpy"]
    np.random.set_state((kind, np.array(numpy_keys, dtype=np.uint32), *rest))
    if header.get("num_processes", 1) == num_processes:
        torch.set_num_threads(int(header["num_threads"]))
    return Position.from_json(header["position"])


def read_position(path: Path) -> Position:
    """Where the training of a checkpoint is, from its header alone.

    Raises:
        RunError: there is no checkpoint.
        WeightsError: the file is damaged.
    """
    return Position.from_json(_read(path)[1]["position"])


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise RunError(
            "there is no checkpoint here, so this training cannot go on. Start it anew, without --resume.", where=str(path)
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["visus"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if header["format"] != FORMAT:
            raise KeyError(header["format"])
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise WeightsError(
            "this is not a whole checkpoint of visus. Start the training anew, without --resume.", where=str(path)
        ) from error
    return tensors, header


@torch.no_grad()
def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    """Copy tensors into the module's own, so that their memory format stays."""
    own = plain_state(state_of(module))
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    stored = plain_state(found)
    wrong = sorted(
        name
        for name in own.keys() | stored.keys()
        if name not in own or name not in stored or own[name].shape != stored[name].shape
    )
    if wrong:
        raise WeightsError(
            f"this checkpoint belongs to another network: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''} "
            f"{'does' if len(wrong) == 1 else 'do'} not fit. Go on with the same network, or start a new run without --resume.",
            where=str(path),
        )
    for name, value in own.items():
        value.copy_(stored[name])
    put_other_state(module, found)


def _fill_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], scalars: dict[str, dict[str, Any]]
) -> None:
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in scalars.items()}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57] + "...")
