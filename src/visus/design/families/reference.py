"""What the reference documents of a family beside its docstring: its papers and its usual sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from visus.design.arguments import Shape
from visus.design.plan import Design

Family = TypeVar("Family", bound=Callable[..., Design])


@dataclass(frozen=True)
class Paper:
    """A publication.

    Args:
        authors: last names, with initials.
        year: of the publication.
        title: as published.
        where: journal, or an identifier such as ``arXiv:1512.03385``.
    """

    authors: str
    year: int
    title: str
    where: str


@dataclass(frozen=True)
class Size:
    """A usual size of a family.

    Args:
        text: the network as it is written, such as ``resnet(18)``.
        input_shape: ``(channels, *spatial)`` that it is made for.
        num_classes: number of classes of its usual task.
        published: published number of parameters; None if there is none.
        known_as: name under which this number is published.
        num_samples: number of training samples, for families that depend on it; None if unknown.
    """

    text: str
    input_shape: Shape = (3, 224, 224)
    num_classes: int = 1000
    published: int | None = None
    known_as: str = ""
    num_samples: int | None = None


@dataclass(frozen=True)
class FamilyReference:
    """The documented facts of a family.

    Args:
        papers: where it was published, the main publication first.
        sizes: its usual sizes, the most usual first; its shapes are drawn.
    """

    papers: tuple[Paper, ...]
    sizes: tuple[Size, ...]


REFERENCES: Final[dict[str, FamilyReference]] = {}
"""The documented facts of each family by its name."""


def documented(*papers: Paper, sizes: tuple[Size, ...]) -> Callable[[Family], Family]:
    """A decorator that adds the facts of a family to ``REFERENCES``."""

    def add(family: Family) -> Family:
        REFERENCES[family.__name__] = FamilyReference(papers, sizes)
        return family

    return add
