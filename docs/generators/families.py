"""The reference of families, written from the registry: papers, arguments, designs, usual sizes with their costs, drawings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Final

from visus.design.account import Account
from visus.design.account_walk import account
from visus.design.arguments import write_value
from visus.design.families.reference import REFERENCES, Paper, Size
from visus.design.families.registry import FAMILIES
from visus.design.notation import FACTS
from visus.design.plan import Design
from visus.design.resolve import resolve_network
from visus.design.table import write_fields
from visus.errors import DesignError
from visus.units import write_count, write_number_of, write_shape

from .docstring_parts import arguments_of, meaning_of, summary_of
from .drawing import draw_stages
from .inline import link_papers, no_break
from .markdown import table

_FROM_DATA: Final = "from the data"
_RANKS: Final = ("features", "signals (1-D)", "images (2-D)", "volumes (3-D)")

_INTRODUCTION = """
A family is a function that returns a design. It is the whole text of a network: `resnet(18)`, or by its usual name `resnet18`. visus computes the
figures on this page, and tests compare the numbers of parameters with the published ones.

- The number of classes, the input channels and the number of axes follow from the data.
- `visus train` takes [`compact`](#compact) if no network is named. With `--time-limit` and no network named, it takes the widest `compact` that fits, by the
  time of a training step on this machine; it prints the choice and the reason. `-m compact` turns that off.
- The receptive field is that of the last map, as size/stride in input pixels.
- A design is text, so a family is a start: print it, change it, and pass the text as the network. [How a design is written](layers.md#how-a-design-is-written)
  explains the notation.

```python
import visus
from visus.design import resnet

print(resnet(18).text)
costs = visus.summary("resnet(18)", (3, 224, 224), num_classes=1000)
print(costs.num_parameters, costs.macs)
```
"""


def pages() -> dict[str, str]:
    """The page by its path below ``docs/``."""
    lines = ["# Families", _INTRODUCTION.strip(), "## All families", _index()]
    lines += [_section(name, family) for name, family in FAMILIES.items()]
    return {"reference/families.md": "\n\n".join(lines) + "\n"}


def _index() -> str:
    rows = []
    for name, family in FAMILIES.items():
        size = REFERENCES[name].sizes[0]
        costs = account_of(size)
        figures = (f"`{size.text}`", write_count(costs.num_parameters), write_count(costs.macs))
        rows.append((f"[{name}](#{name})", summary_of(family), *figures))
    return table(("family", "what it is", "usual size", "parameters", "multiply-adds"), rows)


def _section(name: str, family: Callable[..., Design]) -> str:
    """Everything about one family."""
    reference = REFERENCES[name]
    usual = reference.sizes[0]
    design = design_of(usual)
    nodes = design.place(usual.input_shape, usual.num_classes)
    drawing = draw_stages(usual.text, nodes, usual.input_shape)
    parts = [f"## {name}", f"```python\n{signature(family)}\n```", meaning_of(family)]
    parts.append("\n".join(f"- {write_paper(paper)}" for paper in reference.papers))
    parts.append(f'<figure style="overflow-x:auto">{drawing}<figcaption>{_caption(usual)}</figcaption></figure>')
    if arguments := _arguments(family):
        parts.append(table(("argument", "default", "meaning"), arguments))
    parts += [f"Reads: {', '.join(ranks_of(usual))}.", *_sizes(reference.sizes), _folded(usual, design)]
    return "\n\n".join(parts)


def signature(family: Callable[..., Design]) -> str:
    """How the family is written, with its defaults; without what follows from the data.

    >>> signature(FAMILIES["resnet"]), signature(FAMILIES["mlp"])
    ('resnet(depth=18)', 'mlp(*widths, dropout=0.0)')
    """
    written = []
    for parameter in inspect.signature(family).parameters.values():
        if parameter.name in FACTS:
            continue
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else f"={write_value(parameter.default)}"
        written.append(f"{star}{parameter.name}{default}")
    return f"{family.__name__}({', '.join(written)})" if written else family.__name__


def _arguments(family: Callable[..., Design]) -> list[tuple[str, ...]]:
    """A row for each argument."""
    meanings = arguments_of(family)
    rows: list[tuple[str, ...]] = []
    for parameter in inspect.signature(family).parameters.values():
        default = "none" if parameter.kind is parameter.VAR_POSITIONAL else ""
        if parameter.name in FACTS:
            default = _FROM_DATA
        elif parameter.default is not parameter.empty:
            default = no_break(write_value(parameter.default))
        rows.append((no_break(parameter.name), default, meanings[parameter.name]))
    return rows


def write_paper(paper: Paper) -> str:
    """A publication in one line.

    >>> write_paper(Paper("A. Author", 2020, "A title", "Journal 1"))
    'A. Author (2020), *A title*, Journal 1.'
    """
    return f"{paper.authors} ({paper.year}), *{paper.title}*, {link_papers(paper.where)}."


def design_of(size: Size) -> Design:
    """The design of a usual size."""
    facts = {"num_classes": size.num_classes, "num_samples": size.num_samples}
    return resolve_network(size.text, input_shape=size.input_shape, **facts)


def account_of(size: Size) -> Account:
    """The account of a usual size for its usual input."""
    return account(design_of(size), size.input_shape, size.num_classes)


def last_field(costs: Account) -> str:
    """The receptive field of the last map; "no map" where there is none."""
    num_axes = len(costs.input_shape)
    maps = [row for row in costs.rows if len(row.output_shape) == num_axes]
    return write_fields(maps[-1]) if maps else "no map"


def _sizes(sizes: tuple[Size, ...]) -> list[str]:
    """The table of usual sizes. Published numbers are shown where there are some."""
    headings = ["design", "input", "parameters", "multiply-adds", "receptive field"]
    has_published = any(size.published is not None for size in sizes)
    rows = []
    for size in sizes:
        costs = account_of(size)
        conditions = [write_shape(size.input_shape)]
        if size.num_classes != sizes[0].num_classes:
            conditions.append(f"{size.num_classes:,} classes")
        if size.num_samples is not None:
            conditions.append(write_number_of(size.num_samples, "sample"))
        cells = [no_break(size.text), ", ".join(conditions), f"{costs.num_parameters:,}", write_count(costs.macs)]
        cells.append(last_field(costs).replace("*", "\\*"))
        if has_published:
            cells.append("" if size.published is None else f"{size.published:,}")
        rows.append(tuple(cells))
    words = f"Usual sizes, for {sizes[0].num_classes:,} classes where nothing else is said:"
    return [words, table((*headings, *(["published parameters"] if has_published else [])), rows)]


def ranks_of(size: Size) -> list[str]:
    """The kinds of input that a network accepts, each with axes as long as those of its usual input."""
    channels, length = size.input_shape[0], max(size.input_shape[1:])
    found = []
    for rank, words in enumerate(_RANKS):
        shape = (channels, *(length,) * rank) if rank else (length,)
        try:
            design_of(replace(size, input_shape=shape)).place(shape, size.num_classes)
        except DesignError:
            continue
        found.append(words)
    return found


def _caption(size: Size) -> str:
    return (
        f"<code>{escape(size.text)}</code>: the shape after each part for an input of {write_shape(size.input_shape)}. Bars are taller where the map is "
        "larger and wider where it has more channels."
    )


def _folded(size: Size, design: Design) -> str:
    """The text that a family expands to, folded. HTML, so that it needs no extension of Markdown."""
    words = f"The design that <code>{escape(size.text)}</code> expands to"
    return f"<details><summary>{words}</summary><pre><code>{escape(design.text)}</code></pre></details>"
