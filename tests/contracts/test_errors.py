"""The error family: its tree is as drawn, and every message that the code can say is read by some test.

A message is found where a class of the family is called, as in ``raise DataError(f"...")``. Its text may stand in the call,
in a variable of the same function, in a list that ``joined`` puts together, or in a function of the module that returns it.
The longest fixed piece of each text must stand in a string of the tests or in a doctest of the sources.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import visus.errors
from visus.errors import VisusError

Tree = Any  # the fixture of conftest.py

MIN_LENGTH = 12  # a fixed piece shorter than this, in characters, says too little to be looked for


def family() -> dict[str, type[VisusError]]:
    """Every class of the error family by its name."""
    return {
        name: kind for name, kind in vars(visus.errors).items() if inspect.isclass(kind) and issubclass(kind, VisusError)
    }


# ---- the tree ----


def drawn_tree() -> dict[str, tuple[str | None, int, int]]:
    """(parent, exit code, status) of each class as the docstring draws it; the depth of the name tells its parent."""
    drawn: dict[str, tuple[str | None, int, int]] = {}
    above: list[tuple[int, str]] = []
    for line in (visus.errors.__doc__ or "").splitlines():
        match = re.match(r"^([ |`-]*)(\w+Error)\s+(\d+)\s+(\d+)\s+\S", line)
        if match:
            depth, name = len(match[1]), match[2]
            above = [entry for entry in above if entry[0] < depth]
            drawn[name] = (above[-1][1] if above else None, int(match[3]), int(match[4]))
            above.append((depth, name))
    return drawn


def test_the_tree_is_as_drawn() -> None:
    real = {
        name: (
            kind.__base__.__name__ if kind.__base__ and kind is not VisusError else None,
            kind.exit_code,
            kind.http_status,
        )
        for name, kind in family().items()
    }
    assert drawn_tree() == real


def test_every_error_says_its_place_and_sentence() -> None:
    for kind in family().values():
        error = kind("the sentence.", where="conv1").within("design.txt")
        assert str(error) == "design.txt: conv1: the sentence."
        assert (type(error), str(error)) == (kind, "design.txt: conv1: the sentence.")


def test_every_error_crosses_a_process_boundary_whole() -> None:
    for kind in family().values():
        rebuild, arguments = kind("the sentence.", where="conv1").__reduce__()[:2]  # type: ignore[misc]
        again = rebuild(*arguments)  # type: ignore[operator, misc]
        assert (type(again), str(again)) == (kind, "conv1: the sentence.")


# ---- the messages ----

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One module of visus as its messages are looked for: functions by name, and the function around each node."""

    def __init__(self, parsed: ast.Module) -> None:
        self.functions: dict[str, list[Function]] = {}
        self.around: dict[ast.AST, Function | None] = {}
        self._enter(parsed, None)
        self.parsed = parsed

    def _enter(self, node: ast.AST, inside: Function | None) -> None:
        self.around[node] = inside
        if isinstance(node, Function):
            self.functions.setdefault(node.name, []).append(node)
            inside = node
        for child in ast.iter_child_nodes(node):
            self._enter(child, inside)

    def texts(self, node: ast.AST | None, seen: frozenset[ast.AST] = frozenset()) -> Iterator[tuple[int, list[str]]]:
        """(line, fixed pieces) of each text that ``node`` may become."""
        if node is None or node in seen:
            return
        deeper = functools.partial(self.texts, seen=seen | {node})
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, [text]
            case ast.JoinedStr(values=values):
                yield node.lineno, [part.value for part in values if isinstance(part, ast.Constant)]
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                yield node.lineno, [piece for side in (left, right) for _, pieces in deeper(side) for piece in pieces]
            case ast.IfExp(body=body, orelse=orelse):
                yield from deeper(body)
                yield from deeper(orelse)
            case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
                for value in values:
                    yield from deeper(value)
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element):
                yield from deeper(element)
            case ast.Starred(value=inner) | ast.NamedExpr(value=inner):
                yield from deeper(inner)
            case ast.Name(id=name):
                for value in self._values_of(name, self.around.get(node)):
                    yield from deeper(value)
            case ast.Call(func=ast.Name(id="joined"), args=[first, *_]):
                yield from deeper(first)
            case ast.Call(func=ast.Name(id="unknown_name"), args=[ast.Constant(value=str(kind)), *_]):
                yield node.lineno, [f"unknown {kind} '"]
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
                yield node.lineno, re.split(r"\{[^}]*\}", text)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                for function in self.functions.get(name, []):
                    for step in ast.walk(function):
                        if isinstance(step, ast.Return | ast.Yield):
                            yield from deeper(step.value)

    def _values_of(self, name: str, function: Function | None) -> Iterator[ast.AST]:
        """What is put into a variable: assigned, added, appended; in its function, else in the module."""
        found = False
        for node in ast.walk(function or self.parsed):
            match node:
                case ast.Assign(targets=targets, value=value) if any(is_name(target, name) for target in targets):
                    yield value
                case ast.AnnAssign(target=target, value=ast.AST() as value) if is_name(target, name):
                    yield value
                case ast.AugAssign(target=target, value=value) if is_name(target, name):
                    yield value
                case ast.For(target=target, iter=value) if is_name(target, name):
                    yield value
                case ast.Call(func=ast.Attribute(value=target, attr="append" | "extend"), args=[value]) if is_name(
                    target, name
                ):
                    yield value
                case _:
                    continue
            found = True
        if not found and function is not None:
            yield from self._values_of(name, self.around.get(function))


def is_name(node: ast.AST, name: str) -> bool:
    """Whether a node is the plain variable ``name``."""
    return isinstance(node, ast.Name) and node.id == name


def messages(parsed: ast.Module, kinds: set[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, fixed pieces) of every message that the module gives to an error of the family."""
    module = Module(parsed)
    for node in ast.walk(parsed):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in kinds:
                given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "message")]
                for message in given:
                    yield from module.texts(message)


def plain(text: str) -> str:
    """A text without what quoting it in a test may add: backslashes of a pattern, line breaks, runs of spaces."""
    return " ".join(text.replace("\\n", " ").replace("\\", "").split())


def fragment(pieces: list[str]) -> str:
    """The longest fixed piece of a message; empty where none says enough."""
    longest = max((plain(piece) for piece in pieces), key=len, default="")
    return longest if len(longest) >= MIN_LENGTH else ""


def read_by_tests(tree: Tree) -> str:
    """Every string that a test or a doctest holds against the code, in one text."""
    texts = []
    for path in sorted((tree.root / "tests").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        texts += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts += [path.read_text("utf-8") for path in sorted((tree.root / "tests").rglob("*.txt"))]
    for parsed in tree.parsed.values():
        for node in ast.walk(parsed):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and ">>>" in (text := ast.get_docstring(node) or ""):
                texts.append(text)
    return "\0".join(plain(text) for text in texts)


def test_every_message_is_read_by_a_test(tree: Tree) -> None:
    kinds = set(family())
    known = read_by_tests(tree)
    unread = set()
    for name, path in tree.sources.items():
        for line, pieces in messages(tree.parsed[name], kinds):
            text = fragment(pieces)
            if text and text not in known:
                unread.add((str(path.relative_to(tree.root)), line, text))
    listed = "\n".join(f"  {path}:{line}: {text!r}" for path, line, text in sorted(unread))
    assert not unread, f"{len(unread)} messages that no test reads:\n{listed}"


EXAMPLE = """
def check(layer, sizes):
    hint = " Use two." if layer else " Use less than three."
    mistakes = [f"layer {name!r} is far too narrow." for name in sizes]
    mistakes.append(explain(layer))
    if layer:
        raise DesignError(f"{layer} does not stand " "on its feet." + hint)
    if sizes:
        raise DesignError(unknown_name("layer", layer, sizes))
    raise DesignError(joined(mistakes), where="conv1")


def explain(layer):
    return f"the weight of {layer} is not a number."
"""


def test_messages_are_found_wherever_they_are_written() -> None:
    found = {(line, fragment(pieces)) for line, pieces in messages(ast.parse(EXAMPLE), {"DesignError"})}
    assert found == {
        (4, "is far too narrow."),
        (7, "does not stand on its feet."),
        (9, "unknown layer '"),
        (14, "is not a number."),
    }


def test_messages_install_the_packages_that_the_extras_have(tree: Tree) -> None:
    extras = tomllib.loads(tree.document("pyproject.toml"))["project"]["optional-dependencies"]
    named = {name: list(visus.errors.OPTIONAL_PACKAGES[name]) for name in visus.errors.OPTIONAL_PACKAGES}
    assert {name: extras[name] for name in named} == named
    large = {"cluster", "mlflow", "wandb"}  # each for few
    assert extras["all"] == [f"visus[{','.join(name for name in named if name not in large)}]"]
