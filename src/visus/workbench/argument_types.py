"""Arguments of the wrong type: what a public function needs, by its annotations, and what was given instead."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Final


def wrong_types(function: str, signature: inspect.Signature, given: Mapping[str, object]) -> list[str]:
    """A sentence for each argument whose type does not fit its annotation. Annotations with other words than those of ``_KINDS`` are not checked.

    Args:
        function: its name.
        signature: its signature, with annotations as text.
        given: the arguments by name.

    >>> def train(epochs: int | None, name: str): ...
    >>> wrong_types("train", inspect.signature(train), {"epochs": "3", "name": "cats"})
    ["train: epochs must be a whole number or None, not '3'."]
    """
    found = []
    for name, value in given.items():
        parameter = signature.parameters.get(name)
        kinds = () if parameter is None or name in _OTHERS else str(parameter.annotation).split(" | ")
        if not kinds or not set(kinds) <= _KINDS.keys() or any(_KINDS[kind][1](value) for kind in kinds):
            continue
        words = list(dict.fromkeys(_KINDS[kind][0] for kind in kinds if not (kind == "str" and "Path" in kinds)))
        hint = f" {_HINTS[name]}" if name in _HINTS and isinstance(value, (str, os.PathLike)) else ""
        found.append(f"{function}: {name} must be {' or '.join(words)}, not {shortened(value)}.{hint}")
    return found


def shortened(value: object) -> str:
    """A value as code; a long one by its type."""
    text = repr(value)
    return text if len(text) <= _MAX_LENGTH and "\n" not in text else f"a {type(value).__name__}"


def _is_bool(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # also that of NumPy


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, os.PathLike))


_MAX_LENGTH: Final = 60
_OTHERS: Final = ("device", "data")
"""Arguments that are not checked here: a device may be one of PyTorch's, and what is no data is answered where it is opened."""
_HINTS: Final = dict.fromkeys(("logits", "batches"), "For files, write run.predict(files).")
"""What to do if a path is given."""
_KINDS: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "None": ("None", lambda value: value is None),
    "bool": ("True or False", _is_bool),
    "int": ("a whole number", lambda value: isinstance(value, Integral) and not _is_bool(value)),
    "float": ("a number", lambda value: isinstance(value, Real) and not _is_bool(value)),
    **dict.fromkeys(("str", "ResizeMode", "Normalize", "Detail"), ("a text", lambda value: isinstance(value, str))),
    "Path": ("a path", _is_path),
    **dict.fromkeys(("OnEvent", "ShouldStop", "Callable[[str], None]"), ("a function", callable)),
    "Sequence[str]": ("a list of texts", _is_list),
    "torch.Tensor": ("a tensor", _is_array),
    "Iterable[torch.Tensor]": ("tensors", _is_list),
}
"""For each word of an annotation, what is needed, and whether a value is that."""
