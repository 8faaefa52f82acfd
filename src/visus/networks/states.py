"""The whole state of a module as tensors by name, also what it returns from ``get_extra_state``; nothing is pickled.

This file knows state dicts. A value that is no tensor becomes a text (JSON, as bytes) under its name and ``::json``; tensors
inside it stand beside it under ``::0``, ``::1`` and so on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import UsageError

_TEXT, _MARK = "::json", "::"


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """``state_dict`` with every value as a tensor.

    Raises:
        UsageError: a value cannot be written without pickle.
    """
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            state[name] = value
        else:
            state |= _encoded(name, value)
    return state


def put_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what ``state_of`` gave, all of it."""
    module.load_state_dict({**plain_state(tensors), **other_state(tensors)})


def put_other_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the values that are no tensors, and leave the tensors of the module as they are."""
    if other := other_state(tensors):
        module.load_state_dict(other, strict=False)


def plain_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that stand for themselves."""
    return {name: value for name, value in tensors.items() if _MARK not in name}


def other_state(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The values that were no tensors, by name."""
    names = [name.removesuffix(_TEXT) for name in tensors if name.endswith(_TEXT)]
    return {name: _decoded(json.loads(bytes(tensors[name + _TEXT].tolist())), name, tensors) for name in names}


def _encoded(name: str, value: object) -> dict[str, Tensor]:
    beside: list[Tensor] = []
    try:
        text = json.dumps(_plain(value, beside)).encode()
    except TypeError as error:
        raise UsageError(
            f"its state holds {error}, which cannot be written without pickle. "
            "Return tensors, numbers, texts, lists and dicts from get_extra_state.",
            where=name.removesuffix("_extra_state").removesuffix("."),
        ) from None
    found = {name + _TEXT: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    return found | {f"{name}{_MARK}{number}": tensor for number, tensor in enumerate(beside)}


def _plain(value: Any, beside: list[Tensor]) -> Any:
    """A value in JSON; what JSON lacks is a table with one name that begins with a dollar."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        kind = "tensor" if isinstance(value, Tensor) else "array" if isinstance(value, np.ndarray) else "scalar"
        if not isinstance(value, Tensor) and value.dtype.kind not in "biufc":
            raise TypeError(f"an array of {value.dtype}")
        beside.append(value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value)))
        return {f"${kind}": len(beside) - 1}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_plain(each, beside) for each in value]
    if isinstance(value, tuple):
        return {"$tuple": [_plain(each, beside) for each in value]}
    if isinstance(value, Mapping):
        return {"$dict": [[_plain(key, beside), _plain(each, beside)] for key, each in value.items()]}
    raise TypeError(f"a value of the type {type(value).__name__}")


def _decoded(value: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(each, name, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "$tensor":
            return tensors[f"{name}{_MARK}{content}"].clone()
        case "$array":
            return tensors[f"{name}{_MARK}{content}"].numpy().copy()
        case "$scalar":
            return tensors[f"{name}{_MARK}{content}"].numpy()[()]
        case "$bytes":
            return base64.b64decode(content)
        case "$tuple":
            return tuple(_decoded(each, name, tensors) for each in content)
        case _:
            return {_decoded(key, name, tensors): _decoded(each, name, tensors) for key, each in content}
