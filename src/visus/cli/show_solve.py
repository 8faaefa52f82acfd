"""Prints the results of ``visus solve``: solutions, a check, or ways to reach a receptive field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from visus.cli.show import console, table_of
from visus.units import write_bytes, write_count, write_shape

if TYPE_CHECKING:
    from visus.design.wider_fields import Ways
    from visus.geometry import Solution, Solutions

MAX_LINES: Final = 10
"""Maximum number of solutions to print one per line; of more, only the first and the last."""


def show_solutions(found: Solutions) -> None:
    """Print a line for each solution with its calculation, or the reason if there is none."""
    for line in _lines(found):
        console().print(line, soft_wrap=True)


def solutions_json(found: Solutions) -> dict[str, Any]:
    """The solutions as plain data: minimum, maximum and a list of the first ones."""
    first = [] if not found else _first(found)
    return {
        "missing": found.missing,
        "least": found.minimum if found else None,
        "most": found.maximum if found else None,
        "num_solutions": None if found.maximum is None else len(found),
        "solutions": [_facts(each) for each in first],
        "nearest": [_facts(each) for each in found.nearest],
    }


def show_check(given: Solution) -> None:
    """Print whether five numbers satisfy the formula, with the calculation."""
    right = given.gives == given.output_size
    console().print(f"{sum_text(given)}: {'right' if right else f'not {given.output_size}'}", soft_wrap=True)


def check_json(given: Solution) -> dict[str, Any]:
    """The check as plain data; ``gives`` is None if the kernel does not fit."""
    return {
        "is_right": given.gives == given.output_size,
        "gives": given.gives if given.gives >= 1 else None,
        **_facts(given),
    }


def sum_text(each: Solution) -> str:
    """The calculation with its numbers, the remainder, and the span of a dilated kernel.

    >>> from visus.geometry import Solution
    >>> sum_text(Solution(224, 3, 1, 2, 111, dilation=2))
    '(224 - 5 + 2*1)/2 + 1 = 111; 1 px of the padded far edge left over; K_eff = 2*(3 - 1) + 1 = 5'
    >>> sum_text(Solution(2, 5, 0, 1, 1))
    '(2 - 5 + 2*0)/1 + 1 = -2, so the kernel does not fit'
    """
    text = f"({each.input_size} - {each.span} + 2*{each.padding})/{each.stride} + 1 = {each.gives}"
    if each.gives < 1:
        text += ", so the kernel does not fit"
    elif each.unread_border:
        text += f"; {each.unread_border} px of the padded far edge left over"
    if each.gives >= 1 and each.reads_padding_alone:
        text += "; the first window reads padding alone, which a convolution accepts and a pool rejects"
    return text + (f"; K_eff = {each.dilation}*({each.kernel_size} - 1) + 1 = {each.span}" if each.dilation > 1 else "")


def show_ways(ways: Ways, field_px: int) -> None:
    """Print a line for each way to reach a receptive field, its cost and that of the present design, and the reason why
    other ways fail."""
    out = console()
    table = table_of("way", "change", "field", "parameters", "macs", "activations", "last map", right=(3, 4, 5))
    for way in (ways.now, *ways.found):
        sees = write_shape(way.field_px) + (" with gaps" if way.has_gaps else "")
        numbers = (f"{way.account.num_parameters:,}", write_count(way.account.macs), write_bytes(way.activation_bytes))
        table.add_row(way.kind, Text(way.change), sees, *numbers, write_shape(way.final_map))
    out.print(table)
    out.print(f"wanted: {field_px} px on every axis; activations: outputs of all layers for one sample, 4 bytes per value")
    for way in ways.found:
        ratio = way.activation_bytes / ways.now.activation_bytes
        if way.kind in ("stride", "pooling") and ratio < 1:
            out.print(
                f"{way.kind}: {way.field_px[0]} px instead of {ways.now.field_px[0]} in {ratio:.2g} times the memory of the design as it is"
            )
    for each in ways.missing:
        out.print(f"{each.kind}: no way: {each.reason}.", soft_wrap=True)


def _lines(found: Solutions) -> list[str]:
    if not found:
        return [_no_solution(found)]
    letter = _letter(found.missing)
    if found.maximum is None:
        return [f"{letter} = any from {found.minimum} on: {sum_text(found.at(found.minimum))}"]
    lines = [f"{letter} = {getattr(each, found.missing)}: {sum_text(each)}" for each in _first(found)]
    if len(found) <= MAX_LINES:
        return lines
    last = f"{letter} = {found.maximum}: {sum_text(found.at(found.maximum))}"
    return [
        f"{letter} = any from {found.minimum} to {found.maximum}, {len(found):,} whole numbers; the first and the last:",
        lines[0],
        last,
    ]


def _no_solution(found: Solutions) -> str:
    """Why there is no solution, with the sum, or with the nearest that there are."""
    wanted = _letter(found.missing)
    if found.missing == "output_size":
        return f"nothing comes out: {sum_text(found.known)}."
    if not found.nearest:
        one = found.at(1)
        return f"no whole number for {wanted} gives output_size (O) = {one.output_size}, whatever it is: {sum_text(one)}."
    sums = "; or ".join(
        f"{each.output_size} with {_letter(found.missing)} = {getattr(each, found.missing)}, {sum_text(each)}"
        for each in found.nearest
    )
    return f"no whole number for {wanted} gives output_size (O) = {found.known.output_size}. The nearest: {sums}."


def _letter(name: str) -> str:
    from visus.geometry import LETTERS

    return f"{name} ({LETTERS[name]})"


def _first(found: Solutions) -> list[Solution]:
    """The first solutions, as many as are written one by one."""
    from itertools import islice

    return list(islice(found, MAX_LINES))


def _facts(each: Solution) -> dict[str, Any]:
    names = (
        "input_size",
        "kernel_size",
        "padding",
        "stride",
        "output_size",
        "dilation",
        "unread_border",
        "reads_padding_alone",
    )
    return {**{name: getattr(each, name) for name in names}, "kernel_span": each.span}
