"""The names of Python callables as networks, ``package.module:callable``, and errors for similar but wrong names."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NoReturn

from visus.design.families.registry import FAMILIES
from visus.design.layers.registry import LAYERS
from visus.errors import UsageError

_LIBRARIES = ("timm:", "torchvision:", "hf:")  # the prefixes of networks.libraries.registry, which loads torch
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_MAX_NAME = 255  # of a file, in characters, on most systems


def is_callable_name(words: str) -> bool:
    """Whether the text names a Python callable, or a network of another library; a file with a class, ``models.py:Net``, does not.

    >>> is_callable_name("my.models:Net"), is_callable_name("resnet(18)"), is_callable_name("models.py:Net")
    (True, False, False)
    >>> is_callable_name("hf:microsoft/resnet-18")
    True
    """
    is_callable = _CALLABLE.fullmatch(words.strip()) is not None and ".py:" not in words
    return is_callable or words.strip().startswith(_LIBRARIES)


def refuse_nearly_callable(words: str) -> None:
    """Raise an error with the right spelling for ``models.Net``, ``models.py:Net``, ``path/models.py:Net`` and ``models.py``, and for a weights file.

    Raises:
        UsageError: the text is such a name.
    """
    if re.fullmatch(r"[^(,\n\[]*\.(pt|pth|ckpt|safetensors)", words):
        raise UsageError(
            "this is the name of a weights file. Weights go to --weights FILE; -m takes a family, a design or package.module:callable.",
            where=words,
        )
    if re.fullmatch(r"[^(,\n\[]*\.py", words):
        module = Path(words).with_suffix("").as_posix().replace("/", ".").lstrip(".")
        raise UsageError(f"a Python file: write {module}:CLASS{_classes(Path(words))}.", where=words)
    called = re.fullmatch(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)\((.*)\)", words, re.DOTALL)
    if called:
        own = called[3].strip()
        arguments = own if "num_classes" in own else ", ".join(filter(None, ["num_classes", own]))
        raise UsageError(
            f"a callable is named without arguments: {called[1]}:{called[2]}. For other arguments, write a function in {called[1]} that makes the "
            f"network, and name it instead ({called[1]}:make): def make(num_classes): return {called[2]}({arguments}).",
            where=words,
        )
    file = Path(f"{words.replace('.', '/')}.py") if _MODULE.fullmatch(words) and len(words) < _MAX_NAME else None
    if file is not None and words not in FAMILIES and words not in LAYERS and file.is_file():
        raise UsageError(f"a Python file ({file}): write {words}:CLASS{_classes(file)}.", where=words)
    by_file = re.fullmatch(r"(?:\./)?((?:[A-Za-z_]\w*/)*[A-Za-z_]\w*)\.py:([A-Za-z_]\w*)", words)
    by_point = re.fullmatch(r"([A-Za-z_][\w.]*)\.([A-Z]\w*)", words)
    found = by_file or by_point
    if found and not Path(words).is_file():
        raise UsageError(
            f"a class or function of a Python module is written with a colon: {found[1].replace('/', '.')}:{found[2]}.",
            where=words,
        )


def refuse_other_kind(network: object) -> NoReturn:
    """Raise an error for what is no network, such as a class in place of its instance.

    Raises:
        UsageError: always.
    """
    article = "an" if type(network).__name__[0] in "aeiouAEIOU" else "a"
    kind = f"the class {network.__name__}" if isinstance(network, type) else f"{article} {type(network).__name__}"
    raise UsageError(
        f"a network is a module, a design, its text, or the name of a callable (package.module:callable), and not {kind}. "
        f"{'Give an instance: call it.' if callable(network) else 'Give one of these.'}"
    )


def _classes(file: Path) -> str:
    """The classes in a Python file, in parentheses; empty if it has none or cannot be read."""
    try:
        names = [each.name for each in ast.parse(file.read_bytes()).body if isinstance(each, ast.ClassDef)]
    except (OSError, ValueError, SyntaxError):
        return ""
    return f" (its classes: {', '.join(names)})" if names else ""


def refuse_folder(words: str) -> None:
    """Raise an error for the name of a folder; for a run folder, it names the file with the network.

    Raises:
        UsageError: the text names a folder.
    """
    is_name = words and not any(sign in words for sign in "(,\n[") and len(words) < _MAX_NAME
    if is_name and Path(words).is_dir():
        design = Path(words) / "design.txt"
        remedy = f" The network of this run is in {design}." if design.is_file() else ""
        raise UsageError(
            f"this is a folder, and a network is needed: a family, a design or its file, or package.module:callable.{remedy}",
            where=words,
        )
