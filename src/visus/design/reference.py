"""What the reference documents of a layer beside its docstring: the function that it computes, the formulas of its shape and
costs, and an example.

The formulas are Python. ``tests/docs/test_layers_reference.py`` evaluates each of them and compares it with the layer's own
methods and with PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """The documented facts of one layer.

    Names in the formulas: the arguments of the layer; ``C_in``, ``C_out`` for channels (or features); ``L_in``, ``L_out`` for the
    length of an axis. In ``length``, arguments are those of the axis. In ``parameters`` and ``macs``, ``prod`` multiplies over all
    axes, ``rank`` is the number of axes, and a bias counts 1, its absence 0.

    Args:
        computes: assignments in Python for a map with one axis; the last one is to ``y``. ``x`` is the input. Indices: ``n`` for
            samples, ``c`` and ``i`` for channels, ``o`` for output channels, ``p`` and ``q`` for input and output positions, ``k`` for positions
            in the window. Without an index, the formula holds for each value.
        where: sentences that define the other names in ``computes``.
        channels: number of output channels or features.
        length: length of an output axis; None if the output is features.
        parameters: number of trained values.
        macs: multiply-adds for one sample.
        example: text of a design that contains the layer.
        input_shape: ``(channels, *spatial)`` of the example's input.
        drawn: layers as the text of a design, each with a drawing of its own; empty for the layer in ``example``.
        difference: sentences on how the layer differs from PyTorch's.
        twin: PyTorch code for the example; only for groups of layers. A layer has ``torch_code`` instead.
    """

    computes: str
    where: str = ""
    channels: str = "C_in"
    length: str | None = "L_in"
    parameters: str = "0"
    macs: str = "0"
    example: str = ""
    input_shape: tuple[int, ...] = (16, 8, 8)
    drawn: tuple[str, ...] = ()
    difference: str = ""
    twin: str = ""


def torch_call(name: str, *args: object, **options: tuple[object, object]) -> str:
    """A call of PyTorch as code, without the options that have PyTorch's default.

    Args:
        name: dotted name below ``torch.nn``.
        args: positional arguments.
        options: for each keyword, its value and PyTorch's default.

    >>> torch_call("Conv2d", 3, 32, 3, stride=(1, 1), padding=(1, 0))
    'torch.nn.Conv2d(3, 32, 3, padding=1)'
    """
    written = [_code(value) for value in args]
    written += [f"{keyword}={_code(value)}" for keyword, (value, default) in options.items() if value != default]
    return f"torch.nn.{name}({', '.join(written)})"


def _code(value: object) -> str:
    return repr(value).replace("'", '"')
