"""The reference of layers, written from the layers themselves: signature, meaning, formulas, costs, drawings and PyTorch code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from visus.design.account import Row
from visus.design.account_walk import account
from visus.design.arguments import write_value
from visus.design.graph import Node
from visus.design.items import Concat, Item, Repeat, Residual, Sequence
from visus.design.layers.registry import LAYERS, Layer
from visus.design.notation import parse
from visus.design.reference import Reference
from visus.design.table import cells, marks_in
from visus.errors import DesignError
from visus.units import write_shape

from .docstring_parts import arguments_of, meaning_of, summary_of
from .drawing import draw_node
from .formulas import to_mathml
from .inline import no_break
from .markdown import table
from .notation import how_a_design_is_written

GROUPS: Final[tuple[type[Item], ...]] = (Sequence, Repeat, Residual, Concat)
_CHAPTERS: Final = {
    "convolution": "Convolutions",
    "transposed": "Convolutions",
    "pooling": "Pools and resizing",
    "norms": "Norms",
    "activations": "Activations",
    "scaling": "Factors and dropout",
    "features": "Features",
    "items": "Groups of layers",
}
"""The chapter of each file of layers."""
_RANKS: Final = {"features": (8,), "signals (1-D)": (8, 16), "images (2-D)": (8, 16, 16), "volumes (3-D)": (8, 16, 16, 16)}
_MAX_LINE: Final = 68  # characters of code that the page shows without scrolling
_HEADINGS: Final = ("path", "layer", "output", "parameters", "multiply-adds", "receptive field")

_READING = """
## How to read this page

- Shapes are `(channels, *spatial)` without the batch axis. A receptive field is written size/stride in input pixels; `all` means that
  every position sees the same pixels.
- *C* is a number of channels (or features), *L* the length of an axis; other names are arguments of the layer. The output length holds for
  each axis, with the arguments of that axis.
- *x* is the input and *y* the output, written for one axis. Indices count from 0: *n* for samples, *c* and *i* for channels, *o* for output
  channels, *p* and *q* for input and output positions, *k* for positions in the window. Without an index, the formula holds for each value.
- A bias counts 1 in the formula of the parameters, and its absence 0. Multiply-adds are for one sample; the additions of a bias, norms and activations are
  not counted.
- The PyTorch code computes the same as the layer in the example, where *x* is a batch of its input.
"""


def pages() -> dict[str, str]:
    """The page by its path below ``docs/``."""
    return {"reference/layers.md": _page()}


def _page() -> str:
    chapters: dict[str, list[type[Item]]] = {}
    for cls in (*LAYERS.values(), *GROUPS):
        module = cls.__module__.rpartition(".")[2]
        chapters.setdefault(_CHAPTERS.get(module, module.capitalize()), []).append(cls)
    lines = [
        "# Layers",
        f"A design is made of {len(LAYERS)} kinds of layers and {len(GROUPS)} kinds of groups. The numbers, formulas and drawings on this page are "
        "computed from the layers, and tests compare them with PyTorch. Whole networks are on the page [families](families.md).",
        how_a_design_is_written(),
        "## All layers",
        _index(chapters),
        _READING.strip(),
    ]
    for title, classes in chapters.items():
        lines += [f"## {title}", *map(_section, classes)]
    return "\n\n".join(lines) + "\n"


def _index(chapters: dict[str, list[type[Item]]]) -> str:
    rows = [(f"[{cls.word}](#{cls.word})", summary_of(cls)) for classes in chapters.values() for cls in classes]
    return table(("layer", "meaning"), rows)


def _section(cls: type[Item]) -> str:
    """Everything about one layer or group."""
    reference = cls.reference
    parts = [f"### {cls.word}", f"```python\n{signature(cls)}\n```", meaning_of(cls), *_drawings(cls)]
    arguments = [
        (no_break(field.name), _default(field), arguments_of(cls)[field.name])
        for field in own_fields(cls)
        if issubclass(cls, Layer)
    ]
    if arguments:
        parts.append(table(("argument", "default", "meaning"), arguments))
    parts += [_formulas(cls), *([reference.where] if reference.where else []), *_example(cls), *_pytorch(cls)]
    return "\n\n".join(parts)


def own_fields(cls: type[Item]) -> list[dataclasses.Field[object]]:
    """The arguments of a layer without its name."""
    return [field for field in dataclasses.fields(cls) if field.name != "name"]


def signature(cls: type[Item]) -> str:
    """How the layer is written, with its defaults.

    >>> from visus.design import relu, upsample
    >>> signature(relu), signature(upsample)
    ('relu', 'upsample(scale_factor=2, mode="nearest")')
    """
    if not issubclass(cls, Layer):
        return {"sequence": "[...]  or  sequence(..., name=None)", "repeat": "times * [...]"}.get(
            cls.word, f"{cls.word}(..., name=None)"
        )
    written = []
    for field in own_fields(cls):
        needed = field.default is dataclasses.MISSING
        written.append(field.name if needed else f"{field.name}={write_value(field.default)}")
    if not written:
        return cls.word
    line = f"{cls.word}({', '.join(written)})"
    return line if len(line) <= _MAX_LINE else f"{cls.word}(\n    {', '.join(written)}\n)"


def _default(field: dataclasses.Field[object]) -> str:
    return "needed" if field.default is dataclasses.MISSING else no_break(write_value(field.default))


def example_node(cls: type[Item]) -> Node:
    """The layer placed in its example."""
    reference = cls.reference
    nodes = parse(reference.example).place(reference.input_shape)
    if cls is Repeat:
        return Node("", parse(reference.example).layers[0], reference.input_shape, nodes[-1].output_shape, (nodes,))
    return next(node for top in nodes for node in top.walk() if type(node.layer) is cls)


def _drawings(cls: type[Item]) -> list[str]:
    """A figure for each drawn layer; wide enough drawings scroll on a narrow screen."""
    figures = []
    for text in cls.reference.drawn or (example_node(cls).layer.text,):
        node = example_node(cls)
        if cls.reference.drawn:
            placed = parse(text).place(node.input_shape)
            node = next(each for top in placed for each in top.walk() if type(each.layer) is cls)
        caption = f"<figcaption><code>{text}</code></figcaption>"
        figures.append(f'<figure style="overflow-x:auto">{draw_node(node)}{caption}</figure>')
    return figures


def _formulas(cls: type[Item]) -> str:
    """The formulas as one HTML table, which holds MathML."""
    reference = cls.reference
    rows = [("computes", to_mathml(reference.computes))]
    if not issubclass(cls, Layer):
        rows.append(("parameters, multiply-adds", "the sum over the layers inside" + _projection_words(cls)))
    else:
        rows += [*_shape_rows(reference), *_cost_rows(reference), ("reads", ", ".join(ranks_of(cls)))]
    body = "".join(f'<tr><th style="white-space:nowrap">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def _shape_rows(reference: Reference) -> list[tuple[str, str]]:
    """The formulas of the output's shape."""
    if (reference.channels, reference.length) == ("C_in", "L_in"):
        return [("output shape", "that of the input")]
    length = "none: the output is features" if reference.length is None else to_mathml(f"L_out = {reference.length}")
    return [("output channels", to_mathml(f"C_out = {reference.channels}")), ("output length", length)]


def _cost_rows(reference: Reference) -> list[tuple[str, str]]:
    """The formulas of parameters and multiply-adds."""
    if (reference.parameters, reference.macs) == ("0", "0"):
        return [("parameters, multiply-adds", "0")]
    return [("parameters", to_mathml(reference.parameters)), ("multiply-adds", to_mathml(reference.macs))]


def _projection_words(cls: type[Item]) -> str:
    return ", and the projection where the shapes differ" if cls is Residual else ""


def ranks_of(cls: type[Item]) -> list[str]:
    """The kinds of input that the layer of the example accepts."""
    found = []
    for words, shape in _RANKS.items():
        try:
            parse(example_node(cls).layer.text).place(shape)
        except DesignError:
            continue
        found.append(words)
    return found


def _example(cls: type[Item]) -> list[str]:
    """The example as text, and its account."""
    reference = cls.reference
    rows = account(parse(reference.example), reference.input_shape).rows
    shape = write_shape(reference.input_shape)
    return [f"Example, for an input of {shape}:", f"```text\n{reference.example}\n```", account_table(rows)]


def account_table(rows: Iterable[Row]) -> str:
    """The rows of an account as a Markdown table, with the totals and the meaning of the marks. A bias is written only where it is absent."""
    rows = list(rows)
    lines = [
        (
            no_break(path),
            f"`{layer.replace(', bias=True', '')}`",
            f'<span style="white-space:nowrap">{output}</span>',
            *figures,
        )
        for path, layer, output, *figures in map(cells, rows)
    ]
    if len(rows) > 1:
        parameters, macs = (sum(getattr(row, name) for row in rows) for name in ("num_parameters", "macs"))
        lines.append(("total", "", "", f"{parameters:,}", f"{macs:,}", ""))
    written = table(
        _HEADINGS,
        [tuple(cell.replace("*", "\\*") if index > 1 else cell for index, cell in enumerate(line)) for line in lines],
    )
    return "\n\n".join([written, *(mark.replace("*", "\\*", 1) for mark in marks_in(rows))])


def _pytorch(cls: type[Item]) -> list[str]:
    """PyTorch's twin as code, and what differs."""
    node = example_node(cls)
    code = node.layer.torch_code(node.input_shape) if isinstance(node.layer, Layer) else cls.reference.twin.strip()
    parts = [f"In PyTorch, for an input of {write_shape(node.input_shape)}:", f"```python\n{code}\n```"]
    if isinstance(node.layer, Layer) and "\n" not in code and len(node.input_shape) == 3:
        others = {
            words: node.layer.torch_code((node.input_shape[0], *lengths))
            for words, lengths in (("For signals", (16,)), ("For volumes", (16, 16, 16)))
        }
        if set(others.values()) != {code}:
            parts.append(" ".join(f"{words}: `{other}`." for words, other in others.items()))
    if cls.reference.difference:
        parts.append(cls.reference.difference)
    return parts
