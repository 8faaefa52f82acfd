"""``reference/python/``: one page for each public name of visus, and one for each class that its functions and methods return.

mkdocstrings renders the pages from the docstrings. A public name, or a public method or property of a public class, without a docstring is
an error.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import visus
from visus.design import FAMILIES, LAYERS

from . import GENERATORS
from .markdown import code, escape, summary_of, table

_PROPERTIES = (property, functools.cached_property)
MADE_BY_VISUS = ("CrossValidation", "Data", "Ensemble", "Run")
"""Public classes that functions of visus make, and people do not: their pages list attributes and no constructor."""
READ_BY_PEOPLE = ("Ledger", "Machine", "Preprocessing")
"""The classes of their fields that have pages; the others are of use within visus only."""
_SETTINGS_OF_DATA = """## Settings

`settings` are the keyword arguments of this function, which `visus.open_data` calls:

::: visus.data.opened.open_data
    options:
      show_root_heading: false
      show_root_toc_entry: false
"""
_SEE_ALSO = {
    "Recipe": ("settings", "Each setting, with its type, range and default: [Settings](../settings.md)."),
    "VisusError": ("errors", "The tree of all errors, with what to do: [Errors](../errors.md)."),
    "open_data": ("python_names", _SETTINGS_OF_DATA),
    "Design": ("layers", "What a design is built of: [Layers](../layers.md), [Families](../families.md)."),
}
"""For some names, what their page says further, and the generator of the page that it leads to."""


def public_things() -> dict[str, Any]:
    """Every public name of visus with what it names."""
    return {name: getattr(visus, name) for name in visus.__all__}


def members(kind: type) -> dict[str, Any]:
    """The public methods and properties of a class by name, inherited ones of visus included, in the order of the source."""
    found: dict[str, Any] = {}
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for each in kind.__mro__:
        if each.__module__.split(".")[0] == "visus":
            for name, value in vars(each).items():
                is_method = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod, *_PROPERTIES))
                if is_method and not name.startswith("_") and name not in fields:
                    found.setdefault(name, value)
    return found


def without_docstring(things: dict[str, Any]) -> list[str]:
    """The names, methods and properties that have no docstring, own or inherited, such as ``Run.predict``."""
    silent = []
    for name, thing in things.items():
        if not _is_documented(thing) and not isinstance(thing, str):
            silent.append(name)
        if inspect.isclass(thing):
            silent += [f"{name}.{member}" for member in members(thing) if not _is_documented_in(thing, member)]
        if inspect.ismodule(thing):
            silent += without_docstring({f"{name}.{each}": getattr(thing, each) for each in thing.__all__})
    return silent


def _is_documented(thing: Any) -> bool:
    text = (getattr(thing, "__doc__", None) or "").strip()
    return bool(text) and not (inspect.isclass(thing) and text.startswith(f"{thing.__name__}("))  # of a dataclass, generated


def _is_documented_in(kind: type, member: str) -> bool:
    """Whether a member has a docstring, or overrides one that has."""
    return any(_is_documented(vars(each)[member]) for each in kind.__mro__ if member in vars(each))


def returned_classes(things: dict[str, Any]) -> dict[str, type]:
    """The classes of visus that public functions, methods and properties return, and those within them, by name.

    Public names are not among them, since they have pages of their own.
    """
    found: dict[str, type] = {}
    waiting = [kind for _, function in _functions(things) for kind in _classes_in(function)]
    fields = [kind for name in MADE_BY_VISUS if name in things for kind in _classes_of_fields(things[name])]
    waiting += [kind for kind in fields if kind.__name__ in READ_BY_PEOPLE]
    while waiting:
        kind = waiting.pop()
        if kind in things.values() or found.get(kind.__name__) is kind:
            continue
        if kind.__name__ in found:
            raise ValueError(f"two classes that functions return are called {kind.__name__}. Rename one.")
        found[kind.__name__] = kind
        waiting += _classes_of_fields(kind)
        waiting += [each for _, function in _functions({kind.__name__: kind}) for each in _classes_in(function)]
        if item := getattr(kind, "__next__", None):
            waiting += _classes_in(item)
    return dict(sorted(found.items()))


def _functions(things: dict[str, Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, method and property getter, by its name."""
    for name, thing in things.items():
        if inspect.isclass(thing):
            for member, value in members(thing).items():
                yield f"{name}.{member}", _plain_function(value)
        elif inspect.ismodule(thing):
            yield from _functions({f"{name}.{each}": getattr(thing, each) for each in thing.__all__})
        elif inspect.isroutine(thing):
            yield name, inspect.unwrap(thing)


def _plain_function(value: Any) -> Callable[..., Any]:
    """The function behind a method or a property."""
    for attribute in ("fget", "func", "__func__"):
        value = getattr(value, attribute, None) or value
    function: Callable[..., Any] = inspect.unwrap(value)
    return function


def _classes_in(function: Callable[..., Any]) -> list[type]:
    """The classes of visus in the return annotation of a function."""
    return _named_classes(str(function.__annotations__.get("return", "")), function.__module__)


def _classes_of_fields(kind: type) -> list[type]:
    """The classes of visus in the annotations of a class's fields, inherited ones included."""
    own = [each for each in kind.__mro__ if each.__module__.startswith("visus.")]
    written = [(each.__module__, " ".join(map(str, vars(each).get("__annotations__", {}).values()))) for each in own]
    return [found for module, annotations in written for found in _named_classes(annotations, module)]


def _named_classes(annotation: str, module: str) -> list[type]:
    """The documented classes of visus that an annotation in a module names; imports under ``TYPE_CHECKING`` are followed."""
    homes = _imported(module)
    found = []
    for name in re.findall(r"\b[A-Z]\w*", annotation):
        value = getattr(import_module(module), name, None)
        if value is None and name in homes:
            value = getattr(import_module(homes[name]), name, None)
        if inspect.isclass(value) and value.__module__.startswith("visus.") and _is_documented(value):
            found.append(value)
    return found


@functools.cache
def _imported(module: str) -> dict[str, str]:
    """The module that each name of a module is imported from."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def type_names(things: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """The names that signatures use for several types, such as ``Network``: what each stands for, and the functions that use it."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, function in _functions(things):
        written = {
            name for annotation in function.__annotations__.values() for name in re.findall(r"[A-Z]\w+", str(annotation))
        }
        for name in sorted(written):
            home = (
                function.__module__
                if name in _assigned(function.__module__)
                else _imported(function.__module__).get(name, "")
            )
            if home.split(".")[0] == "visus" and (meaning := _assigned(home).get(name)):
                found.setdefault((name, meaning), []).append(place)
    return dict(sorted(found.items()))


@functools.cache
def _assigned(module: str) -> dict[str, str]:
    """What a module assigns to each of its names, as source text."""
    body = ast.parse(inspect.getsource(import_module(module))).body
    return {
        node.targets[0].id: ast.unparse(node.value)
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def page_of(name: str, thing: Any, *, is_public: bool = True) -> str:
    """Path of the page of a name under ``docs/``.

    Results and modules have folders of their own, because ``look`` and ``Look`` are one file on some systems.

    >>> page_of("look", visus.look), page_of("Look", object, is_public=False), page_of("design", visus.design)
    ('reference/python/look.md', 'reference/python/results/Look.md', 'reference/python/modules/design.md')
    """
    folder = "modules/" if isinstance(thing, ModuleType) else "" if is_public else "results/"
    return f"reference/python/{folder}{name}.md"


def pages() -> dict[str, str]:
    """The pages of all public names, of the classes that they return, and the list of both.

    Raises:
        ValueError: a public name, method or property has no docstring (the message lists all of them), or is of another kind.
    """
    things = public_things()
    results = returned_classes(things)
    if silent := without_docstring({**things, **results}):
        raise ValueError(f"without a docstring: {', '.join(silent)}. Write one, with Args, Returns and Raises.")
    found = {"reference/python/index.md": _index(things, results)}
    for name, thing in {**things, **results}.items():
        if not (isinstance(thing, (str, ModuleType)) or inspect.isclass(thing) or inspect.isroutine(thing)):
            raise ValueError(
                f"visus.{name} is neither a function, a class nor a module, so mkdocstrings cannot document it."
            )
        homes = {id(each): page_of(other, each, is_public=other in things) for other, each in {**things, **results}.items()}
        is_public = name in things
        found[page_of(name, thing, is_public=is_public)] = (
            _module_page(f"visus.{name}", thing, homes)
            if isinstance(thing, ModuleType)
            else _page(name, thing, is_public=is_public)
        )
    return found


def _index(things: dict[str, Any], results: dict[str, type]) -> str:
    """The list of all pages."""

    def row(name: str, thing: Any, lead: str) -> tuple[str, str]:
        page = page_of(name, thing, is_public=bool(lead)).removeprefix("reference/python/")
        words = "The version of visus." if isinstance(thing, str) else summary_of(inspect.getdoc(thing) or "")
        return f"[`{lead}{name}`]({page})", words

    functions = [row(name, thing, "visus.") for name, thing in things.items() if inspect.isroutine(thing)]
    classes = [row(name, thing, "visus.") for name, thing in things.items() if inspect.isclass(thing)]
    others = [
        row(name, thing, "visus.")
        for name, thing in things.items()
        if not inspect.isroutine(thing) and not inspect.isclass(thing)
    ]
    types = "\n".join(
        f"- {code(name)} in {', '.join(code(place) for place in places) if len(places) < 6 else 'many functions'}: {code(meaning)}"
        for (name, meaning), places in type_names(things).items()
        if "TypeVar" not in meaning
    )
    returned = [row(name, thing, "") for name, thing in results.items()]
    return f"""# Python

Everything that the main job needs is a name of `visus`. Each is loaded when it is first used, so `import visus` does not load torch.

```python
import visus

data = visus.open_data("photos")
run = visus.train(data)
print(run.evaluate().accuracy)
```

## Functions

{table(("name", "does"), functions)}

## Classes

{table(("name", "is"), classes)}

## Others

{table(("name", "is"), others)}

## Results

The functions, methods and properties return these classes, or have them within a result.

{table(("class", "is"), returned)}

## Types in signatures

Some names in signatures stand for several types:

{types}
"""


def _page(name: str, thing: Any, *, is_public: bool) -> str:
    """The page of one name."""
    title = f"visus.{name}" if is_public else name
    if isinstance(thing, str):
        return f"# {escape(title)}\n\nThe version of visus as text, such as `{thing}`.\n"
    options = [f"heading: {title}", f"toc_label: {title}"]
    if inspect.isclass(thing):
        options.append(f"members: [{', '.join(members(thing))}]")
    if not is_public or name in MADE_BY_VISUS:
        options.append("merge_init_into_class: false")
    generator, further = _SEE_ALSO.get(name, ("", ""))
    more = f"\n{further}\n" if generator in GENERATORS else ""
    return _documented(f"{thing.__module__}.{thing.__qualname__}", 1, options) + more


def _documented(place: str, level: int, options: Iterable[str]) -> str:
    """What mkdocstrings replaces by the documentation of a name."""
    lines = "".join(f"      {option}\n" for option in options)
    return f"::: {place}\n    options:\n      heading_level: {level}\n{lines}"


def _module_page(title: str, module: ModuleType, homes: dict[int, str]) -> str:
    """The page of a public module: its docstring, its functions and classes, and links to those that have pages elsewhere.

    Args:
        title: heading of the page.
        module: what it is about.
        homes: the page of each name that has one, by the ``id`` of what it names.
    """
    parts = [_documented(module.__name__, 1, [f"heading: {title}", f"toc_label: {title}", "members: []"])]
    elsewhere = []
    for name in module.__all__:
        thing = getattr(module, name)
        if home := _home(name, thing, module, homes):
            elsewhere.append((f"[`{title}.{name}`]({home})", summary_of(inspect.getdoc(thing) or "")))
        elif inspect.isclass(thing) or inspect.isroutine(thing):
            options = [f"heading: {title}.{name}", f"toc_label: {name}"]
            if inspect.isclass(thing):
                options.append(f"members: [{', '.join(members(thing))}]")
            parts.append(_documented(f"{thing.__module__}.{thing.__qualname__}", 2, options))
    if elsewhere:
        parts.append(f"## Names with pages of their own\n\n{table(('name', 'is'), elsewhere)}\n")
    return "\n".join(parts)


def _home(name: str, thing: Any, module: ModuleType, homes: dict[int, str]) -> str:
    """The page of a name of a public module, as a link from the module's page; nothing if it has none."""
    if module is visus.design and name in LAYERS:
        return f"../../layers.md#{name}"
    if module is visus.design and name in FAMILIES:
        return f"../../families.md#{name}"
    home = homes.get(id(thing))
    return home.replace("reference/python/", "../") if home else ""
