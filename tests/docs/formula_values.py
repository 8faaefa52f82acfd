"""Evaluates the formulas of ``visus.design.reference``: shapes and costs for any shape, what a layer computes on one axis."""

from __future__ import annotations

import ast
import builtins
import itertools
import math
from typing import Any

import numpy as np

from visus.design.arguments import per_axis
from visus.design.layers.registry import Layer

_ON_AXES = ("kernel_size", "stride", "padding", "dilation", "output_padding", "scale_factor")
_LOOPS = ("n", "c", "o", "q", "s")


def arguments_of(layer: Layer, num_axes: int, axis: int | None) -> dict[str, Any]:
    """The layer's arguments by name: of one axis, or a tuple for all axes if ``axis`` is None."""
    found: dict[str, Any] = {name: value for name, value in vars(layer).items() if name != "name"}
    for name in ("bias", "dilation"):
        found.setdefault(name, getattr(layer, name, None))
    if found.get("stride", 0) is None:
        found["stride"] = found["kernel_size"]
    found["bias"] = int(found["bias"] is not False)
    if isinstance(found.get("kernel_size"), int) and layer.word == "blurpool":
        kernel: Any = found.pop("kernel_size")
        return arguments_of_axes(found, num_axes, axis) | {"kernel_size": kernel}
    return arguments_of_axes(found, num_axes, axis)


def arguments_of_axes(found: dict[str, Any], num_axes: int, axis: int | None) -> dict[str, Any]:
    """The arguments with one number for each axis cut to one axis, or written out for all."""
    for name in _ON_AXES:
        if name in found and not isinstance(found[name], str) and found[name] is not None:
            values = per_axis(name, found[name], num_axes)
            found[name] = values if axis is None else values[axis]
    return found


def output_shape(layer: Layer, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output's shape by the formulas of the reference."""
    rank, reference = len(input_shape) - 1, layer.reference
    names = functions() | arguments_of(layer, rank, None) | {"C_in": input_shape[0], "L_in": input_shape[1:]}
    channels = eval(reference.channels, names)
    if reference.length is None or rank == 0:
        return (int(channels),)
    lengths = [
        eval(reference.length, functions() | arguments_of(layer, rank, axis) | {"L_in": length})
        for axis, length in enumerate(input_shape[1:])
    ]
    return (int(channels), *map(int, lengths))


def cost(formula: str, layer: Layer, input_shape: tuple[int, ...]) -> float:
    """The value of a formula of parameters or multiply-adds."""
    rank = len(input_shape) - 1
    shape = layer.output_shape(input_shape)
    names = {"C_in": input_shape[0], "L_in": input_shape[1:], "C_out": shape[0], "L_out": shape[1:], "rank": rank}
    return float(eval(formula, functions() | arguments_of(layer, rank, None) | names))


def functions() -> dict[str, Any]:
    """The functions that formulas use."""
    return {"prod": math.prod, "floor": math.floor, "ceil": math.ceil, "min": min, "max": max}


class Values:
    """An input that is also defined outside its last axis.

    Args:
        values: the array.
        outside: "zero", "never", "mirrored" or "continued".
    """

    def __init__(self, values: np.ndarray, outside: str = "zero") -> None:
        self.values, self.outside = values, outside

    def __getitem__(self, index: Any) -> Any:
        key = tuple(
            int(each) if isinstance(each, float) else each for each in (index if isinstance(index, tuple) else (index,))
        )
        if len(key) < self.values.ndim or not all(isinstance(each, (int, np.integer)) for each in key):
            return self.values[key]
        *first, place = key
        length = self.values.shape[-1]
        if not 0 <= place < length:
            if self.outside in ("zero", "never"):
                return 0.0 if self.outside == "zero" else -math.inf
            if self.outside == "mirrored":
                place = -place if place < 0 else 2 * (length - 1) - place
            else:
                place = min(max(place, 0), length - 1)
        return self.values[(*first, place)]


class Table(dict[tuple[int, ...], float]):
    """Values by their indices; one index needs no tuple."""

    def __getitem__(self, key: Any) -> float:
        return super().__getitem__(key if isinstance(key, tuple) else (key,))


def evaluate(formula: str, names: dict[str, Any], ranges: dict[str, int]) -> Table:
    """The values of ``y`` for every combination of its indices.

    Args:
        formula: assignments; the last is to ``y``.
        names: ``x``, the weights, the arguments of the layer and further functions.
        ranges: number of values of each index.
    """
    space: dict[str, Any] = functions() | {name: getattr(math, name) for name in ("exp", "sqrt", "erf", "comb")}
    space |= {"range": lambda number: builtins.range(int(number)), "mean": np.mean, "var": np.var} | names
    pending: list[ast.Assign] = []
    table = Table()
    for statement in ast.parse(formula).body:
        assert isinstance(statement, ast.Assign)
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            pending.append(statement)
            continue
        assert isinstance(target, ast.Subscript)
        assert isinstance(target.value, ast.Name)
        table = Table()
        used = [name for name in _LOOPS if name in {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}]
        for indices in itertools.product(*(range(ranges[name]) for name in used)):
            local = space | dict(zip(used, indices, strict=True))
            for line in pending:
                exec(compile(ast.Module([line], []), "formula", "exec"), local)
            key = eval(ast.unparse(target.slice), local)
            table[key if isinstance(key, tuple) else (key,)] = eval(ast.unparse(statement.value), local)
        space[target.value.id] = table
        pending = []
    return table
