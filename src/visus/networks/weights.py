"""Weights in and out as safetensors, and the layers named that do not fit.

This file knows tensors by name and one file at a time. It must not know designs, runs or training.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from visus.errors import StorageError, WeightsError, closest_name, joined
from visus.units import write_bytes, write_shape

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
    write_whole(safetensors.torch.save(plain, dict(metadata) if metadata else None), path)


def write_whole(content: bytes, path: Path | str) -> None:
    """Write a file so that it is never half there: a new file, flushed, then renamed.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _flush_folder(target.parent)
    except OSError as error:
        _remove(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk is full: {write_bytes(len(content))} are needed and {_free_text(target.parent)}. "
                "Make room, or choose another folder. Nothing that was there is lost.",
                where=str(target),
            ) from None
        raise StorageError(f"this cannot be written: {error.strerror or error}.", where=str(target)) from None
    except BaseException:
        _remove(temporary)
        raise


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
        shown = mistakes[:MAX_NAMED]
        if len(mistakes) > MAX_NAMED:
            shown.append(f"and {len(mistakes) - MAX_NAMED} more.")
        raise WeightsError(f"the weights do not fit the network. {joined(shown)}")
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


def _flush_folder(folder: Path) -> None:
    """Make the new name itself lasting, where the system allows folders to be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _free_text(folder: Path) -> str:
    try:
        return f"{write_bytes(shutil.disk_usage(folder).free)} are free"
    except OSError:
        return "less are free"
