"""The dependence of a tensor on the input, stored as an attribute of the tensor while a module is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from torch import Tensor

from visus.networks.trace.coordinates.dependence import Shape, Terms

Axes = tuple[Terms, ...]
"""What a tensor depends on along each axis of the input."""

ANNOTATION: Final = "_visus_annotation"  # the attribute of a tensor that holds its annotation


class Annotation:
    """The dependence of a tensor, and its source if it is a view: a write into a view also changes its source.

    Args:
        axes: its dependence for each axis; None if it does not depend on the input.
        shape: the tensor's shape.
        source: the annotation of the tensor that this one is a view of.
        replay: returns the axes of the view from those of the source.
        part: returns the same view of another tensor.

    ``producers`` has the indices of the rows that the values come from; None if they are those of the source or of the
    input. ``is_nonlinear`` says whether the values are no affine function of the outputs of these rows.
    """

    __slots__ = ("axes", "is_nonlinear", "part", "producers", "replay", "shape", "source", "source_version", "version")

    def __init__(
        self,
        axes: Axes | None,
        shape: Shape,
        source: Annotation | None = None,
        replay: Callable[[Axes], Axes] | None = None,
        part: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.axes, self.shape, self.source, self.replay, self.part = axes, shape, source, replay, part
        self.producers: frozenset[int] | None = None
        self.is_nonlinear = False
        self.version = 0
        self.source_version = 0 if source is None else source.version

    def current(self) -> Axes | None:
        """The present dependence of the tensor, after all writes into its source."""
        if self.source is not None:
            above = self.source.current()
            if self.source.version != self.source_version:
                self.source_version = self.source.version
                self.version += 1
                self.axes = None if above is None or self.replay is None else self.replay(above)
        return self.axes


def annotation_of(value: Any) -> Annotation | None:
    """The annotation of a tensor, if it has one."""
    return value.__dict__.get(ANNOTATION) if isinstance(value, Tensor) else None


def axes_of(value: Any) -> Axes | None:
    """The dependence of a tensor; None for a tensor independent of the input, and for other objects."""
    annotation = annotation_of(value)
    if annotation is None:
        return None
    return annotation.axes if annotation.source is None else annotation.current()


def tensors(args: Any) -> Iterator[Tensor]:
    """All tensors in arguments, including nested lists."""
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def dependent_tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """All tensors among arguments that depend on the input."""
    for value in tensors(args):
        if axes_of(value) is not None:
            yield value
    if kwargs:
        for value in tensors(kwargs.values()):
            if axes_of(value) is not None:
                yield value
