"""A person's own function as a setting: the object in Python, or its name ``package.module:callable``. Only the standard library is imported."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from visus.errors import UsageError, closest_name

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_<][\w.<>]*")
_GIVEN: dict[str, Callable[..., Any]] = {}


class FunctionName(str):
    """The name of a function that was given as an object; a plain text for everything that compares or writes it.

    The function is found by this name as long as the process lives, and in another process if the name leads to it. A name with ``<`` leads nowhere:
    that of a lambda, an inner function, a bound method or an object.

    >>> import textwrap
    >>> FunctionName.of(textwrap.dedent)
    'textwrap:dedent'
    """

    __slots__ = ()

    @classmethod
    def of(cls, function: Callable[..., Any]) -> FunctionName:
        """The name of a function, method or callable object; two objects that no name leads to have two names."""
        is_bound = not isinstance(getattr(function, "__self__", type), (ModuleType, type))  # to an object
        is_object = is_bound or not hasattr(function, "__qualname__")
        owner = function if hasattr(function, "__qualname__") else type(function)
        module = getattr(owner, "__module__", None) or "builtins"
        text = f"{module}:<{owner.__qualname__}>" if is_object else f"{module}:{owner.__qualname__}"
        if "<" in text:
            numbered = (text if number == 1 else f"{text}.{number}" for number in itertools.count(1))
            text = next(each for each in numbered if _GIVEN.get(each, function) is function)
        _GIVEN[text] = function
        return cls(text)


def load_function(name: str) -> Callable[..., Any]:
    """The function of a name; the current folder is searched for its module too.

    Raises:
        UsageError: it cannot be imported, or is no function.
    """
    if name in _GIVEN:
        return _GIVEN[name]
    module_name, _, attribute = name.partition(":")
    if "<" in attribute or module_name == "__main__":
        found = getattr(sys.modules.get("__main__"), attribute, None) if module_name == "__main__" else None
        if callable(found):
            return cast(Callable[..., Any], found)
        raise UsageError(
            "this function was given as an object in Python, and its name does not lead to it in another process. Define it in a module, outside of any "
            "function, and name it package.module:callable.",
            where=name,
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):
            loaded: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"the module {module_name} cannot be imported: {error}.", where=name) from error
    for part in attribute.split("."):
        if not hasattr(loaded, part):
            guess = closest_name(part, [each for each in dir(loaded) if not each.startswith("_")])
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise UsageError(f"{module_name} has no {attribute}.{hint}", where=name)
        loaded = getattr(loaded, part)
    if isinstance(loaded, type):
        raise UsageError(
            f"{attribute} is a class, and a function is needed. Make an instance in a module of your own, such as loss = {attribute}(), and name that.",
            where=name,
        )
    if not callable(loaded):
        raise UsageError(f"{attribute} is not callable: it is {type(loaded).__name__}.", where=name)
    return cast(Callable[..., Any], loaded)
