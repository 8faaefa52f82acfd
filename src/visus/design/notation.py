"""Text to design: Python's own syntax, parsed with ``ast`` and never evaluated; all mistakes reported together.

The way back, design to text, is ``Design.text``; ``parse(design.text) == design``.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from visus.design.arguments import classes, write_value
from visus.design.families.registry import FAMILIES
from visus.design.items import Item, Repeat, Sequence, concat, residual, sequence
from visus.design.layers.registry import LAYERS
from visus.design.layers_of_other_libraries import usual_word, with_in_channels
from visus.design.plan import Design
from visus.errors import DesignError, closest_name, join_messages, unknown_name

MAX_CHARACTERS: Final = 100_000
MAX_DEPTH: Final = 40

_USUAL_NAME: Final = re.compile(r"(\D+)(\d{1,4})")  # of a family with its depth, such as resnet18
_GROUPS: Final[dict[str, Callable[..., Item]]] = {"sequence": sequence, "residual": residual, "concat": concat}
_KNOWN: Final = (*LAYERS, *_GROUPS, *FAMILIES)
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
FACTS: Final = ("input_shape", "num_classes", "num_samples")
"""Arguments of families that follow from the data; they are not written."""
_MISSING: Final = object()  # an argument that could not be read; its mistake is noted already


@dataclass(frozen=True)
class FamilyCall:
    """A family and its arguments, such as ``resnet(18)``, not yet called."""

    family: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def design(self, **facts: object) -> Design:
        """The family's design.

        Args:
            facts: ``input_shape``, ``num_classes``, ``num_samples``; the family receives those that it depends on.

        Raises:
            DesignError: the family does not take these arguments, or depends on facts that are not given.
        """
        function = FAMILIES[self.family]
        parameters = inspect.signature(function).parameters
        looked_at = [name for name in parameters if name in FACTS]
        own = [parameter for name, parameter in parameters.items() if name not in FACTS]
        keywords = [parameter.name for parameter in own if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
        if unknown := [name for name, _ in self.kwargs if name not in keywords]:
            known = unknown_name(f"argument of {self.family}", unknown[0], keywords)
            raise DesignError(known if keywords else f"{self.family} takes no arguments, and {unknown[0]} is given.")
        if missing := [name for name in looked_at if name not in facts]:
            raise DesignError(
                f"{self.family} depends on the data ({', '.join(missing)}), which the text does not contain. Use "
                f'visus.design.resolve_network("{self.family}", input_shape=..., num_classes=...).'
            )
        try:
            bound = inspect.Signature(own).bind(*self.args, **dict(self.kwargs))
        except TypeError as error:
            takes = ", ".join(str(parameter).partition(":")[0] for parameter in own)
            raise DesignError(f"{self.family} takes ({takes}), and {error}.") from None
        return function(*bound.args, **bound.kwargs, **{name: facts[name] for name in looked_at})


def parse(text: str) -> Design:
    """Parse the text of a design.

    Line breaks and comments are fine. A family that does not depend on the data (``vgg(16)``, ``mlp(512)``) may be the whole
    text, also by its usual name (``vgg16``); for the others see ``visus.design.resolve``.

    Raises:
        DesignError: every mistake in the text, each with its line and column.

    >>> parse("conv(32, 3, padding=1), norm, relu, 2 * [conv(64), relu], globalpool, linear(classes)").layers[3]
    2 * [conv(64, 3), relu]
    """
    found = read(text)
    return found.design() if isinstance(found, FamilyCall) else found


def read(text: str) -> Design | FamilyCall:
    """Parse the text of a design; returns the family call if the text is only a family.

    Raises:
        DesignError: every mistake in the text, each with its line and column.
    """
    if len(text) > MAX_CHARACTERS:
        raise DesignError(f"the text of the design has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed.")
    if mistakes := _bracket_mistakes(text):
        raise DesignError(join_messages(mistakes))
    nodes = _syntax(text)
    reader = _Reader(text)
    if len(nodes) == 1 and (call := reader.family(nodes[0])) is not None and not reader.mistakes:
        return call
    items = [] if reader.mistakes else reader.items(nodes)
    if reader.mistakes:
        raise DesignError(_joined(reader.mistakes, has_unknown=reader.has_unknown))
    return Design(items)


def _joined(mistakes: list[str], *, has_unknown: bool) -> str:
    """All mistakes, with the known layers once."""
    known = f"Known: {', '.join(sorted(_KNOWN))}." if has_unknown else ""
    if len(mistakes) == 1:
        return f"{mistakes[0]} {known}".rstrip()
    return join_messages(mistakes) + (f"\n{known.replace('Known:', 'Known layers:')}" if known else "")


def _syntax(text: str) -> list[ast.expr]:
    """The syntax trees of the items of a text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(f"[\n{text}\n]", mode="eval").body
    except SyntaxError as error:
        line, column = (error.lineno or 2) - 1, max(error.offset or 1, 1)
        lines = text.split("\n")
        line = min(max(line, 1), len(lines))
        snippet = lines[line - 1][max(0, column - 1) :][:30].strip()
        near = f" near {snippet!r}" if snippet else ""
        raise DesignError(f"line {line}, column {column}: this cannot be read{near}: {error.msg.rstrip('.?')}.") from None
    except (RecursionError, MemoryError, ValueError):
        raise DesignError(
            f"the design is nested too deeply or holds characters that no design has; {MAX_DEPTH} levels are read."
        ) from None
    if not isinstance(tree, ast.List):
        raise DesignError(
            "a design is a row of layers, such as conv(32, 3, padding=1), norm, relu, globalpool, linear(classes)."
        )
    return tree.elts


def _bracket_mistakes(text: str) -> list[str]:
    """The first bracket that closes nothing, is never closed, or opens one level too many."""
    opened: list[tuple[str, int, int]] = []
    for line, content in enumerate(text.split("\n"), 1):
        quote = ""
        for column, letter in enumerate(content, 1):
            if quote or letter in "\"'":
                quote = "" if letter == quote else quote or letter
            elif letter == "#":
                break
            elif letter in _CLOSING:
                opened.append((letter, line, column))
                if len(opened) > MAX_DEPTH:
                    return [f"line {line}, column {column}: the design is nested too deeply; {MAX_DEPTH} levels are read."]
            elif letter in _CLOSING.values():
                if not opened:
                    return [f"line {line}, column {column}: {letter!r} closes nothing."]
                before, its_line, its_column = opened.pop()
                if _CLOSING[before] != letter:
                    place = f"line {its_line}, column {its_column}"
                    return [f"line {line}, column {column}: {letter!r} does not close the {before!r} of {place}."]
    return [f"line {line}, column {column}: {letter!r} is never closed." for letter, line, column in opened[:1]]


class _Reader:
    """Turns syntax trees into items and gathers the mistakes on the way."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.source = f"[\n{text}\n]"
        self.mistakes: list[str] = []
        self.has_unknown = False  # whether a mistake needs the list of all layers
        self.depth = 0

    def wrong(self, node: ast.expr | ast.keyword, sentence: str) -> None:
        line = min(node.lineno - 1, len(self.lines))
        column = len(self.lines[line - 1].encode()[: node.col_offset].decode(errors="ignore")) + 1
        self.mistakes.append(f"line {line}, column {column}: {sentence}")

    def snippet(self, node: ast.expr) -> str:
        text = " ".join((ast.get_source_segment(self.source, node) or "").split())
        return repr(text if len(text) <= 40 else text[:37] + "...")

    def items(self, nodes: list[ast.expr]) -> list[Item]:
        read = [self.item(node) for node in nodes]
        return [item for item in read if item is not None]

    def item(self, node: ast.expr) -> Item | None:
        if isinstance(node, ast.Name):
            return self.layer(node, node, [], [])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self.layer(node, node.func, node.args, node.keywords)
        if isinstance(node, ast.List):
            return self.built(node, lambda: Sequence(tuple(self.items(node.elts))))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self.repeat(node)
        advice = "a sequence is written in square brackets, [...]" if isinstance(node, ast.Tuple) else "it is no layer"
        self.wrong(node, f"{self.snippet(node)} cannot be part of a design: {advice}.")
        return None

    def built(self, node: ast.expr, build: Callable[[], Item]) -> Item | None:
        """The result of ``build``; None if it or something inside it is wrong; the errors are collected."""
        num_before = len(self.mistakes)
        try:
            item = build()
        except DesignError as error:
            if len(self.mistakes) == num_before:
                for sentence in error.message.split("\n  - ")[1:] or [error.message]:
                    self.wrong(node, sentence)
            return None
        return item if len(self.mistakes) == num_before else None

    def repeat(self, node: ast.BinOp) -> Item | None:
        factors: list[ast.expr] = []
        rest: ast.expr = node
        while isinstance(rest, ast.BinOp) and isinstance(rest.op, ast.Mult):
            factors.append(rest.right)
            rest = rest.left
        factors.append(rest)
        counts = [factor for factor in reversed(factors) if self.is_number(factor)]
        others = [factor for factor in factors if not self.is_number(factor)]
        if len(others) != 1 or len(counts) > MAX_DEPTH:
            self.wrong(
                node, f"{self.snippet(node)} is no repeat: write a whole number, * and one item, as in 3 * [conv(64), relu]."
            )
            return None
        item = self.item(others[0])
        for count in reversed(counts):
            if item is not None:
                body, times = item, self.value(count)
                item = self.built(node, lambda body=body, times=times: Repeat(times, body))  # type: ignore[misc]
        return item

    @staticmethod
    def is_number(node: ast.expr) -> bool:
        if isinstance(node, ast.UnaryOp):
            node = node.operand
        return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))

    def layer(self, node: ast.expr, func: ast.Name, args: list[ast.expr], keywords: list[ast.keyword]) -> Item | None:
        word = func.id
        if word in _GROUPS:
            return self.group(node, word, args, keywords)
        if word in LAYERS:
            return self.single(node, word, args, keywords)
        if word in FAMILIES:
            self.wrong(node, f"{word} is a family, a whole network of its own: write it alone.")
        elif word == classes:
            self.wrong(node, "classes is the number of classes and no layer: write linear(classes).")
        else:
            self.wrong(node, self.unknown(word))
        return None

    def unknown(self, word: str) -> str:
        """The message for an unknown layer, with the word that a design has for it or the closest one."""
        depth = _USUAL_NAME.fullmatch(word)
        if depth and depth[1] in FAMILIES:
            return f"unknown layer {word!r}. Did you mean {depth[1]}({depth[2]})?"
        self.has_unknown = True
        guess = usual_word(word, _KNOWN) or closest_name(word, sorted(_KNOWN))
        return f"unknown layer {word!r}." + (f" Did you mean {guess!r}?" if guess else "")

    def group(self, node: ast.expr, word: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Item | None:
        name = None
        num_before = len(self.mistakes)
        for keyword in keywords:
            if keyword.arg == "name":
                name = self.value(keyword.value)
            else:
                self.wrong(keyword, f"{word} takes items and name, not {keyword.arg or '**'}.")
        items = self.items(args)
        if len(self.mistakes) > num_before:
            return None
        return self.built(node, lambda: _GROUPS[word](*items, name=name))

    def single(self, node: ast.expr, word: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Item | None:
        """A single layer, with the names and values of its arguments checked; errors are collected."""
        num_before = len(self.mistakes)
        values = self.arguments(word, args, keywords)
        needed = [field.name for field in dataclasses.fields(LAYERS[word]) if field.default is dataclasses.MISSING]
        if missing := [name for name in needed if name not in values]:
            if len(self.mistakes) == num_before:
                self.wrong(node, f"{word} needs {' and '.join(missing)}, as in {_EXAMPLES[word]}.")
            return None
        if any(value is _MISSING for value in values.values()):
            return None
        if word in ("conv", "transposed") and (sentence := with_in_channels(word, list(values.values())[: len(args)])):
            self.wrong(node, sentence)
            return None
        if word == "linear" and len(args) == 2 and not isinstance(values["bias"], bool):
            wanted = write_value(values["bias"])
            self.wrong(node, f"features that come in are not written: write linear({wanted}).")
            return None
        item = self.built(node, lambda: LAYERS[word](**values))
        return item if len(self.mistakes) == num_before else None

    def arguments(self, word: str, args: list[ast.expr], keywords: list[ast.keyword]) -> dict[str, Any]:
        """The arguments of a layer by name; unknown names are reported as errors and dropped."""
        fields = {argument.name: argument for argument in dataclasses.fields(LAYERS[word])}
        positions = [name for name, argument in fields.items() if name != "name" and not argument.kw_only]
        values: dict[str, Any] = {}
        if len(args) > len(positions):
            few = f"at most {len(positions)}" if positions else "no"
            noun = "argument" if len(positions) == 1 else "arguments"
            self.wrong(args[len(positions)], f"{word} takes {few} {noun} without a name, not {len(args)}.")
        for name, arg in zip(positions, args, strict=False):
            values[name] = self.value(arg)
        for keyword in keywords:
            if keyword.arg == "in_channels" or keyword.arg == "in_features":
                self.wrong(keyword, f"{keyword.arg} is not written: it is inferred from what comes before.")
            elif keyword.arg not in fields:
                self.wrong(keyword, unknown_name(f"argument of {word}", keyword.arg or "**", fields))
            elif keyword.arg in values:
                self.wrong(keyword, f"{word} is given {keyword.arg} twice.")
            else:
                values[keyword.arg] = self.value(keyword.value)
        return values

    def value(self, node: ast.expr) -> Any:
        """A number, a text, True, False, None, ``classes`` or a tuple of numbers."""
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
            return node.value
        if isinstance(node, ast.Name) and node.id == classes:
            return classes
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and self.is_number(node.operand):
            return -self.value(node.operand)
        if isinstance(node, ast.Tuple):
            values = tuple(self.value(element) for element in node.elts)
            return _MISSING if any(value is _MISSING for value in values) else values
        self.wrong(
            node, f"{self.snippet(node)} is not a value: write a number, a tuple of numbers, a text, True, False or classes."
        )
        return _MISSING

    def family(self, node: ast.expr) -> FamilyCall | None:
        """The family if the text is only a family call or its usual name (``resnet18``); else None."""
        func = node.func if isinstance(node, ast.Call) else node
        if not isinstance(func, ast.Name):
            return None
        if func.id not in FAMILIES:
            usual = _USUAL_NAME.fullmatch(func.id)
            is_usual = usual is not None and usual[1] in FAMILIES and not isinstance(node, ast.Call)
            return FamilyCall(usual[1], (int(usual[2]),)) if usual is not None and is_usual else None
        if not isinstance(node, ast.Call):
            return FamilyCall(func.id)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.wrong(keyword, f"{func.id} takes no **.")
        args = tuple(self.value(arg) for arg in node.args)
        return FamilyCall(func.id, args, tuple((keyword.arg or "", self.value(keyword.value)) for keyword in node.keywords))


_EXAMPLES: Final = {
    "conv": "conv(64, 3, padding=1)",
    "groupnorm": "groupnorm(8)",
    "linear": "linear(classes)",
    "se": "se(16)",
    "transposed": "transposed(64, 2, stride=2)",
}
