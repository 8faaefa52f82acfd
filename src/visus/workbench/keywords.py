"""Errors for calls whose arguments do not fit a public function: where the argument belongs, or the closest name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from visus.errors import UsageError, join_messages, unknown_name

_Function = TypeVar("_Function", bound=Callable[..., Any])


def checked(function: _Function) -> _Function:
    """The function with the same signature and docstring; a call that does not fit its arguments raises a ``UsageError``.

    >>> import visus
    >>> visus.summary("lenet5", shape=(1, 28, 28))
    Traceback (most recent call last):
    visus.errors.UsageError: summary has no argument 'shape'. Did you mean 'input_shape'?
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        known = _names(signature)
        if mistakes := [_unknown(function.__name__, known, name, named[name]) for name in named if name not in known]:
            raise UsageError(join_messages(mistakes))
        try:
            signature.bind(*given, **named)
        except TypeError as error:
            raise UsageError(f"{function.__name__}: {error}. Its arguments are {', '.join(known)}.") from None
        return function(*given, **named)

    return called  # type: ignore[return-value]


def _names(signature: inspect.Signature) -> list[str]:
    """The names that a call may use; where it takes further settings, they are those of ``open_data``."""
    kinds = {name: each.kind for name, each in signature.parameters.items()}
    own = [name for name, kind in kinds.items() if kind is not inspect.Parameter.VAR_KEYWORD]
    return own if len(own) == len(kinds) else list(dict.fromkeys([*own, *_names(_signature_of_open_data())]))


def _signature_of_open_data() -> inspect.Signature:
    return inspect.signature(import_module("visus.workbench.opening").open_data)


def _unknown(function: str, known: list[str], name: str, value: object) -> str:
    """The message for an argument that a function does not have."""
    from visus.training.recipe import FIELDS, OTHER_NAMES

    meant = _OTHER_NAMES.get(name, OTHER_NAMES.get(name, name))
    found = f"{function} has no argument {name!r}"
    if meant in known:
        return f"{found}. Did you mean {meant!r}?"
    if meant in FIELDS:
        what = "it is a setting of the training" if meant == name else f"{meant} is a setting of the training"
        shown = f"{meant}={value!r}"
        if "changes" in known:
            return f"{found}: {what}. Write visus.{function}(folder, changes={{{meant!r}: {value!r}}})."
        return f"{found}: {what}. Write visus.train(data, recipe=visus.Recipe({shown}))."
    if meant in _signature_of_open_data().parameters and "data" in known:
        return f"{found}: {meant} is an argument of visus.open_data. Write visus.{function}(visus.open_data(path, {meant}={value!r}))."
    if name in _SHARES:
        return f"{found}: visus splits the data itself. For another split, give the folders train, val and test, or split=, a split.csv."
    guess = unknown_name("argument", name, known).partition(" Known: ")
    hint = guess[0].partition("Did you mean ")[2]
    return f"{found}. Did you mean {hint}" if hint else f"{found}. Known: {guess[2]}"


_OTHER_NAMES = {
    **dict.fromkeys(("arch", "model", "net"), "network"),
    **dict.fromkeys(("size", "image_size", "item_tfms", "target_size"), "img_size"),
    **dict.fromkeys(("workers", "n_workers"), "num_workers"),
    **dict.fromkeys(("folder", "dir", "directory"), "path"),
    **dict.fromkeys(("shape", "input_size"), "input_shape"),
    "callbacks": "on_event",
    "verbose": "progress",
}
"""Words of other libraries for arguments of visus."""
_SHARES = ("valid_pct", "validation_split", "test_size", "val_size", "train_size")
