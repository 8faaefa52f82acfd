"""Weights in and out as safetensors, and the layers named that do not fit.

This file knows tensors by name and one file at a time. It must not know designs, runs or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from visus.errors import WeightsError, closest_name, joined
from visus.files import write_file
from visus.units import write_shape

MAX_NAMED = 10  # so many layers that do not fit are named, the others counted


def save(tensors: Mapping[str, Tensor] | nn.Module, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, whole or not at all.

    The bytes go to a new file in the same folder, are flushed to the disk, and take the name ``path`` in one step: a process
    killed at any moment leaves the old file or the new one.

    Args:
        tensors: tensors by name, or a module for its state.
        path: the file; its folder must exist.
        metadata: texts by name, stored beside the tensors.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    state = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    write_file(Path(path), safetensors.torch.save(plain, dict(metadata) if metadata else None))


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        WeightsError: the file is missing, damaged or of another kind.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            return tensors, dict(file.metadata() or {})
    except FileNotFoundError:
        raise WeightsError("there is no such file of weights.", where=str(path)) from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"this is no whole safetensors file ({error}). Take another copy of it.", where=str(path)
        ) from None


def fit(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a module, all of them or none.

    Raises:
        WeightsError: tensors are missing, superfluous or of another shape or kind; each is named with its layer.
    """
    state = module.state_dict()
    messages = [_misfit(name, own, tensors, state) for name, own in state.items()]
    messages += [_superfluous(name, state, tensors) for name in tensors if name not in state]
    mistakes = [message for message in messages if message]
    if mistakes:
        told = joined(mistakes)
        if len(mistakes) > MAX_NAMED:
            lines = "\n".join(f"  - {mistake}" for mistake in mistakes[:MAX_NAMED])
            told = f"{len(mistakes)} mistakes; the first {MAX_NAMED}:\n{lines}"
        raise WeightsError(f"the weights do not fit the network. {told}")
    module.load_state_dict(dict(tensors))


def _misfit(name: str, own: Tensor, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """The sentence on a tensor that the network needs and does not get; empty where it fits."""
    if name not in tensors:
        return f"{name} ({_size(own)}) is missing from the weights."
    given = tensors[name]
    if given.shape != own.shape:
        return f"{name} is {_size(given)} in the weights and {_size(own)} in the network."
    if given.is_floating_point() != own.is_floating_point():
        return f"{name} is {_kind(given)} in the weights and {_kind(own)} in the network."
    return ""


def _superfluous(name: str, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    missing = [own for own in state if own not in tensors]
    guess = closest_name(name, missing)
    hint = f" Was it {guess!r}?" if guess else ""
    return f"{name} is in the weights, and the network has no such layer.{hint}"


def _size(tensor: Tensor) -> str:
    return write_shape(tensor.shape) or "one number"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
