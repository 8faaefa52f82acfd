"""Images that are excluded from the samples: masks of other images, and second copies of an image in another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visus.data.ledger import Ledger
from visus.data.masks import masks_among
from visus.data.same_names import SameNames, compare_same_names
from visus.units import write_number_of

EXCLUDED_IMAGE = "left out: an image, but no sample"


@dataclass(frozen=True)
class ExcludedImages:
    """Images that are excluded from the samples.

    Args:
        by_name: mask recognized by its name -> its image, or "".
        pairs: images with matching names, by their content.
    """

    by_name: dict[str, str]
    pairs: SameNames

    @cached_property
    def masks(self) -> dict[str, str]:
        """Mask -> its image, or ""; by name and by content."""
        return self.by_name | self.pairs.masks

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Excluded image -> reason."""
        return dict.fromkeys(self.masks, "a mask of another image") | dict.fromkeys(
            self.pairs.copies, "a second copy of an image in another format"
        )

    def note_on(self, ledger: Ledger) -> None:
        """Note the excluded images on a ledger."""
        for sample, reason in self.reasons.items():
            ledger.note(EXCLUDED_IMAGE, sample, reason)

    def warnings(self) -> list[str]:
        """Warnings about masks, copies, and different images with the same name."""
        warnings = self.mask_warnings()
        if copies := self.pairs.copies:
            copy, image = next(iter(copies.items()))
            warnings.append(
                f"{write_number_of(len(copies), 'image exists', 'images exist')} in two formats with the same name, such as {copy} and {image}. "
                "One of each was left out, since a copy in another split would make the score too high."
            )
        if others := self.pairs.others:
            image, other = others[0]
            warnings.append(
                f"{write_number_of(len(others), 'image has', 'images have')} the same name as a different image in the same folder, such as {other} and "
                f"{image}. Both are samples. If one of them is an annotation of the other, move it out of the folder."
            )
        return warnings

    def mask_warnings(self) -> list[str]:
        """Warnings about masks recognized by name, and about masks recognized by content."""
        warnings = []
        for masks, how in ((self.by_name, "by name"), (self.pairs.masks, "by content (a few colors)")):
            if masks:
                mask, image = next(iter(masks.items()))
                is_one = len(masks) == 1
                warnings.append(
                    f"{write_number_of(len(masks), 'image is a mask', 'images are masks')} of another image {how}, such as {mask} of {image}, and "
                    f"{'was' if is_one else 'were'} left out. Rename {'it' if is_one else 'them'} if {'it is' if is_one else 'they are'} "
                    f"{'a sample' if is_one else 'samples'}."
                )
        return warnings


def find_excluded_images(root: Path, samples: Sequence[str]) -> ExcludedImages:
    """Find the images that are masks or second copies of other images.

    Args:
        root: folder of the samples.
        samples: paths of images relative to ``root``, with ``/``.
    """
    by_name = masks_among(samples)
    return ExcludedImages(by_name, compare_same_names(root, [sample for sample in samples if sample not in by_name]))
