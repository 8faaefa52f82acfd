"""The whole state of a module as tensors by name, including ``get_extra_state``, without pickle.

A value that is not a tensor becomes JSON text (as a tensor of bytes) with the suffix ``::json``; tensors within it have the suffixes ``::0``, ``::1`` and so
on.
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
    """The ``state_dict`` of a module, with every value as a tensor.

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
    """Load the whole result of ``state_of``."""
    module.load_state_dict({**plain_state(tensors), **other_state(tensors)})


def put_other_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load only the values that are not tensors."""
    if other := other_state(tensors):
        module.load_state_dict(other, strict=False)


def plain_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries that are tensors in the ``state_dict`` too."""
    return {name: value for name, value in tensors.items() if _MARK not in name}


def other_state(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The decoded values that are not tensors, by name."""
    names = [name.removesuffix(_TEXT) for name in tensors if name.endswith(_TEXT)]
    return {name: _decoded(json.loads(bytes(tensors[name + _TEXT].tolist())), name, tensors) for name in names}


def _encoded(name: str, value: object) -> dict[str, Tensor]:
    nested: list[Tensor] = []
    try:
        text = json.dumps(_plain(value, nested)).encode()
    except TypeError as error:
        raise UsageError(
            f"its state holds {error}, which cannot be written without pickle. "
            "Return tensors, numbers, texts, lists and dicts from get_extra_state.",
            where=name.removesuffix("_extra_state").removesuffix("."),
        ) from None
    found = {name + _TEXT: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    return found | {f"{name}{_MARK}{number}": tensor for number, tensor in enumerate(nested)}


def _plain(value: Any, nested: list[Tensor]) -> Any:
    """Encode a value for JSON; types that JSON lacks become an object with one key that starts with ``$``."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        kind = "tensor" if isinstance(value, Tensor) else "array" if isinstance(value, np.ndarray) else "scalar"
        if not isinstance(value, Tensor) and value.dtype.kind not in "biufc":
            raise TypeError(f"an array of {value.dtype}")
        nested.append(value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value)))
        return {f"${kind}": len(nested) - 1}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_plain(each, nested) for each in value]
    if isinstance(value, tuple):
        return {"$tuple": [_plain(each, nested) for each in value]}
    if isinstance(value, Mapping):
        return {"$dict": [[_plain(key, nested), _plain(each, nested)] for key, each in value.items()]}
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
