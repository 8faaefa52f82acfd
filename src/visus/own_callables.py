"""A person's own functions, such as a loss or a metric, by their names ``package.module:callable``."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

from visus.errors import UsageError, closest_name

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_callable_name(text: str) -> bool:
    """Whether a text is a name of the form ``package.module:callable``.

    >>> is_callable_name("my.losses:focal"), is_callable_name("accuracy")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def callable_name(found: Callable[..., Any], what: str) -> str:
    """The name of a function or class, by which it is found again.

    Args:
        found: the function or class.
        what: what it is for, as errors name it, such as ``loss``.

    Raises:
        UsageError: it has no name that could be looked up, such as a lambda.

    >>> callable_name(is_callable_name, "loss")
    'visus.own_callables:is_callable_name'
    """
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", "")
    if not module or not is_callable_name(f"{module}:{name}"):
        raise UsageError(
            f"{what} is {name or type(found).__name__}, which cannot be found again by its name, as a resumed training has to. Write it as a function "
            "with def at the top of a module or a notebook."
        )
    return f"{module}:{name}"


def load_callable(reference: str, what: str) -> Callable[..., Any]:
    """The callable of a name.

    Args:
        reference: ``package.module:callable``; modules are found in the current folder too.
        what: what it is for, as errors name it.

    Raises:
        UsageError: the module cannot be imported, or has no such callable.

    >>> load_callable("math:sqrt", "loss")(9)
    3.0
    """
    if not is_callable_name(reference):
        raise UsageError(f"{what} must be a name such as mylosses:focal (module, colon, function), not {reference!r}.")
    module_name, _, path = reference.partition(":")
    try:
        sys.path.insert(0, "")
        try:
            found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        finally:
            sys.path.remove("")
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"{what}: the module {module_name} cannot be imported: {error}.", where=reference) from error
    for name in path.split("."):
        if not hasattr(found, name):
            guess = closest_name(name, [each for each in dir(found) if not each.startswith("_")])
            raise UsageError(
                f"{what}: {module_name} has no {path}.{f' Did you mean {guess!r}?' if guess else ''}", where=reference
            )
        found = getattr(found, name)
    if not callable(found):
        raise UsageError(f"{what}: {path} is a {type(found).__name__}, and a function is needed.", where=reference)
    made: Callable[..., Any] = found
    return made
