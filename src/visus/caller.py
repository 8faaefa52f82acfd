"""Who called visus, a command or Python, and next steps written for them.

This is the only place that decides it. The command line opens ``called_by_command``; everything else is called from Python.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

_IS_COMMAND: ContextVar[bool] = ContextVar("is_command", default=False)


@contextlib.contextmanager
def called_by_command() -> Iterator[None]:
    """A context in which a command of the terminal is the caller.

    >>> with called_by_command():
    ...     for_caller("visus doctor", "visus.doctor()")
    'visus doctor'
    """
    token = _IS_COMMAND.set(True)
    try:
        yield
    finally:
        _IS_COMMAND.reset(token)


def is_command() -> bool:
    """Whether a command of the terminal is the caller.

    >>> is_command()
    False
    """
    return _IS_COMMAND.get()


def for_caller(command: str, python: str) -> str:
    """The text for the caller: the first one for a command, the second one for Python.

    >>> for_caller("visus doctor", "visus.doctor()")
    'visus.doctor()'
    """
    return command if is_command() else python


def resume_call(folder: str | os.PathLike[str]) -> str:
    """The call that resumes the training of a run.

    >>> resume_call("runs/cats")
    "visus.resume('runs/cats')"
    """
    return for_caller(f"visus train --resume {_quoted(folder)}", f"visus.resume({str(folder)!r})")


def report_call(folder: str | os.PathLike[str]) -> str:
    """The call that writes the report of a run again.

    >>> report_call("runs/cats")
    "visus.load('runs/cats').report()"
    """
    return for_caller(f"visus report {_quoted(folder)}", f"visus.load({str(folder)!r}).report()")


def evaluate_call(folder: str | os.PathLike[str], data: str, options: Mapping[str, object] | None = None) -> str:
    """The call that scores a run on other data.

    Args:
        folder: the run.
        data: the path.
        options: arguments of ``Run.open_data``.

    >>> evaluate_call("runs/cats", "photos")
    "visus.load('runs/cats').evaluate('photos')"
    >>> evaluate_call("runs/cats", "t.csv", {"label_column": "kind"})
    "visus.load('runs/cats').evaluate(visus.load('runs/cats').open_data('t.csv', label_column='kind'))"
    >>> with called_by_command():
    ...     evaluate_call("runs/cats", "t.csv", {"label_column": "kind"})
    'visus evaluate runs/cats t.csv --label-column kind'
    """
    if is_command():
        return shlex.join(["visus", "evaluate", str(folder), *_typed(data, options or {}, None, {})])
    run = f"visus.load({str(folder)!r})"
    if not options:
        return f"{run}.evaluate({data!r})"
    opened = ", ".join([repr(data), *(f"{name}={value!r}" for name, value in options.items())])
    return f"{run}.evaluate({run}.open_data({opened}))"


def train_call(
    data: str | None = None,
    split_file: str | os.PathLike[str] | None = None,
    options: Mapping[str, object] | None = None,
    pretrained: bool | None = None,
    settings: Mapping[str, object] | None = None,
    recipe_file: str | None = None,
) -> str:
    """The call that trains on data.

    Args:
        data: the path; None for the images that come with visus.
        split_file: the split of an earlier run.
        options: arguments of ``visus.open_data``.
        pretrained: whether pretrained weights are asked for; None if nothing is asked.
        settings: settings of the training.
        recipe_file: a ``recipe.yaml`` with further settings, for the command line.

    >>> train_call(), train_call("photos")
    ('visus.train()', "visus.train('photos')")
    >>> train_call("photos", "runs/cats/split.csv")
    "visus.train(visus.open_data('photos', split='runs/cats/split.csv'))"
    >>> train_call("t.csv", options={"task": "regression"})
    "visus.train(visus.open_data('t.csv', task='regression'))"
    >>> train_call("photos", options={"img_size": 64}, pretrained=True, settings={"color": 0.3})
    "visus.train(visus.open_data('photos', img_size=64, pretrained=True), recipe=visus.Recipe(color=0.3), pretrained=True)"
    >>> with called_by_command():
    ...     train_call("photos", options={"img_size": (64, 96)}, pretrained=True, settings={"color": 0.3})
    'visus train photos --img-size 64x96 --pretrained --set color=0.3'
    """
    named: dict[str, object] = {} if split_file is None else {"split": str(split_file)}
    named |= {name: str(value) if isinstance(value, os.PathLike) else value for name, value in (options or {}).items()}
    if is_command():
        words = _typed(data, named, pretrained, settings or {})
        return shlex.join(["visus", "train", *words, *([] if recipe_file is None else ["--recipe", recipe_file])])
    of_training = (
        [f"recipe=visus.Recipe({', '.join(f'{name}={value!r}' for name, value in settings.items())})"] if settings else []
    )
    if pretrained is not None:
        of_training.append(f"pretrained={pretrained}")
        named |= {"pretrained": pretrained} if named else {}
    opened = ", ".join([repr(data), *(f"{name}={value!r}" for name, value in named.items())])
    given = f"visus.open_data({opened})" if named else repr(data) if data is not None else ""
    return f"visus.train({', '.join([*filter(None, [given]), *of_training])})"


def _typed(
    data: str | None, options: Mapping[str, object], pretrained: bool | None, settings: Mapping[str, object]
) -> list[str]:
    """The arguments of ``visus train``."""
    words = [data] if data is not None else []
    for name, value in sorted(options.items(), key=lambda pair: pair[0] == "split"):
        flag = {"split": "--split-file", "num_workers": "--workers"}.get(name, f"--{name.replace('_', '-')}")
        text = "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        words += [flag] if value is True else [flag, text]
    words += [] if pretrained is None else [f"--{'' if pretrained else 'no-'}pretrained"]
    return [*words, *(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))]


def option(name: str, value: object = None) -> str:
    """A setting with its value: an option of a command, an argument in Python.

    Args:
        name: the argument in Python.
        value: its value; None for the name alone.

    >>> option("class_depth"), option("class_depth", 2), option("class_weights", "balanced")
    ('class_depth', 'class_depth=2', "class_weights='balanced'")
    >>> with called_by_command():
    ...     option("class_depth"), option("class_depth", 2), option("pretrained", True), option("pretrained", False)
    ('--class-depth', '--class-depth 2', '--pretrained', '--no-pretrained')
    """
    flag = name.replace("_", "-")
    if value is None:
        return for_caller(f"--{flag}", name)
    typed = f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {_quoted(value)}"
    return for_caller(typed, f"{name}={value!r}")


def _quoted(value: object) -> str:
    """A value as a shell takes it."""
    return shlex.quote(str(value))


def recipe_setting(name: str, value: str) -> str:
    """A setting of a training with its value: an option of a command, a ``Recipe`` in Python.

    >>> recipe_setting("kernels", "pytorch")
    'Recipe(kernels="pytorch")'
    >>> with called_by_command():
    ...     recipe_setting("kernels", "pytorch")
    '--kernels pytorch'
    """
    return for_caller(f"--{name.replace('_', '-')} {value}", f'Recipe({name}="{value}")')
