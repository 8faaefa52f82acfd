"""The positions of a map's cells on the input: each at the center of its theoretical receptive field.

The theoretical field, with the padding continued, is the right one at the borders too: a unit weights its inputs symmetrically about that
center, while the middle of the pixels inside the image drifts inwards with every padded layer. ``MapPlacement.spread`` interpolates between
the centers, for Grad-CAM; ``place_nearest`` shows each cell as a block, for activations. Shape letters: N samples, * spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from visus.design.account import Fields, Row
from visus.errors import GeometryError, UsageError
from visus.examine.layer_calls import FUNCTION, Array, TracedFields
from visus.geometry import Field
from visus.tables import ShortFields
from visus.units import rank_words, write_shape

STRETCHED: Final = 0
"""No field is known: the map is stretched over the input."""
IN_ORDER: Final = 1
"""Each cell reads the whole input and is placed like the cells of an earlier layer."""
EXACT: Final = 2
"""Each cell lies at the center of its own receptive field."""


@dataclass(frozen=True, eq=False, repr=False)
class MapPlacement(ShortFields):
    """The centers of the cells of one layer's map.

    Args:
        centers: for each axis of the input the centers of the cells along it, in pixels; the first pixel is centered at 0.
        order: map axes in the order of the input's axes; None for an axis of the input that the map does not have.
        quality: ``EXACT``, ``IN_ORDER`` or ``STRETCHED``.
        note: a note for the reader; empty for ``EXACT`` cells that are not tokens.
        tokens: for a row of tokens, the token of each cell of the grid, row by row; None for a map with axes of its own.
    """

    centers: tuple[Array, ...]
    order: tuple[int | None, ...]
    quality: int
    note: str = ""
    tokens: Array | None = None

    def as_grid(self, cells: Array) -> Array:
        """Cells (N, *) in the order of the input's axes, one axis for each."""
        if self.tokens is not None:
            return cells[:, self.tokens].reshape(len(cells), *map(len, self.centers))
        kept = [axis for axis in self.order if axis is not None]
        dropped = tuple(axis + 1 for axis in range(cells.ndim - 1) if axis not in kept)
        grid = np.squeeze(cells, dropped) if dropped else cells
        ranks = [sorted(kept).index(axis) + 1 for axis in kept]
        return grid.transpose(0, *ranks).reshape(len(cells), *map(len, self.centers))

    def spread(self, cells: Array, spatial: Sequence[int]) -> Array:
        """Cells (N, *) as maps (N, *) of the input's size: linear between the centers, constant beyond the outermost ones.

        >>> MapPlacement((np.array([1.0, 3.0]),), (0,), EXACT).spread(np.array([[0.0, 4.0]]), (5,)).tolist()
        [[0.0, 0.0, 2.0, 4.0, 4.0]]
        """
        found = self.as_grid(np.asarray(cells, dtype=np.float32))
        for axis, (centers, length) in enumerate(zip(self.centers, spatial, strict=True), start=1):
            found = np.moveaxis(np.tensordot(found, _weights(centers, length), (axis, 1)), -1, axis)
        return np.ascontiguousarray(found, dtype=np.float32)


def _weights(centers: Array, length: int) -> Array:
    """(length, cells): the share of each cell in each pixel. Cells that share a center have equal parts of it."""
    places, cell_of = np.unique(centers, return_inverse=True)
    at = np.interp(np.arange(length), places, np.arange(len(places)))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(places) - 1)
    shares = np.zeros((length, len(places)), dtype=np.float32)
    shares[np.arange(length), low] += 1 - (at - low)
    shares[np.arange(length), high] += at - low
    return shares[:, cell_of] / np.bincount(cell_of)[cell_of].astype(np.float32)


@dataclass(frozen=True, eq=False)
class MapPlacements:
    """The placements of all layers of a module for one input shape; the module is traced at the first request.

    Args:
        traced: receptive fields of the layers.
    """

    traced: TracedFields
    _known: dict[tuple[str, tuple[int, ...]], MapPlacement] = field(default_factory=dict)

    def trace_now(self) -> MapPlacements:
        """Trace the module now, so that it is not traced while hooks are set."""
        _ = self._rows
        return self

    @property
    def spatial(self) -> tuple[int, ...]:
        """Lengths of the input's axes."""
        return self.traced.input_shape[1:]

    @cached_property
    def _rows(self) -> tuple[tuple[Row, ...], str]:
        """The rows of the account; or an empty tuple and the reason."""
        try:
            return self.traced.account.rows, ""
        except (UsageError, GeometryError) as error:
            return (), str(error)

    @cached_property
    def _tokens(self) -> dict[int, tuple[tuple[Array, ...], Array, str]]:
        """By number of tokens: the centers of their grid, the tokens in its order, and the path of the row that makes them."""
        found: dict[int, tuple[tuple[Array, ...], Array, str]] = {}
        for row in self._rows[0]:
            count = row.output_shape[0] if len(row.output_shape) == 2 else 0
            if count > 1 and count not in found and (grid := _grid(row, count)) is not None:
                found[count] = (*grid, row.path)
        return {count: (self._unclipped(centers), *rest) for count, (centers, *rest) in found.items()}  # type: ignore[misc]

    def _unclipped(self, centers: tuple[Array, ...]) -> tuple[Array, ...]:
        """The theoretical centers of the map that the tokens come from, where one has as many cells along each axis."""
        lengths = tuple(map(len, centers))
        for row in self._rows[0]:
            if row.output_shape[1:] == lengths and (own := _own_centers(row.fields, lengths)) is not None:
                return own
        return centers

    def of(self, path: str, spatial: Sequence[int]) -> MapPlacement:
        """The placement of the map of a call of a layer.

        Args:
            path: path of the call.
            spatial: lengths of the map's axes.

        Raises:
            UsageError: the map has more axes than the input, and its receptive field is unknown.
        """
        key = path, tuple(spatial)
        if key not in self._known:
            row_path = path.partition(FUNCTION)[0].replace("_orig_mod.", "")  # as the account names parts that were compiled
            self._known[key] = self._found(row_path, path, tuple(spatial))
        return self._known[key]

    def _found(self, row_path: str, path: str, spatial: tuple[int, ...]) -> MapPlacement:
        rows, why = self._rows
        place = next((place for place, row in enumerate(rows) if row.path == row_path), None)
        fields = rows[place].fields if place is not None else ()
        if len(spatial) == 1 and spatial[0] in self._tokens:
            return self._of_tokens(fields, spatial[0], path)
        is_even = place is not None and not rows[place].is_approximate
        for order in _orders(spatial, fields) if is_even else ():
            lengths = tuple(1 if axis is None else spatial[axis] for axis in order)
            if (centers := _own_centers(fields, lengths)) is not None:
                return MapPlacement(centers, order, EXACT)
        for row in reversed(rows[:place] if place is not None else ()):
            if (
                not row.is_approximate
                and row.output_shape[1:] == spatial
                and (centers := _own_centers(row.fields, spatial)) is not None
            ):
                note = (
                    f"Each cell of '{path}' reads the whole {rank_words(len(self.spatial)).sample}; the cells are placed like those of "
                    f"'{row.path}', the last layer before it whose cells have receptive fields of their own."
                )
                return MapPlacement(centers, tuple(range(len(spatial))), IN_ORDER, note)
        return self._stretched(path, spatial, why)

    def _of_tokens(self, fields: Fields, count: int, path: str) -> MapPlacement:
        centers, tokens, row_path = self._tokens[count]
        rest = count - len(tokens)
        extra = f", {rest} of {count} tokens (such as a class token) dropped" if rest else ""
        note = (
            f"The cells of '{path}' are tokens, laid out as the grid of {write_shape(tuple(map(len, centers)))} patches that "
            f"'{row_path}' reads{extra}."
        )
        keeps = bool(fields) and all(each.stride != 0 for each in fields)
        return MapPlacement(centers, (), EXACT if keeps else IN_ORDER, note, tokens)

    def _stretched(self, path: str, spatial: tuple[int, ...], why: str) -> MapPlacement:
        noun = rank_words(len(self.spatial)).sample
        if len(spatial) != len(self.spatial):
            raise UsageError(
                f"a {len(spatial)}-D map does not fit a {len(self.spatial)}-D input. Choose a layer whose map has {len(self.spatial)} axes."
            )
        centers = tuple(
            (np.arange(count) + 0.5) * length / count - 0.5 for count, length in zip(spatial, self.spatial, strict=True)
        )
        because = (
            f"the receptive fields could not be computed ({why.rstrip('.')})" if why else "its receptive field is not known"
        )
        note = f"The map of '{path}' is stretched over the {noun}, because {because}: its positions are not exact."
        return MapPlacement(centers, tuple(range(len(spatial))), STRETCHED, note)


def _orders(spatial: tuple[int, ...], fields: Fields) -> Iterator[tuple[int | None, ...]]:
    """Orders in which the axes of a map can be those of the input, their own order first."""
    axes: list[int | None] = list(range(len(spatial)))
    if len(spatial) >= len(fields) and any(length == 1 for length in spatial):
        axes += [None] * len(fields)
    elif len(spatial) < len(fields):
        axes += [None] * (len(fields) - len(spatial))
    must = {axis for axis, length in enumerate(spatial) if length > 1}
    for order in dict.fromkeys(itertools.permutations(axes, len(fields))):
        if must <= set(order):
            yield order


def _own_centers(fields: Fields, lengths: Sequence[int]) -> tuple[Array, ...] | None:
    """The centers of the theoretical fields of all positions; None if the positions along an axis have no fields of their own."""
    if not fields or len(fields) != len(lengths):
        return None
    found = [_centers(each, length) for each, length in zip(fields, lengths, strict=True)]
    return None if any(each is None for each in found) else tuple(each for each in found if each is not None)


def _centers(field: Field, length: int) -> Array | None:
    if field.intervals is None or len(field.intervals) not in (1, length) or not field.is_exact:
        return None
    if length > 1 and (field.stride == 0 or (len(field.intervals) == 1 and not field.is_whole)):
        return None
    ends = [field.theoretical(index) for index in range(length)]
    known = [each for each in ends if each is not None]
    if len(known) < length:
        return None
    if field.phases is None:
        return _regular_centers(field, length)
    return np.array([(first + last) / 2 for first, last in known])


def _regular_centers(field: Field, length: int) -> Array:
    """Evenly spaced centers, from the field's start, size and stride."""
    centers: Array = float(field.center) + float(field.stride) * np.arange(length)
    return centers


def place_nearest(cells: Array, fields: Fields, spatial: Sequence[int]) -> Array:
    """A map, (*), of the size of the input: each cell fills ``stride`` pixels around the center of its field; other pixels are 0.

    Along an axis where every cell reads the whole input, the cells are stretched over it.

    Args:
        cells: the map.
        fields: the receptive field of its layer on each axis.
        spatial: lengths of the input's axes.

    >>> place_nearest(np.array([5.0, 7.0]), (Field(size=3, stride=2, start=0),), (6,)).tolist()
    [5.0, 5.0, 7.0, 7.0, 0.0, 0.0]
    """
    placed = np.asarray(cells, dtype=np.float64)
    for axis, (each, length) in enumerate(zip(fields, spatial, strict=True)):
        count, stride = placed.shape[axis], float(each.stride)
        pixels = np.arange(length)
        if stride == 0:
            nearest, is_known = pixels * count // length, np.ones(length, dtype=bool)
        else:
            nearest = np.floor((pixels - _regular_centers(each, count)[0]) / stride + 0.5).astype(int)
            is_known = (nearest >= 0) & (nearest < count)
        placed = np.take(placed, np.clip(nearest, 0, count - 1), axis=axis)
        placed = placed * is_known.reshape([-1 if index == axis else 1 for index in range(placed.ndim)])
    return placed


def _grid(row: Row, count: int) -> tuple[tuple[Array, ...], Array] | None:
    """The centers of a grid of tokens and the tokens in its order; None if the first axis of the output is no row of tokens."""
    fields = row.fields
    if not fields or any(each.intervals is None or len(each.intervals) != count or each.stride == 0 for each in fields):
        return None
    boxes = [[each.intervals.at(token) for each in fields] for token in range(count)]  # type: ignore[union-attr]
    tokens = np.array([token for token, box in enumerate(boxes) if all(ends is not None for ends in box)])
    if (len(fields) == 1 and len(tokens) == count) or not len(tokens):
        return None  # all positions of one axis: a map with an axis of its own
    middles = np.array([[(ends[0] + ends[1]) / 2 for ends in boxes[token] if ends is not None] for token in tokens])
    centers = tuple(np.unique(middles[:, axis]) for axis in range(len(fields)))
    if math.prod(map(len, centers)) != len(tokens) or len(tokens) < 2:
        return None
    places = np.lexsort(middles.T[::-1])
    if len(np.unique(middles, axis=0)) != len(tokens):
        return None
    return centers, tokens[places]
