"""``visus.solve``: the size equation for any unknown, and ways to a receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from visus.design import Design
from visus.design.wider_fields import Ways, ways_to_see
from visus.errors import UsageError
from visus.geometry import Solution, Solutions, solution_of
from visus.geometry import solve as solve_equation
from visus.workbench.live_line import working
from visus.workbench.summaries import INPUT_SHAPE, NUM_CLASSES, required_design


@overload
def solve(
    *,
    input_size: int | None = None,
    kernel_size: int | None = None,
    padding: int | None = None,
    stride: int | None = None,
    output_size: int | None = None,
    dilation: int = 1,
) -> Solutions | Solution: ...


@overload
def solve(
    network: str | Design | None = None,
    *,
    field: int,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    progress: bool | None = None,
) -> Ways: ...


def solve(
    network: str | Design | None = None,
    *,
    input_size: int | None = None,
    kernel_size: int | None = None,
    padding: int | None = None,
    stride: int | None = None,
    output_size: int | None = None,
    dilation: int = 1,
    field: int | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    progress: bool | None = None,
) -> Solutions | Solution | Ways:
    """Solve ``output_size = (input_size - kernel_size + 2*padding)/stride + 1`` for the missing number, or check all five.

    With ``field`` it finds changes of a design whose last map then has this receptive field.

    Args:
        network: with ``field``: the design to start from; default: six 3 x 3 convolutions at stride 1.
        input_size: length of the axis before padding, in px.
        kernel_size: length of the kernel.
        padding: padding on each side, in px.
        stride: step of the kernel, in px.
        output_size: length of the output.
        dilation: distance between neighboring pixels of the kernel.
        field: wanted receptive field of the last map on every axis, in px.
        input_shape: with ``field``: (channels, *spatial); default: (3, 224, 224).
        num_classes: with ``field``: number of classes; default: 1000.
        progress: False shows nothing on stderr.

    Returns:
        ``Solutions`` if one number is missing: iterate over it, or read ``minimum`` and ``maximum``. ``Solution`` if all
        five are given: ``is_right`` says whether they agree. ``Ways`` with ``field``. Each has ``text()`` and ``to_json()``,
        and is false if there is no solution.

    Raises:
        GeometryError: more than one number is missing, or one is out of its range.
        UsageError: numbers of both questions are given, or the network is not a design.
        DesignError: the design is impossible, or already has this receptive field.

    >>> import visus
    >>> visus.solve(input_size=224, kernel_size=7, stride=2, output_size=112)
    padding (P): 1 solution
      3  (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read
    >>> [found.padding for found in visus.solve(input_size=224, kernel_size=7, stride=2, output_size=112)]
    [3]
    >>> visus.solve(input_size=224, kernel_size=7, padding=3, stride=2, output_size=111).is_right
    False
    >>> [way.kind for way in visus.solve(field=30, input_shape=(3, 64, 64)).found]
    ['more layers', 'larger kernels', 'stride', 'pooling', 'dilation']
    """
    letters = {
        "input_size": input_size,
        "kernel_size": kernel_size,
        "padding": padding,
        "stride": stride,
        "output_size": output_size,
    }
    given = [name for name, value in letters.items() if value is not None] + ([] if dilation == 1 else ["dilation"])
    if field is not None:
        _refuse(given, "field")
        with working("looking for ways", progress):
            return _solve_field(network, field, tuple(input_shape or INPUT_SHAPE), num_classes or NUM_CLASSES)
    of_field = {"network": network, "input_shape": input_shape, "num_classes": num_classes}
    _refuse([name for name, value in of_field.items() if value is not None], "the numbers of a window")
    check = solution_of(dilation=dilation, **letters)
    return solve_equation(dilation=dilation, **letters) if check is None else check


def _solve_field(network: str | Design | None, field: int, input_shape: tuple[int, ...], num_classes: int) -> Ways:
    if field < 1:
        raise UsageError(f"the receptive field must be at least 1 px, not {field}.")
    if network is None:
        return ways_to_see(field, input_shape, num_classes)
    design = required_design("ways to a receptive field", network, input_shape, num_classes)
    return ways_to_see(field, input_shape, num_classes, design)


def _refuse(names: list[str], what: str) -> None:
    """No argument is ever silently ignored: what plays no part is refused."""
    if names:
        raise UsageError(f"{', '.join(names)} cannot be given with {what}. Leave {'it' if len(names) == 1 else 'them'} out.")
