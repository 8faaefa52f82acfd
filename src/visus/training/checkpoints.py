"""Checkpoints: the whole state of a training in one file, for an exact resume.

A checkpoint is one safetensors file: tensors by name (``model.``, ``average.``, ``optimizer.<number>.``, ``random.torch``) and, in its header,
everything else as JSON. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
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
from visus.training.runs import current_columns
from visus.training.selection import Selection

FORMAT = "visus checkpoint 2"


@dataclass
class Position:
    """The progress of a training: the part of its state that is not a tensor.

    Args:
        epoch: epoch of the next step, from 0.
        step: next step within that epoch, from 0.
        num_steps: total number of finished steps.
        elapsed_s: training time so far, in seconds.
        loss_sum: sum of the losses of this epoch's samples so far.
        num_right: number of this epoch's samples that were predicted correctly.
        num_seen: number of this epoch's samples so far.
        epoch_s: training time in this epoch, in seconds.
        history: finished epochs, one row of ``results.csv`` each.
        selection: the epoch that is kept so far, and the criteria for the next ones.
        smooth_loss: running mean of the loss, to detect divergence; None before the first step.
        num_averaged: number of steps in the weight average.
        size: input size of the last step, as a fraction of the full size.
        until_s: training time at which to end, in seconds; None for no limit.
        num_resumed: how often the training was resumed.
        epochs_trained: number of trained epochs; an epoch that a time limit cut counts as a part.
        ended: why the training ended; empty before its end.
        lr_scale: factor of every learning rate, by answers of a person.
        is_finishing: whether a person asked for the end of the training.
        changes: what was changed while the training ran, for ``changes.json``.
        num_slices: number of slices in which each step is computed, where memory needs more than the recipe says; else 0.
        loss_scale: state of the scaling of float16 gradients; empty in other precisions.
        num_skipped: number of steps that were skipped because float16 gradients were infinite.
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
    num_resumed: int = 0
    epochs_trained: float = 0.0
    ended: str = ""
    lr_scale: float = 1.0
    is_finishing: bool = False
    changes: list[dict[str, Any]] = field(default_factory=list)
    num_slices: int = 0
    loss_scale: dict[str, Any] = field(default_factory=dict)
    num_skipped: int = 0

    @property
    def best_epoch(self) -> int:
        """Epoch whose weights are kept, from 0; -1 for none, or for the starting weights."""
        return self.selection.best_epoch

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Position:
        """The inverse of ``dataclasses.asdict``."""
        history = [current_columns(row) for row in facts["history"]]
        return cls(**facts | {"history": history, "selection": Selection.from_json(facts["selection"])})


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
        path: file to write.
        position: progress of the training.
        module: the trained network.
        average: the weight average; None if there is none.
        optimizer: the optimizer of ``module``.
        identity: facts that must be equal when the training resumes (design, data, recipe), by name.
        num_processes: number of processes of the training.

    Raises:
        StorageError: the file cannot be written; the previous one is intact.
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
    """Load the state in ``path`` into module, average, optimizer and the random generators.

    The number of threads is restored too if the number of processes is the same.

    Returns:
        The progress of the training.

    Raises:
        RunError: there is no checkpoint.
        WeightsError: the file is damaged, or belongs to another design, dataset or recipe.
    """
    tensors, header = _read(path)
    for name, value in identity.items():
        was = header["identity"].get(name, value)  # what an earlier version did not record is not compared
        if was != value:
            before, now = _different(was, value)
            raise WeightsError(
                f"this checkpoint belongs to another {name}: {_shorten(before)}, not {_shorten(now)}. "
                f"Continue with the same {name}, or start a new run without --resume.",
                where=str(path),
            )
    _load_module(module, tensors, "model.", path)
    if average is not None:
        _load_module(average, tensors, "average.", path)
    _load_optimizer(optimizer, tensors, header["optimizer"])
    torch.set_rng_state(tensors["random.torch"])
    version, keys, gauss = header["random"]["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numpy_keys, *rest = header["random"]["numpy"]
    np.random.set_state((kind, np.array(numpy_keys, dtype=np.uint32), *rest))
    if header.get("num_processes", 1) == num_processes:
        torch.set_num_threads(int(header["num_threads"]))
    return Position.from_json(header["position"])


def read_position(path: Path) -> Position:
    """The progress of a training, from the header of its checkpoint.

    Raises:
        RunError: there is no checkpoint.
        WeightsError: the file is damaged.
    """
    return Position.from_json(_read(path, with_tensors=False)[1]["position"])


def _read(path: Path, *, with_tensors: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise RunError(
            "there is no checkpoint here, so this training cannot resume. Start it again without --resume.", where=str(path)
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["visus"])
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
        if header["format"] != FORMAT:
            raise KeyError(header["format"])
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise WeightsError(
            "this is not a complete checkpoint of visus. Start the training again without --resume.", where=str(path)
        ) from error
    return tensors, header


@torch.no_grad()
def _load_module(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    """Copy tensors into those of the module, which keep their memory format."""
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
            f"{'does' if len(wrong) == 1 else 'do'} not match. Continue with the same network, or start a new run without --resume.",
            where=str(path),
        )
    for name, value in own.items():
        value.copy_(stored[name])
    put_other_state(module, found)


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], scalars: dict[str, dict[str, Any]]
) -> None:
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in scalars.items()}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _different(before: str, now: str) -> tuple[str, str]:
    """Of two lists of settings those that differ, else both texts whole.

    >>> _different("epochs=3, crop=(0.5, 1), seed=0", "epochs=4, crop=(0.5, 1), seed=0")
    ('epochs=3', 'epochs=4')
    """
    first, second = (re.split(r", (?=\w+=)", text) for text in (before, now))
    if len(first) != len(second) or not all(re.match(r"\w+=", each) for each in (*first, *second)):
        return before, now
    pairs = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    return ", ".join(pair[0] for pair in pairs), ", ".join(pair[1] for pair in pairs)


def _shorten(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57] + "...")
