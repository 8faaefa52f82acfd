"""Weights files: saves safetensors, loads safetensors and PyTorch state dicts, and names the layers that do not match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from visus.errors import WeightsError, closest_name, join_messages
from visus.files import write_file
from visus.networks import pytorch_files
from visus.networks.states import plain_state, put_state, state_of
from visus.units import write_number_of, write_shape

MAX_NAMED = 10  # maximum number of mismatched layers in an error message
_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "model", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What training code puts before the names of a network: data-parallel training, ``torch.compile``, and modules around it."""
_COUNTER = "num_batches_tracked"


def save(tensors: Mapping[str, Tensor] | nn.Module, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically.

    It writes and flushes a temporary file in the same folder, and then renames it. A process that is killed leaves either the old file or the new one.

    Args:
        tensors: tensors by name, or a module, of which the state is saved.
        path: the file; its folder must exist.
        metadata: texts by name, stored in the header.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    state = state_of(tensors) if isinstance(tensors, nn.Module) else tensors
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
        raise WeightsError("there is no such weights file.", where=str(path)) from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"this is not a complete safetensors file ({error}). Use another copy of it.", where=str(path)
        ) from None


def read_metadata(path: Path | str) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other files."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError):
        return {}


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict of ``torch.save``; no code in the file runs.

    A state dict may be nested under ``state_dict``, ``model_state_dict``, ``state_dict_ema``, ``model`` or ``weights``.

    Raises:
        WeightsError: the file is missing or damaged, or holds something other than tensors by name.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise WeightsError(f"this weights file cannot be read: {error.strerror}.", where=str(path)) from None
    if not start.startswith(pytorch_files.STARTS):
        return load(path)[0]
    found = pytorch_files.read_state_dict(Path(path))
    while isinstance(found, Mapping) and (
        inner := next((found[word] for word in _WRAPPERS if _is_nested(found, word)), None)
    ):
        found = inner
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(
            f"a dict of tensors is needed, and this file holds {_content(found)}. {pytorch_files.SAVE}",
            where=str(path),
        )
    return {str(name): value for name, value in found.items()}


def _is_nested(found: Mapping[str, object], word: str) -> bool:
    """Whether a mapping has another one under a word."""
    return isinstance(found.get(word), Mapping)


def without_prefix(module: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors without the prefixes that all of their names have and that those of a module do not have.

    >>> without_prefix(nn.Linear(1, 1), {"model.weight": Tensor(1), "model.bias": Tensor(1)})[1]
    'model.'
    """
    own, found, dropped = set(module.state_dict()), dict(tensors), ""
    while found and not own & set(found):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in found)), None)
        if prefix is None:
            break
        found, dropped = {name.removeprefix(prefix): value for name, value in found.items()}, dropped + prefix
    return (found, dropped) if own & set(found) else (dict(tensors), "")


def _content(found: object) -> str:
    """A short description of a file's content that is not a state dict."""
    if isinstance(found, Mapping):
        return f"a dict of {', '.join(str(name) for name in list(found)[:5])}" if found else "an empty dict"
    return f"a {type(found).__name__}"


def head_of(module: nn.Module) -> tuple[str, nn.Linear] | None:
    """Path and module of the head, the last linear layer; None if there is none."""
    linears = [(path, part) for path, part in module.named_modules() if isinstance(part, nn.Linear)]
    return linears[-1] if linears else None


def load_initial_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], num_classes: int | None = None
) -> tuple[str, ...]:
    """Load tensors into a module for fine-tuning; a head for another number of classes keeps its new weights.

    ``num_batches_tracked``, which old files lack, may be missing. All other tensors must match.

    Args:
        module: the network, changed in place.
        tensors: tensors by name.
        num_classes: number of outputs of the network, by which heads are found that are not its last linear layer; None to look there only.

    Returns:
        Names of the head's tensors that were not loaded.

    Raises:
        WeightsError: tensors are missing, superfluous, of another shape or dtype, or hold NaN or infinity. The message names each of them, and nothing
            is loaded.
    """
    state = state_of(module)
    head = head_of(module)
    own_head = [f"{head[0]}.{name}".removeprefix(".") for name in ("weight", "bias")] if head else []
    heads = own_head if num_classes is None else [name for name, own in state.items() if own.shape[:1] == (num_classes,)]
    not_loaded = [
        name
        for name in dict.fromkeys((*own_head, *heads))
        if name in state and name in tensors and tensors[name].shape[1:] == state[name].shape[1:]
        if tensors[name].dim() == state[name].dim() and len(tensors[name]) != len(state[name])
    ]
    kept = {name: value for name, value in state.items() if name in not_loaded or name.endswith(_COUNTER)}
    loaded = {name: value for name, value in tensors.items() if name not in not_loaded}
    fit_weights(module, kept | loaded, [message for name, value in loaded.items() if (message := _not_finite(name, value))])
    return tuple(not_loaded)


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], found: Sequence[str] = ()) -> None:
    """Load tensors into a module, either all of them or none.

    Args:
        module: the network.
        tensors: tensors by name.
        found: earlier error messages about the tensors.

    Raises:
        WeightsError: tensors are missing, superfluous, or of another shape or dtype; the message names each of them.
    """
    state = plain_state(state_of(module))
    tensors, given = plain_state(tensors), tensors
    messages = [_misfit(name, own, tensors, state) for name, own in state.items()]
    messages += [_superfluous(name, state, tensors) for name in tensors if name not in state]
    mistakes = [*(message for message in messages if message), *found]
    if mistakes:
        details = join_messages(mistakes)
        if len(mistakes) > MAX_NAMED:
            lines = "\n".join(f"  - {mistake}" for mistake in mistakes[:MAX_NAMED])
            details = f"{len(mistakes)} mistakes; the first {MAX_NAMED}:\n{lines}"
        raise WeightsError(f"the weights do not match the network. {details}")
    put_state(module, given)


def _misfit(name: str, own: Tensor, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Error message for a tensor of the network that is missing or does not match; empty if it matches."""
    if name not in tensors:
        return f"{name} ({_size(own)}) is missing from the weights."
    given = tensors[name]
    if given.shape != own.shape:
        return f"{name} is {_size(given)} in the weights and {_size(own)} in the network."
    if given.is_floating_point() != own.is_floating_point():
        return f"{name} is {_kind(given)} in the weights and {_kind(own)} in the network."
    return ""


def _not_finite(name: str, tensor: Tensor) -> str:
    """Error message for a tensor with NaN or infinity; empty if it is finite."""
    num_bad = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
    return f"{name} holds NaN or infinity in {num_bad:,} of {write_number_of(tensor.numel(), 'value')}." if num_bad else ""


def _superfluous(name: str, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    missing = [own for own in state if own not in tensors]
    guess = closest_name(name, missing)
    hint = f" Was it {guess!r}?" if guess else ""
    return f"{name} is in the weights, and the network has no such layer.{hint}"


def _size(tensor: Tensor) -> str:
    return write_shape(tensor.shape) or "one number"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
