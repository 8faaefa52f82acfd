"""Which images of a folder are no samples: masks of other images, and second copies of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visus.data.ledger import Ledger
from visus.data.masks import masks_among
from visus.data.same_names import SameNames, compare_same_names
from visus.units import write_number_of

NO_SAMPLE = "left out: an image, but no sample"


@dataclass(frozen=True)
class NoSamples:
    """Images that are no samples of their own.

    Args:
        by_name: masks by their names, each with its image, or with nothing.
        pairs: what images of one name side by side are.
    """

    by_name: dict[str, str]
    pairs: SameNames

    @cached_property
    def masks(self) -> dict[str, str]:
        """All masks, each with its image, or with nothing."""
        return self.by_name | self.pairs.masks

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Why each is left out, in a few words."""
        return dict.fromkeys(self.masks, "a mask of another image") | dict.fromkeys(
            self.pairs.copies, "the same image as one beside it in another format"
        )

    def note_on(self, ledger: Ledger) -> None:
        """Put what is left out on the ledger."""
        for sample, reason in self.reasons.items():
            ledger.note(NO_SAMPLE, sample, reason)

    def warnings(self) -> list[str]:
        """A sentence for each kind."""
        told = self.told_masks()
        if copies := self.pairs.copies:
            copy, image = next(iter(copies.items()))
            told.append(
                f"{write_number_of(len(copies), 'image is', 'images are')} there twice, in two formats under one name, such as {copy} beside {image}. "
                "One of each was left out: a copy in another split would be an answer that is known."
            )
        if others := self.pairs.others:
            image, other = others[0]
            told.append(
                f"{write_number_of(len(others), 'image lies', 'images lie')} beside another of the same name that shows something else, such as {other} beside "
                f"{image}. Both are samples; where one of them is an annotation of the other, move it out of the folder."
            )
        return told

    def told_masks(self) -> list[str]:
        """A sentence about masks by their names, and one about masks by their content."""
        told = []
        for masks, how in ((self.by_name, "by name"), (self.pairs.masks, "by content (a few colors)")):
            if masks:
                mask, image = next(iter(masks.items()))
                is_one = len(masks) == 1
                told.append(
                    f"{write_number_of(len(masks), 'image is a mask', 'images are masks')} of another image {how}, such as {mask} of {image}, and "
                    f"{'was' if is_one else 'were'} left out. Rename {'it' if is_one else 'them'} if {'it is' if is_one else 'they are'} "
                    f"{'a sample' if is_one else 'samples'}."
                )
        return told


def find_no_samples(root: Path, samples: Sequence[str]) -> NoSamples:
    """The images that are no samples.

    Args:
        root: what the samples are relative to.
        samples: paths of images, with ``/``.
    """
    by_name = masks_among(samples)
    return NoSamples(by_name, compare_same_names(root, [sample for sample in samples if sample not in by_name]))
