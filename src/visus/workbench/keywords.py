"""Errors for calls whose arguments do not fit a public function: where the argument belongs, or the closest name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from visus.errors import RecipeError, UsageError, closest_name, join_messages
from visus.other_libraries import ARGUMENTS, NO_ARGUMENTS, SETTINGS, device_of
from visus.workbench.argument_types import wrong_types

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


def checked(function: _Function) -> _Function:
    """The function with the same signature and docstring; a call that does not fit its arguments, or their types, raises a ``UsageError``.

    >>> import visus
    >>> visus.summary("lenet5", shape=(1, 28, 28))
    Traceback (most recent call last):
    visus.errors.UsageError: summary has no argument 'shape'. Did you mean 'input_shape'?
    """
    signature = inspect.signature(function)
    is_of_bundle = function.__qualname__.startswith("Bundle.")

    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        known = _names(signature)
        describe = (
            _unknown if "self" not in signature.parameters else _unknown_of_bundle if is_of_bundle else _unknown_of_run
        )
        if mistakes := [describe(function.__name__, known, name, named[name]) for name in named if name not in known]:
            raise UsageError(join_messages(mistakes))
        try:
            bound = signature.bind(*given, **named)
        except TypeError as error:
            if function.__name__ == "evaluate" and "self" in signature.parameters and len(given) > 2:
                raise UsageError(f"evaluate: samples and labels are one argument, a pair. {_PAIR}") from None
            raise UsageError(f"{function.__name__}: {error}. Its arguments are {', '.join(known)}.") from None
        mistakes = wrong_types(function.__name__, signature, bound.arguments)
        if settings := next((bound.arguments.get(name) for name in _further(signature)), None):
            mistakes += wrong_types(function.__name__, _signature_of_open_data(), settings)
        if mistakes:
            raise UsageError(join_messages(mistakes))
        return function(*given, **named)

    return called  # type: ignore[return-value]


def checked_methods(kind: _Class) -> _Class:
    """The class; its public methods raise a ``UsageError`` as functions that are ``checked`` do.

    >>> run.mistakes(limits=3)
    Traceback (most recent call last):
    visus.errors.UsageError: mistakes has no argument 'limits'. Did you mean 'limit'?
    """
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, checked(method))
    return kind


def _names(signature: inspect.Signature) -> list[str]:
    """The names that a call may use; where it takes further settings, they are those of ``open_data``."""
    further = _further(signature)
    own = [name for name in signature.parameters if name != "self" and name not in further]
    if not further:
        return own
    return list(dict.fromkeys([*own, *(name for name in _signature_of_open_data().parameters if name != "path")]))


def _further(signature: inspect.Signature) -> list[str]:
    """The name of the parameter of further settings, if there is one."""
    return [name for name, each in signature.parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]


def _signature_of_open_data() -> inspect.Signature:
    return inspect.signature(import_module("visus.workbench.opening").open_data)


def _unknown(function: str, known: list[str], name: str, value: object) -> str:
    """The message for an argument that a function does not have."""
    from visus.training.recipe import FIELDS, OTHER_WAYS

    meant = _meant(name, known)
    found = f"{function} has no argument {name!r}"
    if meant in known:
        return f"{found}. Did you mean {meant!r}?"
    if name in NO_ARGUMENTS:
        return f"{found}: {NO_ARGUMENTS[name]}"
    if function == "train" and name in OTHER_WAYS:
        return f"{found}: {OTHER_WAYS[name]}"
    if meant in FIELDS:
        what = "it is a setting of the training" if meant == name else f"{meant} is a setting of the training"
        return f"{found}: {what}. {_place_of_setting(known, meant, value)}"
    if name in _SHARES:
        return f"{found}: the training set is what validation and test set leave. Write visus.open_data(path, val=0.1, test=0.2)."
    guess = closest_name(name, known)
    if guess is not None:
        return f"{found}. Did you mean {guess!r}?"
    if meant in _signature_of_open_data().parameters and meant != "path":
        given = "x=x, y=y" if meant in _ARRAYS else f"path, {meant}={_written(value)}"
        call = f" Write visus.{function}(visus.open_data({given}))." if known[0] == "data" else ""
        return f"{found}: {meant} is an argument of visus.open_data.{call}"
    return f"{found}. Known: {', '.join(sorted(known))}."


def _unknown_of_run(function: str, known: list[str], name: str, value: object) -> str:
    """The message for an argument that a method of a run does not have; a run has its own network, recipe and preprocessing."""
    from visus.training.recipe import FIELDS

    meant = _meant(name, known)
    found = f"{function} has no argument {name!r}"
    guess = meant if meant in known else closest_name(name, known)
    if meant in _parameters("visus.workbench.runs.run", "load"):
        return f"{found}: {meant} is an argument of visus.load. Write visus.load(folder, {meant}={_written(value)})."
    if meant in FIELDS and meant not in known:
        return f"{found}: {meant} is a setting of the training, which a run keeps. Leave it out."
    if function == "evaluate" and meant in _ARRAYS:
        return f"{found}: samples and labels are one argument, a pair. {_PAIR}"
    if guess is not None:
        return f"{found}. Did you mean {guess!r}?"
    if meant in _parameters("visus.workbench.runs.saved", "SavedRun", "open_data") and "data" in known:
        return f"{found}: {meant} is an argument of open_data. Write run.{function}(data=run.open_data(path, {meant}={_written(value)}))."
    if meant in _signature_of_open_data().parameters and meant != "path":
        return f"{found}: a run keeps the preprocessing and the split of its training. Leave it out."
    return f"{found}. Known: {', '.join(sorted(known))}."


def _unknown_of_bundle(function: str, known: list[str], name: str, value: object) -> str:
    """The message for an argument that a method of a bundle does not have; it has the network, the preprocessing and the calibration of its run."""
    from visus.training.recipe import FIELDS

    meant = _meant(name, known)
    found = f"{function} has no argument {name!r}"
    guess = meant if meant in known else closest_name(name, known)
    if meant in _parameters("visus.workbench.ship.bundle", "open_bundle"):
        return f"{found}: {meant} is an argument of visus.open_bundle. Write visus.open_bundle(path, {meant}={_written(value)})."
    if guess is not None:
        return f"{found}. Did you mean {guess!r}?"
    if meant in FIELDS or (meant in _signature_of_open_data().parameters and meant != "path"):
        return f"{found}: a bundle keeps the network and the preprocessing of its run. Leave it out."
    return f"{found}. Known: {', '.join(sorted(known))}."


def _meant(name: str, known: list[str]) -> str:
    """The argument of visus for a name that is a word of another library; else the name."""
    words = ARGUMENTS.get(name, (SETTINGS.get(name, name),))
    return next((word for word in words if word in known), words[0])


def _parameters(module: str, *path: str) -> list[str]:
    """The names of the arguments of a function or a method."""
    found: Any = import_module(module)
    for part in path:
        found = getattr(found, part)
    return _names(inspect.signature(found))


def _place_of_setting(known: list[str], setting: str, value: Any) -> str:
    """Where a call takes a setting of the training."""
    value = device_of(value) if setting == "device" else value
    if known[0] == "run":
        return "An experiment trains with the recipe of its run. Leave it out."
    if "changes" not in known:
        from visus.training.recipe import Recipe

        function = "tune" if "trials" in known else "train"
        try:
            Recipe(**{setting: value})
        except RecipeError as error:
            return f"Write visus.{function}(data, recipe=visus.Recipe({setting}=...)), where {error}"
        return f"Write visus.{function}(data, recipe=visus.Recipe({setting}={_written(value)}))."
    from visus.training.recipe import CHANGEABLE_ON_RESUME

    if setting in CHANGEABLE_ON_RESUME:
        return f"Write visus.resume(folder, changes={{{setting!r}: {value!r}}})."
    return "A resumed training keeps its recipe. Leave it out, or start a new run with visus.train."


def _written(value: object) -> str:
    """A value as code; one that is no short text, such as an array, is ``...``."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else "..."


_PAIR = "Write run.evaluate((x, y))."
_SHARES = ("train_size", "train_split")
_ARRAYS = ("x", "y", "x_val", "y_val", "x_test", "y_test")
