"""What a tensor depends on along one axis: one class in two forms that agree, and taps that are those of geometry."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from visus.geometry import TransposedWindow, Upsampling, Window
from visus.networks import trace
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.dependence import Dependence
from visus.networks.trace.coordinates.fields import fields_of
from visus.networks.trace.coordinates.mixing import accumulated, reduced, with_global_context
from visus.networks.trace.coordinates.positions_read import along
from visus.networks.trace.coordinates.reshaping import permuted, squeezed, unsqueezed

LENGTH, SHAPE = 12, (1, 3, 12, 5)
WINDOWS = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


def dependence(windows: list[tuple[int, int, int, int]]) -> tuple[Dependence, tuple[int, ...]]:
    """The height of a map after windows, and the map's shape."""
    dep, length = Dependence.of_input(LENGTH, 2, 4), LENGTH
    for kernel_size, stride, before, dilation in windows:
        after = (length + 2 * before - dilation * (kernel_size - 1) - 1) // stride + 1
        if after < 1:
            continue
        taps = taps_of.window(length, after, kernel_size, stride, before, dilation)
        (dep,), length = along((dep,), (1, 3, length, 5), 2, taps), after
    return dep, (1, 3, length, 5)


def field(terms: tuple[Dependence, ...], shape: tuple[int, ...]) -> tuple[object, ...]:
    (found,) = fields_of((terms,), shape)
    assert found.intervals is not None
    return found, found.intervals.pairs()


@given(st.lists(WINDOWS, min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1))
def test_rules_give_the_same_field_for_both_forms(
    windows: list[tuple[int, int, int, int]], kernel_size: int, stride: int, before: int
) -> None:
    dep, shape = dependence(windows)
    arrays = dep.with_arrays(shape)
    assert dep.is_compact
    assert not arrays.is_compact
    length = (shape[2] + 2 * before - kernel_size) // stride + 1
    rules = [
        (lambda terms: reduced(terms, shape, (2,), True), (1, 3, 1, 5)),
        (lambda terms: reduced(terms, shape, (1,), False), (1, shape[2], 5)),
        (lambda terms: with_global_context(terms, shape, (2, 3)), shape),
        (lambda terms: accumulated(terms, shape, 2), shape),
        (lambda terms: permuted(terms, (0, 3, 2, 1)), (1, 5, shape[2], 3)),
        (lambda terms: unsqueezed(terms, 1), (1, 1, *shape[1:])),
    ]
    if length >= 1:
        taps = taps_of.window(shape[2], length, kernel_size, stride, before, 1)
        rules.append((lambda terms: along(terms, shape, 2, taps), (1, 3, length, 5)))
    for rule, after in rules:
        assert field(rule((dep,)), after) == field(rule((arrays,)), after)
    assert field((arrays.simplified(shape),), shape) == field((dep,), shape)


def test_a_dependence_that_is_moved_and_comes_back_is_the_same_object() -> None:
    dep, shape = dependence([(3, 1, 1, 1)])
    there = permuted(unsqueezed((dep,), 1), (0, 2, 4, 3, 1))
    back = squeezed(permuted(there, (0, 4, 1, 3, 2)), (shape[0], 1, *shape[1:]), (1,))
    assert back[0] is dep


@given(st.integers(1, 20), WINDOWS)
def test_taps_are_those_of_geometry(old_length: int, window: tuple[int, int, int, int]) -> None:
    kernel_size, stride, before, dilation = window
    cases: list[tuple[Window | TransposedWindow | Upsampling, taps_of.Taps]] = []
    sliding = Window(kernel_size, stride, (before, 0), dilation)
    if sliding.fits(old_length):
        length = sliding.output_size(old_length)
        cases.append((sliding, taps_of.window(old_length, length, kernel_size, stride, before, dilation)))
    transposed = TransposedWindow(kernel_size, stride, before, 0, dilation)
    if transposed.fits(old_length):
        length = transposed.output_size(old_length)
        cases.append((transposed, taps_of.transposed(old_length, length, kernel_size, stride, before, dilation)))
    enlarged = Upsampling(stride + 1, "linear")
    cases.append((enlarged, taps_of.resized(old_length, old_length * (stride + 1), "linear", False, None)))
    for axis_op, taps in cases:
        assert taps.axis_op == axis_op
        for position, row in enumerate(taps.table.tolist()):
            inside = axis_op.taps_inside if isinstance(axis_op, Upsampling) else lambda place, _, op=axis_op: op.taps(place)
            read = {tap for tap in inside(position, old_length) if 0 <= tap < old_length}
            assert set(row) - {old_length} == read


def test_only_coordinates_know_the_two_forms() -> None:
    root = Path(trace.__file__).parent
    texts = {path: path.read_text() for path in root.rglob("*.py") if "coordinates" not in path.parts}
    found = [
        path.name for path, text in texts.items() if re.search(r"is_compact|with_arrays|\.theoretical\b|\.merged\b", text)
    ]
    assert len(texts) > 10
    assert found == []
