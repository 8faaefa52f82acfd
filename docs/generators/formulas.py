"""Formulas: the Python expressions of ``visus.design.reference`` as functions of a number, and as MathML, which browsers typeset
without a script."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Final

_OPERATORS: Final[dict[type, str]] = {
    ast.Add: "+",
    ast.Sub: "&#8722;",
    ast.Mult: "&#8901;",
    ast.Eq: "=",
    ast.NotEq: "&#8800;",
    ast.Gt: "&gt;",
    ast.GtE: "&#8805;",
    ast.Lt: "&lt;",
    ast.LtE: "&#8804;",
}
_LARGE: Final = {"sum": "&#8721;", "prod": "&#8719;"}
_BRACKETS: Final = {"floor": ("&#8970;", "&#8971;"), "ceil": ("&#8968;", "&#8969;")}
_WEAK: Final = (ast.Add, ast.Sub)
_LEFT: Final = "text-align:left;padding:.1em .4em"


def function_of(formula: str, arguments: Mapping[str, object]) -> Callable[[float], float]:
    """The function of one number that a formula such as ``y = max(0, x)`` describes.

    Args:
        formula: one assignment to ``y``, in terms of ``x`` and the arguments.
        arguments: the values of the other names.

    >>> function_of("y = x if x >= 0 else slope*x", {"slope": 0.5})(-2.0)
    -1.0
    """
    code = compile(formula.partition("=")[2].strip(), "formula", "eval")
    names = {name: getattr(math, name) for name in ("erf", "exp", "sqrt")} | dict(arguments)
    return lambda x: float(eval(code, {"__builtins__": {"max": max, "min": min}}, {**names, "x": x}))


def to_mathml(formula: str) -> str:
    """A formula as MathML, on one line of HTML; the lines of a formula are separated by ``<br>``.

    >>> to_mathml("y = x/2").partition(">")[2].removesuffix("</math>")
    '<mrow><mi>y</mi><mo>=</mo><mfrac><mi>x</mi><mn>2</mn></mfrac></mrow>'
    """
    blocks = []
    for statement in ast.parse(formula).body:
        if isinstance(statement, ast.Assign):
            content = _row(_math(statement.targets[0]), "<mo>=</mo>", _math(statement.value))
        elif isinstance(statement, ast.Expr):
            content = _math(statement.value)
        else:
            raise ValueError(f"no formula: {ast.unparse(statement)}")
        blocks.append(f'<math displaystyle="true" style="font-size:1.2em">{content}</math>')
    return "<br>".join(blocks)


def _math(node: ast.expr, *, flat: bool = False) -> str:
    """One expression. ``flat``: fractions stay on the line, as in an index."""
    match node:
        case ast.Name(id=name):
            return _name(name)
        case ast.Constant(value=str(text)):
            return f"<mtext>&quot;{escape(text)}&quot;</mtext>"
        case ast.Constant(value=int() | float() as number):
            return f"<mn>{number}</mn>"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _row("<mo>&#8722;</mo>", _math(operand, flat=flat))
        case ast.BinOp():
            return _operation(node, flat=flat)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _row(_math(left, flat=flat), f"<mo>{_OPERATORS[type(operator)]}</mo>", _math(right, flat=flat))
        case ast.Subscript(value=value, slice=index):
            indices = index.elts if isinstance(index, ast.Tuple) else [index]
            if all(isinstance(each, (ast.Name, ast.Slice)) for each in indices):
                return f"<msub>{_math(value)}{_row(_list(indices))}</msub>"
            return _row(_math(value), "<mo>[</mo>", _list(indices), "<mo>]</mo>")
        case ast.Slice():
            return "<mo>:</mo>"
        case ast.Call(func=ast.Name(id=name), args=args):
            return _call(name, args, flat=flat)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            rows = [(_math(body), f"<mtext>if&#160;</mtext>{_math(test)}"), (_math(orelse), "<mtext>otherwise</mtext>")]
            cells = "".join(
                f'<mtr><mtd style="{_LEFT}">{_row(value)}</mtd><mtd style="{_LEFT}">{_row(condition)}</mtd></mtr>'
                for value, condition in rows
            )
            return f'<mtable displaystyle="true" style="border-left:1px solid;padding-left:.3em">{cells}</mtable>'
        case _:
            raise ValueError(f"a formula cannot hold {ast.unparse(node)}")


def _operation(node: ast.BinOp, *, flat: bool) -> str:
    if isinstance(node.op, (ast.Div, ast.FloorDiv)):
        flat = flat or isinstance(node.op, ast.FloorDiv)
        over, under = (_math(side, flat=flat) for side in (node.left, node.right))
        if flat:
            over, under = (
                _grouped(side, flat=True, also=(ast.Mult,) * index) for index, side in enumerate((node.left, node.right))
            )
        quotient = _row(over, "<mo>/</mo>", under) if flat else f"<mfrac>{over}{under}</mfrac>"
        return _row("<mo>&#8970;</mo>", quotient, "<mo>&#8971;</mo>") if isinstance(node.op, ast.FloorDiv) else quotient
    if isinstance(node.op, ast.Pow):
        return f"<msup>{_grouped(node.left, flat=flat, also=(ast.Mult, ast.Div))}{_math(node.right, flat=True)}</msup>"
    symbol = f"<mo>{_OPERATORS[type(node.op)]}</mo>"
    if isinstance(node.op, ast.Mult):
        return _row(_grouped(node.left, flat=flat), symbol, _grouped(node.right, flat=flat))
    right = _grouped(node.right, flat=flat) if isinstance(node.op, ast.Sub) else _math(node.right, flat=flat)
    return _row(_math(node.left, flat=flat), symbol, right)


def _grouped(node: ast.expr, *, flat: bool, also: tuple[type, ...] = ()) -> str:
    """The expression, in parentheses where it binds less than its neighbor."""
    text = _math(node, flat=flat)
    weak = isinstance(node, ast.BinOp) and isinstance(node.op, (*_WEAK, *also))
    return _row("<mo>(</mo>", text, "<mo>)</mo>") if weak else text


def _call(name: str, args: list[ast.expr], *, flat: bool) -> str:
    if isinstance(args[0], ast.GeneratorExp):
        return _over_range(name, args[0])
    inner = [_math(arg, flat=flat or name in _BRACKETS) for arg in args]
    if name in _LARGE:
        return _row(f"<mo>{_LARGE[name]}</mo>", inner[0])
    if name in _BRACKETS:
        opening, closing = _BRACKETS[name]
        return _row(f"<mo>{opening}</mo>", inner[0], f"<mo>{closing}</mo>")
    if name == "sqrt":
        return f"<msqrt>{inner[0]}</msqrt>"
    if name == "exp":
        return f"<msup><mi>e</mi>{inner[0]}</msup>"
    if name == "comb":
        return _row("<mo>(</mo>", f'<mfrac linethickness="0">{inner[0]}{inner[1]}</mfrac>', "<mo>)</mo>")
    return _row(_name(name), "<mo>(</mo>", "<mo>,</mo>".join(inner), "<mo>)</mo>")


def _over_range(name: str, generator: ast.GeneratorExp) -> str:
    """A sum, a product, a maximum or a concatenation over indices."""
    conditions = [condition for part in generator.generators for condition in part.ifs]
    symbol = f"<mo>{_LARGE[name]}</mo>" if name in _LARGE else f"<mo>{escape(name)}</mo>"
    body = _math(generator.elt)
    if conditions:
        indices = "<mo>,</mo>".join(_math(part.target) for part in generator.generators)
        under = _row(indices, "<mo>:</mo>", _math(conditions[0], flat=True))
        return _row(f"<munder>{symbol}{under}</munder>", body)
    signs = []
    for part in generator.generators:
        index = _math(part.target)
        if isinstance(part.iter, ast.Call):
            last = ast.BinOp(part.iter.args[0], ast.Sub(), ast.Constant(1))
            signs.append(
                f"<munderover>{symbol}{_row(index, '<mo>=</mo>', '<mn>0</mn>')}{_math(last, flat=True)}</munderover>"
            )
        else:
            signs.append(f"<munder>{symbol}{_row(index, '<mo>&#8712;</mo>', _math(part.iter))}</munder>")
    return _row(*signs, body)


def _list(nodes: list[ast.expr]) -> str:
    return "<mo>,</mo>".join(_math(node, flat=True) for node in nodes)


def _name(name: str) -> str:
    """A name; ``C_in`` and the like have an index, arguments keep their underscores."""
    head, _, tail = name.partition("_")
    if tail and (len(head) == 1 or tail.isdigit()):
        mark = f"<mn>{tail}</mn>" if tail.isdigit() else f"<mtext>{tail}</mtext>"
        return f"<msub><mi>{head}</mi>{mark}</msub>"
    return f"<mi>{escape(name)}</mi>"


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"
