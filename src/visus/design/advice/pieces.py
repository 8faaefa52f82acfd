"""A piece of advice: a sentence with its calculation, and changes that were tried."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

from visus.design.arguments import Shape
from visus.design.plan import Design
from visus.tables import Brief


@dataclass(frozen=True)
class Remedy:
    """A change that was tried on the design.

    Args:
        text: the change as a command without a capital or a full stop, with figures of the changed network.
        design: the changed design; None if the advice is about a module, where no change can be tried.
        input_shape: shape of the images that the remedy is about; None if there is no design.
        object_px: size of the objects in them.
        removes: whether the advice no longer applies after it; if it still does, the text says what is left.
    """

    text: str
    design: Design | None = field(default=None, repr=False)
    input_shape: Shape | None = None
    object_px: int | None = None
    removes: bool = True


@dataclass(frozen=True, repr=False)
class Advice(Brief):
    """Something in a network that is wasteful or cannot work as intended, with its calculation and changes that were tried.

    Args:
        kind: a key of ``visus.design.advice.advise.KINDS``.
        path: path of the first layer concerned; empty for the network as a whole.
        sentence: the problem, with the numbers that show it.
        changes: changes that help; their figures were computed on the changed design.
        paths: paths of all rows concerned.

    >>> Advice("pool", "pool1", "There is nothing to pool.")
    Advice(pool: pool1: There is nothing to pool.)
    """

    kind: str
    path: str
    sentence: str
    changes: tuple[Remedy, ...] = ()
    paths: tuple[str, ...] = ()

    def _words(self) -> str:
        return f"{self.kind}: {self.text}"

    def __str__(self) -> str:
        return self.text

    @property
    def remedies(self) -> tuple[str, ...]:
        """The text of each change.

        >>> Advice("pool", "pool1", "There is nothing to pool.", (Remedy("leave it out"),)).remedies
        ('leave it out',)
        """
        return tuple(each.text for each in self.changes)

    @property
    def text(self) -> str:
        """Place, sentence and remedies as one line.

        >>> Advice("pool", "pool1", "There is nothing to pool.", (Remedy("leave it out"), Remedy("use a larger map"))).text
        'pool1: There is nothing to pool. Leave it out; or use a larger map.'
        """
        place = f"{self.path}: " if self.path else ""
        remedies = "; or ".join(self.remedies)
        return f"{place}{self.sentence}" + (f" {remedies[0].upper()}{remedies[1:]}." if remedies else "")

    def is_same_as(self, other: Advice) -> bool:
        """Whether both are of the same kind and about the same layer, whatever the numbers.

        >>> Advice("pool", "pool1", "One pixel.").is_same_as(Advice("pool", "pool1", "Two pixels."))
        True
        """
        return self.kind == other.kind and (self.path == other.path or not set(self.paths).isdisjoint(other.paths))

    def to_json(self) -> dict[str, Any]:
        """The advice as plain data.

        >>> Advice("pool", "pool1", "There is nothing to pool.").to_json()["path"]
        'pool1'
        """
        return {"kind": self.kind, "path": self.path, "sentence": self.sentence, "remedies": list(self.remedies)}


def per_axis_text(numbers: Many[int]) -> str:
    """One number if all axes have the same, else one for each axis.

    >>> per_axis_text((7, 7)), per_axis_text((7, 9))
    ('7', '7 x 9')
    """
    return str(numbers[0]) if len(set(numbers)) == 1 else " x ".join(map(str, numbers))
