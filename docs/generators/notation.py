"""The section "How a design is written": the notation by example. Tests parse each example and run the Python."""

from __future__ import annotations

from typing import Final

from visus.design.notation import MAX_CHARACTERS, MAX_DEPTH
from visus.design.plan import MAX_LAYERS

EXAMPLE: Final = """
conv(32, 3, padding=1), norm, relu, maxpool(2),
2 * [residual(conv(64, 3, padding=1), norm, relu, conv(64, 3, padding=1), norm), relu],
globalpool, linear(classes)
""".strip()
"""The design that the section begins with."""

NOTATION: Final = {
    "conv(32, 3), relu": "Layers in their order, separated by commas.",
    "norm": "A layer that needs no arguments is written without parentheses.",
    "conv(32, 3, stride=2)": "Arguments by position or by name, as in PyTorch.",
    "conv(32, (3, 5))": "One number for each axis. One number alone holds for all axes.",
    "[conv(32, 3), relu]": "A sequence: its layers are one item.",
    "3 * [conv(32, 3), relu]": "An item three times in sequence, each time with its own weights.",
    "residual(conv(32, 3, padding=1), norm)": "The layers in sequence, plus their input.",
    "concat([conv(32, 1)], [maxpool(3, stride=1, padding=1)], [])": "Branches side by side; the empty branch passes the input on.",
    "linear(classes)": "`classes` stands for the number of classes in the data.",
    'conv(32, 3, name="first")': "A name of your own, in place of `conv1`.",
    'sequence(conv(32, 3), relu, name="stem")': "A sequence with a name. Its layers are `stem.conv1` and `stem.relu1`.",
    "conv(32, 3),  # edges\nrelu": "Line breaks and comments are fine.",
    "resnet(18)": "A family is the whole text. Its usual name, `resnet18`, works too.",
}
"""Each piece of the notation, with its meaning."""

PYTHON: Final = f'''
import visus

design = visus.parse("""
{EXAMPLE}
""")
for node in design.place((3, 32, 32), num_classes=10):
    print(node.path, node.output_shape, node.num_parameters, node.macs)
network = visus.network(design, (3, 32, 32), 10)  # a torch.nn.Module
'''.strip()
"""The same design in Python."""

LAYERS_IN_PYTHON: Final = """
from visus.design import Design, classes, conv, globalpool, linear
from visus.design import maxpool, norm, relu, repeat, residual

stem = [conv(32, 3, padding=1), norm, relu, maxpool(2)]
layers = [conv(64, 3, padding=1), norm, relu, conv(64, 3, padding=1), norm]
blocks = repeat(2, residual(*layers), relu)
design = Design([*stem, blocks, globalpool, linear(classes)])
""".strip()
"""The same design from Python objects."""


def how_a_design_is_written() -> str:
    """The section as Markdown."""
    rows = "\n".join(f"| `{text.replace(chr(10), ' ⏎ ')}` | {meaning} |" for text, meaning in NOTATION.items())
    return f"""## How a design is written

A design is text in Python's syntax. visus parses it and never evaluates it. Names and arguments are PyTorch's.

```python
{EXAMPLE}
```

Three things are never written, because visus infers them:

- the input channels of a layer, from the layer before it;
- the number of features after `flatten` and `globalpool`;
- the number of axes. The same text serves signals (1-D), images (2-D) and volumes (3-D).

| written | means |
| --- | --- |
{rows}

A layer's path is made of the names from the outermost group to the layer, joined by dots. Layers without a name are numbered among their
neighbors: `conv1`, `conv2`. Tables, messages and weight files use these paths.

A `conv` that a `norm` follows directly has no bias, because the norm subtracts it again. `bias=True` adds it.

visus reports all wrong layers and arguments of a text together, each with its line and column. A text has at most {MAX_CHARACTERS:,} characters, {MAX_DEPTH} levels of brackets and
{MAX_LAYERS:,} layers with all repeats written out.

In Python, `visus.parse` reads the text:

```python
{PYTHON}
```

The same names build a design from objects. `design.text` is its text, and `visus.parse(design.text) == design`:

```python
{LAYERS_IN_PYTHON}
```
"""
